"""The composition root, as far as it can be tried without a call; whole agents are in tests/calls."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sip_agent import agent as agent_module
from sip_agent.agent import Agent
from sip_agent.config import load_settings


async def test_housekeeping_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails once is logged, and tried again."""
    failures = [KeyError("gone")]
    again = asyncio.Event()

    class Flow:
        async def expire(self, _: datetime) -> None:
            if failures:
                raise failures.pop()
            again.set()

    file = tmp_path / "sip-agent.toml"
    file.touch()
    monkeypatch.setattr(agent_module, "HOUSEKEEPING_S", 0)
    agent = Agent(load_settings(file))
    flow: Any = Flow()
    agent.flow = flow
    with capture_logs() as logs:
        keeping_house = asyncio.create_task(agent._keep_house())
        async with asyncio.timeout(10):
            await asyncio.wait(
                {keeping_house, asyncio.ensure_future(again.wait())}, return_when=asyncio.FIRST_COMPLETED
            )
        went_on = again.is_set()
        keeping_house.cancel()

    assert went_on
    assert ["agent.housekeeping_failed"] == [entry["event"] for entry in logs]
