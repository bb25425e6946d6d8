"""Finding call records: by id, by test run, by header field, by time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Engine, Row, Select, func, or_, select

from sip_agent.errors import SettingsError
from sip_agent.record import format_timestamp
from sip_agent.status import Outcome
from sip_agent.store.database import Location, connect, explained
from sip_agent.store.migrations import pending
from sip_agent.store.schema import OUTBOX_KEYS, call_headers, calls, outbox, storable, verdicts

MIN_PREFIX = 6
"""The shortest start of a call uuid that `find` takes: with fewer characters it guesses."""

FOUND_MAX = 100
"""Records that one identifier names at most: a caller chooses its Call-ID, and may use it for ever."""

_ROWS_AT_A_TIME = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CallQuery:
    """Which records: those that meet every condition that is set, newest first.

    `headers` are pairs of name (in any case) and value; `since` is included, `until` is not.
    """

    run_id: str | None = None
    scenario_id: str | None = None
    result_id: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    outcome: Outcome | None = None
    handler: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int | None = None


class CallReader:
    """Reads call records as the JSON objects that were stored; every method blocks, and never writes.

    Raises SettingsError if the database cannot be read.
    """

    def __init__(self, engine: Engine, location: Location) -> None:
        self._engine = engine
        self._location = location

    def search(self, query: CallQuery) -> list[dict[str, Any]]:
        """Return the records that a query asks for, newest first."""
        return list(self.stream(query))

    def stream(self, query: CallQuery) -> Iterator[dict[str, Any]]:
        """Yield the records that a query asks for, newest first, without holding all of them in memory."""
        yield from self._documents(_newest_first(*_conditions(query)).limit(query.limit))

    def find(self, identifier: str) -> list[dict[str, Any]]:
        """Return the records that an identifier names, newest first.

        It is a call uuid or its first characters, a Call-ID, or `run:`, `scenario:` or `result:` with an id.
        There are `FOUND_MAX` at most; `search` finds any number.
        """
        kind, _, value = identifier.partition(":")
        if value and kind in {"run", "scenario", "result"}:
            return self._first(calls.c[f"{kind}_id"] == storable(value))
        wanted = storable(identifier)
        exact = self._first(or_(calls.c.call_uuid == wanted, calls.c.call_id == wanted))
        if exact or len(wanted) < MIN_PREFIX:
            return exact
        return self._first(func.substr(calls.c.call_uuid, 1, len(wanted)) == wanted)

    def evidence(self, *, state: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the records that have `evidence`, those in one state or in any, newest first."""
        condition = outbox.c.state.is_not(None) if state is None else outbox.c.state == state
        return list(self._documents(_newest_first(condition).limit(limit)))

    def _first(self, condition: ColumnElement[bool]) -> list[dict[str, Any]]:
        return list(self._documents(_newest_first(condition).limit(FOUND_MAX)))

    def _documents(self, statement: Select[Any]) -> Iterator[dict[str, Any]]:
        with (
            explained(self._location),
            self._engine.connect().execution_options(yield_per=_ROWS_AT_A_TIME) as connection,
        ):
            yield from map(_with_evidence, connection.execute(statement))


@contextmanager
def reading(url: str, *, base_dir: Path) -> Iterator[CallReader]:
    """Open a store beside the agent that writes it; nothing is created, upgraded or closed."""
    location = Location.of(url, base_dir)
    if not location.exists:
        raise SettingsError(
            f"store.url: there are no call records at {location}; 'sip-agent serve' creates it, "
            "or name the settings file of the agent you mean with --config"
        )
    engine = connect(location)
    try:
        with explained(location), engine.connect() as connection:
            missing = pending(connection, location)
        if missing:
            raise SettingsError(f"store.url: {location} lacks {', '.join(missing.values())}; run: sip-agent db upgrade")
        yield CallReader(engine, location)
    finally:
        engine.dispose()


def _newest_first(*conditions: ColumnElement[bool]) -> Select[Any]:
    return (
        select(calls.c.document, verdicts.c.document.label("verdict"), *(outbox.c[name] for name in OUTBOX_KEYS))
        .outerjoin(outbox, outbox.c.call_uuid == calls.c.call_uuid)
        .outerjoin(verdicts, verdicts.c.run_id == calls.c.run_id)
        .where(*conditions)
        .order_by(calls.c.invite_received_at.desc(), calls.c.call_uuid.desc())
    )


def _with_evidence(row: Row[Any]) -> dict[str, Any]:
    """Return a record with what happened after it was stored: what was sent of it, what the platform said."""
    document: dict[str, Any] = row.document
    sent = {} if row.state is None else {name: getattr(row, name) for name in OUTBOX_KEYS}
    evidence = (document.get("evidence") or {}) | sent
    return document | {"evidence": evidence or None, "verdict": row.verdict}


def _conditions(query: CallQuery) -> Iterator[ColumnElement[bool]]:
    for column in (calls.c.run_id, calls.c.scenario_id, calls.c.result_id, calls.c.outcome, calls.c.handler):
        if (value := getattr(query, column.name)) is not None:
            yield column == storable(value)
    for name, value in query.headers:
        yield calls.c.call_uuid.in_(
            select(call_headers.c.call_uuid).where(
                call_headers.c.name == storable(name).lower(), call_headers.c.value == storable(value)
            )
        )
    if query.since is not None:
        yield calls.c.invite_received_at >= format_timestamp(query.since)
    if query.until is not None:
        yield calls.c.invite_received_at < format_timestamp(query.until)
