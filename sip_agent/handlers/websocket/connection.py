"""The WebSocket to a bot: opened with a time-out, closed in order, and never named with its secrets."""

import asyncio
import base64
import errno
import functools
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from sip_agent.errors import SipAgentError
from sip_agent.status import SipStatus

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""One message of a bot: two minutes of 16-bit sound; the documented longest piece (Telnyx) is 30 s."""

HEARTBEAT_S = 10.0
"""A bot that does not answer a ping within half of this is gone."""

CLOSE_TIMEOUT_S = 1.0

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token, RFC 9110 §5.6.2."""

Socket = aiohttp.ClientWebSocketResponse

_CAUSES: Mapping[type[Exception], str] = {
    aiohttp.TooManyRedirects: "it redirects again and again",
    aiohttp.RedirectClientError: "it redirects to an address that cannot be followed",
    aiohttp.InvalidURL: "the address is not valid",
    aiohttp.ClientResponseError: "what it answers is no HTTP",
    aiohttp.ServerDisconnectedError: "it closed the connection without an answer",
}
"""Errors whose own text shows addresses or headers; the first that fits."""


class BotError(SipAgentError):
    """The bot failed; the message names it and says what happened. `status` refuses a call not yet answered."""

    def __init__(self, message: str, status: SipStatus = SipStatus.BAD_GATEWAY) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How a bot is reached; `credentials` are `user:password` for Basic authentication."""

    timeout_s: float
    headers: Mapping[str, str] = field(default_factory=dict)
    subprotocol: str = ""
    credentials: str = field(default="", repr=False)
    ca_file: str = ""

    def request_headers(self) -> dict[str, str]:
        """Return the headers of a request to the bot."""
        headers = dict(self.headers)
        if self.credentials:
            headers["Authorization"] = "Basic " + base64.b64encode(self.credentials.encode()).decode("ascii")
        return headers


def open_session() -> aiohttp.ClientSession:
    """Return a session in which no upgrade to a WebSocket is redirected, as with the providers."""
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_refuse_redirected_upgrade)
    return aiohttp.ClientSession(trace_configs=[tracing])


async def _refuse_redirected_upgrade(
    _session: aiohttp.ClientSession, _context: object, redirect: aiohttp.TraceRequestRedirectParams
) -> None:
    response = redirect.response
    if "Upgrade" in redirect.headers:
        response.close()
        raise aiohttp.WSServerHandshakeError(response.request_info, response.history, status=response.status)


async def connect(
    session: aiohttp.ClientSession, url: str, options: ConnectOptions, headers: Mapping[str, str]
) -> Socket:
    """Open the WebSocket in a session of `open_session`; raises BotError that says why it cannot be opened."""
    bot = shown(url)
    try:
        async with asyncio.timeout(options.timeout_s):
            return await session.ws_connect(
                url,
                headers={**options.request_headers(), **headers},
                protocols=(options.subprotocol,) if options.subprotocol else (),
                ssl=authority(options.ca_file) if options.ca_file else True,
                heartbeat=HEARTBEAT_S,
                max_msg_size=MESSAGE_BYTES_MAX,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
            )
    except TimeoutError as error:
        raise BotError(
            f"the bot at {bot} did not answer within {options.timeout_s:g} s (connect_timeout_s)",
            SipStatus.SERVER_TIMEOUT,
        ) from error
    except aiohttp.WSServerHandshakeError as error:
        raise BotError(f"the bot at {bot} refused the WebSocket: HTTP status {error.status}") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise BotError(f"the bot at {bot} cannot be reached: {cause_of(error)}") from error


def cause_of(error: Exception) -> str:
    """Return what went wrong without an address, as one may hold secrets; the caller names its own."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        named = cause.errno is not None and cause.errno in errno.errorcode
        return os.strerror(cause.errno or 0) if named else cause.strerror or str(cause)
    for kind, text in _CAUSES.items():
        if isinstance(error, kind):
            return text
    return str(error) or type(error).__name__


def shown(url: str) -> str:
    """Return an address as messages may show it: without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def check_url(name: str, url: str, schemes: tuple[str, str]) -> None:
    """Raise ValueError naming the option unless `url` is an absolute address of one of the schemes."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{name} is an address that starts with {schemes[0]}:// or {schemes[1]}://, not {url[:80]!r}")


def check_headers(name: str, headers: Mapping[str, Any]) -> None:
    """Raise ValueError naming the option unless all of them can stand in a request."""
    for header, value in headers.items():
        if not _HEADER_NAME.fullmatch(header) or not str(value).isprintable():
            raise ValueError(f"{name}: {header!r} is no header with a value of one line")


@functools.cache
def authority(ca_file: str) -> ssl.SSLContext:
    """Return the TLS settings that trust the authorities of a PEM file; read once."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca_file: {ca_file} is no PEM file of certificates: {error}") from error


@functools.cache
def read_secret(option: str, file: str) -> str:
    """Return the one line of a file; read once, when the route is checked. Raises ValueError naming the option."""
    try:
        content = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{option}: {file} cannot be read: {error}") from error
    if not content or "\n" in content:
        raise ValueError(f"{option}: {file} has to have exactly one line")
    return content
