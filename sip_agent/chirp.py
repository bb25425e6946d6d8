"""Calls by WebSocket: Cekura's CHIRP, in which it dials us. A call like any other from here on.

Source: docs.cekura.ai/documentation/integrations/websocket-chirp. 16-bit sound at 16 kHz as binary messages, `X-`
headers on the upgrade, a few JSON events. There is no ringing: the upgrade is accepted with the answer.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Protocol

import structlog

from sip_agent.handlers.websocket.dialect import UnreadableMessage
from sip_agent.handlers.websocket.pcm import checked_sound, read_chirp_event, session_error
from sip_agent.pcm_call import CallRequest, PcmDialog, PcmEndpoint, PcmOffer
from sip_agent.status import EndedBy, SipStatus

log = structlog.get_logger()

UNSENT_FRAMES_MAX = 50
"""A second of sound for a caller that does not read; then the oldest goes."""

UNREADABLE_MAX = 50
"""A caller that sent so many messages which CHIRP does not have is sent away (1008)."""

NORMAL, POLICY_VIOLATION, INTERNAL_ERROR = 1000, 1008, 1011
GOODBYES = (NORMAL, 1001, 1005)
"""Close codes of a caller that hangs up: normal, going away, and a close frame without a code."""

CLOSE_TIMEOUT_S = 2.0


class Socket(Protocol):
    """The WebSocket of a call, once it is open."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""

    async def send_str(self, data: str) -> None:
        """Send a text message."""

    async def close(self, *, code: int, message: bytes) -> bool:
        """Close in order, with a code and a reason."""


class ChirpDialog(PcmDialog):
    """One call by WebSocket, and what the HTTP side serves: `open`, `take`, `closed`."""

    medium = "WebSocket"

    def __init__(self, endpoint: PcmEndpoint) -> None:
        super().__init__(endpoint)
        self._socket: Socket | None = None
        self._opened = asyncio.Event()
        self._outbox: deque[bytes] = deque(maxlen=UNSENT_FRAMES_MAX)
        self._unsent = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._closing: asyncio.Event | None = None
        self._goodbye: asyncio.Task[None] | None = None
        self._unreadable = 0

    def open(self, socket: Socket) -> None:
        """Let sound flow: the upgrade was accepted. A call that has ended meanwhile is closed at once."""
        self._socket = socket
        if self._over.is_set():
            self._goodbye = asyncio.create_task(self._close_socket(NORMAL, "the call is over"), name="chirp goodbye")
            return
        self._sender = asyncio.create_task(self._send(socket), name="chirp sender")
        self._open(self._transmit)
        self._opened.set()

    async def take(self, message: str | bytes) -> None:
        """Take what the caller sent."""
        try:
            if isinstance(message, bytes):
                self._port.receive(checked_sound(message))
            else:
                read_chirp_event(message)
        except UnreadableMessage as error:
            await self._drop(error)

    async def until_closed(self) -> None:
        """Wait for the end of the closing that we began, if we did: the connection has to last so long."""
        if self._closing is not None:
            await self._closing.wait()

    def fail(self, error: Exception) -> None:
        """Take note of why the connection cannot go on; `closed` follows."""
        if self._ending is None:
            self._ending = EndedBy.SYSTEM, f"the WebSocket broke off: {str(error) or type(error).__name__}"

    def closed(self, code: int | None) -> None:
        """Take note that the connection is over; None says that it never opened."""
        if self._ending is None:
            if code in GOODBYES or code is None:
                self._ending = EndedBy.CALLER, "the caller closed the WebSocket"
            else:
                self._ending = EndedBy.SYSTEM, f"the WebSocket broke off (close code {code})"
        self._end(SipStatus.REQUEST_TERMINATED if code is None else SipStatus.OK)

    async def _connect(self, headers: Sequence[tuple[str, str]]) -> None:
        self.decide(HTTPStatus.SWITCHING_PROTOCOLS, headers)
        await self._opened.wait()

    async def _disconnect(self, reason: str, *, failed: bool) -> None:
        await self._close_socket(INTERNAL_ERROR if failed else NORMAL, reason)

    def _transmit(self, sound: bytes) -> None:
        if sound:
            self._outbox.append(sound)
            self._unsent.set()

    async def _send(self, socket: Socket) -> None:
        while True:
            await self._unsent.wait()
            self._unsent.clear()
            try:
                while self._outbox:
                    await socket.send_bytes(self._outbox.popleft())
            except (ConnectionError, RuntimeError):  # it is closing; whoever reads it says why
                return

    async def _drop(self, error: UnreadableMessage) -> None:
        self._unreadable += 1
        if self._unreadable == 1:
            log.warning("chirp.message_dropped", error=str(error), hint="further ones of this call are only counted")
        if self._unreadable >= UNREADABLE_MAX:
            self._ending = EndedBy.SYSTEM, f"the caller sent {UNREADABLE_MAX} messages that are not CHIRP"
            await self._close_socket(POLICY_VIOLATION, "too many messages that are not CHIRP")
        elif self._socket is not None:
            await self._socket.send_str(session_error(error))

    async def _close_socket(self, code: int, reason: str) -> None:
        if self._socket is None or self._closing is not None:
            return
        self._closing = asyncio.Event()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._socket.close(code=code, message=reason.encode()[:120])
        except (TimeoutError, ConnectionError):
            log.debug("chirp.close_failed")
        finally:
            self._closing.set()
        self._end(SipStatus.OK)

    def _end(self, status: int) -> None:
        super()._end(status)
        self._opened.set()
        if self._sender is not None:
            self._sender.cancel()


class ChirpEndpoint(PcmEndpoint):
    """Takes calls by WebSocket for a call flow.

    `protected` says whether callers are told apart at all (passwords or an allow list).
    """

    def __init__(
        self, on_offer: Callable[[PcmOffer], None], *, sample_rate_hz: int, cushion_ms: int, protected: bool
    ) -> None:
        super().__init__(on_offer, sample_rate_hz=sample_rate_hz, cushion_ms=cushion_ms)
        self.protected = protected

    def offer(self, request: CallRequest) -> ChirpDialog:
        """Hand a request to the call flow; the dialog's `decision` says what becomes of it."""
        dialog = ChirpDialog(self)
        self.hand_over(dialog, request)
        return dialog
