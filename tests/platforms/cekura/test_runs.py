"""Choosing, starting and following runs, against the stand-in; time is the test's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sip_agent.agent import HOUSEKEEPING_S
from sip_agent.call_flow import CHALLENGE_EXPIRES
from sip_agent.errors import SettingsError
from sip_agent.platforms.cekura.client import CekuraClient
from sip_agent.platforms.cekura.model import Result
from sip_agent.platforms.cekura.runs import (
    SETTLE_S,
    Choice,
    Followed,
    Follower,
    RunRequest,
    begun_at,
    check_sip_endpoint,
    choose,
    result_of,
    start,
)
from sip_agent.platforms.errors import PlatformError, StartUncertain, Unavailable
from sip_agent.record import CallRecord
from tests.platforms.cekura.calls import NOW, record, refused
from tests.platforms.cekura.stand_in import BULK, RESULT, RESULTS, START, CekuraStandIn, answer, hang_up, text
from tests.platforms.clock import FakeClock

BODY = {"agent_id": 5, "scenarios": [11547, 11548], "name": "mine"}
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)


class Records:
    """Our own calls, or what reading them raises."""

    def __init__(self, *found: CallRecord | Exception) -> None:
        self._found = found

    async def since(self, _: datetime) -> list[dict[str, Any]]:
        """Return them all."""
        for item in self._found:
            if isinstance(item, Exception):
                raise item
        return [item.to_dict() for item in self._found if isinstance(item, CallRecord)]


class LateRecords(Records):
    """Our own calls, which are not known before so many seconds have passed."""

    def __init__(self, clock: FakeClock, late_s: float, *found: CallRecord) -> None:
        super().__init__(*found)
        self._clock = clock
        self._known_at_s = clock.now_s + late_s

    async def since(self, moment: datetime) -> list[dict[str, Any]]:
        """Return them all, once it is time."""
        return await super().since(moment) if self._clock.now_s >= self._known_at_s else []


def follower(client: CekuraClient, result: Result, records: Records | None = None, **options: Any) -> Follower:
    """Follow a result for ten minutes."""
    return Follower(client, result, since=NOW, records=records, **({"timeout_s": 600.0} | options))


class TestChoosing:
    """Which scenarios."""

    @pytest.mark.parametrize(
        ("choice", "ids"),
        [
            (Choice(ids=(11549, 11547, 11549)), (11549, 11547)),
            (Choice(ids=(11549, 11547, 11549, 11548), first=2), (11549, 11547)),
            (Choice(everything=True), (11547, 11548, 11549)),
            (Choice(first=2), (11547, 11548)),
            (Choice(tags=("smoke",)), (11547, 11548)),
            (Choice(tags=("smoke", "long")), (11548,)),
            (Choice(tags=("smoke",), first=1), (11547,)),
            (Choice(folder="Sales.Inbound"), (11548,)),
        ],
    )
    async def test_ids_are_what_is_sent(self, client: CekuraClient, choice: Choice, ids: tuple[int, ...]) -> None:
        """Every choice becomes ids, as the API wants them."""
        assert ids == await choose(client, 5, choice)

    async def test_given_ids_are_not_looked_up(self, client: CekuraClient, cekura: CekuraStandIn) -> None:
        """Cekura judges them when they are started."""
        await choose(client, 5, Choice(ids=(1,)))

        assert not cekura.requests

    async def test_nothing_chosen(self, client: CekuraClient, cekura: CekuraStandIn) -> None:
        """All scenarios cost money: --all has to be said."""
        with pytest.raises(SettingsError, match=r"no scenarios are chosen: write --scenarios"):
            await choose(client, 5, Choice())

        assert not cekura.requests

    async def test_nothing_found(self, client: CekuraClient) -> None:
        """What was looked for is named."""
        with pytest.raises(PlatformError, match=r"no scenario of agent 5 with the tag 'smoek': check") as caught:
            await choose(client, 5, Choice(tags=("smoek",)))

        assert 2 == caught.value.exit_status


def test_the_request_says_only_what_was_asked() -> None:
    """And by the documented names."""
    request = RunRequest(agent_id=5, choice=Choice())
    full = RunRequest(
        agent_id=5,
        choice=Choice(),
        name="n",
        frequency=2,
        test_profile_ids=(20,),
        personality_ids=(3, 7),
        concurrency_limit=4,
        sip_endpoint="sip:agent@192.0.2.1",
    )

    assert {"agent_id": 5, "scenarios": [1], "frequency": 1} == request.body([1])
    assert {
        "agent_id": 5,
        "scenarios": [1],
        "frequency": 2,
        "name": "n",
        "test_profile_ids": [20],
        "personality_ids": [3, 7],
        "concurrency_limit": 4,
        "sip_endpoint": "sip:agent@192.0.2.1",
    } == full.body([1])


@pytest.mark.parametrize("uri", ["sip:agent@yourdomain.com", "sip:192.168.1.100:5060", "sip:a@[2001:db8::1]:5060"])
def test_sip_endpoints(uri: str) -> None:
    """The forms that Cekura shows."""
    assert uri == check_sip_endpoint(uri)


@pytest.mark.parametrize("uri", ["", "agent@host", "sip:", "http://a@b", "sip:a@b:port", "sip:a b@c", "sip:a@b c"])
def test_wrong_sip_endpoints(uri: str) -> None:
    """Cekura's own words, before anything is sent."""
    with pytest.raises(SettingsError, match=r"Invalid SIP URI format\. Expected format: sip:user@host\[:port\]"):
        check_sip_endpoint(uri)


