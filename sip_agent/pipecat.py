"""Pipecat pipelines on calls: a transport whose client is the caller (extra `pipecat`).

    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineWorker
    from sip_agent.pipecat import SipTransport

    class Bot:
        async def handle(self, call):
            await call.answer()
            transport = SipTransport(call)
            pipeline = Pipeline([transport.input(), stt, llm, tts, transport.output()])
            await transport.run(PipelineWorker(pipeline))

Written against Pipecat 1.14 (`pipecat.transports`).
"""

import asyncio
from typing import Any

import numpy as np
import structlog

from media.live_resample import LiveResampler
from sip_agent.call import Call
from sip_agent.errors import CallEnded, SipAgentError

try:
    from loguru import logger as _loguru
except ModuleNotFoundError as error:
    raise ImportError("sip_agent.pipecat needs Pipecat: pip install 'sip-agent[pipecat]'") from error

log = structlog.get_logger()


def _pass_on(message: Any) -> None:
    """Put an entry of Pipecat's log into ours."""
    entry = message.record
    log.log(entry["level"].no, "pipecat.log", message=entry["message"], source=entry["name"])


def _redirect_log() -> None:
    """Replace loguru's default sink, which writes to standard error and shows the values of variables.

    Sinks that the user has added stay.
    """
    try:
        _loguru.remove(0)
    except ValueError:
        return
    _loguru.add(_pass_on, level="WARNING", format="{message}", diagnose=False, backtrace=False, catch=False)


_redirect_log()  # before the import, which greets

try:
    from pipecat.audio.dtmf.types import KeypadEntry
    from pipecat.frames.frames import (
        BotStartedSpeakingFrame,
        BotStoppedSpeakingFrame,
        CancelFrame,
        ClientConnectedFrame,
        EndFrame,
        ErrorFrame,
        Frame,
        FunctionCallResultFrame,
        InputAudioRawFrame,
        InputDTMFFrame,
        InterruptionFrame,
        OutputAudioRawFrame,
        OutputDTMFFrame,
        OutputDTMFUrgentFrame,
        StartFrame,
        TranscriptionFrame,
        TTSTextFrame,
        UserStartedSpeakingFrame,
    )
    from pipecat.observers.base_observer import BaseObserver, FramePushed
    from pipecat.pipeline.worker import PipelineWorker
    from pipecat.processors.frame_processor import FrameDirection
    from pipecat.transports.base_input import BaseInputTransport
    from pipecat.transports.base_output import BaseOutputTransport
    from pipecat.transports.base_transport import BaseTransport, TransportParams
    from pipecat.workers.runner import WorkerRunner
except ModuleNotFoundError as error:
    raise ImportError("sip_agent.pipecat needs Pipecat 1.14 or later: pip install 'sip-agent[pipecat]'") from error

AHEAD_MS = 100
"""How far the pipeline may be ahead of the caller's ear: a stall of the event loop is not heard, and what Pipecat
believes to have been said is nearly what was."""

_KEYS = {entry.value: entry for entry in KeypadEntry}


class PipelineError(SipAgentError):
    """The pipeline did not start, or could not go on."""


