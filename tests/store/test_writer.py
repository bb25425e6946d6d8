"""What becomes of records when the database does not take them."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from sip_agent.record import CallRecord
from sip_agent.store import CallQuery, CallStore, StoreError, reading, writer

URL = "sqlite:///calls.db"
NewRecord = Callable[..., CallRecord]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CallStore]:
    """Open a store on a SQLite file, and close it when the test is over."""
    opened = CallStore.open(URL, base_dir=tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Collect the log entries of the writer."""
    monkeypatch.setattr(writer, "log", structlog.get_logger())
    with capture_logs() as captured:
        yield captured


@contextmanager
def locked(tmp_path: Path) -> Iterator[None]:
    """Keep the write lock of the database, as a stuck program or a full disk would."""
    with closing(sqlite3.connect(tmp_path / "calls.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (the other thread has no event for us)
            await asyncio.sleep(0.01)


async def test_a_failing_database_keeps_records_in_memory(
    store: CallStore, tmp_path: Path, new_record: NewRecord, entries: list[Any]
) -> None:
    """`begin` says that the record is not stored yet; it is written once the database works again."""
    records = [new_record(), new_record()]
    with locked(tmp_path):
        with pytest.raises(StoreError, match=r"database is locked; it waits in memory") as first:
            await store.begin(records[0])
        started = time.monotonic()
        with pytest.raises(StoreError) as second:
            await store.begin(records[1])
        waited_s = time.monotonic() - started
        seen = (first.value.kept, second.value.kept, store.pending, store.failed_writes > 0, store.dropped)
    await until(lambda: store.pending == 0)

    assert seen == (True, True, 2, True, 0)
    assert waited_s < 0.5
    assert [record.to_dict() for record in reversed(records)] == store.search(CallQuery())
    assert {"store.write_failed", "store.write_recovered"} == {entry["event"] for entry in entries}


async def test_after_a_failure_storing_is_as_before(store: CallStore, tmp_path: Path, ended_record: NewRecord) -> None:
    """A call that begins while the database fails, and ends after, is one finished record."""
    record = ended_record(outcome=None)
    with locked(tmp_path), pytest.raises(StoreError):
        await store.begin(record)
    await until(lambda: store.pending == 0)
    record.outcome = ended_record().outcome

    await store.finish(record)

    assert [record.to_dict()] == store.search(CallQuery())


async def test_memory_is_bounded(
    store: CallStore, tmp_path: Path, new_record: NewRecord, ended_record: NewRecord
) -> None:
    """With its memory full the writer refuses new calls, but takes the end of those it has."""
    small = writer.Writer(store._engine, instance=1, capacity=1)
    known = ended_record()
    begun = known.to_dict() | {"outcome": None}
    with locked(tmp_path):
        with pytest.raises(StoreError):
            await small.write(begun)
        with pytest.raises(StoreError, match="too many records wait") as refused:
            await small.write(new_record().to_dict())
        with pytest.raises(StoreError) as taken:
            await small.write(known.to_dict())
    await small.close(10)

    assert (refused.value.kept, taken.value.kept, small.dropped) == (False, True, 1)
    assert [known.to_dict()] == store.search(CallQuery())


async def test_one_impossible_record_does_not_hold_up_the_others(
    store: CallStore, tmp_path: Path, new_record: NewRecord, entries: list[Any]
) -> None:
    """A record that the database refuses as such is logged whole and dropped; the rest is stored."""
    with closing(sqlite3.connect(tmp_path / "calls.db")) as other:
        other.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON calls WHEN new.call_id = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'no bad calls'); END"
        )
    records = [new_record(), new_record(call_id="bad"), new_record()]

    results = await asyncio.gather(*map(store.begin, records), return_exceptions=True)

    assert [result and str(result) for result in results] == [
        None,
        "the database refuses the record: no bad calls",
        None,
    ]
    assert [records[2].call_uuid, records[0].call_uuid] == [
        document["call_uuid"] for document in store.search(CallQuery())
    ]
    assert [("store.record_refused", records[1].to_dict())] == [(entry["event"], entry["record"]) for entry in entries]
    assert (store.dropped, store.pending) == (1, 0)


async def test_close_writes_what_waits(tmp_path: Path, new_record: NewRecord) -> None:
    """Records that wait when the agent stops are written before it ends."""
    store = CallStore.open(URL, base_dir=tmp_path)
    writes = [asyncio.ensure_future(store.begin(new_record())) for _ in range(50)]
    await asyncio.sleep(0)

    await store.close()
    await asyncio.gather(*writes)

    with reading(URL, base_dir=tmp_path) as reader:
        assert len(reader.search(CallQuery())) == 50


async def test_close_is_time_boxed(tmp_path: Path, new_record: NewRecord, entries: list[Any]) -> None:
    """A database that does not come back does not keep the agent; the log names what is lost."""
    store = CallStore.open(URL, base_dir=tmp_path)
    record = new_record()
    with locked(tmp_path):
        with pytest.raises(StoreError):
            await store.begin(record)
        await store.close(timeout_s=0.05)

    lost = [entry for entry in entries if entry["event"] == "store.records_lost"]
    assert [[record.call_uuid]] == [entry["call_uuids"] for entry in lost]


async def test_a_closed_store_takes_nothing(tmp_path: Path, new_record: NewRecord) -> None:
    """Storing after the end is refused, not forgotten; closing again does nothing."""
    store = CallStore.open(URL, base_dir=tmp_path)
    await store.close()
    await store.close()

    with pytest.raises(StoreError, match="the store is closed"):
        await store.begin(new_record())
