"""The store as the agent uses it, on each kind of database."""

import asyncio
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from sqlalchemy import event

from sip_agent.errors import SettingsError
from sip_agent.record import CallRecord, RtpRecord
from sip_agent.status import Outcome
from sip_agent.store import CallQuery, CallStore, reading
from sip_agent.store.calls import INTERRUPTED

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NewRecord = Callable[..., CallRecord]

AGENT = Path(__file__).with_name("writing_agent.py")


async def test_a_call_is_stored_when_begin_returns(
    store: CallStore, store_url: str, tmp_path: Path, new_record: NewRecord
) -> None:
    """Another process sees a call as soon as `begin` has returned."""
    record = new_record()

    await store.begin(record)

    with reading(store_url, base_dir=tmp_path) as reader:
        assert [record.to_dict()] == reader.find(record.call_uuid)


async def test_the_whole_record_is_kept(store: CallStore, ended_record: NewRecord) -> None:
    """What is found is the record as it was stored, nested values and all."""
    record = ended_record(
        headers={"X-Run-Id": ["1"], "X-Note": ["a", "b"]},
        rtp=RtpRecord(rtt_ms=12.5),
        transcript=[{"speaker": "caller", "text": "héllo 🎧"}],
    )

    await store.finish(record)

    assert [record.to_dict()] == store.find(record.call_uuid)


async def test_finish_completes_what_begin_stored(store: CallStore, new_record: NewRecord) -> None:
    """A call that was begun and finished is one record: the finished one."""
    record = new_record()
    await store.begin(record)
    record.outcome = Outcome.CANCELLED

    await store.finish(record)

    assert [record.to_dict()] == store.search(CallQuery())


async def test_storing_twice_stores_once(store: CallStore, new_record: NewRecord) -> None:
    """Both operations may be repeated."""
    record = new_record(headers={"X-A": ["1"]})
    await store.begin(record)
    await store.begin(record)
    record.outcome = Outcome.ANSWERED
    await store.finish(record)
    await store.finish(record)

    assert [record.to_dict()] == store.search(CallQuery(headers=(("X-A", "1"),)))


async def test_begin_again_keeps_what_is_known_by_now(store: CallStore, new_record: NewRecord) -> None:
    """A call that was answered is stored as such before it ends."""
    record = new_record()
    await store.begin(record)
    record.answered_at = NOW

    await store.begin(record)

    assert [record.to_dict()] == store.find(record.call_uuid)


async def test_a_finished_call_does_not_open_again(store: CallStore, ended_record: NewRecord) -> None:
    """A `begin` that comes late changes nothing."""
    record = ended_record()
    await store.finish(record)
    expected = record.to_dict()
    record.outcome = None

    await store.begin(record)

    assert [expected] == store.find(record.call_uuid)


async def test_a_late_begin_does_not_reopen_in_one_batch(store: CallStore, ended_record: NewRecord) -> None:
    """A `begin` behind a `finish` that still waits changes nothing either, and returns."""
    record = ended_record()
    expected = record.to_dict()
    finish = asyncio.ensure_future(store.finish(record))
    await asyncio.sleep(0)
    record.outcome = None

    await asyncio.gather(finish, store.begin(record))

    assert [expected] == store.find(record.call_uuid)


async def test_the_stored_record_is_of_its_moment(store: CallStore, new_record: NewRecord) -> None:
    """A list that grows after `begin` was called does not change what is stored."""
    record = new_record(headers={"X-A": ["1"]})
    begin = asyncio.ensure_future(store.begin(record))
    await asyncio.sleep(0)
    record.headers["X-A"].append("2")

    await begin

    assert store.find(record.call_uuid)[0]["headers"] == {"X-A": ["1"]}


async def test_finish_asks_for_an_outcome(store: CallStore, new_record: NewRecord) -> None:
    """A finished call without an outcome is a mistake of the caller."""
    with pytest.raises(ValueError, match="has an outcome"):
        await store.finish(new_record())


async def test_what_a_database_cannot_hold_is_stored_visibly(store: CallStore, ended_record: NewRecord) -> None:
    """NUL, lone surrogates and numbers that JSON lacks do not break storing, and search finds them."""
    record = ended_record(run_id="1\x002", headers={"X-Raw": ["caf\udce9"]}, metrics={"ratio": float("nan"), "at": NOW})

    await store.finish(record)

    found = store.search(CallQuery(run_id="1\x002", headers=(("x-raw", "caf\udce9"),)))
    assert [("1␀2", {"X-Raw": ["caf\\udce9"]}, {"ratio": None, "at": str(NOW)})] == [
        (document["run_id"], document["headers"], document["metrics"]) for document in found
    ]


