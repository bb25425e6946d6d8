"""Databases to test with: SQLite files, and a PostgreSQL server of our own on a Unix socket."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sip_agent.record import CallRecord
from sip_agent.status import Outcome
from sip_agent.store import CallStore

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

NewRecord = Callable[..., CallRecord]


@pytest.fixture
def new_record() -> NewRecord:
    """Make records, each a second younger than the one before."""
    made = 0

    def make(**fields: Any) -> CallRecord:
        nonlocal made
        made += 1
        defaults: dict[str, Any] = {
            "call_uuid": str(uuid.uuid4()),
            "call_id": f"{uuid.uuid4()}@caller.example.com",
            "invite_received_at": NOW + timedelta(seconds=made),
        }
        return CallRecord(**(defaults | fields))

    return make


@pytest.fixture
def ended_record(new_record: NewRecord) -> NewRecord:
    """Make records of answered calls."""

    def make(**fields: Any) -> CallRecord:
        return new_record(**({"outcome": Outcome.ANSWERED, "sip_status": 200, "ended_at": NOW} | fields))

    return make


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Start a PostgreSQL server for the session; return the folder of its Unix socket."""
    programs = shutil.which("initdb", path=os.pathsep.join(_postgres_folders()))
    if programs is None:
        pytest.fail("PostgreSQL is not installed: apt-get install postgresql")
    binaries = Path(programs).parent
    # PostgreSQL refuses to run as root, and other users cannot enter pytest's folders.
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if user:
        shutil.chown(folder, "postgres", "postgres")

    def run(program: str, *arguments: str) -> None:
        command = [str(binaries / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, **user)  # type: ignore[call-overload]

    try:
        run("initdb", "-U", "agent", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", options)
        try:
            yield str(folder)
        finally:
            run("pg_ctl", "stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Create an empty PostgreSQL database."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(host=postgres_server, user="agent", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield f"postgresql://agent@/{name}?host={postgres_server}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database, of each kind in turn."""
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres_url")
        return url
    return "sqlite:///calls.db"


@pytest.fixture
async def store(store_url: str, tmp_path: Path) -> AsyncIterator[CallStore]:
    """Open a store, and close it when the test is over."""
    opened = CallStore.open(store_url, base_dir=tmp_path)
    yield opened
    await opened.close()


def _postgres_folders() -> list[str]:
    debian = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return [*debian, *os.get_exec_path()]
