"""The HTTP client of the platforms, against a server that fails on demand."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from sip_agent.errors import SettingsError
from sip_agent.platforms.errors import Refused, Unavailable
from sip_agent.platforms.http import HttpClient, Service, retry_after_s, said_in
from tests.platforms.clock import FakeClock
from tests.serving import serving_application

SECRET = "s3cret-key"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

OVER = web.AppKey("over", asyncio.Event)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Gives its answers one after the other, the last one for ever; `requests` counts."""

    def __init__(self, *answers: web.Response | Answer) -> None:
        self._answers = list(answers)
        self.requests = 0
        self.url = ""

    @asynccontextmanager
    async def asked(self, *, timeout_s: float = 30) -> AsyncIterator[tuple[HttpClient, FakeClock]]:
        """Serve, and open a client whose clock is the test's."""
        app = web.Application()
        app[OVER] = asyncio.Event()
        app.router.add_route("*", "/{path:.*}", self._answer)
        clock = FakeClock()
        async with serving_application(app) as self.url:
            try:
                async with client_of(self.url, clock, timeout_s=timeout_s) as client:
                    yield client, clock
            finally:
                app[OVER].set()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        await request.read()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, web.Response):
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        return await answer(request)


def client_of(url: str, clock: FakeClock, **options: Any) -> HttpClient:
    """Return a client of the service at a URL."""
    service = Service(name="Example", base_url=url, base_url_setting="x.base_url", credentials_setting="x.api_key_file")
    return HttpClient(service, headers={"X-Key": SECRET}, secrets=(SECRET,), clock=clock.clock, **options)


