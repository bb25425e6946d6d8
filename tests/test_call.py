"""`Call`: what a handler can do before the answer, after it and after the end, and what goes into the record."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from media.frames import Samples
from sip_agent.call import STALLS_MAX, Call, CallEnded
from sip_agent.errors import CallRejected, UserAgentError
from sip_agent.events import CallDisconnected, FirstAudioReceived, MediaChanged, Responded
from sip_agent.status import EndedBy
from sip_agent.testing import FakeCall

FRAME: Samples = np.ones(320, np.int16)


@pytest.fixture
async def caller() -> AsyncIterator[FakeCall]:
    """Call an agent without a handler: the test holds the call."""
    async with FakeCall(headers={"X-Run-Id": "7", "X-Api-Key": "k"}, options={"lang": "en"}, user="bob") as caller:
        yield caller


OPERATIONS: dict[str, Callable[[Call], Any]] = {
    "ring": lambda call: call.ring(),
    "progress": lambda call: call.progress(),
    "answer": lambda call: call.answer(),
    "transfer": lambda call: call.transfer("sip:carol@example.com"),
    "send": lambda call: call.send(FRAME),
    "play": lambda call: call.play(FRAME),
    "stop_playback": lambda call: call.stop_playback(),
    "send_dtmf": lambda call: call.send_dtmf("1"),
    "frames": lambda call: call.frames(),
}
NEED_AN_ANSWER = ("transfer", "send", "play", "stop_playback", "send_dtmf", "frames")
NEED_NO_ANSWER = ("ring", "progress", "answer")


async def carry_out(operation: str, call: Call) -> object:
    """Carry out an operation, be it a coroutine or not."""
    result = OPERATIONS[operation](call)
    return await result if isinstance(result, Awaitable) else result


class TestState:
    """What a call allows in each state."""

    @pytest.mark.parametrize("operation", NEED_AN_ANSWER)
    async def test_before_the_answer(self, caller: FakeCall, operation: str) -> None:
        """What needs an answered call says so, by name, and what to do."""
        with pytest.raises(UserAgentError, match=rf"^{operation}: .*await call\.answer\(\)") as caught:
            await carry_out(operation, caller.call)

        assert operation == caught.value.operation
        assert [] == caller.statuses

    @pytest.mark.parametrize("operation", NEED_NO_ANSWER)
    async def test_after_the_answer(self, caller: FakeCall, operation: str) -> None:
        """An answered call cannot be answered or rung again, and goes on."""
        await caller.call.answer()

        with pytest.raises(UserAgentError, match=f"^{operation}: the call is already answered"):
            await carry_out(operation, caller.call)
        assert [200] == caller.statuses
        assert not caller.call.ended

    @pytest.mark.parametrize("answered", [False, True])
    @pytest.mark.parametrize("operation", sorted(set(OPERATIONS) - {"stop_playback", "frames"}))
    async def test_after_the_end(self, caller: FakeCall, operation: str, *, answered: bool) -> None:
        """Nothing can be done with a call that is over, whether it was answered or not."""
        if answered:
            await caller.call.answer()
        caller.hang_up()

        with pytest.raises(CallEnded, match="the call is over"):
            await carry_out(operation, caller.call)

    async def test_sound_after_the_end(self, caller: FakeCall) -> None:
        """After the end there are no frames to come and nothing to stop, and both are no errors."""
        await caller.call.answer()
        caller.hang_up()

        assert [] == [frame async for frame in caller.call.frames()]
        assert 0 == caller.call.stop_playback()

    async def test_hangup_after_the_end(self, caller: FakeCall) -> None:
        """Hanging up twice is hanging up once."""
        await caller.call.answer()
        caller.hang_up()
        await caller.call.hangup()

        assert EndedBy.CALLER == caller.call.disconnected.result().ended_by

    async def test_life(self, caller: FakeCall) -> None:
        """A call rings, plays early media, is answered and ends; each is seen in its state."""
        call = caller.call
        states = [(call.answered, call.ended)]
        await call.ring()
        await call.progress()
        await call.send(FRAME)
        states.append((call.answered, call.ended))
        await call.answer()
        states.append((call.answered, call.ended))
        await call.hangup()
        states.append((call.answered, call.ended))

        assert [(False, False), (False, False), (True, False), (True, True)] == states
        assert [180, 183, 200] == call.statuses == caller.statuses

    async def test_refused_by_the_user_agent(self, caller: FakeCall) -> None:
        """What the SIP stack refuses is raised, names the operation and leaves the call unanswered."""
        caller.refuse.add("answer")

        with pytest.raises(UserAgentError) as caught:
            await caller.call.answer()
        assert "answer" == caught.value.operation
        assert not caller.call.answered

    async def test_cancelled_while_it_is_answered(self, caller: FakeCall) -> None:
        """An answer that the caller's CANCEL overtakes raises CallEnded."""
        answering = asyncio.create_task(caller.call.answer())
        await asyncio.sleep(0)
        caller.hang_up()

        with pytest.raises(CallEnded):
            await answering
        assert [487] == caller.statuses


