"""Placing a call: the other end of the wire, on the same engine, the same `Call` and the same record."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from media.frames import samples_per_frame
from media.tones import ToneGenerator
from sip_agent.analyst import TurnAnalyst
from sip_agent.audio import CallAudio
from sip_agent.call import BargeIn, Call, Dialog
from sip_agent.conversation import complete, hold_conversation
from sip_agent.headers import PROFILES, Headers, correlate
from sip_agent.hearing import Hearing
from sip_agent.outgoing import Answered, Outgoing
from sip_agent.record import CallRecord
from sip_agent.recording import Recording, RecordingWriter
from sip_agent.script import LoadedScript, ScriptRun
from sip_agent.speaking import SpeechServices
from sip_agent.ua.endpoint import Caller, Endpoint

DTMF_PAUSE_S = 0.3
"""Digits start this long after the answer, when the far end listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """What to call and what to do once it is answered; `duration_s` counts from the answer."""

    uri: str
    caller: Caller = field(default_factory=Caller)
    account: str | None = None
    headers: Sequence[tuple[str, str]] = ()
    play: Path | None = None
    say: str = ""
    tone_hz: float | None = None
    dtmf: str = ""
    duration_s: float | None = None
    ring_timeout_s: float = 60.0
    record: Path | None = None
    script: LoadedScript | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """What came of it: the record of our side, and every status received for the INVITE, in order."""

    record: CallRecord
    statuses: Sequence[int]


class CallerHandler:
    """Speak as the request says, then hang up; with nothing to say and no duration, until the peer does."""

    def __init__(self, request: CallRequest) -> None:
        self._request = request

    async def handle(self, call: Call) -> None:
        """Wait for the answer, then speak."""
        await call.answer()
        if self._request.script is not None:
            await ScriptRun(self._request.script, call).run()
        else:
            await self._follow_request(call)

    async def _follow_request(self, call: Call) -> None:
        request = self._request
        speech = asyncio.create_task(self._speak(call))
        try:
            if request.duration_s is None and (request.play or request.say or request.dtmf) and not request.tone_hz:
                either: set[asyncio.Future[Any]] = {speech, call.disconnected}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.wait({call.disconnected}, timeout=request.duration_s)
        finally:
            speech.cancel()
            await asyncio.wait({speech})
        if not speech.cancelled():
            speech.result()
        if not call.ended:
            call.stop_playback()

    async def _speak(self, call: Call) -> None:
        request = self._request
        if request.dtmf:
            await asyncio.sleep(DTMF_PAUSE_S)
            await call.send_dtmf(request.dtmf)
            await asyncio.sleep(DTMF_PAUSE_S * len(request.dtmf))
        if request.play is not None:
            await call.play(request.play)
        if request.say:
            await call.say(request.say, barge_in=BargeIn.IGNORE)
        if request.tone_hz is not None:
            tone = ToneGenerator(request.tone_hz, call.sample_rate_hz)
            while True:
                await call.send(tone.next(samples_per_frame(call.sample_rate_hz)))


async def place_call(
    endpoint: Endpoint,
    request: CallRequest,
    speech: SpeechServices | None = None,
    hearing: Hearing | None = None,
    *,
    on_call: Callable[[Call], None] = lambda _: None,
    analyst: TurnAnalyst | None = None,
) -> CallResult:
    """Place one call and see it through; raises MessageError or UserAgentError if the URI is not usable.

    `speech` says what the request has to say; a script also needs `hearing`. `on_call` is given the call as soon as
    its INVITE is under way; `analyst` measures its turns, where a process for each call would be too much.
    """
    outgoing = Outgoing(
        uri=request.uri,
        caller=request.caller,
        headers=request.headers,
        account=request.account,
        ids=correlate(Headers.from_pairs(request.headers), PROFILES["cekura"]),
    )
    invite = outgoing.invite(datetime.now(UTC))
    record = outgoing.record(invite)
    record.handler = "call"
    with TemporaryDirectory(prefix="sip-agent-") as folder:
        # Recorded also when nobody asks for it: turns and metrics are measured there.
        path = request.record or Path(folder) / "call.wav"
        recordings = RecordingWriter(path.parent, endpoint.sample_rate_hz)
        try:
            dialog = await endpoint.place_call(request.uri, request.caller, request.headers)
            call = Call(
                invite=invite,
                dialog=dialog,
                record=record,
                ids=outgoing.ids,
                sample_rate_hz=endpoint.sample_rate_hz,
                hearing=hearing,
                speech=speech,
            )
            on_call(call)
            await _converse(request, call, dialog, partial(recordings.open_file, path))
        finally:
            await recordings.stop()
        await _measure(record, analyst)
    if request.record is None:
        record.recording = None
    record.call_id = dialog.call_id
    record.messages = endpoint.messages(dialog.call_id)
    return CallResult(record=record, statuses=tuple(call.statuses))


async def _converse(
    request: CallRequest, call: Call, dialog: Dialog, open_recording: Callable[[CallAudio], Recording]
) -> None:
    """Hold the conversation, recorded, and complete its record."""
    recording: Recording | None = None

    def on_audio(audio: CallAudio) -> None:
        nonlocal recording
        recording = open_recording(audio)

    dialog.listen(call.note, on_audio)
    duration = request.duration_s if request.duration_s is not None else 86_400
    build = partial(Answered, partial(CallerHandler, request), request.ring_timeout_s)
    verdict = await hold_conversation(build, call, dialog, max_duration_s=duration + 10)
    if recording is not None:
        call.record.recording = await recording.close()
    complete(call.record, call, dialog.audio, verdict)


async def _measure(record: CallRecord, analyst: TurnAnalyst | None) -> None:
    if analyst is not None:
        await analyst.analyse(record)
        return
    own = TurnAnalyst()
    await own.analyse(record)
    await own.stop()
