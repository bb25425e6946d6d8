"""The one request of Twilio's REST API that a bot makes of its carrier: end this call.

Source: twilio.com/docs/voice/api/call-resource (update a call), twilio.com/docs/api/errors (20003, 20404).
"""

from http import HTTPStatus

from aiohttp import web

from sip_agent.api.live import end_call
from sip_agent.api.parts import PARTS, json_response
from sip_agent.auth import parse_basic
from sip_agent.errors import MessageError
from sip_agent.handlers.websocket.live import LIVE_CALLS

FORM = "application/x-www-form-urlencoded"


async def update_call(request: web.Request) -> web.Response:
    """End a call that is with a bot: `Status=completed`, with the account and token of its route."""
    call_sid = request.match_info["call_sid"]
    live = LIVE_CALLS.find(call_sid)
    if live is None or live.call.ended:
        return _error(HTTPStatus.NOT_FOUND, 20404, f"no call that goes on with a bot is {call_sid!r}")
    try:
        admitted = live.admits(*parse_basic(request.headers.get("Authorization", "")))
    except MessageError:
        admitted = False
    if not admitted or request.match_info["account_sid"] != live.account_sid:
        return _error(
            HTTPStatus.UNAUTHORIZED, 20003, "send account_sid and the token of auth_token_file, options of the route"
        )
    if request.content_type != FORM:
        return _error(HTTPStatus.BAD_REQUEST, 20001, f"send Status=completed as {FORM}")
    try:
        form = await request.post()
    except (ValueError, LookupError):
        return _error(HTTPStatus.BAD_REQUEST, 20001, "the form is not text in the charset that it names")
    if form.get("Status") not in {"completed", "canceled"}:
        return _error(HTTPStatus.BAD_REQUEST, 20001, "of all updates there is Status=completed alone")
    request.app[PARTS].in_background(end_call(live.call, "the bot hung up through the REST API"))
    return json_response(
        {
            "sid": call_sid,
            "account_sid": live.account_sid,
            "api_version": "2010-04-01",
            "status": "completed",
            "direction": "inbound",
            "from": live.call.invite.from_uri,
            "to": live.call.invite.to_uri,
        }
    )


def _error(status: int, code: int, message: str) -> web.Response:
    headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if status == HTTPStatus.UNAUTHORIZED else None
    return json_response(
        {"code": code, "message": message, "status": int(status), "error": message, "hint": ""}, status, headers
    )
