"""Calls with a model, for tests: the caller is fake, the connection to the model's server is real."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from media.frames import Samples
from media.tones import ToneGenerator
from sip_agent.handlers.realtime import RealtimeHandler
from sip_agent.testing import FakeCall
from tests.handlers.realtime_server import Connection, RealtimeServer

KEY = "sk-test-0123456789"

ARRIVAL_S = 10.0


def tone(hz: float, duration_ms: int, rate_hz: int = 24_000) -> Samples:
    """Return a tone."""
    return ToneGenerator(hz, rate_hz).next(duration_ms * rate_hz // 1000)


def strongest_hz(samples: Samples, rate_hz: int = 16_000) -> float:
    """Return the frequency with the most energy."""
    spectrum = np.abs(np.fft.rfft(samples.astype(float) * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate_hz / len(samples))


def onset(samples: Samples) -> int:
    """Return where something begins to be heard."""
    return int(np.argmax(np.abs(samples) > 100))


def loud_ms(samples: Samples, rate_hz: int = 16_000) -> int:
    """Return for how long something is to be heard, in whole frames."""
    frames = samples.reshape(-1, rate_hz // 50)
    return 20 * int(np.sum(np.max(np.abs(frames), axis=1) > 100))


async def arrives(condition: Callable[[], object]) -> None:
    """Wait until what is on its way has arrived, while the clock of the call stands still."""
    async with asyncio.timeout(ARRIVAL_S):
        while not condition():  # noqa: ASYNC110  (what it looks for tells nobody of itself)
            await asyncio.sleep(0.001)


@asynccontextmanager
async def talking(server: RealtimeServer, **options: Any) -> AsyncIterator[tuple[FakeCall, Connection]]:
    """Hold a call with the model: answered, and set up."""
    handler = RealtimeHandler("test-model", base_url=server.url, **options)
    async with FakeCall(handler, headers={"X-Run-Id": "run-7"}) as caller:
        await caller.until_answered()
        yield caller, server.connection
