"""Running a handler on a call: whatever it does, the call ends, its record is complete, no other call notices."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from sip_agent.audio import CallAudio
from sip_agent.call import Call, ConversationHandler, Dialog
from sip_agent.errors import CallEnded, CallRejected, SipAgentError
from sip_agent.record import AudioRecord, CallRecord, milliseconds_between
from sip_agent.status import EndedBy, Outcome, SipStatus

log = structlog.get_logger()

MAX_UNANSWERED_S = 180.0
"""A call may stay unanswered for three minutes, as long as a proxy's timer C lets it (RFC 3261 §16.6)."""

HANDLER_GRACE_S = 5.0
"""What a handler gets to finish its work after the call is over, before it is cancelled."""

CANCEL_GRACE_S = 1.0
"""What a cancelled handler gets to clean up, before it is left behind."""

DRAIN_S = 10.0
"""What is queued when a handler returns is still sent: half a second of sound, 32 digits, not more."""

LONGEST_DURATION = "the longest duration of"
"""How the end reason of a call begins that was longer than it may be."""

_left_behind: set[asyncio.Task[None]] = set()
"""The event loop holds its tasks weakly: without this, one that is left behind could vanish in the middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the handler's end means for the record; `outcome` None leaves it to how the call ended."""

    outcome: Outcome | None = None
    error: str | None = None
    rejection: CallRejected | None = None


async def hold_conversation(
    build_handler: Callable[[], ConversationHandler], call: Call, dialog: Dialog, *, max_duration_s: float
) -> Verdict:
    """Run a handler until it returns, the call ends or a limit is reached; then see that both are over."""
    task = asyncio.create_task(_run(build_handler, call), name=f"handler {call.call_uuid}")
    limit = await _until_over(task, call, max_duration_s)
    if limit is not None:
        await _terminate(dialog, EndedBy.SYSTEM, SipStatus.SERVER_INTERNAL_ERROR, limit)
    if call.ended or limit is not None:
        await _finish(task)
    verdict = _judge(task, call, limit)
    if not call.ended:
        await _hang_up(call, dialog, verdict)
    return verdict


async def _run(build_handler: Callable[[], ConversationHandler], call: Call) -> None:
    """Build and run the handler; whatever it does wrong, also `sys.exit`, is an exception of its task."""
    try:
        await build_handler().handle(call)
    except SystemExit as error:
        raise RuntimeError("the handler called sys.exit()") from error


async def _until_over(task: asyncio.Task[None], call: Call, max_duration_s: float) -> str | None:
    """Wait for the handler or for the end of the call; return the limit that was reached, if one was."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    while True:
        if call.answered:
            left = max_duration_s - call.elapsed_ms() / 1000
            reached = f"{LONGEST_DURATION} {max_duration_s:g} s (admission.max_duration) was reached"
        else:
            left = MAX_UNANSWERED_S - (loop.time() - started)
            reached = f"the handler did not answer within {MAX_UNANSWERED_S:g} s"
        if left <= 0:
            return reached
        either: set[asyncio.Future[Any]] = {task, call.disconnected}
        done, _ = await asyncio.wait(
            either,
            timeout=min(left, max_duration_s),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if done:
            return None


async def _finish(task: asyncio.Task[None]) -> None:
    """Let the handler end by itself, then cancel it, then leave it behind."""
    await asyncio.wait({task}, timeout=HANDLER_GRACE_S)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_GRACE_S)


def _judge(task: asyncio.Task[None], call: Call, limit: str | None) -> Verdict:
    if not task.done():
        log.error("handler.left_behind", hint="it does not end when it is cancelled")
        _left_behind.add(task)
        task.add_done_callback(_left_behind.discard)
        return Verdict(outcome=_failed_unless(call.answered), error="the handler did not end when it was cancelled")
    error = None if task.cancelled() else task.exception()
    if limit is not None:
        return Verdict(outcome=_failed_unless(call.answered), error=None if call.answered else limit)
    if task.cancelled():
        if call.ended:
            return Verdict(error="the handler went on after the call was over, and was cancelled")
        return Verdict(outcome=Outcome.FAILED, error="the handler was cancelled from within")
    return _judge_return(call) if error is None else _judge_error(error, call)


def _failed_unless(answered: bool) -> Outcome | None:
    return None if answered else Outcome.FAILED


def _judge_return(call: Call) -> Verdict:
    if call.answered or call.ended:
        return Verdict()
    return Verdict(outcome=Outcome.FAILED, error="the handler returned without answering the call")


def _judge_error(error: BaseException, call: Call) -> Verdict:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if call.ended and _only_says_so(error):
        return Verdict()
    if isinstance(error, CallRejected) and not call.answered:
        return Verdict(outcome=Outcome.REJECTED, rejection=error)
    if isinstance(error, SipAgentError):
        text = str(error)
        log.error("handler.failed", error=text)
    else:
        text = f"{type(error).__name__}: {error}"
        log.error("handler.failed", exc_info=error)
    return Verdict(outcome=Outcome.FAILED, error=text)


def _only_says_so(error: BaseException) -> bool:
    """Tell whether an error, or each of a group's, says no more than that the call is over."""
    if isinstance(error, BaseExceptionGroup):
        return all(_only_says_so(part) for part in error.exceptions)
    return isinstance(error, CallEnded | CallRejected)


