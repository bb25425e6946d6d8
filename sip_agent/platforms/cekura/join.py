"""Which of our calls belongs to which run: pure arithmetic on what both sides know."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from sip_agent.invite import AGORA
from sip_agent.platforms.cekura.model import Run, int_of
from sip_agent.status import Direction

Record = Mapping[str, Any]
"""A call record, as the store gives it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedRun:
    """A run with the calls that named it, oldest first."""

    run: Run
    records: tuple[Record, ...] = ()

    @property
    def record(self) -> Record | None:
        """The call that counts: the last one that was answered, else the last one."""
        answered = [record for record in self.records if record["answered_at"]]
        return (answered or self.records or (None,))[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The runs of a result with our calls; `strangers` are the calls of that time that belong to no run."""

    runs: tuple[JoinedRun, ...] = ()
    strangers: tuple[Record, ...] = ()

    @property
    def never_arrived(self) -> tuple[JoinedRun, ...]:
        """The runs that are over without a call of theirs having come in."""
        return tuple(joined for joined in self.runs if joined.run.over and joined.record is None)


def join(runs: Iterable[Run], records: Iterable[Record], *, result_id: int, until: datetime | None = None) -> Joined:
    """Give each run its calls, by the run id that the call carried.

    A call is a stranger if it came in before `until` and names no run, or one that this result does not have; a call
    that names another result belongs there. Calls through Agora cannot name a run; they are told by their order, where
    that is certain.
    """
    calls: dict[int, list[Record]] = {}
    strangers = []
    runs = sorted(runs, key=lambda run: run.id)
    known = {run.id for run in runs}
    for record in records:
        run_id = int_of(record["run_id"])
        if run_id in known:
            calls.setdefault(run_id, []).append(record)
        elif _may_be_ours(record, result_id) and (until is None or _received_at(record) <= until):
            strangers.append(record)
    for run, record in _in_order([run for run in runs if run.id not in calls], strangers):
        calls[run.id] = [record]
        strangers.remove(record)
    return Joined(
        runs=tuple(JoinedRun(run=run, records=tuple(calls.get(run.id, ()))) for run in runs),
        strangers=tuple(strangers),
    )


def last_ended_at(records: Sequence[Record]) -> datetime | None:
    """Return when the last of these calls was over."""
    return max((datetime.fromisoformat(record["ended_at"]) for record in records if record["ended_at"]), default=None)


def is_complete(record: Record) -> bool:
    """Whether a record has all that it will ever have: its call is over, and measured if it was answered."""
    return bool(record["ended_at"]) and (not record["answered_at"] or measured(record) or _unmeasurable(record))


def measured(record: Record) -> bool:
    """Whether the turns of a call were measured."""
    return "response_latency_ms" in record["metrics"]


def _unmeasurable(record: Record) -> bool:
    return record["recording"] is None or record["recording"].get("state") != "ok"


def _in_order(runs: Sequence[Run], strangers: Sequence[Record]) -> list[tuple[Run, Record]]:
    """Pair runs with calls through Agora: if there are as many, and each call was over before the next one came."""
    calls = sorted((record for record in strangers if record["transport"] == AGORA), key=_received_at)
    executed = {run.executed_at for run in runs}
    if len(calls) != len(runs) or len(executed) < len(runs) or (len(runs) > 1 and None in executed):
        return []
    for earlier, later in pairwise(calls):
        if not earlier["ended_at"] or datetime.fromisoformat(earlier["ended_at"]) > _received_at(later):
            return []
    in_order = sorted(runs, key=lambda run: run.executed_at or datetime.min.replace(tzinfo=UTC))
    return list(zip(in_order, calls, strict=True))


def _may_be_ours(record: Record, result_id: int) -> bool:
    inbound = record["direction"] == Direction.INBOUND
    return inbound and (not record["result_id"] or int_of(record["result_id"]) == result_id)


def _received_at(record: Record) -> datetime:
    return datetime.fromisoformat(record["invite_received_at"])