class SipTransport(BaseTransport):
    """One call as a Pipecat transport: `input()` and `output()` are the ends of a pipeline, `run` runs it.

    Both directions are on unless `params` say otherwise. The caller's sound is resampled to the pipeline's rate, and
    the pipeline's to the call's; `params.audio_out_sample_rate` is always that of the call.

    Events: `on_client_connected(transport, call)` when the pipeline has started, `on_client_disconnected(transport,
    call)` when the caller has hung up.
    """

    def __init__(
        self,
        call: Call,
        params: TransportParams | None = None,
        *,
        input_name: str | None = None,
        output_name: str | None = None,
    ) -> None:
        super().__init__(input_name=input_name, output_name=output_name)
        self._call = call
        given = params or TransportParams(audio_in_enabled=True, audio_out_enabled=True)
        forced: dict[str, Any] = {"audio_out_sample_rate": call.sample_rate_hz, "audio_out_channels": 1}
        if "audio_out_end_silence_secs" not in given.model_fields_set:
            forced["audio_out_end_silence_secs"] = 0  # the end waits until all was sent
        self._params = given.model_copy(update=forced)
        self._input: SipInputTransport | None = None
        self._output: SipOutputTransport | None = None
        self._register_event_handler("on_client_connected")
        self._register_event_handler("on_client_disconnected")

    def input(self) -> "SipInputTransport":
        """Return the processor that hands the caller's sound and digits to the pipeline."""
        if self._input is None:
            self._input = SipInputTransport(self, self._call, self._params, name=self._input_name)
        return self._input

    def output(self) -> "SipOutputTransport":
        """Return the processor that sends the pipeline's sound and digits to the caller."""
        if self._output is None:
            self._output = SipOutputTransport(self._call, self._params, name=self._output_name)
        return self._output

    def get_client_id(self, client: Any) -> str:
        """Return the call's id; the call is the client."""
        del client
        return self._call.call_uuid

    async def connected(self) -> None:
        """Tell whoever listens that the caller is there."""
        await self._call_event_handler("on_client_connected", self._call)

    async def run(self, worker: PipelineWorker) -> None:
        """Run a pipeline until it ends, which hangs up, or the call does, which cancels it.

        Raises PipelineError if it cannot start, if a fatal error ends it, or if it ends with a processor that can no
        longer do its job. Any other error is noted as a stall, `pipeline_error: …`, until the pipeline is next heard.
        """
        call = self._call
        runner = WorkerRunner(handle_sigint=False)
        report = _Report(call, runner)
        worker.add_event_handler("on_pipeline_started", report.on_started)
        worker.add_event_handler("on_pipeline_finished", report.on_finished)
        worker.add_event_handler("on_pipeline_error", report.on_error)
        worker.add_observer(_Scribe(call, report))
        await runner.add_workers(worker)
        running = asyncio.create_task(runner.run(), name=f"pipeline {call.call_uuid}")
        try:
            either: set[asyncio.Future[Any]] = {running, call.disconnected}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            report.settle()
            if call.ended:
                await self._call_event_handler("on_client_disconnected", call)
            await runner.cancel("the call is over")
            await running
        if call.ended:
            return
        if report.problem or not report.started:
            raise PipelineError(f"the pipeline {'ended' if report.started else 'did not start'}: {report.problem}")
        await call.drained()
        await call.hangup(reason=report.reason)


class SipInputTransport(BaseInputTransport):
    """The caller's sound and digits, into a pipeline."""

    def __init__(self, transport: SipTransport, call: Call, params: TransportParams, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self._transport = transport
        self._call = call
        self._listening: list[asyncio.Task[None]] = []

    async def start(self, frame: StartFrame) -> None:
        """Begin to listen."""
        await super().start(frame)
        if not self._listening:
            resampler = LiveResampler(self._call.sample_rate_hz, self.sample_rate)
            await self.set_transport_ready(frame)
            self._listening = [self.create_task(self._hear(resampler)), self.create_task(self._take_digits())]
            await self._transport.connected()
            await self.push_frame(ClientConnectedFrame())

    async def stop(self, frame: EndFrame) -> None:
        """Stop listening."""
        await self._stop_listening()
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame) -> None:
        """Stop listening."""
        await self._stop_listening()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        """Stop listening, however the pipeline ended."""
        await self._stop_listening()
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._transport.cleanup()  # type: ignore[no-untyped-call]

    async def _stop_listening(self) -> None:
        while self._listening:
            await self.cancel_task(self._listening.pop())

    async def _hear(self, resampler: LiveResampler) -> None:
        async for frame in self._call.frames():
            sound = resampler.process(frame).tobytes()
            await self.push_audio_frame(InputAudioRawFrame(audio=sound, sample_rate=self.sample_rate, num_channels=1))

    async def _take_digits(self) -> None:
        async for digit in self._call.dtmf():
            if digit in _KEYS:
                await self.push_frame(InputDTMFFrame(button=_KEYS[digit]))
            else:
                self._call.log.info("pipecat.digit_unknown", digit=digit)


