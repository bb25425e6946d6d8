"""`sip-agent serve`: run the agent."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from sip_agent.config import Settings, load_settings
from sip_agent.log import configure_logging


def serve(
    config: Annotated[
        Path | None, typer.Option(help="The settings file.", envvar="SIP_AGENT_CONFIG", show_default=False)
    ] = None,
) -> None:
    """Run the agent until it is stopped by Ctrl-C or SIGTERM.

    Example: sip-agent serve --config sip-agent.toml
    """
    settings = load_settings(config)
    configure_logging(settings.log.format, settings.log.level)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from sip_agent.agent import Agent

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Agent(settings):
        await stop.wait()
