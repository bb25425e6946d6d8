"""The store of call records, as the agent uses it."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, func, select, update

from sip_agent.record import CallRecord, format_timestamp, milliseconds_between
from sip_agent.status import EndedBy, Outcome
from sip_agent.store.database import Location, atomic, claimed, connect, explained
from sip_agent.store.migrations import migrate
from sip_agent.store.outbox import Outbox
from sip_agent.store.reader import CallReader
from sip_agent.store.schema import call_row, calls, document_of
from sip_agent.store.writer import Writer

INTERRUPTED = "the agent stopped while the call was in progress"

FindRecording = Callable[[str, datetime], dict[str, Any] | None]
"""Takes the uuid of a call and when it came; gives what its record says of its recording."""


class CallStore(CallReader):
    """Keeps one record per INVITE, and gives back what it keeps.

    `begin` and `finish` return when the record is committed: it then survives the death of the agent. They
    raise `StoreError` when it is not. A flow logs that and goes on with the call; unless the error says
    otherwise the record waits in memory and is written when the database works again.
    """

    def __init__(self, engine: Engine, location: Location, instance: int, resources: ExitStack) -> None:
        super().__init__(engine, location)
        self._instance = instance
        self._resources = resources
        self._writer = Writer(engine, instance)
        self.outbox = Outbox(engine)
        """What a platform is to be told."""

    @classmethod
    def open(cls, url: str, *, base_dir: Path) -> Self:
        """Open the store that `store.url` names for this agent alone; create it or upgrade it if need be.

        Whatever is wrong is a `SettingsError` that names the setting and what to do.
        """
        location = Location.of(url, base_dir)
        # Telling the live from the dead: 63 bits, the size of PostgreSQL's advisory locks.
        instance = secrets.randbits(63)
        with ExitStack() as resources:
            with explained(location):
                resources.enter_context(claimed(location))
                engine = connect(location, instance=instance)
                resources.callback(engine.dispose)
                migrate(engine, location)
            return cls(engine, location, instance, resources.pop_all())

    @property
    def pending(self) -> int:
        """How many records wait to be written."""
        return self._writer.pending

    @property
    def failed_writes(self) -> int:
        """How many transactions failed since the start; their records were kept and tried again."""
        return self._writer.failed_writes

    @property
    def dropped(self) -> int:
        """How many records were not kept: memory was full, or the database refused that record alone."""
        return self._writer.dropped

    async def begin(self, record: CallRecord) -> None:
        """Store a call that goes on.

        Again with what is known by now (the call was answered), it replaces what was stored; a call that has
        finished stays so.
        """
        await self._writer.write(document_of(record))

    async def finish(self, record: CallRecord) -> None:
        """Store a call that has ended, whether or not it was begun."""
        if record.outcome is None:
            raise ValueError("a finished call has an outcome")
        await self._writer.write(document_of(record))

    async def close_interrupted(
        self, now: datetime, find_recording: FindRecording = lambda _uuid, _received_at: None
    ) -> list[dict[str, Any]]:
        """End the records that agents left open when they died, and return them.

        A call ended where its recording does; without one nobody knows when, and it is closed as of `now`.

        To be called at the start; later calls do no harm, and find those who died meanwhile on a shared
        server. The calls of agents that run are left alone.
        """
        return await asyncio.to_thread(self._close_interrupted, now, find_recording)

    async def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits, for at most `timeout_s`, and let go of the database."""
        await self._writer.close(timeout_s)
        self._resources.close()

    def _close_interrupted(self, now: datetime, find_recording: FindRecording) -> list[dict[str, Any]]:
        with atomic(self._engine) as connection:
            instances = self._dead_instances(connection)
            left = calls.c.outcome.is_(None) & calls.c.instance.in_(instances)
            rows = connection.execute(select(calls.c.instance, calls.c.document).where(left)).all()
            closed = [_interrupted(document, now, find_recording) for _, document in rows]
            for (instance, _), document in zip(rows, closed, strict=True):
                values = call_row(document, instance)
                connection.execute(update(calls).where(calls.c.call_uuid == values.pop("call_uuid")).values(values))
            return closed

    def _dead_instances(self, connection: Connection) -> list[int]:
        others = select(calls.c.instance).where(calls.c.outcome.is_(None), calls.c.instance != self._instance)
        found = connection.execute(others.distinct()).scalars().all()
        if connection.dialect.name == "sqlite":
            return list(found)  # the file is ours alone, so nobody else lives
        return [
            instance
            for instance in found
            if connection.execute(select(func.pg_try_advisory_xact_lock(instance))).scalar_one()
        ]


def _interrupted(document: dict[str, Any], now: datetime, find_recording: FindRecording) -> dict[str, Any]:
    received_at, answered_at = _moment(document["invite_received_at"]), _moment(document["answered_at"])
    recording = None if received_at is None else find_recording(document["call_uuid"], received_at)
    alive_at = None
    if recording is not None:
        duration = timedelta(milliseconds=recording["duration_ms"])
        recorded_until = datetime.fromisoformat(recording["started_at"]) + duration
        alive_at = max(recorded_until, answered_at or recorded_until)
    return document | {
        "outcome": Outcome.INTERRUPTED.value,
        "ended_by": EndedBy.SYSTEM.value,
        "end_reason": INTERRUPTED,
        "ended_at": format_timestamp(alive_at or now),
        "talk_ms": milliseconds_between(answered_at, alive_at),
        "metrics": {} if answered_at is None else {"error": INTERRUPTED},
        "recording": recording,
    }


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
