"""Who may use the API."""

import hmac
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from sip_agent.api.parts import Handler, Problem, Route
from sip_agent.config import ApiSettings


def guard(settings: ApiSettings, routes: Sequence[Route]) -> Middleware:
    """Return the middleware that lets a request through to a public route, or with the token.

    Without a token, an agent that listens on loopback is open to this machine alone. A web page must not come in by
    a name of its own that it makes point here (DNS rebinding), so such a request has to name an address or localhost.
    """
    public = {route.path for route in routes if route.public}
    token = settings.token.get_secret_value().encode()
    local_only = is_loopback(settings.host)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is not None and resource.canonical in public:
            return await handler(request)
        if token and not hmac.compare_digest(_bearer(request), token):
            raise Problem(
                401, "the token is missing or wrong", "send 'Authorization: Bearer TOKEN', the token of api.token"
            )
        host = request.headers.get("Host") or "localhost"  # request.host would ask the name service
        if not token and local_only and not _names_this_machine(host):
            raise Problem(
                403,
                f"without api.token the API is for this machine alone, not for {host!r}",
                "use its address, 127.0.0.1 or localhost, or set api.token",
            )
        return await handler(request)

    return check


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    return ip_address(host).is_loopback


def _bearer(request: web.Request) -> bytes:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip().encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else b""


def _names_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ip_address(name))
    except ValueError:
        return False
