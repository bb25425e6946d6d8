"""One `listen`: waiting until something is heard that a case takes."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain

from sip_agent.call import Call
from sip_agent.script.language import Listen, ListenCase
from sip_agent.script.listening import Listener, Pressed, Spoken
from sip_agent.script.matching import HEARD_CHARS_MAX, Fit, Keys, has_words, search

KEY_PAUSE_S = 2.0
"""Keys that may go on, and did not for so long, are complete."""

HEARD_OUT_S = 30.0
"""Who is still speaking at the time-out is heard for so much longer; music and noise have no end."""

PASSED_OVER_MAX = 5
"""What was heard and fits nothing is told when the script fails; so much of it."""

_TIMER_S = 0.002
"""Timers may fire so much early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """How a `listen` came out: the case that was met, or `why` none was; `gone` if the call is over."""

    case: ListenCase | None = None
    text: str = ""
    keys: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    gone: bool = False


class Attention:
    """The wait of one `listen`; `fill` puts the variables into a text."""

    def __init__(self, step: Listen, listener: Listener, call: Call, fill: Callable[[str], str]) -> None:
        self._step = step
        self._listener = listener
        self._call = call
        self._fill = fill
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._keys = ""
        self._last_key = 0.0
        self._passed_over: deque[str] = deque(maxlen=PASSED_OVER_MAX)

    async def wait(self) -> Heard:
        """Wait for a case, for something else (if the step has `otherwise`), for the time-out or the end of the call.

        Raises RegexTooSlow.
        """
        while True:
            heard = await self._listener.next(self._next_moment())
            match heard:
                case Spoken(text=text):
                    outcome = await self._take_speech(text)
                case Pressed(key=key):
                    outcome = self._take_key(key)
                case None:
                    outcome = await self._take_time()
            if outcome is not None:
                return outcome

    def _next_moment(self) -> float:
        """Return when something happens if nothing is heard until then."""
        if self._call.ended:
            return self._loop.time()
        if self._keys:
            return self._last_key + KEY_PAUSE_S
        if self._listener.busy:
            return self._deadline + HEARD_OUT_S
        return min(chain((self._deadline,), (moment for moment, _ in self._silences())))

    @property
    def _deadline(self) -> float:
        return self._began + self._step.timeout.total_seconds()

    def _silences(self) -> list[tuple[float, ListenCase]]:
        """Return when each case of silence is met."""
        quiet_since = max(self._began, self._listener.quiet_since)
        cases = [(case, case.silence) for case in self._step.listen if case.silence is not None]
        return [(quiet_since + silence.total_seconds(), case) for case, silence in cases]

    async def _take_speech(self, text: str | None) -> Heard | None:
        said = (text or "")[:HEARD_CHARS_MAX]
        for case in self._step.listen:
            if case.speech is not None:
                return Heard(case=case, text=said)
            if said and case.text is not None and any(has_words(said, self._fill(words)) for words in case.text):
                return Heard(case=case, text=said)
            if said and case.regex is not None and (groups := await search(case.regex, said)) is not None:
                return Heard(case=case, text=said, groups=groups)
        return self._pass_over(f'"{said}"' if said else "speech that was not recognised", text=said)

    def _take_key(self, key: str) -> Heard | None:
        self._keys += key
        self._last_key = self._loop.time()
        fits = self._fits()
        if any(fit in {Fit.BEGUN, Fit.WHOLE_AND_MORE} for _, fit in fits):
            return None
        return self._settle_keys()

    def _settle_keys(self) -> Heard | None:
        """Take the keys as they are: nothing more comes, or nothing more would fit."""
        whole = next((case for case, fit in self._fits() if fit in {Fit.WHOLE, Fit.WHOLE_AND_MORE}), None)
        keys, self._keys = self._keys, ""
        if whole is not None:
            return Heard(case=whole, keys=keys)
        return self._pass_over(f"DTMF {keys}", keys=keys)

    def _fits(self) -> list[tuple[ListenCase, Fit]]:
        return [
            (case, Keys.parse(pattern).fit(self._keys)) for case in self._step.listen for pattern in case.dtmf or ()
        ]

    async def _take_time(self) -> Heard | None:
        now = self._loop.time() + _TIMER_S
        if self._call.ended:
            return await self._take_end()
        if self._keys:
            return self._settle_keys() if now >= self._last_key + KEY_PAUSE_S else None
        if self._listener.busy:
            return self._nothing() if now >= self._deadline + HEARD_OUT_S else None
        due = min((item for item in self._silences() if now >= item[0]), key=lambda item: item[0], default=None)
        if due is not None:
            return Heard(case=due[1])
        return self._nothing() if now >= self._deadline else None

    def _nothing(self) -> Heard:
        within_s = self._step.timeout.total_seconds()
        return Heard(why=f"nothing that it waits for came within {within_s:g} s{self._told()}")

    async def _take_end(self) -> Heard | None:
        """Take the end of the call, once everything that was said before it has been looked at."""
        await self._listener.last_words()
        if self._listener.waiting:
            return None
        if self._keys and (heard := self._settle_keys()) is not None:
            return heard
        case = next((case for case in self._step.listen if case.hangup is not None), None)
        return Heard(case=case, why=f"the other side hung up{self._told()}", gone=True)

    def _pass_over(self, what: str, *, text: str = "", keys: str = "") -> Heard | None:
        """Let `otherwise` have what fits no case; without it, listen on."""
        self._passed_over.append(what)
        if self._step.otherwise is None:
            return None
        return Heard(text=text, keys=keys, why=f"nothing that it waits for came{self._told()}")

    def _told(self) -> str:
        return f"; it heard {', '.join(self._passed_over) or 'nothing'}"
