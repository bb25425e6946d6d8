"""A dialog that misbehaves on purpose, between a real `Call` and a faked user agent."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from media.frames import Samples, samples_per_frame
from sip_agent.call import Call, ConversationHandler
from sip_agent.config import FaultSettings, RouteSettings
from sip_agent.conversation import complete, hold_conversation
from sip_agent.errors import CallRejected, SettingsError
from sip_agent.faults import refuse_native_faults, spoil
from sip_agent.handlers.echo import EchoHandler
from sip_agent.handlers.reject import RejectHandler
from sip_agent.handlers.silence import SilenceHandler
from sip_agent.handlers.tone import ToneHandler
from sip_agent.headers import CorrelationIds, Headers
from sip_agent.invite import Invite
from sip_agent.record import CallRecord
from sip_agent.testing import FakeDialog


class Progress:
    """Send early media, and then ring again and again."""

    async def handle(self, call: Call) -> None:
        """Do all that before the answer."""
        await call.progress()
        await call.ring()
        await call.answer()
        await call.disconnected


async def converse(
    handler: ConversationHandler, during: Callable[[FakeDialog], Any], **faults: Any
) -> tuple[CallRecord, FakeDialog]:
    """Let a handler serve a spoilt call while `during` plays the caller; returns the record and the far end."""
    invite = Invite(
        call_id="1@example.com",
        from_uri="sip:caller@example.com",
        to_uri="sip:agent@example.com",
        request_uri="sip:agent@example.com",
        user="agent",
        cseq=1,
        transport="UDP",
        source_host="192.0.2.1",
        source_port=5060,
        headers=Headers.from_pairs([]),
        received_at=datetime.now(UTC),
    )
    record = CallRecord(call_uuid=str(uuid.uuid4()), invite_received_at=invite.received_at)
    caller = FakeDialog()
    dialog = spoil(caller, FaultSettings(**faults))
    call = Call(invite=invite, dialog=dialog, record=record, ids=CorrelationIds(), sample_rate_hz=16_000)
    dialog.listen(call.note)
    conversation = asyncio.create_task(hold_conversation(lambda: handler, call, dialog, max_duration_s=60))
    async with asyncio.timeout(20):
        await during(caller)
        caller.hang_up()
        verdict = await conversation
    complete(record, call, dialog.audio, verdict)
    return record, caller


async def until_ended(caller: FakeDialog) -> None:
    """Wait for the agent to end the call."""
    while not caller.ended:
        await caller.hear(20)


def loud_frames(samples: Samples) -> list[bool]:
    """Tell for each frame whether anything is heard."""
    return [bool(np.any(frame)) for frame in samples.reshape(-1, samples_per_frame(16_000))]


def test_a_route_without_faults_costs_nothing() -> None:
    """The dialog stays what it is, and nothing is logged."""
    dialog = object()
    with capture_logs() as logs:
        assert spoil(dialog, FaultSettings()) is dialog  # type: ignore[arg-type]
    assert logs == []


async def test_faults_are_logged_once() -> None:
    """One entry names the faults of a call."""
    with capture_logs() as logs:
        await converse(SilenceHandler(), lambda caller: caller.hear(40), hang_up_after="60s", silence_after="1s")
    told = [entry["faults"] for entry in logs if entry["event"] == "call.spoilt"]
    assert told == [["hang_up_after=1m", "silence_after=1s"]]


@pytest.mark.parametrize("status", [302, 486, 603])
async def test_refuse(status: int) -> None:
    """The handler's first response becomes the refusal."""
    record, caller = await converse(EchoHandler(), until_ended, refuse=status)
    assert ([status], "rejected", status) == (caller.statuses, record.outcome, record.sip_status)
    assert record.end_reason == f"fault: refuse={status}"


async def test_ring_only() -> None:
    """180 once, however often the handler rings, and 480 in the end."""
    record, caller = await converse(Progress(), until_ended, ring_only="100ms")
    assert ([180, 480], None, "rejected") == (caller.statuses, record.answered_at, record.outcome)


class GoesAway:
    """Return without a word."""

    async def handle(self, call: Call) -> None:
        """Do nothing."""


class HangsUp:
    """Refuse by hanging up."""

    async def handle(self, call: Call) -> None:
        """Refuse."""
        await call.hangup(404)


