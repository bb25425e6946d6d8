"""How the schema came to be: numbered functions, applied in order in one transaction, recorded in a table.

A migration that was released is never changed: it spells its tables out instead of using schema.py.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
)

from sip_agent.errors import SettingsError
from sip_agent.record import format_timestamp
from sip_agent.store.database import Location, atomic, claimed, connect, explained

Migration = Callable[[Connection], None]

_table = Table(
    "migrations",
    MetaData(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("applied_at", Text, nullable=False),
)

_UPGRADE_LOCK = 0x5349_5041
"""Key of the advisory lock that keeps two agents from upgrading one PostgreSQL database together ("SIPA")."""


def m0001_create_calls(connection: Connection) -> None:
    """Create the tables of calls and of their header fields."""
    # Ids and header values come from the network, and may be longer than PostgreSQL lets a B-tree entry be.
    any_length = "USING hash " if connection.dialect.name == "postgresql" else ""
    for statement in (
        """
        CREATE TABLE calls (
            call_uuid TEXT PRIMARY KEY, call_id TEXT NOT NULL, direction TEXT NOT NULL,
            source_address TEXT NOT NULL, account TEXT, auth_user TEXT,
            run_id TEXT, scenario_id TEXT, result_id TEXT, handler TEXT, outcome TEXT, sip_status INTEGER,
            invite_received_at TEXT NOT NULL, ended_at TEXT, instance BIGINT NOT NULL, document JSON NOT NULL
        )
        """,
        "CREATE INDEX calls_invite_received_at ON calls (invite_received_at)",
        "CREATE INDEX calls_open ON calls (instance) WHERE outcome IS NULL",
        f"CREATE INDEX calls_call_id ON calls {any_length}(call_id)",
        f"CREATE INDEX calls_run_id ON calls {any_length}(run_id)",
        f"CREATE INDEX calls_scenario_id ON calls {any_length}(scenario_id)",
        f"CREATE INDEX calls_result_id ON calls {any_length}(result_id)",
        "CREATE TABLE call_headers (call_uuid TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL)",
        "CREATE INDEX call_headers_call_uuid ON call_headers (call_uuid)",
        f"CREATE INDEX call_headers_value ON call_headers {any_length}(value)",
    ):
        connection.execute(text(statement))


def m0002_create_outbox(connection: Connection) -> None:
    """Create the tables of what is to be sent to a platform, and of what it said."""
    for statement in (
        """
        CREATE TABLE outbox (
            call_uuid TEXT PRIMARY KEY, endpoint TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
            due_at TEXT, deadline_at TEXT, changed_at TEXT NOT NULL, reason TEXT
        )
        """,
        "CREATE INDEX outbox_due_at ON outbox (due_at) WHERE due_at IS NOT NULL",
        "CREATE TABLE verdicts (run_id TEXT PRIMARY KEY, document JSON NOT NULL)",
    ):
        connection.execute(text(statement))


def m0003_create_dials(connection: Connection) -> None:
    """Create the table of the phone numbers that were dialled."""
    for statement in (
        "CREATE TABLE dials (run_id BIGINT UNIQUE, number TEXT NOT NULL, dialled_at TEXT NOT NULL)",
        "CREATE INDEX dials_dialled_at ON dials (dialled_at)",
    ):
        connection.execute(text(statement))


MIGRATIONS: Sequence[Migration] = (m0001_create_calls, m0002_create_outbox, m0003_create_dials)


def pending_migrations(url: str, *, base_dir: Path) -> list[str]:
    """Return the names of the migrations that a database lacks, and change nothing."""
    location = Location.of(url, base_dir)
    if not location.exists:
        return [migration.__name__ for migration in MIGRATIONS]
    engine = connect(location)
    try:
        with explained(location), engine.connect() as connection:
            return list(pending(connection, location).values())
    finally:
        engine.dispose()


def upgrade(url: str, *, base_dir: Path) -> list[str]:
    """Bring a database up to date, creating it if need be; return the names of the migrations applied."""
    if not pending_migrations(url, base_dir=base_dir):
        return []
    location = Location.of(url, base_dir)
    with explained(location), claimed(location):
        engine = connect(location, instance=0)
        try:
            return migrate(engine, location)
        finally:
            engine.dispose()


def migrate(engine: Engine, location: Location, migrations: Sequence[Migration] = MIGRATIONS) -> list[str]:
    """Apply the migrations that are missing, all or none; return their names."""
    with atomic(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        _table.create(connection, checkfirst=True)
        todo = pending(connection, location, migrations)
        for number, name in todo.items():
            migrations[number - 1](connection)
            applied_at = format_timestamp(datetime.now(UTC))
            connection.execute(insert(_table).values(number=number, name=name, applied_at=applied_at))
        return list(todo.values())


def pending(connection: Connection, location: Location, migrations: Sequence[Migration] = MIGRATIONS) -> dict[int, str]:
    """Return the missing migrations by number; a database that knows more than this code is refused."""
    exists = inspect(connection).has_table(_table.name)
    applied = set(connection.execute(select(_table.c.number)).scalars()) if exists else set()
    if (newest := max(applied, default=0)) > len(migrations):
        raise SettingsError(
            f"store.url: {location} was written by a newer sip-agent (its schema is {newest}, this one knows "
            f"{len(migrations)}); upgrade sip-agent, or name another database"
        )
    return {number: migration.__name__ for number, migration in enumerate(migrations, 1) if number not in applied}
