"""What a bad network does to packets, and the thread that delays them, alone, under the compiler's checkers."""

from pathlib import Path

import pytest

from tests.engine.hammers import hammer


@pytest.mark.parametrize("checks", ["address,undefined", "thread"])
def test_packets_fare_as_asked_and_on_one_thread(checks: str, tmp_path: Path) -> None:
    """Shares, delays and order are those asked for; a path that is closed delivers nothing any more."""
    assert (0, "ok\n", "") == hammer("impairment_hammer", checks, tmp_path)
