"""The outbox: claimed once, kept until it is settled, shown with its record; on each kind of database."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sip_agent.record import CallRecord, format_timestamp
from sip_agent.status import EvidenceState
from sip_agent.store import CallStore, StoreError

NewRecord = Callable[..., CallRecord]

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LEASES = {"transcript": timedelta(minutes=1)}


def evidence(state: EvidenceState = EvidenceState.WAITING, **values: Any) -> dict[str, Any]:
    """Return the evidence of a record whose call has just ended."""
    waits = state is EvidenceState.WAITING
    return {
        "endpoint": "transcript",
        "state": state.value,
        "trace_id": uuid.uuid4().hex,
        "attempts": 0,
        "due_at": format_timestamp(NOW) if waits else None,
        "deadline_at": format_timestamp(NOW + timedelta(minutes=5)) if waits else None,
        "changed_at": format_timestamp(NOW),
        "reason": None,
    } | values


async def stored(store: CallStore, record: CallRecord) -> dict[str, Any]:
    """Return what the store gives back of a record."""
    (found,) = await asyncio.to_thread(store.find, record.call_uuid)
    return found


async def test_a_record_brings_its_letter(store: CallStore, ended_record: NewRecord) -> None:
    """Record and letter are one write; what is claimed is nobody else's until its lease is over."""
    record = ended_record(run_id="7", evidence=evidence(), transcript=[{"speaker": "agent", "text": "a", "at_ms": 1}])
    await store.finish(record)

    (letter,) = store.outbox.claim(NOW, 10, LEASES)
    again = store.outbox.claim(NOW + timedelta(seconds=59), 10, LEASES)
    (after_its_lease,) = store.outbox.claim(NOW + timedelta(seconds=60), 10, LEASES)

    assert (record.call_uuid, "transcript", 1) == (letter.call_uuid, letter.endpoint, letter.attempts)
    assert (NOW + timedelta(minutes=5), record.transcript) == (letter.deadline_at, letter.document["transcript"])
    assert [] == again
    assert 2 == after_its_lease.attempts


async def test_the_record_shows_what_became_of_it(store: CallStore, ended_record: NewRecord) -> None:
    """State, attempts and reason of the letter stand in the record; its other values stay."""
    record = ended_record(evidence=evidence())
    await store.finish(record)
    store.outbox.claim(NOW, 10, LEASES)
    store.outbox.settle(record.call_uuid, EvidenceState.REFUSED, NOW + timedelta(seconds=2), reason="no\0such run")

    found = await stored(store, record)

    assert record.evidence is not None
    assert {
        **record.evidence,
        "state": "refused",
        "attempts": 1,
        "due_at": None,
        "changed_at": "2026-03-01T12:00:02.000Z",
        "reason": "no␀such run",
    } == found["evidence"]
    assert [] == store.outbox.claim(NOW + timedelta(days=1), 10, LEASES)
    assert None is store.outbox.next_due()


async def test_a_record_that_is_written_again_sends_nothing_twice(store: CallStore, ended_record: NewRecord) -> None:
    """A record that is completed later (its metrics come late) leaves the letter as it is."""
    record = ended_record(evidence=evidence())
    await store.finish(record)
    store.outbox.claim(NOW, 10, LEASES)
    store.outbox.settle(record.call_uuid, EvidenceState.SENT, NOW)
    record.metrics = {"talk_ratio": 0.5}

    await store.finish(record)

    found = await stored(store, record)
    assert ({"talk_ratio": 0.5}, "sent") == (found["metrics"], found["evidence"]["state"])
    assert [] == store.outbox.claim(NOW + timedelta(days=1), 10, LEASES)


async def test_the_longest_due_comes_first(store: CallStore, ended_record: NewRecord) -> None:
    """A claim takes no more than it can carry, in the order in which letters became due, and none too early."""
    due = [NOW + timedelta(seconds=second) for second in (3, 1, 2, 30)]
    records = [ended_record(evidence=evidence(due_at=format_timestamp(moment))) for moment in due]
    await asyncio.gather(*(store.finish(record) for record in records))

    next_due = store.outbox.next_due()
    first = store.outbox.claim(NOW + timedelta(seconds=10), 2, LEASES)
    rest = store.outbox.claim(NOW + timedelta(seconds=10), 10, LEASES)

    assert due[1] == next_due
    assert [records[1].call_uuid, records[2].call_uuid] == [letter.call_uuid for letter in first]
    assert [records[0].call_uuid] == [letter.call_uuid for letter in rest]


