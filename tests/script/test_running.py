"""Scripts on calls, heard from the other end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import soundfile
from aiohttp import web

from media.endpointing import Endpointing
from media.tones import tone
from sip_agent.handlers.script import ScriptHandler
from sip_agent.script import attention
from sip_agent.status import EndedBy, Outcome
from sip_agent.testing import FakeCall, FakeSpeech, speech_like
from tests.serving import serving_application

RATE_HZ = 16_000
QUICK = Endpointing(end_silence_ms=200)

Start = Callable[..., FakeCall]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a call that is answered by a script, given as its text; what is said to it is recognised as given."""

    def start(text: str, *recognized: str | None, variables: dict[str, str] | None = None, **how: Any) -> FakeCall:
        file = tmp_path / "dialogue.yaml"
        file.write_text(text)
        handler = ScriptHandler(str(file), variables)
        return FakeCall(handler, speech=FakeSpeech(recognized), endpointing=QUICK, **how)

    return start


async def say_something(caller: FakeCall) -> None:
    """Say what takes half a second, and be silent until it is over."""
    await caller.speak(speech_like(500))
    await caller.hear(400)


async def after(caller: FakeCall, text: str) -> None:
    """Wait until the agent has said this."""
    await caller.until(lambda: text in caller.said, f"{text!r} in {caller.said}")


def verdict(caller: FakeCall) -> tuple[Outcome | None, str | None, str | None]:
    """Return what the record says of how the script came out."""
    return caller.record.outcome, caller.record.error, caller.record.end_reason


