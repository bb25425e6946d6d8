"""The agent in a Daily room, on a double of Pipecat's transport: real pipelines, no network."""

import asyncio
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from sip_agent.call_flow import CallFlow
from sip_agent.errors import SettingsError, UserAgentError
from sip_agent.invite import DAILY
from sip_agent.pcm_call import CallRequest, PcmOffer
from sip_agent.rooms import RoomEndpoint
from tests.calls.agent_process import eventually
from tests.calls.rtp import strongest_hz, tone
from tests.platforms.pipecat import daily_double
from tests.platforms.pipecat.daily_double import DailyTransport
from tests.test_call_flow import Agent

RATE_HZ = 16_000
REAL = "pipecat.transports.daily.transport"


@pytest.fixture
def daily(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import the adapter with the double in place of Pipecat's transport."""
    monkeypatch.setitem(sys.modules, REAL, daily_double)
    monkeypatch.setattr(DailyTransport, "made", [])
    sys.modules.pop("sip_agent.platforms.daily", None)
    yield importlib.import_module("sip_agent.platforms.daily")
    del sys.modules["sip_agent.platforms.daily"]


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    await asyncio.to_thread(eventually, condition, what)


class Listener:
    """Hears what happens in the room."""

    def __init__(self) -> None:
        self.joined, self.left = asyncio.Event(), asyncio.Event()
        self.losses: list[str] = []
        self.sound = bytearray()

    def guest_joined(self) -> None:
        """See `RoomListener`."""
        self.joined.set()

    def guest_left(self) -> None:
        """See `RoomListener`."""
        self.left.set()

    def lost(self, reason: str) -> None:
        """See `RoomListener`."""
        self.losses.append(reason)

    def heard(self, sound: bytes) -> None:
        """See `RoomListener`."""
        self.sound += sound


async def test_a_room_is_joined_and_left(daily: Any) -> None:
    """Both directions of the sound, the guest's coming and going, and the end."""
    room, listener = daily.DailyRoom("https://x.daily.co/room-1", "owner-token"), Listener()
    async with asyncio.timeout(20):
        await room.join(listener)
        (transport,) = DailyTransport.made
        await transport.come()
        await listener.joined.wait()
        said = tone(600, 0.5, rate_hz=RATE_HZ)
        await transport.say(said)
        await until(lambda: len(listener.sound) >= 2 * len(said), "sound from the guest")
        for start in range(0, len(said), 320):
            room.send(said[start : start + 320].tobytes())
        await until(lambda: len(transport.said) >= len(said), "sound from the agent")
        await transport.go()
        await listener.left.wait()
        await room.leave()

    assert ("https://x.daily.co/room-1", "owner-token") == (transport.room_url, transport.token)
    assert said.tobytes() == bytes(listener.sound)
    assert 600.0 == pytest.approx(strongest_hz(np.frombuffer(bytes(transport.said), np.int16), RATE_HZ), abs=10)
    assert transport.left


async def test_a_room_that_refuses(daily: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is Daily's; leaving does no harm."""
    monkeypatch.setattr(DailyTransport, "refusal", "The meeting token is invalid")
    room = daily.DailyRoom("https://x.daily.co/room-1", "wrong")
    async with asyncio.timeout(20):
        with pytest.raises(UserAgentError, match="The meeting token is invalid"):
            await room.join(Listener())
        await room.leave()


async def test_a_room_that_was_never_joined_can_be_left(daily: Any) -> None:
    """Nothing happens."""
    await daily.DailyRoom("https://x.daily.co/room-1", "t").leave()


async def test_a_call_in_a_room(daily: Any, tmp_path: Any) -> None:
    """The handler of the route answers; the record has the run's id, and says who left."""
    agent = Agent(tmp_path)
    flow: CallFlow = agent.build(routes=agent.routes(["daily"]))
    calls: list[asyncio.Task[None]] = []

    def on_offer(offer: PcmOffer) -> None:
        calls.append(asyncio.create_task(flow.serve_call(offer)))

    rooms = RoomEndpoint(on_offer, sample_rate_hz=RATE_HZ, cushion_ms=40)
    request = CallRequest(
        transport=DAILY,
        caller="cekura",
        source_host="127.0.0.1",
        source_port=0,
        local_address="daily.invalid",
        user="daily",
        headers=[(b"X-Run-Id", b"34625")],
    )
    async with asyncio.timeout(20):
        rooms.offer(request, daily.DailyRoom("https://x.daily.co/room-1", "t"), join_timeout_s=10)
        await until(lambda: bool(DailyTransport.made), "transport")
        (transport,) = DailyTransport.made
        await transport.come()
        await transport.say(tone(600, 1.0, rate_hz=RATE_HZ))
        await transport.go()
        await asyncio.gather(*calls)
    (record,) = agent.records()
    await agent.store.close()

    assert ("answered", "caller", "34625") == (record["outcome"], record["ended_by"], record["run_id"])
    assert ("DAILY", "pcm_s16le", None) == (record["transport"], record["codec"], record["error"])
    heard = np.frombuffer(bytes(transport.said), np.int16)
    assert 600.0 == pytest.approx(strongest_hz(heard[len(heard) // 2 :], RATE_HZ), abs=15)


def test_without_the_extra_people_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install."""
    monkeypatch.setitem(sys.modules, "daily", None)
    monkeypatch.delitem(sys.modules, REAL, raising=False)
    monkeypatch.delitem(sys.modules, "sip_agent.platforms.daily", raising=False)
    with pytest.raises(SettingsError, match=r"sip-agent\[pipecat-daily\]"):
        importlib.import_module("sip_agent.platforms.daily")


def test_the_double_has_pipecats_signature() -> None:
    """Where daily-python is installed."""
    pytest.importorskip("daily")
    real = importlib.import_module(REAL)

    assert list(inspect.signature(real.DailyTransport.__init__).parameters) == list(
        inspect.signature(DailyTransport.__init__).parameters
    )
    assert set(daily_double.DailyParams.model_fields) <= set(real.DailyParams.model_fields)
