"""What Cekura answers, as values: lenient in what is read, because its documents differ in shapes and types.

A number may come as text, `runs` as a list or as an object by run id, an explanation as text or as a list. What is
missing or of another kind becomes None, or empty; only an id has to be there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

TERMINAL = frozenset({"completed", "failed", "timeout", "cancelled"})
"""The statuses that a run or a result keeps; every other one, known or not, may still change."""


class AnswerError(ValueError):
    """An answer lacks what makes it usable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric that Cekura measured on a run; `passed` is None for those that are not yes or no."""

    name: str
    kind: str = ""
    score: float | None = None
    value: str | float | None = None
    passed: bool | None = None
    explanation: tuple[str, ...] = ()

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read an item of `evaluation.metrics`, as in a run, a result or a webhook."""
        kind = text_of(document.get("eval_type")) or text_of(document.get("type"))
        score = float_of(document.get("score"))
        passed = bool_of(document.get("passed"))
        if passed is None and kind.startswith("binary") and score is not None:
            passed = score > 0
        value = document.get("value", document.get("enum"))
        return cls(
            name=text_of(document.get("name")) or "metric",
            kind=kind,
            score=score,
            value=value if isinstance(value, int | float) else text_of(value) or None,
            passed=passed,
            explanation=texts_of(document.get("explanation")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedOutcome:
    """How far the call went as the scenario expects: `score` 0 to 100, and which parts of it were missed."""

    score: float | None = None
    explanation: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()

    @classmethod
    def parse(cls, document: Any) -> Self | None:
        """Read `expected_outcome`: an object, or text."""
        if isinstance(document, str) and document.strip():
            return cls(explanation=(document.strip(),))
        if not isinstance(document, Mapping) or not document:
            return None
        alignments = mappings_in(document.get("outcome_alignments"))
        return cls(
            score=float_of(document.get("score")),
            explanation=texts_of(document.get("explanation")),
            missed=tuple(
                text_of(item.get("outcome")) or text_of(item.get("prompt_part"))
                for item in alignments
                if bool_of(item.get("aligned")) is False
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: one scenario played once. `status` is lower-case text, which may be one that is not known here."""

    id: int
    status: str = ""
    result_id: int | None = None
    scenario_id: int | None = None
    scenario_name: str = ""
    personality_name: str = ""
    test_profile_name: str = ""
    success: bool | None = None
    evaluation_status: str = ""
    error_message: str = ""
    ended_reason: str = ""
    metrics: tuple[Metric, ...] = ()
    expected_outcome: ExpectedOutcome | None = None
    duration_s: int | None = None
    recording_url: str = ""
    executed_at: datetime | None = None
    outbound_number: str = ""
    inbound_number: str = ""
    dial_window_opens_at: datetime | None = None
    dial_window_closes_at: datetime | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, document: Any, *, run_id: Any = None) -> Self:
        """Read a run; `run_id` is its key, where runs are an object. Raises AnswerError if there is no id."""
        if not isinstance(document, Mapping):
            raise AnswerError(f"a run is {type(document).__name__}, not an object")
        number = int_of(document.get("id")) or int_of(run_id)
        if number is None:
            raise AnswerError("a run has no id")
        scenario = document.get("scenario")
        scenario = scenario if isinstance(scenario, Mapping) else {"id": scenario}
        profile = document.get("test_profile_data")
        metadata = document.get("metadata")
        metadata = metadata if isinstance(metadata, Mapping) else {}
        evaluation = document.get("evaluation")
        evaluation = evaluation if isinstance(evaluation, Mapping) else {}
        return cls(
            id=number,
            status=status_of(document),
            result_id=int_of(document.get("result_id")),
            scenario_id=int_of(scenario.get("id")),
            scenario_name=text_of(document.get("scenario_name")) or text_of(scenario.get("name")),
            personality_name=text_of(document.get("personality_name")) or text_of(scenario.get("personality_name")),
            test_profile_name=text_of(profile.get("name")) if isinstance(profile, Mapping) else "",
            success=bool_of(document.get("success")),
            evaluation_status=text_of(document.get("evaluation_status")).lower(),
            error_message=text_of(document.get("error_message")),
            ended_reason=text_of(metadata.get("ended_reason")) or text_of(document.get("call_ended_reason")),
            metrics=tuple(Metric.parse(item) for item in mappings_in(evaluation.get("metrics"))),
            expected_outcome=ExpectedOutcome.parse(document.get("expected_outcome")),
            duration_s=_seconds_of(document.get("duration")),
            recording_url=text_of(document.get("voice_recording_url")) or text_of(document.get("voice_recording")),
            executed_at=time_of(document.get("executed_at")),
            outbound_number=text_of(document.get("outbound_number")),
            inbound_number=text_of(document.get("inbound_number")),
            dial_window_opens_at=time_of(document.get("outbound_dial_window_opens_at")),
            dial_window_closes_at=time_of(document.get("outbound_dial_window_closes_at")),
            document=document,
        )

    @property
    def over(self) -> bool:
        """Whether its status will not change any more."""
        return self.status in TERMINAL

    @property
    def passed(self) -> bool:
        """Whether the run was completed and judged a success; a person's review outweighs the machine's."""
        if self.status != "completed":
            return False
        if self.evaluation_status.startswith("reviewed_"):
            return self.evaluation_status == "reviewed_success"
        return self.success is True and self.evaluation_status != "failure"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why Cekura counts the run as failed, in its own words, the most telling first; empty for a passed one."""
        if self.passed:
            return ()
        return tuple(dict.fromkeys(reason for reason in self._reasons() if reason)) or (
            f"status {self.status or 'unknown'}, and no explanation",
        )

    def _reasons(self) -> Iterator[str]:
        yield self.error_message
        if self.over and self.status != "completed":
            yield f"the run ended as {self.status}" + (f" ({self.ended_reason})" if self.ended_reason else "")
        if self.expected_outcome is not None:
            yield from (f"expected outcome missed: {part}" for part in self.expected_outcome.missed)
            yield from self.expected_outcome.explanation
        for metric in self.metrics:
            if metric.passed is False:
                yield f"{metric.name}: {' '.join(metric.explanation) or 'failed'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The runs that were started together. Counts are None where Cekura does not give them."""

    id: int
    name: str = ""
    status: str = ""
    agent_id: int | None = None
    runs: tuple[Run, ...] = ()
    total_runs: int | None = None
    completed_runs: int | None = None
    successful_runs: int | None = None
    failed_runs: int | None = None
    failed_reasons: tuple[str, ...] = ()
    created_at: datetime | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Read a result; raises AnswerError if it has no id."""
        if not isinstance(document, Mapping):
            raise AnswerError(f"a result is {type(document).__name__}, not an object")
        number = int_of(document.get("id"))
        if number is None:
            raise AnswerError("a result has no id")
        return cls(
            id=number,
            name=text_of(document.get("name")),
            status=status_of(document),
            agent_id=int_of(document.get("agent")),
            runs=tuple(runs_in(document.get("runs"))),
            total_runs=int_of(document.get("total_runs_count")),
            completed_runs=int_of(document.get("completed_runs_count")),
            successful_runs=int_of(document.get("success_runs_count")),
            failed_runs=int_of(document.get("failed_runs_count")),
            failed_reasons=texts_of(document.get("failed_reasons")),
            created_at=time_of(document.get("created_at")),
            document=document,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedRun:
    """What the starting request was answered with."""

    result_id: int
    name: str = ""
    runs: tuple[Run, ...] = ()

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Read the answer; raises AnswerError if it names no result."""
        result_id = int_of(document.get("id")) if isinstance(document, Mapping) else None
        if result_id is None:
            raise AnswerError("it names no result")
        return cls(result_id=result_id, name=text_of(document.get("name")), runs=tuple(runs_in(document.get("runs"))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario that can be run; `phone_number` is what an outbound agent dials for it."""

    id: int
    name: str = ""
    phone_number: str = ""
    tags: tuple[str, ...] = ()
    folder_path: str = ""

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Read an item of the scenarios' list; raises AnswerError if it has no id."""
        number = int_of(document.get("id")) if isinstance(document, Mapping) else None
        if number is None:
            raise AnswerError("a scenario has no id")
        return cls(
            id=number,
            name=text_of(document.get("name")),
            phone_number=text_of(document.get("phone_number")),
            tags=texts_of(document.get("tags")),
            folder_path=text_of(document.get("folder_path")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent as Cekura knows it: `inbound` means that Cekura calls it, None that nothing is said."""

    id: int
    name: str = ""
    inbound: bool | None = None
    sip_endpoint: str = ""
    contact_number: str = ""
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, document: Any) -> Self:
        """Read an agent of version 1 or 2 of the API; raises AnswerError if it has no id."""
        number = int_of(document.get("id")) if isinstance(document, Mapping) else None
        if number is None:
            raise AnswerError("an agent has no id")
        telephony = document.get("telephony")
        telephony = telephony if isinstance(telephony, Mapping) else {}
        return cls(
            id=number,
            name=text_of(document.get("name")) or text_of(document.get("agent_name")),
            inbound=bool_of(telephony.get("inbound", document.get("inbound"))),
            sip_endpoint=text_of(telephony.get("sip_uri")) or text_of(document.get("sip_endpoint")),
            contact_number=text_of(telephony.get("phone_number")) or text_of(document.get("contact_number")),
            document=document,
        )


def runs_in(value: Any) -> Iterator[Run]:
    """Yield the runs of an answer: a list, or an object by run id; what is no run is left out."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, Mapping):
        items = value.items()
    else:
        items = ((None, item) for item in (value if isinstance(value, list) else ()))
    for key, document in items:
        try:
            yield Run.parse(document, run_id=key)
        except AnswerError:
            continue


def status_of(document: Mapping[str, Any]) -> str:
    """Return the status in lower case."""
    return text_of(document.get("status")).lower()


def text_of(value: Any) -> str:
    """Return a text or number as text, anything else as an empty one; half a character (JSON allows it) becomes "?"."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value).strip().encode("utf-8", "replace").decode()


def texts_of(value: Any) -> tuple[str, ...]:
    """Return the texts in a list, or a text that stands alone."""
    items: Sequence[Any] = value if isinstance(value, list) else [value]
    return tuple(text for text in map(text_of, items) if text)


def int_of(value: Any) -> int | None:
    """Return a whole number, or one written as text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        text = value.strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
    return value if isinstance(value, int) else None


def float_of(value: Any) -> float | None:
    """Return a number, or one written as text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def bool_of(value: Any) -> bool | None:
    """Return a truth value, or one written as text."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def time_of(value: Any) -> datetime | None:
    """Return an aware time written as RFC 3339."""
    try:
        moment = datetime.fromisoformat(text_of(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def mappings_in(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the objects in a list."""
    yield from (item for item in (value if isinstance(value, list) else ()) if isinstance(item, Mapping))


def _seconds_of(value: Any) -> int | None:
    """Read "MM:SS", or "HH:MM:SS"."""
    parts = text_of(value).split(":")
    if not 2 <= len(parts) <= 3 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return seconds
