"""The worker that sends evidence, to a real server; time passes only where a test says so."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sip_agent.config import CekuraSettings
from sip_agent.platforms.cekura.client import CekuraClient
from sip_agent.platforms.cekura.evidence import Evidence
from sip_agent.platforms.cekura.outbox import Courier, EvidenceSender, push
from sip_agent.platforms.errors import PlatformError
from sip_agent.record import CallRecord
from sip_agent.status import EvidenceState, Outcome
from sip_agent.store import CallStore
from tests.platforms.cekura.evidence_desk import KEY, OBSERVE, TRANSCRIPT, Answer, EvidenceDesk

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LONG_S = 10.0


class Office:
    """A store, a sender whose clock the test sets, and the desk that it sends to."""

    def __init__(self, folder: Path, desk: EvidenceDesk, **settings: Any) -> None:
        self.store = CallStore.open("sqlite:///calls.db", base_dir=folder)
        self.desk = desk
        self.now = NOW
        self.settings = CekuraSettings(**({"base_url": desk.url, "api_key": KEY, "agent_id": 5} | settings))
        self.evidence = Evidence(self.settings, joined=True, recordings_dir=folder)
        self.numbers = 0

    def courier(self) -> Courier:
        """Return what brings evidence to the desk."""
        client = CekuraClient(self.settings.base_url, self.settings.api_key.get_secret_value())
        return Courier(client, self.evidence, transcript_url=self.settings.transcript_url)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[EvidenceSender]:
        """Run a sender."""
        sender = EvidenceSender(self.store.outbox, self.courier(), now=lambda: self.now)
        await sender.start()
        try:
            yield sender
        finally:
            await sender.stop()

    async def end_call(self, **fields: Any) -> CallRecord:
        """Store a call that ends now."""
        self.numbers += 1
        values: dict[str, Any] = {
            "call_uuid": f"0000000{self.numbers}-0000-4000-8000-000000000000",
            "run_id": "456789",
            "handler": "echo",
            "outcome": Outcome.ANSWERED,
            "invite_received_at": self.now,
            "answered_at": self.now,
            "ended_at": self.now,
        }
        record = CallRecord(**(values | fields))
        record.evidence = self.evidence.decide(record)
        await self.store.finish(record)
        return record

    def found(self, record: CallRecord) -> dict[str, Any]:
        """Return what the store says of the evidence."""
        (document,) = self.store.find(record.call_uuid)
        evidence: dict[str, Any] = document["evidence"]
        return evidence

    async def until(self, record: CallRecord, state: str, attempts: int = 1) -> dict[str, Any]:
        """Return the evidence of a record once it is in this state after so many attempts."""

        def reached() -> dict[str, Any] | None:
            found = self.found(record)
            return found if (found["state"], found["attempts"]) == (state, attempts) else None

        evidence: dict[str, Any] = await eventually(reached)
        return evidence

    async def settled(self, record: CallRecord, attempts: int, sender: EvidenceSender) -> dict[str, Any]:
        """Return the evidence of a record once so many attempts are over."""
        sender.wake()

        def over() -> dict[str, Any] | None:
            found = self.found(record)
            return found if found["attempts"] == attempts and found["state"] != "sending" else None

        evidence: dict[str, Any] = await eventually(over)
        return evidence


async def eventually(look: Callable[[], Any]) -> Any:
    """Return what `look` finds once it finds something."""
    async with asyncio.timeout(LONG_S):
        while not (found := look()):  # noqa: ASYNC110  (it waits for a database, which sets no events)
            await asyncio.sleep(0.01)
        return found


@pytest.fixture
def desk() -> Iterator[EvidenceDesk]:
    """Open the place where evidence goes."""
    with EvidenceDesk().open() as opened:
        yield opened


@pytest.fixture
async def office(tmp_path: Path, desk: EvidenceDesk) -> AsyncIterator[Office]:
    """Open a store and what belongs to it."""
    opened = Office(tmp_path, desk)
    yield opened
    await opened.store.close()


async def test_it_is_sent_when_the_call_is_over(office: Office, desk: EvidenceDesk) -> None:
    """Each call in a request of its own."""
    async with office.sending() as sender:
        records = [await office.end_call() for _ in range(3)]
        sender.wake()
        for record in records:
            await office.until(record, "sent")

    assert {record.call_uuid for record in records} == {call["id"] for call in desk.accepted}
    assert [TRANSCRIPT] * 3 == desk.seen


async def test_one_bad_id_takes_no_other_with_it(office: Office, desk: EvidenceDesk) -> None:
    """What Cekura refuses is final, with its reason; the others arrive."""
    with capture_logs() as logs:
        async with office.sending() as sender:
            good, bad = await office.end_call(), await office.end_call(run_id="77")
            sender.wake()
            refused = await office.until(bad, "refused")
            await office.until(good, "sent")

    assert "Run IDs not found or deleted: [77]" in refused["reason"]
    assert [good.call_uuid] == [call["id"] for call in desk.accepted]
    assert ["error"] == [entry["log_level"] for entry in logs if entry["event"] == "evidence.refused"]


async def test_a_failure_is_tried_again_after_growing_pauses(office: Office, desk: EvidenceDesk) -> None:
    """Not before its time, and then until it arrives."""
    desk.instead.extend([Answer(status=503)] * 3)
    async with office.sending() as sender:
        record = await office.end_call()
        for attempts, pause_s in ((1, 2), (2, 4), (3, 8)):
            sender.wake()
            waiting = await office.until(record, "waiting", attempts)
            due_at = datetime.fromisoformat(waiting["due_at"])
            assert office.now + timedelta(seconds=pause_s) == due_at
            assert "HTTP 503" in waiting["reason"]
            office.now = due_at
        sender.wake()
        sent = await office.until(record, "sent", 4)

    assert sent["reason"] is None
    assert 4 == len(desk.seen)


async def test_retry_after_is_kept_to(office: Office, desk: EvidenceDesk) -> None:
    """Whoever is asked to wait for 40 s does."""
    desk.instead.append(Answer(status=429, headers={"Retry-After": "40"}))
    async with office.sending() as sender:
        record = await office.end_call()
        sender.wake()
        waiting = await office.until(record, "waiting")

    assert NOW + timedelta(seconds=40) == datetime.fromisoformat(waiting["due_at"])


async def test_given_up_loudly(office: Office, desk: EvidenceDesk) -> None:
    """Five minutes after the end of the call nothing is tried any more: an error is logged, the record says why."""
    desk.always = Answer(status=500, document={"detail": "sorry"})
    with capture_logs() as logs:
        async with office.sending() as sender:
            record = await office.end_call()
            found = await office.settled(record, attempts := 1, sender)
            while found["state"] == "waiting":
                office.now = datetime.fromisoformat(found["due_at"])
                found = await office.settled(record, attempts := attempts + 1, sender)

    assert "sorry" in found["reason"]
    assert timedelta(minutes=4) < office.now - NOW < timedelta(minutes=5)
    (entry,) = (entry for entry in logs if entry["event"] == "evidence.given_up")
    assert ("error", record.call_uuid, "456789") == (entry["log_level"], entry["call_uuid"], entry["run_id"])
    assert f"sip-agent cekura push {record.call_uuid}" in entry["hint"]


async def test_waiting_longer_than_there_is_time(office: Office, desk: EvidenceDesk) -> None:
    """When Cekura asks to wait beyond the five minutes, the letter is given up at once."""
    desk.instead.append(Answer(status=503, headers={"Retry-After": "301"}))
    async with office.sending() as sender:
        record = await office.end_call()
        sender.wake()
        await office.until(record, "given_up")

    assert 1 == len(desk.seen)


async def test_too_late_after_a_restart(office: Office, desk: EvidenceDesk) -> None:
    """What an agent finds after its start is not sent if the five minutes are over."""
    record = await office.end_call()
    office.now += timedelta(minutes=5)
    async with office.sending():
        found = await office.until(record, "given_up")

    assert "the agent was not there to send it in time" == found["reason"]
    assert [] == desk.seen


async def test_a_wrong_key_stops_all_sending(tmp_path: Path, desk: EvidenceDesk) -> None:
    """One error says so; nothing more is asked; a start with the right key sends what is still in time."""
    office = Office(tmp_path, desk, api_key="wrong-key")
    with capture_logs() as logs:
        async with office.sending() as sender:
            first = await office.end_call()
            sender.wake()
            await office.until(first, "waiting")
            second = await office.end_call()
            sender.wake()
            found = await office.until(second, "waiting")
            office.now += timedelta(minutes=5)
            sender.wake()
            await office.until(first, "given_up", 2)
    await office.store.close()

    assert "HTTP 401" in found["reason"]
    assert [TRANSCRIPT] == desk.seen
    assert 1 == len([entry for entry in logs if entry["event"] == "evidence.halted"])
    assert "wrong-key" not in str(logs)


async def test_an_agent_that_is_stopped_gives_its_letters_back(
    office: Office, desk: EvidenceDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that never answers does not hold up the stop; the letter is due at the next start."""
    monkeypatch.setattr("sip_agent.platforms.cekura.outbox.STOP_GRACE_S", 0.05)
    desk.instead.append(Answer(hold=True))
    async with office.sending() as sender:
        record = await office.end_call()
        sender.wake()
        await office.until(record, "sending")
    assert "waiting" == office.found(record)["state"]

    async with office.sending():
        await office.until(record, "sent", 2)


