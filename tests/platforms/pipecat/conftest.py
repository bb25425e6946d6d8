"""What the tests of Pipecat runs share."""

from collections.abc import AsyncIterator

import pytest

from tests.platforms.pipecat.stand_in import PipecatStandIn


@pytest.fixture
async def pipecat() -> AsyncIterator[PipecatStandIn]:
    """Serve a stand-in for Pipecat and Daily."""
    async with PipecatStandIn().serving() as stand_in:
        yield stand_in
