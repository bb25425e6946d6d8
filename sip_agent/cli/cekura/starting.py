"""What the commands that start runs share: which scenarios, of which agent, under which name; and the start."""

import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sip_agent.cli.cekura.following import say
from sip_agent.errors import SettingsError

if TYPE_CHECKING:
    from sip_agent.config import Settings
    from sip_agent.platforms.cekura.client import CekuraClient, RunKind
    from sip_agent.platforms.cekura.model import Result
    from sip_agent.platforms.cekura.runs import Choice, RunRequest

AgentId = Annotated[int | None, typer.Option(min=1, help="The agent's id at Cekura; else cekura.agent_id.")]
Frequency = Annotated[int, typer.Option(min=1, help="How often to run each.")]
ResultName = Annotated[str, typer.Option(help="Name of the result; without one, a name that is unique.")]


def parse_ids(text: str) -> list[int]:
    """Read ids: 101,102."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise typer.BadParameter(f"{text!r}: write ids, like 101,102")
    return [int(part) for part in parts]


def ids_option(help_text: str) -> Any:
    """Return an option that takes ids."""
    return typer.Option(parser=parse_ids, metavar="IDS", help=help_text)


def flat(lists: Iterable[Iterable[int]] | None) -> tuple[int, ...]:
    """Return each id once that an option was given, however often it was given."""
    return tuple(dict.fromkeys(number for numbers in lists or () for number in numbers))


def choice_options(
    *,
    scenarios: Annotated[list[Any] | None, ids_option("Ids of the scenarios: 101,102; repeatable.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="The scenarios with this tag; repeatable.")] = None,
    folder: Annotated[str | None, typer.Option(metavar="A.B", help="The scenarios in this folder.")] = None,
    first: Annotated[int | None, typer.Option(min=1, metavar="N", help="The first N of them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All scenarios of the agent.")] = False,
) -> "Choice":
    """Read the options that choose scenarios; raises SettingsError for ids beside what else would choose."""
    from sip_agent.platforms.cekura.runs import Choice

    others = [
        name for name, given in (("--tag", tag), ("--folder", folder is not None), ("--all", everything)) if given
    ]
    if scenarios and others:
        raise SettingsError(f"--scenarios and {', '.join(others)}: keep the ids, or what chooses by itself")
    return Choice(ids=flat(scenarios), tags=tuple(tag or ()), folder=folder, first=first, everything=everything)


def agent_at_cekura(agent_id: int | None, settings: "Settings") -> int:
    """Return the agent's id at Cekura, by the option or else by the settings; raises SettingsError without one."""
    agent = agent_id or settings.cekura.agent_id
    if not agent:
        raise SettingsError("cekura.agent_id: not set: write the agent's id at Cekura there, or give --agent-id")
    return agent


def unique_name() -> str:
    """Return a name by which a result can be found when the answer to its start is lost."""
    return f"sip-agent {datetime.now(UTC):%Y-%m-%d %H:%M:%S} {secrets.token_hex(3)}"


async def start_runs(
    client: "CekuraClient", kind: "RunKind", request: "RunRequest", chosen: tuple[int, ...], now: datetime
) -> "Result":
    """Start runs, and say so; not to be interrupted, as only the answer tells which calls there are to end.

    If the answer is lost, the result under a name that only this start has is the one. One under a name that was
    given may be somebody else's: it is named, and left alone.
    """
    from sip_agent.platforms.cekura.model import Result
    from sip_agent.platforms.cekura.runs import result_of, start
    from sip_agent.platforms.errors import StartUncertain

    name = request.name or unique_name()
    try:
        started = await start(client, kind, replace(request, name=name).body(chosen), now)
    except StartUncertain as error:
        if not request.name and len(error.found) == 1:
            (found,) = error.found
            say(f"{error.message}; they were: going on with result {found}, named {name!r}")
            return Result(id=found, name=name)
        raise
    result = replace(result_of(started), name=started.name or name)
    say(f"started result {result.id}, {len(result.runs)} runs, named {result.name!r}")
    return result
