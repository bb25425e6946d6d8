"""Handlers of the benchmarks, reached by `module:Class` routes inside the agent's process."""

import asyncio
import functools
import threading
import time

from media.tones import ToneGenerator
from sip_agent.call import BargeIn, Call, SpeechEnded
from sip_agent.handlers.echo import EchoHandler

PERIOD_S = 0.02
BUSY = 0.3

STOPS = 40
TONE_MS = 300
QUIET_S = 0.25


class EchoBesideBusyThread(EchoHandler):
    """Echo, while another Python thread of the process is busy 30 % of the time."""

    async def handle(self, call: Call) -> None:
        """See `EchoHandler`."""
        start_busy_thread()
        await super().handle(call)


@functools.cache
def start_busy_thread() -> None:
    """Start the thread, once in a process."""
    threading.Thread(target=_work, name="busy", daemon=True).start()


def _work() -> None:
    due = time.monotonic()
    while True:
        until = time.thread_time() + PERIOD_S * BUSY
        while time.thread_time() < until:
            sum(range(200))
        due = max(due + PERIOD_S, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


class Listen:
    """Listen for utterances, as a handler that answers them would."""

    async def handle(self, call: Call) -> None:
        """Answer and listen."""
        await call.answer()
        async for _ in call.utterances(recognize=False):
            pass


class StopOften:
    """Play a tone and stop it, at any moment between two ticks; note the monotonic clock of each stop."""

    async def handle(self, call: Call) -> None:
        """Answer, play and stop so many times, hang up."""
        await call.answer()
        tone = ToneGenerator(1000, call.sample_rate_hz, level_dbov=-15).next(3 * call.sample_rate_hz)
        for number in range(STOPS):
            playing = asyncio.create_task(call.play(tone))
            await call.until_sent(call.sent_ms + TONE_MS)
            await asyncio.sleep(0.02 * number / STOPS)
            call.transcript.add("agent", f"{time.monotonic():.6f}")
            call.stop_playback()
            await playing
            await asyncio.sleep(QUIET_S)


class GiveWay:
    """Play a tone until the caller speaks; when the caller is done, play again."""

    async def handle(self, call: Call) -> None:
        """Answer, play, give way, play again."""
        await call.answer()
        tone = ToneGenerator(1000, call.sample_rate_hz, level_dbov=-15).next(60 * call.sample_rate_hz)
        speech = call.speech()
        while not call.ended:
            await call.play(tone, barge_in=BargeIn.STOP)
            async for event in speech:
                if isinstance(event, SpeechEnded):
                    break
