"""`sip-agent cekura run`: start runs, take the calls, join them to the results, judge."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sip_agent.cli.cekura.following import (
    Following,
    conclude,
    follow,
    follow_options,
    follow_or_end,
    new_client,
    record_source,
    say,
)
from sip_agent.cli.cekura.starting import (
    AgentId,
    Frequency,
    ResultName,
    agent_at_cekura,
    choice_options,
    flat,
    ids_option,
    start_runs,
)
from sip_agent.cli.interrupts import Interrupts, run_loop
from sip_agent.cli.options import with_options
from sip_agent.cli.output import stderr
from sip_agent.errors import SettingsError

if TYPE_CHECKING:
    from sip_agent.config import Settings
    from sip_agent.platforms.cekura.runs import Choice, RunRequest


class Via(StrEnum):
    """How Cekura reaches the agent."""

    SIP = "sip"
    AGORA = "agora"


@with_options(choice=choice_options, following=follow_options)
def run(
    *,
    choice: "Choice",
    agent_id: AgentId = None,
    frequency: Frequency = 1,
    name: ResultName = "",
    test_profiles: Annotated[list[Any] | None, ids_option("Ids of test profiles.")] = None,
    personalities: Annotated[list[Any] | None, ids_option("Ids of personalities.")] = None,
    concurrency_limit: Annotated[int | None, typer.Option(min=1, help="Calls at the same time.")] = None,
    sip_endpoint: Annotated[
        str, typer.Option(metavar="URI", help="Where Cekura calls in this run, like sip:agent@agent.example.com:5060.")
    ] = "",
    serve: Annotated[bool, typer.Option("--serve", help="Run the agent meanwhile, by the same settings.")] = False,
    via: Annotated[Via, typer.Option(help="How Cekura reaches the agent.")] = Via.SIP,
    following: Following,
) -> None:
    """Start runs at Cekura, wait for them, join them to the calls that arrived, and judge them.

    The request that starts them is never sent twice. Ctrl-C ends their calls. Exit status: 0 passed, 1 failed,
    2 wrong use or settings, 3 something else broke.

    Example:
        sip-agent cekura run --scenarios 11547,11548

        sip-agent cekura run --tag smoke --serve --max-p95-latency 1500 --junit cekura.xml
    """
    from sip_agent.log import configure_logging
    from sip_agent.platforms.cekura.runs import RunRequest, check_sip_endpoint

    settings = following.settings
    agent = agent_at_cekura(agent_id, settings)
    if sip_endpoint:
        check_sip_endpoint(sip_endpoint)
    if via is not Via.SIP and sip_endpoint:
        raise SettingsError(f"--sip-endpoint: leave it out with --via {via}")
    if serve and following.agent_url:
        raise SettingsError("--serve and --agent-url: keep one of the two: the agent runs here, or elsewhere")
    if serve and not stderr.is_terminal:
        configure_logging(settings.log.format, settings.log.level)
    if serve and via is Via.SIP and not sip_endpoint:
        sip_endpoint = own_endpoint(settings)
    request = RunRequest(
        agent_id=agent,
        choice=choice,
        name=name,
        frequency=frequency,
        test_profile_ids=flat(test_profiles),
        personality_ids=flat(personalities),
        concurrency_limit=concurrency_limit,
        sip_endpoint=sip_endpoint,
    )
    raise typer.Exit(run_loop(_run(request, following, serve=serve, via=via)))


def own_endpoint(settings: "Settings") -> str:
    """Return the SIP URI under which Cekura reaches this agent; empty if the settings do not tell."""
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    from sip_agent.invite import bracketed

    sip = settings.sip
    # A stand-in on this machine reaches loopback; Cekura reaches what is public.
    stand_in = urlsplit(settings.cekura.base_url).hostname in {"127.0.0.1", "::1", "localhost"}
    bound = [host for host in sip.bind if ip_address(host).is_global or (stand_in and ip_address(host).is_loopback)]
    host = sip.public_address or (bound[0] if bound else "")
    user = next((route.match.user for route in settings.routes if route.match.user), "agent")
    return f"sip:{user}@{bracketed(host)}:{sip.udp_port}" if host and sip.udp_port else ""


async def _run(request: "RunRequest", following: Following, *, serve: bool, via: Via) -> int:
    from sip_agent.platforms.cekura.runs import choose

    async with AsyncExitStack() as resources:
        client = await resources.enter_async_context(new_client(following.settings))
        records = await record_source(following, resources)
        interrupts = resources.enter_context(Interrupts())
        chosen = await interrupts.during(choose(client, request.agent_id, request.choice))
        if serve:
            await interrupts.during(_serve(following.settings, request, resources))
        elif records is not None:
            await _warn_of_missing_records(records)
        interrupts.check()
        now = datetime.now(UTC)
        result = await start_runs(client, via.value, request, chosen, now)
        work = interrupts.during(follow(client, result, following, records, now))
        followed = await follow_or_end(
            client, result.id, work, wait_command=following.wait_command(result.id), held_here=serve
        )
        listening = tuple(openings(following.settings)) if serve else ()
        return conclude(followed, following, now, sip_endpoint=request.sip_endpoint, listening=listening)


async def _serve(settings: "Settings", request: "RunRequest", resources: AsyncExitStack) -> None:
    from sip_agent.agent import Agent
    from sip_agent.cli.firewall import opening

    await resources.enter_async_context(Agent(settings))
    rules = opening(settings)
    sources = ", ".join(map(str, (*rules.v4, *rules.v6))) if settings.admission.allow else "anywhere"
    say(f"the agent is up; open in the firewall: {', '.join(openings(settings))}, from {sources}")
    for note in rules.notes[1:]:
        say(f"  {note}")
    if request.sip_endpoint:
        say(f"Cekura calls {request.sip_endpoint}")
    else:
        say("Cekura calls the endpoint that it has stored: set sip.public_address or --sip-endpoint for another one")


def openings(settings: "Settings") -> list[str]:
    """Return the ports that callers have to reach."""
    from sip_agent.cli.firewall import opening

    return [
        f"{protocol.upper()} {first}" if first == last else f"{protocol.upper()} {first}-{last}"
        for protocol, ports in opening(settings).by_protocol()
        for first, last in ports
    ]


async def _warn_of_missing_records(records: Any) -> None:
    from sip_agent.errors import SipAgentError

    try:
        await records.since(datetime.now(UTC))
    except SipAgentError as error:
        say(f"warning: the runs cannot be joined to our calls: {error}; --serve runs the agent, --agent-url asks one")
