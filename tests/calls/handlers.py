"""Handlers that the calls of the tests reach by `module:Class` routes."""

import asyncio

from media.frames import samples_per_frame
from media.tones import ToneGenerator
from sip_agent.call import Call

MANY_DIGITS = "0123456789ABCD*#1234567890*#ABCD54"
"""More than the engine keeps in line, no two alike next to each other."""


class EarlyMedia:
    """Sing before the answer, then say back what the caller says."""

    async def handle(self, call: Call) -> None:
        """Send a short tone as early media, answer, echo."""
        await call.progress()
        tone = ToneGenerator(425, call.sample_rate_hz, level_dbov=-15)
        for _ in range(10):
            await call.send(tone.next(samples_per_frame(call.sample_rate_hz)))
        await call.drained()
        await call.answer()
        async for frame in call.frames():
            await call.send(frame)


class PlayTwoSeconds:
    """Say something of two seconds and hang up."""

    async def handle(self, call: Call) -> None:
        """Answer, and play a tone."""
        await call.answer()
        await call.play(ToneGenerator(800, call.sample_rate_hz, level_dbov=-15).next(2 * call.sample_rate_hz))


class SendDigits:
    """Press keys and go."""

    async def handle(self, call: Call) -> None:
        """Answer, and send more digits than the engine keeps in line."""
        await call.answer()
        await call.send_dtmf(MANY_DIGITS)


class RingThenEcho:
    """Ring before the answer."""

    async def handle(self, call: Call) -> None:
        """Ring, answer, echo."""
        await call.ring()
        await call.answer()
        async for frame in call.frames():
            await call.send(frame)


class GreetOnce:
    """Ring, answer, greet with a tone and hang up: on a call that we placed as on one that came in."""

    async def handle(self, call: Call) -> None:
        """Greet."""
        await call.ring()
        await call.answer()
        call.transcript.add("agent", "Good morning.")
        await call.play(ToneGenerator(600, call.sample_rate_hz).next(call.sample_rate_hz))


class RaiseBeforeAnswer:
    """Fail at once."""

    async def handle(self, call: Call) -> None:  # noqa: ARG002
        """Raise what nobody expects."""
        raise RuntimeError("no model was loaded")


class RaiseAfterAnswer:
    """Fail in the middle of the conversation."""

    async def handle(self, call: Call) -> None:
        """Answer and raise."""
        await call.answer()
        raise RuntimeError("the model went away")


class ReturnUnanswered:
    """Do nothing at all."""

    async def handle(self, call: Call) -> None:
        """Return."""


class HangAfterBye:
    """Never notice that the caller has gone."""

    async def handle(self, call: Call) -> None:
        """Answer and wait for ever."""
        await call.answer()
        await asyncio.Event().wait()


class IgnoreCancellation:
    """Refuse to end, even when cancelled."""

    async def handle(self, call: Call) -> None:
        """Answer and wait, whatever comes, for far longer than a call ends."""
        await call.answer()
        for _ in range(10):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                call.log.info("handler.ignored_cancellation")


class AnswerTwice:
    """Answer a call that is answered."""

    async def handle(self, call: Call) -> None:
        """Answer, and answer again."""
        await call.answer()
        await call.answer()


class Flood:
    """Send as much as `send` lets through, all the time, on many tasks."""

    async def handle(self, call: Call) -> None:
        """Answer and flood."""
        await call.answer()
        tone = ToneGenerator(440, call.sample_rate_hz, level_dbov=-15)
        minute = tone.next(60 * call.sample_rate_hz)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(20):
                tasks.create_task(call.send(minute))


class TellHeaders:
    """Give the secrets of the INVITE back to the caller, who knows them already."""

    async def handle(self, call: Call) -> None:
        """Answer with what the handler sees of `X-Api-Key`, and wait."""
        seen = "|".join(call.headers.get("X-Api-Key", []))
        await call.answer(headers=[("X-Seen", seen)])
        await call.disconnected


def two_lines() -> dict[str, str]:
    """Return, as the tool of a script, a URI with a header line behind it."""
    return {"uri": "sip:x@127.0.0.1\r\nX-Evil: 1"}


class TwoLines:
    """Answer with a header field that has another one in its value."""

    async def handle(self, call: Call) -> None:
        """Answer, and wait for the end."""
        await call.answer([("X-Agent", "nine\r\nX-Evil: 1")])
        await call.disconnected


class HangUp:
    """Answer, say a word, hang up."""

    async def handle(self, call: Call) -> None:
        """Answer, send 100 ms of tone, return."""
        await call.answer()
        tone = ToneGenerator(440, call.sample_rate_hz, level_dbov=-15)
        await call.send(tone.next(call.sample_rate_hz // 10))


class CollectDigits:
    """Collect digits up to `#` and note them."""

    async def handle(self, call: Call) -> None:
        """Answer, gather, put the digits into the transcript, hang up."""
        await call.answer()
        call.transcript.add("caller", await call.gather(timeout_s=5))