class TestSpeaking:
    """What is said, and when the call is answered."""

    async def test_it_answers_by_itself_says_its_texts_and_hangs_up(self, start: Start) -> None:
        """A script needs no more than a text to say; the record says where it ended."""
        async with start("steps:\n  - say: Hello\n  - say: Good bye\n") as caller:
            await caller.until_ended()

        assert (["Hello", "Good bye"], [200]) == (caller.said, caller.statuses)
        assert EndedBy.AGENT == caller.record.ended_by
        assert (Outcome.ANSWERED, None, "script dialogue.yaml ended at line 3 (say)") == verdict(caller)

    async def test_texts_have_variables_and_headers(self, start: Start) -> None:
        """Variables are those of the script or of its options; headers are found in any letter case."""
        script = """
variables: {guest: nobody, place: here}
steps:
  - set: {greeting: "{guest} of {x-Customer}"}
  - say: "{greeting}, {place}, {X-Nothing|no more}, run {run_id}, {{{called}}}"
  - hangup: "{guest} was greeted"
"""
        headers = {"X-Customer": "Acme", "X-Run-Id": "007"}
        async with start(script, variables={"guest": "Ada"}, headers=headers) as caller:
            await caller.until_ended()

        assert ["Ada of Acme, here, no more, run 007, {agent}"] == caller.said
        assert "script dialogue.yaml ended at line 6 (hangup: Ada was greeted)" == caller.record.end_reason

    async def test_ring_and_answer(self, start: Start) -> None:
        """The steps before the answer are those of SIP."""
        async with start("steps:\n  - ring: 10ms\n  - progress\n  - say: Early\n  - answer\n  - say: Late\n") as caller:
            await caller.until_ended()

        assert ([180, 183, 200], ["Early", "Late"]) == (caller.statuses, caller.said)

    async def test_reject(self, start: Start) -> None:
        """A call can be refused; that is no failure of the script."""
        async with start("steps:\n  - ring\n  - reject: 486\n") as caller:
            await caller.until_ended()

        assert [180, 486] == caller.statuses
        assert (Outcome.REJECTED, None, "script dialogue.yaml, line 3: reject") == verdict(caller)

    async def test_play(self, start: Start, tmp_path: Path) -> None:
        """Sound files are found beside the script."""
        soundfile.write(tmp_path / "beep.wav", tone(1000, 400, RATE_HZ), RATE_HZ)
        async with start("steps:\n  - play: beep.wav\n") as caller:
            await caller.until_ended()

        assert 20 == sum(frame.any() for frame in caller.heard.reshape(-1, 320))

    async def test_send_dtmf_and_transfer(self, start: Start) -> None:
        """Keys are pressed, and the caller is sent on: the script waits for it to go."""
        script = "steps:\n  - send_dtmf: 1\n    method: info\n  - transfer: sip:{caller}@example.net\n"
        async with start(script) as caller:
            await caller.until(lambda: bool(caller.transfers), "a transfer")
            assert not caller.ended
            caller.hang_up()

        assert ("1", ["info"], ["sip:caller@example.net"]) == (caller.digits, caller.dtmf_methods, caller.transfers)
        assert (Outcome.ANSWERED, None) == verdict(caller)[:2]

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (200, (Outcome.ANSWERED, None)),
            (
                486,
                (
                    Outcome.FAILED,
                    "script dialogue.yaml, line 3: transfer: the other side did not reach sip:desk@example.net: 486",
                ),
            ),
        ],
    )
    async def test_what_became_of_a_transfer(
        self, start: Start, status: int, expected: tuple[Outcome, str | None]
    ) -> None:
        """The script goes when the caller got through, and fails when it did not; until then it waits."""
        async with start("steps:\n  - answer\n  - transfer: sip:desk@example.net\n") as caller:
            await caller.until(lambda: bool(caller.transfers), "a transfer")
            caller.report_transfer(180, "Ringing")
            await caller.hear(100)
            assert not caller.ended
            caller.report_transfer(status)
            await caller.until_ended()

        assert expected == verdict(caller)[:2]

    async def test_transfer_to_what_is_no_uri(self, start: Start) -> None:
        """A variable with a line end in it fails the script in its line, and is not sent."""
        script = 'variables: {target: ""}\nsteps:\n  - transfer: "{target}"\n'
        async with start(script, variables={"target": "sip:x@example.net\r\nX-Evil: 1"}) as caller:
            await caller.until_ended()

        outcome, error, _ = verdict(caller)
        assert (Outcome.FAILED, []) == (outcome, caller.transfers)
        assert str(error).startswith(
            "script dialogue.yaml, line 3: transfer: nobody can be called by 'sip:x@example.net\\r"
        )

    async def test_transfer_refused(self, start: Start) -> None:
        """A caller that does not want to be sent on fails the script, in its line."""
        async with start("steps:\n  - answer\n  - transfer: sip:desk@example.net\n", refuse={"transfer"}) as caller:
            await caller.until_ended()

        error = "script dialogue.yaml, line 3: transfer: transfer: refused by the test"
        assert (Outcome.FAILED, error) == verdict(caller)[:2]

    @pytest.mark.parametrize(("barge_in", "whole"), [("stop", False), ("pause", False), ("ignore", True)])
    async def test_barge_in(self, start: Start, barge_in: str, whole: bool) -> None:
        """The step says whether speech interrupts it; what interrupts is heard by the next step."""
        text = "one two three four five six seven eight nine ten"
        script = f"steps:\n  - say: {text}\n    barge_in: {barge_in}\n  - listen: speech\n  - say: yes\n"
        async with start(script) as caller:
            await caller.until_answered()
            await caller.hear(500)
            await say_something(caller)
            if whole:
                await after(caller, text)
                await say_something(caller)
            await caller.until_ended()

        assert whole == (text in caller.said)
        assert "yes" == caller.said[-1]
        assert caller.record.error is None

    async def test_who_interrupts_need_not_hear_the_rest(self, start: Start) -> None:
        """What leads to the same `listen` is left out then; what nobody listens after is said all the same."""
        script = """
steps:
  - say: Welcome to the menu.
  - say: Press one for this, or two for that.
  - listen: {dtmf: 1}
  - say: This is a long text that is interrupted.
  - set: {name: x}
  - say: Good bye.
"""
        async with start(script) as caller:
            await caller.until_answered()
            await caller.hear(500)
            caller.press("1")
            await caller.hear(700)
            await say_something(caller)
            await caller.until_ended()

        assert ["Welcome", "This", "Good bye."] == [
            text if text == "Good bye." else text.split()[0] for text in caller.said
        ]

    @pytest.mark.parametrize(("barge_in", "whole"), [("stop", False), ("ignore", True)])
    async def test_a_key_interrupts_too(self, start: Start, barge_in: str, whole: bool) -> None:
        """A caller who knows the menu need not hear it out; keys are never lost."""
        text = "press one or two or three or four"
        script = f"steps:\n  - say: {text}\n    barge_in: {barge_in}\n  - listen: {{dtmf: 1}}\n  - say: one\n"
        async with start(script) as caller:
            await caller.until_answered()
            await caller.hear(500)
            caller.press("1")
            await caller.until_ended()

        assert (whole, "one") == (text in caller.said, caller.said[-1])


