"""Where Cekura asks for a place in an Agora channel; its answer is the beginning of a call.

Source: docs.cekura.ai/documentation/integrations/agora (session endpoint contract).
"""

import asyncio
import json
import time
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from aiohttp import web

from sip_agent.api.chirp import call_request, http_status
from sip_agent.api.parts import PARTS, Problem, json_response
from sip_agent.invite import AGORA
from sip_agent.platforms.agora.session import SessionRefused
from sip_agent.status import EndedBy, SipStatus, reason_phrase

DECISION_TIMEOUT_S = 20.0
"""What a handler gets to ring, answer or refuse, before the request is given up."""


async def mint_session(request: web.Request) -> web.Response:
    """Give a session to who has the secret, once the call flow admits the call that it begins."""
    sessions = request.app[PARTS].agora
    if sessions is None:
        raise Problem(HTTPStatus.NOT_FOUND, "there are no calls through Agora", "set agora.app_id")
    asked = call_request(request, transport=AGORA, caller="cekura", user=sessions.settings.user)
    try:
        sessions.authenticate(asked.source_host, request.headers, now=time.monotonic())
        sessions.admit(await _client_id(request), now=time.monotonic())
    except SessionRefused as refusal:
        document = {"error": str(refusal), "hint": refusal.hint}
        headers = {"Retry-After": str(refusal.retry_after_s)} if refusal.retry_after_s else {}
        return json_response(document, refusal.status, headers)
    secret = sessions.settings.secret_header.lower().encode()
    kept = [(name, value) for name, value in asked.headers if name.lower() not in {secret, b"authorization"}]
    session, dialog = sessions.begin(replace(asked, headers=kept))
    if dialog is not None:
        try:
            decision = await asyncio.wait_for(asyncio.shield(dialog.decision), DECISION_TIMEOUT_S)
        except TimeoutError:
            await dialog.terminate(
                EndedBy.SYSTEM, SipStatus.SERVICE_UNAVAILABLE, (), "the handler did not decide in time"
            )
            decision = dialog.decision.result()
        if decision.status != HTTPStatus.OK:
            reason = reason_phrase(decision.status)
            document = {"error": f"{decision.status} {reason}", "hint": "the agent's call record says why"}
            return json_response(document, http_status(decision.status), dict(decision.headers))
    return json_response(session.document())


async def _client_id(request: web.Request) -> str:
    """Return the client id of a request: in the query of a GET, in the JSON object that a POST may have as its body."""
    if request.method != "POST":
        return request.query.get("client_id", "")
    body = await request.read()
    try:
        document: Any = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Problem(
            HTTPStatus.BAD_REQUEST, "the body is no JSON object", 'send {"client_id": "…"}, or no body at all'
        )
    found = document.get("client_id", "")
    return found if isinstance(found, str) else ""
