"""An engine for each test, in a process of its own: pjsua exists once per process, and never a second time."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pjsua2_native as pj

REPOSITORY = Path(__file__).parents[2]
CHILD_MARK = "SIP_AGENT_ENGINE_TEST"
SAMPLE_RATE_HZ = 8000
PATIENCE_S = 20.0
"""How long a condition may take to come true before a test fails: far longer than it ever takes."""


def engine_test(**gate: Any) -> Callable[[Callable[[Engine], None]], Callable[[], None]]:
    """Make pytest run the test in a new process, with a started engine; `gate` are InviteGate's arguments."""

    def decorate(test: Callable[[Engine], None]) -> Callable[[], None]:
        def run() -> None:
            if CHILD_MARK in os.environ:
                with Engine(**gate) as engine:
                    test(engine)
                return
            node = f"{test.__code__.co_filename}::{test.__name__}"
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", node],
                cwd=REPOSITORY,
                env={**os.environ, CHILD_MARK: "1"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr

        # Not functools.wraps: pytest would look through it and ask for a fixture named like the argument.
        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        return run

    return decorate


class Engine:
    """pjsua2 on this thread, its bridge driven by a BridgeClock, a gate before it, an account behind it."""

    def __init__(self, **gate: Any) -> None:
        self.endpoint = pj.Endpoint()
        self.endpoint.libCreate()
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.logConfig.level = config.logConfig.consoleLevel = 0
        config.medConfig.clockRate = SAMPLE_RATE_HZ
        config.medConfig.noVad = True
        config.medConfig.ecTailLen = 0
        self.endpoint.libInit(config)
        self.clock = pj.BridgeClock()
        self.waker = pj.Waker()
        self.gate = pj.InviteGate(**gate)
        self.udp_port = self._listen(pj.PJSIP_TRANSPORT_UDP)
        self.tcp_port = self._listen(pj.PJSIP_TRANSPORT_TCP)
        self.endpoint.libStart()
        self.clock.start()
        self.account = Account()
        self.open_sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in self.open_sockets:
            opened.close()
        self.clock.stop()
        if error is not None:
            return  # what a failed test left behind may not survive an orderly shutdown; its report must
        self.account.calls.clear()
        self.account.shutdown()
        self.waker.close()
        self.gate.close()
        self.endpoint.libDestroy(pj.PJSUA_DESTROY_NO_NETWORK)

    def _listen(self, kind: int) -> int:
        config = pj.TransportConfig()
        config.boundAddress = "127.0.0.1"
        transport = self.endpoint.transportCreate(kind, config)
        return int(self.endpoint.transportGetInfo(transport).localName.rpartition(":")[2])

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """Handle SIP events until the condition is true; return its value."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            self.endpoint.libHandleEvents(2)
            if value := condition():
                return value
        raise TimeoutError

    def ticks(self, count: int) -> int:
        """Wait until the bridge has ended at least so many more ticks; return how many it were."""
        self.ended_ticks(0)
        ended = 0
        while ended < count:
            ended += self.ended_ticks()
        return ended

    def ticks_until(self, condition: Callable[[], Any]) -> None:
        """Wait tick by tick until the condition is true."""
        for _ in range(1000):
            if condition():
                return
            self.ticks(1)
        raise TimeoutError

    def ended_ticks(self, patience_s: float = PATIENCE_S) -> int:
        """Return how many ticks have ended since this was last asked; when none, wait for the next."""
        readable, _, _ = select.select([self.clock.fileno()], [], [], patience_s)
        if not readable and patience_s:
            raise TimeoutError
        return os.eventfd_read(self.clock.fileno()) if readable else 0


class Account(pj.Account):  # type: ignore[misc]
    """Takes every call that reaches pjsua, and leaves it ringing."""

    call_class: type[Any] = pj.Call

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        config = pj.AccountConfig()
        config.idUri = "sip:agent@127.0.0.1"
        self.create(config)

    def onIncomingCall(self, prm: Any) -> None:  # noqa: N802 - pjsua2's name
        """Keep the call."""
        self.calls.append(self.call_class(self, prm.callId))


class Caller:
    """A socket on loopback that speaks SIP as text."""

    def __init__(self, engine: Engine, transport: str = "UDP") -> None:
        self.transport = transport
        udp = transport == "UDP"
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        engine.open_sockets.append(self.socket)
        self.socket.connect(("127.0.0.1", engine.udp_port if udp else engine.tcp_port))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]

    def request(
        self,
        method: str,
        transaction: int = 1,
        *,
        call: str = "call-1",
        extra: bytes = b"",
        to_tag: str = "",
        sdp: str = "",
    ) -> bytes:
        """Return a request. A CANCEL has the transaction number of the INVITE it withdraws."""
        head = (
            f"{method} sip:agent@127.0.0.1 SIP/2.0\r\n"
            f"Via: SIP/2.0/{self.transport} 127.0.0.1:{self.port};rport;branch=z9hG4bK-{call}-{transaction}\r\n"
            "From: <sip:caller@127.0.0.1>;tag=caller\r\n"
            f"To: <sip:agent@127.0.0.1>{f';tag={to_tag}' if to_tag else ''}\r\n"
            f"Call-ID: {call}\r\n"
            f"CSeq: {transaction} {method}\r\n"
            f"Contact: <sip:caller@192.0.2.1:5099;maddr=192.0.2.2>\r\n"
            "Max-Forwards: 70\r\n"
        )
        content_type = "Content-Type: application/sdp\r\n" if sdp else ""
        tail = f"{content_type}Content-Length: {len(sdp)}\r\n\r\n{sdp}"
        return head.encode() + extra + tail.encode()

    def send(self, message: bytes) -> bytes:
        """Send the message in one piece and return it."""
        self.socket.send(message)
        return message

    def received(self) -> str:
        """Return what has come since, a datagram or what there is of a stream; an empty string when nothing has."""
        try:
            return self.socket.recv(65535).decode(errors="replace")
        except BlockingIOError:
            return ""


OFFER = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)


def status_of(message: str) -> str:
    """Return the first line without the version: `200 OK`, or a request's method and URI."""
    return message.partition("\r\n")[0].removeprefix("SIP/2.0 ").removesuffix(" SIP/2.0")


def header(message: str, name: str) -> str:
    """Return the value of a header field."""
    return next(line.partition(": ")[2] for line in message.splitlines() if line.startswith(f"{name}:"))
