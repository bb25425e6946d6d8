"""Handlers of the benchmarks, reached by `module:Class` routes inside the agent's process."""

import functools
import threading
import time

from sip_agent.call import Call
from sip_agent.handlers.echo import EchoHandler

PERIOD_S = 0.02
BUSY = 0.3


class EchoBesideBusyThread(EchoHandler):
    """Echo, while another Python thread of the process is busy 30 % of the time."""

    async def handle(self, call: Call) -> None:
        """See `EchoHandler`."""
        start_busy_thread()
        await super().handle(call)


@functools.cache
def start_busy_thread() -> None:
    """Start the thread, once in a process."""
    threading.Thread(target=_work, name="busy", daemon=True).start()


def _work() -> None:
    due = time.monotonic()
    while True:
        until = time.thread_time() + PERIOD_S * BUSY
        while time.thread_time() < until:
            sum(range(200))
        due = max(due + PERIOD_S, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
