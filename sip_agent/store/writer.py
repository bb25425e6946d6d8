"""The thread that writes: one transaction for all records that wait, one wake-up of the loop for all callers.

An open call and its end are the same write: the row of a call uuid becomes what was said last, except that a
call that has ended never opens again. So a write may be repeated, and a newer one may replace one that waits.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import structlog
from sqlalchemy import Connection, Engine, bindparam, delete, insert, or_
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from sip_agent.store.database import atomic, insert_into, reason
from sip_agent.store.errors import StoreError
from sip_agent.store.schema import call_headers, call_row, calls, header_rows, outbox, outbox_row

CAPACITY: Final = 10_000
"""Records kept in memory while the database does not work: some 50 MB, a minute and a half at 100 calls/s."""

BATCH: Final = 500
"""Records in one transaction: bounds how long others wait for the lock, and how much is repeated."""

PATIENCE_S: Final = 2.0
"""How long a caller waits for a database that says nothing."""

RETRY_S: Final = (0.05, 2.0)
"""The first pause after a failure, and the longest that doubling makes of it."""

_DELETE_HEADERS = delete(call_headers).where(call_headers.c.call_uuid == bindparam("uuid"))
_INSERT_HEADERS = insert(call_headers)

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Write:
    document: dict[str, Any]
    waiters: list[asyncio.Future[StoreError | None]]


class Writer:
    """Brings records into the database, in the order they came.

    A record waits in `_pending` until the transaction that has it is committed. When the database fails it
    stays there, is tried again after a pause, and its caller is told at once.
    """

    def __init__(self, engine: Engine, instance: int, *, capacity: int = CAPACITY) -> None:
        self._engine = engine
        self._instance = instance
        self._capacity = capacity
        self._upsert = _upsert(engine)
        # In the transaction of the record, and only once: what is sent already stays so.
        self._post = insert_into(engine, outbox).on_conflict_do_nothing(index_elements=[outbox.c.call_uuid])
        self._changed = threading.Condition()
        self._pending: dict[str, _Write] = {}
        self._failure: str | None = None
        self._closing = False
        self._abandoned = False
        self.failed_writes = 0
        """Transactions that failed since the start."""
        self.dropped = 0
        """Records that were not kept: memory was full, or the database refused that record alone."""
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """How many records wait to be written."""
        return len(self._pending)

    async def write(self, document: dict[str, Any]) -> None:
        """Write a record and return when it is committed; `StoreError` says that it is not (yet)."""
        waiter: asyncio.Future[StoreError | None] = asyncio.get_running_loop().create_future()
        self._submit(document, waiter)
        if self._failure is not None:
            raise _kept(self._failure)
        try:
            error = await asyncio.wait_for(waiter, PATIENCE_S)
        except TimeoutError:
            raise _kept("the database does not answer") from None
        if error is not None:
            raise error.with_traceback(None)  # one error may tell many callers

    async def close(self, timeout_s: float) -> None:
        """Write what waits, for at most `timeout_s`; what is left then is named in the log."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, timeout_s)
        with self._changed:
            self._abandoned = True
            if self._pending:
                log.error("store.records_lost", call_uuids=list(self._pending), error=self._failure)

    def _submit(self, document: dict[str, Any], waiter: asyncio.Future[StoreError | None]) -> None:
        uuid = document["call_uuid"]
        with self._changed:
            before = self._pending.get(uuid)
            if self._closing or (before is None and len(self._pending) >= self._capacity):
                self.dropped += 1
                why = "the store is closed" if self._closing else "too many records wait for the database"
                raise StoreError(f"the call record is not kept: {why}", kept=False)
            if before is None:
                self._pending[uuid] = _Write(document, [waiter])
            elif before.document["outcome"] is None or document["outcome"] is not None:
                self._pending[uuid] = _Write(document, [*before.waiters, waiter])
            else:
                before.waiters.append(waiter)
            self._changed.notify()

    def _run(self) -> None:
        pause_s = RETRY_S[0]
        while batch := self._next_batch():
            try:
                self._write(batch)
            except Exception as error:  # noqa: BLE001  (whatever it is, records are kept and calls go on)
                self._failed(batch, reason(error), pause_s)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_S[1])
            else:
                pause_s = RETRY_S[0]

    def _next_batch(self) -> list[_Write]:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closing)
            return [] if self._abandoned else list(islice(self._pending.values(), BATCH))

    def _write(self, batch: Sequence[_Write]) -> None:
        """Commit a batch; a record that the database can never take does not hold up the others."""
        try:
            with atomic(self._engine) as connection:
                self._execute(connection, [write.document for write in batch])
        except (StatementError, ValueError, OverflowError) as error:
            if isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError):
                raise
            if len(batch) > 1:
                for write in batch:
                    self._write([write])
            else:
                self.dropped += 1
                log.exception("store.record_refused", record=batch[0].document)
                refusal = StoreError(f"the database refuses the record: {reason(error)}", kept=False)
                self._settle(batch, refusal)
        else:
            self._settle(batch, None)

    def _execute(self, connection: Connection, documents: Sequence[dict[str, Any]]) -> None:
        connection.execute(self._upsert, [call_row(document, self._instance) for document in documents])
        uuids = [{"uuid": document["call_uuid"]} for document in documents]
        connection.execute(_DELETE_HEADERS, uuids)
        if rows := [row for document in documents if (row := outbox_row(document)) is not None]:
            connection.execute(self._post, rows)
        if headers := [row for document in documents for row in header_rows(document)]:
            connection.execute(_INSERT_HEADERS, headers)

    def _settle(self, batch: Sequence[_Write], refusal: StoreError | None) -> None:
        with self._changed:
            for write in batch:
                # A newer state of the same call may have taken the place meanwhile; it has its own turn.
                uuid = write.document["call_uuid"]
                if self._pending.get(uuid) is write:
                    del self._pending[uuid]
            if self._failure is not None:
                log.info("store.write_recovered", pending=len(self._pending))
                self._failure = None
        _wake(batch, refusal)

    def _failed(self, batch: Sequence[_Write], why: str, retry_s: float) -> None:
        self.failed_writes += 1
        self._failure = why
        log.error("store.write_failed", error=why, pending=self.pending, retry_s=retry_s)
        _wake(batch, _kept(why))


def _upsert(engine: Engine) -> Any:
    statement = insert_into(engine, calls)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[calls.c.call_uuid],
        set_={column.name: new[column.name] for column in calls.columns if not column.primary_key},
        where=or_(calls.c.outcome.is_(None), new.outcome.is_not(None)),
    )


def _kept(why: str) -> StoreError:
    message = f"the call record is not stored yet: {why}; it waits in memory until the database works again"
    return StoreError(message, kept=True)


def _wake(batch: Sequence[_Write], error: StoreError | None) -> None:
    waiters = [waiter for write in batch for waiter in write.waiters]
    if waiters:
        # Without a loop (the agent stopped without closing the store) nobody waits any more.
        with suppress(RuntimeError):
            waiters[0].get_loop().call_soon_threadsafe(_resolve, waiters, error)


def _resolve(waiters: Sequence[asyncio.Future[StoreError | None]], error: StoreError | None) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(error)
