"""Ctrl-C, for commands that have something to put in order before they leave."""

import asyncio
import os
import signal
from collections.abc import Awaitable
from typing import Self, TypeVar

from sip_agent.cli.output import stderr

T = TypeVar("T")

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it (128 + SIGINT)."""


class Interrupted(Exception):  # noqa: N818  (a wish, and no error)
    """Ctrl-C, or SIGTERM."""


class Interrupts:
    """Turns the first Ctrl-C or SIGTERM into `Interrupted`; the second one leaves at once."""

    def __init__(self) -> None:
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)

    def check(self) -> None:
        """Raise Interrupted if it is wanted by now."""
        if self._wanted.is_set():
            raise Interrupted

    async def during(self, work: Awaitable[T]) -> T:
        """Return the result of `work`; cancel it and raise Interrupted when that is wanted."""
        task = asyncio.ensure_future(work)
        wanted = asyncio.ensure_future(self._wanted.wait())
        try:
            await asyncio.wait({task, wanted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wanted.cancel()
            task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            raise Interrupted
        return task.result()

    def _note(self) -> None:
        if self._wanted.is_set():
            stderr.show_cursor()
            os._exit(INTERRUPTED)
        self._wanted.set()
        stderr.print("interrupted; once more leaves at once")


def run_loop(main: Awaitable[T]) -> T | int:
    """Run a coroutine as the agent runs, and return its result, or `INTERRUPTED` if it raises Interrupted.

    Not asyncio.run: it would wait for ever for a handler that does not end when it is cancelled.
    """
    import uvloop

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    except Interrupted:
        return INTERRUPTED
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
