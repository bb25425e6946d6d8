"""Scripts that talk to each other over SIP and RTP: an agent answers with one, `sip-agent call` follows the other."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.calls.agent_process import ENGINE, REPOSITORY, AgentProcess
from tests.calls.conftest import StartAgent, dial

EXAMPLES = REPOSITORY / "deploy" / "examples" / "scripts"

DIALOGUE_S = 100.0

RECOGNIZER = {"recognizer": "pocketsphinx", "pocketsphinx": {"grammar_file": str(EXAMPLES / "booking.gram")}}


class ScriptedCall:
    """`sip-agent call --script` as a process of its own; it is ended when the test is."""

    def __init__(self, agent: AgentProcess, user: str, script: Path, options: Sequence[str] = ()) -> None:
        self._agent = agent
        target = f"sip:{user}@{agent.host}:{agent.udp_port}"
        command = [*("call", target, "--script", str(script), "--json", "--engine", ENGINE), *options]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sip_agent", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=agent.folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    def end(self) -> None:
        """End the call, if it goes on."""
        self._process.kill()
        self._process.communicate()

    def result(self) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Wait for the end; return the exit status, the caller's record and the agent's."""
        output, errors = self._process.communicate(timeout=DIALOGUE_S)
        assert output, errors.decode()
        caller = json.loads(output)
        return self._process.returncode, caller, self._agent.record(caller["call_id"])


@pytest.fixture(scope="module")
def dialogues(agent_folders: Iterator[Path]) -> Iterator[dict[str, ScriptedCall]]:
    """Hold the dialogues of the examples, all at once: each takes its twenty seconds."""
    routes = [dial("booking", "script", file=str(EXAMPLES / "booking.yaml"))]
    routes.append(dial("menu", "script", file=str(EXAMPLES / "menu.yaml")))
    with (
        AgentProcess(next(agent_folders), {"routes": routes}) as agent,
        AgentProcess(next(agent_folders), {"routes": routes, "speech": RECOGNIZER}) as understanding,
    ):
        calls = {
            "menu": ScriptedCall(agent, "menu", EXAMPLES / "menu-caller.yaml"),
            "booking": ScriptedCall(agent, "booking", EXAMPLES / "booking-caller.yaml"),
            "impatient": ScriptedCall(agent, "booking", EXAMPLES / "impatient-caller.yaml"),
            "understood": ScriptedCall(
                understanding, "booking", EXAMPLES / "booking-caller.yaml", ["--var", "hour=nine", "--codec", "G722"]
            ),
        }
        yield calls
        for call in calls.values():
            call.end()


def texts(record: dict[str, Any], speaker: str = "agent") -> list[str]:
    """Return what a speaker said, as the record's transcript has it."""
    return [entry["text"] for entry in record["transcript"] if entry["speaker"] == speaker]


def test_the_menu(dialogues: dict[str, ScriptedCall]) -> None:
    """Keys pressed into the greeting are taken, in RFC 4733 events on both ways, and lead to the right place."""
    status, caller, agent = dialogues["menu"].result()

    assert (0, "answered", None) == (status, caller["outcome"], caller["error"])
    assert "21234" == "".join(item["digit"] for item in agent["dtmf"])
    assert "Please enter the four digits of your order." in texts(agent)
    assert ["Order 1234 is on its way.", "Good bye."] == texts(agent)[-2:]
    assert "script menu.yaml ended at line 46 (hangup: served)" == agent["end_reason"]


def test_the_booking_without_a_recognizer(dialogues: dict[str, ScriptedCall]) -> None:
    """The two take turns to the end; any answer will do."""
    status, caller, agent = dialogues["booking"].result()

    assert (0, "answered", None) == (status, caller["outcome"], caller["error"])
    assert ["A table for two, please.", "At eight o'clock, please.", "Yes, please."] == texts(caller)
    assert [
        "Good evening, this is Bella Vista. For how many people?",
        "And at what time?",
        "A table for your party at that time. Is that right?",
        "Thank you. See you soon, and good bye.",
    ] == texts(agent)
    assert (None, "agent") == (agent["error"], agent["ended_by"])


def test_the_booking_with_a_recognizer(dialogues: dict[str, ScriptedCall]) -> None:
    """What the guest says is understood, repeated, and in the record."""
    status, _, agent = dialogues["understood"].result()

    assert 0 == status
    assert 3 == len(texts(agent, "caller"))
    assert "A table for two at nine. Is that right?" in texts(agent)
    assert "hangup: booked for two at nine" in agent["end_reason"]


def test_a_caller_that_interrupts(dialogues: dict[str, ScriptedCall]) -> None:
    """The agent falls silent in the middle of its greeting, and the caller's script has made sure of it."""
    status, caller, agent = dialogues["impatient"].result()

    assert (0, None, None) == (status, caller["error"], agent["error"])
    greeting = "Good evening, this is Bella Vista. For how many people?"
    assert greeting != texts(agent)[0]
    assert greeting.startswith(texts(agent)[0])


def test_a_script_that_fails(start_agent: StartAgent, tmp_path: Path) -> None:
    """Exit status 1, and the line of the script in the record; the agent's record is that of any call."""
    script = tmp_path / "expects.yaml"
    script.write_text("steps:\n  - listen: {text: welcome}\n    timeout: 500ms\n")
    call = ScriptedCall(start_agent(routes=[dial("silence")]), "silence", script)
    try:
        status, caller, agent = call.result()
    finally:
        call.end()

    assert (1, "failed") == (status, caller["outcome"])
    expected = "line 2: listen: nothing that it waits for came within 0.5 s; it heard nothing"
    assert f"script expects.yaml, {expected}" == caller["error"]
    assert ("answered", None) == (agent["outcome"], agent["error"])


def test_a_script_refuses_before_the_answer(start_agent: StartAgent, tmp_path: Path) -> None:
    """Rejecting is a step: the caller gets the status, and its own script never begins."""
    (tmp_path / "busy.yaml").write_text("steps:\n  - ring: 100ms\n  - reject: 486\n")
    (tmp_path / "caller.yaml").write_text("steps:\n  - say: hello\n")
    agent = start_agent(routes=[dial("busy", "script", file=str(tmp_path / "busy.yaml"))])
    call = ScriptedCall(agent, "busy", tmp_path / "caller.yaml")
    try:
        status, caller, record = call.result()
    finally:
        call.end()

    assert (1, [100, 180], 486) == (status, caller["statuses"], caller["sip_status"])
    assert ("rejected", "script busy.yaml, line 3: reject") == (record["outcome"], record["end_reason"])
