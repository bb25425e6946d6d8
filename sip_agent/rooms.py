"""Calls in rooms: the agent joins a room of a WebRTC platform, and whoever comes there is its caller.

The platform's part is a `Room`; from here on it is a call like any other. There is no ringing: with the answer the
agent joins, and the call begins when the guest is there.
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol

import structlog

from sip_agent.errors import UserAgentError
from sip_agent.pcm_call import CallRequest, PcmDialog, PcmEndpoint
from sip_agent.status import EndedBy, SipStatus

log = structlog.get_logger()

LEAVE_TIMEOUT_S = 5.0


class RoomListener(Protocol):
    """Hears what happens in a room; every method is called on the event loop."""

    def guest_joined(self) -> None:
        """Take note that the guest is there."""

    def heard(self, sound: bytes) -> None:
        """Take what the guest said: int16, 16 kHz, mono, of any length."""

    def guest_left(self) -> None:
        """Take note that the guest has gone."""

    def lost(self, reason: str) -> None:
        """Take note that the room broke off."""


class Room(Protocol):
    """A place for one call, not joined yet. `medium` is what its calls are by, like "Agora"."""

    medium: str

    async def join(self, listener: RoomListener) -> None:
        """Join, and let the listener know of everything from now on; raises UserAgentError."""

    def send(self, sound: bytes) -> None:
        """Say 20 ms (int16, 16 kHz, mono); never waits."""

    async def leave(self) -> None:
        """Leave, whether the room was joined or not; once."""


class RoomDialog(PcmDialog):
    """One call in a room."""

    def __init__(self, endpoint: PcmEndpoint, room: Room, join_timeout_s: float) -> None:
        super().__init__(endpoint)
        self.medium = room.medium
        self._room = room
        self._join_timeout_s = join_timeout_s
        self._settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leaving: asyncio.Task[None] | None = None

    async def respond(self, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False) -> None:
        """See `Dialog`: with the first response the request is granted, so that the guest may come."""
        self.decide(HTTPStatus.OK)
        await super().respond(status, headers, early_media=early_media)

    def guest_joined(self) -> None:
        """See `RoomListener`."""
        if not self._settled.done():
            self._settled.set_result(None)

    def heard(self, sound: bytes) -> None:
        """See `RoomListener`."""
        self._port.receive(sound)  # also before the handler listens: the first word is not to be lost

    def guest_left(self) -> None:
        """See `RoomListener`."""
        self._end_as(EndedBy.CALLER, "the caller left")

    def lost(self, reason: str) -> None:
        """See `RoomListener`."""
        self._end_as(EndedBy.SYSTEM, reason)

    async def _connect(self, headers: Sequence[tuple[str, str]]) -> None:
        del headers  # nobody is there to read them
        try:
            async with asyncio.timeout(self._join_timeout_s):
                await self._room.join(self)
                await self._settled
        except TimeoutError:
            self._ending = EndedBy.SYSTEM, f"nobody came within {self._join_timeout_s:g} s ({self.medium})"
            self._end(SipStatus.REQUEST_TIMEOUT)
        except UserAgentError as error:
            self._ending = EndedBy.SYSTEM, str(error)
            self._end(SipStatus.SERVER_INTERNAL_ERROR)
            raise
        except BaseException:
            self._end(SipStatus.SERVER_INTERNAL_ERROR)
            raise
        if not self._over.is_set():
            self._open(self._room.send)

    async def _disconnect(self, reason: str, *, failed: bool) -> None:
        del reason, failed  # a room is left without a word
        self._end(SipStatus.OK)
        if self._leaving is not None:
            await asyncio.wait({self._leaving}, timeout=LEAVE_TIMEOUT_S)

    def _end_as(self, ended_by: EndedBy, reason: str) -> None:
        self._ending = self._ending or (ended_by, reason)
        self._end(SipStatus.OK if self.audio is not None else SipStatus.REQUEST_TERMINATED)

    def _end(self, status: int) -> None:
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave(), name=f"leave {self.medium}")
        super()._end(status)
        self.guest_joined()

    async def _leave(self) -> None:
        try:
            await self._room.leave()
        except UserAgentError as error:
            log.warning("room.leave_failed", error=str(error))


class RoomEndpoint(PcmEndpoint):
    """Takes calls in rooms for a call flow."""

    def offer(self, request: CallRequest, room: Room, *, join_timeout_s: float) -> RoomDialog:
        """Hand a request to the call flow; its room is joined if the call is answered."""
        dialog = RoomDialog(self, room, join_timeout_s)
        self.hand_over(dialog, request)
        return dialog
