"""`sip-agent cekura pipecat`: runs in Daily rooms, with a Pipecat bot or with this agent."""

from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

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
from sip_agent.cli.cekura.starting import AgentId, Frequency, agent_at_cekura, choice_options
from sip_agent.cli.interrupts import Interrupts, run_loop
from sip_agent.cli.options import with_options
from sip_agent.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sip_agent.agent import Agent
    from sip_agent.config import Settings
    from sip_agent.platforms.cekura.model import Run
    from sip_agent.platforms.cekura.runs import Choice, Followed
    from sip_agent.platforms.pipecat import Place, Places

PLACES_MAX = 100
"""Rooms that one run opens at most: each is somebody's session, and costs money."""


@with_options(choice=choice_options, following=follow_options)
def pipecat(
    *,
    choice: "Choice",
    agent_id: AgentId = None,
    frequency: Frequency = 1,
    join: Annotated[
        bool, typer.Option("--join", help="No bot: this agent joins rooms at Daily, with the handler of its routes.")
    ] = False,
    following: Following,
) -> None:
    """Open a Daily room for each run, let Cekura come there, wait, and judge; then clean the rooms up.

    A bot's sessions are started at pipecat.start_url; with --join, this agent is the bot. Nothing is started twice.
    Exit status: 0 passed, 1 failed, 2 wrong use or settings, 3 something else broke.

    Example:
        sip-agent cekura pipecat --scenarios 30,31

        sip-agent cekura pipecat --tag smoke --join --max-p95-latency 1500
    """
    from sip_agent.log import configure_logging

    settings = following.settings
    agent = agent_at_cekura(agent_id, settings)
    if join and following.agent_url:
        raise SettingsError("--join and --agent-url: keep one of the two: the agent that joins runs here")
    if join:
        configure_logging(settings.log.format, settings.log.level)
    raise typer.Exit(run_loop(_run(agent, choice, frequency, following, join=join)))


async def _run(agent_id: int, choice: "Choice", frequency: int, following: Following, *, join: bool) -> int:
    from sip_agent.agent import Agent
    from sip_agent.platforms.cekura.runs import choose, result_of
    from sip_agent.platforms.pipecat import DailyRooms, PipecatSessions, assign, run_body

    settings = following.settings
    async with AsyncExitStack() as resources:
        client = await resources.enter_async_context(new_client(settings))
        rooms = DailyRooms(settings.pipecat) if join else PipecatSessions(settings.pipecat)
        await resources.enter_async_context(rooms)
        if join:
            _check_transport()
        # A bot that runs elsewhere leaves no records here, unless somebody says where.
        wanted = replace(following, use_records=following.use_records and (join or bool(following.agent_url)))
        records = await record_source(wanted, resources)
        interrupts = resources.enter_context(Interrupts())
        chosen = await interrupts.during(choose(client, agent_id, choice)) * frequency
        if len(chosen) > PLACES_MAX:
            raise SettingsError(f"{len(chosen)} runs want as many rooms; {PLACES_MAX} is the most: choose fewer")
        agent = await resources.enter_async_context(Agent(settings)) if join else None
        places = await _open(rooms, len(chosen), resources, interrupts)
        interrupts.check()
        now = datetime.now(UTC)
        # Not to be interrupted: only its answer tells which calls there are to end.
        started = await client.start_run("pipecat", run_body(agent_id, chosen, places))
        result = result_of(started)
        say(f"started result {result.id}, {len(result.runs)} runs")

        async def join_and_follow() -> "Followed":
            if agent is not None:
                _join(agent, settings, result.id, assign(result.runs, chosen, places))
            return await follow(client, result, following, records, now)

        followed = await follow_or_end(
            client, result.id, interrupts.during(join_and_follow()), wait_command=following.wait_command(result.id)
        )
        return conclude(followed, following, now)


def _check_transport() -> None:
    """Find out whether the agent can join before anything is started."""
    import importlib

    importlib.import_module("sip_agent.platforms.daily")


async def _open(rooms: "Places", count: int, resources: AsyncExitStack, interrupts: Interrupts) -> "list[Place]":
    """Open so many places, one after the other; each is closed again at the end, whatever happens."""
    places: list[Place] = []
    for number in range(1, count + 1):
        interrupts.check()
        place = await rooms.open()
        resources.push_async_callback(_close, rooms, place)
        places.append(place)
        say(f"room {number} of {count} is open: {place.room_url}")
    return places


async def _close(rooms: "Places", place: "Place") -> None:
    from sip_agent.platforms.errors import PlatformError

    try:
        await rooms.close(place)
    except PlatformError as error:
        say(f"{place.room_url} may stay open: {error}")


def _join(agent: "Agent", settings: "Settings", result_id: int, assigned: "Iterable[tuple[Run, Place]]") -> None:
    """Offer each room to the agent as a call that carries the ids of its run."""
    from sip_agent.invite import DAILY
    from sip_agent.pcm_call import CallRequest
    from sip_agent.platforms.daily import DailyRoom

    profile = settings.correlation.active
    for run, place in assigned:
        named: Sequence[tuple[str | None, int | None]] = (
            (profile.run_id, run.id),
            (profile.scenario_id, run.scenario_id),
            (profile.result_id, result_id),
        )
        request = CallRequest(
            transport=DAILY,
            caller="cekura",
            source_host="127.0.0.1",
            source_port=0,
            local_address="daily.invalid",
            user=settings.pipecat.user,
            headers=[(name.encode(), str(number).encode()) for name, number in named if name and number],
        )
        timeout_s = settings.pipecat.join_timeout.total_seconds()
        agent.rooms.offer(request, DailyRoom(place.room_url, place.agent_token), join_timeout_s=timeout_s)
