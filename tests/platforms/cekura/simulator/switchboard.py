"""What stands in for SIP in the tests of the stand-in: a telephone whose calls end when the test says so."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from sip_agent.caller import CallRequest, CallResult
from sip_agent.platforms.cekura.simulator.server import Simulator
from sip_agent.platforms.cekura.simulator.telephone import LiveCall
from sip_agent.platforms.cekura.simulator.world import Setup, load
from sip_agent.record import CallRecord
from sip_agent.status import EndedBy

KEY = "the-key"

SCENARIOS = """
api_key: the-key
agents:
  - {id: 5, name: Bella Vista, sip_endpoint: "sip:agent@127.0.0.1:5060", sip_auth: {username: cekura, password: pw}}
  - {id: 6, name: Without an endpoint}
personalities:
  - {id: 7, name: Direct Communicator}
  - {id: 8, name: Interrupter}
test_profiles:
  - id: 12
    name: Party of four
    agent: 5
    information:
      main_agent_variables: {X-Tier: premium, X-Run-Id: "1", X-Count: 3, allow_cancellation: true}
      testing_agent_variables: {people: four, unused: x}
  - {id: 13, name: Other, information: {main_agent_variables: {X-Tier: basic}}}
scenarios:
  - id: 101
    name: Books a table
    agent: 5
    personality: 7
    test_profile: 12
    tags: [smoke]
    folder_path: Restaurant.Bookings
    testing_agent: {script: guest.yaml}
  - {id: 102, name: Asks, agent: 5, tags: [smoke, slow], testing_agent: {script: guest.yaml, max_duration: 60s}}
  - {id: 103, name: Asks again, agent: 5, folder_path: Restaurant, testing_agent: {script: guest.yaml}}
  - {id: 201, name: Elsewhere, agent: 6, testing_agent: {script: guest.yaml}}
"""

GUEST = """
variables: {people: two}
steps:
  - say: A table for {people}, please.
  - listen: hangup
"""


def write_setup(folder: Path, further: str = "") -> Setup:
    """Read the scenarios above, with further lines."""
    (folder / "guest.yaml").write_text(GUEST, encoding="utf-8")
    file = folder / "scenarios.yaml"
    file.write_text(SCENARIOS + further, encoding="utf-8")
    return load(file)


def answered_record(**values: Any) -> CallRecord:
    """Return the record of a call that went well, from the testing agent's side, with other values as given."""
    now = datetime.now(UTC)
    known: dict[str, Any] = {
        "answered_at": now,
        "answer_delay_ms": 1500,
        "ended_at": now,
        "talk_ms": 61_000,
        "ended_by": EndedBy.CALLER,
        "end_reason": "the peer hung up",
        "sip_status": 200,
        "transcript": [
            {"speaker": "agent", "text": "A table, please.", "at_ms": 2000},
            {"speaker": "caller", "text": "It is booked.", "at_ms": 5500},
        ],
        "metrics": {"caller_latency_ms": {"p50": 700, "p95": 900, "max": 950, "count": 4}},
    }
    return CallRecord(call_uuid="c-1", **(known | values))


class Line:
    """One call on the switchboard; `over` may be given what came of it."""

    def __init__(self, request: CallRequest) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.headers = dict(request.headers)
        self.disconnected: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[CallRecord] = loop.create_future()
        self.hung_up: list[str] = []

    async def hangup(self, *, reason: str) -> None:
        """End the call as the stand-in wants it."""
        self.hung_up.append(reason)
        self.end(answered_record(ended_by=EndedBy.AGENT))

    def end(self, record: CallRecord | None = None) -> None:
        """End the call, with this record."""
        if not self.disconnected.done():
            self.disconnected.set_result(None)
        self.over.set_result(record or answered_record())


class Switchboard:
    """A telephone that notes its calls; with `answer`, each is over at once with the record that this returns."""

    def __init__(self) -> None:
        self.answer: Callable[[CallRequest], CallRecord | Exception] | None = None
        self.calls: list[Line] = []
        self.most = 0
        self._current = 0
        self._changed = asyncio.Condition()

    async def call(self, request: CallRequest, on_call: Callable[[LiveCall], None]) -> CallResult:
        """See Telephone."""
        line = Line(request)
        self._current += 1
        self.most = max(self.most, self._current)
        on_call(line)
        self.calls.append(line)
        async with self._changed:
            self._changed.notify_all()
        try:
            if self.answer is not None:
                record = self.answer(request)
                if isinstance(record, Exception):
                    raise record
                line.end(record)
            return CallResult(record=await line.over, statuses=[100, 200])
        finally:
            self._current -= 1

    async def until(self, count: int) -> None:
        """Wait until so many calls were placed."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.calls) >= count)


class Client:
    """Asks the stand-in."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self._url = url

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str = KEY, **values: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Return status, JSON document and header fields of an answer."""
        headers = {"X-CEKURA-API-KEY": key} if key else {}
        async with self.session.request(method, self._url + path, json=body, headers=headers, **values) as response:
            return response.status, await response.json(), response.headers

    async def get(self, path: str, **params: str) -> Any:
        """Return the document at a path below /test_framework."""
        status, document, _ = await self.ask("GET", f"/test_framework{path}", params=params)
        assert 200 == status, document
        return document

    async def start(self, **body: Any) -> Any:
        """Start runs of agent 5 and return the answer."""
        path = "/test_framework/v1/scenarios/run_scenarios_sip/"
        status, document, _ = await self.ask("POST", path, {"agent_id": 5, **body})
        assert 200 == status, document
        return document

    async def refused(self, **body: Any) -> Any:
        """Start runs that are refused, and return why."""
        status, document, _ = await self.ask("POST", "/test_framework/v1/scenarios/run_scenarios_sip/", body)
        assert 400 == status, document
        return document


@asynccontextmanager
async def serving(setup: Setup, telephone: Switchboard, folder: Path) -> AsyncIterator[tuple[Simulator, Client]]:
    """Open a stand-in and a client of it."""
    async with (
        Simulator(setup, telephone, folder, host="127.0.0.1", port=0) as simulator,
        aiohttp.ClientSession() as session,
    ):
        yield simulator, Client(session, simulator.url)


async def until_over(client: Client, result_id: int) -> Any:
    """Return a result once all its runs are over."""
    while True:
        result = await client.get(f"/v2/results/{result_id}/")
        if result["status"] in {"completed", "failed", "cancelled"}:
            return result