class TestStarting:
    """Once, and never again."""

    async def test_a_lost_answer_is_looked_for(self, client: CekuraClient, cekura: CekuraStandIn) -> None:
        """The result that was begun under the name is named, and nothing is sent again."""

        async def lost(request: Any) -> Any:
            cekura.begin(await request.json())
            return await hang_up(request)

        cekura.faults[START] = [lost]

        with pytest.raises(
            StartUncertain, match=r"has started result 16870 under the name 'mine': .* wait 16870"
        ) as caught:
            await start(client, "sip", BODY, LONG_AGO)

        assert (16870,) == caught.value.found
        assert (1, 1) == (cekura.requests[START], cekura.requests[RESULTS])

    async def test_an_older_result_of_that_name(self, client: CekuraClient, cekura: CekuraStandIn) -> None:
        """Is not the one."""
        cekura.begin(BODY)
        cekura.faults[START] = [hang_up]

        with pytest.raises(StartUncertain, match=r"a recent one named 'mine'"):
            await start(client, "sip", BODY, NOW)

    async def test_nothing_found(self, client: CekuraClient, cekura: CekuraStandIn) -> None:
        """Not even the list: the advice is what a person can do."""
        cekura.faults[START] = [hang_up]
        cekura.faults[RESULTS] = [answer(500)] * 20

        with pytest.raises(StartUncertain, match="cekura wait RESULT_ID"):
            await start(client, "sip", BODY, LONG_AGO)

        assert 1 == cekura.requests[START]


