"""Tools for the tests of the realtime handler."""

import asyncio
import sys
from typing import Annotated, Any, Literal

from sip_agent.call import Call


def find_table(guests: Annotated[int, "How many people."], when: Literal["noon", "evening"] = "noon") -> dict[str, Any]:
    """Find a free table."""
    return {"table": 7, "guests": guests, "when": when}


async def dawdle() -> None:
    """Take long."""
    await asyncio.sleep(60)


def break_down() -> None:
    """Fail."""
    raise RuntimeError("the kitchen is on fire")


async def leave() -> None:
    """End the process."""
    sys.exit(3)


def leave_from_a_thread() -> None:
    """End the process."""
    sys.exit(3)


async def give_up() -> None:
    """Cancel oneself."""
    raise asyncio.CancelledError


async def look_up(call: Call) -> str:
    """Take as long as four seconds of speech."""
    await call.until_sent(4000)
    return "found"


async def transfer(call: Call, to: str) -> str:
    """Put the caller through."""
    await call.transfer(to)
    return "done"
