"""Running a script on a call."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any, NoReturn

import structlog

from media.wav import AudioFileError
from sip_agent.audio import BargeIn, Playback
from sip_agent.call import DIGIT_S, Call
from sip_agent.digits import DTMF_DIGITS
from sip_agent.errors import CallEnded, CallRejected, MessageError, SipAgentError
from sip_agent.invite import SipUri
from sip_agent.script.attention import Attention
from sip_agent.script.checking import LoadedScript, sound_of
from sip_agent.script.language import (
    Answer,
    AnyStep,
    Branch,
    BranchCase,
    Consequence,
    Fail,
    Go,
    Hangup,
    Listen,
    Part,
    Play,
    Progress,
    Reject,
    Repeat,
    Ring,
    Say,
    SendDtmf,
    Set,
    Step,
    Tool,
    Transfer,
    Wait,
    map_texts,
)
from sip_agent.script.listening import Listener
from sip_agent.script.matching import RegexTooSlow, has_words, is_same, search
from sip_agent.script.templates import as_text, expand, look_up
from sip_agent.script.tools import ToolFailed, use_tool

TRANSFER_S = 10.0
"""How long the other side has to hang up, or to say how its call went, after it was asked to call somebody else."""

log = structlog.get_logger()


class ScriptFailed(SipAgentError):  # noqa: N818  (what a test run is to report)
    """What the script waits for did not come, or it could not do what it says; the message has the file and line."""


class End(Enum):
    """The script has come to its end."""

    END = "end"


Next = str | End | None
"""Where a script goes on: with a scene, nowhere, or with the next step."""

_FLOW = (Listen, Branch, Repeat, Set, Go, Hangup, Fail)
"""The steps that a script takes even when the other side is gone."""


class ScriptRun:
    """One run of a script: on an inbound call that is not answered yet, or an outbound one that is."""

    def __init__(self, loaded: LoadedScript, call: Call) -> None:
        self._script = loaded.script
        self._path = loaded.path
        self._call = call
        self._variables = {**_built_in(call), **loaded.script.variables}
        self._step: Part = loaded.script
        self._steps_taken = self._turns = 0
        self._reason = ""
        self._early_media = self._interrupted = False
        self._listener: Listener
        self._performers: dict[type[Step], Callable[[Any], Awaitable[Next]]] = {
            Listen: self._listen,
            Branch: self._branch,
            Repeat: self._repeat,
            Set: self._set,
            Go: self._go,
            Hangup: self._end,
            Fail: self._give_up,
            Ring: self._ring,
            Progress: self._progress,
            Answer: self._answer,
            Reject: self._reject,
            Say: self._say,
            Play: self._play,
            Wait: self._wait,
            SendDtmf: self._send_dtmf,
            Transfer: self._transfer,
            Tool: self._use,
        }

    async def run(self) -> None:
        """Run the script to its end and hang up; raises ScriptFailed when it could not do what it says.

        Once the other side has hung up, nothing more is said or done; the script goes on only to see whether there
        was something left that it wants to hear. If so it has failed.
        """
        limit = self._script.limits.duration.total_seconds()
        try:
            try:
                async with asyncio.timeout(limit) as timer, Listener(self._call) as self._listener:
                    await self._play_scenes()
            except TimeoutError:
                if not timer.expired():
                    raise
                self._fail(f"the script took longer than {limit:g} s (limits.duration)")
        except ScriptFailed:
            await self._hang_up("failed")
            raise
        await self._hang_up("ended")

    async def _play_scenes(self) -> None:
        if self._call.answered:
            self._listener.open()
        following = await self._take_all(self._script.steps)
        while isinstance(following, str):
            following = await self._take_all(self._script.scenes[following])

    async def _take_all(self, steps: Sequence[AnyStep]) -> Next:
        for index, step in enumerate(steps):
            if self._interrupted and isinstance(step, Say | Play) and _is_prompt(steps[index:]):
                continue
            if (following := await self._take(step)) is not None:
                return following
        return None

    async def _take(self, step: AnyStep) -> Next:
        self._step = step
        self._steps_taken += 1
        if self._steps_taken > self._script.limits.steps:
            self._fail(f"the script took more than {self._script.limits.steps} steps (limits.steps)")
        if self._call.ended and not self._call.answered:
            raise CallEnded("the call was over before the answer")
        log.debug("script.step", line=step.place.line, step=step.kind)
        await asyncio.sleep(0)  # a script that only branches leaves other calls their turn
        if self._call.ended and not isinstance(step, _FLOW):
            return None
        try:
            return await self._performers[type(step)](step)
        except CallEnded:
            return None
        except (CallRejected, ScriptFailed):
            raise
        except (SipAgentError, AudioFileError, RegexTooSlow) as error:
            self._fail(str(error))

    # Steps that only lead the script

    async def _listen(self, step: Listen) -> Next:
        self._turns += 1
        self._interrupted = False
        if self._turns > self._script.limits.turns:
            self._fail(f"the script listened more than {self._script.limits.turns} times (limits.turns)")
        if not self._call.ended:
            await self._open_sound()
        heard = await Attention(step, self._listener, self._call, self._fill).wait()
        self._variables.update({"heard": heard.text, "digits": heard.keys, **heard.groups})
        if step.store_as is not None:
            self._variables[step.store_as] = heard.text or heard.keys
        case = heard.case
        log.info("script.heard", line=(case or step).place.line, fits=None if case is None else case.condition)
        if case is not None:
            return End.END if heard.gone else await self._follow(case)
        if heard.gone or step.otherwise is None:
            self._fail(heard.why)
        return await self._take_all(step.otherwise)

    async def _branch(self, step: Branch) -> Next:
        for case in step.branch:
            if await self._is_true(case):
                return await self._follow(case)
        return await self._take_all(step.otherwise or [])

    async def _is_true(self, case: BranchCase) -> bool:
        value = as_text(look_up(case.variable, self._variables))
        if case.equals is not None:
            return any(is_same(value, self._fill(text)) for text in case.equals)
        if case.text is not None:
            return any(has_words(value, self._fill(words)) for words in case.text)
        if case.regex is not None:
            groups = await search(case.regex, value)
            self._variables.update(groups or {})
            return groups is not None
        return bool(value.strip())

    async def _follow(self, case: Consequence) -> Next:
        return case.go or await self._take_all(case.do or [])

    async def _repeat(self, step: Repeat) -> Next:
        for _ in range(step.repeat):
            if (following := await self._take_all(step.steps)) is not None:
                return following
        return None

    async def _set(self, step: Set) -> Next:
        self._variables.update({name: self._fill(text) for name, text in step.set.items()})
        return None

    async def _go(self, step: Go) -> Next:
        return step.go

    async def _end(self, step: Hangup) -> Next:
        self._reason = self._fill(step.hangup or "")
        return End.END

    async def _give_up(self, step: Fail) -> Next:
        self._fail(self._fill(step.fail))

    # Steps that need the other side to be there

    async def _ring(self, step: Ring) -> Next:
        if not self._call.answered:
            await self._call.ring()
            await self._pass_time(0 if step.ring is None else step.ring.total_seconds())
        return None

    async def _progress(self, _: Progress) -> Next:
        if not self._call.answered and not self._early_media:
            await self._call.progress()
            self._early_media = True
        return None

    async def _answer(self, _: Answer) -> Next:
        self._early_media = False
        await self._open_sound()
        return None

    async def _reject(self, step: Reject) -> Next:
        if self._call.answered:
            self._fail("the call is answered already: it can only be hung up")
        raise CallRejected(step.reject, f"script {self._path.name}, line {step.place.line}: reject")

    async def _say(self, step: Say) -> Next:
        voice = None if step.voice is None else self._fill(step.voice)
        await self._speak(self._call.say, self._fill(step.say), step.barge_in, voice=voice)
        return None

    async def _play(self, step: Play) -> Next:
        await self._speak(self._call.play, sound_of(step, self._path.parent), step.barge_in)
        return None

    async def _speak(self, speak: Callable[..., Awaitable[Playback]], what: Any, barge_in: BargeIn, **how: Any) -> None:
        """Say or play something; a key interrupts it like speech, and who interrupted is heard out first."""
        await self._open_sound()
        if self._interrupted:
            await self._listener.silence()
        ignore = barge_in is BargeIn.IGNORE
        self._listener.on_key = None if ignore else self._call.stop_playback
        try:
            playback = await speak(what, barge_in=barge_in, **how)
        finally:
            self._listener.on_key = None
        self._interrupted = playback.interrupted
        if ignore:
            self._listener.forget_speech()

    async def _wait(self, step: Wait) -> Next:
        await self._pass_time(step.wait.total_seconds())
        return None

    async def _send_dtmf(self, step: SendDtmf) -> Next:
        await self._open_sound()
        digits = self._fill(step.send_dtmf).upper()
        if not digits or set(digits) - DTMF_DIGITS:
            self._fail(f"{digits!r} are no DTMF digits (0-9 * # A-D)")
        await self._call.send_dtmf(digits, step.method)
        await self._pass_time(DIGIT_S * len(digits))
        return None

    async def _transfer(self, step: Transfer) -> Next:
        self._early_media = False
        await self._open_sound()
        uri = self._fill(step.transfer)
        try:
            await self._call.transfer(uri)
        except ValueError as error:
            self._fail(str(error))
        status = await self._call.transferred(TRANSFER_S)
        if status is not None and status >= 300:
            self._fail(f"the other side did not reach {uri}: {status}")
        return End.END

    async def _use(self, step: Tool) -> Next:
        arguments = map_texts(step.arguments, self._fill)
        timeout_s = step.timeout.total_seconds()
        try:
            answer = await use_tool(step.tool, arguments, timeout_s=timeout_s, folder=self._path.parent)
        except ToolFailed as error:
            self._call.tool_call(step.label, arguments, {"error": str(error)})
            if step.otherwise is None:
                self._fail(f"{step.label}: {error}")
            return await self._take_all(step.otherwise)
        self._call.tool_call(step.label, arguments, answer)
        if step.store_as is not None:
            self._variables[step.store_as] = answer
        return None

    async def _open_sound(self) -> None:
        """Let sound flow: answer, unless it flows before the answer."""
        if not self._call.answered and not self._early_media:
            await self._call.answer()
        self._listener.open()

    async def _pass_time(self, seconds: float) -> None:
        await asyncio.wait({self._call.disconnected}, timeout=seconds)

    # The ends

    def _fill(self, text: str) -> str:
        return expand(text, self._variables)

    def _fail(self, why: str) -> NoReturn:
        kind = f"{self._step.kind}: " if isinstance(self._step, Step) else ""
        raise ScriptFailed(f"script {self._path.name}, line {self._step.place.line}: {kind}{why}")

    async def _hang_up(self, how: str) -> None:
        """End an answered call, and say in its record where the script was."""
        if not self._call.answered or self._call.ended:
            return
        where = f"line {self._step.place.line}"
        if isinstance(self._step, Step):
            where += f" ({self._step.kind}{self._reason and ': '}{self._reason})"
        await self._call.hangup(reason=f"script {self._path.name} {how} at {where}")


def _is_prompt(steps: Sequence[AnyStep]) -> bool:
    """Tell whether the first of these steps leads to a `listen`: who interrupts such a text has heard enough."""
    following = next((step for step in steps if not isinstance(step, Say | Play | Set | Wait)), None)
    return isinstance(following, Listen)


def _built_in(call: Call) -> dict[str, Any]:
    """Return the variables that every script has, and each header under its name in small letters."""
    return {
        "caller": _user(call.invite.from_uri),
        "called": _user(call.invite.to_uri),
        "run_id": call.ids.run_id or "",
        "scenario_id": call.ids.scenario_id or "",
        "result_id": call.ids.result_id or "",
        "call_uuid": call.call_uuid,
        "heard": "",
        "digits": "",
        **{name.lower(): values[0] for name, values in call.headers.items()},
    }


def _user(uri: str) -> str:
    try:
        return SipUri.parse(uri).user
    except MessageError:
        return ""
