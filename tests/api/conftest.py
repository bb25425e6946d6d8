"""A real API server with a real store; the SIP endpoint and the flow are stand-ins, as they would need an engine."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import ClientSession

from sip_agent.api import ApiParts, ApiServer, CallMetrics
from sip_agent.call import Call, Offer
from sip_agent.chirp import ChirpEndpoint
from sip_agent.config import ApiSettings
from sip_agent.record import CallRecord
from sip_agent.status import Outcome
from sip_agent.store import CallStore
from sip_agent.ua.accounts import AccountState
from sip_agent.ua.engine import EngineInfo, EngineName
from tests.calls.conftest import agent_folders, sipp, start_agent

__all__ = ["agent_folders", "sipp", "start_agent"]

T = TypeVar("T")

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class StandInSipThread:
    """Runs what it is given at once, or, stuck, never."""

    stuck = False

    async def run(self, operation: str, function: Callable[[], T]) -> T:
        """See `SipThread`."""
        assert operation
        if self.stuck:
            await asyncio.get_running_loop().create_future()
        return function()


@dataclass
class StandInClock:
    """A media clock that has ticked again whenever it is looked at, unless it stands."""

    stands: bool = False
    late_ticks: int = 3
    max_lag_us: int = 12_500
    _ticks: int = 100

    @property
    def ticks(self) -> int:
        """Ticks so far."""
        self._ticks += not self.stands
        return self._ticks


@dataclass
class StandInEndpoint:
    """What the API sees of a SIP endpoint."""

    sip_thread: StandInSipThread = field(default_factory=StandInSipThread)
    bound: list[str] = field(default_factory=lambda: ["UDP 127.0.0.1:5060"])
    account_states: list[AccountState] = field(default_factory=list)
    media_clock: StandInClock | None = field(default_factory=StandInClock)
    gate_counters: dict[str, int] = field(default_factory=lambda: {"held": 7, "currently_held": 2, "rejected": 4})


@dataclass
class StandInFlow:
    """What the API sees of the call flow."""

    active: dict[str, Call] = field(default_factory=dict)
    draining: bool = False


@dataclass
class Api:
    """A running API with everything behind it, and a client."""

    server: ApiServer
    parts: ApiParts
    store: CallStore
    flow: StandInFlow
    endpoint: StandInEndpoint
    metrics: CallMetrics
    recordings_dir: Path
    client: ClientSession

    async def get(
        self, path: str, parameters: Any = None, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Return the JSON document at `path`, after checking the status."""
        return await self.request("GET", path, parameters, status=status, headers=headers)

    async def request(
        self,
        method: str,
        path: str,
        parameters: Any = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the JSON document of a response, after checking its status."""
        async with self.client.request(method, path, params=parameters, headers=headers) as response:
            assert status == response.status, await response.text()
            return await response.json()


def refuse(offer: Offer) -> None:
    """Stand in for the call flow where a test is about something else."""
    raise AssertionError(f"nobody should call here: {offer.source_host}")


StartApi = Callable[..., Any]


@pytest.fixture
async def start_api(tmp_path: Path) -> AsyncIterator[StartApi]:
    """Start APIs on a free port, each with these `[api]` settings; all are stopped after the test."""
    store = CallStore.open("sqlite:///calls.db", base_dir=tmp_path)
    opened: list[Api] = []

    async def start(engine: EngineName = EngineName.NATIVE, **settings: Any) -> Api:
        flow, endpoint, metrics = StandInFlow(), StandInEndpoint(), CallMetrics()
        parts = ApiParts(
            settings=ApiSettings(**({"bind": "127.0.0.1:0"} | settings)),
            store=store,
            recordings_dir=tmp_path / "recordings",
            flow=flow,
            endpoint=endpoint,
            chirp=ChirpEndpoint(refuse, sample_rate_hz=16_000, cushion_ms=40, protected=False),
            engine=EngineInfo(name=engine, version="2.17", max_calls=1024, codecs=("PCMU",), tls="-", limits=()),
            max_calls=2,
            metrics=metrics,
        )
        server = ApiServer(parts)
        await server.start()
        client = ClientSession(server.url)
        opened.append(Api(server, parts, store, flow, endpoint, metrics, parts.recordings_dir, client))
        return opened[-1]

    yield start
    for api in opened:
        await api.client.close()
        await api.server.stop()
    await store.close()


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    """Run an API with the default settings."""
    started: Api = await start_api()
    return started


@pytest.fixture
def new_record() -> Callable[..., CallRecord]:
    """Make records of answered calls, each a second younger than the one before."""
    made = 0

    def make(**fields: Any) -> CallRecord:
        nonlocal made
        made += 1
        received_at = NOW + timedelta(seconds=made)
        defaults: dict[str, Any] = {
            "call_uuid": str(uuid.uuid4()),
            "call_id": f"{uuid.uuid4()}@caller.example.com",
            "invite_received_at": received_at,
            "ended_at": received_at,
            "outcome": Outcome.ANSWERED,
            "sip_status": 200,
        }
        return CallRecord(**(defaults | fields))

    return make
