"""The way from a bot to its caller, tick by tick: the last frame, and how much may wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from media.frames import Samples
from media.g711 import encode_mulaw
from sip_agent.handlers.websocket.dialect import BotAudio, Mark, StreamInfo, UnreadableMessage
from sip_agent.handlers.websocket.playout import MARK_CHARACTERS_MAX, MARKS_MAX, Playout
from sip_agent.handlers.websocket.twilio import TwilioDialect
from sip_agent.testing import FakeCall
from tests.handlers.websocket.bots import tone

RATE_HZ = 8000


class Caller(FakeCall):
    """A caller, and the playout of the call; `marks` are those that came back."""

    def __init__(self) -> None:
        super().__init__(sample_rate_hz=RATE_HZ)
        self.marks: list[str] = []

    async def take_mark(self, name: str, _cleared: bool) -> None:
        """Take a mark that came back."""
        self.marks.append(name)


@asynccontextmanager
async def playing() -> AsyncIterator[tuple[Caller, Playout]]:
    """Answer a call, and let a playout run."""
    async with Caller() as caller:
        await caller.call.answer()
        dialect = TwilioDialect(StreamInfo(call_uuid=caller.record.call_uuid, caller="", called=""))
        playout = Playout(caller.call, dialect, limit_ms=300_000, played=caller.take_mark)
        tasks = [asyncio.create_task(playout.run()), asyncio.create_task(playout.run_marks())]
        yield caller, playout
        for task in tasks:
            task.cancel()


def chunks(ms: int, count: int) -> list[BotAudio]:
    """Return a tone in pieces of so many milliseconds."""
    sound = encode_mulaw(tone(900, ms * count))
    return [BotAudio(sound[start : start + ms * 8]) for start in range(0, len(sound), ms * 8)]


def silent_ms(heard: Samples) -> float:
    """Return how much silence there is between the first and the last sound, in runs of a millisecond and more."""
    loud = np.flatnonzero(np.abs(heard) > 200)
    gaps = np.diff(loud)
    return float(gaps[gaps > RATE_HZ // 1000].sum()) / (RATE_HZ // 1000)


async def test_a_sentence_that_ends_inside_a_frame_is_heard_to_its_end() -> None:
    """Its last 10 ms follow what was before them at once, and no stall is counted; so does its mark."""
    async with playing() as (caller, playout):
        for chunk in chunks(30, 5):
            await playout.add(chunk)
        playout.mark(Mark("end"))
        await caller.hear(140)
        assert not caller.marks
        heard = await caller.hear(60)
        assert ["end"] == caller.marks
        for chunk in chunks(30, 2):
            await playout.add(chunk)
        await caller.hear(100)
    assert np.abs(heard[:80]).max() > 2000
    assert 0 == silent_ms(caller.heard[: 8 * 150])
    assert 160 + 60 == caller.call.sent_ms


@pytest.mark.parametrize("ms", [10, 30, 37])
async def test_no_silence_comes_between_two_pieces_of_a_sentence(ms: int) -> None:
    """A bot in real time whose pieces are no frames, up to a frame late: the rest of each frame comes in time."""
    async with playing() as (caller, playout):
        sent_ms = 0
        for chunk in chunks(ms, 600 // ms):
            await playout.add(chunk)
            sent_ms += ms
            while caller.port.ticks * 20 + 40 < sent_ms:
                await caller.hear(20)
        await caller.hear(100)
    assert 0 == silent_ms(caller.heard)
    assert 0 == caller.port.counters().underruns


async def test_marks_are_bounded() -> None:
    """Those that wait in both queues, and the name of each; a clear makes room."""
    async with playing() as (caller, playout):
        await playout.add(BotAudio(encode_mulaw(tone(900, 3000))))
        await caller.hear(20)
        for number in range(MARKS_MAX):
            playout.mark(Mark(str(number)))
        with pytest.raises(UnreadableMessage, match="10000 marks wait for their sound"):
            playout.mark(Mark("one too many"))
        await playout.clear()
        assert MARKS_MAX == len(caller.marks)
        playout.mark(Mark("m" * MARK_CHARACTERS_MAX))
        with pytest.raises(UnreadableMessage, match="name has 257 characters; 256 are allowed"):
            playout.mark(Mark("m" * (MARK_CHARACTERS_MAX + 1)))
