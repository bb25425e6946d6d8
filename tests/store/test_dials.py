"""The ledger of dialled numbers, on each kind of database."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sip_agent.errors import SettingsError
from sip_agent.store import CallStore, Claim, DialLedger, dial_ledger

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
NUMBER = "+14155550123"


@pytest.fixture
def ledger(store_url: str, tmp_path: Path) -> Iterator[DialLedger]:
    """Open a ledger where there is no database yet."""
    with dial_ledger(store_url, base_dir=tmp_path) as opened:
        yield opened


def test_a_run_is_claimed_once(ledger: DialLedger, store_url: str, tmp_path: Path) -> None:
    """A run has one call, also for who opens the ledger later."""
    first = [ledger.claim(NUMBER, NOW, run_id=7, max_per_day=9) for _ in range(2)]
    with dial_ledger(store_url, base_dir=tmp_path) as again:
        assert Claim.DIALLED_BEFORE is again.claim(NUMBER, NOW + timedelta(days=400), run_id=7, max_per_day=9)
        assert Claim.GRANTED is again.claim(NUMBER, NOW, run_id=8, max_per_day=9)

    assert [Claim.GRANTED, Claim.DIALLED_BEFORE] == first


def test_the_cap_of_a_day(ledger: DialLedger) -> None:
    """The cap counts the calls of the 24 hours before, with a run or without."""
    claims = [ledger.claim(NUMBER, NOW, run_id=run_id, max_per_day=2) for run_id in (None, 1, None, 2)]
    later = NOW + timedelta(hours=24)

    assert [Claim.GRANTED, Claim.GRANTED, Claim.OVER_THE_CAP, Claim.OVER_THE_CAP] == claims
    assert (2, 0) == (ledger.count(NOW), ledger.count(later))
    assert Claim.GRANTED is ledger.claim(NUMBER, later, run_id=2, max_per_day=2)


def test_many_at_once(ledger: DialLedger) -> None:
    """Of many who claim at the same time, no two get the same run, and together no more than the cap."""
    with ThreadPoolExecutor(8) as threads:
        one_run = list(threads.map(lambda _: ledger.claim(NUMBER, NOW, run_id=1, max_per_day=50), range(16)))
        many = list(threads.map(lambda run_id: ledger.claim(NUMBER, NOW, run_id=run_id, max_per_day=6), range(2, 18)))

    assert 1 == one_run.count(Claim.GRANTED)
    assert 5 == many.count(Claim.GRANTED)


async def test_beside_an_agent(store: CallStore, store_url: str, tmp_path: Path) -> None:
    """The ledger is there while an agent uses its store."""
    assert 0 == store.pending
    with dial_ledger(store_url, base_dir=tmp_path) as ledger:
        assert Claim.GRANTED is ledger.claim(NUMBER, NOW, run_id=1, max_per_day=1)


def test_a_database_that_does_not_work(tmp_path: Path) -> None:
    """Without a ledger nothing is claimed."""
    (tmp_path / "calls.db").write_text("this is some other file, and a long one at that")
    with (
        pytest.raises(SettingsError, match=r"store\.url: cannot use .*calls\.db"),
        dial_ledger("sqlite:///calls.db", base_dir=tmp_path),
    ):
        pytest.fail("it was opened")
