"""The agent's place in a Daily room, through Pipecat's own transport (extra `pipecat-daily`).

Written against Pipecat 1.14 (`pipecat.transports.daily`).
"""

import asyncio
import importlib
from typing import Any

import structlog

from sip_agent.errors import SettingsError, UserAgentError
from sip_agent.pcm_call import SAMPLE_RATE_HZ
from sip_agent.rooms import RoomListener

try:
    importlib.import_module("sip_agent.pipecat")  # before Pipecat itself: it puts its log into ours
    from pipecat.frames.frames import Frame, InputAudioRawFrame, OutputAudioRawFrame, StartFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineParams, PipelineWorker
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
    from pipecat.transports.daily.transport import DailyParams, DailyTransport
    from pipecat.workers.runner import WorkerRunner
except Exception as error:  # Pipecat raises a bare Exception where a module of its extra is missing
    raise SettingsError(
        f"--join: Pipecat's transport for Daily cannot be loaded ({error}): pip install 'sip-agent[pipecat-daily]'"
    ) from error

log = structlog.get_logger()

UNSENT_FRAMES_MAX = 50
"""A second of sound for a transport that does not take it; then the oldest goes."""

AGENT_NAME = "sip-agent"


class DailyRoom:
    """One room, as a `Room`."""

    medium = "Daily"

    def __init__(self, room_url: str, token: str) -> None:
        self._room_url = room_url
        self._token = token
        self._bridge: _Bridge | None = None
        self._runner: WorkerRunner | None = None
        self._running: asyncio.Task[None] | None = None

    async def join(self, listener: RoomListener) -> None:
        """See `Room`."""
        params = DailyParams(audio_in_enabled=True, audio_out_enabled=True, camera_out_enabled=False)
        transport = DailyTransport(self._room_url, self._token, AGENT_NAME, params)
        joined: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def settle(problem: str) -> None:
            if not joined.done():
                joined.set_result(problem)

        async def on_joined(_transport: Any, _data: Any) -> None:
            settle("")

        async def on_error(_transport: Any, error: Any) -> None:
            settle(str(error) or "unknown error")
            listener.lost(f"Daily: {error}")

        async def on_guest_joined(_transport: Any, _participant: Any) -> None:
            listener.guest_joined()

        async def on_guest_left(_transport: Any, _participant: Any, _reason: Any) -> None:
            listener.guest_left()

        transport.add_event_handler("on_joined", on_joined)
        transport.add_event_handler("on_error", on_error)
        transport.add_event_handler("on_participant_joined", on_guest_joined)
        transport.add_event_handler("on_participant_left", on_guest_left)
        self._bridge = _Bridge(listener)
        worker = PipelineWorker(
            Pipeline([transport.input(), self._bridge, transport.output()]),
            params=PipelineParams(audio_in_sample_rate=SAMPLE_RATE_HZ, audio_out_sample_rate=SAMPLE_RATE_HZ),
            cancel_on_idle_timeout=False,
        )
        self._runner = WorkerRunner(handle_sigint=False)
        await self._runner.add_workers(worker)
        self._running = asyncio.create_task(self._runner.run(), name="daily room")
        self._running.add_done_callback(lambda _: settle("the pipeline ended"))
        if problem := await joined:
            raise UserAgentError("answer", f"the room at Daily cannot be joined: {problem}")

    def send(self, sound: bytes) -> None:
        """See `Room`."""
        if sound and self._bridge is not None:
            self._bridge.say(sound)

    async def leave(self) -> None:
        """See `Room`."""
        if self._runner is None or self._running is None:
            return
        await self._runner.cancel("the call is over")
        await self._running


class _Bridge(FrameProcessor):
    """Between the ends of the transport: hands on what is heard, and says what it is told to."""

    def __init__(self, listener: RoomListener) -> None:
        super().__init__()
        self._listener = listener
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue(UNSENT_FRAMES_MAX)
        self._speaking: asyncio.Task[None] | None = None

    def say(self, sound: bytes) -> None:
        """Queue 20 ms."""
        if self._unsent.full():
            self._unsent.get_nowait()
        self._unsent.put_nowait(sound)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """See `FrameProcessor`."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self._listener.heard(frame.audio)
            return
        if isinstance(frame, StartFrame) and self._speaking is None:
            self._speaking = self.create_task(self._speak())
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """Fall silent when the pipeline ends."""
        if self._speaking is not None:
            await self.cancel_task(self._speaking)
            self._speaking = None
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def _speak(self) -> None:
        while True:
            sound = await self._unsent.get()
            await self.push_frame(OutputAudioRawFrame(audio=sound, sample_rate=SAMPLE_RATE_HZ, num_channels=1))
