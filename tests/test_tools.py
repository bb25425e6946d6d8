"""Functions as tools: what they raise, and the threads that they run in."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from sip_agent.tools import THREADS_MAX, ToolError, call_function


def leave() -> NoReturn:
    """End the process."""
    sys.exit(3)


async def leave_the_loop() -> NoReturn:
    """End the process."""
    sys.exit(3)


def give_up() -> NoReturn:
    """Cancel oneself."""
    raise asyncio.CancelledError


async def give_up_the_loop() -> NoReturn:
    """Cancel oneself."""
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (leave, "the tool called sys.exit()"),
        (leave_the_loop, "the tool called sys.exit()"),
        (give_up, "the tool was cancelled from within"),
        (give_up_the_loop, "the tool was cancelled from within"),
    ],
)
async def test_what_would_end_more_than_the_tool(function: Callable[..., Any], problem: str) -> None:
    """It is an error of the tool."""
    with pytest.raises(ToolError) as caught:
        await call_function(function)

    assert problem == str(caught.value)


async def test_stop_iteration() -> None:
    """A `next()` that finds nothing is an error, too."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        await call_function(lambda: next(iter([])))


async def test_cancelled() -> None:
    """Whoever does not want the result any more gets the cancellation."""
    task = asyncio.create_task(call_function(asyncio.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_all_threads_taken() -> None:
    """One more fails at once, the event loop's own threads are free; and it works again when one has returned."""
    gate = threading.Event()
    try:
        blocked = [asyncio.create_task(call_function(gate.wait)) for _ in range(THREADS_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(ToolError, match=f"all {THREADS_MAX} threads are taken by tools that do not return"):
            await call_function(int)
        assert 0 == await asyncio.to_thread(int)
    finally:
        gate.set()
    await asyncio.wait(blocked, return_when=asyncio.FIRST_COMPLETED)

    assert 0 == await call_function(int)
    await asyncio.gather(*blocked)


async def test_given_up() -> None:
    """A function that returns after its time-out disturbs nobody."""
    entered, gate = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        gate.wait()

    task = asyncio.create_task(call_function(block))
    await asyncio.to_thread(entered.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()

    assert 0 == await call_function(int)


def test_the_process_ends() -> None:
    """A function that does not return keeps no process from ending."""
    program = """
import asyncio, threading
from sip_agent.tools import call_function
async def main():
    async with asyncio.timeout(0.1):
        await call_function(threading.Event().wait)
loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(main())
except TimeoutError:
    print("given up")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)

    assert "given up\n" == done.stdout
