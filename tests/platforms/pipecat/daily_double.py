"""A double of `pipecat.transports.daily.transport`: its names, signatures and events, and no network behind it."""

import asyncio
import os
from typing import Any, ClassVar

import numpy as np
from pipecat.frames.frames import InputAudioRawFrame, OutputAudioRawFrame, StartFrame
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from tests.calls.rtp import tone

GUEST_VARIABLE = "DAILY_DOUBLE_GUEST"
"""If it is set, a guest comes into each room, speaks for a second and leaves."""


class DailyParams(TransportParams):
    """As in Pipecat; of its fields those that matter here."""

    audio_in_user_tracks: bool = True
    camera_out_enabled: bool = True
    microphone_out_enabled: bool = True


class DailyTransport(BaseTransport):
    """As in Pipecat; the test is Daily, and finds the transports that were made in `made`."""

    made: ClassVar[list["DailyTransport"]] = []
    refusal: ClassVar[str] = ""

    def __init__(  # noqa: PLR0917  (as in Pipecat)
        self,
        room_url: str,
        token: str | None,
        bot_name: str,
        params: DailyParams | None = None,
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        super().__init__(input_name=input_name, output_name=output_name)
        self.room_url, self.token, self.bot_name = room_url, token, bot_name
        self.params = params or DailyParams()
        self.said = bytearray()
        self.left = False
        self._ends: tuple[_Input, _Output] = (_Input(self, self.params), _Output(self, self.params))
        for event in ("on_joined", "on_left", "on_error", "on_participant_joined", "on_participant_left"):
            self._register_event_handler(event)
        self.made.append(self)

    def input(self) -> "_Input":
        """As in Pipecat."""
        return self._ends[0]

    def output(self) -> "_Output":
        """As in Pipecat."""
        return self._ends[1]

    async def join(self) -> None:
        """Let the bot in, or refuse it."""
        if self.refusal:
            await self._call_event_handler("on_error", self.refusal)
        else:
            await self._call_event_handler("on_joined", {"meetingSession": {"id": "m"}})
            if GUEST_VARIABLE in os.environ:
                self._guest = asyncio.create_task(self._visit())

    async def _visit(self) -> None:
        await self.come()
        await self.say(tone(600, 1.0, rate_hz=16_000))
        await self.go()

    async def come(self) -> None:
        """Let the guest join."""
        await self._call_event_handler("on_participant_joined", {"id": "guest"})

    async def go(self) -> None:
        """Let the guest leave."""
        await self._call_event_handler("on_participant_left", {"id": "guest"}, "leftCall")

    async def say(self, samples: np.ndarray) -> None:
        """Let the guest speak, 20 ms at a time, in real time."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for start in range(0, len(samples), 320):
            sound = samples[start : start + 320].tobytes()
            frame = InputAudioRawFrame(audio=sound, sample_rate=16_000, num_channels=1)
            await self._ends[0].push_audio_frame(frame)
            due += 0.02
            await asyncio.sleep(max(0.0, due - loop.time()))


class _Input(BaseInputTransport):
    def __init__(self, transport: DailyTransport, params: DailyParams) -> None:
        super().__init__(params)
        self._transport = transport

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        assert 16_000 == self.sample_rate
        await self._transport.join()

    async def cancel(self, frame: Any) -> None:
        await super().cancel(frame)
        self._transport.left = True


class _Output(BaseOutputTransport):
    def __init__(self, transport: DailyTransport, params: DailyParams) -> None:
        super().__init__(params)
        self._transport = transport

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        assert 16_000 == frame.sample_rate
        self._transport.said += frame.audio
        await asyncio.sleep(len(frame.audio) / 32_000)
        return True
