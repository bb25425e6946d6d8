"""The client, against a server that refuses what Cekura is documented to refuse."""

from pathlib import Path

import pytest

from sip_agent.errors import SettingsError
from sip_agent.platforms.cekura.client import CekuraClient
from sip_agent.platforms.errors import PlatformError, Refused, StartUncertain, Unavailable
from tests.platforms.cekura.stand_in import (
    BULK,
    END_CALLS,
    KEY,
    NO_BALANCE,
    NO_ENDPOINT,
    START,
    UNKNOWN_SCENARIOS,
    CekuraStandIn,
    Fault,
    answer,
    hang_up,
    text,
)
from tests.platforms.clock import FakeClock

BODY = {"agent_id": 5, "scenarios": [11547], "name": "mine"}


async def test_start(client: CekuraClient, cekura: CekuraStandIn) -> None:
    """The request says what it is given, and the answer names the result and its runs."""
    started = await client.start_sip_run(BODY)

    assert [BODY] == cekura.bodies
    assert (16870, [34625]) == (started.result_id, [run.id for run in started.runs])


LOST = {
    "the connection closes": hang_up,
    "HTTP 500": answer(500),
    "HTTP 502 from a proxy": text("<html>bad gateway</html>", 502),
    "HTTP 503 with Retry-After": answer(503, None, **{"Retry-After": "1"}),
    "malformed JSON": text('{"id": 168'),
    "JSON that names no result": answer(200, {"detail": "ok"}),
    "an empty answer": text(""),
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST.keys())
async def test_a_start_whose_answer_is_lost(
    client: CekuraClient, cekura: CekuraStandIn, clock: FakeClock, fault: Fault
) -> None:
    """It is never sent twice, and the error says what to look for."""
    cekura.faults[START] = [fault]

    with pytest.raises(StartUncertain, match=r"may have been started: .*named 'mine'.*cekura wait RESULT_ID") as caught:
        await client.start_sip_run(BODY)

    assert (1, []) == (cekura.requests[START], clock.waits)
    assert 3 == caught.value.exit_status
    assert "\n" not in str(caught.value)


REFUSALS = [
    (400, {"sip_endpoint": [NO_ENDPOINT]}, NO_ENDPOINT, "--sip-endpoint"),
    (400, {"scenarios": [UNKNOWN_SCENARIOS]}, UNKNOWN_SCENARIOS, "check the scenarios' ids"),
    (400, {"detail": NO_BALANCE}, NO_BALANCE, "add credits"),
    (402, {"detail": NO_BALANCE}, NO_BALANCE, "add credits"),
    (403, {"detail": NO_BALANCE}, NO_BALANCE, "add credits"),
    (401, {"detail": "Invalid API key."}, "Invalid API key.", "correct cekura.api_key_file"),
    (404, {"detail": "Not found."}, "Not found.", "cekura.base_url"),
    (418, "teapot", "teapot", "nothing was started"),
]


@pytest.mark.parametrize(("status", "document", "said", "advice"), REFUSALS)
async def test_a_start_that_is_refused(  # noqa: PLR0917
    client: CekuraClient, cekura: CekuraStandIn, status: int, document: object, said: str, advice: str
) -> None:
    """Cekura's own words, what to do about it, and that nothing was started; in one line."""
    cekura.faults[START] = [answer(status, document)]

    with pytest.raises(Refused) as caught:
        await client.start_sip_run(BODY)

    message = str(caught.value)
    assert said in message
    assert advice in message
    assert message.endswith("nothing was started")
    assert "\n" not in message
    assert (2, 1) == (caught.value.exit_status, cekura.requests[START])


async def test_a_start_over_the_rate_limit(client: CekuraClient, cekura: CekuraStandIn) -> None:
    """It is turned away, and even so not sent again."""
    cekura.faults[START] = [answer(429, {"detail": "Request was throttled."}, **{"Retry-After": "1"})]

    with pytest.raises(Unavailable, match=r"throttled\.: its rate limit") as caught:
        await client.start_sip_run(BODY)

    assert (3, 1) == (caught.value.exit_status, cekura.requests[START])


async def test_a_start_that_reaches_nobody(clock: FakeClock) -> None:
    """It was not sent, so there is nothing to look for."""
    async with CekuraClient("http://127.0.0.1:1", KEY, clock=clock.clock) as client:
        with pytest.raises(Unavailable, match=r"cannot reach Cekura .* is cekura\.base_url right"):
            await client.start_sip_run(BODY)


