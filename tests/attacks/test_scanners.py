"""sipvicious, what most attackers of SIP run: it finds an agent, and learns nothing else."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.calls.agent_process import AgentProcess
from tests.calls.conftest import StartAgent
from tests.calls.sipp import Sipp
from tests.ports import free_port

pytestmark = [pytest.mark.sipvicious, pytest.mark.sipp]

USERS = {"cekura": "right-password", "1001": "another-password"}
WORDS = ("1000", "1001", "1002", "admin", "cekura", "alice", "guess", "123456", "right", "password")


@pytest.fixture
def guarded(start_agent: StartAgent) -> AgentProcess:
    """Run an agent that is worth attacking."""
    return start_agent(auth={"users": USERS})


def attack(agent: AgentProcess, folder: Path, tool: str, *options: str, words: Sequence[str] = WORDS) -> str:
    """Run a tool of sipvicious against the agent, and return all it says."""
    folder.mkdir(exist_ok=True)
    dictionary = folder / "words"
    dictionary.write_text("\n".join(words), encoding="ascii")
    program = Path(sys.executable).with_name(f"sipvicious_{tool}")
    assert program.is_file(), "sipvicious is not installed: pip install sipvicious"
    command = [str(program), "-p", str(agent.udp_port), "-b", "127.0.0.1", "-x", "127.0.0.1"]
    port = str(free_port(socket.SOCK_DGRAM))
    run = subprocess.run(
        [*command, "-P", port, *(str(dictionary) if option == "WORDS" else option for option in options), "127.0.0.1"],
        check=False,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        # It keeps its findings in the home folder.
        env={**os.environ, "HOME": str(folder)},
    )
    return run.stdout + run.stderr


def assert_serves(agent: AgentProcess, sipp: Sipp) -> None:
    """Fail unless a caller who knows a password is served."""
    run = sipp("digest", agent, "-au", "cekura", "-ap", "right-password")
    assert run.exit_status == 0, run.output
    assert agent.record(run.call_id)["auth_user"] == "cekura"


def test_svmap(guarded: AgentProcess, sipp: Sipp, tmp_path: Path) -> None:
    """A scanner finds out that there is an agent, and goes on."""
    found = attack(guarded, tmp_path, "svmap")
    assert f"127.0.0.1:{guarded.udp_port}" in found
    assert "cekura" not in found
    assert_serves(guarded, sipp)


@pytest.mark.parametrize("method", ["REGISTER", "OPTIONS", "INVITE"])
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "forced"])
def test_svwar(guarded: AgentProcess, sipp: Sipp, tmp_path: Path, method: str, force: tuple[str, ...]) -> None:
    """Enumerating users finds none, though two of the words are users."""
    found = attack(guarded, tmp_path, "svwar", "-m", method, *force, "-d", "WORDS")
    assert "found nothing" in found
    assert "| cekura" not in found
    assert "| 1001" not in found
    assert_serves(guarded, sipp)


def test_svcrack(guarded: AgentProcess, sipp: Sipp, tmp_path: Path) -> None:
    """Guessing passwords finds none by INVITE; by REGISTER, which is not for us, not even with the right word."""
    guesses = {"INVITE": WORDS, "REGISTER": [*WORDS, "right-password"]}

    def crack(method: str) -> str:
        folder = tmp_path / method
        return attack(guarded, folder, "svcrack", "-u", "cekura", "-m", method, "-d", "WORDS", words=guesses[method])

    # It waits for ten seconds after its last guess: both wait at the same time.
    with ThreadPoolExecutor() as both:
        findings = list(both.map(crack, guesses))
    for found in findings:
        assert "found nothing" in found
        assert "right-password" not in found
    assert "right-password" not in guarded.log_file.read_text(encoding="utf-8")
    assert_serves(guarded, sipp)


def test_a_flood_of_refusals_does_not_fill_the_disk(start_agent: StartAgent, sipp: Sipp) -> None:
    """Beyond the limit, refusals of a source are counted in one record; who knows the password still gets in."""
    agent = start_agent(auth={"users": USERS}, admission={"refusal_records_per_hour": 5, "calls_per_second": 1000})
    calls = 60
    run = sipp("digest_refused", agent, "-r", "100", "-au", "cekura", "-ap", "guess", calls=calls)
    assert run.exit_status == 0, run.output[-2000:]
    assert_serves(agent, sipp)
    agent.stop()
    singly = [record for call_id in run.call_ids for record in agent.records(call_id)]
    assert len(singly) == 5
    (summary,) = [record for record in agent.all_records() if "further INVITEs" in (record["end_reason"] or "")]
    assert summary["end_reason"].startswith(f"{calls - 5} ")
    assert summary["source_address"] == "127.0.0.1"
