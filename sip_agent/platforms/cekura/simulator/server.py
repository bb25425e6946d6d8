"""The HTTP side of the stand-in: the documented paths of Cekura's API, with and without a trailing slash.

`scenarios`, `runs`, `results` and `test-profiles` answer by their `-external` names too, and `v1` answers as `v2` does
(openapi.json; the vendor's own client uses v1, `-external` and no slash). Our own choice: the address of recordings,
the texts of 401, 404 and 429, and 400 for want of credits, whose status is not documented.
"""

import asyncio
import hmac
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self, TypeVar

import structlog
from aiohttp import web

from sip_agent.errors import SettingsError
from sip_agent.platforms.cekura.simulator.dialing import Dialer
from sip_agent.platforms.cekura.simulator.documents import Documents
from sip_agent.platforms.cekura.simulator.runs import Ledger
from sip_agent.platforms.cekura.simulator.starting import BadRequest, folder_has, new_result, wrong
from sip_agent.platforms.cekura.simulator.telephone import Telephone
from sip_agent.platforms.cekura.simulator.transcripts import take_transcripts
from sip_agent.platforms.cekura.simulator.webhooks import Webhooks
from sip_agent.platforms.cekura.simulator.world import Scenario, Setup

log = structlog.get_logger()

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API = "/test_framework/{version:v[12]}"
ALIAS = "{alias:(?:-external)?}"
SLASH = "{slash:/?}"
BODY_BYTES_MAX = 16_000_000
PAGE_SIZE = 20
PAGE_SIZE_MAX = 100
WHAT_IT_IS = "sip-agent's stand-in for Cekura: not Cekura, and not affiliated with it"


