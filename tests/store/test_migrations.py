"""How a database comes to the schema of today, on each kind of database."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, inspect, text

from sip_agent.errors import SettingsError
from sip_agent.record import CallRecord
from sip_agent.store import CallQuery, CallStore, pending_migrations, upgrade
from sip_agent.store.database import Location, atomic, connect
from sip_agent.store.migrations import MIGRATIONS, migrate
from sip_agent.store.schema import metadata

NewRecord = Callable[..., CallRecord]

LATEST = [migration.__name__ for migration in MIGRATIONS]


@pytest.fixture
def location(store_url: str, tmp_path: Path) -> Location:
    """Return where the test's database is."""
    return Location.of(store_url, tmp_path)


@pytest.fixture
def engine(location: Location) -> Iterator[Engine]:
    """Return a connection pool to the test's database."""
    opened = connect(location, instance=1)
    yield opened
    opened.dispose()


def add_colour(connection: Connection) -> None:
    """Change the schema as a later version might."""
    connection.execute(text("ALTER TABLE calls ADD COLUMN colour TEXT"))


def fail_half_way(connection: Connection) -> None:
    """Change the schema, and fail."""
    connection.execute(text("ALTER TABLE calls ADD COLUMN shape TEXT"))
    connection.execute(text("SELECT * FROM nowhere"))


def test_migrations_make_the_schema_of_the_code(engine: Engine, location: Location) -> None:
    """A database made by the migrations has exactly the tables and columns that the code uses."""
    migrate(engine, location)

    found = inspect(engine)
    tables = {
        name: [column["name"] for column in found.get_columns(name)]
        for name in found.get_table_names()
        if name != "migrations"
    }
    assert {table.name: [column.name for column in table.columns] for table in metadata.sorted_tables} == tables


def test_migrations_are_applied_once(store_url: str, tmp_path: Path) -> None:
    """An upgrade applies what is pending and says so; then nothing is pending."""
    before = pending_migrations(store_url, base_dir=tmp_path)
    applied = upgrade(store_url, base_dir=tmp_path)
    after = pending_migrations(store_url, base_dir=tmp_path)

    assert (before, applied, after) == (LATEST, LATEST, [])
    assert upgrade(store_url, base_dir=tmp_path) == []


def test_looking_for_pending_migrations_changes_nothing(tmp_path: Path) -> None:
    """Where there is no database, none is made."""
    pending_migrations("sqlite:///calls.db", base_dir=tmp_path)

    assert list(tmp_path.iterdir()) == []


async def test_records_survive_an_upgrade_from_version_1(
    store_url: str, engine: Engine, location: Location, tmp_path: Path, ended_record: NewRecord
) -> None:
    """A database of version 1 keeps its records through later migrations; only the missing are applied."""
    migrate(engine, location, MIGRATIONS[:1])
    store = CallStore.open(store_url, base_dir=tmp_path)
    record = ended_record()
    await store.finish(record)

    applied = migrate(engine, location, [*MIGRATIONS, add_colour])

    found = store.search(CallQuery())
    await store.close()
    assert applied == ["add_colour"]
    assert [record.to_dict()] == found


def test_a_migration_that_fails_leaves_nothing_behind(engine: Engine, location: Location) -> None:
    """All migrations are applied, or none: a failure takes those before it back."""
    migrate(engine, location)

    with pytest.raises(Exception, match="nowhere"):
        migrate(engine, location, [*MIGRATIONS, add_colour, fail_half_way])

    columns = {column["name"] for column in inspect(engine).get_columns("calls")}
    assert set() == columns & {"colour", "shape"}


def test_a_newer_database_is_refused(store_url: str, engine: Engine, location: Location, tmp_path: Path) -> None:
    """A database that a newer version has changed is not touched, and the message says what to do."""
    migrate(engine, location)
    with atomic(engine) as connection:
        connection.execute(text("INSERT INTO migrations VALUES (99, 'm0099_future', '2030-01-01T00:00:00.000Z')"))

    with pytest.raises(SettingsError, match=r"written by a newer sip-agent \(its schema is 99, this one knows"):
        CallStore.open(store_url, base_dir=tmp_path)
