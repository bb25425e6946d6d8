"""Outbound tests: what is dialled, when, how often, and what is not."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sip_agent.config import AccountSettings, OutboundSettings
from sip_agent.errors import SettingsError
from sip_agent.outgoing import Outgoing
from sip_agent.platforms.cekura.client import CekuraClient
from sip_agent.platforms.cekura.model import Run, Scenario
from sip_agent.platforms.cekura.outbound import Dialer, advice, check_agent, check_limits, plan, window
from sip_agent.platforms.errors import PlatformError
from sip_agent.record import CallRecord
from sip_agent.status import Outcome
from sip_agent.store import Claim, DialLedger, dial_ledger
from sip_agent.trunk import Trunk
from tests.platforms.cekura.stand_in import KEY, CekuraStandIn

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
CALLER_ID = "+14155550100"
NUMBER = "+14155550123"

TRUNK = Trunk(
    account=AccountSettings(name="trunk", registrar="sip:trunk.example.com", username="1001", caller_id=CALLER_ID)
)


def limits(**values: Any) -> OutboundSettings:
    """Return guard rails that let numbers of one city through."""
    return OutboundSettings.model_validate({"allow": ["+1415"], **values})


def run(number: int = 1, status: str = "pending", **fields: Any) -> Run:
    """Return a run as Cekura describes it."""
    document = {"id": number, "scenario": 7, "outbound_number": NUMBER, "status": status, **fields}
    return Run.parse(document)


def open_window(opens_s: float, closes_s: float) -> dict[str, Any]:
    """Return a window around NOW."""
    moments = {"opens": opens_s, "closes": closes_s}
    return {
        f"outbound_dial_window_{name}_at": (NOW + timedelta(seconds=seconds)).isoformat()
        for name, seconds in moments.items()
    }


class Exchange:
    """Places no calls: notes them, and ends them when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Outgoing] = []
        self.over = asyncio.Event()
        self._placed = asyncio.Semaphore(0)

    async def place(self, outgoing: Outgoing) -> CallRecord:
        """See `Agent.place_call`."""
        self.calls.append(outgoing)
        self._placed.release()
        await self.over.wait()
        return CallRecord(call_uuid="1", outcome=Outcome.ANSWERED)

    async def until_placed(self, count: int) -> None:
        """Wait until so many more calls were placed."""
        for _ in range(count):
            await self._placed.acquire()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[DialLedger]:
    """Open a ledger of the test's own."""
    with dial_ledger("sqlite:///calls.db", base_dir=tmp_path) as opened:
        yield opened


@pytest.fixture
def exchange() -> Exchange:
    """Return what stands for the telephone network."""
    return Exchange()


def new_dialer(ledger: DialLedger, exchange: Exchange, said: list[str] | None = None, **values: Any) -> Dialer:
    """Return a dialer whose clock stands still."""
    notes = [] if said is None else said
    return Dialer(9, TRUNK, limits(**values), ledger, exchange.place, say=notes.append, now=lambda: NOW)


async def settle(dialer: Dialer) -> None:
    """Wait until every call that was begun is over."""
    if dialer._calls:
        await asyncio.wait(dialer._calls)


