"""What it costs to measure a call that is over: how long it takes, and how long the event loop waits meanwhile."""

import asyncio
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import soundfile

from sip_agent.agent import SWITCH_INTERVAL_S
from sip_agent.analyst import TurnAnalyst
from sip_agent.record import CallRecord, format_timestamp
from tests.bench.figures import Figure, percentile

CALL_S = 300
SAMPLE_RATE_HZ = 16_000
TURN_S = 5
TICK_S = 0.02
CALLS = 20


def measure_turns(folder: Path) -> Iterator[Figure]:
    """Measure one call of five minutes, then `CALLS` of them at once beside an event loop that ticks every 20 ms."""
    folder.mkdir(parents=True)
    path = folder / "five-minutes.wav"
    soundfile.write(path, _conversation(), SAMPLE_RATE_HZ)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        took_s, delays_ms = asyncio.run(_measure(path))
    finally:
        sys.setswitchinterval(interval_s)
    yield Figure(name="turn metrics of a 5-minute call", value=took_s, unit="s", at_most=1.0)
    yield Figure(name="event loop late meanwhile, p99", value=percentile(delays_ms, 99), unit="ms")
    yield Figure(name=f"event loop late meanwhile, longest of {len(delays_ms)}", value=max(delays_ms), unit="ms")


async def _measure(path: Path) -> tuple[float, list[float]]:
    analyst = TurnAnalyst()
    started = time.monotonic()
    record = _record(path)
    await analyst.analyse(record)
    took_s = time.monotonic() - started
    assert len(record.turns) == CALL_S // TURN_S
    many = asyncio.gather(*(analyst.analyse(_record(path)) for _ in range(CALLS)))
    delays_ms = []
    while not many.done():
        due = time.monotonic() + TICK_S
        await asyncio.sleep(TICK_S)
        delays_ms.append(1000 * (time.monotonic() - due))
    await many
    await analyst.stop()
    return took_s, delays_ms


def _record(path: Path) -> CallRecord:
    now = datetime.now(UTC)
    recording = {"path": str(path), "state": "ok", "error": None, "started_at": format_timestamp(now)}
    return CallRecord(call_uuid="bench", answered_at=now, recording=recording)


def _conversation() -> np.ndarray:
    """Return five minutes in which both speak in turn, five seconds each, with a pause in between."""
    draw = np.random.default_rng(1)
    samples = draw.normal(0, 30, (CALL_S * SAMPLE_RATE_HZ, 2))
    turn, pause = TURN_S * SAMPLE_RATE_HZ, SAMPLE_RATE_HZ // 2
    for number in range(CALL_S // TURN_S):
        said = samples[number * turn + pause : (number + 1) * turn, number % 2]
        said *= 100 * np.abs(np.sin(np.arange(len(said)) * 2 * np.pi * 2 / SAMPLE_RATE_HZ)) + 1
    return np.asarray(samples.clip(-32768, 32767), np.int16)
