"""The calls that go on."""

from enum import StrEnum
from typing import Any

import structlog
from aiohttp import web

from sip_agent.api.parts import PARTS, Problem, json_response
from sip_agent.call import Call
from sip_agent.errors import SipAgentError
from sip_agent.record import format_timestamp

log = structlog.get_logger()


class CallState(StrEnum):
    """Where a call stands, in the words of the SIP stack."""

    INCOMING = "incoming"
    EARLY = "early"
    CONNECTING = "connecting"
    CONFIRMED = "confirmed"
    DISCONNECTED = "disconnected"


async def list_active_calls(request: web.Request) -> web.Response:
    """Answer with every call that goes on, oldest first."""
    calls = request.app[PARTS].flow.active.values()
    return json_response({"calls": [_describe(call) for call in calls]})


async def hang_up(request: web.Request) -> web.Response:
    """End a call: by BYE if it is answered, otherwise by 603; 202 at once, as the peer may take its time."""
    parts, call_uuid = request.app[PARTS], request.match_info["uuid"]
    call = parts.flow.active.get(call_uuid)
    if call is None:
        raise Problem(
            404, f"no call that goes on has the uuid {call_uuid!r}", "GET /calls/active lists them by their call_uuid"
        )
    parts.in_background(end_call(call, "hung up through the API"))
    return json_response({"call_uuid": call_uuid, "state": state_of(call)}, status=202)


def state_of(call: Call) -> CallState:
    """Return where a call stands."""
    record = call.record
    if call.ended:
        return CallState.DISCONNECTED
    if call.answered:
        return CallState.CONNECTING if record.setup_ms is None else CallState.CONFIRMED
    return CallState.INCOMING if record.ringing_at is None else CallState.EARLY


async def end_call(call: Call, reason: str) -> None:
    """End a call; `reason` is what its record says."""
    call.log.info("api.hangup")
    try:
        await call.hangup(reason=reason)
    except SipAgentError as error:  # it was over before; nothing is left to be done
        call.log.info("api.hangup_too_late", error=str(error))


def _describe(call: Call) -> dict[str, Any]:
    record = call.record
    return {
        "call_uuid": record.call_uuid,
        "call_id": record.call_id,
        "direction": record.direction,
        "source_address": record.source_address,
        "from_uri": record.from_uri,
        "run_id": record.run_id,
        "scenario_id": record.scenario_id,
        "result_id": record.result_id,
        "handler": record.handler,
        "state": state_of(call),
        "since": format_timestamp(record.invite_received_at),
        "answered_at": format_timestamp(record.answered_at),
        "codec": record.codec,
        "on_hold": call.on_hold,
    }
