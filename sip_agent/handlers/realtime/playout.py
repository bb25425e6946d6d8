"""What the model says, on its way to the caller: queued here, paced by the call, and known by what was heard of it."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from media.live_resample import LiveResampler
from sip_agent.call import Call
from sip_agent.handlers.realtime.link import RealtimeError
from sip_agent.handlers.realtime.protocol import AudioCodec

AHEAD_S_MAX = 300
"""A server may be ahead of the call by five minutes of speech: more is no conversation."""

ITEMS_MAX = 100
"""Things to say that a server may have begun at the same time: one or two, in a conversation."""

TEXT_LENGTH_MAX = 10_000
"""The words of one item, or of what the caller said, are cut to so many characters: ten minutes of fast speech."""

PIECE_MS = 100
"""Sound is converted and queued in pieces of this length, however long the server's deltas are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the caller heard of an item, beginning `began_ms` after the answer."""

    item_id: str
    content_index: int
    began_ms: int
    heard_ms: int
    text: str


class _Item:
    """One thing that the model says (a message item of the conversation)."""

    def __init__(self, item_id: str, content_index: int, resampler: LiveResampler) -> None:
        self.item_id = item_id
        self.content_index = content_index
        self.resampler = resampler
        self.starts_at_ms: int | None = None
        self.began_ms = 0
        self.received_ms = 0.0
        self.text = ""
        self.complete = False

    def heard(self, sent_ms: int) -> Heard:
        """Return what was heard of it when `sent_ms` of the call's sound have left."""
        started = self.starts_at_ms
        heard_ms = 0 if started is None else min(int(self.received_ms), max(0, sent_ms - started))
        return Heard(
            item_id=self.item_id,
            content_index=self.content_index,
            began_ms=self.began_ms,
            heard_ms=heard_ms,
            text=text_until(self.text, heard_ms / self.received_ms if self.received_ms else 0.0),
        )


class Playout:
    """Items of speech in the order in which they are to be heard; `run` sends them, `stop` ends them all at once.

    `on_heard` is told of each item that was heard to its end.
    """

    def __init__(self, call: Call, codec: AudioCodec, on_heard: Callable[[Heard], None]) -> None:
        self._call = call
        self._codec = codec
        self._on_heard = on_heard
        self._items: dict[str, _Item] = {}
        self._pieces: deque[tuple[_Item, bytes]] = deque()
        self._pending_bytes = 0
        self._bytes_max = AHEAD_S_MAX * codec.sample_rate_hz * codec.sample_bytes
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sounds_until_ms = 0

    @property
    def sounds_until_ms(self) -> int:
        """When the last of what is queued will have been heard, or was, in milliseconds after the answer."""
        if not self._pending_bytes:
            return self._sounds_until_ms
        begins_ms = max(self._sounds_until_ms, self._call.elapsed_ms())
        return begins_ms + self._codec.duration_ms(self._pending_bytes)

    def is_saying(self, item_id: str) -> bool:
        """Whether there was sound of an item already, and more is to come."""
        item = self._items.get(item_id)
        return item is not None and item.received_ms > 0 and not item.complete

    def add(self, item_id: str, content_index: int, sound: bytes) -> None:
        """Queue sound of an item, in the server's format; raise RealtimeError if far too much is queued."""
        if len(sound) % self._codec.sample_bytes:
            raise ValueError(f"{len(sound)} bytes are no whole number of samples")
        item = self._item(item_id, content_index)
        item.received_ms += len(sound) * 1000 / (self._codec.sample_rate_hz * self._codec.sample_bytes)
        self._pending_bytes += len(sound)
        if self._pending_bytes > self._bytes_max:
            raise RealtimeError(f"the realtime server is more than {AHEAD_S_MAX} s of speech ahead")
        size = PIECE_MS * self._codec.sample_rate_hz * self._codec.sample_bytes // 1000
        for start in range(0, len(sound), size):
            self._queue(item, sound[start : start + size])

    def add_text(self, item_id: str, content_index: int, text: str) -> None:
        """Add to what an item says in words; they may come before its sound."""
        item = self._item(item_id, content_index)
        item.text = (item.text + text)[:TEXT_LENGTH_MAX]

    def complete(self, item_id: str, text: str = "") -> None:
        """Say that nothing more of an item comes; `text` is all that it says, if it is known."""
        if (item := self._items.get(item_id)) is not None and not item.complete:
            item.complete = True
            item.text = text[:TEXT_LENGTH_MAX] or item.text
            self._queue(item, b"")

    def complete_all(self) -> None:
        """Say that nothing more of any item comes."""
        for item_id in tuple(self._items):
            self.complete(item_id)

    def stop(self) -> list[Heard]:
        """Fall silent at once and forget everything; return what was heard of each item that was not over."""
        if not self._call.ended and self._items:
            self._call.stop_playback()
        sent_ms = self._call.sent_ms
        items, self._items = self._items, {}
        self._pieces.clear()
        self._pending_bytes = 0
        self._sounds_until_ms = min(self._sounds_until_ms, self._call.elapsed_ms())
        self._idle.set()
        return [item.heard(sent_ms) for item in items.values()]

    async def idle(self) -> None:
        """Wait until everything was heard, or stopped."""
        await self._idle.wait()

    async def run(self) -> None:
        """Send what is queued, for ever; raise CallEnded when the call is over."""
        while True:
            while not self._pieces:
                self._arrived.clear()
                await self._arrived.wait()
            item, sound = self._pieces.popleft()
            if sound:
                await self._send(item, sound)
            else:
                await self._finish(item)

    async def _send(self, item: _Item, sound: bytes) -> None:
        self._pending_bytes -= len(sound)
        queued_ms = self._call.queued_ms
        begins_ms = self._call.elapsed_ms() + queued_ms
        if item.starts_at_ms is None:
            item.starts_at_ms, item.began_ms = self._call.sent_ms + queued_ms, begins_ms
        self._sounds_until_ms = begins_ms + self._codec.duration_ms(len(sound))
        await self._call.send(item.resampler.process(self._codec.decode(sound)))

    async def _finish(self, item: _Item) -> None:
        await self._call.drained()
        if self._items.get(item.item_id) is item:
            del self._items[item.item_id]
            self._on_heard(item.heard(self._call.sent_ms))
        if not self._items:
            self._idle.set()

    def _item(self, item_id: str, content_index: int) -> _Item:
        item = self._items.get(item_id)
        if item is None:
            if len(self._items) >= ITEMS_MAX:
                raise RealtimeError(f"the realtime server says more than {ITEMS_MAX} things at once")
            resampler = LiveResampler(self._codec.sample_rate_hz, self._call.sample_rate_hz)
            item = self._items[item_id] = _Item(item_id, content_index, resampler)
            self._idle.clear()
        return item

    def _queue(self, item: _Item, sound: bytes) -> None:
        self._pieces.append((item, sound))
        self._arrived.set()


def text_until(text: str, share: float) -> str:
    """Return the words of a text that lie within this share of it (0 to 1): speech is about as long as its text."""
    if share >= 1:
        return text
    end = int(len(text) * share)
    if end < len(text) and not text[end].isspace():
        end = text.rfind(" ", 0, end) + 1
    return text[:end].strip()
