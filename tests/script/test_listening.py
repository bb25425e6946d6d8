"""What a script hears, when more is said than is recognised."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import numpy as np

from sip_agent.call import Call, Utterance
from sip_agent.events import CallDisconnected
from sip_agent.hearing import EVENTS_MAX, EventStream
from sip_agent.script.listening import Listener


class OverwhelmedCall:
    """A call on which nothing is recognised until `recognizing` is set."""

    def __init__(self) -> None:
        self.disconnected: asyncio.Future[CallDisconnected] = asyncio.get_running_loop().create_future()
        self.recognizing = asyncio.Event()
        self._streams: list[EventStream] = []

    async def dtmf(self) -> AsyncIterator[str]:
        """See `Call`: no keys are pressed."""
        return
        yield ""

    async def speech(self) -> AsyncIterator[object]:
        """See `Call`: nothing is told of when speech starts and ends."""
        return
        yield

    async def utterances(self, *, recognize: bool = True) -> AsyncIterator[Utterance]:
        """See `Call`."""
        stream = EventStream()
        self._streams.append(stream)
        async for event in stream:
            assert isinstance(event, Utterance)
            if recognize:
                await self.recognizing.wait()
            yield event

    def say(self) -> None:
        """Say something."""
        said = Utterance(started_ms=0, ended_ms=0, samples=np.zeros(160, np.int16), sample_rate_hz=16_000)
        for stream in self._streams:
            stream.push(said)

    def end(self) -> None:
        """Say nothing more."""
        for stream in self._streams:
            stream.end()


async def test_utterances_that_are_dropped() -> None:
    """What was dropped because recognition did not keep up is not waited for once the last words are recognised."""
    call = OverwhelmedCall()
    async with Listener(cast("Call", call)) as listener:
        listener.open()
        await asyncio.sleep(0)
        assert not listener.busy
        for _ in range(EVENTS_MAX + 20):
            call.say()
            await asyncio.sleep(0)
        assert listener.busy
        call.recognizing.set()
        call.end()
        await listener.last_words()

        assert not listener.busy