async def _hang_up(call: Call, dialog: Dialog, verdict: Verdict) -> None:
    """End a call whose handler is done: after what it still had to say, if it ended well."""
    if verdict.rejection is not None:
        refusal = verdict.rejection
        await _terminate(dialog, EndedBy.AGENT, refusal.status, refusal.reason or str(refusal), refusal.headers)
    elif verdict.outcome is Outcome.FAILED:
        await _terminate(dialog, EndedBy.SYSTEM, SipStatus.SERVER_INTERNAL_ERROR, "the handler failed")
    else:
        try:
            async with asyncio.timeout(DRAIN_S):
                await call.drained()
        except (TimeoutError, CallEnded):
            log.debug("call.not_drained")
        await _terminate(dialog, EndedBy.AGENT, None, "the handler returned")


async def _terminate(
    dialog: Dialog,
    ended_by: EndedBy,
    status: int | None,
    reason: str,
    headers: tuple[tuple[str, str], ...] = (),
) -> None:
    try:
        await dialog.terminate(ended_by, status, headers, reason)
    except SipAgentError as error:
        log.warning("call.terminate_failed", error=str(error))


def complete(record: CallRecord, call: Call, audio: CallAudio | None, verdict: Verdict) -> None:
    """Bring a record to its end: how the call ended, how long it was, how it sounded."""
    now = datetime.now(UTC)
    record.ended_at = now
    record.ended_by, record.end_reason = EndedBy.SYSTEM, "the BYE was not answered"
    status: int = SipStatus.OK if call.answered else SipStatus.SERVER_INTERNAL_ERROR
    if call.disconnected.done():
        ending = call.disconnected.result()
        record.ended_at = ending.at
        record.ended_by, record.end_reason = ending.ended_by, ending.reason
        record.q850_cause, record.rtp = ending.q850_cause, ending.rtp
        if not call.answered:
            status = ending.sip_status
    record.sip_status = int(status)
    record.talk_ms = milliseconds_between(record.answered_at, record.ended_at)
    record.error = verdict.error
    record.outcome = verdict.outcome or _outcome(call, status)
    if audio is not None:
        counters = audio.counters()
        record.audio = AudioRecord(late_frames=audio.late_frames(), underruns=counters.underruns)
        record.tx_first_audio_ms = _since_answer(record, audio.first_sent_at)
        if audio.first_heard_at is not None:
            record.rx_first_audio_ms = _since_answer(record, audio.first_heard_at)


def _since_answer(record: CallRecord, moment: datetime | None) -> int | None:
    elapsed_ms = milliseconds_between(record.answered_at, moment)
    return None if elapsed_ms is None else max(0, elapsed_ms)  # early media flows before the answer


def _outcome(call: Call, status: int) -> Outcome:
    if call.answered:
        return Outcome.ANSWERED
    if status == SipStatus.REQUEST_TERMINATED:
        return Outcome.CANCELLED
    refused = call.record.ended_by is not EndedBy.SYSTEM or status < SipStatus.SERVER_INTERNAL_ERROR
    return Outcome.REJECTED if refused else Outcome.FAILED
