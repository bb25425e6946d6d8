"""What the routes are made of: what they work with, how they answer, and how they say that something is wrong."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aiohttp import web

from sip_agent.api.metrics import CallMetrics
from sip_agent.call import Call
from sip_agent.chirp import ChirpEndpoint
from sip_agent.config import ApiSettings
from sip_agent.errors import SipAgentError
from sip_agent.platforms.agora.session import AgoraSessions
from sip_agent.platforms.cekura.webhook import CekuraWebhook
from sip_agent.store import CallStore
from sip_agent.ua.accounts import AccountState
from sip_agent.ua.engine import EngineInfo

T = TypeVar("T")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(SipAgentError):  # noqa: N818  (an answer, raised through the handler; named as in RFC 9457)
    """Answer a request with an error: what is wrong, and what to do about it."""

    def __init__(self, status: int, error: str, hint: str = "", **more: Any) -> None:
        super().__init__(error)
        self.status = status
        self.document = {"error": error, "hint": hint, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route: `summary` is one line for people; a `public` one asks for no token."""

    method: str
    path: str
    handler: Handler
    summary: str
    public: bool = False


class SipThread(Protocol):
    """The thread that runs the SIP stack."""

    async def run(self, operation: str, function: Callable[[], T]) -> T:
        """Run `function` on the thread and return its result."""


class ClockCounters(Protocol):
    """What the media clock has counted since it started."""

    @property
    def ticks(self) -> int:
        """Ticks of 20 ms."""

    @property
    def late_ticks(self) -> int:
        """Ticks that began more than 10 ms after their time."""

    @property
    def max_lag_us(self) -> int:
        """The longest such delay."""


class Endpoint(Protocol):
    """What the API looks at on the SIP endpoint."""

    @property
    def sip_thread(self) -> SipThread:
        """The thread that runs the SIP stack."""

    @property
    def bound(self) -> Sequence[object]:
        """The transports that are open."""

    @property
    def account_states(self) -> Sequence[AccountState]:
        """The registrations with upstream registrars."""

    @property
    def media_clock(self) -> ClockCounters | None:
        """What the media clock has counted; None while there is none, and on the light engine, which does not say."""

    @property
    def gate_counters(self) -> Mapping[str, int]:
        """What the invite gate has counted, and `currently_held`; empty on the light engine, which has none."""


class Flow(Protocol):
    """What the API looks at on the call flow."""

    @property
    def active(self) -> Mapping[str, Call]:
        """The calls that go on, by call uuid."""

    @property
    def draining(self) -> bool:
        """Whether new calls are refused because the agent is shutting down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """What the API works with; the agent builds it from the settings."""

    settings: ApiSettings
    store: CallStore
    recordings_dir: Path
    flow: Flow
    endpoint: Endpoint
    chirp: ChirpEndpoint
    engine: EngineInfo
    max_calls: int
    metrics: CallMetrics
    agora: AgoraSessions | None = None
    cekura: CekuraWebhook | None = None
    _turn: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(init=False, default_factory=set)

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what blocks (a query, a file) off the event loop; one at a time, the others wait.

        More threads would not be quicker: they would only keep the loop, which carries the sound, from its turn.
        """
        async with self._turn:
            return await asyncio.to_thread(function, *arguments)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Let `work` go on after the response; it deals with its own errors."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


PARTS = web.AppKey("parts", ApiParts)


def to_json(document: Any) -> bytes:
    """Write a JSON document; text that is no Unicode (bytes from the wire) becomes escapes."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with a JSON document."""
    return web.Response(body=to_json(document), status=status, headers=headers, content_type="application/json")
