"""The SIP messages of a call: in its record as SIPp saw them, and drawn by `sip-agent calls ladder`."""

import subprocess
import sys
from typing import Any

import pytest

from tests.calls.agent_process import REPOSITORY, AgentProcess
from tests.calls.conftest import ROUTES, StartAgent
from tests.calls.sipp import Sipp, SippRun

pytestmark = pytest.mark.sipp


def seen_by_caller(run: SippRun) -> list[tuple[bool, str]]:
    """Return whether the agent sent it, and its text, of each message in SIPp's own log."""
    return [
        (not message.sent, message.start_line.split(" ", 1)[1] if message.status else message.start_line.split()[0])
        for message in run.messages
    ]


def in_record(record: dict[str, Any]) -> list[tuple[bool, str]]:
    """Return the same of a call record."""
    return [(message["sent"], message["text"]) for message in record["messages"]]


def ladder_of(agent: AgentProcess, call_uuid: str) -> str:
    """Return what `sip-agent calls ladder` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "sip_agent", "calls", "ladder", call_uuid, "--config", str(agent.settings_file)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_an_answered_call(start_agent: StartAgent, sipp: Sipp) -> None:
    """Challenge, answer and good-bye stand in the record as the caller saw them, message by message."""
    agent = start_agent(auth={"users": {"cekura": "secret"}})
    run = sipp("digest", agent, "-au", "cekura", "-ap", "secret", headers="")
    record = agent.record(run.call_id)
    assert in_record(record) == seen_by_caller(run)
    lines = ladder_of(agent, record["call_uuid"]).splitlines()
    assert len(lines) == 1 + len(run.messages)
    assert [" INVITE " in lines[1], " 401 Unauthorized " in lines[2], " ACK " in lines[3]] == [True, True, True]
    assert (lines[2].startswith("|<"), "0.000 s" in lines[1]) == (True, True)


def test_a_refused_call(start_agent: StartAgent, sipp: Sipp) -> None:
    """A refusal stands in the record too; what follows it comes after the record."""
    agent = start_agent(routes=ROUTES)
    run = sipp("refused", agent, user="busy", status="486")
    messages = in_record(agent.record(run.call_id))
    assert messages == seen_by_caller(run)[: len(messages)]
    assert {(False, "INVITE"), (True, "486 Busy Here")} <= set(messages)


def test_within_the_call(start_agent: StartAgent, sipp: Sipp) -> None:
    """Requests within the call are noted, in both directions."""
    agent = start_agent(routes=ROUTES)
    run = sipp("update", agent)
    assert in_record(agent.record(run.call_id)) == seen_by_caller(run)