@pytest.mark.parametrize("handler", [RejectHandler(), GoesAway(), HangsUp()])
@pytest.mark.parametrize(
    ("faults", "statuses"), [({"refuse": 404}, [404]), ({"refuse": 301}, [301]), ({"ring_only": "100ms"}, [180, 480])]
)
async def test_handlers_that_do_not_answer(
    handler: ConversationHandler, faults: dict[str, Any], statuses: list[int]
) -> None:
    """Every call is refused as the fault says, whatever its handler: also one that does not come to answering."""
    record, caller = await converse(handler, until_ended, **faults)
    assert (statuses, statuses[-1]) == (caller.statuses, record.sip_status)
    assert (record.end_reason or "").startswith("fault: ")


@pytest.mark.parametrize("handler", [Progress(), HangsUp()])
async def test_the_caller_gives_up_while_it_rings(handler: ConversationHandler) -> None:
    """A caller who hangs up first has cancelled the call."""
    with capture_logs() as logs:
        record, caller = await converse(handler, lambda caller: caller.hear(40), ring_only="60s")
    assert ([180, 487], "cancelled", None) == (caller.statuses, record.outcome, record.error)
    assert [] == [entry for entry in logs if entry["event"] == "call.terminate_failed"]


async def test_answer_after() -> None:
    """The answer is held back; early media is not."""
    record, caller = await converse(Progress(), lambda caller: caller.until_answered(), answer_after="100ms")
    assert [183, 180, 200] == caller.statuses
    assert record.answer_delay_ms is not None
    assert record.answer_delay_ms >= 99


async def test_hang_up_after() -> None:
    """The agent hangs up by itself, and the handler's end is no failure."""
    record, _ = await converse(EchoHandler(), until_ended, hang_up_after="100ms")
    told = (record.outcome, record.ended_by, record.end_reason, record.error)
    assert ("answered", "agent", "fault: hang_up_after", None) == told
    assert record.talk_ms is not None
    assert record.talk_ms >= 99


async def test_vanish_after() -> None:
    """The call ends for us without a word to the peer."""
    record, caller = await converse(EchoHandler(), until_ended, vanish_after="100ms")
    assert (True, "fault: vanish_after") == (caller.vanished, record.end_reason)


async def test_hang_up_mid_sentence() -> None:
    """The agent hangs up when so much of its sound is out, while it goes on speaking."""
    record, caller = await converse(ToneHandler(), until_ended, hang_up_mid_sentence="200ms")
    loud = loud_frames(caller.heard)
    assert sum(loud) >= 10
    assert any(loud[-5:])
    assert record.end_reason == "fault: hang_up_mid_sentence"


async def test_a_short_sentence_is_not_broken_off() -> None:
    """What ends before the time is up is heard to its end."""
    record, caller = await converse(ToneHandler(seconds=0.1), until_ended, hang_up_mid_sentence="10s")
    assert sum(loud_frames(caller.heard)) == 5
    assert record.end_reason == "the handler returned"


async def test_silence_from_the_answer_on() -> None:
    """What the handler sends is silence on its way out; its time passes as before."""
    record, caller = await converse(ToneHandler(seconds=0.5), until_ended, silence_after="0s")
    assert not np.any(caller.heard)
    assert len(caller.heard) >= 8000
    assert record.outcome == "answered"


@pytest.mark.parametrize(
    "faults", [{"loss_percent": 1}, {"one_way": "agent_unheard"}, {"vanish_after": "1s"}, {"noise_dbov": -40}]
)
def test_faults_of_packets_need_the_native_engine(faults: dict[str, Any]) -> None:
    """The light engine refuses them, naming the setting and a way out."""
    routes: Sequence[RouteSettings] = [
        RouteSettings(handler="echo", faults=FaultSettings(answer_after="1s")),
        RouteSettings(handler="echo", faults=FaultSettings(**faults)),
    ]
    refuse_native_faults(routes[:1])
    (name,) = faults
    with pytest.raises(SettingsError, match=rf"^routes\[1\]\.faults\.{name}: .*make setup"):
        refuse_native_faults(routes)


async def test_rejections_of_the_handler_stand() -> None:
    """A handler that refuses by itself does so, before any fault can."""

    class Refuse:
        async def handle(self, call: Call) -> None:  # noqa: ARG002
            raise CallRejected(404)

    record, _ = await converse(Refuse(), until_ended, answer_after="1s")
    assert record.sip_status == 404
