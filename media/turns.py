"""Who held the floor when, and what the platforms measure of that: pure arithmetic on stretches of speech.

Times are whole milliseconds from the answer. The definitions follow those that Cekura gives for its metrics
(docs.cekura.ai/documentation/key-concepts/metrics/pre-defined-metrics): voice activity on the stereo recording.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from media.activity import Span

PAUSE_MS = 700
"""A speaker who pauses for less goes on with the same turn: most pauses inside a turn are shorter."""

OVERLAP_MS = 40
"""Who begins at least so long after the other began, and so long before it has ended, interrupts: two measured edges
may be off by less."""


class Speaker(StrEnum):
    """Whose sound it is: the left channel of a recording is the caller's, the right one the agent's."""

    CALLER = "caller"
    AGENT = "agent"

    @property
    def other(self) -> "Speaker":
        """The one whom this one talks to."""
        return Speaker.AGENT if self is Speaker.CALLER else Speaker.CALLER


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One speaker holding the floor.

    `response_latency_ms` is how long the agent took since the caller's last word, None where it did not reply to
    one; for `stalled_ms` of it our own side had stalled. `interrupted` says that the other began before this was
    over, and `stop_time_ms` for how long the agent then went on.
    """

    speaker: Speaker
    started_ms: int
    ended_ms: int
    text: str | None = None
    response_latency_ms: int | None = None
    interrupted: bool = False
    stop_time_ms: int | None = None
    stalled_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The stretches of speech of a call that lasted `duration_ms`, and when our side stalled (`stalls`)."""

    caller: Sequence[Span]
    agent: Sequence[Span]
    duration_ms: int
    stalls: Sequence[Span] = ()

    def turns(self) -> list[Turn]:
        """Return the turns of both, by when they began."""
        turns = [
            *_turns_of(Speaker.CALLER, self.caller, self.agent),
            *_turns_of(Speaker.AGENT, self.agent, self.caller),
        ]
        turns.sort(key=lambda turn: turn.started_ms)
        went_on_ms: dict[Turn, int] = {}
        for turn, interrupted in _interruptions(turns):
            went_on_ms.setdefault(interrupted, interrupted.ended_ms - turn.started_ms)
        stalls = _union(self.stalls)
        return [
            replace(
                turn,
                response_latency_ms=latency_ms,
                interrupted=turn in went_on_ms,
                stop_time_ms=went_on_ms.get(turn) if turn.speaker is Speaker.AGENT else None,
                stalled_ms=_covered_ms(Span(turn.started_ms - (latency_ms or 0), turn.started_ms), stalls),
            )
            for turn, latency_ms in _latencies(turns, Speaker.AGENT)
        ]

    def metrics(self, turns: Sequence[Turn]) -> dict[str, Any]:
        """Return what is measured of the turns, as the README defines it; a figure without a case is None."""
        interrupting = [turn.speaker for turn, _ in _interruptions(turns)]
        silence = max(_gaps([*self.caller, *self.agent], self.duration_ms), key=_length, default=Span(0, 0))
        caller_ms, agent_ms = _total(self.caller), _total(self.agent)
        both_ms = caller_ms + agent_ms
        return {
            "response_latency_ms": _spread([turn.response_latency_ms for turn in turns], 50, 95),
            "stop_time_ms": _spread([turn.stop_time_ms for turn in turns], 50),
            "interruptions": {f"by_{speaker}": interrupting.count(speaker) for speaker in Speaker},
            "longest_silence_ms": _length(silence),
            "longest_wait_ms": _longest_wait(turns, self.duration_ms),
            "talk_ratio": round(agent_ms / both_ms, 3) if both_ms else None,
            "double_talk_ms": both_ms - _total(_union([*self.caller, *self.agent])),
            "time_to_first_audio_ms": self.agent[0].started_ms if self.agent else None,
            "caller_latency_ms": _spread([latency_ms for _, latency_ms in _latencies(turns, Speaker.CALLER)], 50, 95),
            "stalled_ms": {
                "response_latency": sum(turn.stalled_ms for turn in turns),
                "longest_silence": _covered_ms(silence, _union(self.stalls)),
            },
        }


def _turns_of(speaker: Speaker, spans: Sequence[Span], others: Sequence[Span]) -> Iterator[Turn]:
    """Join what pauses do not divide: long ones do, and those in which the other begins, or ends an interruption."""
    starts, ends = [span.started_ms for span in others], [span.ended_ms for span in others]
    turn: Turn | None = None
    for span in spans:
        if turn is not None:
            pause = Span(turn.ended_ms, span.started_ms)
            began = bisect_left(starts, pause.started_ms) < bisect_left(starts, pause.ended_ms)
            ended = bisect_right(ends, pause.ended_ms)
            interjected = bisect_right(ends, pause.started_ms) < ended and starts[ended - 1] > turn.started_ms
            if _length(pause) < PAUSE_MS and not began and not interjected:
                turn = replace(turn, ended_ms=span.ended_ms)
                continue
            yield turn
        turn = Turn(speaker=speaker, started_ms=span.started_ms, ended_ms=span.ended_ms)
    if turn is not None:
        yield turn


def _interruptions(turns: Iterable[Turn]) -> Iterator[tuple[Turn, Turn]]:
    """Yield each turn that interrupts, with the one that it interrupts."""
    last: dict[Speaker, Turn] = {}
    for turn in turns:
        other = last.get(turn.speaker.other)
        if other is not None and other.started_ms + OVERLAP_MS <= turn.started_ms <= other.ended_ms - OVERLAP_MS:
            yield turn, other
        last[turn.speaker] = turn


def _latencies(turns: Iterable[Turn], speaker: Speaker) -> Iterator[tuple[Turn, int | None]]:
    """Yield each turn, and how long after the other's last word it began if `speaker` replies with it.

    It is a reply if the other has ended, and `speaker` was silent since: what it said before that is none.
    """
    asked: Turn | None = None
    own_end_ms = 0
    for turn in turns:
        latency_ms = None
        if turn.speaker is not speaker:
            asked = turn
        else:
            if asked is not None and asked.ended_ms < turn.started_ms + OVERLAP_MS:
                if own_end_ms <= asked.ended_ms:
                    latency_ms = max(0, turn.started_ms - asked.ended_ms)
                asked = None
            own_end_ms = turn.ended_ms
        yield turn, latency_ms


def _longest_wait(turns: Sequence[Turn], duration_ms: int) -> int:
    """Return the longest silence that began as a turn of the caller ended; who still spoke then owed no answer."""
    ends = {turn.ended_ms for turn in turns if turn.speaker is Speaker.CALLER}
    silences = _gaps((Span(turn.started_ms, turn.ended_ms) for turn in turns), duration_ms)
    return max((_length(silence) for silence in silences if silence.started_ms in ends), default=0)


def _union(spans: Iterable[Span]) -> list[Span]:
    """Return the same time as disjoint spans in order."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.started_ms <= joined[-1].ended_ms:
            joined[-1] = Span(joined[-1].started_ms, max(joined[-1].ended_ms, span.ended_ms))
        else:
            joined.append(span)
    return joined


def _gaps(spans: Iterable[Span], duration_ms: int) -> Iterator[Span]:
    position_ms = 0
    for span in _union(spans):
        yield Span(position_ms, span.started_ms)
        position_ms = span.ended_ms
    yield Span(position_ms, max(position_ms, duration_ms))


def _covered_ms(wait: Span, spans: Iterable[Span]) -> int:
    """Return how much of `wait` lies in disjoint `spans`."""
    return sum(max(0, min(span.ended_ms, wait.ended_ms) - max(span.started_ms, wait.started_ms)) for span in spans)


def _length(span: Span) -> int:
    return span.ended_ms - span.started_ms


def _total(spans: Iterable[Span]) -> int:
    return sum(map(_length, spans))


def _spread(figures: Iterable[int | None], *percents: int) -> dict[str, int | None]:
    """Return percentiles (between two values, linearly), the largest, and how many there are; None are none."""
    values = [figure for figure in figures if figure is not None]
    found = np.percentile(values, percents).round().astype(int).tolist() if values else [None] * len(percents)
    return {
        **{f"p{percent}": value for percent, value in zip(percents, found, strict=True)},
        "max": max(values, default=None),
        "count": len(values),
    }
