"""A test run from its start to its end: choose scenarios, start them once, follow them, read the calls meanwhile."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from sip_agent.errors import SettingsError, SipAgentError
from sip_agent.platforms.cekura.client import CekuraClient, RunKind
from sip_agent.platforms.cekura.join import Joined, Record, is_complete, join, last_ended_at
from sip_agent.platforms.cekura.model import TERMINAL, Result, StartedRun
from sip_agent.platforms.errors import WRONG_USE, PlatformError, Refused, StartUncertain
from sip_agent.platforms.records import RecordSource

POLL_S = 3.0
"""How often runs are looked at, as Cekura's own example does it."""

SLOW_POLL_S = 10.0
SLOW_AFTER_S = 180.0
"""Later on, less often: nothing is known of the API's rate limits but that there are some."""

SETTLE_S = 45.0
SETTLE_POLL_S = 1.0
"""The result's counts, and the end and the measures of our own calls, may come after the last run is over.

Latest of all comes the record of a caller who did not answer a challenge: it is known to be a refusal only when no
answer can come any more (64*T1, RFC 3261 §17.1.1.2), and the agent looks for such every few seconds.
"""

CLOCK_SKEW = timedelta(minutes=1)
"""How far Cekura's clock and ours may differ."""

LOOK_UP_S = 5.0
"""How long to look for a result whose start was not answered: the network may be down."""

PAST_RESULT = timedelta(hours=1)
"""How long the calls of a result that is over may have taken, where nothing tells."""