async def test_runs_are_asked_for_by_a_plain_list(client: CekuraClient, cekura: CekuraStandIn) -> None:
    """Many ids go in several requests; those that Cekura does not know are left out."""
    cekura.begin(BODY)

    found = await client.runs([34625, *range(1, 150)], result_id=16870)

    assert [34625] == [run.id for run in found]
    assert 2 == cekura.requests[BULK]


async def test_scenarios_come_from_all_pages(client: CekuraClient, cekura: CekuraStandIn) -> None:
    """Page after page, while there is a next one."""
    assert [11547, 11548, 11549] == [scenario.id for scenario in await client.scenarios(agent_id=5)]
    assert [11547, 11548] == [scenario.id for scenario in await client.scenarios(agent_id=5, tags=["smoke"])]
    assert [11548] == [scenario.id for scenario in await client.scenarios(agent_id=5, folder_path="Sales.Inbound")]
    assert [] == await client.scenarios(agent_id=6)
    assert 2 + 1 + 1 + 1 == cekura.requests["GET /test_framework/v1/scenarios/"]


async def test_scenarios_may_be_a_bare_array(client: CekuraClient, cekura: CekuraStandIn) -> None:
    """Some of Cekura's lists have no pages."""
    cekura.faults["GET /test_framework/v1/scenarios/"] = [answer(200, [{"id": 1, "name": "One"}])]

    assert ["One"] == [scenario.name for scenario in await client.scenarios(agent_id=5)]


async def test_a_list_that_is_none(client: CekuraClient, cekura: CekuraStandIn) -> None:
    """An item without an id is explained."""
    cekura.faults["GET /test_framework/v1/scenarios/"] = [answer(200, {"results": [{"name": "One"}], "next": None})]

    with pytest.raises(PlatformError, match=r"cannot be used \(a scenario has no id\).*cekura\.base_url") as caught:
        await client.scenarios(agent_id=5)

    assert 3 == caught.value.exit_status


async def test_ending_calls_is_repeated(client: CekuraClient, cekura: CekuraStandIn) -> None:
    """Ending them twice does no harm; not ending them costs money."""
    cekura.faults[END_CALLS] = [answer(502), hang_up]

    await client.end_calls(16870)

    assert 3 == cekura.requests[END_CALLS]


async def test_an_unknown_result(client: CekuraClient) -> None:
    """Wrong use, with advice."""
    with pytest.raises(Refused, match=r"HTTP 404\): Not found\.: check the ids") as caught:
        await client.result(1)

    assert 2 == caught.value.exit_status


async def test_the_key_is_never_shown(cekura: CekuraStandIn) -> None:
    """Neither when Cekura quotes it, nor in the client's own words."""
    async with CekuraClient(cekura.url, "a-wrong-key") as client:
        with pytest.raises(Refused, match=r"Invalid API key \*\*\*\.: correct cekura\.api_key_file") as caught:
            await client.result(1)

        assert "a-wrong-key" not in str(caught.value) + repr(client) + repr(client.http)


def test_no_key() -> None:
    """The setting is named before anything is asked."""
    with pytest.raises(SettingsError, match=r"^cekura\.api_key_file: there is no API key"):
        CekuraClient("https://api.cekura.ai", "")


async def test_observe_sends_the_recording(client: CekuraClient, cekura: CekuraStandIn, tmp_path: Path) -> None:
    """As a file of a form, whose other fields are text or JSON."""
    (tmp_path / "call.wav").write_bytes(b"RIFF")
    seen = {}

    async def observe(request: object) -> object:
        form = await request.post()  # type: ignore[attr-defined]
        seen.update({name: getattr(value, "filename", value) for name, value in form.items()})
        return await answer(201, {"id": 1})(request)  # type: ignore[arg-type]

    cekura.faults["POST /observability/v1/observe/"] = [observe]  # type: ignore[list-item]

    await client.observe({"agent": 5, "call_id": "a", "metadata": {"x": 1}}, tmp_path / "call.wav")

    assert {"agent": "5", "call_id": "a", "metadata": '{"x": 1}', "voice_recording": "call.wav"} == seen
