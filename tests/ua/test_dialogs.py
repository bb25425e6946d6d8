"""One call's dialog between its two threads, on stand-ins for pjsua2's objects: in which order things become known."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sip_agent.events import CallConfirmed, CallDisconnected, CallEvent, Responded
from sip_agent.ua import engine
from sip_agent.ua.dialogs import ACK_TIMEOUT_S, Dialog

CONFIRMED, DISCONNECTED, RECEIVED, SENT, TIMER = range(5)


class Endpoint:
    """What a dialog needs of its endpoint; what the SIP thread says is heard at once."""

    cushion_ms = sample_rate_hz = 0
    takes_srtp = False

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.sip_thread = self
        self.pump = SimpleNamespace(add=lambda _: None, remove=lambda _: None)

    def deliver(self, function: Callable[..., None], *arguments: Any) -> None:
        """See `SipThread`."""
        function(*arguments)

    def forget(self, _: Dialog) -> None:
        """See `Endpoint`."""


class PjCall:
    """A call of pjsua2, in a state that the test chooses."""

    def __init__(self) -> None:
        self.info = SimpleNamespace(callIdString="1@example.com", state=-1, lastStatusCode=200, lastReason="OK")

    def getInfo(self) -> Any:  # noqa: N802
        """Tell the state."""
        return self.info

    def release(self) -> None:
        """Do nothing."""


class Port:
    """A port on the bridge."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        """Count."""
        self.closed += 1


@pytest.fixture(autouse=True)
def _library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the constants in the place of pjsua2's."""
    pj = SimpleNamespace(
        PJSIP_INV_STATE_CONFIRMED=CONFIRMED,
        PJSIP_INV_STATE_DISCONNECTED=DISCONNECTED,
        PJSIP_TSX_STATE_TRYING=TIMER,
        PJSIP_EVENT_RX_MSG=RECEIVED,
        PJSIP_EVENT_TX_MSG=SENT,
        PJSIP_EVENT_TSX_STATE=TIMER,
    )
    monkeypatch.setattr(engine, "load", lambda: pj)


def opened(*, outbound: bool) -> tuple[Dialog, PjCall, list[CallEvent]]:
    """Return a dialog, its call, and the events that it has reported."""
    dialog: Any = Dialog(Endpoint(), outbound=outbound)  # type: ignore[arg-type]
    pj_call = PjCall()
    events: list[CallEvent] = []
    dialog.adopt(pj_call)
    dialog.listen(events.append)
    return dialog, pj_call, events


def response(status: int, direction: int) -> Any:
    """Return what pjsua2 tells of a response to the INVITE."""
    transaction = SimpleNamespace(method="INVITE", state=-1, statusCode=status)
    return SimpleNamespace(
        e=SimpleNamespace(body=SimpleNamespace(tsxState=SimpleNamespace(tsx=transaction, type=direction)))
    )


async def test_the_answer_is_known_before_who_waits_for_it_goes_on() -> None:
    """pjsua2 tells of the 200 to a call that we placed after it has told that the call is confirmed; once is enough."""
    dialog, pj_call, events = opened(outbound=True)
    dialog.on_transaction(response(180, RECEIVED))
    pj_call.info.state = CONFIRMED
    dialog.on_state(None)
    dialog.on_transaction(response(200, RECEIVED))

    assert [180, 200] == [event.status for event in events if isinstance(event, Responded)]
    assert isinstance(events[-1], CallConfirmed)


async def test_a_port_is_closed_though_the_call_was_given_up_before() -> None:
    """A 200 that nobody acknowledged: the call is over for us half a minute before pjsua2 lets go of it."""
    dialog, pj_call, events = opened(outbound=False)
    port: Any = Port()
    dialog._port = port
    dialog.on_transaction(response(200, SENT))
    dialog.check(1.0, 0)
    dialog.check(1.0 + 2 * ACK_TIMEOUT_S, 0)
    given_up = [type(event) for event in events]
    pj_call.info.state = DISCONNECTED
    dialog.on_state(
        SimpleNamespace(e=SimpleNamespace(type=TIMER, body=SimpleNamespace(tsxState=SimpleNamespace(type=TIMER))))
    )

    assert [Responded, CallDisconnected] == given_up == [type(event) for event in events]
    assert 1 == port.closed
