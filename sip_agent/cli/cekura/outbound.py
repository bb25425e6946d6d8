"""`sip-agent cekura outbound`: start runs, dial their numbers, join them to the results, judge."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

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
    start_runs,
)
from sip_agent.cli.interrupts import Interrupts, run_loop
from sip_agent.cli.options import with_options
from sip_agent.cli.output import ExitStatus, console, plain, print_json, stderr
from sip_agent.errors import SettingsError, SipAgentError

if TYPE_CHECKING:
    from sip_agent.agent import Agent
    from sip_agent.platforms.cekura.client import CekuraClient
    from sip_agent.platforms.cekura.outbound import Planned
    from sip_agent.platforms.cekura.runs import Choice, Followed, RunRequest
    from sip_agent.trunk import Trunk

REGISTRATION_TIMEOUT_S = 10
"""How long a trunk's registration is waited for: many take no call of who is not registered."""


@with_options(choice=choice_options, following=follow_options)
def outbound(
    *,
    choice: "Choice",
    result_id: Annotated[
        int | None,
        typer.Option("--result", min=1, metavar="ID", help="Dial the runs of a result that was started before."),
    ] = None,
    agent_id: AgentId = None,
    frequency: Frequency = 1,
    name: ResultName = "",
    account: Annotated[str, typer.Option(help="Account to call through; else outbound.account.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be dialled, and start nothing.")] = False,
    following: Following,
) -> None:
    """Start outbound runs at Cekura, dial their numbers through a trunk, join them to our calls, and judge them.

    The agent runs meanwhile, by the same settings: its routes say which handler speaks. A number is dialled only if
    outbound.allow names it, while Cekura waits for that call, and for each run once, whatever happens. Ctrl-C ends the
    calls. Exit status: 0 passed, 1 failed, 2 wrong use or settings, 3 something else broke.

    Example:
        sip-agent cekura outbound --scenarios 1514,1515 --dry-run

        sip-agent cekura outbound --scenarios 1514,1515
    """
    from sip_agent.log import configure_logging
    from sip_agent.platforms.cekura.runs import Choice, RunRequest
    from sip_agent.trunk import check_reach, find_trunk

    settings = following.settings
    if following.agent_url:
        raise SettingsError("--agent-url: leave it out: the agent that calls runs here")
    if result_id is not None and (choice != Choice() or dry_run):
        raise SettingsError("--result: leave out what starts runs, or does not")
    request = RunRequest(
        agent_id=agent_at_cekura(agent_id, settings),
        choice=choice,
        name=name,
        frequency=frequency,
        concurrency_limit=settings.outbound.max_calls,  # what we cannot dial yet waits there, before its window opens
    )
    trunk = find_trunk(settings, account)
    if dry_run:
        raise typer.Exit(run_loop(_show_plan(request, following, trunk)))
    check_reach(trunk, settings)
    if not stderr.is_terminal:
        configure_logging(settings.log.format, settings.log.level)
    raise typer.Exit(run_loop(_outbound(request, following, trunk, result_id)))


async def _show_plan(request: "RunRequest", following: Following, trunk: "Trunk") -> int:
    from sip_agent.platforms.cekura.outbound import check_agent, plan
    from sip_agent.platforms.cekura.runs import choose

    settings = following.settings
    async with new_client(settings) as client:
        await check_agent(client, request.agent_id, trunk)
        chosen = await choose(client, request.agent_id, request.choice)
        listed = {scenario.id: scenario for scenario in await client.scenarios(agent_id=request.agent_id)}
    if unknown := [str(number) for number in chosen if number not in listed]:
        raise SettingsError(f"--scenarios: agent {request.agent_id} has none with the id {', '.join(unknown)}")
    planned = plan([listed[number] for number in chosen], trunk, settings.outbound)
    if following.as_json:
        print_json(_plan_document(planned, request, trunk))
    else:
        _print_plan(planned, request, trunk)
    return ExitStatus.WRONG_USE if any(item.refusal for item in planned) else ExitStatus.DONE


