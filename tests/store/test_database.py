"""Opening a database: what the setting may say, and what a user reads when it cannot be."""

import sqlite3
import sys
from pathlib import Path

import pytest

from sip_agent.errors import SettingsError
from sip_agent.store import CallStore, upgrade


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("calls.db", "'calls.db' is no database we know; write sqlite:///file"),
        ("mysql://user:secret@host/calls", "'mysql' is no database we know"),
        ("sqlite://", "do not survive the agent; name a file"),
        ("sqlite:///:memory:", "do not survive the agent; name a file"),
        ("sqlite:///missing/calls.db", "create the folder .*missing first"),
        ("sqlite:///folder", "cannot use .*folder: unable to open database file; check that the file"),
        ("sqlite:///text.txt", "cannot use .*text.txt: file is not a database; it is some other file"),
        (
            "sqlite:////sys/calls.db",
            "cannot use /sys/calls.db: .*; check that the file and its folder are writable",
        ),
    ],
)
def test_a_database_that_cannot_be_used_is_explained(tmp_path: Path, url: str, message: str) -> None:
    """The message names the setting, what was found, and what to do."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("Dear diary, this is text and no database at all. " * 100)

    with pytest.raises(SettingsError, match=rf"^store\.url: .*{message}") as caught:
        CallStore.open(url, base_dir=tmp_path)

    assert "secret" not in str(caught.value)


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    """A database that has other tables of our names is not changed."""
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE calls (number TEXT)")
    other.close()
    before = (tmp_path / "other.db").read_bytes()

    with pytest.raises(SettingsError, match=r"other\.db: table calls already exists"):
        CallStore.open("sqlite:///other.db", base_dir=tmp_path)

    tables = sqlite3.connect(tmp_path / "other.db")
    names = [name for (name,) in tables.execute("SELECT name FROM sqlite_schema")]
    tables.close()
    assert before[100:] == (tmp_path / "other.db").read_bytes()[100:]  # the first 100 bytes say "WAL"
    assert names == ["calls"]


def test_a_relative_file_is_relative_to_the_settings(tmp_path: Path) -> None:
    """The file is made beside the settings file, whatever the working folder, and its name may be odd."""
    upgrade("sqlite:///100% sure # calls.db", base_dir=tmp_path)

    assert (tmp_path / "100% sure # calls.db").is_file()


def test_a_missing_driver_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg, PostgreSQL is refused with the command that installs it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(SettingsError, match=r"pip install 'sip-agent\[postgres\]'"):
        CallStore.open("postgresql://user@host/calls", base_dir=tmp_path)


def test_a_server_that_is_away_is_explained_without_the_password(tmp_path: Path) -> None:
    """The message shows where the server was looked for, but not the password."""
    with pytest.raises(SettingsError, match=r"store\.url: cannot use postgresql.*check that the server") as caught:
        CallStore.open(f"postgres://agent:hunter2@/calls?host={tmp_path}", base_dir=tmp_path)

    assert "hunter2" not in str(caught.value)
