"""A small Sipfront for tests: it refuses what the real one is documented to refuse, counts, and fails on demand."""

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.serving import serving_application

PUBLIC_KEY, SECRET_KEY = "public-4711", "secret-0815"
SESSION = "bae59eae-c123-45ee-6789-6cb5e9a2b1c2"

TESTS = {"basic-call-a-b": 123, "media": 124}


class SipfrontStandIn:
    """Knows two tests; `life` are the answers to the looks at the run, the last one for ever.

    `on_start` is called with the fields of a start that was accepted; `starts` counts all requests to start.
    """

    def __init__(self) -> None:
        self.url = ""
        self.life: list[dict[str, Any]] = [{"status": "running"}, finished()]
        self.starts = 0
        self.fields: dict[str, str] = {}
        self.content_type = ""
        self.start_answer: Callable[[], web.Response] | None = None
        self.looks_to_fail = 0
        self.on_start: Callable[[dict[str, str]], Any] = lambda _: None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["SipfrontStandIn"]:
        """Serve on a port of its own."""
        app = web.Application(middlewares=[self._authenticate])
        app.router.add_post("/api/v2/tests/run", self._run)
        app.router.add_get("/api/v2/runs/{session}/status", self._status)
        async with serving_application(app) as address:
            self.url = f"{address}/api/v2"
            yield self

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        expected = base64.b64encode(f"{PUBLIC_KEY}:{SECRET_KEY}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            return web.json_response({"status": 401, "error": "Authentication required"}, status=401)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _run(self, request: web.Request) -> web.Response:
        self.starts += 1
        self.content_type = request.content_type
        if request.content_type == "application/json":
            self.fields = await request.json()
        else:
            self.fields = {key: str(value) for key, value in (await request.post()).items()}
        if self.start_answer is not None:
            return self.start_answer()
        known = {*TESTS, *map(str, TESTS.values())}
        if self.fields.get("test.name", self.fields.get("test.id")) not in known:
            return web.json_response({"status": 404, "error": "Test not found"}, status=404)
        self.on_start(self.fields)
        data = {
            "report_url": f"https://app.sipfront.com/report/{SESSION}",
            "session_id": SESSION,
            "status_url": f"{self.url}/runs/{SESSION}/status",
        }
        return web.json_response({"data": data, "status": 200})

    async def _status(self, request: web.Request) -> web.Response:
        if self.looks_to_fail:
            self.looks_to_fail -= 1
            return web.json_response({"status": 503}, status=503)
        if request.match_info["session"] != SESSION:
            return web.json_response({"status": 404, "error": "Run not found"}, status=404)
        run = self.life.pop(0) if len(self.life) > 1 else self.life[0]
        return web.json_response({"run": run, "status": 200})


def finished(**fields: Any) -> dict[str, Any]:
    """Return the status of a run that is over, as sipfront.com/docs/api/metrics shows it."""
    passed: dict[str, Any] = {
        "agentpool_name": "eu-central-1",
        "has_passed": 1,
        "id": 12345,
        "is_failed": 0,
        "is_finished": 1,
        "project_name": "my-project-name",
        "result_description": "",
        "session_id": SESSION,
        "started_at": "2024-02-09 08:20:18",
        "status": "passed",
        "stopped_at": "2024-02-09 08:22:13",
        "tags": '["media", "prod", "validation"]',
        "test_id": 123,
        "test_name": "basic-call-a-b",
    }
    return passed | fields


def failed() -> dict[str, Any]:
    """Return the status of a run that has failed."""
    return finished(has_passed=0, is_failed=1, status="failed", result_description="No CALL_ESTABLISHED on the caller")
