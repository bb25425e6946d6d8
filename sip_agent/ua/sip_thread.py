"""The SIP thread: the only one that touches pjsua2 objects, and the two crossings in and out of it.

Into it: `post` and `run`. Out of it: `deliver`, which is `loop.call_soon_threadsafe`.
"""

import asyncio
import functools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import structlog

from sip_agent.errors import CallEnded, UserAgentError
from sip_agent.ua import engine

POLL_MS = 10
"""How long the light engine may sleep in its poll: it cannot be woken, so this bounds the delay of a post."""

POLL_WITH_WAKER_MS = 200
"""The waker ends the wait for every job, ours and those of pjsua's other threads: this only bounds the sweeps."""

ENDED = "the SIP thread has ended"

log = structlog.get_logger()
T = TypeVar("T")


class SipThread:
    """Runs pjsua2: everything posted to it, and the stack's own events.

    `poll` is called after each turn of the stack's events, on the thread itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, poll: Callable[[], None]) -> None:
        self._loop = loop
        self._poll = poll
        self._jobs: deque[Callable[[], None]] = deque()
        self._stopping = self._ended = False
        self._waiting: dict[asyncio.Future[Any], str] = {}
        self._waker: Any = None
        self._thread = threading.Thread(target=self._main, name="sip", daemon=True)
        self._started: asyncio.Future[None] = loop.create_future()
        self._set_up: Callable[[Any], None] = lambda _endpoint: None
        self._tear_down: Callable[[Any], None] = lambda _endpoint: None

    async def start(self, set_up: Callable[[Any], None], tear_down: Callable[[Any], None]) -> None:
        """Start the thread; `set_up(endpoint)` runs on it first, and what it raises is raised here.

        `tear_down(endpoint)` runs on it last, also after a failed `set_up`, and destroys the library.
        """
        self._set_up, self._tear_down = set_up, tear_down
        self._thread.start()
        try:
            await self._started
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Run `tear_down` on the thread and end it."""
        if self._thread.is_alive():
            self.post(self._stop)
        # Joined, not only told: a thread that is still in C++ when the interpreter ends takes the process down.
        await asyncio.to_thread(self._thread.join)

    def post(self, job: Callable[[], None]) -> None:
        """Have `job` run on the SIP thread, soon; from any thread."""
        self._jobs.append(job)
        waker = self._waker  # once: the thread drops it at its end
        if waker is not None:
            waker.wake()

    async def run(self, operation: str, function: Callable[[], T]) -> T:
        """Run `function` on the SIP thread and return its result.

        Raises UserAgentError, naming `operation`, if pjsua2 refuses, or if the thread ends before.
        """
        if self._ended:
            raise UserAgentError(operation, ENDED)
        result: asyncio.Future[T] = self._loop.create_future()

        def job() -> None:
            try:
                value = function()
            except BaseException as error:  # noqa: BLE001  (it is raised where it is awaited)
                self.deliver(_fail, result, as_user_agent_error(operation, error))
            else:
                self.deliver(_resolve, result, value)

        self._waiting[result] = operation
        self.post(job)
        try:
            return await result
        finally:
            del self._waiting[result]

    def deliver(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call `function` on the event loop: the only way out of this thread."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            log.debug("sip_thread.loop_closed")

    def _main(self) -> None:
        pj = engine.load()
        endpoint = pj.Endpoint()
        try:
            with _quiet_stdout():
                endpoint.libCreate()
            self._set_up(endpoint)
            if engine.is_native():
                self._waker = pj.Waker()
        except BaseException as error:  # noqa: BLE001  (it is raised by start)
            self._tear_down_guarded(endpoint)
            self.deliver(_fail, self._started, as_user_agent_error("start", error))
            return
        self.deliver(_resolve, self._started, None)
        poll_ms = POLL_MS if self._waker is None else POLL_WITH_WAKER_MS
        while not self._stopping:
            endpoint.libHandleEvents(0 if self._jobs else poll_ms)
            self._run_jobs()
            self._guarded(self._poll)
        self._tear_down_guarded(endpoint)

    def _run_jobs(self) -> None:
        while self._jobs:
            self._guarded(self._jobs.popleft())

    def _guarded(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception:
            log.exception("sip_thread.job_failed")

    def _stop(self) -> None:
        self._stopping = True

    def _tear_down_guarded(self, endpoint: Any) -> None:
        if self._waker is not None:
            self._waker.close()
        self._guarded(functools.partial(self._tear_down, endpoint))
        self._waker = None  # not earlier: until then the media thread may be in it
        self.deliver(self._end)

    # Back on the event loop

    def _end(self) -> None:
        """Let nobody wait for what the thread has left undone; whatever it did was delivered before."""
        self._ended = True
        for result, operation in self._waiting.items():
            _fail(result, UserAgentError(operation, ENDED))


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Keep pjlib's greeting off standard output: until it is initialised, its log level cannot be set."""
    sys.stdout.flush()
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)


def as_user_agent_error(operation: str, error: BaseException) -> BaseException:
    """Turn pjsua2's error into ours; others stay what they are."""
    if isinstance(error, engine.load().Error):
        if "INVALIDOP" in error.reason or "already terminated" in error.reason.lower():
            return CallEnded(f"{operation}: {error.reason}")
        return UserAgentError(operation, error.reason)
    return error


def _resolve(future: "asyncio.Future[T]", value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
