"""The HTTP server: opens `api.bind`, serves the table of routes, answers every error as JSON."""

from collections.abc import Sequence
from http import HTTPStatus

import structlog
from aiohttp import web

from sip_agent.api.figures import LiveFigures
from sip_agent.api.guard import guard, is_loopback
from sip_agent.api.parts import PARTS, ApiParts, Handler, Problem, Route, json_response
from sip_agent.api.routes import ROUTES
from sip_agent.errors import SettingsError

log = structlog.get_logger()

STOP_GRACE_S = 2.0
"""What open requests get to finish when the agent stops."""


class ApiServer:
    """The API of one agent, on `api.bind`; `routes` is the table that it serves."""

    def __init__(self, parts: ApiParts, routes: Sequence[Route] = ROUTES) -> None:
        self._parts = parts
        self._routes = tuple(routes)
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str | None:
        """Where the API is, once it is open."""
        if self._runner is None or not self._runner.addresses:
            return None
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Open the API, unless `api.bind` is empty; a SettingsError says why it cannot be opened."""
        settings = self._parts.settings
        if not settings.bind:
            return
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=STOP_GRACE_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, settings.host, settings.port).start()
        except OSError as error:
            await self.stop()
            raise SettingsError(
                f"api.bind: {settings.bind} cannot be opened: {error.strerror}"
                ' (is another program using the port? Port 0 takes a free one, and "" switches the API off)'
            ) from error
        log.info("api.started", url=self.url)
        if not settings.token.get_secret_value() and not is_loopback(settings.host):
            log.warning("api.open_to_all", bind=settings.bind, hint="set api.token: whoever reaches it reads all calls")

    async def stop(self) -> None:
        """Close the API; what it has begun goes on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._answer_problems, guard(self._parts.settings, self._routes)])
        application[PARTS] = self._parts
        for route in self._routes:
            if route.method == "GET":
                application.router.add_get(route.path, route.handler)  # HEAD too
            else:
                application.router.add_route(route.method, route.path, route.handler)
        application.on_response_prepare.append(_add_headers)
        self._parts.metrics.registry.register(LiveFigures(self._parts))
        return application

    @web.middleware
    async def _answer_problems(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Problem as problem:
            challenge = {"WWW-Authenticate": 'Bearer realm="sip-agent"'} if problem.status == 401 else {}
            return json_response(problem.document, problem.status, challenge)
        except web.HTTPNotFound:
            known = ", ".join(f"{route.method} {route.path}" for route in self._routes)
            return json_response({"error": f"there is no {request.path}", "hint": f"there are {known}"}, 404)
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            return json_response(
                {"error": f"{request.method} is not for {request.path}", "hint": f"use {allowed}"},
                405,
                {"Allow": allowed},
            )
        except web.HTTPException as error:
            return json_response({"error": error.text or error.reason, "hint": ""}, error.status)
        except Exception:
            log.exception("api.request_failed", method=request.method, path=request.path)
            return json_response(
                {"error": "the agent failed to answer", "hint": "its log has the cause"},
                HTTPStatus.INTERNAL_SERVER_ERROR,
            )


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "sip-agent"
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "no-store")