class TestSignalling:
    """What goes to the caller."""

    async def test_headers_of_the_answer(self, caller: FakeCall) -> None:
        """Extra header fields go into the 200."""
        await caller.call.answer([("X-Agent", "nine")])

        assert (("X-Agent", "nine"),) == caller.response_headers

    @pytest.mark.parametrize(("status", "sent"), [(None, 603), (486, 486)])
    async def test_hangup_before_the_answer(self, caller: FakeCall, status: int | None, sent: int) -> None:
        """Hanging up an unanswered call is a final response: 603 unless another one is given."""
        await caller.call.hangup(status, [("Reason", "SIP;cause=480")])

        assert [sent] == caller.statuses
        assert (("Reason", "SIP;cause=480"),) == caller.response_headers
        assert EndedBy.AGENT == caller.call.disconnected.result().ended_by

    @pytest.mark.parametrize("status", [100, 200, 299, 700])
    async def test_hangup_with_no_final_refusal(self, caller: FakeCall, status: int) -> None:
        """A call is not hung up with a status that does not refuse it."""
        with pytest.raises(ValueError, match=f"300 to 699, not {status}"):
            await caller.call.hangup(status)
        assert not caller.call.ended

    async def test_transfer(self, caller: FakeCall) -> None:
        """A transfer asks the caller to call somebody else, and the call goes on."""
        await caller.call.answer()
        await caller.call.transfer("sip:carol@example.com")

        assert ["sip:carol@example.com"] == caller.transfers
        assert not caller.call.ended

    @pytest.mark.parametrize("status", [200, 486])
    async def test_what_became_of_a_transfer(self, caller: FakeCall, status: int) -> None:
        """The record has the caller's last word on it, and who waits for it gets it."""
        await caller.call.answer()
        await caller.call.transfer("sip:carol@example.com")
        caller.report_transfer(180, "Ringing")

        assert await caller.call.transferred(timeout_s=0) is None
        assert [180] == [transfer["status"] for transfer in caller.record.transfers]
        caller.report_transfer(status, "so be it")
        assert status == await caller.call.transferred()
        told = {"uri": "sip:carol@example.com", "at_ms": 0, "status": status, "reason": "so be it"}
        assert [told] == caller.record.transfers

    async def test_what_becomes_of_a_transfer_is_never_said(self, caller: FakeCall) -> None:
        """A caller that hangs up has no more to say; without a transfer there is nothing to wait for."""
        await caller.call.answer()
        with pytest.raises(UserAgentError, match="was not transferred before"):
            await caller.call.transferred()

        await caller.call.transfer("sip:carol@example.com")
        caller.hang_up()
        assert await caller.call.transferred() is None

    @pytest.mark.parametrize("uri", ["sips:carol@[::1]:5061;transport=tls", "SIP:example.com", "tel:+15550100"])
    async def test_transfer_to_any_uri(self, caller: FakeCall, uri: str) -> None:
        """Whoever can be called can be transferred to."""
        await caller.call.answer()
        await caller.call.transfer(uri)

        assert [uri] == caller.transfers

    @pytest.mark.parametrize(
        "uri",
        [
            "",
            "nowhere",
            "mailto:carol@example.com",
            "sip:",
            "sip:carol@",
            "tel:",
            "sip:carol@example.com\r\nX-Evil: 1",
            "sip:carol@example.com\n",
            "sip:carol@example.com>;x=<sip:dave@example.com",
            '"Carol" <sip:carol@example.com>',
            "sip:ca rol@example.com",
            "sip:carol\x00@example.com",
        ],
    )
    async def test_transfer_to_nobody(self, caller: FakeCall, uri: str) -> None:
        """What is not one URI, and nothing else, is refused with what to write, and nothing is sent."""
        await caller.call.answer()

        with pytest.raises(ValueError, match="write sip:user@host"):
            await caller.call.transfer(uri)
        assert [] == caller.transfers

    @pytest.mark.parametrize(
        ("field", "message"),
        [
            (("X-Agent", "nine\r\nX-Evil: 1"), "the value of X-Agent has control characters"),
            (("X-Agent", "nine\nX-Evil: 1"), "the value of X-Agent has control characters"),
            (("X-Evil: 1\r\nX-Agent", "nine"), "no name of a header field"),
            (("", "nine"), "no name of a header field"),
        ],
    )
    async def test_headers_of_one_line(self, caller: FakeCall, field: tuple[str, str], message: str) -> None:
        """A header field that would be two is refused wherever a handler can give one, and nothing is sent."""
        for give in (caller.call.answer, lambda headers: caller.call.hangup(486, headers)):
            with pytest.raises(ValueError, match=message):
                await give([field])
        with pytest.raises(ValueError, match=message):
            CallRejected(486, headers=[field])

        assert [] == caller.statuses

    async def test_send_dtmf(self, caller: FakeCall) -> None:
        """Digits are sent in capital letters."""
        await caller.call.answer()
        await caller.call.send_dtmf("12*#d")

        assert "12*#D" == caller.digits

    async def test_send_no_dtmf(self, caller: FakeCall) -> None:
        """What is no DTMF digit is refused, each named once, and nothing is sent."""
        await caller.call.answer()

        with pytest.raises(ValueError, match="not 'EX'"):
            await caller.call.send_dtmf("1xex")
        assert "" == caller.digits

    async def test_hold(self, caller: FakeCall) -> None:
        """A call knows whether it is on hold."""
        await caller.call.answer()
        states = [caller.call.on_hold]
        caller.hold()
        states.append(caller.call.on_hold)
        caller.hold(on_hold=False)
        states.append(caller.call.on_hold)

        assert [False, True, False] == states


