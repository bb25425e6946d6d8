"""The webhooks of the stand-in, as an agent receives them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sip_agent.platforms.cekura.simulator import webhooks
from tests.platforms.cekura.simulator.switchboard import Switchboard, answered_record, serving, until_over, write_setup
from tests.serving import serving_application


@dataclass
class Receiver:
    """Notes webhooks, and answers with `statuses` one after the other, then 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    received: asyncio.Queue[tuple[dict[str, str], Any]] = field(default_factory=asyncio.Queue)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        """Note one, and answer it when the test allows it."""
        self.received.put_nowait((dict(request.headers), await request.json()))
        await self.gate.wait()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    """Serve a receiver that answers at once, and let nobody wait between attempts."""
    monkeypatch.setattr(webhooks, "RETRY_PAUSE_S", 0)
    receiver = Receiver()
    receiver.gate.set()
    application = web.Application()
    application.router.add_post("/hook", receiver.take)
    async with serving_application(application) as address:
        receiver.url = f"{address}/hook"
        yield receiver


def project(receiver: Receiver) -> str:
    """Return the lines of the scenarios file for it."""
    return f"webhook: {{url: '{receiver.url}', secret: s3cret, notify_pre_run_webhook: true}}\n"


async def test_the_calls_wait_for_the_pre_run_webhook(
    tmp_path: Path, telephone: Switchboard, receiver: Receiver
) -> None:
    """It announces the runs, with the secret and a key against repetition, and is answered before the first call."""
    receiver.gate.clear()
    telephone.answer = lambda _: answered_record()
    async with serving(write_setup(tmp_path, project(receiver)), telephone, tmp_path) as (_, client):
        started = await client.start(scenarios=[101], name="Nightly")
        headers, document = await receiver.received.get()

        (run,) = (await client.get(f"/v2/results/{started['id']}/"))["runs"].values()
        assert ("pending", []) == (run["status"], telephone.calls)
        assert "s3cret" == headers["X-CEKURA-SECRET"]
        assert f"result_pre_trigger:{started['id']}" == headers["X-CEKURA-IDEMPOTENCY-KEY"]
        assert "result.pre_trigger" == document["event_type"]
        data = document["data"]
        assert (started["id"], "Nightly", "5") == (data["result_id"], data["label"], data["agent_id"])
        (announced,) = data["runs"].values()
        assert {"id": 101, "name": "Books a table"} == announced["scenario"]
        assert {"id": 7, "name": "Direct Communicator"} == announced["personality"]
        assert "premium" == announced["test_profile"]["information"]["main_agent_variables"]["X-Tier"]
        receiver.gate.set()
        await until_over(client, started["id"])
        await receiver.received.get()


async def test_a_result_that_is_over(tmp_path: Path, telephone: Switchboard, receiver: Receiver) -> None:
    """`result.completed` has every run with its verdict."""
    telephone.answer = lambda _: answered_record()
    async with serving(write_setup(tmp_path, project(receiver)), telephone, tmp_path) as (_, client):
        started = await client.start(scenarios=[101])
        await receiver.received.get()
        headers, document = await receiver.received.get()

    assert "s3cret" == headers["X-CEKURA-SECRET"]
    data = document["data"]
    assert ("result.completed", started["id"], "completed") == (document["event_type"], data["id"], data["status"])
    (run,) = data["runs"].values()
    assert (True, 101, "") == (run["success"], run["scenario"]["id"], run["error_message"])
    assert 100 == run["expected_outcome"]["score"]


async def test_it_is_tried_again_three_times(tmp_path: Path, telephone: Switchboard, receiver: Receiver) -> None:
    """With the same key; the calls are placed also when nobody takes it."""
    receiver.statuses = [500] * 4
    telephone.answer = lambda _: answered_record()
    async with serving(write_setup(tmp_path, project(receiver)), telephone, tmp_path) as (_, client):
        started = await client.start(scenarios=[101])
        await until_over(client, started["id"])
        received = [await receiver.received.get() for _ in range(5)]

    assert ["result.pre_trigger"] * 4 + ["result.completed"] == [document["event_type"] for _, document in received]
    assert 1 == len({headers["X-CEKURA-IDEMPOTENCY-KEY"] for headers, _ in received[:4]})


async def test_the_agents_own_webhook(tmp_path: Path, telephone: Switchboard, receiver: Receiver) -> None:
    """It goes before the project's; and what nobody takes does no harm."""
    setup = write_setup(tmp_path, "webhook: {url: 'http://127.0.0.1:9/nobody', secret: x}\n")
    agent = setup.agents[5].model_copy(update={"webhook_url": receiver.url})
    setup.agents[5] = agent
    telephone.answer = lambda _: answered_record()
    async with serving(setup, telephone, tmp_path) as (_, client):
        started = await client.start(scenarios=[101])
        elsewhere = await client.start(agent_id=6, scenarios=[201], sip_endpoint="sip:a@127.0.0.1")
        await until_over(client, elsewhere["id"])
        _, document = await receiver.received.get()

    assert started["id"] == document["data"]["id"]
