"""What a script hears: speech and DTMF keys in the order they came, and when it was last noisy."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from media.frames import Samples
from sip_agent.call import Call, SpeechStarted

HEARD_MAX = 100
"""Utterances and keys that wait for a script that does not listen; then the oldest go."""

LAST_WORDS_S = 3.0
"""How long after the end of the call the recognition of the last utterance is waited for."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """Something was said; `text` is None where nothing recognises speech, or it was not understood."""

    text: str | None


@dataclass(frozen=True, slots=True)
class Pressed:
    """A DTMF key was pressed."""

    key: str


class Listener:
    """Listens to one call from the moment that sound flows; `async with` it."""

    def __init__(self, call: Call) -> None:
        self.on_key: Callable[[], object] | None = None
        """Called when a key is pressed: it may interrupt what is being said."""
        self._call = call
        self._heard: deque[Spoken | Pressed] = deque(maxlen=HEARD_MAX)
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._open = self._speaking = False
        self._said: Samples | None = None
        self._recognized: Samples | None = None
        self._quiet_since = asyncio.get_running_loop().time()

    async def __aenter__(self) -> Self:
        self._start(self._follow_keys())
        self._call.disconnected.add_done_callback(self._note_end)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.disconnected.remove_done_callback(self._note_end)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def open(self) -> None:
        """Begin to listen for speech; does nothing the second time. Needs sound to flow."""
        if not self._open:
            self._open = True
            # Before it is recognised, so that a script knows of speech that it cannot read yet.
            self._start(self._follow_speech())
            self._start(self._follow_utterances())
            self._start(self._follow_words())

    @property
    def busy(self) -> bool:
        """Whether somebody is speaking, or what was said last is not recognised yet: what was before may be dropped."""
        return self._speaking or self._recognized is not self._said

    @property
    def quiet_since(self) -> float:
        """The loop's time when something was last heard."""
        return self._quiet_since

    def forget_speech(self) -> None:
        """Drop what was said so far, and keep the keys."""
        keys = [item for item in self._heard if isinstance(item, Pressed)]
        self._heard.clear()
        self._heard.extend(keys)

    async def next(self, until: float) -> Spoken | Pressed | None:
        """Return what is heard next; None at the loop's time `until`, when `busy` changes, or when the call ends."""
        if not self._heard:
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._news.wait()
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error
        return self._heard.popleft() if self._heard else None

    async def silence(self) -> None:
        """Wait until nobody is speaking, or the call is over."""
        while self._speaking and not self._call.ended:
            self._news.clear()
            await self._news.wait()

    async def last_words(self) -> None:
        """Wait, the call being over, until all that was said is recognised."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_WORDS_S)

    @property
    def waiting(self) -> bool:
        """Whether something was heard that nobody has asked for yet."""
        return bool(self._heard)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _follow_keys(self) -> None:
        async for key in self._call.dtmf():
            self._note(Pressed(key))
            if self.on_key is not None and not self._call.ended:
                self.on_key()

    async def _follow_speech(self) -> None:
        async for event in self._call.speech():
            self._speaking = isinstance(event, SpeechStarted)
            self._note()

    async def _follow_utterances(self) -> None:
        async for utterance in self._call.utterances(recognize=False):
            self._said = utterance.samples

    async def _follow_words(self) -> None:
        async for utterance in self._call.utterances():
            self._recognized = utterance.samples
            self._note(Spoken(utterance.text))

    def _note(self, heard: Spoken | Pressed | None = None) -> None:
        if heard is not None:
            self._heard.append(heard)
        self._quiet_since = asyncio.get_running_loop().time()
        self._news.set()

    def _note_end(self, _: object) -> None:
        self._news.set()
