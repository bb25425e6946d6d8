"""The table of all routes."""

from sip_agent.api import about, agora, calls, chirp, health, live, twilio, webhooks
from sip_agent.api.figures import show_metrics
from sip_agent.api.parts import Route

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/health",
        handler=health.show_health,
        summary="200 while the SIP thread answers and the media clock ticks, otherwise 503 with the reason",
        public=True,
    ),
    Route(
        method="GET",
        path="/ready",
        handler=health.show_readiness,
        summary="200 while new calls are taken, 503 when starting, draining or at capacity; lists registrations",
        public=True,
    ),
    Route(method="GET", path="/metrics", handler=show_metrics, summary="metrics for Prometheus"),
    Route(
        method="GET",
        path="/calls",
        handler=calls.list_calls,
        summary="call records, newest first: run_id, scenario_id, result_id, header=NAME:VALUE (repeatable), outcome, "
        "since, until, limit",
    ),
    Route(
        method="GET", path="/calls/active", handler=live.list_active_calls, summary="the calls that go on, oldest first"
    ),
    Route(
        method="GET",
        path="/calls/{id}",
        handler=calls.show_call,
        summary="one call record, by call uuid or its start, Call-ID, run:ID, scenario:ID or result:ID",
    ),
    Route(
        method="GET",
        path="/calls/{id}/recording",
        handler=calls.show_recording,
        summary="the recording of a call: WAV, caller left, agent right",
    ),
    Route(
        method="POST",
        path="/calls/{uuid}/hangup",
        handler=live.hang_up,
        summary="end a call that goes on; 202, its record tells when it is over",
    ),
    Route(
        method="GET",
        path="/handlers",
        handler=about.list_handlers,
        summary="the conversation handlers that a route can name, with their options",
    ),
    Route(
        method="GET",
        path="/chirp",
        handler=chirp.answer_chirp,
        summary="a call by WebSocket (Cekura's CHIRP); ?user=NAME, Basic authentication with auth.users",
        public=True,
    ),
    *(
        Route(
            method=method,
            path="/agora/session",
            handler=agora.mint_session,
            summary="a place in an Agora channel for Cekura, whose secret it takes; ?user=NAME",
            public=True,
        )
        for method in ("POST", "GET")
    ),
    Route(
        method="POST",
        path="/cekura/webhook",
        handler=webhooks.take_cekura_event,
        summary="events of Cekura (result.pre_trigger, result.completed), with cekura.webhook_secret; without one, 404",
        public=True,
    ),
    Route(
        method="POST",
        path="/2010-04-01/Accounts/{account_sid}/Calls/{call_sid}.json",
        handler=twilio.update_call,
        summary="Twilio's REST call with which a bot hangs up: Status=completed; account and token of its route",
        public=True,
    ),
    Route(method="GET", path="/version", handler=about.show_version, summary="version of the agent and of its engine"),
)


def describe_routes() -> list[tuple[str, str, str]]:
    """Return the method, the path and the one-line description of each route."""
    return [(route.method, route.path, route.summary) for route in ROUTES]