class TestFollowing:
    """From the start to the end."""

    async def test_to_the_end(self, client: CekuraClient, cekura: CekuraStandIn, clock: FakeClock) -> None:
        """Every run is followed through its life, and the counts are read at last."""
        seen: list[list[str]] = []

        def note(followed: Followed) -> None:
            seen.append([joined.run.status for joined in followed.joined.runs])

        cekura.lives[34626] = ["running", "failed"]
        started = await client.start_sip_run(BODY)
        followed = await follower(client, result_of(started), Records(record()), on_progress=note).follow()

        assert ["in_queue", "running"] == seen[0]
        assert ["completed", "failed"] == seen[-1]
        assert {3.0} == set(clock.waits)
        assert (2, 1) == (followed.result.total_runs, followed.result.successful_runs)
        assert [True, False] == [joined.record is not None for joined in followed.joined.runs]
        assert not followed.timed_out

    async def test_failures_are_ridden_out(self, client: CekuraClient, cekura: CekuraStandIn) -> None:
        """As long as there is time."""
        cekura.faults[BULK] = [answer(503), hang_up, text("<html>"), answer(429, {}, **{"Retry-After": "60"})]
        started = await client.start_sip_run(BODY)

        followed = await follower(client, result_of(started)).follow()

        assert followed.over

    async def test_a_failure_that_lasts(self, client: CekuraClient, cekura: CekuraStandIn, clock: FakeClock) -> None:
        """Ends the wait at the deadline, and not before."""
        cekura.faults[BULK] = [answer(503)] * 1000
        started = await client.start_sip_run(BODY)

        with pytest.raises(Unavailable, match="HTTP 503"):
            await follower(client, result_of(started)).follow()

        assert 570 < sum(clock.waits) <= 600

    async def test_the_deadline(self, client: CekuraClient, cekura: CekuraStandIn, clock: FakeClock) -> None:
        """A status that nobody knows is waited for, and the wait ends in time with what is known."""
        cekura.life = ["brand_new_status"]
        started = await client.start_sip_run(BODY)

        followed = await follower(client, result_of(started)).follow()

        assert followed.timed_out
        assert ["brand_new_status"] * 2 == [joined.run.status for joined in followed.joined.runs]
        assert 590 < sum(clock.waits) <= 600

    async def test_runs_that_the_start_did_not_name(self, client: CekuraClient, cekura: CekuraStandIn) -> None:
        """They are found in the result."""
        cekura.begin(BODY)

        followed = await follower(client, Result(id=16870)).follow()

        assert [True, True] == [joined.run.passed for joined in followed.joined.runs]

    async def test_a_result_that_is_over(self, client: CekuraClient, cekura: CekuraStandIn, clock: FakeClock) -> None:
        """Is read without waiting; later calls are none of its strangers."""
        cekura.begin(BODY)
        cekura.life = ["completed"]
        for number in cekura.runs:
            cekura._step(number)
        later = record(9, run_id=None, result_id=None, invite_received_at=NOW + timedelta(hours=2))

        followed = await follower(client, await client.result(16870), Records(record(), later)).follow()

        assert [] == clock.waits
        assert () == followed.joined.strangers
        assert followed.over

    async def test_a_run_that_was_deleted(self, client: CekuraClient, cekura: CekuraStandIn) -> None:
        """What the result still says of it counts."""
        started = await client.start_sip_run(BODY)
        cekura.life = ["completed"]
        for number in cekura.runs:
            cekura._step(number)
        cekura.faults[BULK] = [answer(200, [])] * 50

        followed = await follower(client, result_of(started)).follow()

        assert [True, True] == [joined.run.passed for joined in followed.joined.runs]

    async def test_a_result_that_was_deleted(self, client: CekuraClient, cekura: CekuraStandIn) -> None:
        """The runs speak for themselves."""
        cekura.life = ["completed"]
        started = await client.start_sip_run(BODY)
        cekura.faults[RESULT] = [answer(404, {"detail": "Not found."})] * 50

        followed = await follower(client, result_of(started)).follow()

        assert followed.over
        assert followed.result.total_runs is None

    async def test_records_that_cannot_be_read(self, client: CekuraClient) -> None:
        """Never end a wait for calls that cost money."""
        started = await client.start_sip_run(BODY)

        followed = await follower(client, result_of(started), Records(SettingsError("store.url: gone"))).follow()

        assert followed.over
        assert (False, "store.url: gone") == (followed.joinable, followed.problem)

    async def test_a_call_that_is_measured_late(
        self, client: CekuraClient, cekura: CekuraStandIn, clock: FakeClock
    ) -> None:
        """Its metrics are waited for, for a while."""
        cekura.life = ["completed"]
        started = await client.start_sip_run(BODY)

        followed = await follower(client, result_of(started), Records(record(metrics={"error": "not yet"}))).follow()

        assert followed.over
        assert SETTLE_S == sum(clock.waits)

    async def test_a_challenge_that_is_not_answered(
        self, client: CekuraClient, cekura: CekuraStandIn, clock: FakeClock
    ) -> None:
        """Its record comes late: a failed run without a call is given that time, and people are told."""
        cekura.life = ["failed"]
        told: list[float] = []
        latest_s = (CHALLENGE_EXPIRES + timedelta(seconds=HOUSEKEEPING_S)).total_seconds()
        late = LateRecords(clock, latest_s, refused(run_id="34625"), refused(2, run_id="34626"))
        started = await client.start_sip_run(BODY)

        followed = await follower(client, result_of(started), late, challenges=True, on_missing=told.append).follow()

        assert () == followed.joined.never_arrived
        assert [SETTLE_S] == told

    @pytest.mark.parametrize(("life", "challenges"), [("failed", False), ("completed", True)])
    async def test_no_call_that_could_be_challenged(
        self, client: CekuraClient, cekura: CekuraStandIn, clock: FakeClock, life: str, *, challenges: bool
    ) -> None:
        """Nobody is asked for credentials, or the run is a success: no record is going to come."""
        cekura.life = [life]
        started = await client.start_sip_run(BODY)

        await follower(client, result_of(started), Records(), challenges=challenges).follow()

        assert [] == clock.waits


@pytest.mark.parametrize(
    ("result", "begun"),
    [
        (Result(id=1, created_at=NOW), NOW - timedelta(minutes=1)),
        (Result(id=1), NOW - timedelta(minutes=61)),
    ],
)
def test_since_when_calls_may_have_come(result: Result, begun: datetime) -> None:
    """A little before Cekura says that it began, as its clock may differ."""
    assert begun == begun_at(result, NOW)