async def test_numbers_of_numpy_are_stored_as_numbers(store: CallStore, ended_record: NewRecord) -> None:
    """What a tool took and gave may come from numpy."""
    result = {"count": np.int64(3), "level": np.float32(0.5), "heard": np.bool_(False), "loud": np.float32("nan")}
    record = ended_record(transcript=[{"tool": "listen", "result": result | {"sound": np.zeros(2, np.int16)}}])

    await store.finish(record)

    [entry] = store.find(record.call_uuid)[0]["transcript"]
    expected = {"count": 3, "level": 0.5, "heard": False, "loud": None, "sound": "[0 0]"}
    assert {name: (type(value), value) for name, value in expected.items()} == {
        name: (type(value), value) for name, value in entry["result"].items()
    }


async def test_ids_and_headers_may_be_long(store: CallStore, ended_record: NewRecord) -> None:
    """An id of 40 kB, longer than an index entry can be in PostgreSQL, is stored and found."""
    long = secrets.token_hex(20_000)
    record = ended_record(run_id=long, call_id=long, headers={f"X-{long}": [long]})

    await store.finish(record)

    assert [record.to_dict()] == store.search(CallQuery(run_id=long, headers=((f"x-{long}", long),)))


async def test_many_calls_share_transactions(store: CallStore, new_record: NewRecord) -> None:
    """500 calls that begin together cost a few transactions, not 500."""
    commits = 0

    def count(_: Any) -> None:
        nonlocal commits
        commits += 1

    event.listen(store._engine, "commit", count)
    await asyncio.gather(*(store.begin(new_record()) for _ in range(500)))

    assert len(store.search(CallQuery())) == 500
    assert commits <= 10


async def test_concurrent_calls_keep_apart(store: CallStore, new_record: NewRecord) -> None:
    """200 calls that begin and finish at their own pace leave 200 finished records with their own headers."""

    async def serve(number: int) -> None:
        record = new_record(run_id=str(number), headers={"X-Number": [str(number)]})
        await store.begin(record)
        record.outcome = Outcome.ANSWERED
        await store.finish(record)

    await asyncio.gather(*(serve(number) for number in range(200)))

    found = store.search(CallQuery(outcome=Outcome.ANSWERED))
    assert sorted(str(number) for number in range(200)) == sorted(document["run_id"] for document in found)
    assert [document["run_id"] for document in store.search(CallQuery(headers=(("x-number", "7"),)))] == ["7"]


async def test_a_cancelled_caller_does_not_take_its_record_along(store: CallStore, new_record: NewRecord) -> None:
    """A call whose coroutine is cancelled while it is being stored is stored all the same."""
    record = new_record()
    begin = asyncio.ensure_future(store.begin(record))
    await asyncio.sleep(0)
    begin.cancel()

    await asyncio.wait([begin])
    await store.begin(new_record())

    assert [record.to_dict()] == store.find(record.call_uuid)


async def test_calls_of_a_dead_agent_are_closed_once(
    store_url: str, tmp_path: Path, new_record: NewRecord, ended_record: NewRecord
) -> None:
    """At the next start, open calls become interrupted; for how long they were talked nobody knows. Others stay."""
    ended = ended_record()
    silent = new_record()
    talking = new_record(answered_at=NOW)
    dead = CallStore.open(store_url, base_dir=tmp_path)
    await dead.finish(ended)
    await dead.begin(silent)
    await dead.begin(talking)
    await dead.close()

    alive = CallStore.open(store_url, base_dir=tmp_path)
    closed = await alive.close_interrupted(NOW + timedelta(seconds=90))
    again = await alive.close_interrupted(NOW + timedelta(seconds=99))
    stored = alive.search(CallQuery())
    await alive.close()

    common = {
        "outcome": "interrupted",
        "ended_by": "system",
        "end_reason": INTERRUPTED,
        "ended_at": "2026-03-01T12:01:30.000Z",
    }
    assert [
        talking.to_dict() | common | {"metrics": {"error": INTERRUPTED}},
        silent.to_dict() | common,
        ended.to_dict(),
    ] == stored
    assert sorted([talking.call_uuid, silent.call_uuid]) == sorted(item["call_uuid"] for item in closed)
    assert again == []


