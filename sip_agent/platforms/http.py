"""One small HTTP client for every platform: JSON in and out, time limits, and one rule about repeating requests.

A GET rides out transient failures; any other request is sent once, unless the caller says that twice does no harm.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from sip_agent.errors import SettingsError
from sip_agent.platforms.errors import Refused, Unavailable

REQUEST_TIMEOUT_S = 30.0
PATIENCE_S = 20.0
"""How long a GET is tried again, unless its caller says otherwise."""

MAX_ANSWER_BYTES = 64_000_000
"""Hundreds of runs with their transcripts are smaller."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
_MAX_TEXT = 300
"""What is shown of an answer that is no JSON."""

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may succeed (RFC 9110 §15, RFC 6585 §4, RFC 8470 §5.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A platform's API, and the settings to correct when it refuses."""

    name: str
    base_url: str
    base_url_setting: str
    credentials_setting: str

    def url(self, path: str) -> str:
        """Return the address of a path, or of an absolute URL that stands for one."""
        return path if urlsplit(path).scheme else f"{self.base_url.rstrip('/')}/{path.lstrip('/')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What time is it, and how to wait: replaced by tests."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class HttpClient:
    """Asks one service; `async with` opens and closes its connections.

    `headers` are sent with every request to the service; `secrets` are kept out of every message. `on_retry` hears
    of each failure that is ridden out, and how many seconds are waited.
    """

    def __init__(
        self,
        service: Service,
        *,
        headers: Mapping[str, str] | None = None,
        secrets: tuple[str, ...] = (),
        timeout_s: float = REQUEST_TIMEOUT_S,
        clock: Clock | None = None,
        on_retry: Callable[[Unavailable, float], None] | None = None,
    ) -> None:
        for secret in secrets:
            if not (secret.isascii() and secret.isprintable()):
                raise SettingsError(f"{service.credentials_setting}: it holds characters that no HTTP header may carry")
        self.service = service
        self.clock = clock or Clock()
        self.on_retry = on_retry
        self._headers = dict(headers or {})
        self._secrets = tuple(secret for secret in secrets if secret)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        # A connection of its own for each request: one kept open may be closed by the server just when a POST is
        # sent on it, and then nobody knows whether the POST arrived.
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(force_close=True),
            trust_env=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str, *, params: Mapping[str, str] | None = None, patience_s: float = PATIENCE_S) -> Any:
        """Return the JSON document at a path; transient failures are ridden out for `patience_s`.

        Raises Refused, or the last Unavailable.
        """
        return await self.repeat("GET", path, patience_s=patience_s, params=params)

    async def post(self, path: str, **content: Any) -> Any:
        """Send a POST once (`json=` or `data=` as in aiohttp) and return the JSON document it is answered with.

        Raises Refused; or Unavailable, whose `sent` tells whether the request may have arrived.
        """
        return await self.request("POST", path, **content)

    async def repeat(self, method: str, path: str, *, patience_s: float, **content: Any) -> Any:
        """Send a request that does no harm when it arrives twice, again for `patience_s` until it is answered.

        Pauses grow, and are as long as Retry-After asks. Raises Refused, or the last Unavailable.
        """
        give_up_at = self.clock.now() + patience_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self.request(method, path, **content)
            except Unavailable as error:
                wait_s = max(pause_s, error.retry_after_s or 0.0)
                if self.clock.now() + wait_s > give_up_at:
                    raise
                if self.on_retry is not None:
                    self.on_retry(error, wait_s)
                await self.clock.sleep(wait_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def request(self, method: str, path: str, **content: Any) -> Any:
        """Send a request once and return the JSON document of the answer, None if it is empty."""
        body = await self.send(method, path, **content)
        if not body.strip():
            return None
        try:
            return json.loads(body)
        except ValueError:
            raise Unavailable(
                f"{self.service.name} answered {method} {urlsplit(path).path} with something that is no JSON "
                f"({self._shown(body)})",
                f"is {self.service.base_url_setting} right ({self.service.base_url})?",
                sent=True,
            ) from None

    async def send(self, method: str, path: str, **content: Any) -> bytes:
        """Send a request once and return the body of the answer, whatever it is."""
        async with self._response(method, path, content) as response:
            body = await self._body(response)
            if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
                raise self._refusal(response, body)
            return body

    @asynccontextmanager
    async def _response(
        self, method: str, path: str, content: Mapping[str, Any]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open the response to one request; network failures become Unavailable."""
        url = self.service.url(path)
        what = f"{method} {urlsplit(url).path}"
        try:
            # The credentials are for this service alone: a redirection is not followed.
            async with self._session.request(method, url, allow_redirects=False, **content) as response:
                yield response
        except aiohttp.InvalidURL as error:
            raise SettingsError(f"{self.service.base_url_setting}: {url} is no URL") from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError) as error:
            raise Unavailable(
                f"cannot reach {self.service.name} at {self.service.base_url} ({self._reason(error)})",
                f"is {self.service.base_url_setting} right, and the network up?",
                sent=False,
            ) from error
        except TimeoutError as error:
            raise Unavailable(
                f"{self.service.name} did not answer {what} within {self._timeout.total:g} s", sent=True
            ) from error
        except aiohttp.ClientError as error:
            raise Unavailable(
                f"the connection to {self.service.name} broke during {what} ({self._reason(error)})", sent=True
            ) from error

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise Unavailable(
                    f"{self.service.name} answers {response.url.path} with more than {MAX_ANSWER_BYTES // 10**6} MB",
                    sent=True,
                )
        return b"".join(chunks)

    def _refusal(self, response: aiohttp.ClientResponse, body: bytes) -> Refused | Unavailable:
        """Return the error that an answer with an HTTP status other than 2xx stands for."""
        service, status = self.service, response.status
        document = _parsed(body)
        said = self._without_secrets(said_in(document)) or response.reason or "no reason given"
        what = f"{response.method} {response.url.path}"
        if status in TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Unavailable(
                f"{service.name} answered {what} with HTTP {status}: {said}",
                "its rate limit is reached: wait, or ask for less"
                if status == HTTPStatus.TOO_MANY_REQUESTS
                else "try again later",
                # Over the limit, the request is turned away before anything is done.
                sent=status != HTTPStatus.TOO_MANY_REQUESTS,
                retry_after_s=retry_after_s(response.headers, datetime.now(UTC)),
            )
        if status < HTTPStatus.BAD_REQUEST:
            message = f"{service.name} answered {what} with a redirection (HTTP {status})"
            hint = f"set {service.base_url_setting} to where it leads"
        else:
            message = f"{service.name} refused {what} (HTTP {status}): {said}"
            hints: Mapping[int, str] = {
                HTTPStatus.UNAUTHORIZED: f"correct {service.credentials_setting}",
                HTTPStatus.FORBIDDEN: f"may these credentials do that? {service.credentials_setting}",
                HTTPStatus.NOT_FOUND: f"check the ids, and {service.base_url_setting}",
            }
            hint = hints.get(status, "")
        return Refused(message, hint, status=status, document=document)

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _shown(self, body: bytes) -> str:
        """Return the start of an answer in one printable line."""
        text = " ".join(body[: 4 * _MAX_TEXT].decode("utf-8", "replace").split())
        return self._without_secrets("".join(character for character in text if character.isprintable()))[:80]

    def _reason(self, error: BaseException) -> str:
        """Return why the network failed, in one line."""
        return self._without_secrets(" ".join(str(error).split())) or type(error).__name__


class ServiceClient:
    """Asks one service through `http`; `async with` opens and closes its connections."""

    def __init__(self, http: HttpClient) -> None:
        self.http = http

    async def __aenter__(self) -> Self:
        await self.http.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.__aexit__(*error)


def said_in(document: Any) -> str:
    """Return what an answer says is wrong, in one line: `{"detail": …}`, `{"field": ["…"]}`, or its text."""
    if isinstance(document, Mapping):
        named = {"detail", "error", "errors", "message", "non_field_errors"}
        parts = (said_in(value) if str(key) in named else f"{key}: {said_in(value)}" for key, value in document.items())
        text = "; ".join(part for part in parts if part)
    elif isinstance(document, list):
        text = ", ".join(said_in(item) for item in document)
    else:
        text = "" if document is None else str(document)
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= _MAX_TEXT else f"{line[:_MAX_TEXT]}…"


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return how many seconds Retry-After asks to wait: a number, or an HTTP date (RFC 9110 §10.2.3).

    A date is compared with the server's own (Date), if it sends one, and else with `now`. None if there is none that
    can be read.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    until = _http_date(text)
    if until is None:
        return None
    since = _http_date(headers.get("Date", "")) or now
    return max(0.0, (until - since).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parsed(body: bytes) -> Any:
    """Return the JSON document of an answer, or its text; nothing of a web page."""
    text = body.decode("utf-8", "replace").strip()
    try:
        return json.loads(text)
    except ValueError:
        return "" if text.startswith("<") else text
