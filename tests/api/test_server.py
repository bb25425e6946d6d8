"""The server: its table of routes, who may use it, how it says what is wrong, how it starts and stops."""

import re
from dataclasses import replace

import pytest
from aiohttp import ClientSession, web
from pydantic import SecretStr
from structlog.testing import capture_logs

from sip_agent.api import ROUTES, ApiServer, Route, describe_routes
from sip_agent.config import ApiSettings, agent_version
from sip_agent.errors import SettingsError
from tests.api.conftest import Api, StartApi

TOKEN = "geheim-ß"


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_every_route_is_described() -> None:
    """Each route has one line that tells what it is for, and no two are the same."""
    described = describe_routes()

    assert len(ROUTES) == len({(method, path) for method, path, _ in described})
    assert [] == [path for _, path, summary in described if not summary or "\n" in summary]


async def test_every_route_answers(api: Api) -> None:
    """Each route of the table is served; ids that nobody has are 404 with our own words."""
    for route in ROUTES:
        path = re.sub(r"\{\w+\}", "nobody", route.path)
        async with api.client.request(route.method, path) as response:
            # A call needs a WebSocket; without settings of their own, these are not there.
            special = {"/chirp": 426, "/agora/session": 404, "/cekura/webhook": 404}
            expected = special.get(path, 404 if "nobody" in path else 200)
            assert expected == response.status, path
            assert "nosniff" == response.headers["X-Content-Type-Options"]
            if "nobody" in path:
                assert "'nobody'" in (await response.json())["error"]


async def test_version(api: Api) -> None:
    """The version is that of the agent and of its engine."""
    document = await api.get("/version")

    assert (agent_version(), "native", "2.17") == (
        document["version"],
        document["engine"]["name"],
        document["engine"]["version"],
    )


async def test_handlers(api: Api) -> None:
    """The installed handlers are listed with what they do."""
    listed = {handler["name"]: handler for handler in (await api.get("/handlers"))["handlers"]}

    assert {"echo", "reject", "tone"} <= listed.keys()
    assert listed["echo"]["summary"]


async def test_an_unknown_route(api: Api) -> None:
    """A path that does not exist is answered 404, with those that do."""
    document = await api.get("/call", status=404)

    assert "there is no /call" == document["error"]
    assert "GET /calls" in document["hint"]


async def test_a_wrong_method(api: Api) -> None:
    """A method that a path does not take is answered 405, with those that it takes."""
    async with api.client.post("/calls") as response:
        assert (405, "GET, HEAD") == (response.status, response.headers["Allow"])
        assert "POST is not for /calls" == (await response.json())["error"]


async def test_a_bug_is_an_answer(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that meets a bug is answered 500; the log has the cause, the caller has not."""
    monkeypatch.setattr(type(api.store), "stream", lambda *_: 1 / 0)

    with capture_logs() as logs:
        document = await api.get("/calls", status=500)

    assert {"error": "the agent failed to answer", "hint": "its log has the cause"} == document
    assert ["api.request_failed"] == [entry["event"] for entry in logs]


async def test_the_token(start_api: StartApi) -> None:
    """With `api.token` a request needs it, in whatever case the scheme is written."""
    api = await start_api(token=SecretStr(TOKEN))

    assert {"calls": []} == await api.get("/calls", headers=_bearer(TOKEN))
    assert {"calls": []} == await api.get("/calls", headers={"Authorization": f"bearer  {TOKEN}"})


@pytest.mark.parametrize(
    "headers", [{}, _bearer(""), _bearer("geheim"), _bearer(TOKEN + "x"), {"Authorization": f"Basic {TOKEN}"}]
)
async def test_a_wrong_token(start_api: StartApi, headers: dict[str, str]) -> None:
    """Without the right token a request is answered 401 and told how to send it, also where there is no route."""
    api = await start_api(token=SecretStr(TOKEN))

    for path in ("/calls", "/metrics", "/nowhere"):
        async with api.client.get(path, headers=headers) as response:
            assert (401, 'Bearer realm="sip-agent"') == (response.status, response.headers["WWW-Authenticate"])
            assert "Authorization: Bearer" in (await response.json())["hint"]


async def test_health_is_open(start_api: StartApi) -> None:
    """Health and readiness are asked without a token: load balancers have none."""
    api = await start_api(token=SecretStr(TOKEN))

    assert {"healthy": True} == await api.get("/health")
    assert (await api.get("/ready"))["ready"]


async def test_a_web_page_cannot_come_in_by_a_name_of_its_own(api: Api) -> None:
    """Without a token, a local API answers only who calls this machine by address or as localhost."""
    for host in ("evil.example.com", "127.0.0.1.example.com", ":", "[::1"):
        document = await api.get("/calls", status=403, headers={"Host": host})
        assert "api.token" in document["hint"]
    for host in ("localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080"):
        assert {"calls": []} == await api.get("/calls", headers={"Host": host})


async def test_any_name_will_do_with_a_token(start_api: StartApi) -> None:
    """A proxy may pass on its own name, as the token tells who is there."""
    api = await start_api(token=SecretStr(TOKEN))

    assert {"calls": []} == await api.get("/calls", headers=_bearer(TOKEN) | {"Host": "agent.example.com"})


async def test_an_api_that_all_can_reach_is_warned_of(start_api: StartApi) -> None:
    """An API on every address without a token starts, and the log warns of it."""
    with capture_logs() as logs:
        await start_api(bind="0.0.0.0:0")

    assert ["api.started", "api.open_to_all"] == [entry["event"] for entry in logs]


async def test_ipv6(start_api: StartApi) -> None:
    """The API listens on IPv6 too."""
    api = await start_api(bind="[::1]:0")

    assert api.server.url.startswith("http://[::1]:")
    assert {"calls": []} == await api.get("/calls")


async def test_a_port_in_use(api: Api, start_api: StartApi) -> None:
    """A port that is taken is told as what it is: a setting to change."""
    port = (api.server.url or "").rpartition(":")[2]

    with pytest.raises(SettingsError, match=rf"^api\.bind: 127\.0\.0\.1:{port} cannot be opened: .*in use"):
        await start_api(bind=f"127.0.0.1:{port}")


async def test_no_api(api: Api) -> None:
    """An empty `api.bind` switches the API off."""
    server = ApiServer(replace(api.parts, settings=ApiSettings(bind="")))

    await server.start()

    assert server.url is None
    await server.stop()


async def test_a_further_room_adds_its_routes(api: Api) -> None:
    """A longer table is served as the own one is, with the same guard."""

    async def hello(_request: web.Request) -> web.Response:
        return web.json_response({"hello": "you"})

    extra = Route(method="GET", path="/hello", handler=hello, summary="say hello")
    server = ApiServer(api.parts, [*ROUTES, extra])
    await server.start()
    try:
        async with ClientSession(server.url) as client, client.get("/hello") as response:
            assert {"hello": "you"} == await response.json()
    finally:
        await server.stop()
