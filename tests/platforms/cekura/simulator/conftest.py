"""What the tests of the stand-in share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sip_agent.platforms.cekura.simulator.server import Simulator
from sip_agent.platforms.cekura.simulator.world import Setup
from tests.platforms.cekura.simulator.switchboard import Client, Switchboard, serving, write_setup


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """Read a scenarios file."""
    return write_setup(tmp_path, "calls_per_second: 100\n")


@pytest.fixture
async def telephone() -> Switchboard:
    """Place no real calls."""
    return Switchboard()


@pytest.fixture
async def simulator(setup: Setup, telephone: Switchboard, tmp_path: Path) -> AsyncIterator[tuple[Simulator, Client]]:
    """Open a stand-in."""
    async with serving(setup, telephone, tmp_path) as opened:
        yield opened


@pytest.fixture
async def client(simulator: tuple[Simulator, Client]) -> Client:
    """Ask the stand-in."""
    return simulator[1]
