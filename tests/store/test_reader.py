"""Finding call records, on each kind of database."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sip_agent.errors import SettingsError
from sip_agent.record import CallRecord
from sip_agent.status import Outcome
from sip_agent.store import CallQuery, CallStore, reading

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NewRecord = Callable[..., CallRecord]


@pytest.fixture
async def uuids(store: CallStore, ended_record: NewRecord) -> list[str]:
    """Store three calls, one second apart; return their uuids, oldest first."""
    records = [
        ended_record(run_id="1", scenario_id="7", handler="echo", headers={"X-Tenant": ["acme"], "X-B": ["1"]}),
        ended_record(run_id="1", result_id="9", outcome=Outcome.FAILED, headers={"X-Tenant": ["other", "acme"]}),
        ended_record(run_id="01", scenario_id="7", headers={"X-Tenant": ["Acme"], "X-Other": ["acme"]}),
    ]
    for record in records:
        await store.finish(record)
    return [record.call_uuid for record in records]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (CallQuery(), [2, 1, 0]),
        (CallQuery(limit=2), [2, 1]),
        (CallQuery(run_id="1"), [1, 0]),
        (CallQuery(scenario_id="7"), [2, 0]),
        (CallQuery(result_id="9"), [1]),
        (CallQuery(handler="echo"), [0]),
        (CallQuery(outcome=Outcome.FAILED), [1]),
        (CallQuery(headers=(("x-TENANT", "acme"),)), [1, 0]),
        (CallQuery(headers=(("X-Tenant", "acme"), ("X-B", "1"))), [0]),
        (CallQuery(since=NOW + timedelta(seconds=2)), [2, 1]),
        (CallQuery(until=NOW + timedelta(seconds=2)), [0]),
        (CallQuery(run_id="1", outcome=Outcome.ANSWERED), [0]),
        (CallQuery(run_id="1' OR 1=1 --"), []),
    ],
    ids=str,
)
def test_search_meets_every_condition_newest_first(
    store: CallStore, uuids: list[str], query: CallQuery, expected: list[int]
) -> None:
    """Each filter keeps exactly the calls it names: ids by exact text, header names in any case."""
    found = [document["call_uuid"] for document in store.search(query)]

    assert [uuids[index] for index in expected] == found


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [("run:1", [1, 0]), ("scenario:7", [2, 0]), ("result:9", [1]), ("run:404", []), ("nobody", []), ("", [])],
)
def test_find_takes_the_ids_of_a_test_run(
    store: CallStore, uuids: list[str], identifier: str, expected: list[int]
) -> None:
    """`run:`, `scenario:` and `result:` name the calls with that id; what is unknown names none."""
    found = [document["call_uuid"] for document in store.find(identifier)]

    assert [uuids[index] for index in expected] == found


async def test_find_takes_a_uuid_its_start_or_a_call_id(store: CallStore, ended_record: NewRecord) -> None:
    """A call is found by its uuid, by six characters of it and by its Call-ID, but not by five characters."""
    record = ended_record(call_uuid="abcdef01-2345", call_id="a%b_c@host")
    await store.finish(record)

    found = [len(store.find(text)) for text in ("abcdef01-2345", "abcdef", "a%b_c@host", "abcde", "%%%%%%")]

    assert found == [1, 1, 1, 0, 0]


async def test_find_returns_every_candidate(store: CallStore, ended_record: NewRecord) -> None:
    """The start of two uuids names both; a whole uuid names one, even if another begins with it."""
    for call_uuid in ("abcdef01", "abcdef01-2"):
        await store.finish(ended_record(call_uuid=call_uuid))

    found = [[document["call_uuid"] for document in store.find(text)] for text in ("abcdef", "abcdef01")]

    assert found == [["abcdef01-2", "abcdef01"], ["abcdef01"]]


async def test_a_record_without_a_time_comes_last(store: CallStore, ended_record: NewRecord) -> None:
    """A call of which nobody knows when it began is older than all others."""
    for call_uuid, moment in (("unknown", None), ("known", NOW)):
        await store.finish(ended_record(call_uuid=call_uuid, invite_received_at=moment))

    assert [document["call_uuid"] for document in store.search(CallQuery())] == ["known", "unknown"]


async def test_reading_goes_on_beside_the_agent(
    store: CallStore, store_url: str, tmp_path: Path, new_record: NewRecord
) -> None:
    """A reader sees the calls of a running agent, and leaves those in progress open."""
    record = new_record()
    await store.begin(record)

    with reading(store_url, base_dir=tmp_path) as reader:
        outcomes = [document["outcome"] for document in reader.search(CallQuery())]

    assert outcomes == [None]
    assert [record.to_dict()] == store.find(record.call_uuid)


def test_reading_creates_nothing(tmp_path: Path) -> None:
    """Where no agent has ever run, a reader says so and leaves the folder as it is."""
    with (
        pytest.raises(SettingsError, match=r"store\.url: there are no call records at .*calls\.db"),
        reading("sqlite:///calls.db", base_dir=tmp_path),
    ):
        pass

    assert list(tmp_path.iterdir()) == []


def test_reading_upgrades_nothing(tmp_path: Path) -> None:
    """A database of an older version is left for `db upgrade`."""
    (tmp_path / "calls.db").touch()

    with (
        pytest.raises(SettingsError, match="run: sip-agent db upgrade"),
        reading("sqlite:///calls.db", base_dir=tmp_path),
    ):
        pass

    assert (tmp_path / "calls.db").stat().st_size == 0


async def test_find_has_a_limit(store: CallStore, ended_record: NewRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that uses one Call-ID for ever fills no memory: the newest records are found."""
    monkeypatch.setattr("sip_agent.store.reader.FOUND_MAX", 2)
    records = [ended_record(call_id="again") for _ in range(3)]
    for record in records:
        await store.finish(record)

    assert [record.call_uuid for record in records[:0:-1]] == [found["call_uuid"] for found in store.find("again")]


async def test_a_database_that_breaks_is_explained(tmp_path: Path, ended_record: NewRecord) -> None:
    """What the database says is a message about `store.url`, not the error of a library."""
    url = f"sqlite:///{tmp_path}/calls.db"
    store = CallStore.open(url, base_dir=tmp_path)
    await store.finish(ended_record())
    await store.close()

    with reading(url, base_dir=tmp_path) as reader:
        (tmp_path / "calls.db").write_bytes(b"\xff" * 8192)
        with pytest.raises(SettingsError, match=r"store\.url: cannot use"):
            reader.find("anything")
