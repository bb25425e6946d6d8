"""The SIP thread, with a library that has nothing to do: its beginning, its end, and who waits for it meanwhile."""

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from sip_agent.errors import UserAgentError
from sip_agent.ua import engine
from sip_agent.ua.sip_thread import SipThread


class Library:
    """Stands for pjsua2's endpoint, which never has an event."""

    def libCreate(self) -> None:  # noqa: N802
        """Do nothing."""

    def libHandleEvents(self, timeout_ms: int) -> None:  # noqa: N802
        """Let time pass."""
        time.sleep(timeout_ms / 1000)


@pytest.fixture(autouse=True)
def _library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the library in the place of pjsua2."""
    monkeypatch.setattr(engine, "load", lambda: SimpleNamespace(Endpoint=Library, Error=ArithmeticError))
    monkeypatch.setattr(engine, "is_native", lambda: False)


def nothing(_: Any = None) -> None:
    """Do nothing."""


async def test_a_start_that_is_given_up() -> None:
    """The thread is ended, and what it had set up is torn down, before the cancellation goes on."""
    go_on, torn_down = threading.Event(), threading.Event()

    def set_up(_: Any) -> None:
        go_on.wait()

    thread = SipThread(asyncio.get_running_loop(), nothing)
    starting = asyncio.create_task(thread.start(set_up, lambda _: torn_down.set()))
    await asyncio.sleep(0)
    starting.cancel()
    go_on.set()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await starting

    assert torn_down.is_set()


async def test_after_the_end() -> None:
    """Nothing is waited for that will not be done."""
    thread = SipThread(asyncio.get_running_loop(), nothing)
    await thread.start(nothing, nothing)
    done = await thread.run("call", lambda: "done")
    await thread.stop()
    async with asyncio.timeout(10):
        with pytest.raises(UserAgentError, match="call: the SIP thread has ended"):
            await thread.run("call", nothing)

    assert "done" == done


async def test_at_the_end() -> None:
    """What is asked for while the thread is at its last job, and so comes too late, fails as well."""
    tearing_down, go_on = threading.Event(), threading.Event()

    def tear_down(_: Any) -> None:
        tearing_down.set()
        go_on.wait()

    thread = SipThread(asyncio.get_running_loop(), nothing)
    await thread.start(nothing, tear_down)
    stopping = asyncio.create_task(thread.stop())
    await asyncio.to_thread(tearing_down.wait)
    late = asyncio.create_task(thread.run("call", nothing))
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(10):
        await stopping
        with pytest.raises(UserAgentError, match="call: the SIP thread has ended"):
            await late