async def test_what_is_not_sent_is_listed_and_not_claimed(store: CallStore, ended_record: NewRecord) -> None:
    """A record that says why nothing is sent stands in the list; a record without evidence does not."""
    odd = ended_record(evidence=evidence(EvidenceState.NOT_SENT, reason="no integer"))
    waiting, plain = ended_record(evidence=evidence()), ended_record()
    await asyncio.gather(*(store.finish(record) for record in (odd, waiting, plain)))

    listed = await asyncio.to_thread(store.evidence)
    only = await asyncio.to_thread(store.evidence, state="not_sent")

    assert {odd.call_uuid, waiting.call_uuid} == {document["call_uuid"] for document in listed}
    assert [(odd.call_uuid, "no integer")] == [(item["call_uuid"], item["evidence"]["reason"]) for item in only]
    assert [waiting.call_uuid] == [letter.call_uuid for letter in store.outbox.claim(NOW, 10, LEASES)]


async def test_taken_by_hand(store: CallStore, ended_record: NewRecord) -> None:
    """A call can be taken whatever its state is, also one that was never meant to be sent."""
    gone, never = ended_record(evidence=evidence()), ended_record()
    await asyncio.gather(store.finish(gone), store.finish(never))
    store.outbox.claim(NOW, 10, LEASES)
    store.outbox.settle(gone.call_uuid, EvidenceState.GIVEN_UP, NOW)

    for record in (gone, never):
        store.outbox.take(record.call_uuid, "transcript", NOW, timedelta(minutes=1))

    found = [(await stored(store, record))["evidence"] for record in (gone, never)]
    assert [("sending", 2), ("sending", 1)] == [(item["state"], item["attempts"]) for item in found]


async def test_after_a_restart_a_file_has_no_other_claimant(store: CallStore, ended_record: NewRecord) -> None:
    """In SQLite the dead agent's letters are handed out at once; on a server their leases have to end."""
    await store.finish(ended_record(evidence=evidence()))
    store.outbox.claim(NOW, 10, LEASES)

    store.outbox.release(NOW)

    alone = store._engine.dialect.name == "sqlite"
    assert alone == bool(store.outbox.claim(NOW, 10, LEASES))


async def test_verdicts_stand_in_the_records_of_their_runs(store: CallStore, ended_record: NewRecord) -> None:
    """Whether the verdict comes before the record or after it; a later one replaces it."""
    before, other = ended_record(run_id="7"), ended_record(run_id="8")
    store.outbox.note_verdicts({"7": {"passed": False}, "9": {"passed": True}})
    store.outbox.note_verdicts({"7": {"passed": True}})
    store.outbox.note_verdicts({})
    await asyncio.gather(store.finish(before), store.finish(other))

    verdicts = [(await stored(store, record))["verdict"] for record in (before, other)]

    assert [{"passed": True}, None] == verdicts


async def test_claims_of_several_agents(store: CallStore, ended_record: NewRecord) -> None:
    """Agents that claim at the same time never get the same letter."""
    await asyncio.gather(*(store.finish(ended_record(evidence=evidence())) for _ in range(20)))

    claims = await asyncio.gather(*(asyncio.to_thread(store.outbox.claim, NOW, 4, LEASES) for _ in range(5)))

    uuids = [letter.call_uuid for letters in claims for letter in letters]
    assert len(set(uuids)) == len(uuids)
    rest = store.outbox.claim(NOW, 20, LEASES)
    assert 20 == len(uuids) + len(rest)


async def test_a_database_that_fails_is_told(store: CallStore) -> None:
    """Whoever uses the outbox learns what the database said, without SQL."""
    with store._engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE outbox")
        connection.commit()

    with pytest.raises(StoreError, match="the database does not work"):
        store.outbox.claim(NOW, 1, LEASES)