class TestIdentity:
    """What a handler learns of its call."""

    async def test_headers_and_ids(self, caller: FakeCall) -> None:
        """The handler sees X- headers in clear, the ids, the options of its route and who was dialled."""
        call = caller.call

        assert {"X-Run-Id": ["7"], "X-Api-Key": ["k"]} == call.headers
        assert ("7", None, None) == (call.ids.run_id, call.ids.scenario_id, call.ids.result_id)
        assert {"lang": "en"} == call.options
        assert "bob" == call.invite.user
        assert caller.record.call_uuid == call.call_uuid

    async def test_options_are_its_own(self) -> None:
        """A handler that changes its options changes nobody else's."""
        options = {"lang": "en"}
        async with FakeCall(options=options) as caller:
            caller.call.options["lang"] = "fr"

        assert {"lang": "en"} == options


class TestDtmf:
    """Digits that the caller sends."""

    async def test_each_once_until_the_end(self, caller: FakeCall) -> None:
        """The iteration yields every digit once and ends with the call, for everyone who iterates."""
        caller.press("12")
        caller.hang_up()

        assert ["1", "2"] == [digit async for digit in caller.call.dtmf()]
        assert [] == [digit async for digit in caller.call.dtmf()]

    async def test_end_wakes_every_listener(self, caller: FakeCall) -> None:
        """Two who wait for digits both learn of the end."""

        async def listen() -> list[str]:
            return [digit async for digit in caller.call.dtmf()]

        listeners = [asyncio.create_task(listen()) for _ in range(2)]
        await asyncio.sleep(0)
        caller.hang_up()

        assert [[], []] == await asyncio.gather(*listeners)

    @pytest.mark.parametrize(
        ("pressed", "options", "gathered", "left"),
        [
            ("12#3", {}, "12", "3"),
            ("1234", {"max_digits": 2}, "12", "34"),
            ("#1", {}, "", "1"),
            ("1*2#", {"terminator": "*"}, "1", "2#"),
            ("12", {"digit_timeout_s": 0.001}, "12", ""),
            ("", {"timeout_s": 0.001}, "", ""),
            ("12", {"max_digits": 0}, "", "12"),
            ("1#2", {"terminator": "", "max_digits": 3}, "1#2", ""),
        ],
        ids=[
            "terminator",
            "max",
            "only the terminator",
            "another",
            "next digit late",
            "none",
            "max 0",
            "no terminator",
        ],
    )
    async def test_gather(
        self, caller: FakeCall, pressed: str, options: dict[str, Any], gathered: str, left: str
    ) -> None:
        """Gathering ends with the terminator, the most digits or silence, and leaves what comes after it."""
        caller.press(pressed)
        digits = await caller.call.gather(**options)
        caller.hang_up()

        assert gathered == digits
        assert left == "".join([digit async for digit in caller.call.dtmf()])

    async def test_gather_waits(self, caller: FakeCall) -> None:
        """Gathering waits for digits that come one by one."""
        gathering = asyncio.create_task(caller.call.gather())
        for digit in "42#":
            await asyncio.sleep(0)
            caller.press(digit)

        assert "42" == await gathering

    async def test_gather_and_the_end(self, caller: FakeCall) -> None:
        """The end of the call ends the gathering, with what there is, and the next one at once."""
        gathering = asyncio.create_task(caller.call.gather())
        caller.press("4")
        await asyncio.sleep(0)
        caller.hang_up()

        assert "4" == await gathering
        assert "" == await caller.call.gather()

    async def test_recorded(self, caller: FakeCall) -> None:
        """Every digit is in the record, with its time since the answer, taken by the handler or not."""
        caller.press("1")
        await caller.call.answer()
        caller.press("2")
        digits = caller.record.dtmf

        assert [("1", "rfc4733", 100), ("2", "rfc4733", 100)] == [
            (item["digit"], item["method"], item["duration_ms"]) for item in digits
        ]
        assert 0 == digits[0]["at_ms"] <= digits[1]["at_ms"]


