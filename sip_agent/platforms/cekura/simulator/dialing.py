"""The life of the runs: announced, queued, called, evaluated.

`pending` until the pre-run webhook is answered, `in_queue` until there is room for another call (the organisation's
limit, the request's `concurrency_limit`, so many calls a second), `in_progress` from the INVITE on, `evaluating` when
the call is over, then `completed`; or `failed` when the agent did not answer, `timeout` when the call took too long,
`cancelled` when somebody asked for it. Which status goes with which event is our own choice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from sip_agent.caller import CallRequest, CallResult
from sip_agent.errors import SipAgentError
from sip_agent.platforms.cekura.simulator.evaluation import evaluate, refusal
from sip_agent.platforms.cekura.simulator.runs import EndReason, Result, Run, RunStatus
from sip_agent.platforms.cekura.simulator.telephone import LiveCall, Telephone, as_testing_agent
from sip_agent.platforms.cekura.simulator.world import Setup
from sip_agent.platforms.http import Clock
from sip_agent.record import CallRecord
from sip_agent.status import EndedBy

log = structlog.get_logger()

STOP_S = 5.0
"""What calls that were ended get to be judged when the stand-in stops."""

_REASONS = {
    486: EndReason.BUSY,
    600: EndReason.BUSY,
    408: EndReason.DID_NOT_ANSWER,
    480: EndReason.DID_NOT_ANSWER,
    487: EndReason.DID_NOT_ANSWER,
    403: EndReason.REJECTED,
    603: EndReason.REJECTED,
}
"""Cekura does not say which SIP status it calls what: our own choice."""


class Dialer:
    """Places the calls of results; `announce` is awaited before the first call of each, `report` after its last."""

    def __init__(
        self,
        setup: Setup,
        telephone: Telephone,
        recordings: Path,
        *,
        announce: Callable[[Result], Awaitable[None]],
        report: Callable[[Result], Awaitable[None]],
    ) -> None:
        self._setup = setup
        self._telephone = telephone
        self._recordings = recordings
        self._announce = announce
        self._report = report
        self._slots = asyncio.Semaphore(setup.world.concurrency_limit)
        self._pace = Pace(setup.world.calls_per_second)
        self._calls: dict[Run, LiveCall] = {}
        self._going_on: set[Result] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, result: Result) -> None:
        """Begin the calls of a result."""
        self._begin(self._play(result), f"result {result.id}")

    async def end_call(self, run: Run) -> None:
        """End a run's call, or never place it."""
        if run.status in {RunStatus.PENDING, RunStatus.IN_QUEUE}:
            self._finish(run, RunStatus.CANCELLED, EndReason.CANCELLED)
        elif run.status is RunStatus.IN_PROGRESS and run.end_reason is None:
            await self._hang_up(run, EndReason.CANCELLED)

    async def stop(self) -> None:
        """End what goes on, as `end_call` does; what is not over then is cut off."""
        await asyncio.gather(*(self.end_call(run) for result in self._going_on for run in result.runs))
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_S)
            for task in late:
                task.cancel()

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, result: Result) -> None:
        self._going_on.add(result)
        await self._announce(result)
        for run in result.having(RunStatus.PENDING):
            self._move(run, RunStatus.IN_QUEUE)
        limit = asyncio.Semaphore(result.concurrency_limit or len(result.runs))
        async with asyncio.TaskGroup() as calls:
            for run in result.runs:
                calls.create_task(self._wait_and_call(run, limit))
        self._going_on.discard(result)
        await self._report(result)

    async def _wait_and_call(self, run: Run, limit: asyncio.Semaphore) -> None:
        async with AsyncExitStack() as room:
            for slots in (limit, self._slots):
                await room.enter_async_context(slots)
            if run.status is RunStatus.IN_QUEUE:
                await self._pace.wait()
            if run.status is RunStatus.IN_QUEUE:
                await self._call(run)

    async def _call(self, run: Run) -> None:
        """Place the call of a run and judge it; whatever goes wrong, the run is over afterwards."""
        run.executed_at = datetime.now(UTC)
        self._move(run, RunStatus.IN_PROGRESS)
        call = asyncio.create_task(self._telephone.call(self._request(run), lambda live: self._note_call(run, live)))
        try:
            patience_s = run.scenario.testing_agent.max_duration.total_seconds()
            await asyncio.wait({call}, timeout=patience_s)
            if not call.done() and run.status is RunStatus.IN_PROGRESS:
                await self._hang_up(run, EndReason.MAX_DURATION)
            self._judge(run, await call)
        except SipAgentError as error:
            run.error_message = str(error)
            self._finish(run, RunStatus.FAILED, EndReason.PIPELINE_ERROR)
        except Exception:
            log.exception("stand_in.call_failed", run_id=run.id)
            run.error_message = "the stand-in failed; its log says how"
            self._finish(run, RunStatus.FAILED, EndReason.PIPELINE_ERROR)
        finally:
            call.cancel()
            self._calls.pop(run, None)

    def _note_call(self, run: Run, call: LiveCall) -> None:
        self._calls[run] = call
        call.disconnected.add_done_callback(lambda _: self._move(run, RunStatus.EVALUATING))
        if run.end_reason is not None:  # somebody was quicker than the INVITE
            self._begin(self._hang_up(run, run.end_reason), f"end run {run.id}")

    async def _hang_up(self, run: Run, reason: EndReason) -> None:
        run.end_reason = reason
        if (call := self._calls.get(run)) is not None:
            with suppress(SipAgentError):  # it is over by now
                await call.hangup(reason=reason.value)

    def _request(self, run: Run) -> CallRequest:
        tester = run.scenario.testing_agent
        own = (("X-Run-Id", run.id), ("X-Scenario-Id", run.scenario.id), ("X-Result-Id", run.result.id))
        return CallRequest(
            uri=run.sip_endpoint,
            caller=as_testing_agent(run.result.agent.sip_auth),
            headers=(
                *((name, str(number)) for name, number in own),
                *(run.test_profile.headers if run.test_profile else ()),
            ),
            play=None if tester.audio is None else self._setup.folder / tester.audio,
            duration_s=None if tester.stay is None else tester.stay.total_seconds(),
            ring_timeout_s=tester.ring_timeout.total_seconds(),
            record=self._recordings / f"{run.id}.wav",
            script=self._setup.script(run.scenario, run.test_profile),
        )

    def _judge(self, run: Run, result: CallResult) -> None:
        record = run.record = result.record
        if record.recording is not None and record.recording["state"] == "ok":
            run.recording = Path(record.recording["path"])
        if run.end_reason is EndReason.CANCELLED:
            self._finish(run, RunStatus.CANCELLED, EndReason.CANCELLED)
        elif run.end_reason is EndReason.MAX_DURATION:
            run.error_message = (
                f"the call took longer than {run.scenario.testing_agent.max_duration.total_seconds():g} s"
            )
            self._finish(run, RunStatus.TIMEOUT, EndReason.MAX_DURATION)
        elif record.answered_at is None:
            run.error_message = refusal(record)
            self._finish(run, RunStatus.FAILED, _reason(record))
        else:
            script = run.scenario.testing_agent.script
            run.evaluation = evaluate(record, run.scenario.expect, None if script is None else script.name)
            self._finish(run, RunStatus.COMPLETED, _reason(record))

    def _finish(self, run: Run, status: RunStatus, reason: EndReason) -> None:
        run.end_reason = reason
        run.ended_at = datetime.now(UTC) if run.record is None else run.record.ended_at
        self._move(run, status)
        log.info("stand_in.run_over", run_id=run.id, status=status.value, success=run.success, reason=reason.value)

    def _move(self, run: Run, status: RunStatus) -> None:
        """Give a run its next status; the last one stays."""
        if not run.status.over:
            run.status = status
            run.result.updated_at = datetime.now(UTC)


class Pace:
    """Lets so many pass a second, evenly, in the order in which they came."""

    def __init__(self, per_second: float, clock: Clock | None = None) -> None:
        self._interval_s = 1 / per_second
        self._clock = clock or Clock()
        self._turn = asyncio.Lock()
        self._next_at = 0.0

    async def wait(self) -> None:
        """Return when it is the caller's turn."""
        async with self._turn:
            if (early_s := self._next_at - self._clock.now()) > 0:
                await self._clock.sleep(early_s)
            self._next_at = self._clock.now() + self._interval_s


def _reason(record: CallRecord) -> EndReason:
    if record.answered_at is not None:
        # Seen from here, the far end of a call is its caller.
        return EndReason.MAIN_AGENT_ENDED if record.ended_by is EndedBy.CALLER else EndReason.TESTING_AGENT_ENDED
    if record.error:  # no answer within the ring_timeout
        return EndReason.DID_NOT_ANSWER
    return _REASONS.get(record.sip_status or 0, EndReason.SIP_CALL_FAILED)