class TestDialer:
    """When the number of a run is dialled."""

    async def test_a_pending_run_is_dialled(self, ledger: DialLedger, exchange: Exchange) -> None:
        """The number of a pending run is dialled through the trunk, and the call knows which run it is for."""
        dialer = new_dialer(ledger, exchange)
        dialer.look([run(**open_window(-5, 290))])
        exchange.over.set()
        await settle(dialer)

        (call,) = exchange.calls
        assert (f"sip:{NUMBER}@trunk.example.com;user=phone", "trunk") == (call.uri, call.account)
        assert ("1", "7", "9") == (call.ids.run_id, call.ids.scenario_id, call.ids.result_id)
        assert {} == dialer.undialled

    @pytest.mark.parametrize("status", ["in_queue", "scaling_up", "in_progress", "evaluating", "odd", ""])
    async def test_in_no_other_status(self, ledger: DialLedger, exchange: Exchange, status: str) -> None:
        """A run that is not pending is not dialled."""
        dialer = new_dialer(ledger, exchange)
        dialer.look([run(status=status)])
        await settle(dialer)

        assert [] == exchange.calls
        assert 0 == ledger.count(NOW)

    async def test_no_sooner_than_its_window_opens(self, ledger: DialLedger, exchange: Exchange) -> None:
        """A run is dialled at the first look after its window opened."""
        dialer = new_dialer(ledger, exchange)
        dialer.look([run(**open_window(5, 300))])
        before = list(exchange.calls)
        dialer.look([run(**open_window(0, 300))])
        exchange.over.set()
        await settle(dialer)

        assert [] == before
        assert 1 == len(exchange.calls)

    async def test_not_after_it_closed(self, ledger: DialLedger, exchange: Exchange) -> None:
        """A run whose window is closed is never dialled, and it is said why."""
        said: list[str] = []
        dialer = new_dialer(ledger, exchange, said)
        dialer.look([run(**open_window(-300, 0))])
        dialer.look([run(**open_window(-300, 60))])
        await settle(dialer)

        assert [] == exchange.calls
        assert ["run 1: not dialled: its window closed at 12:00:00 UTC"] == said

    async def test_once(self, ledger: DialLedger, exchange: Exchange) -> None:
        """A run that stays pending is not dialled again: neither by this process nor by the next."""
        dialer = new_dialer(ledger, exchange)
        dialer.look([run()])
        dialer.look([run()])
        await exchange.until_placed(1)
        exchange.over.set()
        await settle(dialer)
        dialer.look([run()])
        await settle(dialer)
        other = new_dialer(ledger, exchange)
        other.look([run()])
        await settle(other)

        assert 1 == len(exchange.calls)
        assert {1: "it was dialled before, and no run is dialled twice"} == other.undialled

    async def test_what_was_claimed_before_a_crash(self, ledger: DialLedger, exchange: Exchange) -> None:
        """A run that was claimed and, because the process died, not called, is left alone."""
        assert Claim.GRANTED is ledger.claim(NUMBER, NOW, run_id=1, max_per_day=50)
        dialer = new_dialer(ledger, exchange)
        dialer.look([run()])
        await settle(dialer)

        assert [] == exchange.calls

    async def test_at_the_same_time(self, ledger: DialLedger, exchange: Exchange) -> None:
        """What is one call too many is dialled when another one is over."""
        dialer = new_dialer(ledger, exchange, max_calls=2)
        runs = [run(number) for number in (1, 2, 3)]
        dialer.look(runs)
        await exchange.until_placed(2)
        first = [call.ids.run_id for call in exchange.calls]
        waiting = dict(dialer.undialled)
        exchange.over.set()
        await settle(dialer)
        dialer.look(runs)
        await settle(dialer)

        assert ["1", "2"] == sorted(map(str, first))
        assert {3: "2 calls went on at once (outbound.max_calls)"} == waiting
        assert "3" == exchange.calls[-1].ids.run_id
        assert {} == dialer.undialled

    async def test_in_one_day(self, ledger: DialLedger, exchange: Exchange) -> None:
        """The cap of a day counts what was dialled in the 24 hours before, by whomever."""
        assert Claim.GRANTED is ledger.claim(NUMBER, NOW - timedelta(hours=25), max_per_day=1)
        assert Claim.GRANTED is ledger.claim(NUMBER, NOW - timedelta(hours=23), max_per_day=2)
        dialer = new_dialer(ledger, exchange, max_calls_per_day=2)
        exchange.over.set()
        dialer.look([run(1)])
        await settle(dialer)
        dialer.look([run(2)])
        await settle(dialer)

        assert ["1"] == [call.ids.run_id for call in exchange.calls]
        assert {2: "outbound.max_calls_per_day is reached"} == dialer.undialled

    @pytest.mark.parametrize(
        ("number", "why"),
        [
            ("+442079460000", "outbound.allow: +442079460000 begins with none of +1415: not dialled"),
            ("4155550123", "'4155550123' is no phone number with + and country code, and is not dialled"),
            ("", "'' is no phone number with + and country code, and is not dialled"),
            ("+1415555;phone-context=x", "'+1415555;phone-context=x' is no phone number with + and country code"),
        ],
    )
    async def test_numbers_that_are_not_allowed(
        self, ledger: DialLedger, exchange: Exchange, number: str, why: str
    ) -> None:
        """A number that the allow-list does not name, or that is none, is not dialled."""
        dialer = new_dialer(ledger, exchange)
        dialer.look([run(outbound_number=number)])
        await settle(dialer)

        assert [] == exchange.calls
        assert dialer.undialled[1].startswith(why)

    async def test_runs_that_ended_without_us(self, ledger: DialLedger, exchange: Exchange) -> None:
        """It is said which runs were over before they could be dialled, one line for each reason."""
        dialer = new_dialer(ledger, exchange)
        dialer.look([run(1, "timeout"), run(2, "timeout"), run(3, "completed")])

        assert ["runs 1, 2: not dialled: it was timeout before it could be dialled"] == list(advice(dialer.undialled))

    async def test_leaving(self, ledger: DialLedger, exchange: Exchange) -> None:
        """A dialer that is closed waits for no call."""
        dialer = new_dialer(ledger, exchange)
        dialer.look([run()])
        await exchange.until_placed(1)
        await dialer.close()

        assert 1 == len(exchange.calls)