class TestTranscript:
    """What a handler notes of the conversation."""

    async def test_speakers(self, caller: FakeCall) -> None:
        """What either says is kept in order, with its time since the answer."""
        caller.call.transcript.add("agent", "Hello?")
        await caller.call.answer()
        caller.call.transcript.add("caller", "Hi.")

        assert [("agent", "Hello?"), ("caller", "Hi.")] == [
            (item["speaker"], item["text"]) for item in caller.record.transcript
        ]
        assert 0 == caller.record.transcript[0]["at_ms"] <= caller.record.transcript[1]["at_ms"]

    async def test_nobody_else_speaks(self, caller: FakeCall) -> None:
        """There are two speakers, and the record knows no third."""
        with pytest.raises(ValueError, match="'user'"):
            caller.call.transcript.add("user", "Hi.")
        assert [] == caller.record.transcript

    async def test_what_was_said_is_text(self, caller: FakeCall) -> None:
        """Bytes are refused where they are handed over, and nothing of them is kept."""
        with pytest.raises(TypeError, match="what was said is a str, not bytes"):
            caller.call.transcript.add("agent", b"hello")  # type: ignore[arg-type]
        assert [] == caller.record.transcript

    async def test_times_of_numpy(self, caller: FakeCall) -> None:
        """Times that were computed from sound are numbers of JSON in the record."""
        caller.call.transcript.add("agent", "Hello?", at_ms=np.int64(100))  # type: ignore[arg-type]
        caller.call.note_stall("slow_bot", np.int64(100), np.int64(300))  # type: ignore[arg-type]

        assert [{"speaker": "agent", "text": "Hello?", "at_ms": 100}] == json.loads(
            json.dumps(caller.record.transcript)
        )
        assert [{"cause": "slow_bot", "started_ms": 100, "ended_ms": 300}] == json.loads(
            json.dumps(caller.record.stalls)
        )

    async def test_tool_call(self, caller: FakeCall) -> None:
        """A tool's use stands among what was said."""
        arguments = {"day": "Monday"}
        caller.call.tool_call("book", arguments, result="done")
        arguments["day"] = "Friday"

        assert [
            {"speaker": "agent", "tool": "book", "arguments": {"day": "Monday"}, "result": "done", "at_ms": 0}
        ] == caller.record.transcript


