"""Whatever a handler does, its call ends, and the record says why."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from sip_agent import conversation
from sip_agent.call import Call, CallEnded, ConversationHandler
from sip_agent.conversation import hold_conversation
from sip_agent.errors import CallRejected
from sip_agent.status import EndedBy, Outcome
from sip_agent.testing import FakeCall

SOUND = np.ones(320 * 10, np.int16)


class Doing:
    """A handler that does what a function does."""

    def __init__(self, function: Callable[[Call], Awaitable[Any]]) -> None:
        self._function = function

    async def handle(self, call: Call) -> None:
        """Do it."""
        await self._function(call)


def ending(caller: FakeCall) -> tuple[Outcome | None, int | None, EndedBy | None, str | None]:
    """Return how the record says that a call ended."""
    record = caller.record
    return record.outcome, record.sip_status, record.ended_by, record.error


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give handlers next to no time after the end."""
    monkeypatch.setattr(conversation, "HANDLER_GRACE_S", 0.02)
    monkeypatch.setattr(conversation, "CANCEL_GRACE_S", 0.02)


class TestReturns:
    """A handler that comes to its end."""

    async def test_hangs_up(self) -> None:
        """Returning hangs up an answered call."""
        async with FakeCall(Doing(lambda call: call.answer())) as caller:
            await caller.until_ended()

        assert (Outcome.ANSWERED, 200, EndedBy.AGENT, None) == ending(caller)
        assert "the handler returned" == caller.record.end_reason

    async def test_what_is_queued_is_still_sent(self) -> None:
        """A handler that has queued its last words may return at once; also half a frame is sent."""

        async def speak(call: Call) -> None:
            await call.answer()
            await call.send(SOUND)
            await call.send(SOUND[:100])

        async with FakeCall(Doing(speak)) as caller:
            await caller.until_ended()

        assert len(SOUND) + 100 == np.count_nonzero(caller.heard)

    async def test_clock_stands_still(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What cannot be sent does not keep a call alive."""
        monkeypatch.setattr(conversation, "DRAIN_S", 0.01)

        async def speak(call: Call) -> None:
            await call.answer()
            await call.send(SOUND)

        async with FakeCall() as caller:
            verdict = await hold_conversation(lambda: Doing(speak), caller.call, caller, max_duration_s=60)

        assert None is verdict.error
        assert EndedBy.AGENT == caller.record.ended_by
        assert 0 == np.count_nonzero(caller.heard)

    async def test_without_an_answer(self) -> None:
        """A handler that returns without answering has failed: 500."""
        async with FakeCall(Doing(lambda call: call.ring())) as caller:
            await caller.until_ended()

        assert [180, 500] == caller.statuses
        assert (Outcome.FAILED, 500, EndedBy.SYSTEM, "the handler returned without answering the call") == ending(
            caller
        )

    async def test_hung_up_itself(self) -> None:
        """A handler may hang up before it returns."""

        async def brief(call: Call) -> None:
            await call.answer()
            await call.hangup()

        async with FakeCall(Doing(brief)) as caller:
            await caller.until_ended()

        assert (Outcome.ANSWERED, 200, EndedBy.AGENT, None) == ending(caller)
        assert "the handler hung up" == caller.record.end_reason

    async def test_declined_itself(self) -> None:
        """Hanging up an unanswered call is a refusal."""
        async with FakeCall(Doing(lambda call: call.hangup())) as caller:
            await caller.until_ended()

        assert (Outcome.REJECTED, 603, EndedBy.AGENT, None) == ending(caller)


class TestRejects:
    """A handler that refuses."""

    async def test_status_headers_and_reason(self) -> None:
        """The caller gets status and headers; the record says why."""

        async def refuse(call: Call) -> None:
            await call.ring()
            raise CallRejected(480, "closed", headers=[("Retry-After", "60")])

        async with FakeCall(Doing(refuse)) as caller:
            await caller.until_ended()

        assert [180, 480] == caller.statuses
        assert (("Retry-After", "60"),) == caller.response_headers
        assert (Outcome.REJECTED, 480, EndedBy.AGENT, None) == ending(caller)
        assert "closed" == caller.record.end_reason

    async def test_after_the_answer(self) -> None:
        """An answered call cannot be refused any more: the handler has failed."""

        async def refuse(call: Call) -> None:
            await call.answer()
            raise CallRejected(486)

        async with FakeCall(Doing(refuse)) as caller:
            await caller.until_ended()

        assert (Outcome.FAILED, 200, EndedBy.SYSTEM, "486 Busy Here") == ending(caller)

    async def test_after_the_cancel(self) -> None:
        """A refusal that the caller's CANCEL overtook leaves the call cancelled."""

        async def refuse(call: Call) -> None:
            await call.disconnected
            raise CallRejected(486)

        async with FakeCall(Doing(refuse)) as caller:
            await caller.hear(20)
            caller.hang_up()

        assert (Outcome.CANCELLED, 487, EndedBy.CALLER, None) == ending(caller)


class TestRaises:
    """A handler that fails."""

    async def test_before_the_answer(self) -> None:
        """The caller gets 500, the record the error, the log the traceback."""

        async def fail(_: Call) -> None:
            raise ZeroDivisionError("by zero")

        with capture_logs() as logs:
            async with FakeCall(Doing(fail)) as caller:
                await caller.until_ended()

        assert (Outcome.FAILED, 500, EndedBy.SYSTEM, "ZeroDivisionError: by zero") == ending(caller)
        assert "the handler failed" == caller.record.end_reason
        assert [ZeroDivisionError] == [type(e["exc_info"]) for e in logs if e["event"] == "handler.failed"]

    async def test_after_the_answer(self) -> None:
        """An answered call ends with BYE at once, whatever is still queued."""

        async def fail(call: Call) -> None:
            await call.answer()
            await call.send(SOUND)
            raise ZeroDivisionError

        async with FakeCall(Doing(fail)) as caller:
            await caller.until_ended()

        assert [200] == caller.statuses
        assert (Outcome.FAILED, 200, EndedBy.SYSTEM, "ZeroDivisionError: ") == ending(caller)
        assert 0 == np.count_nonzero(caller.heard)

    async def test_answers_twice(self) -> None:
        """Answering twice is an error of the handler, which the record names."""

        async def twice(call: Call) -> None:
            await call.answer()
            await call.answer()

        async with FakeCall(Doing(twice)) as caller:
            await caller.until_ended()

        assert (Outcome.FAILED, 200, EndedBy.SYSTEM, "answer: the call is already answered") == ending(caller)

    async def test_leaves_the_process_alone(self) -> None:
        """A handler that calls sys.exit ends its call, not the agent."""

        async def leave(_: Call) -> None:
            sys.exit(3)

        async with FakeCall(Doing(leave)) as caller:
            await caller.until_ended()

        assert (Outcome.FAILED, 500, EndedBy.SYSTEM, "RuntimeError: the handler called sys.exit()") == ending(caller)

    async def test_cancels_itself(self) -> None:
        """A handler that is cancelled while the call goes on has failed."""

        async def cancelled(_: Call) -> None:
            raise asyncio.CancelledError

        async with FakeCall(Doing(cancelled)) as caller:
            await caller.until_ended()

        assert (Outcome.FAILED, 500, EndedBy.SYSTEM, "the handler was cancelled from within") == ending(caller)

    async def test_no_coroutine(self) -> None:
        """A handler whose `handle` is no coroutine fails its call."""

        class Plain:
            def handle(self, call: Call) -> None:
                """Do nothing, and not even asynchronously."""

        async with FakeCall(Plain()) as caller:  # type: ignore[arg-type]  # what a stranger may write
            await caller.until_ended()

        assert 500 == caller.record.sip_status
        assert str(caller.record.error).startswith("TypeError: ")

    async def test_cannot_be_built(self) -> None:
        """A handler that cannot be built fails its call."""

        def build() -> ConversationHandler:
            raise ValueError("there is no sound file")

        async with FakeCall() as caller:
            verdict = await hold_conversation(build, caller.call, caller, max_duration_s=60)

        assert [500] == caller.statuses
        assert (Outcome.FAILED, "ValueError: there is no sound file") == (verdict.outcome, verdict.error)


class TestCallEnds:
    """A call that ends before its handler."""

    async def test_handler_notices(self) -> None:
        """CallEnded that a handler lets through is no error."""

        async def talk(call: Call) -> None:
            await call.answer()
            while True:
                await call.send(SOUND)

        async with FakeCall(Doing(talk)) as caller:
            await caller.until_answered()
            await caller.hear(100)
            caller.hang_up()

        assert (Outcome.ANSWERED, 200, EndedBy.CALLER, None) == ending(caller)

    async def test_handler_finishes_its_work(self) -> None:
        """A handler has time to finish after the end, and what it notes is in the record."""

        async def note(call: Call) -> None:
            await call.answer()
            await call.disconnected
            await asyncio.sleep(0.01)
            call.transcript.add("caller", "Goodbye.")

        async with FakeCall(Doing(note)) as caller:
            await caller.until_answered()
            caller.hang_up()

        assert ["Goodbye."] == [item["text"] for item in caller.record.transcript]
        assert (Outcome.ANSWERED, 200, EndedBy.CALLER, None) == ending(caller)

    async def test_handler_fails_afterwards(self) -> None:
        """An error after the end is an error all the same."""

        async def fail(call: Call) -> None:
            await call.answer()
            await call.disconnected
            raise ZeroDivisionError

        async with FakeCall(Doing(fail)) as caller:
            await caller.until_answered()
            caller.hang_up()

        assert (Outcome.FAILED, 200, EndedBy.CALLER, "ZeroDivisionError: ") == ending(caller)

    @pytest.mark.usefixtures("impatient")
    async def test_handler_goes_on(self) -> None:
        """A handler that does not notice is cancelled, and the record says so."""

        async def hang(call: Call) -> None:
            await call.answer()
            await asyncio.Event().wait()

        async with FakeCall(Doing(hang)) as caller:
            await caller.until_answered()
            caller.hang_up()

        error = "the handler went on after the call was over, and was cancelled"
        assert (Outcome.ANSWERED, 200, EndedBy.CALLER, error) == ending(caller)

    @pytest.mark.usefixtures("impatient")
    async def test_handler_swallows_its_cancellation(self) -> None:
        """A handler that will not end is left behind; its call is over, and is recorded."""
        released = asyncio.Event()

        async def stubborn(call: Call) -> None:
            await call.answer()
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue

        with capture_logs() as logs:
            async with FakeCall(Doing(stubborn)) as caller:
                await caller.until_answered()
                caller.hang_up()
        released.set()

        error = "the handler did not end when it was cancelled"
        assert (Outcome.ANSWERED, 200, EndedBy.CALLER, error) == ending(caller)
        assert "handler.left_behind" in [entry["event"] for entry in logs]

    async def test_caller_cancels(self) -> None:
        """An unanswered call that the caller gives up is cancelled."""

        async def wait(call: Call) -> None:
            await call.ring()
            await call.disconnected

        async with FakeCall(Doing(wait)) as caller:
            await caller.until(lambda: bool(caller.statuses))
            caller.hang_up()

        assert (Outcome.CANCELLED, 487, EndedBy.CALLER, None) == ending(caller)


class TestLimits:
    """Calls that last too long."""

    async def test_answered(self) -> None:
        """A call that reaches its longest duration ends, with the limit as its reason, and is no failure."""

        async def talk(call: Call) -> None:
            await call.answer()
            async for frame in call.frames():
                await call.send(frame)

        async with FakeCall(Doing(talk), max_duration_s=0.05) as caller:
            await caller.until_ended()

        assert (Outcome.ANSWERED, 200, EndedBy.SYSTEM, None) == ending(caller)
        assert "the longest duration of 0.05 s (admission.max_duration) was reached" == caller.record.end_reason

    @pytest.mark.usefixtures("impatient")
    async def test_unanswered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A call that is not answered in time fails, and its handler is cancelled."""
        monkeypatch.setattr(conversation, "MAX_UNANSWERED_S", 0.05)
        cancelled = False

        async def wait(call: Call) -> None:
            nonlocal cancelled
            await call.ring()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled = True
                raise

        async with FakeCall(Doing(wait)) as caller:
            await caller.until_ended()

        assert [180, 500] == caller.statuses
        assert (Outcome.FAILED, 500, EndedBy.SYSTEM, "the handler did not answer within 0.05 s") == ending(caller)
        assert cancelled

    async def test_error_of_the_limited_handler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a handler raises when its call was ended for it is nobody's unhandled exception."""
        monkeypatch.setattr(conversation, "MAX_UNANSWERED_S", 0.05)
        unhandled: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))

        async def wait(call: Call) -> None:
            await call.disconnected
            raise CallEnded("over")

        async with FakeCall(Doing(wait)) as caller:
            await caller.until_ended()

        assert "the handler did not answer within 0.05 s" == caller.record.error
        assert [] == unhandled

    async def test_late_answer_starts_the_longer_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The limit for unanswered calls does not hold for answered ones."""
        monkeypatch.setattr(conversation, "MAX_UNANSWERED_S", 0.3)

        async def late(call: Call) -> None:
            await asyncio.sleep(0.01)
            await call.answer()
            await asyncio.sleep(0.4)

        async with FakeCall(Doing(late)) as caller:
            await caller.until_ended()

        assert (Outcome.ANSWERED, 200, EndedBy.AGENT, None) == ending(caller)


async def test_peer_does_not_answer_the_bye() -> None:
    """A call that cannot be ended is recorded nevertheless."""
    with capture_logs() as logs:
        async with FakeCall(refuse={"hangup"}) as caller:
            verdict = await hold_conversation(
                lambda: Doing(lambda call: call.answer()), caller.call, caller, max_duration_s=60
            )

    assert None is verdict.error
    assert "call.terminate_failed" in [entry["event"] for entry in logs]


async def test_one_call_hurts_no_other() -> None:
    """While one handler fails and one floods the queue, a third holds its conversation."""

    async def fail(_: Call) -> None:
        raise ZeroDivisionError

    async def flood(call: Call) -> None:
        await call.answer()
        while True:
            await call.send(SOUND)

    async def echo(call: Call) -> None:
        await call.answer()
        async for frame in call.frames():
            await call.send(frame)

    async with (
        FakeCall(Doing(fail)) as failing,
        FakeCall(Doing(flood)) as flooding,
        FakeCall(Doing(echo)) as echoing,
    ):
        await echoing.until_answered()
        await echoing.speak(SOUND)
        heard = await echoing.hear(20)

    assert heard.all()
    assert [Outcome.FAILED, Outcome.ANSWERED, Outcome.ANSWERED] == [
        caller.record.outcome for caller in (failing, flooding, echoing)
    ]