class TestListening:
    """What is waited for."""

    ORDER = """
steps:
  - say: How many?
  - listen:
      - text: [two, for two people]
        go: two
      - regex: '(?P<people>\\w+) (?:people|guests)'
        do:
          - say: So {people}.
      - dtmf: XX
        do:
          - say: Keys {digits}.
    as: answer
    timeout: 100ms
  - say: You said {answer}.
scenes:
  two:
    - say: Two, then.
"""

    @pytest.mark.parametrize(
        ("heard", "said"),
        [
            ("We are TWO, please!", ["Two, then."]),
            ("twenty people", ["So twenty.", "You said twenty people."]),
        ],
    )
    async def test_speech(self, start: Start, heard: str, said: list[str]) -> None:
        """The first case that fits counts; a regular expression's named groups are variables."""
        async with start(self.ORDER, heard) as caller:
            await after(caller, "How many?")
            await say_something(caller)
            await caller.until_ended()

        assert ["How many?", *said] == caller.said
        assert {"speaker": "caller", "text": heard} == {
            key: value for key, value in caller.record.transcript[1].items() if key != "at_ms"
        }

    async def test_keys(self, start: Start) -> None:
        """Keys are collected as the pattern has them."""
        async with start(self.ORDER) as caller:
            await after(caller, "How many?")
            caller.press("12")
            await caller.until_ended()

        assert ["How many?", "Keys 12.", "You said 12."] == caller.said

    async def test_nothing_comes(self, start: Start) -> None:
        """The script fails, and says at which line, what it waited for, and what it heard instead."""
        async with start(self.ORDER, "maybe") as caller:
            await after(caller, "How many?")
            await say_something(caller)
            caller.press("*")
            await caller.until_ended()

        outcome, error, reason = verdict(caller)
        assert Outcome.FAILED == outcome
        assert 'line 4: listen: nothing that it waits for came within 0.1 s; it heard "maybe", DTMF *' in str(error)
        assert "script dialogue.yaml failed at line 4 (listen)" == reason

    async def test_without_a_recogniser(self, start: Start) -> None:
        """What nobody recognises fits any speech, and no text; the failure says why."""
        script = "steps:\n  - listen: speech\n  - say: And?\n  - listen: {text: yes}\n    timeout: 100ms\n"
        async with start(script) as caller:
            await caller.until_answered()
            await say_something(caller)
            await after(caller, "And?")
            await say_something(caller)
            await caller.until_ended()

        assert "it heard speech that was not recognised" in str(caller.record.error)

    @pytest.mark.parametrize(("says", "answer"), [(None, "nothing"), ("maybe", "maybe")])
    async def test_otherwise(self, start: Start, says: str | None, answer: str) -> None:
        """Something else, or nothing at all, is what otherwise is for; the script goes on after it."""
        script = """
steps:
  - say: Well?
  - listen: {text: yes}
    timeout: 150ms
    otherwise:
      - say: I heard {heard|nothing}.
  - say: Bye.
"""
        async with start(script, says) as caller:
            await after(caller, "Well?")
            if says:
                await say_something(caller)
            await caller.until_ended()

        assert ["Well?", f"I heard {answer}.", "Bye."] == caller.said

    async def test_silence(self, start: Start) -> None:
        """Silence is something to wait for, too; speech puts it off."""
        script = "steps:\n  - listen:\n      - text: go on\n      - silence: 200ms\n  - say: Still there?\n"
        async with start(script, "hm") as caller:
            await caller.until_answered()
            await caller.speak(speech_like(500))
            await asyncio.wait({caller.call.disconnected}, timeout=0.3)
            assert [] == caller.said
            await caller.hear(400)
            await caller.until_ended()

        assert ["Still there?"] == caller.said

    async def test_somebody_who_is_speaking_is_heard_out(self, start: Start) -> None:
        """The time-out does not cut a long answer short."""
        async with start("steps:\n  - listen: {text: done}\n    timeout: 50ms\n", "and now I am done") as caller:
            await caller.until_answered()
            await caller.speak(speech_like(500))
            await asyncio.wait({caller.call.disconnected}, timeout=0.2)
            assert not caller.ended
            await caller.hear(400)
            await caller.until_ended()

        assert caller.record.error is None

    async def test_noise_without_end_is_no_answer(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who never stops is not heard out for ever."""
        monkeypatch.setattr(attention, "HEARD_OUT_S", 0.1)
        async with start("steps:\n  - listen: {text: done}\n    timeout: 50ms\n") as caller:
            await caller.until_answered()
            await caller.speak(speech_like(500))
            await caller.call.disconnected

        assert "nothing that it waits for came within 0.05 s" in str(caller.record.error)

    async def test_the_first_of_several_key_patterns(self, start: Start) -> None:
        """A pattern that may go on is waited for, until the keys pause."""
        script = """
steps:
  - listen:
      - dtmf: 1
        do: [{say: one}]
      - dtmf: 12#
        do: [{say: twelve}]
  - listen:
      - dtmf: X+
        do: [{say: "{digits}"}]
"""
        async with start(script) as caller:
            await caller.until_answered()
            caller.press("12#")
            await after(caller, "twelve")
            caller.press("345")
            await caller.until_ended()

        assert ["twelve", "345"] == caller.said


class TestHangingUp:
    """The other side goes first."""

    async def test_with_something_left_to_hear(self, start: Start) -> None:
        """A script that still wanted to hear something has failed, wherever it was."""
        script = "steps:\n  - say: A long greeting that nobody hears out\n  - listen: {text: yes}\n"
        async with start(script) as caller:
            await caller.until_answered()
            await caller.hear(200)
            caller.hang_up()

        outcome, error, reason = verdict(caller)
        assert (Outcome.FAILED, "the caller hung up") == (outcome, reason)
        assert "script dialogue.yaml, line 3: listen: the other side hung up; it heard nothing" == error

    async def test_with_nothing_left_to_hear(self, start: Start) -> None:
        """Not to hear the good-bye out is no failure."""
        async with start("steps:\n  - say: Good bye, and do call again some time\n  - wait: 10s\n") as caller:
            await caller.until_answered()
            await caller.hear(200)
            caller.hang_up()

        assert (Outcome.ANSWERED, None) == verdict(caller)[:2]

    async def test_as_it_is_expected(self, start: Start) -> None:
        """A case of `listen` can be that the other side hangs up."""
        async with start("steps:\n  - listen:\n      - text: yes\n      - hangup\n  - say: No\n") as caller:
            await caller.until_answered()
            await caller.hear(100)
            caller.hang_up()

        assert (Outcome.ANSWERED, None, []) == (*verdict(caller)[:2], caller.said)

    async def test_last_words_count(self, start: Start) -> None:
        """What was said just before is still heard."""
        async with start("steps:\n  - listen: {text: good bye}\n  - listen: hangup\n", "well, good bye") as caller:
            await caller.until_answered()
            await caller.hear(100)
            await caller.speak(speech_like(500))
            caller.hang_up()

        assert (Outcome.ANSWERED, None) == verdict(caller)[:2]

    async def test_before_the_answer(self, start: Start) -> None:
        """A caller that gives up has cancelled the call, and the script has not failed."""
        async with start("steps:\n  - ring: 10s\n  - listen: speech\n") as caller:
            await caller.until(lambda: caller.statuses == [180])
            caller.hang_up()

        assert (Outcome.CANCELLED, None) == verdict(caller)[:2]


class TestFlow:
    """Branches, repetitions and limits."""

    async def test_branch(self, start: Start) -> None:
        """The first case that is true counts; values are compared in any letter case."""
        script = """
variables: {size: Large, empty: ""}
steps:
  - branch:
      - if: empty
        do: [{say: not empty}]
      - if: X-Missing
        do: [{say: there}]
      - if: size
        is: [small, medium]
        do: [{say: small}]
      - if: size
        regex: '^(?P<first>.)arge$'
        do:
          - branch:
              - if: X-Order
                text: two
                go: large
    otherwise:
      - say: none
scenes:
  large:
    - say: large, {first}
"""
        async with start(script, headers={"X-Order": "for two!"}) as caller:
            await caller.until_ended()

        assert ["large, L"] == caller.said

    async def test_repeat(self, start: Start) -> None:
        """Steps are repeated so often, unless they go elsewhere."""
        script = """
steps:
  - repeat: 3
    steps:
      - say: Well?
      - listen: {text: yes}
        timeout: 50ms
        otherwise: [{set: {tries: "{tries}x"}}]
  - say: "{tries}"
"""
        async with start(script) as caller:
            await caller.until_ended()

        assert ["Well?", "Well?", "Well?", "xxx"] == caller.said

    @pytest.mark.parametrize(
        ("limits", "error"),
        [
            ("steps: 50", "the script took more than 50 steps (limits.steps)"),
            ("turns: 5", "the script listened more than 5 times (limits.turns)"),
            ("duration: 50ms", "the script took longer than 0.05 s (limits.duration)"),
        ],
    )
    async def test_limits(self, start: Start, limits: str, error: str) -> None:
        """No script goes on for ever."""
        script = f"""
limits: {{{limits}}}
steps:
  - go: round
scenes:
  round:
    - listen: {{text: never}}
      timeout: 1ms
      otherwise:
        - go: round
"""
        async with start(script) as caller:
            await caller.until_ended()

        assert Outcome.FAILED == caller.record.outcome
        assert error in str(caller.record.error)

    async def test_fail(self, start: Start) -> None:
        """A script can say itself that the test has failed."""
        async with start("steps:\n  - answer\n  - fail: no booking for {caller}\n") as caller:
            await caller.until_ended()

        assert Outcome.FAILED == caller.record.outcome
        assert "script dialogue.yaml, line 3: fail: no booking for caller" == caller.record.error

    async def test_what_cannot_be_said(self, start: Start) -> None:
        """An error of the call is told with the line of the step."""
        async with start("steps:\n  - send_dtmf: 1\n", refuse={"send_dtmf"}) as caller:
            await caller.until_ended()

        assert "script dialogue.yaml, line 2: send_dtmf: send_dtmf: refused by the test" == caller.record.error

    async def test_a_regular_expression_without_end(self, start: Start) -> None:
        """It fails the script, and no other call waits for it."""
        script = "steps:\n  - listen: {regex: '(a|a?)+(b|a+)+$'}\n"
        async with start(script, "a" * 200 + "!") as caller:
            await caller.until_answered()
            await say_something(caller)
            await caller.until_ended()

        assert "takes too long" in str(caller.record.error)


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Serve one HTTP address; yields it."""
    application = web.Application()
    application.router.add_post("/book", answer)
    async with serving_application(application) as address:
        yield f"{address}/book"


class TestTools:
    """HTTP addresses and Python functions."""

    async def test_an_address(self, start: Start) -> None:
        """It gets the arguments as JSON, numbers as numbers; its answer is a variable and in the record."""
        asked: list[Any] = []

        async def answer(request: web.Request) -> web.Response:
            asked.append(await request.json())
            return web.json_response({"table": 7, "guests": [{"name": "Ada"}]})

        async with serving(answer) as address:
            script = f"""
steps:
  - tool: {address}
    with: {{guest: "{{caller}}", seats: 2, extra: [true, "{{called}}"]}}
    as: booking
  - say: Table {{booking.table}} for {{booking.guests.0.name}}, {{booking.nothing|no more}}
"""
            async with start(script) as caller:
                await caller.until_ended()

        arguments = {"guest": "caller", "seats": 2, "extra": [True, "agent"]}
        assert [arguments] == asked
        assert ["Table 7 for Ada, no more"] == caller.said
        (entry,) = [entry for entry in caller.record.transcript if "tool" in entry]
        assert ("book", arguments, {"table": 7, "guests": [{"name": "Ada"}]}) == (
            entry["tool"],
            entry["arguments"],
            entry["result"],
        )

    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (500, "out of order", "HTTP 500 out of order"),
            (302, "", "HTTP 302"),
            (200, "x" * 70_000, "the answer is longer than 65536 bytes"),
        ],
    )
    async def test_an_address_that_fails(self, start: Start, status: int, body: str, error: str) -> None:
        """Without steps for it, the script has failed; the record has the call and why."""

        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, text=body, headers={"Location": "/book"})

        async with serving(answer) as address, start(f"steps:\n  - tool: {address}\n") as caller:
            await caller.until_ended()

        assert f"line 2: tool: book: {error}" in str(caller.record.error)
        assert {"error": error} == caller.record.transcript[0]["result"]

    async def test_an_address_that_does_not_answer(self, start: Start) -> None:
        """It has a time-out, and there may be steps for when it fails."""

        async def answer(_: web.Request) -> web.Response:
            await asyncio.Event().wait()
            raise AssertionError

        async with serving(answer) as address:
            script = f"steps:\n  - tool: {address}\n    timeout: 50ms\n    otherwise:\n      - say: Sorry\n"
            async with start(script) as caller:
                await caller.until_ended()

        assert ["Sorry"] == caller.said
        assert {"error": "no answer within 0.05 s"} == caller.record.transcript[0]["result"]

    @pytest.mark.parametrize("kind", ["def", "async def"])
    async def test_a_function(self, start: Start, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Functions are found beside the script, with or without async."""
        monkeypatch.syspath_prepend(str(tmp_path))
        module = f"tables_{kind[0]}"
        (tmp_path / f"{module}.py").write_text(f"{kind} reserve(seats):\n    return {{'seats': seats * 2}}\n")
        script = f"steps:\n  - tool: {module}:reserve\n    with: {{seats: 2}}\n    as: it\n  - say: '{{it.seats}}'\n"
        async with start(script) as caller:
            await caller.until_ended()

        assert (["4"], "reserve") == (caller.said, caller.record.transcript[0].get("tool"))

    @pytest.mark.parametrize("kind", ["def", "async def"])
    async def test_a_function_that_exits(
        self, start: Start, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A function that ends the process is one that fails."""
        monkeypatch.syspath_prepend(str(tmp_path))
        module = f"leaving_{kind[0]}"
        (tmp_path / f"{module}.py").write_text(f"import sys\n\n\n{kind} leave():\n    sys.exit(3)\n")
        async with start(f"steps:\n  - tool: {module}:leave\n") as caller:
            await caller.until_ended()

        assert "line 2: tool: leave: the tool called sys.exit()" in str(caller.record.error)

    async def test_a_function_that_raises(self, start: Start) -> None:
        """What it raises is in the record."""
        async with start("steps:\n  - tool: math:sqrt\n    name: root\n    with: {x: 1}\n") as caller:
            await caller.until_ended()

        assert "line 2: tool: root: TypeError" in str(caller.record.error)
