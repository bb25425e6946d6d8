"""Whether the agent is as good as asked: pure arithmetic on joined runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sip_agent.platforms.cekura.join import Record, measured
from sip_agent.platforms.cekura.runs import Followed


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is asked; None asks nothing. Milliseconds are those that this agent measured on its own recordings.

    `min_success` is a share from 0 to 1; without it, every run has to be a success. The limits on stop time,
    interruptions and silence hold for every single call, the one on latency for all turns of all calls together.
    """

    min_success: float | None = None
    max_p95_latency_ms: int | None = None
    max_stop_time_ms: int | None = None
    max_interruptions: int | None = None
    max_silence_ms: int | None = None
    require_calls: bool = False

    @property
    def need_records(self) -> bool:
        """Whether anything is asked that only our own call records tell."""
        return self != Limits(min_success=self.min_success)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was asked, and how it stands; `value` is None where nothing could be measured."""

    name: str
    value: float | int | None
    limit: str
    passed: bool
    note: str = ""


def judge(followed: Followed, limits: Limits) -> list[Check]:
    """Return a check for each thing that is asked."""
    checks = [_success(followed, limits.min_success)]
    if limits.require_calls:
        checks.append(_calls(followed))
    checks += measurements([run.record for run in followed.joined.runs if run.record is not None], limits)
    return checks


def _calls(followed: Followed) -> Check:
    """Count the runs whose call never came, where that is known."""
    unknown = ""
    if not followed.joinable:
        unknown = "our own records were not read"
    elif followed.timed_out:
        unknown = "some runs are not over"
    lost = None if unknown else len(followed.joined.never_arrived)
    return Check(name="runs_without_a_call", value=lost, limit="0", passed=lost == 0, note=unknown)


def _success(followed: Followed, min_success: float | None) -> Check:
    """Judge by the runs and by Cekura's counts, whichever is worse: a result is `completed` once any run is."""
    result, joined = followed.result, followed.joined
    total = max(len(joined.runs), result.total_runs or 0)
    passed = sum(run.run.passed for run in joined.runs)
    counted = result.successful_runs
    successful = passed if counted is None else min(passed, counted)
    share = successful / total if total else 0.0
    wanted = 1.0 if min_success is None else min_success
    note = f"{successful} of {total} runs"
    if counted is not None and counted != passed:
        note += f" (Cekura counts {counted} successful, its runs say {passed})"
    # Two thirds may be asked for as 0.667 or 0.6667.
    return Check(
        name="success",
        value=round(share, 4),
        limit=f"≥ {wanted:g}",
        passed=total > 0 and share >= wanted - 1e-9,
        note=note,
    )


def measurements(records: Sequence[Record], limits: Limits) -> Iterator[Check]:
    """Yield a check for each limit on what this agent measured on its calls."""
    answered = [record for record in records if record["answered_at"]]
    calls = [record for record in answered if measured(record)]
    note = f"{len(calls)} of {len(answered)} answered calls measured"
    figures: Sequence[tuple[str, int | None, float | None]] = (
        ("p95_latency_ms", limits.max_p95_latency_ms, _p95_latency_ms(calls)),
        ("stop_time_ms", limits.max_stop_time_ms, _worst(calls, "stop_time_ms", "max", without_case=0)),
        ("interruptions", limits.max_interruptions, _worst(calls, "interruptions", "by_agent")),
        ("longest_silence_ms", limits.max_silence_ms, _worst(calls, "longest_silence_ms")),
    )
    for name, limit, value in figures:
        if limit is not None:
            # What was not measured is not known to be good.
            passed = value is not None and value <= limit and len(calls) == len(answered)
            missing = "; the agent replied to nothing" if calls and value is None else ""
            yield Check(name=name, value=value, limit=f"≤ {limit}", passed=passed, note=note + missing)


def _p95_latency_ms(records: Sequence[Record]) -> int | None:
    latencies = [turn["response_latency_ms"] for record in records for turn in record["turns"]]
    latencies = [latency for latency in latencies if latency is not None]
    return round(float(np.percentile(latencies, 95))) if latencies else None


def _worst(records: Sequence[Record], *path: str, without_case: int | None = None) -> float | None:
    """Return the highest of a figure over all calls; `without_case` stands for a call in which it did not arise."""
    found = []
    for record in records:
        value: Any = record["metrics"]
        for key in path:
            value = value[key]
        found.append(without_case if value is None else value)
    return max((value for value in found if value is not None), default=None)