_SIP_ENDPOINT = re.compile(r"sip:(?:[^\s@:;/]+@)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which scenarios to run: these ids, or those with `tags` and in `folder`; all of them or the first so many.

    To choose nothing is wrong use: `everything` has to be said.
    """

    ids: tuple[int, ...] = ()
    tags: tuple[str, ...] = ()
    folder: str | None = None
    first: int | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What to start. Each scenario is run `frequency` times for every profile and personality."""

    agent_id: int
    choice: Choice
    name: str = ""
    frequency: int = 1
    test_profile_ids: tuple[int, ...] = ()
    personality_ids: tuple[int, ...] = ()
    concurrency_limit: int | None = None
    sip_endpoint: str = ""

    def body(self, scenario_ids: Sequence[int]) -> dict[str, Any]:
        """Return what the starting request says; only what was asked for is in it."""
        optional = {
            "name": self.name,
            "test_profile_ids": list(self.test_profile_ids),
            "personality_ids": list(self.personality_ids),
            "concurrency_limit": self.concurrency_limit,
            "sip_endpoint": self.sip_endpoint,
        }
        required = {"agent_id": self.agent_id, "scenarios": list(scenario_ids), "frequency": self.frequency}
        return required | {key: value for key, value in optional.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What a wait has found so far.

    `joinable` says whether our own records were read: only then is a run without a call one whose call never came.
    `problem` is why they could not be read.
    """

    result: Result
    joined: Joined
    joinable: bool
    timed_out: bool = False
    problem: str = ""

    @property
    def over(self) -> bool:
        """Whether every run is over."""
        runs = self.joined.runs
        return bool(runs) and len(runs) >= (self.result.total_runs or 0) and all(joined.run.over for joined in runs)


def check_sip_endpoint(text: str) -> str:
    """Return a SIP endpoint that Cekura takes; raises SettingsError, with Cekura's own words."""
    if not _SIP_ENDPOINT.fullmatch(text):
        raise SettingsError(f"--sip-endpoint: {text!r}: Invalid SIP URI format. Expected format: sip:user@host[:port]")
    return text


async def start(client: CekuraClient, kind: RunKind, body: Mapping[str, Any], now: datetime) -> StartedRun:
    """Start runs, once. Raises StartUncertain when the answer is lost, with what Cekura has under that name since."""
    try:
        return await client.start_run(kind, body)
    except StartUncertain as error:
        try:
            found = await client.results(agent_id=body["agent_id"], name=body["name"], patience_s=LOOK_UP_S)
        except PlatformError:
            raise error from None
        ids = tuple(
            result.id
            for result in found
            if result.name == body["name"] and (result.created_at is None or result.created_at >= now - CLOCK_SKEW)
        )
        if not ids:
            raise
        raise StartUncertain(
            error.message,
            f"nothing is sent twice; Cekura has started result {', '.join(map(str, ids))} "
            f"under the name {body['name']!r}: sip-agent cekura wait {ids[0]}",
            found=ids,
        ) from error


async def choose(client: CekuraClient, agent_id: int, choice: Choice) -> tuple[int, ...]:
    """Return the ids of the scenarios that are chosen, in Cekura's order. Raises PlatformError if there are none."""
    if choice.ids:
        return tuple(dict.fromkeys(choice.ids))[: choice.first]
    if not (choice.tags or choice.folder is not None or choice.first or choice.everything):
        raise SettingsError(
            "no scenarios are chosen: write --scenarios 101,102, --tag NAME, --folder A.B, --first N or --all"
        )
    found = await client.scenarios(agent_id=agent_id, tags=choice.tags, folder_path=choice.folder)
    if not found:
        conditions = [f"the tag {tag!r}" for tag in choice.tags]
        if choice.folder is not None:
            conditions.append(f"the folder {choice.folder!r}")
        filters = f" with {' and '.join(conditions)}" if conditions else ""
        raise PlatformError(
            f"Cekura lists no scenario of agent {agent_id}{filters}",
            "check cekura.agent_id, the tags and the folder",
            exit_status=WRONG_USE,
        )
    return tuple(scenario.id for scenario in found[: choice.first])


class Follower:
    """Follows the runs of a result until they are over, or until `timeout_s` has passed.

    `records` is where our own calls are read, None to leave them out; a failure there is noted and never ends the
    wait. `on_progress` is called whenever something was read. Failures of Cekura are ridden out until the deadline.
    If the agent `challenges` callers, a failed run without a call is given the time that an unanswered challenge takes
    to become a record, and `on_missing` is told how long that is at most.
    """

    def __init__(
        self,
        client: CekuraClient,
        result: Result,
        *,
        since: datetime,
        records: RecordSource | None,
        timeout_s: float,
        poll_s: float = POLL_S,
        on_progress: Callable[[Followed], None] = lambda _: None,
        challenges: bool = False,
        on_missing: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._clock = client.http.clock
        self._result = result
        self._runs = {run.id: run for run in result.runs}
        self._asked: set[int] = set()
        self._since = since
        self._past = bool(self._runs) and all(run.over for run in result.runs)
        self._records = records
        self._poll_s = poll_s
        self._on_progress = on_progress
        self._challenges = challenges
        self._on_missing = on_missing
        self._begun = self._clock.now()
        self._timeout_s = timeout_s

    async def follow(self) -> Followed:
        """Wait, and return what was found. Raises PlatformError when Cekura fails for good."""
        while True:
            news = await self._read()
            seen = await self._look()
            if seen.over:
                return await self._settle(seen)
            if news:
                continue
            elapsed_s = self._clock.now() - self._begun
            pause_s = self._poll_s if elapsed_s < SLOW_AFTER_S else max(self._poll_s, SLOW_POLL_S)
            if pause_s > self._left_s():
                return replace(seen, timed_out=True)
            await self._clock.sleep(pause_s)

    async def _read(self) -> bool:
        """Ask for the runs that may still change; tell whether there are some that were not known before."""
        open_ids = [number for number, run in self._runs.items() if not run.over or number not in self._asked]
        self._asked.update(open_ids)
        found = {
            run.id: run
            for run in await self._client.runs(open_ids, result_id=self._result.id, patience_s=self._left_s())
        }
        self._runs |= found
        if len(found) == len(open_ids) and not all(run.over for run in self._runs.values()):
            return False
        # The result has the counts, the runs that the start did not name, and what became of one that is not found.
        self._result = await self._read_result()
        lost = set(open_ids) - set(found)
        new = {run.id: run for run in self._result.runs if run.id not in self._runs}
        self._runs |= new | {run.id: run for run in self._result.runs if run.id in lost}
        return bool(new)

    async def _read_result(self) -> Result:
        try:
            return await self._client.result(self._result.id, patience_s=self._left_s())
        except Refused as error:
            if error.status != HTTPStatus.NOT_FOUND or not self._runs:
                raise
            return self._result  # deleted meanwhile, say; its runs still speak for themselves

    async def _look(self) -> Followed:
        """Join what is known now with our own calls, and tell of it."""
        records: Sequence[Record] = ()
        problem = ""
        if self._records is not None:
            try:
                records = await self._records.since(self._since)
            except SipAgentError as error:
                problem = str(error)
        joined = join(self._runs.values(), records, result_id=self._result.id)
        if self._past:
            ours = [record for run in joined.runs for record in run.records]
            until = last_ended_at(ours) or self._since + PAST_RESULT
            joined = join(self._runs.values(), records, result_id=self._result.id, until=until)
        joinable = self._records is not None and not problem
        seen = Followed(result=self._result, joined=joined, joinable=joinable, problem=problem)
        self._on_progress(seen)
        return seen

    async def _settle(self, seen: Followed) -> Followed:
        """Give the result's counts and our own records the time they take after the last run."""
        if self._past:
            return seen
        give_up_at = self._clock.now() + SETTLE_S
        if self._may_be_challenged(seen):
            self._on_missing(SETTLE_S)
        while (not _settled(seen) or self._may_be_challenged(seen)) and self._clock.now() < give_up_at:
            await self._clock.sleep(min(self._poll_s, SETTLE_POLL_S))
            if seen.result.status not in TERMINAL:
                self._result = await self._read_result()
            seen = await self._look()
        return seen

    def _may_be_challenged(self, seen: Followed) -> bool:
        """Whether the call of a failed run may have come, and wait for credentials still."""
        missing = (joined.run for joined in seen.joined.never_arrived)
        return self._challenges and seen.joinable and any(not (run.passed or run.outbound_number) for run in missing)

    def _left_s(self) -> float:
        return max(0.0, self._begun + self._timeout_s - self._clock.now())


def result_of(started: StartedRun) -> Result:
    """Return what is known of a result that was just started."""
    return Result(id=started.result_id, name=started.name, runs=started.runs)


def begun_at(result: Result, now: datetime) -> datetime:
    """Return since when a result's calls may have come in, for a clock that differs from Cekura's by a little."""
    times = [run.executed_at for run in result.runs if run.executed_at is not None]
    return (result.created_at or min(times, default=now - PAST_RESULT)) - CLOCK_SKEW


def _settled(seen: Followed) -> bool:
    records = [joined.record for joined in seen.joined.runs if joined.record is not None]
    return (not seen.result.status or seen.result.status in TERMINAL) and all(map(is_complete, records))
