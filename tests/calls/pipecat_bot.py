"""A bot as Pipecat's documentation has them: FastAPI, the runner's telephony handshake, a serializer, a pipeline.

`python -m tests.calls.pipecat_bot` serves it and prints its port. Its services are offline: it says back what it
hears, interrupts itself when the caller presses 1, and says goodbye and ends the pipeline when the caller presses 9.
Nothing in it knows that the carrier is not the provider; TWILIO_BASE_URL is the address that a Twilio bot changes.
"""

import asyncio
import os

import numpy as np
from fastapi import FastAPI, WebSocket
from pipecat.frames.frames import (
    EndWorkerFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    OutputAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import CallData
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

from tests.calls.asgi import serve

RATE_HZ = 8000
GOODBYE_HZ, STORY_HZ = 700, 900

application = FastAPI()


class Echo(FrameProcessor):
    """Says back what it hears; digits make it tell a story, interrupt it, or end."""

    def __init__(self) -> None:
        super().__init__()
        self._tells = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """See Pipecat's `FrameProcessor`."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            if not self._tells:
                await self.push_frame(
                    OutputAudioRawFrame(audio=frame.audio, sample_rate=frame.sample_rate, num_channels=1)
                )
        elif isinstance(frame, InputDTMFFrame):
            await self._react(frame.button.value)
        else:
            await self.push_frame(frame, direction)

    async def _react(self, digit: str) -> None:
        if digit == "5":
            self._tells = True
            await self._sing(STORY_HZ, 20)
        elif digit == "1":
            await self.broadcast_interruption()  # type: ignore[no-untyped-call]
        elif digit == "9":
            self._tells = True
            await self._sing(GOODBYE_HZ, 0.5)
            await self.push_frame(EndWorkerFrame(), FrameDirection.UPSTREAM)

    async def _sing(self, hz: float, seconds: float) -> None:
        times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
        samples = np.round(8000 * np.sin(2 * np.pi * hz * times)).astype(np.int16)
        await self.push_frame(OutputAudioRawFrame(audio=samples.tobytes(), sample_rate=RATE_HZ, num_channels=1))


@application.websocket("/ws")
async def hold_conversation(websocket: WebSocket) -> None:
    """Serve one call, as the runner of Pipecat does."""
    await websocket.accept()
    kind, call = await parse_telephony_websocket(websocket)
    print(f"{kind} {call.model_dump_json(by_alias=True)}", flush=True)  # noqa: T201  (the test reads it)
    transport = FastAPIWebsocketTransport(
        websocket=websocket,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            add_wav_header=False,
            serializer=_serializer(kind, call),
            audio_out_end_silence_secs=0,
        ),
    )
    pipeline = Pipeline([transport.input(), Echo(), transport.output()])
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ),
        enable_rtvi=False,
    )

    @transport.event_handler("on_client_disconnected")  # type: ignore[untyped-decorator]
    async def on_client_disconnected(_transport: object, _client: object) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


def _serializer(kind: str, call: CallData) -> FrameSerializer:
    if kind == "twilio":
        return TwilioFrameSerializer(
            stream_sid=call["stream_id"],
            call_sid=call["call_id"],
            account_sid=os.environ["TWILIO_ACCOUNT_SID"],
            auth_token=os.environ["TWILIO_AUTH_TOKEN"],
            base_url=os.environ["TWILIO_BASE_URL"],
        )
    if kind == "telnyx":
        return TelnyxFrameSerializer(
            stream_id=call["stream_id"],
            outbound_encoding=call["outbound_encoding"],
            inbound_encoding="PCMU",
            params=TelnyxFrameSerializer.InputParams(auto_hang_up=False),
        )
    return PlivoFrameSerializer(
        stream_id=call["stream_id"], params=PlivoFrameSerializer.InputParams(auto_hang_up=False)
    )


if __name__ == "__main__":
    asyncio.run(serve(application))
