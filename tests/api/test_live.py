"""The calls that go on, over HTTP."""

import asyncio

from sip_agent.call import Call
from sip_agent.status import EndedBy
from sip_agent.testing import FakeCall
from tests.api.conftest import Api


class Patient:
    """Ring, answer, wait until the call is over."""

    async def handle(self, call: Call) -> None:
        """Hold the call."""
        await call.ring()
        await call.answer()
        await call.disconnected


class Silent:
    """Leave the call unanswered."""

    async def handle(self, call: Call) -> None:
        """Wait until the call is over."""
        await call.disconnected


async def test_active_calls(api: Api) -> None:
    """A call that goes on is listed with its ids, its state and its codec; one that is over is not."""
    async with FakeCall(Patient(), headers={"X-Run-Id": "4711"}) as caller:
        caller.record.handler = "patient"
        api.flow.active[caller.record.call_uuid] = caller.call
        await caller.until_answered()
        (listed,) = (await api.get("/calls/active"))["calls"]
    api.flow.active.clear()

    assert caller.record.to_dict()["invite_received_at"] == listed["since"]
    told = {key: listed[key] for key in ("call_uuid", "run_id", "handler", "state", "codec", "on_hold")}
    assert told == {
        "call_uuid": caller.record.call_uuid,
        "run_id": "4711",
        "handler": "patient",
        "state": "confirmed",
        "codec": "PCMU",
        "on_hold": False,
    }
    assert {"calls": []} == await api.get("/calls/active")


async def test_states_before_the_answer(api: Api) -> None:
    """A call is incoming until it rings, then early."""
    async with FakeCall(Silent()) as caller:
        api.flow.active[caller.record.call_uuid] = caller.call
        (incoming,) = (await api.get("/calls/active"))["calls"]
        await caller.call.ring()
        (early,) = (await api.get("/calls/active"))["calls"]

    assert ("incoming", "early") == (incoming["state"], early["state"])


async def test_hanging_up(api: Api) -> None:
    """A call that is hung up ends, and its record says that the API did it."""
    async with FakeCall(Patient()) as caller:
        uuid = caller.record.call_uuid
        api.flow.active[uuid] = caller.call
        await caller.until_answered()
        accepted = await api.request("POST", f"/calls/{uuid}/hangup", status=202)
        await caller.until_ended()

    assert {"call_uuid": uuid, "state": "confirmed"} == accepted
    assert (EndedBy.AGENT, "hung up through the API") == (caller.record.ended_by, caller.record.end_reason)


async def test_hanging_up_before_the_answer(api: Api) -> None:
    """A call that is not answered yet is declined."""
    async with FakeCall(Silent()) as caller:
        api.flow.active[caller.record.call_uuid] = caller.call
        await api.request("POST", f"/calls/{caller.record.call_uuid}/hangup", status=202)
        await caller.until_ended()

    assert [603] == caller.statuses


async def test_hanging_up_twice(api: Api) -> None:
    """Who hangs up twice, or a moment too late, does no harm."""
    async with FakeCall(Patient()) as caller:
        uuid = caller.record.call_uuid
        api.flow.active[uuid] = caller.call
        await caller.until_answered()
        await asyncio.gather(*(api.request("POST", f"/calls/{uuid}/hangup", status=202) for _ in range(3)))
        await caller.until_ended()
        await api.request("POST", f"/calls/{uuid}/hangup", status=202)

    assert caller.record.error is None


async def test_hanging_up_an_unknown_call(api: Api) -> None:
    """A call that does not go on is answered 404."""
    document = await api.request("POST", "/calls/1f0c9a2e/hangup", status=404)

    assert "'1f0c9a2e'" in document["error"]
    assert "/calls/active" in document["hint"]
