"""`/health` and `/ready`."""

import pytest

from sip_agent.api import health
from sip_agent.testing import FakeCall
from sip_agent.ua.accounts import AccountState
from sip_agent.ua.engine import EngineName
from tests.api.conftest import Api, StartApi


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a thread that gives no sign of life be given up at once."""
    monkeypatch.setattr(health, "PATIENCE_S", 0.05)


async def test_a_healthy_agent(api: Api) -> None:
    """An agent whose SIP thread answers and whose media clock ticks is healthy."""
    assert {"healthy": True} == await api.get("/health")


@pytest.mark.usefixtures("impatient")
async def test_a_stuck_sip_thread(api: Api) -> None:
    """A SIP thread that does not answer makes the agent unhealthy."""
    api.endpoint.sip_thread.stuck = True

    document = await api.get("/health", status=503)

    assert (False, "the SIP thread did not answer within 0.05 s") == (document["healthy"], document["error"])


@pytest.mark.usefixtures("impatient")
async def test_a_media_clock_that_stands(api: Api) -> None:
    """A media clock that does not tick makes the agent unhealthy."""
    assert api.endpoint.media_clock is not None
    api.endpoint.media_clock.stands = True

    document = await api.get("/health", status=503)

    assert "the media clock did not tick for 0.05 s" == document["error"]


@pytest.mark.usefixtures("impatient")
async def test_every_reason_is_told(api: Api) -> None:
    """Where several things are wrong, all are named."""
    api.endpoint.sip_thread.stuck, api.endpoint.media_clock = True, None

    document = await api.get("/health", status=503)

    assert "the SIP thread did not answer within 0.05 s; the media clock does not run" == document["error"]


async def test_the_light_engine(start_api: StartApi) -> None:
    """The light engine's clock cannot be looked at, which is no reason to restart it."""
    api = await start_api(engine=EngineName.LIGHT)
    api.endpoint.media_clock = None

    assert {"healthy": True} == await api.get("/health")


async def test_ready(api: Api) -> None:
    """An agent that takes calls is ready."""
    expected = {"ready": True, "warnings": [], "active_calls": 0, "max_calls": 2, "accounts": []}
    assert expected == await api.get("/ready")


async def test_draining(api: Api) -> None:
    """An agent that shuts down is not ready, and says why."""
    api.flow.draining = True

    document = await api.get("/ready", status=503)

    assert (False, "the agent is shutting down") == (document["ready"], document["error"])


async def test_starting(api: Api) -> None:
    """An agent without an open transport is not ready."""
    api.endpoint.bound = []

    document = await api.get("/ready", status=503)

    assert "starting" in document["error"]


async def test_at_capacity(api: Api) -> None:
    """An agent that has all the calls it can carry is not ready for another one."""
    api.flow.active = {call.record.call_uuid: call.call for call in (FakeCall(), FakeCall())}

    document = await api.get("/ready", status=503)

    assert "at capacity: 2 of 2 calls" == document["error"]


async def test_an_account_that_is_not_registered(api: Api) -> None:
    """A registration that fails is told, but other calls can still come."""
    api.endpoint.account_states = [AccountState(name="trunk", username="1001", status=403, reason="Forbidden")]

    document = await api.get("/ready")

    assert ["account trunk is not registered: 403 Forbidden"] == document["warnings"]
    assert [
        {
            "name": "trunk",
            "username": "1001",
            "registered": False,
            "status": 403,
            "reason": "Forbidden",
            "expires_s": 0,
        }
    ] == document["accounts"]
