"""Outbound tests: the agent dials Cekura's numbers, each run's once, while Cekura waits for that call.

docs.cekura.ai/documentation/guides/testing-agents/outbound-evaluators: the agent is set to outbound there, runs are
started like those of any phone agent, and a run's `outbound_number` is dialled once the run is `pending`. A call whose
caller id is not the agent's `contact_number` is dropped without a word. The window of a run is in openapi.json.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from sip_agent.config import OutboundSettings
from sip_agent.errors import SettingsError, SipAgentError
from sip_agent.headers import CorrelationIds
from sip_agent.outgoing import Outgoing
from sip_agent.phone_numbers import read_phone_number
from sip_agent.platforms.cekura.client import CekuraClient
from sip_agent.platforms.cekura.model import Run, Scenario, int_of
from sip_agent.platforms.errors import WRONG_USE, PlatformError
from sip_agent.record import CallRecord
from sip_agent.status import Outcome
from sip_agent.store import Claim, DialLedger
from sip_agent.trunk import Trunk, check_number

log = structlog.get_logger()

PENDING = "pending"
"""The one status in which Cekura waits for the call of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What would be dialled for a scenario: `uri` is empty, and `refusal` says why, if nothing would."""

    scenario: Scenario
    uri: str = ""
    refusal: str = ""


async def check_agent(client: CekuraClient, agent_id: int, trunk: Trunk) -> None:
    """Raise PlatformError unless Cekura expects calls of this agent, with the caller id that the trunk shows."""
    agent = await client.agent(agent_id)
    if agent.inbound is not False:
        said = "is set to inbound" if agent.inbound else "is neither set to inbound nor to outbound, as far as it says"
        raise PlatformError(
            f"agent {agent_id} {said}, so Cekura would not wait for calls",
            "set it to outbound in its settings at Cekura",
            exit_status=WRONG_USE,
        )
    if read_phone_number(agent.contact_number) != trunk.caller_id:
        raise PlatformError(
            f"agent {agent_id} has the contact number {agent.contact_number or 'none'} at Cekura, and the account "
            f"{trunk.name!r} calls as {trunk.caller_id}: such calls are dropped without a word",
            "write the same number there and in accounts.caller_id",
            exit_status=WRONG_USE,
        )


def plan(scenarios: Iterable[Scenario], trunk: Trunk, outbound: OutboundSettings) -> list[Planned]:
    """Say what would be dialled for each scenario, by the number that it has now."""
    planned = []
    for scenario in scenarios:
        try:
            number = check_number(scenario.phone_number, outbound)
        except SettingsError as error:
            refusal = str(error) if scenario.phone_number else "Cekura shows no number of it before it runs"
            planned.append(Planned(scenario=scenario, refusal=refusal))
        else:
            planned.append(Planned(scenario=scenario, uri=trunk.uri(number)))
    return planned


def check_limits(calls: int, dialled_today: int, outbound: OutboundSettings) -> None:
    """Raise SettingsError where calls would be refused one by one after the runs were paid for."""
    if not outbound.allow:
        raise SettingsError(
            "outbound.allow: it is empty, so no number may be dialled: name how those begin that may, like "
            'allow = ["+1"]'
        )
    left = max(0, outbound.max_calls_per_day - dialled_today)
    if calls > left:
        raise SettingsError(
            f"outbound.max_calls_per_day: {calls} calls are wanted, and {left} of {outbound.max_calls_per_day} are "
            "left for these 24 hours: run fewer scenarios, or raise it"
        )


def window(run: Run) -> tuple[datetime | None, datetime | None]:
    """Return when Cekura begins and ends to wait for the call of a run; None where it does not say."""
    opens_at, closes_at = run.dial_window_opens_at, run.dial_window_closes_at
    seconds = int_of(run.document.get("outbound_dial_window_seconds"))
    if closes_at is None and opens_at is not None and seconds is not None:
        closes_at = opens_at + timedelta(seconds=seconds)
    return opens_at, closes_at


class Dialer:
    """Dials runs, each at most once: a claim in the ledger goes before the INVITE, and is never given back.

    `result_id` is that of the runs. `look` is told of them whenever Cekura was asked; `undialled` says why some were
    not dialled. `place` places a call and returns its record; `say` tells people.
    """

    def __init__(
        self,
        result_id: int,
        trunk: Trunk,
        outbound: OutboundSettings,
        ledger: DialLedger,
        place: Callable[[Outgoing], Awaitable[CallRecord]],
        *,
        say: Callable[[str], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.undialled: dict[int, str] = {}
        self._result_id = result_id
        self._trunk = trunk
        self._outbound = outbound
        self._ledger = ledger
        self._place = place
        self._say = say
        self._now = now
        self._taken: set[int] = set()
        self._calls: set[asyncio.Task[None]] = set()

    def look(self, runs: Iterable[Run]) -> None:
        """Dial what is to be dialled now; the rest, also what is one call too many, waits for the next look."""
        for run in runs:
            if run.id in self._taken or run.status == "completed":
                continue
            if run.over:
                self._leave(run, self.undialled.get(run.id) or f"it was {run.status} before it could be dialled")
            elif run.status == PENDING:
                self._consider(run)

    async def close(self) -> None:
        """Dial no more; the calls that go on are left to whoever places them."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _consider(self, run: Run) -> None:
        opens_at, closes_at = window(run)
        now = self._now()
        if opens_at is not None and now < opens_at:
            self.undialled[run.id] = f"its window opens at {opens_at:%H:%M:%S} UTC"
        elif closes_at is not None and now >= closes_at:
            self._leave(run, self._too_late(run, closes_at))
        elif len(self._calls) >= self._outbound.max_calls:
            self.undialled[run.id] = f"{self._outbound.max_calls} calls went on at once (outbound.max_calls)"
        else:
            self._take(run)

    def _take(self, run: Run) -> None:
        try:
            number = check_number(run.outbound_number, self._outbound)
        except SettingsError as error:
            self._leave(run, str(error))
            return
        self._taken.add(run.id)
        call = asyncio.create_task(self._dial(run, number), name=f"run {run.id}")
        self._calls.add(call)
        call.add_done_callback(self._note_end)

    def _note_end(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not call.cancelled() and (error := call.exception()) is not None:
            log.error("outbound.dialling_failed", call=call.get_name(), exc_info=error)

    async def _dial(self, run: Run, number: str) -> None:
        ids = CorrelationIds(
            run_id=str(run.id),
            scenario_id=None if run.scenario_id is None else str(run.scenario_id),
            result_id=str(self._result_id),
        )
        try:
            claim = await asyncio.to_thread(
                self._ledger.claim,
                number,
                self._now(),
                run_id=run.id,
                max_per_day=self._outbound.max_calls_per_day,
            )
            if claim is not Claim.GRANTED:
                self._leave(run, _REFUSALS[claim])
                return
            closes_at = window(run)[1]
            if closes_at is not None and self._now() >= closes_at:
                self._leave(run, self._too_late(run, closes_at))
                return
            self.undialled.pop(run.id, None)
            self._say(f"run {run.id}: dialling {number} by {self._trunk.name}")
            ring_timeout_s = self._outbound.ring_timeout.total_seconds()
            record = await self._place(self._trunk.outgoing(number, ids, ring_timeout_s))
        except SipAgentError as error:
            self._leave(run, str(error))
            return
        if record.outcome is not Outcome.ANSWERED:
            why = record.error or f"{record.sip_status} {record.end_reason or ''}".strip()
            self._say(f"run {run.id}: {number} was not reached: {why}")

    def _too_late(self, run: Run, closes_at: datetime) -> str:
        waited = self.undialled.get(run.id)
        return f"its window closed at {closes_at:%H:%M:%S} UTC" + (f"; before, {waited}" if waited else "")

    def _leave(self, run: Run, why: str) -> None:
        self._taken.add(run.id)
        self.undialled[run.id] = why
        self._say(f"run {run.id}: not dialled: {why}")


_REFUSALS = {
    Claim.DIALLED_BEFORE: "it was dialled before, and no run is dialled twice",
    Claim.OVER_THE_CAP: "outbound.max_calls_per_day is reached",
}


def advice(undialled: dict[int, str]) -> Sequence[str]:
    """Return one line for each reason why runs were not dialled."""
    by_reason: dict[str, list[int]] = {}
    for number, why in undialled.items():
        by_reason.setdefault(why, []).append(number)
    return [f"runs {', '.join(map(str, numbers))}: not dialled: {why}" for why, numbers in by_reason.items()]
