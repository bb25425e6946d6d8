"""The ledger of dialled phone numbers: written before the INVITE leaves, so that no run is ever dialled twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Engine, Select, event, func, insert, select, text

from sip_agent.record import format_timestamp
from sip_agent.store.database import Location, atomic, connect, explained
from sip_agent.store.migrations import upgrade
from sip_agent.store.schema import dials

DAY = timedelta(hours=24)


class Claim(StrEnum):
    """Whether a number may be dialled now."""

    GRANTED = "granted"
    DIALLED_BEFORE = "dialled before"
    OVER_THE_CAP = "over the cap"


class DialLedger:
    """Grants each run one call, and no more than so many calls in 24 hours; every method blocks.

    Raises SettingsError if the database does not work: then nothing is to be dialled.
    """

    def __init__(self, engine: Engine, location: Location) -> None:
        self._engine = engine
        self._location = location

    def claim(self, number: str, now: datetime, *, run_id: int | None = None, max_per_day: int) -> Claim:
        """Claim one call; what is granted stays claimed, whatever becomes of the call."""
        values = {"run_id": run_id, "number": number, "dialled_at": format_timestamp(now)}
        with explained(self._location), atomic(self._engine) as connection:
            if self._engine.dialect.name == "postgresql":  # SQLite has one writer at a time as it is
                connection.execute(text("LOCK TABLE dials IN EXCLUSIVE MODE"))
            if run_id is not None and connection.scalar(select(dials.c.run_id).where(dials.c.run_id == run_id)):
                return Claim.DIALLED_BEFORE
            if connection.execute(_count_since(now - DAY)).scalar_one() >= max_per_day:
                return Claim.OVER_THE_CAP
            connection.execute(insert(dials).values(values))
        return Claim.GRANTED

    def count(self, now: datetime) -> int:
        """Return how many calls were claimed in the last 24 hours."""
        with explained(self._location), self._engine.connect() as connection:
            return int(connection.execute(_count_since(now - DAY)).scalar_one())


@contextmanager
def dial_ledger(url: str, *, base_dir: Path) -> Iterator[DialLedger]:
    """Open the ledger in the store that `store.url` names, beside an agent that uses it; create it if need be."""
    upgrade(url, base_dir=base_dir)
    location = Location.of(url, base_dir)
    engine = connect(location, instance=0)
    if engine.dialect.name == "sqlite":
        # On the disk before the INVITE is on the wire: not even a power cut makes us dial again.
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = FULL"))
    try:
        yield DialLedger(engine, location)
    finally:
        engine.dispose()


def _count_since(moment: datetime) -> Select[int]:
    return select(func.count()).select_from(dials).where(dials.c.dialled_at > format_timestamp(moment))
