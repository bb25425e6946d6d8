"""`sip-agent cekura simulate`: a stand-in for Cekura, for tests without an account."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from sip_agent.cli.output import console
from sip_agent.errors import SettingsError

if TYPE_CHECKING:
    from sip_agent.config import Settings
    from sip_agent.platforms.cekura.simulator.world import Setup


def simulate(
    bind: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where its API listens.")] = "127.0.0.1:8090",
    scenarios: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What it knows: agents, scenarios, profiles, API key; else an example."),
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the testing agents' recordings here.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings file, for its sections speech, hearing and log.")
    ] = None,
) -> None:
    """Stand in for Cekura: take its API's requests, really place the SIP calls, and judge them by simple checks.

    It is not Cekura: it serves tests of what talks to Cekura, and of an agent on this machine.

    Example: sip-agent cekura simulate --scenarios cekura-scenarios.yaml
    """
    import uvloop

    from sip_agent.cli.call import caller_settings
    from sip_agent.config import load_settings
    from sip_agent.log import configure_logging
    from sip_agent.platforms.cekura.simulator.world import EXAMPLE, load

    setup = load(scenarios or EXAMPLE)
    settings = caller_settings(config=config)
    log = settings.log if config is None else load_settings(config).log
    configure_logging(log.format, log.level)
    if any(scenario.expect.says for scenario in setup.world.scenarios) and not settings.speech.recognizer:
        raise SettingsError(f"{scenarios}: a scenario expects what the agent says: set speech.recognizer in --config")
    host, port = _address(bind)
    with TemporaryDirectory(prefix="sip-agent-stand-in-") as folder:
        uvloop.run(_simulate(setup, settings, recordings or Path(folder), host, port))


async def _simulate(setup: "Setup", settings: "Settings", recordings: Path, host: str, port: int) -> None:
    from sip_agent.platforms.cekura.simulator.server import Simulator
    from sip_agent.platforms.cekura.simulator.telephone import SipTelephone

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    world = setup.world
    async with AsyncExitStack() as running:
        telephone = await running.enter_async_context(
            SipTelephone(settings, world.sip_address, world.concurrency_limit)
        )
        simulator = await running.enter_async_context(Simulator(setup, telephone, recordings, host=host, port=port))
        agents = ", ".join(f"{agent.id} ({agent.sip_endpoint or 'no SIP endpoint'})" for agent in world.agents)
        console.print(f"Stand-in for Cekura (not Cekura itself) on {simulator.url}", soft_wrap=True)
        console.print(f"agents {agents}; scenarios {', '.join(map(str, setup.scenarios))}", soft_wrap=True)
        await stop.wait()


def _address(bind: str) -> tuple[str, int]:
    host, colon, port = bind.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"--bind: write HOST:PORT, like 127.0.0.1:8090, not {bind!r}")
    return host.strip("[]"), int(port)
