"""Where Cekura's webhooks come in."""

import gzip
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientSession

from sip_agent.admission import AnnouncedRuns
from sip_agent.api import ApiServer, CallMetrics
from sip_agent.api.webhooks import BODY_BYTES_MAX
from sip_agent.platforms.cekura.webhook import CekuraWebhook
from tests.api.conftest import Api

PATH = "/cekura/webhook"
SECRET = {"X-CEKURA-SECRET": "s3cret"}
EVENT = json.dumps({"event_type": "result.pre_trigger", "data": {"result_id": 1, "runs": {"7": {"id": 7}}}}).encode()

Post = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
async def post(start_api: Any) -> Any:
    """Post to an API that has a token, and a webhook with a secret."""

    async def nothing() -> None:
        """Warm nothing up."""

    api = await start_api(token="of-the-api")
    hook = CekuraWebhook("s3cret", announced=AnnouncedRuns(), outbox=api.store.outbox, warm_up=nothing)
    server = ApiServer(replace(api.parts, cekura=hook, metrics=CallMetrics()))
    await server.start()
    async with ClientSession(server.url) as client:

        async def send(data: bytes, headers: dict[str, str] = SECRET) -> tuple[int, Any]:
            async with client.post(PATH, data=BytesIO(data), headers=headers) as response:
                return response.status, await response.json()

        yield send
    await server.stop()


async def test_the_secret_lets_in(post: Post) -> None:
    """The token of the API is not asked for."""
    assert (200, {"event_type": "result.pre_trigger", "result_id": "1", "expected_runs": 1}) == await post(EVENT)


@pytest.mark.parametrize(
    "headers", [{}, {"X-CEKURA-SECRET": "wrong"}, {"X-CEKURA-SECRET": ""}, {"Authorization": "Bearer of-the-api"}]
)
@pytest.mark.parametrize("data", [EVENT, b"{", b"x" * 100_000])
async def test_nobody_else_gets_in(post: Post, headers: dict[str, str], data: bytes) -> None:
    """Whatever was sent, the answer says no more than that the secret is wrong."""
    status, document = await post(data, headers)

    assert (401, {"error": "the secret is missing or wrong", "hint": ""}) == (status, document)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'{"event_type": "result.pre_trigger"}', b"1" * 5000],
)
async def test_what_is_no_event(post: Post, data: bytes) -> None:
    """It is refused as such; the next one is taken."""
    status, document = await post(data)

    assert 400 == status
    assert document["error"]
    assert 200 == (await post(EVENT))[0]


async def test_too_large_an_event(post: Post) -> None:
    """A body is read up to a limit, also one that grows when it is unpacked."""
    status, _ = await post(b" " * (BODY_BYTES_MAX + 1))
    packed = gzip.compress(b" " * (BODY_BYTES_MAX + 1))
    unpacked, _ = await post(packed, {**SECRET, "Content-Encoding": "gzip"})

    assert (413, 413) == (status, unpacked)


async def test_a_large_event(post: Post) -> None:
    """A result comes with the transcripts of all its runs."""
    event = {"event_type": "call_log.completed", "data": {"transcript": "x" * 5_000_000}}

    assert 200 == (await post(json.dumps(event).encode()))[0]


async def test_without_a_secret_there_is_nothing(api: Api) -> None:
    """As at any other address that does not exist."""
    document = await api.request("POST", PATH, status=404, headers=SECRET)

    assert f"there is no {PATH}" == document["error"]
