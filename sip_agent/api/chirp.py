"""Where calls come in by WebSocket: `sip_agent.chirp` behind the HTTP port."""

from contextlib import suppress
from http import HTTPStatus
from urllib.parse import quote, urlsplit

from aiohttp import WSMsgType, web

from sip_agent.api.guard import is_loopback
from sip_agent.api.parts import PARTS, Problem
from sip_agent.chirp import ChirpDialog
from sip_agent.invite import WEBSOCKET
from sip_agent.pcm_call import CallRequest
from sip_agent.status import SipStatus, reason_phrase

MESSAGE_BYTES_MAX = 1024 * 1024
"""One message of a caller: 32 s of sound; 20 ms are recommended."""

HEARTBEAT_S = 15.0

DEFAULT_USER = "chirp"


async def answer_chirp(request: web.Request) -> web.StreamResponse:
    """Take a call: offer it to the call flow, and serve its socket once the handler answers."""
    _check(request)
    asked = call_request(request, transport=WEBSOCKET, caller=DEFAULT_USER, user=DEFAULT_USER)
    dialog = request.app[PARTS].chirp.offer(asked)
    try:
        decision = await dialog.decision
        if decision.status != HTTPStatus.SWITCHING_PROTOCOLS:
            return web.Response(
                status=http_status(decision.status),
                headers=dict(decision.headers),
                text=f"{decision.status} {reason_phrase(decision.status)}\n",
            )
        return await _serve(request, dialog)
    finally:
        dialog.closed(None)


async def _serve(request: web.Request, dialog: ChirpDialog) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MESSAGE_BYTES_MAX, compress=False)
    with suppress(ConnectionError):  # the caller gave up before the answer
        await socket.prepare(request)
        dialog.open(socket)
        async for message in socket:
            if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                await dialog.take(message.data)
            elif message.type is WSMsgType.ERROR:
                dialog.fail(message.data)
        await dialog.until_closed()
        dialog.closed(socket.close_code)
    return socket


def _check(request: web.Request) -> None:
    """Refuse what is no call, or what a web page makes a browser do."""
    parts = request.app[PARTS]
    if not web.WebSocketResponse().can_prepare(request):
        raise Problem(
            HTTPStatus.UPGRADE_REQUIRED,
            "this is for calls by WebSocket (CHIRP)",
            "give its address to Cekura: wss://HOST/chirp, with ?user=NAME for the user that routes match",
        )
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        raise Problem(HTTPStatus.FORBIDDEN, "a web page may not call", "call from a program: it sends no Origin")
    if not parts.chirp.protected and not is_loopback(parts.settings.host):
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "with neither auth.users nor admission.allow, calls by WebSocket are for this machine alone",
            "set passwords in auth.users, or the callers' networks in admission.allow",
        )


def call_request(request: web.Request, *, transport: str, caller: str, user: str) -> CallRequest:
    """Return the call that an HTTP request asks for; `?user=` names another than `user`."""
    host, port = request.get_extra_info("peername")[:2]
    local_host, local_port = request.get_extra_info("sockname")[:2]
    local_host = f"[{local_host}]" if ":" in local_host else local_host
    return CallRequest(
        transport=transport,
        caller=caller,
        source_host=host,
        source_port=port,
        local_address=f"{local_host}:{local_port}",
        user=quote(request.query.get("user") or user, safe=""),
        headers=request.raw_headers,
    )


def http_status(sip_status: int) -> int:
    """Return the HTTP status that says what a SIP status does: the same, where HTTP has it."""
    if sip_status >= 600:
        return HTTPStatus.FORBIDDEN
    try:
        status = HTTPStatus(sip_status)
    except ValueError:
        return HTTPStatus.SERVICE_UNAVAILABLE if sip_status < 500 else HTTPStatus.INTERNAL_SERVER_ERROR
    return HTTPStatus.SERVICE_UNAVAILABLE if status < SipStatus.BAD_REQUEST else status
