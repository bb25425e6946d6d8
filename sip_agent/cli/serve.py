"""`sip-agent serve`: run the agent."""

import asyncio
import signal
from typing import TYPE_CHECKING

from sip_agent.cli.config import ConfigOption
from sip_agent.cli.interrupts import run_loop

if TYPE_CHECKING:
    from sip_agent.config import Settings


def serve(config: ConfigOption = None) -> None:
    """Run the agent until it is stopped by Ctrl-C or SIGTERM.

    Example: sip-agent serve --config sip-agent.toml
    """
    from sip_agent.config import load_settings
    from sip_agent.log import configure_logging

    settings = load_settings(config)
    configure_logging(settings.log.format, settings.log.level)
    run_loop(_serve(settings))


async def _serve(settings: "Settings") -> None:
    from sip_agent.agent import Agent

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Agent(settings):
        await stop.wait()
