"""Turns and metrics of a call, measured in its recording, each beside the bound that the platform sets.

`python -m sip_agent.turns` does that for whoever writes one JSON object per line to it: see `serve`.
"""

import json
import os
import signal
import sys
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

from media.activity import LEVEL_MS, Span, find_speech, leak_of, recording_levels
from media.turns import Conversation, Speaker, Turn

NICENESS = 10
"""How far measuring steps back where processors are short (nice(2))."""

TEXT_DISTANCE_MS = 3000
"""A text belongs to the nearest turn of its speaker, unless that is further away than recognition is late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a platform asks of one metric, named by its path in `metrics`."""

    metric: str
    source: str
    below: float | None = None
    at_most: float | None = None
    at_least: float | None = None

    def __str__(self) -> str:
        signs = (("≥", self.at_least), ("<", self.below), ("≤", self.at_most))
        return " and ".join(f"{sign} {limit:g}" for sign, limit in signs if limit is not None)

    def judge(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metric beside its bound; `passed` is None where there is nothing to judge."""
        value: Any = metrics
        for key in self.metric.split("."):
            value = value[key]
        passed = value is None or (
            (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
            and (self.at_least is None or value >= self.at_least)
        )
        return {
            "metric": self.metric,
            "value": value,
            "bound": str(self),
            "passed": None if value is None else passed,
            "source": self.source,
        }


BOUNDS = (
    Bound(metric="response_latency_ms.p95", below=2000, source="Cekura: Latency"),
    Bound(metric="stop_time_ms.max", below=500, source="Cekura: Stop Time after User Interruption"),
    Bound(metric="interruptions.by_agent", at_most=0, source="Cekura: AI Interrupting User"),
    Bound(metric="longest_wait_ms", at_most=10_000, source="Cekura: Infrastructure Issues"),
    Bound(metric="longest_silence_ms", at_most=10_000, source="Cekura: Detect Silence"),
    Bound(metric="talk_ratio", at_least=0.4, at_most=0.6, source="Cekura: Talk Ratio"),
)
"""The bounds that Cekura documents for these metrics."""


def measure(
    path: str, answer_ms: int, stalls: Iterable[Mapping[str, Any]], transcript: Iterable[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the turns and metrics of a call that was answered `answer_ms` into its recording, or before it.

    What was heard before the answer (early media) is left out. `stalls` and `transcript` are as in the record.
    Raise AudioFileError for a recording that cannot be read.
    """
    levels = recording_levels(path, start_ms=max(0, answer_ms))
    caller, agent = levels[:, 0], levels[:, 1]
    late_ms = max(0, -answer_ms)
    conversation = Conversation(
        caller=_later(find_speech(caller, leak=leak_of(agent, caller)), late_ms),
        agent=_later(find_speech(agent), late_ms),
        duration_ms=late_ms + len(levels) * LEVEL_MS,
        stalls=[Span(stall["started_ms"], stall["ended_ms"]) for stall in stalls],
    )
    turns = conversation.turns()
    metrics = conversation.metrics(turns)
    metrics["bounds"] = [bound.judge(metrics) for bound in BOUNDS]
    return [asdict(turn) | {"speaker": turn.speaker.value} for turn in with_texts(turns, transcript)], metrics


def with_texts(turns: Sequence[Turn], transcript: Iterable[Mapping[str, Any]]) -> list[Turn]:
    """Give each turn what the transcript has of it: a text goes to the turn of its speaker that is nearest to it."""
    of_speaker = {
        speaker: [(number, turn) for number, turn in enumerate(turns) if turn.speaker is speaker] for speaker in Speaker
    }
    texts: dict[int, list[str]] = {}
    for entry in transcript:
        if "text" not in entry:
            continue  # a tool call
        own, at_ms = of_speaker[Speaker(entry["speaker"])], entry["at_ms"]
        after = bisect_right(own, at_ms, key=lambda item: item[1].started_ms)
        distances = [
            (max(turn.started_ms - at_ms, at_ms - turn.ended_ms, 0), number)
            for number, turn in own[max(0, after - 1) : after + 1]
        ]
        distance_ms, number = min(distances, default=(TEXT_DISTANCE_MS, 0))
        if distance_ms < TEXT_DISTANCE_MS:
            texts.setdefault(number, []).append(entry["text"])
    return [
        replace(turn, text=" ".join(texts[number])) if number in texts else turn for number, turn in enumerate(turns)
    ]


def _later(spans: Iterable[Span], delay_ms: int) -> list[Span]:
    return [Span(span.started_ms + delay_ms, span.ended_ms + delay_ms) for span in spans]


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer each line, the arguments of `measure` as JSON, with a line of JSON: its result, or an `error`."""
    for line in requests:
        try:
            turns, metrics = measure(**json.loads(line))
            reply: dict[str, Any] = {"turns": turns, "metrics": metrics}
        except Exception as error:  # noqa: BLE001  (whatever it is, the record says it, and the next call is measured)
            reply = {"error": str(error) or type(error).__name__}
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    # The agent says when to stop, by closing the pipe: what stops the agent lets it finish its calls first.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    serve(sys.stdin.buffer, sys.stdout.buffer)
