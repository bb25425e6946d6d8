"""Our own records, from the store and from the agent's HTTP API: the same ones."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sip_agent.errors import SettingsError
from sip_agent.platforms.errors import PlatformError, Refused
from sip_agent.platforms.http import HttpClient, Service
from sip_agent.platforms.records import AgentRecords, StoredRecords
from sip_agent.record import CallRecord
from tests.api.conftest import NOW, StartApi, new_record, start_api

__all__ = ["new_record", "start_api"]


def agent_at(url: str, token: str = "") -> HttpClient:
    """Return a client of an agent's API."""
    service = Service(
        name="the agent", base_url=url, base_url_setting="--agent-url", credentials_setting="api.token_file"
    )
    return HttpClient(service, headers={"Authorization": f"Bearer {token}"} if token else {})


async def test_both_sources_agree(
    start_api: StartApi, new_record: Callable[..., CallRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oldest first, from a moment on, page by page."""
    api = await start_api(token="t0ken")
    for number in range(7):
        await api.store.finish(new_record(run_id=str(number)))
    monkeypatch.setattr("sip_agent.platforms.records._PAGE", 2)
    since = NOW + timedelta(seconds=3)

    async with agent_at(api.server.url, "t0ken") as client:
        asked = await AgentRecords(client).since(since)
    stored = await StoredRecords("sqlite:///calls.db", tmp_path).since(since)

    assert ["2", "3", "4", "5", "6"] == [record["run_id"] for record in stored]
    assert stored == asked


async def test_a_wrong_token(start_api: StartApi) -> None:
    """The setting is named."""
    api = await start_api(token="t0ken")
    async with agent_at(api.server.url, "wrong") as client:
        with pytest.raises(Refused, match=r"HTTP 401.*correct api\.token_file"):
            await AgentRecords(client).since(NOW)


async def test_something_else_answers(start_api: StartApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no agent is explained."""

    async def other(*_: Any, **__: Any) -> Any:
        return {"hello": "world"}

    api = await start_api()
    async with agent_at(api.server.url) as client:
        monkeypatch.setattr(client, "get", other)
        with pytest.raises(PlatformError, match=r"gives no call records: is this the HTTP API of an agent"):
            await AgentRecords(client).since(NOW)


async def test_no_store(tmp_path: Path) -> None:
    """The setting is named."""
    with pytest.raises(SettingsError, match=r"^store\.url: there are no call records"):
        await StoredRecords("sqlite:///calls.db", tmp_path).since(NOW)
