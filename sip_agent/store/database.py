"""Where the database is, how it is opened, and what a user reads when it cannot be."""

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from sip_agent.errors import SettingsError

BUSY_TIMEOUT_S = 1.0
"""How long SQLite waits for somebody else's lock: a caller hears ringing only after the record is written."""

CONNECT_TIMEOUT_S = 5
"""How long a PostgreSQL server may take to let us in."""

_DIALECTS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A database: its URL, and its file if it is one. Its text is fit for messages: it has no password."""

    url: URL
    path: Path | None

    @classmethod
    def of(cls, url: str, base_dir: Path) -> Self:
        """Read the setting `store.url`; a relative file is taken from `base_dir`."""
        try:
            parsed = make_url(url)
        except ArgumentError:
            parsed = None
        dialect = "" if parsed is None else parsed.drivername.split("+")[0]
        if parsed is None or dialect not in _DIALECTS:
            # What cannot be read may hold a password, so only its scheme is repeated.
            found = url.partition(":")[0]
            raise SettingsError(
                f"store.url: {found!r} is no database we know; "
                "write sqlite:///file, sqlite:////folder/file or postgresql://user@host/name"
            )
        if dialect == "sqlite" and parsed.database in {None, "", ":memory:"}:
            raise SettingsError(
                "store.url: call records in memory do not survive the agent; name a file: sqlite:///sip-agent.db"
            )
        path = base_dir.absolute() / parsed.database if dialect == "sqlite" and parsed.database else None
        return cls(url=parsed.set(drivername=_DIALECTS[dialect]), path=path)

    def __str__(self) -> str:
        return str(self.path) if self.path else self.url.render_as_string(hide_password=True)

    @property
    def exists(self) -> bool:
        """Whether there is a file to open; a server is asked by connecting."""
        return self.path is None or self.path.exists()


def connect(location: Location, *, instance: int | None = None) -> Engine:
    """Return the engine of a database: to read only, or to write as the running agent `instance`."""
    options: dict[str, Any] = {
        "json_serializer": partial(json.dumps, ensure_ascii=False, separators=(",", ":")),
        "poolclass": QueuePool,
        "hide_parameters": True,  # an error's text ends in the log; callers' data does not belong there
    }
    if location.path is not None:
        engine = create_engine("sqlite://", creator=partial(_sqlite, location.path, instance), **options)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        engine = create_engine(
            location.url,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "client_encoding": "utf-8"},
            pool_pre_ping=True,  # a server that was restarted costs a connection, not a record
            **options,
        )
    except ImportError as error:
        raise SettingsError(
            "store.url: the PostgreSQL driver is not installed; run: pip install 'sip-agent[postgres]'"
        ) from error
    if instance is not None:
        event.listen(engine, "connect", partial(_hold_instance, instance))
    return engine


def insert_into(engine: Engine, table: Table) -> Any:
    """Return an INSERT that can say what to do on a conflict, in the database's own dialect."""
    return (sqlite if engine.dialect.name == "sqlite" else postgresql).insert(table)


@contextmanager
def atomic(engine: Engine) -> Iterator[Connection]:
    """Run the block as one write to the database: all of it, or nothing."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def claimed(location: Location) -> Iterator[None]:
    """Keep other agents from writing the same SQLite file.

    The operating system drops the lock with the process, however that ends. PostgreSQL is made to be shared.
    """
    if location.path is None:
        yield
        return
    lock = os.open(location.path.with_name(f"{location.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 20, 0).decode()
            raise SettingsError(
                f"store.url: {location} is in use by another sip-agent (process {owner}); "
                "stop that one, or give each agent a database of its own"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


@contextmanager
def explained(location: Location) -> Iterator[None]:
    """Turn what goes wrong while a database is opened into a message about the setting."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        what = reason(error)
        if "not a database" in what:
            hint = "it is some other file; name another one"
        elif location.path is not None and not location.path.parent.is_dir():
            hint = f"create the folder {location.path.parent} first"
        elif location.path is not None:
            hint = "check that the file and its folder are writable, and that the disk is not full"
        else:
            hint = "check that the server runs, and the name and the password"
        raise SettingsError(f"store.url: cannot use {location}: {what}; {hint}") from error


def reason(error: Exception) -> str:
    """Return what the database said, without SQLAlchemy's frame and our SQL (which holds callers' data)."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split()) or type(cause).__name__


def _sqlite(path: Path, instance: int | None) -> sqlite3.Connection:
    mode = "ro" if instance is None else "rwc"
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions begin where we say, in _begin_sqlite
        check_same_thread=False,  # the pool hands a connection to one thread at a time
    )
    if instance is not None:
        # WAL: readers never wait for the writer, nor it for them. NORMAL: a commit is handed to the
        # operating system, not forced to the disk. The death of our process, kill -9 included, loses nothing;
        # a power cut may lose the last commits but leaves the database whole.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _begin_sqlite(connection: Connection) -> None:
    # A write takes its lock at once: a reader that turns writer half-way can fail without waiting.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _hold_instance(instance: int, connection: Any, _: Any) -> None:
    # Each connection of a running agent shares the advisory lock of its number. When the agent is gone so is
    # the lock, and another agent may close the calls that it left behind. Keep-alive: an agent whose machine
    # died is gone within a minute.
    for setting, value in (("idle", 30), ("interval", 10), ("count", 3)):
        connection.execute(f"SET tcp_keepalives_{setting} = {value}")
    connection.execute("SELECT pg_advisory_lock_shared(%s)", [instance])
    connection.commit()
