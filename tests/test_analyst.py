"""The process that measures calls: what it says, and what becomes of the calls that it cannot measure."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import uvloop

from media.frames import silence
from media.tones import tone
from sip_agent import analyst as analyst_module
from sip_agent.analyst import DIED, NOT_RECORDED, STOPPED, TOO_MANY, TOO_SLOW, TurnAnalyst
from sip_agent.record import CallRecord, format_timestamp
from sip_agent.turns import BOUNDS

RATE_HZ = 16_000
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine on uvloop, as the agent does, and on asyncio's own loop: they tell a dead process differently."""
    runner: Run = request.param
    return runner


@pytest.fixture
async def analyst() -> AsyncIterator[TurnAnalyst]:
    """Start what measures."""
    analyst = TurnAnalyst()
    yield analyst
    await analyst.stop()


@pytest.fixture
def recording(tmp_path: Path) -> str:
    """Write the recording of a call in which the agent speaks from 1.5 to 3 s."""
    agent = np.concatenate((silence(1500, RATE_HZ), tone(440, 1500, RATE_HZ), silence(1000, RATE_HZ)))
    path = tmp_path / "call.wav"
    soundfile.write(path, np.column_stack((np.zeros_like(agent), agent)), RATE_HZ)
    return str(path)


def record_of(path: str, *, answer_ms: int = 0, **values: Any) -> CallRecord:
    """Return the record of a call that was answered so far into its recording."""
    recording = {"path": path, "state": "ok", "error": None, "started_at": format_timestamp(NOON)}
    return CallRecord(
        call_uuid="1", answered_at=NOON + timedelta(milliseconds=answer_ms), **({"recording": recording} | values)
    )


async def test_measures(analyst: TurnAnalyst, recording: str) -> None:
    """The record gets its turns and metrics, counted from the answer."""
    record = record_of(
        recording, answer_ms=1000, transcript=[{"speaker": "agent", "text": "Höllo\udce9", "at_ms": 500}]
    )
    await analyst.analyse(record)

    assert [("agent", 500, "Höllo\udce9")] == [
        (turn["speaker"], turn["started_ms"], turn["text"]) for turn in record.turns
    ]
    assert len(BOUNDS) == len(record.metrics["bounds"])


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"recording": None}, NOT_RECORDED),
        ({"recording": {"state": "failed", "error": "disk full"}}, "the recording failed: disk full"),
    ],
)
async def test_without_recording(analyst: TurnAnalyst, values: dict[str, Any], error: str) -> None:
    """Without a recording there are no metrics, and the record says why."""
    record = record_of("", **values)
    await analyst.analyse(record)

    assert ([], {"error": error}) == (record.turns, record.metrics)


async def test_unanswered(analyst: TurnAnalyst) -> None:
    """A call that was not answered has nothing to measure."""
    record = CallRecord(call_uuid="1")
    await analyst.analyse(record)

    assert {} == record.metrics


async def test_recording_that_cannot_be_read(analyst: TurnAnalyst, recording: str, tmp_path: Path) -> None:
    """A recording that somebody took away is named, and the next call is measured."""
    gone, record = record_of(str(tmp_path / "gone.wav")), record_of(recording)
    await analyst.analyse(gone)
    await analyst.analyse(record)

    assert "gone.wav" in gone.metrics["error"]
    assert 1500 == record.metrics["longest_silence_ms"]


