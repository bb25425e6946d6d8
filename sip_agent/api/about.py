"""What this agent is: its version, its engine, its handlers."""

import platform
from dataclasses import asdict

from aiohttp import web

from sip_agent.api.parts import PARTS, json_response
from sip_agent.config import agent_version
from sip_agent.handlers import installed_handlers


async def list_handlers(request: web.Request) -> web.Response:
    """Answer with the installed conversation handlers."""
    # Off the loop: strangers' packages are imported, and packages looked up on the disk.
    found = await request.app[PARTS].in_thread(installed_handlers)
    return json_response({"handlers": [asdict(handler) for handler in found]})


async def show_version(request: web.Request) -> web.Response:
    """Answer with the versions of the agent, its engine and Python."""
    engine = asdict(request.app[PARTS].engine)
    return json_response({"version": agent_version(), "engine": engine, "python": platform.python_version()})
