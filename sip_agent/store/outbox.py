"""The outbox: what a platform is to be told of calls that are over, and what has become of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, update
from sqlalchemy.exc import SQLAlchemyError

from sip_agent.record import format_timestamp
from sip_agent.status import EvidenceState
from sip_agent.store.database import Location, atomic, connect, explained, insert_into, reason
from sip_agent.store.errors import StoreError
from sip_agent.store.reader import CallReader, reading
from sip_agent.store.schema import calls, outbox, storable, verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One call of which a platform is to be told; `document` is its record, `attempts` counts the one at hand."""

    call_uuid: str
    endpoint: str
    attempts: int
    deadline_at: datetime | None
    reason: str | None
    document: dict[str, Any]


_EARLIEST = (
    select(outbox.c.due_at)
    .join(calls, calls.c.call_uuid == outbox.c.call_uuid)
    .where(outbox.c.due_at.is_not(None))
    .order_by(outbox.c.due_at)
    .limit(1)
)


class Outbox:
    """Hands out what is due and keeps its state; every method blocks, and raises StoreError if the database fails.

    Whoever claims a letter has it alone for a while, its lease. If the claimant dies, the letter is handed out again
    after that: it may arrive twice, and is never forgotten.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def claim(self, now: datetime, limit: int, leases: Mapping[str, timedelta]) -> list[Letter]:
        """Take what is due, the longest due first, for the lease of its endpoint."""
        columns = [outbox.c[name] for name in ("call_uuid", "endpoint", "attempts", "deadline_at", "reason")]
        due = (
            select(*columns, calls.c.document)
            .join(calls, calls.c.call_uuid == outbox.c.call_uuid)
            .where(outbox.c.due_at <= format_timestamp(now))
            .order_by(outbox.c.due_at)
            .limit(limit)
            .with_for_update(of=outbox, skip_locked=True)  # where several agents share a server
        )
        with _told(), atomic(self._engine) as connection:
            rows = connection.execute(due).all()
            for row in rows:
                values = {
                    "state": EvidenceState.SENDING,
                    "attempts": row.attempts + 1,
                    "due_at": format_timestamp(now + leases[row.endpoint]),
                    "changed_at": format_timestamp(now),
                }
                connection.execute(update(outbox).where(outbox.c.call_uuid == row.call_uuid).values(values))
        return [
            Letter(
                call_uuid=row.call_uuid,
                endpoint=row.endpoint,
                attempts=row.attempts + 1,
                deadline_at=row.deadline_at and datetime.fromisoformat(row.deadline_at),
                reason=row.reason,
                document=row.document,
            )
            for row in rows
        ]

    def take(self, call_uuid: str, endpoint: str, now: datetime, lease: timedelta) -> None:
        """Claim one call by hand, whatever its state is, and whether or not it was in the outbox."""
        values = {
            "call_uuid": call_uuid,
            "endpoint": endpoint,
            "state": EvidenceState.SENDING,
            "attempts": 1,
            "due_at": format_timestamp(now + lease),
            "changed_at": format_timestamp(now),
        }
        statement = insert_into(self._engine, outbox).values(values)
        statement = statement.on_conflict_do_update(
            index_elements=[outbox.c.call_uuid], set_=values | {"attempts": outbox.c.attempts + 1}
        )
        with _told(), atomic(self._engine) as connection:
            connection.execute(statement)

    def settle(
        self,
        call_uuid: str,
        state: EvidenceState,
        now: datetime,
        *,
        due_at: datetime | None = None,
        reason: str | None = None,
    ) -> None:
        """Say what has become of a letter; with `due_at` it is handed out again then."""
        values = {
            "state": state,
            "due_at": format_timestamp(due_at),
            "changed_at": format_timestamp(now),
            "reason": storable(reason),
        }
        with _told(), atomic(self._engine) as connection:
            connection.execute(update(outbox).where(outbox.c.call_uuid == call_uuid).values(values))

    def next_due(self) -> datetime | None:
        """Return when the next letter is due."""
        with _told(), self._engine.connect() as connection:
            due_at = connection.execute(_EARLIEST).scalar_one_or_none()
        return None if due_at is None else datetime.fromisoformat(due_at)

    def release(self, now: datetime) -> None:
        """Hand out again what an agent had claimed that died: in a file of our own, nobody else lives.

        On a shared server the lease ends by itself.
        """
        if self._engine.dialect.name != "sqlite":
            return
        claimed = update(outbox).where(outbox.c.state == EvidenceState.SENDING)
        values = {"state": EvidenceState.WAITING, "due_at": format_timestamp(now)}
        with _told(), atomic(self._engine) as connection:
            connection.execute(claimed.values(values))

    def note_verdicts(self, documents: dict[str, dict[str, Any]]) -> None:
        """Keep what the platform said of runs, by run id; it replaces what was said before."""
        statement = insert_into(self._engine, verdicts)
        statement = statement.on_conflict_do_update(
            index_elements=[verdicts.c.run_id], set_={"document": statement.excluded.document}
        )
        rows = [{"run_id": run_id, "document": storable(document)} for run_id, document in documents.items()]
        if rows:
            with _told(), atomic(self._engine) as connection:
                connection.execute(statement, rows)


@contextmanager
def correspondence(url: str, *, base_dir: Path) -> Iterator[tuple[CallReader, Outbox]]:
    """Open records and outbox beside the agent that writes them."""
    with reading(url, base_dir=base_dir) as reader:
        location = Location.of(url, base_dir)
        engine = connect(location, instance=0)
        try:
            with explained(location):
                yield reader, Outbox(engine)
        finally:
            engine.dispose()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(f"the database does not work: {reason(error)}", kept=False) from error
