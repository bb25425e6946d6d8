"""The REST call with which a bot hangs up."""

import base64
from typing import Any

import pytest

from sip_agent.handlers.websocket.live import LIVE_CALLS, LiveCall
from sip_agent.testing import FakeCall
from tests.api.conftest import Api

ACCOUNT, TOKEN, SID = "AC1", "s3cret", "CA77"
PATH = f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{SID}.json"


def credentials(account: str = ACCOUNT, token: str = TOKEN) -> dict[str, str]:
    """Return the header of a bot."""
    return {"Authorization": "Basic " + base64.b64encode(f"{account}:{token}".encode()).decode()}


async def post(api: Api, headers: dict[str, str], status: str = "completed", path: str = PATH) -> tuple[int, Any]:
    """Return the status and the document of the answer."""
    async with api.client.post(path, data={"Status": status}, headers=headers) as response:
        return response.status, await response.json()


async def test_a_bot_ends_its_call(start_api: Any) -> None:
    """As Pipecat does it; a token of the API is not asked for."""
    api = await start_api(token="of-the-api")
    async with FakeCall() as caller:
        await caller.call.answer()
        with LIVE_CALLS.holding(SID, LiveCall(call=caller.call, account_sid=ACCOUNT, auth_token=TOKEN)):
            status, document = await post(api, credentials())
            await caller.until_ended()
            after, gone = await post(api, credentials())
    assert (200, "completed", SID) == (status, document["status"], document["sid"])
    assert "the bot hung up through the REST API" == caller.record.end_reason
    assert (404, 20404) == (after, gone["code"])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        credentials(token="wrong"),
        credentials(token=""),
        credentials(account="AC2"),
        {"Authorization": "Bearer s3cret"},
        {"Authorization": "Basic %%%"},
    ],
)
async def test_nobody_else_does(api: Api, headers: dict[str, str]) -> None:
    """Without account and token the call goes on."""
    async with FakeCall() as caller:
        with LIVE_CALLS.holding(SID, LiveCall(call=caller.call, account_sid=ACCOUNT, auth_token=TOKEN)):
            status, document = await post(api, headers)
        assert (401, 20003) == (status, document["code"])
        assert not caller.call.ended


async def test_a_route_without_a_token_lets_nobody(api: Api) -> None:
    """An empty token is no password."""
    async with FakeCall() as caller:
        with LIVE_CALLS.holding(SID, LiveCall(call=caller.call, account_sid=ACCOUNT, auth_token="")):
            assert 401 == (await post(api, credentials(token="")))[0]


async def test_another_account_in_the_path_is_refused(api: Api) -> None:
    """The path and the credentials have to name the same account."""
    async with FakeCall() as caller:
        with LIVE_CALLS.holding(SID, LiveCall(call=caller.call, account_sid=ACCOUNT, auth_token=TOKEN)):
            assert 401 == (await post(api, credentials(), path=PATH.replace(ACCOUNT, "AC9")))[0]


async def test_other_updates_are_refused(api: Api) -> None:
    """There is no redirecting a call."""
    async with FakeCall() as caller:
        with LIVE_CALLS.holding(SID, LiveCall(call=caller.call, account_sid=ACCOUNT, auth_token=TOKEN)):
            assert 400 == (await post(api, credentials(), status="in-progress"))[0]
        assert not caller.call.ended


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("multipart/form-data; boundary=x", b"--x--", "send Status=completed as application/x-www-form-urlencoded"),
        ("multipart/form-data", b"Status=completed", "send Status=completed as"),
        ("application/json", b'{"Status": "completed"}', "send Status=completed as"),
        ("application/x-www-form-urlencoded; charset=nope", b"Status=completed", "in the charset that it names"),
        ("application/x-www-form-urlencoded", b"Status=\xff", "in the charset that it names"),
    ],
)
async def test_a_form_that_cannot_be_read_is_refused(api: Api, content_type: str, body: bytes, message: str) -> None:
    """400, and what to send; the call goes on."""
    headers = {**credentials(), "Content-Type": content_type}
    async with FakeCall() as caller:
        with LIVE_CALLS.holding(SID, LiveCall(call=caller.call, account_sid=ACCOUNT, auth_token=TOKEN)):
            async with api.client.post(PATH, data=body, headers=headers) as response:
                document = await response.json()
        assert not caller.call.ended
    assert (400, 400) == (response.status, document["status"])
    assert message in document["message"]