async def test_the_recording_tells_until_when_a_call_went_on(
    store_url: str, tmp_path: Path, new_record: NewRecord
) -> None:
    """A call that the death of an agent cut off ended with its recording, but not before its answer."""
    durations_ms = {"early": 5_000, "late": 30_000, "unanswered": 5_000}
    dead = CallStore.open(store_url, base_dir=tmp_path)
    for name in durations_ms:
        answered_at = None if name == "unanswered" else NOW + timedelta(seconds=10)
        await dead.begin(new_record(call_uuid=name, answered_at=answered_at))
    await dead.close()

    def find_recording(call_uuid: str, received_at: datetime) -> dict[str, Any]:
        assert NOW < received_at < NOW + timedelta(seconds=5)
        return {"started_at": "2026-03-01T12:00:00.000Z", "duration_ms": durations_ms[call_uuid]}

    alive = CallStore.open(store_url, base_dir=tmp_path)
    await alive.close_interrupted(NOW + timedelta(hours=1), find_recording)
    found = {document["call_uuid"]: document for document in alive.search(CallQuery())}
    await alive.close()

    assert {
        "early": ("2026-03-01T12:00:10.000Z", 0, {"error": INTERRUPTED}),
        "late": ("2026-03-01T12:00:30.000Z", 20_000, {"error": INTERRUPTED}),
        "unanswered": ("2026-03-01T12:00:05.000Z", None, {}),
    } == {name: (item["ended_at"], item["talk_ms"], item["metrics"]) for name, item in found.items()}
    assert durations_ms == {name: item["recording"]["duration_ms"] for name, item in found.items()}


async def test_an_agent_does_not_close_its_own_calls(store: CallStore, new_record: NewRecord) -> None:
    """Closing interrupted calls while calls go on leaves these alone."""
    await store.begin(new_record())

    assert await store.close_interrupted(NOW) == []


@pytest.mark.postgres
async def test_agents_that_share_a_server_leave_each_other_alone(
    postgres_url: str, tmp_path: Path, new_record: NewRecord
) -> None:
    """A second agent on one PostgreSQL database starts, and does not close the first's live calls."""
    first = CallStore.open(postgres_url, base_dir=tmp_path)
    record = new_record()
    await first.begin(record)

    second = CallStore.open(postgres_url, base_dir=tmp_path)
    closed = await second.close_interrupted(NOW)
    await second.close()
    await first.close()

    assert closed == []


@pytest.mark.postgres
async def test_a_server_that_cuts_the_connections_costs_no_record(
    postgres_url: str, tmp_path: Path, new_record: NewRecord
) -> None:
    """After the server has dropped every connection, storing goes on, and the agent still counts as alive."""
    first = CallStore.open(postgres_url, base_dir=tmp_path)
    await first.begin(new_record())
    cut_other_connections(postgres_url)

    await first.begin(new_record())
    second = CallStore.open(postgres_url, base_dir=tmp_path)
    closed = await second.close_interrupted(NOW)
    stored = second.search(CallQuery())
    await second.close()
    await first.close()

    assert (len(closed), len(stored)) == (0, 2)


def cut_other_connections(url: str) -> None:
    """End the server's other sessions with this database, as a restart would."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_a_sqlite_file_has_one_agent(tmp_path: Path) -> None:
    """A second agent on one SQLite file is told who uses it."""
    first = CallStore.open("sqlite:///calls.db", base_dir=tmp_path)

    with pytest.raises(SettingsError, match=r"store\.url: .*calls\.db is in use by another sip-agent"):
        CallStore.open("sqlite:///calls.db", base_dir=tmp_path)

    await first.close()
    await CallStore.open("sqlite:///calls.db", base_dir=tmp_path).close()


def run_an_agent_and_kill_it(store_url: str, folder: Path) -> dict[str, set[str]]:
    """Kill an agent that stores 200 calls after a quarter of them; return what it said it had stored."""
    said: dict[str, set[str]] = {"begun": set(), "finished": set()}
    command = [sys.executable, str(AGENT), store_url, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        for count, line in enumerate(agent.stdout, 1):
            if line.endswith("\n"):  # the last one may be cut off
                word, call_uuid = line.split()
                said[word].add(call_uuid)
            if count == 80:
                agent.kill()
    return said


async def test_kill_9_loses_nothing(store_url: str, tmp_path: Path) -> None:
    """What was acknowledged before kill -9 is stored, once, and no call stays open after the next start."""
    said = run_an_agent_and_kill_it(store_url, tmp_path)

    store = CallStore.open(store_url, base_dir=tmp_path)
    before = {document["call_uuid"]: document["outcome"] for document in store.search(CallQuery())}
    open_calls = {call_uuid for call_uuid, outcome in before.items() if outcome is None}
    closed: list[str] = []
    async with asyncio.timeout(10):  # a server may need a moment to see that the agent is dead
        while len(closed) < len(open_calls):
            closed += [document["call_uuid"] for document in await store.close_interrupted(NOW)]
    after = Counter(document["outcome"] for document in store.search(CallQuery()))
    await store.close()

    assert set() == said["begun"] - before.keys()
    assert {"answered"} == {before[call_uuid] for call_uuid in said["finished"]}
    assert sorted(open_calls) == sorted(closed)
    assert Counter(interrupted=len(open_calls), answered=len(before) - len(open_calls)) == after
    assert open_calls
