"""Whether the agent works (`/health`: restart it if not) and whether it takes calls (`/ready`)."""

import asyncio
from dataclasses import asdict

from aiohttp import web

from sip_agent.api.parts import PARTS, ApiParts, Endpoint, json_response
from sip_agent.ua.accounts import AccountState
from sip_agent.ua.engine import EngineName

PATIENCE_S = 2.0
"""How long the SIP thread and the media clock may take for a sign of life: a hundred ticks."""

LOOK_AGAIN_S = 0.02


async def show_health(request: web.Request) -> web.Response:
    """Answer 200 if the threads that carry the calls live, otherwise 503 with the reason."""
    parts = request.app[PARTS]
    checks = await asyncio.gather(_check_sip_thread(parts.endpoint), _check_media_clock(parts))
    reasons = [reason for reason in checks if reason]
    if reasons:
        return _unavailable({"healthy": False}, reasons, "restart the agent; its log has the cause")
    return json_response({"healthy": True})


async def show_readiness(request: web.Request) -> web.Response:
    """Answer 200 if the next call would be taken, otherwise 503 with the reason."""
    parts = request.app[PARTS]
    reasons, active = [], len(parts.flow.active)
    if not parts.endpoint.bound:
        reasons.append("the agent is starting: no SIP transport is open yet")
    if parts.flow.draining:
        reasons.append("the agent is shutting down")
    if active >= parts.max_calls:
        reasons.append(f"at capacity: {active} of {parts.max_calls} calls")
    document = {
        "ready": not reasons,
        "warnings": list(_warnings(parts)),
        "active_calls": active,
        "max_calls": parts.max_calls,
        "accounts": [_describe(state) for state in parts.endpoint.account_states],
    }
    if reasons:
        return _unavailable(document, reasons, "send calls elsewhere, or try again later")
    return json_response(document)


async def _check_sip_thread(endpoint: Endpoint) -> str | None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            await endpoint.sip_thread.run("heartbeat", lambda: None)
    except TimeoutError:
        return f"the SIP thread did not answer within {PATIENCE_S:g} s"
    return None


async def _check_media_clock(parts: ApiParts) -> str | None:
    """Tell why the media clock is not well; the light engine's cannot be looked at."""
    if parts.engine.name is not EngineName.NATIVE:
        return None
    before = _ticks(parts.endpoint)
    if before is None:
        return "the media clock does not run"
    try:
        async with asyncio.timeout(PATIENCE_S):
            while _ticks(parts.endpoint) == before:  # noqa: ASYNC110  (the clock is a native thread: it sets no event)
                await asyncio.sleep(LOOK_AGAIN_S)
    except TimeoutError:
        return f"the media clock did not tick for {PATIENCE_S:g} s"
    return None


def _ticks(endpoint: Endpoint) -> int | None:
    clock = endpoint.media_clock
    return None if clock is None else clock.ticks


def _warnings(parts: ApiParts) -> list[str]:
    warnings = [
        f"account {state.name} is not registered: {f'{state.status} ' if state.status else ''}{state.reason}"
        for state in parts.endpoint.account_states
        if not state.registered
    ]
    if parts.store.pending:
        warnings.append(f"{parts.store.pending} call records wait for the database")
    return warnings


def _describe(state: AccountState) -> dict[str, object]:
    described = asdict(state)
    del described["registrar_hosts"]
    return described


def _unavailable(document: dict[str, object], reasons: list[str], hint: str) -> web.Response:
    return json_response({**document, "error": "; ".join(reasons), "hint": hint}, status=503)