class TestWindow:
    """When Cekura waits for a call."""

    def test_as_it_is_told(self) -> None:
        """Both ends are read; where the end is missing, the length tells it."""
        opens: dict[str, Any] = {"outbound_dial_window_opens_at": NOW.isoformat()}
        both = opens | {"outbound_dial_window_closes_at": "2026-05-01T12:04:00Z"}

        assert (NOW, NOW + timedelta(minutes=4)) == window(run(**both))
        assert (NOW, NOW + timedelta(minutes=5)) == window(run(**opens, outbound_dial_window_seconds="300"))
        assert (None, None) == window(run())


class TestBefore:
    """What is looked at before anything is started."""

    @pytest.mark.parametrize(
        ("telephony", "message"),
        [
            ({"inbound": True, "phone_number": CALLER_ID}, "agent 5 is set to inbound"),
            ({"phone_number": CALLER_ID}, "agent 5 is neither set to inbound nor to outbound"),
            ({"inbound": False}, "agent 5 has the contact number none at Cekura"),
            ({"inbound": False, "phone_number": "+14155550199"}, r"has the contact number \+14155550199 at Cekura"),
        ],
    )
    async def test_an_agent_that_does_not_fit(
        self, cekura: CekuraStandIn, telephony: dict[str, Any], message: str
    ) -> None:
        """An agent that Cekura does not expect calls of, or not from this number, is wrong use."""
        cekura.agent["telephony"] = telephony
        async with CekuraClient(cekura.url, KEY) as client:
            with pytest.raises(PlatformError, match=message) as caught:
                await check_agent(client, 5, TRUNK)

        assert 2 == caught.value.exit_status

    async def test_an_agent_that_fits(self, cekura: CekuraStandIn) -> None:
        """The two numbers may be written differently."""
        cekura.agent["telephony"] = {"inbound": False, "phone_number": "+1 (415) 555-0100"}
        async with CekuraClient(cekura.url, KEY) as client:
            await check_agent(client, 5, TRUNK)

    def test_plan(self) -> None:
        """A plan says whom a scenario would call, or why nobody."""
        numbers = [NUMBER, "+442079460000", ""]
        scenarios = [Scenario(id=index, phone_number=number) for index, number in enumerate(numbers)]
        allowed, foreign, unknown = plan(scenarios, TRUNK, limits())

        assert (f"sip:{NUMBER}@trunk.example.com;user=phone", "") == (allowed.uri, allowed.refusal)
        assert ("", True) == (foreign.uri, foreign.refusal.startswith("outbound.allow: +442079460000"))
        assert "Cekura shows no number of it before it runs" == unknown.refusal

    def test_more_than_is_left(self) -> None:
        """Runs whose calls would be refused are not started."""
        check_limits(2, 3, limits(max_calls_per_day=5))
        with pytest.raises(SettingsError, match="max_calls_per_day: 3 calls are wanted, and 2 of 5 are left"):
            check_limits(3, 3, limits(max_calls_per_day=5))
        with pytest.raises(SettingsError, match=r"outbound\.allow: it is empty"):
            check_limits(1, 0, limits(allow=[]))
