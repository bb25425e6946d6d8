"""Running a handler on a call: whatever it does, the call ends, and no other call notices."""

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog

from sip_agent.call import Call, ConversationHandler, Dialog
from sip_agent.errors import CallEnded, CallRejected, SipAgentError
from sip_agent.status import EndedBy, Outcome, SipStatus

log = structlog.get_logger()

MAX_UNANSWERED_S = 180.0
"""A call may stay unanswered for three minutes, as long as a proxy's timer C lets it (RFC 3261 §16.6)."""

HANDLER_GRACE_S = 5.0
"""What a handler gets to finish its work after the call is over, before it is cancelled."""

CANCEL_GRACE_S = 1.0
"""What a cancelled handler gets to clean up, before it is left behind."""

DRAIN_S = 2.0
"""What is queued when a handler returns is still sent; more than this cannot be queued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the handler's end means for the record; `outcome` None leaves it to how the call ended."""

    outcome: Outcome | None = None
    status: int | None = None
    error: str | None = None


async def hold_conversation(
    handler: ConversationHandler, call: Call, dialog: Dialog, *, max_duration_s: float
) -> Verdict:
    """Run the handler until it returns, the call ends or a limit is reached; then see that both are over."""
    task = asyncio.create_task(handler.handle(call), name=f"handler {call.call_uuid}")
    limit = await _until_over(task, call, max_duration_s)
    if limit is not None:
        await _terminate(dialog, EndedBy.SYSTEM, SipStatus.SERVER_INTERNAL_ERROR, limit)
    if call.ended or limit is not None:
        await _finish(task)
    verdict = _judge(task, call, limit)
    if not call.ended:
        await _hang_up(call, dialog, verdict, task)
    return verdict


async def _until_over(task: asyncio.Task[None], call: Call, max_duration_s: float) -> str | None:
    """Wait for the handler or for the end of the call; return the limit that was reached, if one was."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    while True:
        if call.answered:
            left = max_duration_s - call.elapsed_ms() / 1000
            reached = f"the longest duration of {max_duration_s:g} s (admission.max_duration) was reached"
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


def _judge(task: asyncio.Task[None], call: Call, limit: str | None) -> Verdict:  # noqa: PLR0911  (one case each)
    if limit is not None and not call.answered:
        return Verdict(outcome=Outcome.FAILED, error=limit)
    if not task.done():
        log.error("handler.left_behind", hint="it does not end when it is cancelled")
        return Verdict(error="the handler did not end when it was cancelled")
    if task.cancelled():
        return Verdict(error=None if limit else "the handler went on after the call was over, and was cancelled")
    error = task.exception()
    if error is None:
        if call.answered or call.ended:
            return Verdict()
        return Verdict(outcome=Outcome.FAILED, error="the handler returned without answering the call")
    if isinstance(error, CallRejected) and not call.answered:
        return Verdict(outcome=Outcome.REJECTED, status=error.status, error=None)
    if isinstance(error, CallEnded) and call.ended:
        return Verdict()
    log.error("handler.failed", exc_info=error)
    text = str(error) if isinstance(error, SipAgentError) else f"{type(error).__name__}: {error}"
    return Verdict(outcome=Outcome.FAILED, error=text)


async def _hang_up(call: Call, dialog: Dialog, verdict: Verdict, task: asyncio.Task[None]) -> None:
    """End a call whose handler is done: after what it still had to say, if it ended well."""
    if verdict.outcome is Outcome.REJECTED:
        rejection = task.exception()
        headers = rejection.headers if isinstance(rejection, CallRejected) else ()
        await _terminate(dialog, EndedBy.AGENT, verdict.status, str(rejection), headers)
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
