"""A hundred calls at once, with sound both ways: all answered, all recorded, none lost, none doubled."""

from pathlib import Path

import pytest
import soundfile

from tests.calls.conftest import ROUTES, StartAgent
from tests.calls.sipp import Sipp
from tests.ports import free_rtp_range

pytestmark = pytest.mark.sipp

CALLS = 100
TALK_MS = 5000


def test_a_hundred_calls_at_once(start_agent: StartAgent, sipp: Sipp) -> None:
    """A hundred callers talk at the same time; every call is answered, heard, recorded and stored once."""
    agent = start_agent(
        admission={"max_calls": CALLS, "calls_per_second": CALLS},
        media={"rtp_ports": free_rtp_range(4 * CALLS), "sample_rate_hz": 8000},
        routes=ROUTES,
    )
    run = sipp("talk", agent, "-r", "50", "-l", str(CALLS), calls=CALLS, pause_ms=str(TALK_MS))
    assert run.exit_status == 0, run.output[-2000:]
    assert len(run.call_ids) == CALLS
    records = [agent.record(call_id) for call_id in run.call_ids]
    assert {("answered", 200, "caller")} == {
        (record["outcome"], record["sip_status"], record["ended_by"]) for record in records
    }
    first_end = min(record["ended_at"] for record in records)
    assert all(record["answered_at"] < first_end for record in records), "not all calls were there at once"
    expected = TALK_MS // 20
    assert min(record["rtp"]["rx"]["packets"] for record in records) > expected * 0.9
    assert min(record["rtp"]["tx"]["packets"] for record in records) > expected * 0.9
    assert sum(record["rtp"]["rx"]["lost"] for record in records) == 0
    # The machine runs SIPp and the agent on two cores: a hundredth of the frames may come late.
    assert sum(record["audio"]["underruns"] for record in records) < CALLS * expected / 100
    assert {"ok"} == {record["recording"]["state"] for record in records}
    for record in records:
        info = soundfile.info(record["recording"]["path"])
        assert (info.channels, info.duration * 1000) == (2, pytest.approx(record["talk_ms"], abs=300))


def test_calls_come_and_go(start_agent: StartAgent, sipp: Sipp) -> None:
    """Three hundred short calls, fifty a second: each has its record, and nothing is left open."""
    calls = 300
    agent = start_agent(
        admission={"max_calls": CALLS, "calls_per_second": 200},
        media={"rtp_ports": free_rtp_range(4 * CALLS)},
        auth={"users": {"cekura": "secret"}},
    )
    files_before = agent.open_files()
    run = sipp(
        "digest", agent, "-r", "50", "-l", str(CALLS), "-au", "cekura", "-ap", "secret", calls=calls, pause_ms="100"
    )
    assert run.exit_status == 0, run.output[-2000:]
    records = [agent.record(call_id) for call_id in run.call_ids]
    assert len(records) == calls
    assert {("answered", "cekura")} == {(record["outcome"], record["auth_user"]) for record in records}
    assert len({record["call_uuid"] for record in records}) == calls
    assert not list(Path(agent.folder).rglob("*.part"))
    assert agent.open_files() <= files_before + 8
