"""What the tests of Sipfront share."""

from collections.abc import AsyncIterator

import pytest

from tests.platforms.sipfront.stand_in import SipfrontStandIn


@pytest.fixture
async def sipfront() -> AsyncIterator[SipfrontStandIn]:
    """Serve a stand-in for Sipfront."""
    async with SipfrontStandIn().serving() as stand_in:
        yield stand_in
