"""Calls to phone numbers by `sip-agent call`: through Kamailio and Asterisk, as our number, only where we may."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.calls.agent_process import ENGINE, REPOSITORY, AgentProcess, eventually, to_toml
from tests.calls.conftest import StartAgent
from tests.calls.kamailio import PASSWORD, Kamailio
from tests.calls.trunks import CALLER_ID, NUMBER, Asterisk, TrunkProxy

OUTBOUND = {"allow": ["+1415555"]}


class CallCommand:
    """`sip-agent call` with settings of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self, *arguments: str, account: dict[str, Any], outbound: dict[str, Any] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Call a number, say nothing for a moment and hang up."""
        settings = {"accounts": [account], "outbound": OUTBOUND if outbound is None else outbound}
        file = self._folder / "sip-agent.toml"
        file.write_text("".join(f"{name} = {to_toml(value)}\n" for name, value in settings.items()), encoding="utf-8")
        command = [sys.executable, "-m", "sip_agent", "call", *arguments, "--config", str(file), "--engine", ENGINE]
        return subprocess.run(
            [*command, "--json", "--tone", "440", "--duration", "1"],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def call(tmp_path: Path) -> CallCommand:
    """Call by settings in a folder of the test."""
    return CallCommand(tmp_path)


@pytest.fixture
def callee(start_agent: StartAgent) -> AgentProcess:
    """Run what answers behind a proxy: another agent."""
    return start_agent(routes=[{"match": {}, "handler": "echo"}])


@pytest.fixture
def proxy(tmp_path: Path, callee: AgentProcess) -> Iterator[TrunkProxy]:
    """Run a trunk that challenges with 407."""
    with TrunkProxy(tmp_path / "kamailio", callee.udp_port) as process:
        yield process


@pytest.fixture(scope="module")
def asterisk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asterisk]:
    """Run Asterisk."""
    with Asterisk(tmp_path_factory.mktemp("pbx") / "asterisk") as process:
        yield process


def account(peer: Kamailio | Asterisk, **more: Any) -> dict[str, Any]:
    """Return the settings of a trunk there, on which nothing registers."""
    settings = {"name": "trunk", "registrar": f"sip:127.0.0.1:{peer.port}", "registers": False}
    return {**settings, "username": "1001", "password": PASSWORD, "caller_id": CALLER_ID, **more}


@pytest.mark.kamailio
def test_a_trunk_that_challenges(call: CallCommand, proxy: TrunkProxy, callee: AgentProcess) -> None:
    """A 407 is answered, and From and P-Asserted-Identity carry our number."""
    result = call(NUMBER, account=account(proxy))
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    shown = f"sip:{CALLER_ID}@127.0.0.1"
    assert proxy.taken == [(NUMBER, shown, f"<{shown}>", "1001")]
    assert document["statuses"][0] == 407
    assert document["statuses"][-1] == 200
    told = {key: document[key] for key in ("direction", "account", "auth_user", "from_uri", "outcome", "ended_by")}
    assert told == {
        "direction": "outbound",
        "account": "trunk",
        "auth_user": "1001",
        "from_uri": shown,
        "outcome": "answered",
        "ended_by": "agent",
    }
    assert document["rtp"]["rx"]["packets"] > 20
    record = eventually(lambda: callee.record(document["call_id"]), "record of the callee")
    assert record["from_uri"] == shown
    assert record["request_uri"].startswith(f"sip:{NUMBER}@")
    assert PASSWORD not in result.stdout + result.stderr


@pytest.mark.kamailio
def test_a_trunk_that_challenges_as_a_server(call: CallCommand, tmp_path: Path, callee: AgentProcess) -> None:
    """A 401 is answered as well."""
    with TrunkProxy(tmp_path / "kamailio", callee.udp_port, status=401) as trunk:
        result = call(NUMBER, account=account(trunk))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["statuses"][0] == 401


@pytest.mark.kamailio
@pytest.mark.parametrize(
    ("caller_id_in", "from_user", "asserted"),
    [("from", CALLER_ID, "<null>"), ("p-asserted-identity", "1001", f"<sip:{CALLER_ID}@127.0.0.1>")],
)
def test_where_the_caller_id_stands(
    call: CallCommand, proxy: TrunkProxy, caller_id_in: str, from_user: str, asserted: str
) -> None:
    """The caller id stands where the account says, and nowhere else."""
    result = call(NUMBER, account=account(proxy, caller_id_in=caller_id_in))
    assert result.returncode == 0, result.stderr
    assert proxy.taken == [(NUMBER, f"sip:{from_user}@127.0.0.1", asserted, "1001")]


@pytest.mark.kamailio
def test_an_outbound_proxy_and_another_form_of_number(call: CallCommand, proxy: TrunkProxy) -> None:
    """Calls take the way of the proxy, whatever domain they are for, and numbers have the form that it wants."""
    result = call(
        NUMBER,
        account=account(
            proxy,
            registrar="sip:trunk.example.com",
            outbound_proxy=f"sip:127.0.0.1:{proxy.port}",
            dial="sip:00{digits}@trunk.example.com",
        ),
    )
    assert result.returncode == 0, result.stderr
    shown = f"sip:{CALLER_ID}@trunk.example.com"
    assert proxy.taken == [(f"00{NUMBER[1:]}", shown, f"<{shown}>", "1001")]


@pytest.mark.kamailio
def test_a_wrong_password(call: CallCommand, proxy: TrunkProxy) -> None:
    """A trunk that does not take our password ends the call with its status, and is asked no third time."""
    result = call(NUMBER, account=account(proxy, password="guess"))
    assert result.returncode == 1
    document = json.loads(result.stdout)
    assert (document["outcome"], document["sip_status"]) == ("rejected", 407)
    assert proxy.count("CHALLENGED", CALLER_ID) <= 2
    assert proxy.taken == []


@pytest.mark.asterisk
def test_asterisk_takes_the_call(call: CallCommand, asterisk: Asterisk) -> None:
    """Asterisk authenticates the call, heeds its caller id and echoes its sound."""
    result = call(NUMBER, account=account(asterisk))
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert asterisk.taken[-1] == (NUMBER, CALLER_ID, f"<sip:{CALLER_ID}@127.0.0.1>")
    assert document["statuses"][0] == 401
    assert document["codec"] == "PCMU"
    assert document["rtp"]["rx"]["packets"] > 20


@pytest.mark.asterisk
def test_asterisk_heeds_the_asserted_identity(call: CallCommand, asterisk: Asterisk) -> None:
    """Where From names the account, Asterisk takes the caller id from P-Asserted-Identity (RFC 3325)."""
    result = call(NUMBER, account=account(asterisk, caller_id_in="p-asserted-identity"))
    assert result.returncode == 0, result.stderr
    assert asterisk.taken[-1][:2] == (NUMBER, CALLER_ID)


@pytest.mark.asterisk
def test_a_busy_number(call: CallCommand, asterisk: Asterisk) -> None:
    """A number that is busy ends the call with its status, and the exit status is 1."""
    result = call("+14155550199", account=account(asterisk))
    assert result.returncode == 1
    document = json.loads(result.stdout)
    assert (document["outcome"], document["sip_status"]) == ("rejected", 486)


@pytest.mark.asterisk
@pytest.mark.parametrize(
    ("number", "outbound", "said"),
    [
        (NUMBER, {}, "outbound.allow: it is empty, so no number may be dialled"),
        ("+442079460000", OUTBOUND, "+442079460000 begins with none of +1415555: not dialled"),
        ("+1 (415) 5", OUTBOUND, "+14155 begins with none of +1415555"),
        ("+0800", OUTBOUND, "'+0800' is no phone number with + and country code"),
        (NUMBER, {**OUTBOUND, "max_calls_per_day": 0}, "outbound.max_calls_per_day: 0 numbers were dialled"),
    ],
)
def test_what_may_not_be_dialled(
    call: CallCommand, asterisk: Asterisk, number: str, outbound: dict[str, Any], said: str
) -> None:
    """What the guard rails forbid is not dialled: one line says why, and the exit status is 2."""
    before = len(asterisk.taken)
    result = call(number, account=account(asterisk), outbound=outbound)
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert len(asterisk.taken) == before


@pytest.mark.asterisk
def test_the_cap_survives(call: CallCommand, asterisk: Asterisk) -> None:
    """One call a day is one call a day, though each call is a process of its own."""
    limits = {**OUTBOUND, "max_calls_per_day": 1}
    first, second = (call(NUMBER, account=account(asterisk), outbound=limits).returncode for _ in range(2))
    assert (first, second) == (0, 2)
