"""Where Cekura's webhooks come in: who may send, how much, in which form; `platforms.cekura.webhook` takes them."""

import json
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web

from sip_agent.api.parts import PARTS, Problem, json_response
from sip_agent.platforms.cekura.model import AnswerError
from sip_agent.store import StoreError

log = structlog.get_logger()

BODY_BYTES_MAX = 16_000_000
"""A result of hundreds of runs comes with all their transcripts."""


async def take_cekura_event(request: web.Request) -> web.Response:
    """Take an event from who has the secret."""
    webhook = request.app[PARTS].cekura
    if webhook is None:
        raise web.HTTPNotFound
    if not webhook.admits(request.headers.get("X-CEKURA-SECRET", "")):
        log.warning("cekura.webhook_refused", source=request.remote)
        raise Problem(HTTPStatus.UNAUTHORIZED, "the secret is missing or wrong")
    event = _parsed(await _body(request))
    try:
        answer = await webhook.take(event, request.headers.get("X-CEKURA-IDEMPOTENCY-KEY", ""))
    except AnswerError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, str(error), "see Cekura's page Webhook Format") from None
    except StoreError as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), "send it again later") from None
    return json_response(answer)


async def _body(request: web.Request) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the event has more than {BODY_BYTES_MAX} bytes")
    return bytes(body)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(HTTPStatus.BAD_REQUEST, "the event is no JSON") from None
