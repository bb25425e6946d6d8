"""The records of our own calls: from the agent's store, or from its HTTP API where it runs elsewhere."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from sip_agent.platforms.errors import PlatformError
from sip_agent.platforms.http import HttpClient
from sip_agent.record import format_timestamp
from sip_agent.store import CallQuery, reading

RECORDS_MAX = 20_000
"""Calls that one wait looks at: those of the busiest test, and not of a year."""

_PAGE = 1000
"""What `GET /calls` gives at most."""


class RecordSource(Protocol):
    """Where call records come from."""

    async def since(self, moment: datetime) -> list[dict[str, Any]]:
        """Return the records of calls that came in since a moment, oldest first; raises SipAgentError."""


class StoredRecords:
    """Reads the store that `url` names, beside the agent that writes it."""

    def __init__(self, url: str, base_dir: Path) -> None:
        self._url = url
        self._base_dir = base_dir

    async def since(self, moment: datetime) -> list[dict[str, Any]]:
        """Return the records since a moment, oldest first; raises SettingsError if the store cannot be read."""
        return await asyncio.to_thread(self._read, moment)

    def _read(self, moment: datetime) -> list[dict[str, Any]]:
        with reading(self._url, base_dir=self._base_dir) as store:
            return store.search(CallQuery(since=moment, limit=RECORDS_MAX))[::-1]


class AgentRecords:
    """Asks an agent's HTTP API."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def since(self, moment: datetime) -> list[dict[str, Any]]:
        """Return the records since a moment, oldest first; raises PlatformError."""
        found: dict[str, dict[str, Any]] = {}
        params = {"since": str(format_timestamp(moment)), "limit": str(_PAGE)}
        while len(found) < RECORDS_MAX:
            answer = await self._client.get("/calls", params=params, patience_s=0)
            page = answer.get("calls") if isinstance(answer, dict) else None
            if not isinstance(page, list) or not all(isinstance(item, dict) and "call_uuid" in item for item in page):
                raise PlatformError(
                    f"{self._client.service.base_url}/calls gives no call records",
                    f"is this the HTTP API of an agent? correct {self._client.service.base_url_setting}",
                )
            found |= {item["call_uuid"]: item for item in page}
            if len(page) < _PAGE:
                break
            params["until"] = page[-1]["invite_received_at"]
        return list(found.values())[::-1]
