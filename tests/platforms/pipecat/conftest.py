"""What the tests of Pipecat runs share."""

from collections.abc import AsyncIterator

import pytest

from tests.platforms.cekura.stand_in import CekuraStandIn
from tests.platforms.pipecat.stand_in import PipecatStandIn


@pytest.fixture
async def pipecat() -> AsyncIterator[PipecatStandIn]:
    """Serve a stand-in for Pipecat and Daily."""
    async with PipecatStandIn().serving() as stand_in:
        yield stand_in


@pytest.fixture
async def cekura() -> AsyncIterator[CekuraStandIn]:
    """Serve a stand-in for Cekura."""
    async with CekuraStandIn().serving() as stand_in:
        yield stand_in
