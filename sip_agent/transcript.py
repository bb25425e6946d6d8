"""`Transcript`: what was said on a call, in its record."""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from sip_agent.record import CallRecord

ENTRIES_MAX = 5000
CHARACTERS_MAX = 500_000
"""What a record keeps of a call: so much is said in nine hours. What does not fit in any more is left out."""

log = structlog.get_logger()


class Transcript:
    """What was said, as far as the handler knows, in order of time; it goes into the record.

    Of more than ENTRIES_MAX entries, or CHARACTERS_MAX of texts and what tools were given and answered, the log tells.
    """

    def __init__(self, record: CallRecord, elapsed_ms: Callable[[], int]) -> None:
        self._entries = record.transcript
        self._elapsed_ms = elapsed_ms
        self._characters = 0
        self._full = False

    def add(self, speaker: str, text: str, *, at_ms: int | None = None) -> None:
        """Note what `speaker` (`caller` or `agent`) said, beginning `at_ms` after the answer, or just now."""
        if speaker not in {"caller", "agent"}:
            raise ValueError(f"the speaker is 'caller' or 'agent', not {speaker!r}")
        if not isinstance(text, str):
            raise TypeError(f"what was said is a str, not {type(text).__name__}")
        self._insert({"speaker": speaker, "text": text}, self._elapsed_ms() if at_ms is None else at_ms)

    def add_tool(self, name: str, arguments: Mapping[str, Any], result: Any) -> None:
        """Note that the agent used a tool just now."""
        entry = {"speaker": "agent", "tool": name, "arguments": dict(arguments), "result": result}
        self._insert(entry, self._elapsed_ms())

    def _has_room(self, entry: Mapping[str, Any]) -> bool:
        """Count an entry, or tell once that one is left out."""
        characters = len(str(entry))
        if len(self._entries) < ENTRIES_MAX and self._characters + characters <= CHARACTERS_MAX:
            self._characters += characters
            return True
        if not self._full:
            self._full = True
            log.warning("call.transcript_full", entries=len(self._entries), characters=self._characters)
        return False

    def _insert(self, entry: dict[str, Any], at_ms: int) -> None:
        if not self._has_room(entry):
            return
        at_ms = int(at_ms)  # numpy's are no JSON
        position = bisect_right(self._entries, at_ms, key=lambda earlier: earlier["at_ms"])
        self._entries.insert(position, {**entry, "at_ms": at_ms})
