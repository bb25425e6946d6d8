"""The fakes behave as the real call does, and cost no time."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from media.frames import silence
from media.tones import dominant_frequency_hz, tone
from sip_agent import testing
from sip_agent.audio import QUEUE_FRAMES_MAX
from sip_agent.call import Call
from sip_agent.errors import CallEnded, UserAgentError
from sip_agent.events import CallConfirmed, CallDisconnected, CallEvent, MediaChanged, Responded
from sip_agent.handlers.echo import EchoHandler
from sip_agent.handlers.playback import PlaybackHandler
from sip_agent.status import EndedBy, Outcome
from sip_agent.testing import RECEIVED_FRAMES, FakeCall, FakeDialog, FakePort

RATE_HZ = 16_000


class Receptionist:
    """Greet, take a number, and say goodbye: a handler as people write them."""

    async def handle(self, call: Call) -> None:
        """Hold a conversation."""
        await call.ring()
        await call.answer()
        await call.play(tone(440, 400, call.sample_rate_hz))
        number = await call.gather()
        call.transcript.add("caller", number)
        await call.play(tone(880, 400, call.sample_rate_hz))


async def test_conversation() -> None:
    """A test reads as the call goes: the greeting is heard, digits are pressed, the agent hangs up."""
    async with FakeCall(Receptionist(), headers={"X-Run-Id": "7"}) as caller:
        await caller.until_answered()
        greeting = await caller.hear(500)
        caller.press("12#")
        goodbye = await caller.hear(400)
        await caller.until_ended()

    assert [180, 200] == caller.statuses
    assert 440 == pytest.approx(dominant_frequency_hz(greeting, RATE_HZ), abs=2)
    assert 880 == pytest.approx(dominant_frequency_hz(goodbye, RATE_HZ), abs=2)
    assert "12" == caller.record.transcript[0]["text"]
    assert ("7", Outcome.ANSWERED, EndedBy.AGENT) == (
        caller.record.run_id,
        caller.record.outcome,
        caller.record.ended_by,
    )


async def test_echo_comes_back_in_the_next_tick() -> None:
    """What the caller says is heard as it says it, one tick later, sample by sample."""
    said = tone(440, 1000, RATE_HZ)
    async with FakeCall(EchoHandler()) as caller:
        await caller.until_answered()
        heard = np.concatenate((await caller.speak(said), await caller.hear(20)))

    np.testing.assert_array_equal(np.concatenate((silence(20, RATE_HZ), said)), heard)
    np.testing.assert_array_equal(heard, caller.heard[-len(heard) :])
    assert (EndedBy.CALLER, Outcome.ANSWERED) == (caller.record.ended_by, caller.record.outcome)


async def test_ten_seconds_take_no_time() -> None:
    """Ten seconds of sound are over in far less than one."""
    async with FakeCall(sample_rate_hz=8000) as caller:
        await caller.call.answer()
        playing = asyncio.create_task(caller.call.play(np.ones(80_000, np.int16)))
        started = time.perf_counter()
        heard = await caller.hear(10_000)
        took_s = time.perf_counter() - started

    assert heard.all()
    assert 10_000 == playing.result().played_ms
    assert took_s < 1


async def test_file_is_heard_from_the_first_tick(tmp_path: Path) -> None:
    """The clock waits for the threads that read a file, so that a test always hears the same."""
    wave = tone(440, 2500, RATE_HZ, ramp_ms=0)
    soundfile.write(tmp_path / "hello.wav", wave, RATE_HZ)
    async with FakeCall(PlaybackHandler(str(tmp_path / "hello.wav"))) as caller:
        await caller.until_answered()
        heard = await caller.hear(2500)

    np.testing.assert_array_equal(wave, heard)


async def test_thread_that_needs_the_clock() -> None:
    """A thread that does not end keeps the clock waiting for a second, and no longer."""
    stopped = threading.Event()
    async with FakeCall() as caller:
        await caller.call.answer()
        working = asyncio.create_task(asyncio.to_thread(stopped.wait, 20))
        await caller.hear(200)
        done_before = working.done()
        stopped.set()
        await working

    assert not done_before


async def test_caller_cancels() -> None:
    """Hanging up before the answer is a CANCEL: 487, and a record that says cancelled."""

    class Hesitant:
        async def handle(self, call: Call) -> None:
            await call.ring()
            await call.disconnected

    async with FakeCall(Hesitant()) as caller:
        await caller.until(lambda: caller.statuses == [180])
        caller.hang_up()
        caller.hang_up()

    assert [180, 487] == caller.statuses
    assert (Outcome.CANCELLED, 487, EndedBy.CALLER) == (
        caller.record.outcome,
        caller.record.sip_status,
        caller.record.ended_by,
    )


async def test_caller_hangs_up_while_it_listens(tmp_path: Path) -> None:
    """A BYE in the middle of a playback ends the handler without an error."""
    soundfile.write(tmp_path / "long.wav", tone(440, 5000, RATE_HZ), RATE_HZ)
    async with FakeCall(PlaybackHandler(str(tmp_path / "long.wav"))) as caller:
        await caller.until_answered()
        await caller.hear(500)
        caller.hang_up(q850_cause=16)

    assert (Outcome.ANSWERED, EndedBy.CALLER, 16, None) == (
        caller.record.outcome,
        caller.record.ended_by,
        caller.record.q850_cause,
        caller.record.error,
    )


@pytest.mark.parametrize(
    ("operation", "carry_out"),
    [
        ("hangup", lambda call: call.hangup()),
        ("transfer", lambda call: call.transfer("sip:x@example.com")),
        ("send_dtmf", lambda call: call.send_dtmf("1")),
    ],
)
async def test_refuses(operation: str, carry_out: Callable[[Call], Awaitable[None]]) -> None:
    """An operation that is to be refused raises what the user agent would, and the call goes on."""
    async with FakeCall() as caller:
        await caller.call.answer()
        caller.refuse.add(operation)
        with pytest.raises(UserAgentError, match=f"{operation}: refused by the test"):
            await carry_out(caller.call)
        assert not caller.ended


async def test_refuses_from_the_start() -> None:
    """A handler whose answer is refused fails its call."""
    async with FakeCall(EchoHandler(), refuse={"answer"}) as caller:
        await caller.until_ended()

    assert [500] == caller.statuses
    assert (Outcome.FAILED, "answer: refused by the test") == (caller.record.outcome, caller.record.error)


async def test_says_what_did_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not happen fails the test, with what was seen instead."""
    monkeypatch.setattr(testing, "UNTIL_TICKS", 50)
    async with FakeCall() as caller:
        await caller.call.ring()
        with pytest.raises(AssertionError, match=r"the answer did not come; the caller got \[180\]"):
            await caller.until_answered()
        await caller.call.hangup(486)
        with pytest.raises(AssertionError, match=r"not answered; the caller got \[180, 486\]"):
            await caller.until_answered()


