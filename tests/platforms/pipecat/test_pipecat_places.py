"""Where the rooms of Pipecat runs come from, against stand-ins."""

from typing import Any

import pytest
from aiohttp import web

from sip_agent.config import PipecatSettings
from sip_agent.errors import SettingsError
from sip_agent.platforms.cekura.model import Run
from sip_agent.platforms.errors import PlatformError, Refused
from sip_agent.platforms.pipecat import DailyRooms, PipecatSessions, Place, assign, run_body
from tests.platforms.pipecat.stand_in import DAILY_KEY, PRIVATE_KEY, PUBLIC_KEY, PipecatStandIn


def settings(**given: Any) -> PipecatSettings:
    """Return settings."""
    return PipecatSettings(**given)


async def test_a_session_in_the_cloud(pipecat: PipecatStandIn) -> None:
    """Started with the public key, stopped with the private one."""
    given = settings(start_url=pipecat.cloud_url, public_key=PUBLIC_KEY, private_key=PRIVATE_KEY)
    async with PipecatSessions(given) as sessions:
        place = await sessions.open()
        opened = set(pipecat.open)
        await sessions.close(place)

    assert ("https://x.daily.co/session-1", "token-session-1") == (place.room_url, place.token)
    assert [{"createDailyRoom": True, "body": {}}] == pipecat.bodies
    assert ({"session-1"}, set()) == (opened, pipecat.open)
    assert "token-session-1" not in repr(place)


@pytest.mark.parametrize("given", [{"public_key": PUBLIC_KEY}, {}])
async def test_sessions_that_nobody_can_stop_end_by_themselves(pipecat: PipecatStandIn, given: dict[str, str]) -> None:
    """Without a private key, and at a runner, which has no way to stop one."""
    url = pipecat.cloud_url if given else pipecat.runner_url
    async with PipecatSessions(settings(start_url=url, **given)) as sessions:
        await sessions.close(await sessions.open())

    assert ({"session-1"}, []) == (pipecat.open, pipecat.closed)


async def test_a_session_that_is_over_needs_no_stop(pipecat: PipecatStandIn) -> None:
    """404 is as good."""
    given = settings(start_url=pipecat.cloud_url, public_key=PUBLIC_KEY, private_key=PRIVATE_KEY)
    async with PipecatSessions(given) as sessions:
        place = await sessions.open()
        pipecat.open.clear()
        await sessions.close(place)

    assert ["session-1"] == pipecat.closed


async def test_wrong_keys_are_refused(pipecat: PipecatStandIn) -> None:
    """The setting is named, the key is not."""
    async with PipecatSessions(settings(start_url=pipecat.cloud_url, public_key="pk_wrong")) as sessions:
        with pytest.raises(Refused, match=r"pipecat\.public_key_file") as refused:
            await sessions.open()

    assert "pk_wrong" not in str(refused.value)


async def test_a_bot_without_daily(pipecat: PipecatStandIn) -> None:
    """A runner that was started for another transport."""
    pipecat.transport = "webrtc"
    async with PipecatSessions(settings(start_url=pipecat.runner_url)) as sessions:
        with pytest.raises(PlatformError, match="no Daily room"):
            await sessions.open()


async def test_a_lost_answer_starts_nothing_twice(pipecat: PipecatStandIn) -> None:
    """And says so."""
    pipecat.fail_from = 1
    async with PipecatSessions(settings(start_url=pipecat.runner_url)) as sessions:
        with pytest.raises(PlatformError, match="may have been started"):
            await sessions.open()

    assert 1 == pipecat.starts


@pytest.mark.parametrize(
    ("given", "named"),
    [({}, "pipecat.start_url"), ({"start_url": "https://api.pipecat.daily.co/v1/public/x/start"}, "public_key_file")],
)
def test_missing_settings_are_named(given: dict[str, str], named: str) -> None:
    """Before anything is sent."""
    with pytest.raises(SettingsError, match=named):
        PipecatSessions(settings(**given))


async def test_a_room_at_daily(pipecat: PipecatStandIn) -> None:
    """Private, with a token for Cekura and an owner's for the agent; deleted at the end."""
    async with DailyRooms(settings(daily_api_key=DAILY_KEY, daily_api_url=pipecat.daily_url)) as rooms:
        place = await rooms.open()
        opened = set(pipecat.open)
        await rooms.close(place)

    assert ("https://x.daily.co/room-1", "guest-room-1", "owner-room-1") == (
        place.room_url,
        place.token,
        place.agent_token,
    )
    assert "private" == pipecat.bodies[0]["privacy"]
    assert ({"room-1"}, set()) == (opened, pipecat.open)


async def test_a_room_without_tokens_is_deleted(pipecat: PipecatStandIn) -> None:
    """Nothing is left behind."""
    pipecat.fail_from = 1
    pipecat.failure = lambda: web.json_response({"error": "server-error"}, status=400)
    async with DailyRooms(settings(daily_api_key=DAILY_KEY, daily_api_url=pipecat.daily_url)) as rooms:
        with pytest.raises(Refused):
            await rooms.open()

    assert (set(), ["room-1"]) == (pipecat.open, pipecat.closed)


def test_daily_without_a_key_is_wrong_use() -> None:
    """It is named."""
    with pytest.raises(SettingsError, match=r"pipecat\.daily_api_key_file"):
        DailyRooms(settings())


def test_one_run_for_each_place() -> None:
    """As docs.cekura.ai has it: Pipecat, manual testing."""
    places = [Place(room_url="https://a", token="t"), Place(room_url="https://b", token="")]
    expected = {
        "agent": 5,
        "scenarios": [
            {"scenario": 30, "pipecat_room_url": "https://a", "pipecat_token": "t"},
            {"scenario": 31, "pipecat_room_url": "https://b"},
        ],
    }
    assert expected == run_body(5, [30, 31], places)


def test_runs_are_told_by_their_scenario() -> None:
    """In whatever order they are answered; several of one scenario take its rooms in order."""
    places = [Place(room_url=name, token="") for name in "abc"]
    runs = [Run(id=1, scenario_id=31), Run(id=2, scenario_id=30), Run(id=3, scenario_id=30), Run(id=4, scenario_id=9)]
    assigned = assign(runs, [30, 31, 30], places)

    assert [(1, "b"), (2, "a"), (3, "c")] == [(run.id, place.room_url) for run, place in assigned]
