"""Small stand-ins for tests: Pipecat Cloud, a runner of one's own, and Daily. They refuse what the real ones do."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.serving import serving_application

PUBLIC_KEY, PRIVATE_KEY, DAILY_KEY = "pk_public-1", "sk_private-1", "daily-key-1"


class PipecatStandIn:
    """Starts sessions of the agent `bot` (`/v1/public/bot/start`) or as a runner (`/start`); makes rooms as Daily.

    `open` are the sessions and rooms that are open. `starts` counts requests to start; `fail_from` fails the so-manieth
    and all after it, by `failure`.
    """

    def __init__(self) -> None:
        self.url = ""
        self.open: set[str] = set()
        self.closed: list[str] = []
        self.starts = 0
        self.bodies: list[Any] = []
        self.fail_from = 0
        self.failure: Callable[[], web.Response] = lambda: web.Response(status=502)
        self.transport = "daily"

    @property
    def cloud_url(self) -> str:
        """The start endpoint of Pipecat Cloud."""
        return f"{self.url}/v1/public/bot/start"

    @property
    def runner_url(self) -> str:
        """The start endpoint of a runner."""
        return f"{self.url}/start"

    @property
    def daily_url(self) -> str:
        """Daily's API."""
        return f"{self.url}/daily/v1"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["PipecatStandIn"]:
        """Serve on a port of its own."""
        app = web.Application()
        app.router.add_post("/v1/public/bot/start", self._start_in_cloud)
        app.router.add_delete("/v1/agents/bot/sessions/{session}", self._stop)
        app.router.add_post("/start", self._start)
        app.router.add_post("/daily/v1/rooms", self._make_room)
        app.router.add_post("/daily/v1/meeting-tokens", self._make_token)
        app.router.add_delete("/daily/v1/rooms/{room}", self._delete_room)
        async with serving_application(app) as self.url:
            yield self

    async def _start_in_cloud(self, request: web.Request) -> web.Response:
        if not _bears(request, PUBLIC_KEY):
            return web.json_response({"error": "Unauthorized", "code": "401"}, status=401)
        return await self._start(request)

    async def _start(self, request: web.Request) -> web.Response:
        self.starts += 1
        self.bodies.append(await request.json())
        if self.fail_from and self.starts >= self.fail_from:
            return self.failure()
        session = f"session-{self.starts}"
        self.open.add(session)
        if self.transport != "daily":
            return web.json_response({"sessionId": session})
        return web.json_response(
            {"dailyRoom": f"https://x.daily.co/{session}", "dailyToken": f"token-{session}", "sessionId": session}
        )

    async def _stop(self, request: web.Request) -> web.Response:
        if not _bears(request, PRIVATE_KEY):
            return web.json_response({"error": "Unauthorized"}, status=401)
        return self._close(request.match_info["session"])

    async def _make_room(self, request: web.Request) -> web.Response:
        if not _bears(request, DAILY_KEY):
            return web.json_response({"error": "authentication-error"}, status=401)
        body = await request.json()
        if body["properties"]["exp"] < time.time():
            return web.json_response({"error": "invalid-request-error", "info": "exp is past"}, status=400)
        self.starts += 1
        self.bodies.append(body)
        name = f"room-{self.starts}"
        self.open.add(name)
        return web.json_response({"name": name, "url": f"https://x.daily.co/{name}", "privacy": body["privacy"]})

    async def _make_token(self, request: web.Request) -> web.Response:
        if not _bears(request, DAILY_KEY):
            return web.json_response({"error": "authentication-error"}, status=401)
        if self.fail_from and self.starts >= self.fail_from:
            return self.failure()
        properties = (await request.json())["properties"]
        kind = "owner" if properties["is_owner"] else "guest"
        return web.json_response({"token": f"{kind}-{properties['room_name']}"})

    async def _delete_room(self, request: web.Request) -> web.Response:
        if not _bears(request, DAILY_KEY):
            return web.json_response({"error": "authentication-error"}, status=401)
        return self._close(request.match_info["room"])

    def _close(self, name: str) -> web.Response:
        self.closed.append(name)
        if name not in self.open:
            return web.json_response({"error": "not-found"}, status=404)
        self.open.discard(name)
        return web.json_response({"deleted": True})


def _bears(request: web.Request, key: str) -> bool:
    return request.headers.get("Authorization") == f"Bearer {key}"
