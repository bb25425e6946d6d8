"""Calls that go wrong on purpose: what stands between a `Call` and its dialog when a route has `faults`.

The handler notices no more of them than of a real one. Faults of packets and noise are the engine's
(`LineFaults`); these are the ones of signalling, time and silence.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

import structlog

from media.frames import FRAME_MS, samples_per_frame
from sip_agent.audio import CallAudio
from sip_agent.config import FaultSettings, RouteSettings
from sip_agent.dialog import Dialog
from sip_agent.digits import DtmfMethod
from sip_agent.errors import CallEnded, CallRejected, SettingsError, SipAgentError
from sip_agent.events import CallDisconnected, CallEvent, Responded
from sip_agent.invite import ROOMS, WEBSOCKET
from sip_agent.status import EndedBy, SipStatus

log = structlog.get_logger()

NATIVE_FAULTS = (
    *("vanish_after", "one_way", "noise_dbov", "wrong_codec"),
    *("loss_percent", "jitter_ms", "reorder_percent", "duplicate_percent"),
)
"""What only our own engine can do: it is done to packets, in native code."""


def spoil(dialog: Dialog, faults: FaultSettings) -> Dialog:
    """Return `dialog` with the faults of its route; itself, if there are none."""
    if not faults.named:
        return dialog
    log.warning("call.spoilt", faults=list(faults.named))
    return SpoiltDialog(dialog, faults)


def refuse_native_faults(routes: Sequence[RouteSettings]) -> None:
    """Raise SettingsError for the first fault that the light engine cannot bring about."""
    for index, route in enumerate(routes):
        for fault in route.faults.named:
            name = fault.partition("=")[0]
            if name in NATIVE_FAULTS:
                raise SettingsError(
                    f"routes[{index}].faults.{name}: the light engine cannot do that: "
                    "`make setup` builds the native one; or take this fault out"
                )


def refuse_without_sip(faults: FaultSettings, transport: str) -> None:
    """Raise CallRejected for the first fault that a call by WebSocket or in a room has no packets for."""
    if transport != WEBSOCKET and transport not in ROOMS:
        return
    for fault in faults.named:
        name = fault.partition("=")[0]
        if name in NATIVE_FAULTS:
            raise CallRejected(SipStatus.NOT_ACCEPTABLE_HERE, f"fault: {name} needs a call by SIP, not {transport}")


def brought_about(faults: Sequence[str], codec: str | None) -> list[str]:
    """Return those of the named faults that a call with this codec had: its own label is no wrong one."""
    return [fault for fault in faults if fault != f"wrong_codec={codec}"]


class SpoiltDialog:
    """A `Dialog` that refuses, rings, answers late, falls silent or ends as its faults say."""

    def __init__(self, dialog: Dialog, faults: FaultSettings) -> None:
        self._dialog = dialog
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self._answered_at: float | None = None
        self._rung = self._rung_out = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._endings: set[asyncio.Task[None]] = set()

    @property
    def audio(self) -> CallAudio | None:
        """See `Dialog`."""
        return self._dialog.audio

    def listen(
        self, listener: Callable[[CallEvent], None], on_audio: Callable[[CallAudio], None] | None = None
    ) -> None:
        """See `Dialog`."""

        def note(event: CallEvent) -> None:
            if isinstance(event, Responded) and event.status == SipStatus.OK and self._answered_at is None:
                self._on_answer()
            elif isinstance(event, CallDisconnected):
                self._on_end()
            listener(event)

        def open_audio(audio: CallAudio) -> None:
            if self._faults.silence_after is not None or self._faults.hang_up_mid_sentence is not None:
                audio.alter_sent(lambda frames, queued: self._alter(audio, frames, queued))
            if on_audio is not None:
                on_audio(audio)

        self._dialog.listen(note, open_audio)

    async def respond(self, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False) -> None:
        """See `Dialog`; raises CallRejected for a call that is to be refused."""
        if (refusal := await self._refusal()) is not None:
            raise refusal
        if status == SipStatus.OK and self._faults.answer_after:
            await self._ring(self._faults.answer_after)
        self._rung = self._rung or status == SipStatus.RINGING
        await self._dialog.respond(status, headers, early_media=early_media)

    async def terminate(
        self,
        ended_by: EndedBy,
        status: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
        reason: str = "",
    ) -> None:
        """See `Dialog`; a call that is to be refused is, whatever its handler makes of it."""
        try:
            refusal = await self._refusal()
        except CallEnded:
            return
        if refusal is None:
            await self._dialog.terminate(ended_by, status, headers, reason)
        else:
            await self._dialog.terminate(EndedBy.AGENT, refusal.status, (), refusal.reason)

    async def vanish(self, reason: str) -> None:
        """See `Dialog`."""
        await self._dialog.vanish(reason)

    async def refer(self, uri: str) -> None:
        """See `Dialog`."""
        await self._dialog.refer(uri)

    async def send_dtmf(self, digits: str, method: str = DtmfMethod.RFC4733) -> None:
        """See `Dialog`."""
        await self._dialog.send_dtmf(digits, method)

    async def _refusal(self) -> CallRejected | None:
        """Return how the call is refused, once it has rung as long as it is to; None if it is not to be."""
        faults = self._faults
        if faults.refuse is not None:
            return CallRejected(faults.refuse, f"fault: refuse={faults.refuse}")
        if faults.ring_only is None:
            return None
        if not self._rung_out:
            await self._ring(faults.ring_only)
            self._rung_out = True
        return CallRejected(SipStatus.TEMPORARILY_UNAVAILABLE, "fault: ring_only")

    async def _ring(self, duration: timedelta) -> None:
        if not self._rung:
            self._rung = True
            await self._dialog.respond(SipStatus.RINGING)
        await asyncio.wait([self._over], timeout=duration.total_seconds())
        if self._over.done():
            raise CallEnded("the caller gave up while it rang")

    def _on_answer(self) -> None:
        self._answered_at = self._loop.time()
        if (after := self._faults.hang_up_after) is not None:
            self._later("hang_up_after", after.total_seconds(), self._hang_up)
        if (after := self._faults.vanish_after) is not None:
            self._later("vanish_after", after.total_seconds(), self._dialog.vanish)

    def _on_end(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        if not self._over.done():
            self._over.set_result(None)

    def _later(self, fault: str, delay_s: float, end: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        self._timers[fault] = self._loop.call_later(delay_s, self._end, fault, end)

    def _end(self, fault: str, end: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(self._end_by(fault, end))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _end_by(self, fault: str, end: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        try:
            await end(f"fault: {fault}")
        except SipAgentError as error:
            log.debug("call.fault_came_late", fault=fault, error=str(error))

    async def _hang_up(self, reason: str) -> None:
        await self._dialog.terminate(EndedBy.AGENT, None, (), reason)

    def _alter(self, audio: CallAudio, frames: bytes, queued: int) -> bytes:
        if self._faults.hang_up_mid_sentence is not None and "hang_up_mid_sentence" not in self._timers:
            self._watch_speech(audio, self._faults.hang_up_mid_sentence)
        return self._silence(frames, queued, 2 * samples_per_frame(audio.sample_rate_hz))

    def _watch_speech(self, audio: CallAudio, target: timedelta) -> None:
        """Hang up when so much sound has been sent, and look again when it may have been."""
        left_s = target.total_seconds() - audio.sent_ms / 1000
        if left_s > 0:
            timer = self._loop.call_later(max(left_s, FRAME_MS / 1000), self._watch_speech, audio, target)
            self._timers["hang_up_mid_sentence"] = timer
        else:
            self._end("hang_up_mid_sentence", self._hang_up)

    def _silence(self, frames: bytes, queued: int, frame_bytes: int) -> bytes:
        """Blank what will be sent after the time of `silence_after`."""
        after = self._faults.silence_after
        if after is None or self._answered_at is None:
            return frames
        left_s = self._answered_at + after.total_seconds() - self._loop.time()
        audible = max(0, round(left_s * 1000 / FRAME_MS) - queued) * frame_bytes
        return frames[:audible] + bytes(max(0, len(frames) - audible))
