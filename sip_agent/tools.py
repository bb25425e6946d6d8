"""What the tools of scripts and of models share: how a function is called, and how an HTTP address is asked."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import Any

import aiohttp

ANSWER_LENGTH_MAX = 64 * 1024
"""A tool's answer goes into the record, and into what is said or before a model: it is small.

Bytes of an HTTP address, characters of a function.
"""

THREADS_MAX = 128
"""Functions without `async` that run at the same time, of all calls; one that does not return keeps its thread."""

_free_threads = threading.Semaphore(THREADS_MAX)


class AnswerTooLongError(Exception):
    """An HTTP address answers with more than ANSWER_LENGTH_MAX."""


class ToolError(Exception):
    """A tool could not do what it was asked; the message says why."""


async def call_function(function: Callable[..., Any], /, **arguments: Any) -> Any:
    """Return what a function returns; one that is no coroutine function runs in a thread.

    Raises what the function raises; ToolError instead of what would end more than the tool (`sys.exit()`, a
    cancellation that nobody asked for), and at once if all threads are taken.
    """
    try:
        if inspect.iscoroutinefunction(function):
            return await function(**arguments)
        return await _run_in_thread(partial(function, **arguments))
    except SystemExit as error:
        raise ToolError("the tool called sys.exit()") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ToolError("the tool was cancelled from within") from error


async def _run_in_thread(work: Callable[[], Any]) -> Any:
    """Return what a function returns that runs in a thread of its own.

    It is no thread of the event loop's pool, so that tools which do not return hold up nothing else; and it is a
    daemon, so that the process can end beside it, where a pool waits for its threads.
    """
    if not _free_threads.acquire(blocking=False):
        raise ToolError(f"all {THREADS_MAX} threads are taken by tools that do not return")
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    future.add_done_callback(lambda _: _free_threads.release())
    try:
        threading.Thread(target=copy_context().run, args=(_settle, future, work), name="tool", daemon=True).start()
    except RuntimeError as error:  # the system has no thread left
        future.set_exception(error)
    return await asyncio.wrap_future(future)


def _settle(future: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except StopIteration:
        future.set_exception(RuntimeError("the tool raised StopIteration"))  # which no future can carry
    except BaseException as error:  # noqa: BLE001  (whoever waits for the result gets it)
        future.set_exception(error)


async def post_json(
    url: str, arguments: Mapping[str, Any], *, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """POST the arguments as a JSON object, without following redirects; return the HTTP status and the text.

    Raises AnswerTooLongError, and aiohttp.ClientError.
    """
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=arguments, headers=headers, allow_redirects=False) as response,
    ):
        body = bytearray()
        async for block in response.content.iter_any():
            body += block
            if len(body) > ANSWER_LENGTH_MAX:
                raise AnswerTooLongError
        return response.status, body.decode(errors="replace")
