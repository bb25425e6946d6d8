"""Runs and results: what the stand-in knows of them, in memory, while it lives."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sip_agent.platforms.cekura.simulator.evaluation import Evaluation
from sip_agent.platforms.cekura.simulator.world import Agent, Personality, Scenario, TestProfile
from sip_agent.record import CallRecord

RESULTS_MAX = 200
"""Results that are kept: those that are over go first, the oldest of them."""

_IDS_SINCE = datetime(2025, 1, 1, tzinfo=UTC)


class RunStatus(StrEnum):
    """Those statuses of the API that a SIP run goes through here (openapi.json, Run.status)."""

    PENDING = "pending"
    IN_QUEUE = "in_queue"
    IN_PROGRESS = "in_progress"
    EVALUATING = "evaluating"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether it is kept for good."""
        return self in {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.TIMEOUT, RunStatus.CANCELLED}


class EndReason(StrEnum):
    """Why a call ended, in Cekura's words (docs.cekura.ai, Call End Reasons)."""

    MAIN_AGENT_ENDED = "Main agent-ended-call"
    TESTING_AGENT_ENDED = "Testing agent-ended-call"
    DID_NOT_ANSWER = "Main agent-did-not-answer"
    BUSY = "Main agent-busy"
    REJECTED = "call-rejected"
    SIP_CALL_FAILED = "sip-call-failed"
    MAX_DURATION = "exceeded-max-duration"
    CANCELLED = "run-cancelled-by-user"
    PIPELINE_ERROR = "Testing agent-pipeline-error"


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    """One run: one scenario played once, by one call."""

    id: int
    result: "Result" = field(repr=False)
    scenario: Scenario
    personality: Personality | None
    test_profile: TestProfile | None
    sip_endpoint: str
    status: RunStatus = RunStatus.PENDING
    created_at: datetime
    executed_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    error_message: str = ""
    record: CallRecord | None = None
    recording: Path | None = None
    recording_token: str = field(default_factory=lambda: secrets.token_urlsafe(16), repr=False)
    evaluation: Evaluation | None = None
    provider_call: dict[str, Any] | None = None
    """What the custom transcript endpoint was sent about this run's call, the last time."""

    @property
    def success(self) -> bool:
        """Whether it was completed, and nothing is missing of what was expected."""
        return self.status is RunStatus.COMPLETED and self.evaluation is not None and self.evaluation.success


@dataclass(slots=True, kw_only=True, eq=False)
class Result:
    """The runs that one request started."""

    id: int
    name: str
    agent: Agent
    runs: list[Run] = field(default_factory=list)
    concurrency_limit: int | None
    created_at: datetime
    updated_at: datetime

    @property
    def status(self) -> str:
        """Return `completed` once all runs are over and one is completed, as at Cekura; the rest is our own choice."""
        statuses = [run.status for run in self.runs]
        if not all(status.over for status in statuses):
            if all(status.over or status is RunStatus.EVALUATING for status in statuses):
                return "evaluating"
            return "in_progress"
        if RunStatus.COMPLETED in statuses:
            return "completed"
        return "cancelled" if set(statuses) == {RunStatus.CANCELLED} else "failed"

    @property
    def over(self) -> bool:
        """Whether all its runs are."""
        return all(run.status.over for run in self.runs)

    def having(self, *statuses: RunStatus) -> list[Run]:
        """Return the runs with one of these statuses."""
        return [run for run in self.runs if run.status in statuses]


class Ledger:
    """All results, and their runs by id."""

    def __init__(self) -> None:
        self.results: dict[int, Result] = {}
        self.runs: dict[int, Run] = {}
        # Ten ids a second are twice the calls that are placed: a stand-in that is started again repeats none.
        self._next_id = int((time.time() - _IDS_SINCE.timestamp()) * 10)

    def new_id(self) -> int:
        """Return an id that no other run or result of this machine's stand-ins has."""
        self._next_id += 1
        return self._next_id

    def add(self, result: Result) -> None:
        """Keep a result with its runs, and let the oldest one go that is over if there are too many."""
        self.results[result.id] = result
        self.runs |= {run.id: run for run in result.runs}
        if len(self.results) > RESULTS_MAX:
            self._forget(next((old for old in self.results.values() if old.over), None))

    def find_runs(self, ids: Sequence[int]) -> list[Run]:
        """Return the runs with these ids, in this order, without those that do not exist."""
        return [self.runs[number] for number in ids if number in self.runs]

    def _forget(self, result: Result | None) -> None:
        if result is None:
            return
        del self.results[result.id]
        for run in result.runs:
            del self.runs[run.id]
            if run.recording is not None:
                run.recording.unlink(missing_ok=True)
