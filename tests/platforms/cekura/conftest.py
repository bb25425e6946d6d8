"""What the tests of Cekura share."""

from collections.abc import AsyncIterator

import pytest

from sip_agent.platforms.cekura.client import CekuraClient
from tests.platforms.cekura.stand_in import KEY, CekuraStandIn
from tests.platforms.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """Keep the client's time."""
    return FakeClock()


@pytest.fixture
async def client(cekura: CekuraStandIn, clock: FakeClock) -> AsyncIterator[CekuraClient]:
    """Open a client of the stand-in."""
    async with CekuraClient(cekura.url, KEY, clock=clock.clock) as opened:
        yield opened