def _plan_document(planned: "list[Planned]", request: "RunRequest", trunk: "Trunk") -> dict[str, Any]:
    return {
        "account": trunk.name,
        "caller_id": trunk.caller_id,
        "calls": [
            {
                "scenario_id": item.scenario.id,
                "scenario_name": item.scenario.name,
                "number": item.scenario.phone_number or None,
                "times": 0 if item.refusal else request.frequency,
                "uri": item.uri or None,
                "refusal": item.refusal or None,
            }
            for item in planned
        ],
    }


def _print_plan(planned: "list[Planned]", request: "RunRequest", trunk: "Trunk") -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("scenario", "number", "times", "would be called"):
        table.add_column(title, overflow="fold")
    for item in planned:
        times = "" if item.refusal else str(request.frequency)
        name = f"{item.scenario.id} {item.scenario.name}"
        table.add_row(*map(plain, (name, item.scenario.phone_number, times, item.refusal or item.uri)))
    console.print(table)
    console.print(plain(f"as {trunk.caller_id} through {trunk.name}; nothing was started, nothing dialled"))


async def _outbound(request: "RunRequest", following: Following, trunk: "Trunk", result_id: int | None) -> int:
    from sip_agent.agent import Agent
    from sip_agent.platforms.cekura.outbound import Dialer, advice, check_agent
    from sip_agent.platforms.cekura.runs import begun_at
    from sip_agent.store import dial_ledger

    settings = following.settings
    async with AsyncExitStack() as resources:
        client = await resources.enter_async_context(new_client(settings))
        records = await record_source(following, resources)
        interrupts = resources.enter_context(Interrupts())
        await interrupts.during(check_agent(client, request.agent_id, trunk))
        agent = await resources.enter_async_context(Agent(settings))
        ledger = resources.enter_context(dial_ledger(settings.store.url, base_dir=settings.base_dir))
        await interrupts.during(_registered(agent, trunk))
        now = datetime.now(UTC)
        if result_id is None:
            chosen = await interrupts.during(_allowed(client, request, following, ledger.count(now)))
            interrupts.check()
            result = await start_runs(client, "voice", request, chosen, now)
            since = now
        else:
            result = await interrupts.during(client.result(result_id))
            since = begun_at(result, now)
        dialer = Dialer(result.id, trunk, settings.outbound, ledger, agent.place_call, say=say)
        resources.push_async_callback(dialer.close)

        def dial(seen: "Followed") -> None:
            dialer.look(joined.run for joined in seen.joined.runs)

        work = interrupts.during(follow(client, result, following, records, since, watch=dial))
        followed = await follow_or_end(client, result.id, work, wait_command=following.wait_command(result.id))
        return conclude(followed, following, result.created_at or now, undialled=tuple(advice(dialer.undialled)))


async def _allowed(
    client: "CekuraClient", request: "RunRequest", following: Following, dialled_today: int
) -> tuple[int, ...]:
    """Return the scenarios to run; raise SettingsError where it is clear now that a call would be refused."""
    from sip_agent.platforms.cekura.outbound import check_limits
    from sip_agent.platforms.cekura.runs import choose

    chosen = await choose(client, request.agent_id, request.choice)
    check_limits(len(chosen) * request.frequency, dialled_today, following.settings.outbound)
    return chosen


async def _registered(agent: "Agent", trunk: "Trunk") -> None:
    """Wait until the trunk's account is registered, if it is to be."""
    for state in agent.endpoint.account_states:
        for _ in range(REGISTRATION_TIMEOUT_S * 10):
            if state.name != trunk.name or state.registered:
                break
            await asyncio.sleep(0.1)
        else:
            raise SipAgentError(
                f"accounts: {trunk.name!r} is not registered ({state.status} {state.reason}), and nothing was started"
            )