class TestNote:
    """What the facts of the user agent become in the record."""

    async def test_delays(self, caller: FakeCall) -> None:
        """Ringing and answer are timed from the INVITE, by the first of their responses."""
        received_at = caller.record.invite_received_at
        assert received_at is not None
        for after_ms, status in ((100, 100), (200, 180), (300, 183), (1000, 200), (1500, 200)):
            caller.call.note(Responded(at=received_at + timedelta(milliseconds=after_ms), status=status))

        assert (200, 1000) == (caller.record.ringing_delay_ms, caller.record.answer_delay_ms)
        assert [100, 180, 183, 200, 200] == caller.call.statuses

    async def test_refusal_is_no_answer(self, caller: FakeCall) -> None:
        """A response from 300 on leaves a call unanswered."""
        caller.call.note(Responded(at=datetime.now(UTC), status=486))

        assert not caller.call.answered
        assert None is caller.record.answer_delay_ms

    async def test_setup(self, caller: FakeCall) -> None:
        """The set-up is timed to the ACK."""
        await caller.call.answer()

        assert caller.record.setup_ms is not None
        assert caller.record.answer_delay_ms is not None
        assert caller.record.setup_ms >= caller.record.answer_delay_ms

    async def test_codec_changes(self, caller: FakeCall) -> None:
        """The record has the last codec, and a change that names none leaves it."""
        now = datetime.now(UTC)
        for codec, clock_rate_hz, srtp in (("PCMU", 8000, None), ("opus", 48_000, "SDES"), (None, None, None)):
            caller.call.note(
                MediaChanged(at=now, codec=codec, clock_rate_hz=clock_rate_hz, srtp=srtp, on_hold=codec is None)
            )

        assert ("opus", 48_000, "SDES") == (caller.record.codec, caller.record.clock_rate_hz, caller.record.srtp)
        assert caller.call.on_hold

    async def test_first_audio(self, caller: FakeCall) -> None:
        """The caller's first packet is timed from the answer; before it, it is 0."""
        await caller.call.answer()
        answered_at = caller.record.answered_at
        assert answered_at is not None
        caller.call.note(FirstAudioReceived(at=answered_at + timedelta(milliseconds=40)))

        assert 40 == caller.record.rx_first_audio_ms

    async def test_ends_once(self, caller: FakeCall) -> None:
        """The first end of a call is its end."""
        caller.hang_up(q850_cause=16)
        caller.call.note(
            CallDisconnected(
                at=datetime.now(UTC), ended_by=EndedBy.SYSTEM, sip_status=500, reason="", q850_cause=None, rtp=None
            )
        )

        assert (487, 16) == (
            caller.call.disconnected.result().sip_status,
            caller.call.disconnected.result().q850_cause,
        )

    async def test_elapsed(self, caller: FakeCall) -> None:
        """Time counts from the answer."""
        assert 0 == caller.call.elapsed_ms()

        caller.call.note(Responded(at=caller.now() - timedelta(seconds=2), status=200))

        assert 2000 == caller.call.elapsed_ms()


async def test_drained_without_sound(caller: FakeCall) -> None:
    """Where no sound flows there is nothing to wait for."""
    await caller.call.drained()

    assert [] == caller.statuses


