"""The custom transcript endpoint of the stand-in: what it takes, and what the real one is documented to refuse."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sip_agent.platforms.cekura.simulator.server import Simulator
from tests.platforms.cekura.simulator.switchboard import Client, Switchboard, answered_record, until_over

PATH = "/test_framework/custom-provider-transcript-webhook"
CALL = {"id": "call-1", "startedAt": "2026-08-01T09:22:21.787Z", "endedAt": "2026-08-01T09:24:30.229Z"}


async def a_run(client: Client, telephone: Switchboard) -> int:
    """Play a run, and return its id."""
    telephone.answer = lambda _: answered_record()
    started = await client.start(scenarios=[101])
    await until_over(client, started["id"])
    run_id: int = started["runs"][0]["id"]
    return run_id


@pytest.mark.parametrize("slash", ["", "/"])
async def test_it_is_joined_to_its_run(client: Client, telephone: Switchboard, slash: str) -> None:
    """202, and the run shows the call's id and what was sent."""
    run_id = await a_run(client, telephone)
    call = {
        **CALL,
        "run_id": run_id,
        "trace_id": "f" * 32,
        "to_phone_number": "+14151234567",
        "messages": [
            {"role": "bot", "content": "Hi"},
            {"role": "user", "content": "Hello"},
            {"role": "function_call", "content": "", "data": {"id": "1", "name": "look_up", "arguments": {}}},
        ],
    }

    status, _, _ = await client.ask("POST", PATH + slash, {"calls": [call]})
    run = await client.get(f"/v1/runs/{run_id}/")
    assert (202, "call-1", "f" * 32) == (status, run["provider_call_id"], run["trace_id"])
    assert call == run["provider_call_details"]


@pytest.mark.parametrize(
    ("values", "field", "text"),
    [
        ({"run_id": "34625"}, "run_id", "A valid integer is required."),
        ({"run_id": None}, "run_id", "A valid integer is required."),
        ({"run_id": True}, "run_id", "A valid integer is required."),
        ({"id": None}, "id", "This field is required."),
        ({"id": "x" * 256}, "id", "no more than 255"),
        ({"startedAt": None}, "startedAt", "This field is required."),
        ({"endedAt": "yesterday"}, "endedAt", "wrong format"),
        ({"to_phone_number": "sip:agent@example.com"}, "to_phone_number", "Enter a valid phone number"),
        ({"messages": [{"role": "agent", "content": "Hi"}]}, "messages", '"agent" is not a valid choice.'),
        ({"messages": [{"role": []}, "x"]}, "messages", "is not a valid choice."),
        ({"messages": "Hi"}, "messages", "Expected a list of items."),
    ],
)
async def test_one_wrong_call_refuses_all(
    client: Client, telephone: Switchboard, values: dict[str, Any], field: str, text: str
) -> None:
    """The answer names the field of the call that is wrong, and nothing is taken of the other one."""
    run_id = await a_run(client, telephone)
    right = {**CALL, "run_id": run_id}

    status, document, _ = await client.ask("POST", PATH, {"calls": [right, {**right, **values}]})
    assert 400 == status
    assert {} == document["calls"][0]
    assert text in document["calls"][1][field][0]
    assert None is (await client.get(f"/v1/runs/{run_id}/"))["provider_call_details"]


async def test_a_run_that_does_not_exist(client: Client, telephone: Switchboard) -> None:
    """The documented words, with the ids."""
    run_id = await a_run(client, telephone)
    calls = [{**CALL, "run_id": run_id}, {**CALL, "run_id": 7}]

    status, document, _ = await client.ask("POST", PATH, {"calls": calls})
    assert (400, {"run_id": ["Run IDs not found or deleted: [7]"]}) == (status, document)


@pytest.mark.parametrize("body", [{}, [], {"calls": []}, {"calls": {}}, {"calls": ["x"]}])
async def test_what_is_no_posting(client: Client, body: Any) -> None:
    """It is refused."""
    status, _, _ = await client.ask("POST", PATH, body)

    assert 400 == status


@pytest.mark.parametrize(("age_s", "status"), [(299, 202), (301, 400)])
async def test_five_minutes(
    simulator: tuple[Simulator, Client], telephone: Switchboard, age_s: int, status: int
) -> None:
    """What comes later than five minutes after the call's end is too late."""
    server, client = simulator
    run_id = await a_run(client, telephone)
    server.ledger.runs[run_id].ended_at = datetime.now(UTC) - timedelta(seconds=age_s)

    answer, _, _ = await client.ask("POST", PATH, {"calls": [{**CALL, "run_id": run_id}]})
    assert status == answer


async def test_while_the_call_goes_on(client: Client, telephone: Switchboard) -> None:
    """A transcript may come before the testing agent's side is over."""
    started = await client.start(scenarios=[101])
    await telephone.until(1)

    call = {**CALL, "run_id": started["runs"][0]["id"]}
    status, _, _ = await client.ask("POST", PATH, {"calls": [call]})
    assert 202 == status
    telephone.calls[0].end()
    await until_over(client, started["id"])