async def test_silence_where_no_sound_flows() -> None:
    """Before the answer and after the end the caller hears silence."""
    async with FakeCall() as caller:
        before = await caller.hear(40)
        await caller.call.answer()
        await caller.call.send(np.ones(320, np.int16))
        caller.hang_up()
        after = await caller.hear(40)

    assert (640, 640) == (len(before), len(after))
    assert not before.any()
    assert not after.any()


async def test_failing_test_ends_its_call() -> None:
    """A test that fails inside the block leaves no handler behind."""
    caller = FakeCall(EchoHandler())

    async def fail() -> None:
        async with caller:
            await caller.until_answered()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert Outcome.ANSWERED == caller.record.outcome


async def test_dialog_as_the_real_one() -> None:
    """A dialog is answered once, ends once, and tells who listens late what came before."""
    dialog = FakeDialog()
    await dialog.respond(180)
    await dialog.respond(200)
    with pytest.raises(UserAgentError, match="already answered"):
        await dialog.respond(200)
    await dialog.terminate(EndedBy.AGENT, reason="enough")
    await dialog.terminate(EndedBy.SYSTEM)
    dialog.hang_up()
    events: list[CallEvent] = []
    dialog.listen(events.append)

    assert [Responded, MediaChanged, Responded, CallConfirmed, CallDisconnected] == [type(item) for item in events]
    assert isinstance(events[-1], CallDisconnected)
    assert (EndedBy.AGENT, 200, "enough") == (events[-1].ended_by, events[-1].sip_status, events[-1].reason)


async def test_operation_after_the_end() -> None:
    """A dialog that is over refuses everything, as the real one does."""
    async with FakeCall() as caller:
        caller.hang_up()
        with pytest.raises(CallEnded, match="transfer: the call is over"):
            await caller.refer("sip:x@example.com")
        await caller.terminate(EndedBy.AGENT)

    assert EndedBy.CALLER == caller.record.ended_by


class TestFakePort:
    """The port is bounded as the real ones are."""

    def test_ring_is_bounded(self) -> None:
        """No more than the ring holds is taken, and the rest is the caller's to send again."""
        port = FakePort(8000)

        assert QUEUE_FRAMES_MAX == port.write(np.ones(160 * (QUEUE_FRAMES_MAX + 5), np.int16).tobytes())
        assert 0 == port.write(np.ones(160, np.int16).tobytes())
        assert QUEUE_FRAMES_MAX == port.queued()

    def test_received_frames_overrun(self) -> None:
        """A loop that never comes loses the oldest frames, which are counted."""
        port = FakePort(8000)
        for value in range(RECEIVED_FRAMES + 2):
            port.tick(np.full(160, value, np.int16))
        frames = np.frombuffer(port.read(), np.int16)

        assert (2, RECEIVED_FRAMES * 160) == (frames[0], len(frames))
        assert (2, RECEIVED_FRAMES - 3) == (port.counters().overruns, port.counters().late)