async def test_many_at_once(analyst: TurnAnalyst, recording: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limited number waits; who comes after has no metrics, and says so."""
    monkeypatch.setattr(analyst_module, "WAITING_MAX", 3)
    records = [record_of(recording) for _ in range(5)]
    await asyncio.gather(*map(analyst.analyse, records))

    assert [None] * 3 + [TOO_MANY] * 2 == [record.metrics.get("error") for record in records]


@pytest.mark.parametrize("noticed", [False, True])
def test_process_that_dies_idle(run: Run, recording: str, noticed: bool) -> None:
    """A process that is killed between two calls is replaced, whether or not the loop knows of its end."""
    records = [record_of(recording) for _ in range(2)]

    async def measure() -> None:
        analyst = TurnAnalyst()
        await analyst.analyse(records[0])
        await kill(analyst, noticed=noticed)
        await analyst.analyse(records[1])
        await analyst.stop()

    run(measure())

    assert [1500, 1500] == [record.metrics.get("longest_silence_ms") for record in records]


def test_process_that_dies_in_work(run: Run, recording: str) -> None:
    """The call in hand of a process that is killed is measured by the next one."""
    records = [record_of(recording) for _ in range(3)]

    async def measure() -> None:
        analyst = TurnAnalyst()
        await analyst.analyse(records[0])
        assert analyst._process is not None
        analyst._process.send_signal(signal.SIGSTOP)
        measuring = asyncio.create_task(analyst.analyse(records[1]))
        await asyncio.sleep(0.05)
        await kill(analyst)
        await measuring
        await analyst.analyse(records[2])
        await analyst.stop()

    run(measure())

    assert [1500, 1500, 1500] == [record.metrics.get("longest_silence_ms") for record in records]


def test_stop_after_the_process_died(run: Run, recording: str) -> None:
    """A process that is gone keeps no agent from stopping."""
    record = record_of(recording)

    async def measure() -> None:
        analyst = TurnAnalyst()
        await analyst.analyse(record)
        await kill(analyst, noticed=True)
        await analyst.stop()

    run(measure())

    assert 1500 == record.metrics["longest_silence_ms"]


async def kill(analyst: TurnAnalyst, *, noticed: bool = False) -> None:
    """Kill the process, as the kernel does that is out of memory; if wanted, until the loop knows that it is gone."""
    assert analyst._process is not None
    analyst._process.kill()
    if noticed:
        await analyst._process.wait()
        await asyncio.sleep(0.05)


async def test_process_that_always_dies(analyst: TurnAnalyst, recording: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process lives long enough, the record says so, and the next call is measured."""
    records = [record_of(recording) for _ in range(2)]
    with monkeypatch.context() as deadly:
        deadly.setattr(sys, "executable", "/bin/false")
        await analyst.analyse(records[0])
    await analyst.analyse(records[1])

    assert DIED in records[0].metrics["error"]
    assert 1500 == records[1].metrics["longest_silence_ms"]


async def test_record_that_is_no_json(analyst: TurnAnalyst, recording: str) -> None:
    """Whatever cannot be handed to the process costs the metrics of that call alone."""
    odd = record_of(recording, stalls=[{"cause": b"odd", "started_ms": 0, "ended_ms": 1}])
    record = record_of(recording)
    await analyst.analyse(odd)
    await analyst.analyse(record)

    assert "bytes" in odd.metrics["error"]
    assert 1500 == record.metrics["longest_silence_ms"]


async def test_process_that_hangs(analyst: TurnAnalyst, recording: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not answer is replaced."""
    records = [record_of(recording) for _ in range(3)]
    await analyst.analyse(records[0])
    assert analyst._process is not None
    analyst._process.send_signal(signal.SIGSTOP)
    with monkeypatch.context() as short:
        short.setattr(analyst_module, "PATIENCE_S", 0.05)
        await analyst.analyse(records[1])
    await analyst.analyse(records[2])

    assert [None, TOO_SLOW, None] == [record.metrics.get("error") for record in records]


async def test_nobody_waits_any_more(analyst: TurnAnalyst, recording: str) -> None:
    """The answer for a call that was given up is not taken for that of the next one."""
    record, given_up = record_of(recording), record_of(recording, answer_ms=1000)
    await analyst.analyse(record)
    waiting = asyncio.create_task(analyst.analyse(given_up))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    await analyst.analyse(record)

    assert [1500] == [turn["started_ms"] for turn in record.turns]
    assert [] == given_up.turns


@pytest.mark.parametrize("hangs", [False, True])
async def test_stop(analyst: TurnAnalyst, recording: str, hangs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the agent stops, the call in hand is measured if that is possible, no other, and the process ends."""
    records = [record_of(recording) for _ in range(4)]
    await analyst.analyse(records[0])
    assert analyst._process is not None
    pid = analyst._process.pid
    if hangs:
        monkeypatch.setattr(analyst_module, "STOP_PATIENCE_S", 0.05)
        analyst._process.send_signal(signal.SIGSTOP)
    waiting = [asyncio.create_task(analyst.analyse(record)) for record in records[1:]]
    await asyncio.sleep(0)
    await analyst.stop()
    await asyncio.gather(*waiting)
    late = record_of(recording)
    await analyst.analyse(late)

    assert [None, DIED if hangs else None, STOPPED, STOPPED] == [record.metrics.get("error") for record in records]
    assert {"error": STOPPED} == late.metrics
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_signals_of_the_terminal(analyst: TurnAnalyst, recording: str) -> None:
    """What stops the agent does not stop the process before the agent's calls are measured."""
    record = record_of(recording)
    await analyst.analyse(record)
    assert analyst._process is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        analyst._process.send_signal(number)
    again = record_of(recording)
    await analyst.analyse(again)

    assert (record.turns, record.metrics) == (again.turns, again.metrics)