class TestStalls:
    """Silences that were ours."""

    async def test_a_gap_in_the_sound(self, caller: FakeCall) -> None:
        """A handler that is late by three frames has one stall of 60 ms, where it was."""
        await caller.call.answer()
        await caller.call.send(np.ones(10 * 320, np.int16))
        await caller.hear(200 + 60)
        await caller.call.send(np.ones(10 * 320, np.int16))
        await caller.hear(300)

        assert [{"cause": "underrun", "started_ms": 200, "ended_ms": 260}] == caller.record.stalls

    async def test_a_long_gap_in_a_playback(self, caller: FakeCall) -> None:
        """Silence amid one playback is ours, however long; between two sounds that a handler sends it may be meant."""

        async def slow_sentences() -> AsyncGenerator[Samples, None]:
            yield np.ones(5 * 320, np.int16)
            await spoken.wait()
            yield np.ones(5 * 320, np.int16)

        spoken = asyncio.Event()
        await caller.call.answer()
        await caller.call.send(np.ones(5 * 320, np.int16))
        await caller.hear(400)
        assert caller.audio is not None
        playing = asyncio.create_task(caller.audio.play_blocks(slow_sentences()))
        await caller.hear(600)
        spoken.set()
        await caller.hear(300)
        await playing

        (stall,) = caller.record.stalls
        assert ("underrun", 500) == (stall["cause"], stall["started_ms"])
        assert 1000 <= stall["ended_ms"] <= 1040
        assert (stall["ended_ms"] - 500) // 20 == caller.audio.counters().underruns

    async def test_a_standstill(self, caller: FakeCall) -> None:
        """Time that the whole agent has missed is a stall of its own."""
        await caller.call.answer()
        await caller.hear(1000)
        assert caller.audio is not None
        caller.audio.note_standstill(600)

        assert [{"cause": "standstill", "started_ms": 380, "ended_ms": 980}] == caller.record.stalls

    async def test_a_pause_of_the_speaker(self, caller: FakeCall) -> None:
        """Silence after a finished playback is nobody's fault."""
        await caller.call.answer()
        for _ in range(2):
            playing = asyncio.create_task(caller.call.play(np.ones(320, np.int16)))
            await caller.hear(200)
            await playing

        assert [] == caller.record.stalls

    async def test_noted_by_a_handler(self, caller: FakeCall) -> None:
        """A handler notes its own; a record keeps so many and no more."""
        for number in range(STALLS_MAX + 5):
            caller.call.note_stall("slow_bot", number, number + 1)

        assert {"cause": "slow_bot", "started_ms": 0, "ended_ms": 1} == caller.record.stalls[0]
        assert STALLS_MAX == len(caller.record.stalls)

    async def test_the_cause_is_text(self, caller: FakeCall) -> None:
        """Another cause is refused where it is handed over."""
        with pytest.raises(TypeError, match="the cause of a stall is a str, not bytes"):
            caller.call.note_stall(b"mine", 0, 1)  # type: ignore[arg-type]


class TestOrderOfTheTranscript:
    """The order of the transcript."""

    async def test_entries_are_in_order_of_time(self, caller: FakeCall) -> None:
        """An entry that is noted late stands where it was said."""
        await caller.call.answer()
        await caller.hear(1000)
        caller.call.transcript.add("agent", "now")
        caller.call.transcript.add("caller", "before", at_ms=400)
        caller.call.tool_call("lookup", {"id": 1}, "found")

        assert ["before", "now", None] == [entry.get("text") for entry in caller.record.transcript]
        assert [400, 1000, 1000] == [entry["at_ms"] for entry in caller.record.transcript]


class TestSendDtmf:
    """The methods of sending digits."""

    async def test_by_info(self, caller: FakeCall) -> None:
        """Digits go by RFC 4733 unless INFO is asked for; nothing else is known."""
        await caller.call.answer()
        await caller.call.send_dtmf("1")
        await caller.call.send_dtmf("2", method="info")
        with pytest.raises(ValueError, match="'rfc4733' or 'info', not 'inband'"):
            await caller.call.send_dtmf("3", method="inband")

        assert ("12", ["rfc4733", "info"]) == (caller.digits, caller.dtmf_methods)
