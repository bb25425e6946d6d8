"""Rooms for Pipecat runs: sessions of a Pipecat bot, or bare rooms at Daily that the agent joins itself.

Sources: docs.pipecat.ai (Pipecat Cloud's REST reference: start and stop a session), the runner of pipecat-ai 1.14
(`POST /start`), docs.daily.co/reference/rest-api (rooms, meeting tokens), docs.cekura.ai (Pipecat, manual testing).
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, Self
from urllib.parse import quote, urlsplit

from sip_agent.config import PipecatSettings
from sip_agent.errors import SettingsError
from sip_agent.platforms.cekura.model import Run
from sip_agent.platforms.errors import PlatformError, Refused, Unavailable
from sip_agent.platforms.http import Clock, HttpClient, Service, ServiceClient

ROOM_LIFETIME_S = 2 * 3600
"""A room that nobody deletes is gone after that, and whoever is in it is sent out."""

_CLOUD = re.compile(r"(?P<base>https?://[^/]+/v1)/public/(?P<agent>[^/]+)/start")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in a Daily room for Cekura; `key` is what the room or session is closed by, "" if by nothing.

    `agent_token` is for the agent, where it joins itself.
    """

    room_url: str
    token: str = field(repr=False)
    key: str = ""
    agent_token: str = field(default="", repr=False)


class Places(Protocol):
    """Where rooms come from; an asynchronous context manager. Methods raise PlatformError."""

    async def __aenter__(self) -> Self:
        """Open the connections."""

    async def __aexit__(self, *error: object) -> None:
        """Close them."""

    async def open(self) -> Place:
        """Make a new place; the request is sent once."""

    async def close(self, place: Place) -> None:
        """Give a place back."""


class PipecatSessions(ServiceClient):
    """Sessions of a bot, started at Pipecat Cloud or at a runner; the bot is in the room then."""

    def __init__(self, settings: PipecatSettings, *, clock: Clock | None = None) -> None:
        self._url = settings.start_url
        self._cloud = _CLOUD.fullmatch(self._url)
        public_key = settings.public_key.get_secret_value()
        self._private_key = settings.private_key.get_secret_value()
        if not self._url:
            raise SettingsError(
                "pipecat.start_url: not set: write the address of the bot's start endpoint, like "
                "https://api.pipecat.daily.co/v1/public/AGENT/start, or let the agent join itself: --join"
            )
        if self._cloud and not public_key:
            raise SettingsError(
                "pipecat.public_key_file: not set: Pipecat Cloud starts no session without its public key (pk_…)"
            )
        parts = urlsplit(self._url)
        service = Service(
            name="Pipecat",
            base_url=f"{parts.scheme}://{parts.netloc}",
            base_url_setting="pipecat.start_url",
            credentials_setting="pipecat.public_key_file (or private_key_file, to stop sessions)",
        )
        headers = {"Authorization": f"Bearer {public_key}"} if public_key else {}
        secrets = (public_key, self._private_key)
        super().__init__(HttpClient(service, headers=headers, secrets=secrets, clock=clock))

    async def open(self) -> Place:
        """Start a session, once."""
        try:
            answer = await self.http.post(self._url, json={"createDailyRoom": True, "body": {}})
        except Unavailable as error:
            if not error.sent:
                raise
            raise PlatformError(
                f"a session may have been started: {error.message}", "one that nobody joins ends by itself"
            ) from error
        room_url = _text(answer, "dailyRoom")
        if not room_url:
            raise PlatformError(
                "Pipecat's answer names no Daily room",
                "does the bot use Daily? a runner of yours is started with -t daily",
            )
        return Place(room_url=room_url, token=_text(answer, "dailyToken"), key=_text(answer, "sessionId"))

    async def close(self, place: Place) -> None:
        """Stop a session at Pipecat Cloud, if there is a private key; others end when all have left."""
        if not (self._cloud and self._private_key and place.key):
            return
        url = f"{self._cloud['base']}/agents/{self._cloud['agent']}/sessions/{quote(place.key, safe='')}"
        await _delete(self.http, url, headers={"Authorization": f"Bearer {self._private_key}"})


class DailyRooms(ServiceClient):
    """Rooms made at Daily, each with a token for Cekura and one for the agent."""

    def __init__(self, settings: PipecatSettings, *, clock: Clock | None = None) -> None:
        key = settings.daily_api_key.get_secret_value()
        if not key:
            raise SettingsError(
                "pipecat.daily_api_key_file: not set: --join makes rooms at Daily with its API key "
                "(Daily's dashboard has it under Developers)"
            )
        service = Service(
            name="Daily",
            base_url=settings.daily_api_url,
            base_url_setting="pipecat.daily_api_url",
            credentials_setting="pipecat.daily_api_key_file",
        )
        headers = {"Authorization": f"Bearer {key}"}
        super().__init__(HttpClient(service, headers=headers, secrets=(key,), clock=clock))

    async def open(self) -> Place:
        """Make a private room and its tokens."""
        expires_at_s = int(time.time()) + ROOM_LIFETIME_S
        properties = {"exp": expires_at_s, "eject_at_room_exp": True}
        room = await self.http.post("/rooms", json={"privacy": "private", "properties": properties})
        name, url = _text(room, "name"), _text(room, "url")
        if not name or not url:
            raise PlatformError("Daily's answer names no room", "is pipecat.daily_api_url right?")
        place = Place(room_url=url, token="", key=name)
        try:
            tokens = [await self._token(name, expires_at_s, owner=owner) for owner in (False, True)]
        except PlatformError:
            await self.close(place)
            raise
        return Place(room_url=url, token=tokens[0], key=name, agent_token=tokens[1])

    async def close(self, place: Place) -> None:
        """Delete a room."""
        await _delete(self.http, f"/rooms/{quote(place.key, safe='')}")

    async def _token(self, room_name: str, expires_at_s: int, *, owner: bool) -> str:
        properties = {"room_name": room_name, "exp": expires_at_s, "is_owner": owner}
        token = _text(await self.http.post("/meeting-tokens", json={"properties": properties}), "token")
        if not token:
            raise PlatformError("Daily's answer has no meeting token")
        return token


async def _delete(http: HttpClient, path: str, **content: Any) -> None:
    try:
        await http.request("DELETE", path, **content)
    except Refused as error:
        if error.status != HTTPStatus.NOT_FOUND:  # over already
            raise


def run_body(agent_id: int, scenario_ids: Sequence[int], places: Sequence[Place]) -> dict[str, Any]:
    """Return what Cekura's `run_scenarios_pipecat` is sent: one run for each scenario and its place."""
    scenarios = [
        {"scenario": scenario_id, "pipecat_room_url": place.room_url}
        | ({"pipecat_token": place.token} if place.token else {})
        for scenario_id, place in zip(scenario_ids, places, strict=True)
    ]
    return {"agent": agent_id, "scenarios": scenarios}


def assign(runs: Iterable[Run], scenario_ids: Sequence[int], places: Sequence[Place]) -> list[tuple[Run, Place]]:
    """Return the place of each run, told by its scenario; several of one scenario are taken in their order."""
    free: dict[int, list[Place]] = {}
    for scenario_id, place in zip(scenario_ids, places, strict=True):
        free.setdefault(scenario_id, []).append(place)
    return [
        (run, free[run.scenario_id].pop(0)) for run in runs if run.scenario_id is not None and free.get(run.scenario_id)
    ]


def _text(document: Any, key: str) -> str:
    value = document.get(key) if isinstance(document, Mapping) else None
    return value if isinstance(value, str) else ""
