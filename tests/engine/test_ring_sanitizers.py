"""The lock-free ring and the playout rules, alone, under the compiler's checkers."""

from pathlib import Path

import pytest

from tests.engine.hammers import hammer


@pytest.mark.parametrize("checks", ["address,undefined", "thread"])
def test_two_threads_lose_tear_and_reorder_no_frame(checks: str, tmp_path: Path) -> None:
    """A producer that writes and flushes and a consumer that reads agree on every frame, without a data race."""
    assert (0, "ok\n", "") == hammer("ring_hammer", checks, tmp_path)