async def test_a_letter_that_cannot_be_written_holds_up_no_other(office: Office, desk: EvidenceDesk) -> None:
    """A record that makes the payload fail is refused with what went wrong, and logged as the bug that it is."""
    with capture_logs() as logs:
        async with office.sending() as sender:
            broken = await office.end_call(transcript=[{"speaker": "agent", "at_ms": 1}])
            good = await office.end_call()
            sender.wake()
            found = await office.until(broken, "refused")
            await office.until(good, "sent")

    assert "KeyError: 'text'" == found["reason"]
    assert ["error"] == [entry["log_level"] for entry in logs if entry["event"] == "evidence.failed"]
    assert 1 == len(desk.accepted)


async def test_a_recording_that_is_gone(tmp_path: Path, desk: EvidenceDesk) -> None:
    """A production call whose recording was removed is sent without."""
    office = Office(tmp_path, desk, observe=True)
    recording = {"path": str(tmp_path / "gone.wav"), "state": "ok"}
    async with office.sending() as sender:
        record = await office.end_call(run_id=None, recording=recording)
        sender.wake()
        await office.until(record, "sent")
    await office.store.close()

    assert ([OBSERVE], [b""]) == (desk.seen, desk.recordings)


async def test_a_database_that_fails_is_waited_for(
    office: Office, desk: EvidenceDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was delivered is not sent again because the database could not note it at once."""
    monkeypatch.setattr("sip_agent.platforms.cekura.outbox.STORE_PAUSE_S", 0.01)
    async with office.sending() as sender:
        record = await office.end_call()
        with office.store._engine.connect() as connection:
            connection.exec_driver_sql("ALTER TABLE outbox RENAME TO outbox_away")
            connection.commit()
            with capture_logs() as logs:
                sender.wake()
                await eventually(lambda: [entry for entry in logs if entry["event"] == "evidence.store_failed"])
            connection.exec_driver_sql("ALTER TABLE outbox_away RENAME TO outbox")
            connection.commit()
        await office.until(record, "sent")

    assert 1 == len(desk.accepted)


class TestPush:
    """Sending by hand."""

    async def push(self, office: Office, record: CallRecord) -> None:
        """Send a call now."""
        (document,) = office.store.find(record.call_uuid)
        async with office.courier() as courier:
            await push(document, office.store.outbox, courier, office.evidence)

    async def test_it_is_sent_whatever_became_of_it(self, office: Office, desk: EvidenceDesk) -> None:
        """Also what was refused, after the reason is gone."""
        record = await office.end_call(run_id="77")
        with pytest.raises(PlatformError, match="not found or deleted"):
            await self.push(office, record)
        refused = office.found(record)
        desk.runs.add(77)

        await self.push(office, record)

        assert ("refused", "sent", 2) == (refused["state"], office.found(record)["state"], len(desk.seen))

    async def test_a_failure_leaves_it_to_the_agent(self, office: Office, desk: EvidenceDesk) -> None:
        """In time it waits for the agent to send it; too late it is given up."""
        desk.always = Answer(status=503)
        office.now = datetime.now(UTC)
        soon = await office.end_call()
        office.now -= timedelta(minutes=6)
        late = await office.end_call()

        for record in (soon, late):
            with pytest.raises(PlatformError, match="HTTP 503") as caught:
                await self.push(office, record)
            assert 3 == caught.value.exit_status

        assert [EvidenceState.WAITING, EvidenceState.GIVEN_UP] == [office.found(item)["state"] for item in (soon, late)]