def status(code: int, text: str = "", **headers: str) -> web.Response:
    """Return an answer."""
    return web.Response(
        status=code, text=text, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


async def abort(request: web.Request) -> web.StreamResponse:
    """Close the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def never(request: web.Request) -> web.StreamResponse:
    """Do not answer while the test goes on."""
    await request.app[OVER].wait()
    return web.Response()


class TestGet:
    """Reading."""

    async def test_transient_failures_are_ridden_out(self) -> None:
        """A server that fails, hangs up and talks nonsense is asked again, with growing pauses."""
        nonsense = status(200, "<html>maintenance</html>")
        # aiohttp asks once more by itself when a server hangs up on a GET.
        server = Server(status(503), abort, abort, nonsense, status(200, '{"a": 1}'))
        async with server.asked() as (client, clock):
            document = await client.get("/x")

        assert {"a": 1} == document
        assert [0.5, 1.0, 2.0] == clock.waits

    @pytest.mark.parametrize("header", ["7", "Sun, 01 Mar 2026 12:00:07 GMT"])
    async def test_retry_after_is_honoured(self, header: str) -> None:
        """Both as seconds and as a date, which is compared with the server's own."""
        refusal = status(429, Retry_After=header, Date="Sun, 01 Mar 2026 12:00:00 GMT")
        async with Server(refusal, status(200, "[]")).asked() as (client, clock):
            await client.get("/x")

        assert [7.0] == clock.waits

    async def test_a_pause_beyond_the_patience_ends_it_at_once(self) -> None:
        """Nobody waits an hour to be told that there was not enough time."""
        server = Server(status(429, '{"detail": "Request was throttled."}', Retry_After="3600"))
        async with server.asked() as (client, clock):
            with pytest.raises(Unavailable, match=r"HTTP 429: Request was throttled\.: its rate limit") as caught:
                await client.get("/x")

        assert 3600 == caught.value.retry_after_s
        assert [] == clock.waits
        assert 3 == caught.value.exit_status

    async def test_patience_ends(self) -> None:
        """A server that stays broken is given up."""
        server = Server(status(500))
        async with server.asked() as (client, clock):
            with pytest.raises(Unavailable, match="HTTP 500"):
                await client.get("/x", patience_s=10)

        assert sum(clock.waits) <= 10 < sum(clock.waits) + 8
        assert len(clock.waits) + 1 == server.requests

    async def test_a_refusal_is_not_repeated(self) -> None:
        """What is wrong stays wrong."""
        server = Server(status(400, '{"run_ids": ["A valid integer is required."]}'))
        async with server.asked() as (client, _):
            with pytest.raises(
                Refused, match=r"refused GET /x \(HTTP 400\): run_ids: A valid integer is required"
            ) as caught:
                await client.get("/x")

        assert 1 == server.requests
        assert 2 == caught.value.exit_status
        assert ["A valid integer is required."] == caught.value.field("run_ids")

    async def test_silence_is_ridden_out(self) -> None:
        """A server that does not answer in time is asked again."""
        async with Server(never, status(200, "[]")).asked(timeout_s=0.2) as (client, clock):
            await client.get("/x")

        assert [0.5] == clock.waits

    async def test_endless_answers_are_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An answer without an end does not fill the memory."""
        monkeypatch.setattr("sip_agent.platforms.http.MAX_ANSWER_BYTES", 1000)
        async with Server(status(200, " " * 2000)).asked() as (client, _):
            with pytest.raises(Unavailable, match="more than"):
                await client.get("/x", patience_s=0)


class TestPost:
    """Writing."""

    @pytest.mark.parametrize("answer", [status(500), status(503), status(408), abort, status(200, "oops")])
    async def test_is_sent_once(self, answer: web.Response | Answer) -> None:
        """Whatever happens to its answer, and the error says that it may have arrived."""
        server = Server(answer)
        async with server.asked() as (client, clock):
            with pytest.raises(Unavailable) as caught:
                await client.post("/x", json={})

        assert caught.value.sent
        assert (1, []) == (server.requests, clock.waits)

    async def test_a_post_over_the_limit_has_done_nothing(self) -> None:
        """429 turns a request away before anything is done."""
        async with Server(status(429)).asked() as (client, _):
            with pytest.raises(Unavailable) as caught:
                await client.post("/x", json={})

        assert not caught.value.sent

    async def test_a_post_that_found_nobody_was_not_sent(self) -> None:
        """A refused connection carries no request."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}"
            async with client_of(url, FakeClock()) as client:
                with pytest.raises(Unavailable, match=r"cannot reach Example at .*: is x\.base_url right") as caught:
                    await client.post("/x", json={})

        assert not caught.value.sent

    async def test_one_that_does_no_harm_may_be_repeated(self) -> None:
        """If its caller says so."""
        server = Server(status(502), status(200))
        async with server.asked() as (client, _):
            assert await client.repeat("POST", "/x", patience_s=5) is None

        assert 2 == server.requests


class TestSecrets:
    """The credentials reach the service, and nothing else."""

    async def test_what_the_service_quotes_is_masked(self) -> None:
        """An answer that shows the key does not make the message show it."""
        async with Server(status(401, f'{{"detail": "key {SECRET} is wrong"}}')).asked() as (client, _):
            with pytest.raises(Refused, match=r"HTTP 401\): key \*\*\* is wrong") as caught:
                await client.get("/x")

        assert SECRET not in str(caught.value)
        assert "correct x.api_key_file" in str(caught.value)

    async def test_redirections_are_not_followed(self) -> None:
        """They would carry the key elsewhere."""
        server = Server(status(302, Location="http://127.0.0.1:1/"))
        async with server.asked() as (client, _):
            with pytest.raises(Refused, match=r"redirection \(HTTP 302\): set x\.base_url"):
                await client.get("/x")

    def test_a_key_that_no_header_may_carry(self) -> None:
        """It is a wrong setting, and not shown."""
        service = Service(name="E", base_url="http://h", base_url_setting="b", credentials_setting="x.api_key_file")
        with pytest.raises(SettingsError, match=r"^x\.api_key_file: it holds characters") as caught:
            HttpClient(service, secrets=("a\nb",))

        assert "a\nb" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("Sun, 01 Mar 2026 12:01:00 GMT", 60.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
    ],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    """RFC 9110 §10.2.3 knows seconds and a date; what is neither asks nothing."""
    assert seconds == retry_after_s({"Retry-After": header}, NOW)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"detail": "Not found."}, "Not found."),
        (
            {"scenarios": ["Invalid scenario IDs or scenarios not found"]},
            "scenarios: Invalid scenario IDs or scenarios not found",
        ),
        ({"errors": {"scenarios[0].instructions": ["Too long."]}}, "scenarios[0].instructions: Too long."),
        (None, ""),
        ("a\x1b[2Jb\nc", "a [2Jb c"),
    ],
)
def test_what_is_said(document: Any, said: str) -> None:
    """The shapes in which Django REST services say what is wrong become one printable line."""
    assert said == said_in(document)
