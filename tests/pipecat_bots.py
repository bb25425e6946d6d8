"""Bots made of Pipecat pipelines with offline processors, for the tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    EndWorkerFrame,
    Frame,
    FunctionCallResultFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    OutputDTMFFrame,
    OutputTransportReadyFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from media.tones import ToneGenerator
from sip_agent.call import Call
from sip_agent.pipecat import SipTransport

TTS_RATE_HZ = 24_000
WORDS = ("one", "two", "three", "four", "five")


class Echo(FrameProcessor):
    """Says back what it hears."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Turn input into output."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            sound = TTSAudioRawFrame(frame.audio, sample_rate=frame.sample_rate, num_channels=1)
            await self.push_frame(sound)
        else:
            await self.push_frame(frame, direction)


class Talker(FrameProcessor):
    """Speaks five words of a second each, as a speech service would, and does what digits say.

    1 interrupts, 2 sends the digits 4 and 2, 3 recognises a sentence and uses a tool, 4 raises, 5 speaks again,
    6 is a fatal error, 9 ends.
    """

    def __init__(self, *, interruptible: bool = True) -> None:
        super().__init__()
        self._interruptible = interruptible

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Speak when the transport is ready; obey digits."""
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputTransportReadyFrame):
            await self.say()
        if isinstance(frame, InputDTMFFrame):
            await self.obey(frame.button)
        else:
            await self.push_frame(frame, direction)

    async def say(self) -> None:
        """Say five words, all at once."""
        await self.push_frame(TTSStartedFrame())
        tone = ToneGenerator(500, TTS_RATE_HZ)
        for word in WORDS:
            for _ in range(5):
                sound = tone.next(TTS_RATE_HZ // 5).tobytes()
                frame = TTSAudioRawFrame(sound, sample_rate=TTS_RATE_HZ, num_channels=1)
                frame.interruptible = self._interruptible
                await self.push_frame(frame)
            await self.push_frame(TTSTextFrame(word, text_type="word"))
        await self.push_frame(TTSStoppedFrame())

    async def obey(self, button: KeypadEntry) -> None:
        """Do what a digit says."""
        match button:
            case KeypadEntry.ONE:
                await self.broadcast_interruption()  # type: ignore[no-untyped-call]
            case KeypadEntry.TWO:
                await self.push_frame(OutputDTMFFrame(buttons=[KeypadEntry.FOUR, KeypadEntry.TWO]))
            case KeypadEntry.THREE:
                await self.push_frame(TranscriptionFrame("A table for two.", user_id="", timestamp=""))
                result = FunctionCallResultFrame(
                    function_name="find_table", tool_call_id="1", arguments={"guests": 2}, result={"table": 7}
                )
                await self.push_frame(result)
            case KeypadEntry.FOUR:
                raise RuntimeError("the model is away")
            case KeypadEntry.FIVE:
                await self.say()
            case KeypadEntry.SIX:
                await self.push_error("no money is left", fatal=True)
            case KeypadEntry.NINE:
                await self.push_frame(EndWorkerFrame(reason="goodbye"), FrameDirection.UPSTREAM)


class Refusing(FrameProcessor):
    """Cannot be set up."""

    async def setup(self, setup: Any) -> None:
        """Fail."""
        del setup
        raise RuntimeError("no model was loaded")


class PipelineBot:
    """Answers and runs a pipeline of processors; `events` are those of the transport."""

    def __init__(self, *processors: FrameProcessor, params: PipelineParams | None = None) -> None:
        self.events: list[str] = []
        self._processors: Sequence[FrameProcessor] = processors
        self._params = params

    async def handle(self, call: Call) -> None:
        """Hold one conversation."""
        await call.answer()
        transport = SipTransport(call)

        transport.add_event_handler("on_client_connected", self._on_connected)
        transport.add_event_handler("on_client_disconnected", self._on_disconnected)
        pipeline = Pipeline([transport.input(), *self._processors, transport.output()])
        await transport.run(PipelineWorker(pipeline, params=self._params))

    async def _on_connected(self, _transport: SipTransport, client: Call) -> None:
        self.events.append(f"connected {client.call_uuid}")

    async def _on_disconnected(self, _transport: SipTransport, client: Call) -> None:
        self.events.append(f"disconnected {client.call_uuid}")


class EchoBot(PipelineBot):
    """An echo through Pipecat."""

    def __init__(self) -> None:
        super().__init__(Echo())


class TalkerBot(PipelineBot):
    """A talker that obeys digits."""

    def __init__(self) -> None:
        super().__init__(Talker())


def loud(samples: np.ndarray) -> np.ndarray:
    """Return, for each 20 ms at 16 kHz, whether something is to be heard."""
    return np.asarray(np.max(np.abs(samples.reshape(-1, 320)), axis=1) > 100)
