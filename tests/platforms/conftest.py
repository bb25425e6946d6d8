"""What the tests of platforms share."""

from collections.abc import AsyncIterator

import pytest

from tests.platforms.cekura.stand_in import CekuraStandIn


@pytest.fixture
async def cekura() -> AsyncIterator[CekuraStandIn]:
    """Serve a stand-in for Cekura."""
    async with CekuraStandIn().serving() as stand_in:
        yield stand_in