class Simulator:
    """The stand-in on one address; `async with` opens it and closes it with all its calls.

    `recordings` is the folder for the recordings of the testing agents. Raises SettingsError if the address cannot
    be opened.
    """

    def __init__(self, setup: Setup, telephone: Telephone, recordings: Path, *, host: str, port: int) -> None:
        self.ledger = Ledger()
        self._setup = setup
        self._telephone = telephone
        self._recordings = recordings
        self._host = host
        self._port = port
        self._requests = 0
        self._open = AsyncExitStack()
        self.url: str
        self._documents: Documents
        self._dialer: Dialer

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1)
            await runner.setup()
            opening.push_async_callback(runner.cleanup)
            try:
                await web.TCPSite(runner, self._host, self._port).start()
            except OSError as error:
                raise SettingsError(
                    f"--bind: {self._host}:{self._port} cannot be opened: {error.strerror} (port 0 takes a free one)"
                ) from error
            host, port = runner.addresses[0][:2]
            self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            self._documents = Documents(self._setup, self.url)
            webhooks = await opening.enter_async_context(Webhooks(self._setup.world.webhook, self._documents))
            self._dialer = Dialer(
                self._setup,
                self._telephone,
                self._recordings,
                announce=webhooks.pre_trigger,
                report=webhooks.completed,
            )
            opening.push_async_callback(self._dialer.stop)
            self._open = opening.pop_all()
        log.info("stand_in.started", url=self.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=BODY_BYTES_MAX)
        get, post = application.router.add_get, application.router.add_post
        get("/", _what_it_is)
        get("/recordings/{token}.wav", self._recording)
        post(f"{API}/scenarios{ALIAS}/run_scenarios_sip{SLASH}", self._start)
        get(f"{API}/scenarios{ALIAS}{SLASH}", self._list_scenarios)
        get(f"{API}/scenarios{ALIAS}/{{id:[0-9]+}}{SLASH}", self._scenario)
        get(f"{API}/runs{ALIAS}/bulk{SLASH}", self._bulk)
        get(f"{API}/runs{ALIAS}/{{id:[0-9]+}}{SLASH}", self._run)
        post(f"{API}/runs{ALIAS}/{{id:[0-9]+}}/end_call{SLASH}", self._end_call)
        get(f"{API}/results{ALIAS}{SLASH}", self._list_results)
        get(f"{API}/results{ALIAS}/{{id:[0-9]+}}{SLASH}", self._result)
        post(f"{API}/results{ALIAS}/{{id:[0-9]+}}/end_calls{SLASH}", self._end_calls)
        get(f"{API}/aiagents{ALIAS}{SLASH}", self._list_agents)
        get(f"{API}/aiagents{ALIAS}/{{id:[0-9]+}}{SLASH}", self._agent)
        get(f"{API}/test-profiles{ALIAS}{SLASH}", self._list_test_profiles)
        get(f"{API}/test-profiles{ALIAS}/{{id:[0-9]+}}{SLASH}", self._test_profile)
        post(f"/test_framework/custom-provider-transcript-webhook{SLASH}", self._take_transcripts)
        application.on_response_prepare.append(_say_what_it_is)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Ask for the key, be at fault where that is wanted, and answer every refusal as the API does."""
        try:
            if request.path != "/" and not request.path.startswith("/recordings/"):
                self._check_key(request)
                self._check_rate()
            return await handler(request)
        except BadRequest as error:
            return web.json_response(error.document, status=400)
        except web.HTTPException as error:
            wait = error.headers.get("Retry-After")
            headers = {"Retry-After": wait} if wait else {}
            detail = "Not found." if error.status == HTTPStatus.NOT_FOUND else error.text
            return web.json_response({"detail": detail}, status=error.status, headers=headers)
        except Exception:
            log.exception("stand_in.request_failed", method=request.method, path=request.path)
            return web.json_response({"detail": "Internal server error."}, status=HTTPStatus.INTERNAL_SERVER_ERROR)

    def _check_key(self, request: web.Request) -> None:
        key = request.headers.get("X-CEKURA-API-KEY", "")
        wanted = self._setup.world.api_key.get_secret_value()
        if not hmac.compare_digest(key.encode(errors="replace"), wanted.encode()):
            text = "Invalid API key." if key else "Authentication credentials were not provided."
            raise web.HTTPUnauthorized(text=text)

    def _check_rate(self) -> None:
        faults = self._setup.world.faults
        self._requests += 1
        if faults.rate_limit_every is not None and self._requests % faults.rate_limit_every == 0:
            wait = str(math.ceil(faults.retry_after.total_seconds()))
            raise web.HTTPTooManyRequests(text="Request was throttled.", headers={"Retry-After": wait})

    # Runs and results

    async def _start(self, request: web.Request) -> web.Response:
        result = new_result(await _body(request), self._setup, self.ledger)
        self._dialer.start(result)
        log.info("stand_in.runs_started", result_id=result.id, runs=len(result.runs))
        return web.json_response(self._documents.started(result))

    async def _bulk(self, request: web.Request) -> web.Response:
        texts = request.query.get("run_ids", "").split(",")
        if not all(text.strip().isascii() and text.strip().isdigit() for text in texts):
            raise wrong("run_ids", "Write run ids as plain text, separated by commas.")
        runs = self.ledger.find_runs([int(text) for text in texts])
        if result_id := _query_number(request, "result_id"):
            runs = [run for run in runs if run.result.id == result_id]
        return web.json_response([self._documents.run(run) for run in runs])

    async def _run(self, request: web.Request) -> web.Response:
        return web.json_response(self._documents.run(_found(request, self.ledger.runs)))

    async def _list_results(self, request: web.Request) -> web.Response:
        agent_id, name = _query_number(request, "agent_id"), request.query.get("search", "")
        results = [
            result
            for result in reversed(self.ledger.results.values())
            if (agent_id is None or result.agent.id == agent_id) and name.lower() in result.name.lower()
        ]
        return _page(request, [self._documents.listed(result) for result in results])

    async def _result(self, request: web.Request) -> web.Response:
        return web.json_response(self._documents.result(_found(request, self.ledger.results)))

    async def _end_call(self, request: web.Request) -> web.Response:
        await self._dialer.end_call(_found(request, self.ledger.runs))
        return web.json_response({})

    async def _end_calls(self, request: web.Request) -> web.Response:
        result = _found(request, self.ledger.results)
        await asyncio.gather(*map(self._dialer.end_call, result.runs))
        return web.json_response({})

    async def _recording(self, request: web.Request) -> web.StreamResponse:
        token = request.match_info["token"]
        found = next((run for run in self.ledger.runs.values() if run.recording_token == token), None)
        if found is None or found.recording is None or not found.recording.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(found.recording, headers={"Content-Type": "audio/wav"})

    # What is set up

    async def _list_scenarios(self, request: web.Request) -> web.Response:
        agent_id, folder = _query_number(request, "agent_id"), request.query.get("folder_path")
        tags = {tag for text in request.query.getall("tags", []) for tag in text.split(",") if tag}
        how = request.query.get("tag_filter_type", "or")
        scenarios = [
            scenario
            for scenario in self._setup.world.scenarios
            if (agent_id is None or scenario.agent == agent_id)
            and (folder is None or folder_has(folder, scenario))
            and (not tags or _has_tags(scenario, tags, how))
        ]
        return _page(request, [self._documents.scenario(scenario) for scenario in scenarios])

    async def _scenario(self, request: web.Request) -> web.Response:
        return web.json_response(self._documents.scenario(_found(request, self._setup.scenarios)))

    async def _list_agents(self, request: web.Request) -> web.Response:
        version = _version(request)
        return _page(request, [self._documents.agent(agent, version) for agent in self._setup.world.agents])

    async def _agent(self, request: web.Request) -> web.Response:
        return web.json_response(self._documents.agent(_found(request, self._setup.agents), _version(request)))

    async def _list_test_profiles(self, request: web.Request) -> web.Response:
        agent_id = _query_number(request, "agent_id")
        profiles = [item for item in self._setup.world.test_profiles if agent_id in {None, item.agent}]
        return web.json_response([self._documents.test_profile(profile) for profile in profiles])

    async def _test_profile(self, request: web.Request) -> web.Response:
        return web.json_response(self._documents.test_profile(_found(request, self._setup.test_profiles)))

    # What agents send

    async def _take_transcripts(self, request: web.Request) -> web.Response:
        runs = take_transcripts(await _body(request), self.ledger, datetime.now(UTC))
        log.info("stand_in.transcripts_taken", run_ids=[run.id for run in runs])
        return web.json_response({}, status=202)


async def _what_it_is(_request: web.Request) -> web.Response:
    return web.json_response({"detail": WHAT_IT_IS})


async def _say_what_it_is(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "sip-agent-stand-in-for-cekura"


async def _body(request: web.Request) -> Any:
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise BadRequest({"detail": f"JSON parse error - {error}"}) from error


def _found(request: web.Request, items: Mapping[int, T]) -> T:
    text = request.match_info["id"]
    number = int(text) if len(text) < 20 else 0
    if number not in items:
        raise web.HTTPNotFound
    return items[number]


def _version(request: web.Request) -> int:
    return int(request.match_info["version"][1:])


def _query_number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise wrong(name, "A valid integer is required.")
    return int(text)


def _page(request: web.Request, items: Sequence[Any]) -> web.Response:
    """Answer with a page of a list: `count`, `next`, `previous`, `results`."""
    page = max(1, _query_number(request, "page") or 1)
    size = min(PAGE_SIZE_MAX, _query_number(request, "page_size") or PAGE_SIZE)
    first = (page - 1) * size
    if first and first >= len(items):
        return web.json_response({"detail": "Invalid page."}, status=404)
    after = str(request.url.update_query(page=page + 1)) if first + size < len(items) else None
    before = str(request.url.update_query(page=page - 1)) if page > 1 else None
    results = items[first : first + size]
    return web.json_response({"count": len(items), "next": after, "previous": before, "results": results})


def _has_tags(scenario: Scenario, tags: set[str], how: str) -> bool:
    """Tell whether a scenario passes the tags' filter; that `or` is meant where nothing is said is our own choice."""
    shared = tags & set(scenario.tags)
    return {"and": shared == tags, "not": not shared}.get(how, bool(shared))
