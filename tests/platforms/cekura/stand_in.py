"""A small Cekura for tests: it refuses what the real one is documented to refuse, counts, and misbehaves on demand."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.serving import serving_application

KEY = "test-key-4711"
START = "POST /test_framework/v1/scenarios/run_scenarios_sip/"
START_VOICE = "POST /test_framework/v1/scenarios/run_scenarios/"
AGENT = "GET /test_framework/v2/aiagents/{id}/"
START_AGORA = "POST /test_framework/v1/scenarios/run_scenarios_agora/"
START_PIPECAT = "POST /test_framework/v1/scenarios/run_scenarios_pipecat/"
BULK = "GET /test_framework/v2/runs/bulk/"
RESULT = "GET /test_framework/v2/results/{id}/"
RESULTS = "GET /test_framework/v2/results/"
END_CALLS = "POST /test_framework/v2/results/{id}/end_calls/"
TRANSCRIPT = "POST /test_framework/custom-provider-transcript-webhook"
SCENARIOS = "GET /test_framework/v1/scenarios/"

NO_ENDPOINT = "Agent does not have a SIP endpoint configured. Please configure sip_endpoint in the agent settings."
UNKNOWN_SCENARIOS = "Invalid scenario IDs or scenarios not found"
NO_AGORA = "Agent must have Agora credentials configured (agora_data with session_endpoint_url)."
NO_BALANCE = "Insufficient balance for this operation"

Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]


class CekuraStandIn:
    """Knows three scenarios of agent 5; each start makes result 16870 with runs from 34625 on.

    `lives` are the statuses that a run goes through, one at each look; `verdicts` say what is added to a run once it
    is over. `faults` are taken one at each request to an endpoint instead of its answer.
    """

    def __init__(self) -> None:
        self.url = ""
        self.agent: dict[str, Any] = {"id": 5, "name": "Support", "telephony": {"inbound": True}}
        self.endpoint_stored = True
        self.agora_stored = True
        self.balance = True
        self.page_size = 2
        self.scenarios = [
            {"id": 11547, "name": "Customer Support Scenario", "agent": 5, "tags": ["smoke"], "folder_path": None},
            {"id": 11548, "name": "Booking", "agent": 5, "tags": ["smoke", "long"], "folder_path": "Sales.Inbound"},
            {"id": 11549, "name": "Cancel", "agent": 5, "tags": [], "folder_path": None},
        ]
        self.lives: dict[int, list[str]] = {}
        self.life = ["in_queue", "running", "evaluating", "completed"]
        self.verdicts: dict[int, dict[str, Any]] = {}
        self.counts: dict[str, Any] = {}
        self.on_start: Callable[[list[int]], Any] = lambda _: None
        self.requests: Counter[str] = Counter()
        self.bodies: list[Any] = []
        self.faults: dict[str, list[Fault]] = {}
        self.result: dict[str, Any] = {}
        self.runs: dict[int, dict[str, Any]] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["CekuraStandIn"]:
        """Serve on a port of its own."""
        app = web.Application(middlewares=[self._middleware])
        handlers = {
            START: self._start,
            START_VOICE: self._start,
            AGENT: self._agent,
            START_AGORA: self._start_agora,
            START_PIPECAT: self._start_pipecat,
            BULK: self._bulk,
            RESULT: self._result,
            RESULTS: self._results,
            END_CALLS: self._end_calls,
            SCENARIOS: self._scenarios,
            TRANSCRIPT: answer(202, {}),
        }
        for route, handler in handlers.items():
            method, _, path = route.partition(" ")
            app.router.add_route(method, path, handler)
        async with serving_application(app) as self.url:
            yield self

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        resource = request.match_info.route.resource
        name = f"{request.method} {resource.canonical if resource else request.path}"
        self.requests[name] += 1
        if request.headers.get("X-CEKURA-API-KEY") != KEY:
            shown = request.headers.get("X-CEKURA-API-KEY")
            return web.json_response({"detail": f"Invalid API key {shown}."}, status=401)
        if faults := self.faults.get(name):
            return await faults.pop(0)(request)
        response: web.StreamResponse = await handler(request)
        return response

    async def _start(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        known = {scenario["id"] for scenario in self.scenarios}
        if not isinstance(body.get("scenarios"), list) or not set(body["scenarios"]) <= known:
            return web.json_response({"scenarios": [UNKNOWN_SCENARIOS]}, status=400)
        if not (self.endpoint_stored or body.get("sip_endpoint")):
            return web.json_response({"sip_endpoint": [NO_ENDPOINT]}, status=400)
        if not self.balance:
            return web.json_response({"detail": NO_BALANCE}, status=403)
        self.begin(body)
        self.on_start(list(self.runs))
        return web.json_response(self.result | {"runs": list(self.runs.values())})

    async def _start_agora(self, request: web.Request) -> web.Response:
        if not self.agora_stored:
            return web.json_response({"agent": [NO_AGORA]}, status=400)
        return await self._start(request)

    async def _start_pipecat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        known = {scenario["id"] for scenario in self.scenarios}
        wanted = body.get("scenarios")
        if not wanted or not all(item.get("scenario") in known for item in wanted):
            return web.json_response({"scenarios": [UNKNOWN_SCENARIOS]}, status=400)
        if not all(item.get("pipecat_room_url") for item in wanted):
            return web.json_response({"scenarios": [{"pipecat_room_url": ["This field is required."]}]}, status=400)
        self.begin({"agent_id": body["agent"], "scenarios": [item["scenario"] for item in wanted]})
        self.on_start(list(self.runs))
        return web.json_response(self.result | {"runs": list(self.runs.values())})

    def begin(self, body: dict[str, Any]) -> None:
        """Make the runs."""
        wanted = [number for number in body["scenarios"] for _ in range(body.get("frequency", 1))]
        names = {scenario["id"]: scenario["name"] for scenario in self.scenarios}
        self.runs = {
            34625 + index: {
                "id": 34625 + index,
                "status": "pending",
                "scenario": number,
                "scenario_name": names[number],
                "test_profile_data": {"key": "value"},
            }
            for index, number in enumerate(wanted)
        }
        self.result = {
            "id": 16870,
            "name": body.get("name", "SIP Test Run"),
            "agent": body["agent_id"],
            "status": "in_progress",
            "success_rate": 0.0,
            "run_as_text": False,
            "is_cronjob": False,
            "created_at": "2025-10-16T09:32:59.484534Z",
            "updated_at": "2025-10-16T09:32:59.484942Z",
        }

    async def _bulk(self, request: web.Request) -> web.Response:
        text = request.query.get("run_ids", "")
        if not all(part.isdigit() for part in text.split(",")):
            return web.json_response({"run_ids": ["A valid integer is required."]}, status=400)
        wanted = [int(part) for part in text.split(",")]
        return web.json_response([self._step(number) for number in wanted if number in self.runs])

    def _step(self, number: int) -> dict[str, Any]:
        run, life = self.runs[number], self.lives.setdefault(number, list(self.life))
        run["status"] = life.pop(0) if len(life) > 1 else life[0]
        if run["status"] in {"completed", "failed", "timeout", "cancelled"}:
            run |= self.verdicts.get(number, {"success": run["status"] == "completed"})
        return run

    async def _result(self, request: web.Request) -> web.Response:
        if not self.result or request.match_info["id"] != str(self.result["id"]):
            return web.json_response({"detail": "Not found."}, status=404)
        runs = self.runs.values()
        over = all(run["status"] in {"completed", "failed", "timeout", "cancelled"} for run in runs)
        counts = {
            "status": "completed" if over else "in_progress",
            "total_runs_count": str(len(self.runs)),
            "completed_runs_count": sum(run["status"] == "completed" for run in runs),
            "success_runs_count": sum(bool(run.get("success")) for run in runs),
        }
        by_id = {str(number): run for number, run in self.runs.items()}
        return web.json_response(self.result | counts | self.counts | {"runs": by_id})

    async def _results(self, request: web.Request) -> web.Response:
        found = [self.result] if self.result and request.query.get("search", "") in self.result["name"] else []
        return web.json_response({"count": len(found), "next": None, "previous": None, "results": found})

    async def _end_calls(self, _: web.Request) -> web.Response:
        for run in self.runs.values():
            self.lives[run["id"]] = ["cancelled"]
        return web.Response()

    async def _agent(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != str(self.agent["id"]):
            return web.json_response({"detail": "Not found."}, status=404)
        return web.json_response(self.agent)

    async def _scenarios(self, request: web.Request) -> web.Response:
        query = request.query
        tags = set(filter(None, query.get("tags", "").split(",")))
        found: Sequence[dict[str, Any]] = [
            scenario
            for scenario in self.scenarios
            if query.get("agent_id") == str(scenario["agent"])
            and tags <= set(scenario["tags"])  # type: ignore[call-overload]
            and query.get("folder_path", scenario["folder_path"]) == scenario["folder_path"]
        ]
        first = (int(query.get("page", "1")) - 1) * self.page_size
        more = first + self.page_size < len(found)
        page = {"count": len(found), "next": f"{self.url}/?page=2" if more else None, "previous": None}
        return web.json_response(page | {"results": found[first : first + self.page_size]})


def answer(status: int, document: Any = None, **headers: str) -> Fault:
    """Answer with this."""
    return text(json.dumps(document), status, **headers)


def text(body: str, status: int = 200, **headers: str) -> Fault:
    """Answer with this text."""

    async def give(_: web.Request) -> web.StreamResponse:
        return web.Response(text=body, status=status, headers=headers)

    return give


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Read the request, and close the connection instead of answering."""
    await request.read()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