class SipOutputTransport(BaseOutputTransport):
    """What a pipeline says, to the caller."""

    def __init__(self, call: Call, params: TransportParams, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self._call = call
        self._kept_until_ms = 0
        self._began_ms = 0
        self._text = ""

    async def start(self, frame: StartFrame) -> None:
        """Begin to speak."""
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def stop(self, frame: EndFrame) -> None:
        """Stop, once all has been sent."""
        await super().stop(frame)
        await self._sent()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Fall silent at once when the pipeline is interrupted; the rest is Pipecat's."""
        interrupted = isinstance(frame, InterruptionFrame)
        if interrupted:
            self._fall_silent()
        await super().process_frame(frame, direction)
        if interrupted:
            self._fall_silent()  # the sound that was written before Pipecat emptied its own queue

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        """Let the record and the pipeline know what was heard when it was heard, not when it was queued."""
        if isinstance(frame, BotStoppedSpeakingFrame):
            await self._sent()
        if direction is FrameDirection.DOWNSTREAM:
            self._write_down(frame)
        await super().push_frame(frame, direction)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Queue sound, and wait until the queue is short again."""
        call = self._call
        try:
            await call.send(np.frombuffer(frame.audio, np.int16))
            queued_until_ms = call.sent_ms + call.queued_ms
            if not frame.interruptible:
                self._kept_until_ms = queued_until_ms
            await call.until_sent(queued_until_ms - AHEAD_MS)
        except CallEnded:
            return False
        return True

    def _supports_native_dtmf(self) -> bool:
        return True

    async def _write_dtmf_native(self, frame: OutputDTMFFrame | OutputDTMFUrgentFrame) -> None:
        await self._call.send_dtmf("".join(frame.buttons or ()))

    def _fall_silent(self) -> None:
        """Drop what is queued, unless it is not to be interrupted."""
        if not self._call.ended and self._call.sent_ms >= self._kept_until_ms:
            self._call.stop_playback()

    def _write_down(self, frame: Frame) -> None:
        if isinstance(frame, BotStartedSpeakingFrame):
            self._began_ms = self._call.elapsed_ms()
        elif isinstance(frame, TTSTextFrame):
            self._text += frame.text if frame.includes_inter_frame_spaces else f" {frame.text}"
        elif isinstance(frame, BotStoppedSpeakingFrame | EndFrame | CancelFrame) and self._text.strip():
            self._call.transcript.add("agent", self._text.strip(), at_ms=self._began_ms)
            self._text = ""

    async def _sent(self) -> None:
        try:
            await self._call.drained()
        except CallEnded:
            self._call.log.debug("pipecat.not_all_sent")


class _Scribe(BaseObserver):
    """Puts what the caller said, and the tools that were used, on record; tells the report when the bot is heard."""

    def __init__(self, call: Call, report: "_Report") -> None:
        super().__init__(observe_every_push=False)
        self._call = call
        self._report = report
        self._began_ms: int | None = None

    async def on_push_frame(self, data: FramePushed) -> None:
        """See `BaseObserver`."""
        frame = data.frame
        if data.direction is not FrameDirection.DOWNSTREAM:
            return
        if isinstance(frame, BotStartedSpeakingFrame):
            self._report.settle()
        elif isinstance(frame, UserStartedSpeakingFrame):
            self._began_ms = self._call.elapsed_ms()
        elif isinstance(frame, TranscriptionFrame):
            self._call.transcript.add("caller", frame.text.strip(), at_ms=self._began_ms)
            self._began_ms = None
        elif isinstance(frame, FunctionCallResultFrame):
            self._call.tool_call(frame.function_name, dict(frame.arguments or {}), frame.result)


class _Report:
    """How a pipeline fares: whether it started, what broke it, and why it ended."""

    def __init__(self, call: Call, runner: WorkerRunner) -> None:
        self.started = False
        self.problem = ""
        self.reason = "the pipeline ended"
        self._call = call
        self._runner = runner
        self._error = ""
        self._failing_since_ms: int | None = None

    async def on_started(self, _worker: PipelineWorker, _frame: Frame) -> None:
        """Take note of the start."""
        self.started = True

    async def on_error(self, _worker: PipelineWorker, frame: ErrorFrame) -> None:
        """Note an error; with a processor that cannot do its job from the start, there is nothing to wait for."""
        self._call.log.warning("pipecat.error", error=frame.error, processor=str(frame.processor))
        fatal = getattr(frame, "fatal", False)  # Pipecat 2.0 is to have none
        if not fatal and self._failing_since_ms is None:
            self._error, self._failing_since_ms = frame.error, self._call.elapsed_ms()
        if fatal or (frame.processor is not None and not frame.processor.is_usable):
            self.problem = self.problem or frame.error
            if not self.started:
                await self._runner.cancel(frame.error)

    def settle(self) -> None:
        """Note how long the first error kept the caller waiting: the bot is heard, or there is no more to wait for."""
        if self._failing_since_ms is not None:
            self._call.note_stall(f"pipeline_error: {self._error}", self._failing_since_ms, self._call.elapsed_ms())
            self._failing_since_ms = None

    async def on_finished(self, _worker: PipelineWorker, frame: Frame) -> None:
        """Take note of the end."""
        if isinstance(frame, EndFrame | CancelFrame) and frame.reason:
            self.reason = f"the pipeline ended: {frame.reason}"
