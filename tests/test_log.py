"""Log entries: where they go, how they look, and what they never show."""

import io
import json
import logging
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from sip_agent.config import LogFormat, LogLevel
from sip_agent.log import configure_logging, mask_secrets, mask_text
from sip_agent.record import CallRecord

pytestmark = pytest.mark.usefixtures("_restored_logging")


def entries(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what was logged as JSON."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def fail(message: str) -> None:
    """Raise an error with this message."""
    raise ValueError(message)


class TestJson:
    """One JSON object on one line for each entry."""

    def test_an_entry_is_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Time, level and event come first, then the values."""
        configure_logging(LogFormat.JSON)

        structlog.get_logger().info("call.answered", codec="PCMU")

        (entry,) = entries(capsys)
        assert list(entry) == ["timestamp", "level", "event", "codec"]
        assert (entry["level"], entry["event"], entry["codec"]) == ("info", "call.answered", "PCMU")

    def test_times_are_utc_with_milliseconds(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The time is RFC 3339 in UTC with milliseconds."""
        configure_logging(LogFormat.JSON)

        structlog.get_logger().info("call.answered")

        timestamp = entries(capsys)[0]["timestamp"]
        logged_at = datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        assert len("2026-01-01T00:00:00.000Z") == len(timestamp)
        assert abs((datetime.now(UTC) - logged_at).total_seconds()) < 60

    def test_what_is_bound_is_in_every_entry(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Ids that are bound once are in every entry of the call, and in none after it."""
        configure_logging(LogFormat.JSON)
        log = structlog.get_logger()

        with structlog.contextvars.bound_contextvars(call_uuid="u", run_id="7"):
            log.info("call.answered")
        log.info("agent.stopped")

        first, second = entries(capsys)
        assert (first["call_uuid"], first["run_id"]) == ("u", "7")
        assert "call_uuid" not in second

    def test_an_exception_stays_on_its_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A traceback is one value of the entry."""
        configure_logging(LogFormat.JSON)

        try:
            fail("no")
        except ValueError:
            structlog.get_logger().exception("call.failed")

        (entry,) = entries(capsys)
        assert entry["exception"].startswith("Traceback")
        assert entry["exception"].endswith("ValueError: no")

    def test_a_whole_record_fits(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The canonical line carries a call record, nested."""
        configure_logging(LogFormat.JSON)
        record = CallRecord(call_uuid="u", headers={"X-Run-Id": ["1"]}, turns=[{"speaker": "caller"}])

        structlog.get_logger().info("call.ended", **record.to_dict())

        (entry,) = entries(capsys)
        assert record.to_dict() == {key: entry[key] for key in record.to_dict()}

    def test_any_value_can_be_written(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Lone surrogates, bytes, times, paths, non-finite numbers and cycles do not keep an entry back."""
        configure_logging(LogFormat.JSON)
        cycle: list[Any] = []
        cycle.append(cycle)
        at = datetime(2026, 1, 2, tzinfo=UTC)

        structlog.get_logger().info(
            "odd",
            text="\udcff",
            raw=b"\xff",
            at=at,
            path=Path("/a"),
            number=float("nan"),
            cycle=cycle,
            x={1: 2},
        )

        (entry,) = entries(capsys)
        assert entry["text"] == "\udcff"
        assert entry["raw"] == "\\xff"
        assert entry["at"] == "2026-01-02T00:00:00.000Z"
        assert entry["path"] == "/a"
        assert entry["number"] is None
        assert entry["x"] == {"1": 2}


class TestConsole:
    """One readable line for each entry."""

    def test_an_entry_is_readable(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Without a terminal there are no colours."""
        configure_logging(LogFormat.CONSOLE)

        structlog.get_logger().info("call.answered", codec="PCMU")

        assert capsys.readouterr().err.endswith("[info     ] call.answered codec=PCMU\n")

    def test_strangers_cannot_steer_the_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Control characters that a caller sends are shown, not obeyed, and do not forge a line."""
        configure_logging(LogFormat.CONSOLE)

        structlog.get_logger().info("call.received", user="\x1b[2J\x9b", agent="a\r\nforged")

        text = capsys.readouterr().err
        assert "␛[2J\ufffd" in text
        assert text.count("\n") == 1
        assert "\r" not in text

    def test_an_exception_is_shown(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A traceback follows its entry."""
        configure_logging(LogFormat.CONSOLE)

        try:
            fail("no")
        except ValueError:
            structlog.get_logger().exception("call.failed")

        assert capsys.readouterr().err.rstrip().endswith("ValueError: no")


class TestConfiguration:
    """Levels, libraries, and a log that nobody can read."""

    def test_levels_filter(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Entries below the level are not written."""
        configure_logging(LogFormat.JSON, LogLevel.WARNING)

        structlog.get_logger().info("call.answered")
        structlog.get_logger().warning("call.late")

        assert [entry["event"] for entry in entries(capsys)] == ["call.late"]

    def test_a_change_reaches_loggers_in_use(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Logging can be configured again, as when the settings have been read."""
        configure_logging(LogFormat.CONSOLE)
        log = structlog.get_logger()
        log.info("first")
        configure_logging(LogFormat.JSON)

        log.info("second")

        assert json.loads(capsys.readouterr().err.splitlines()[-1])["event"] == "second"

    def test_libraries_use_the_same_way(self, capsys: pytest.CaptureFixture[str]) -> None:
        """What libraries log is an entry with the library's name, from warnings on."""
        configure_logging(LogFormat.JSON)

        logging.getLogger("library").info("chatter")
        logging.getLogger("library").warning("50%% of %s", "it")

        (entry,) = entries(capsys)
        assert (entry["level"], entry["event"], entry["logger"]) == ("warning", "50% of it", "library")

    def test_debug_lets_libraries_talk(self, capsys: pytest.CaptureFixture[str]) -> None:
        """At level debug nothing is held back."""
        configure_logging(LogFormat.JSON, LogLevel.DEBUG)

        logging.getLogger("library").debug("chatter")

        assert [entry["event"] for entry in entries(capsys)] == ["chatter"]

    def test_python_warnings_are_entries(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Warnings of Python do not break into the log with lines of their own."""
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            configure_logging(LogFormat.JSON)
            warnings.warn("careful", stacklevel=1)
            logging.captureWarnings(capture=False)

        (entry,) = entries(capsys)
        assert "careful" in entry["event"]

    def test_a_lost_log_does_no_harm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A call goes on when standard error is closed."""
        closed = io.StringIO()
        closed.close()
        configure_logging(LogFormat.JSON)
        monkeypatch.setattr(sys, "stderr", closed)

        structlog.get_logger().info("call.answered")


class TestSecrets:
    """What is secret is masked wherever it stands."""

    @pytest.mark.parametrize(
        "key",
        [
            "password",
            "authorization",
            "Proxy-Authorization",
            "secret",
            "token",
            "api_key",
            "X-Auth-Token",
            "apikey",
        ],
    )
    def test_secret_keys(self, key: str) -> None:
        """A value under a name that says secret is masked, at any depth and of any kind."""
        assert mask_secrets({key: "abc"}) == {key: "***"}
        assert mask_secrets({"a": [{key: ["abc", 5]}]}) == {"a": [{key: ["***", "***"]}]}

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("auth_user", "anna"),
            ("token_file", "/run/token"),
            ("tokens", 7),
            ("password", ""),
            ("token", None),
            ("X-Auth-Token", "fingerprint:0123456789ab"),
        ],
    )
    def test_no_secret(self, key: str, value: object) -> None:
        """User names, paths, counts and fingerprints are shown."""
        assert mask_secrets({key: value}) == {key: value}

    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ('Authorization: Digest username="a",\r\n response="b"\r\nTo: x', "Authorization: ***\r\nTo: x"),
            ("authorization: Bearer abcdefgh", "authorization: ***"),
            ('Digest username="anna", response="0123"', "Digest ***"),
            ('uri="sip:a", response="0123456789abcdef"', 'uri="sip:a", response=***'),
            ("response=0123456789abcdef0123456789abcdef", "response=***"),
            ("Bearer abcdefgh.ijk", "Bearer ***"),
            ("postgresql://anna:pw@host/db", "postgresql://***@host/db"),
            ("sip:anna:pw@host", "sip:anna:***@host"),
            ("https://host/x?token=abc&y=1", "https://host/x?token=***&y=1"),
        ],
    )
    def test_secret_text(self, text: str, masked: str) -> None:
        """Credentials inside text are masked, and what stands around them is kept."""
        assert mask_text(text) == masked

    @pytest.mark.parametrize(
        "text",
        [
            "sip:anna@host:5060",
            "the response = good",
            "Digest authentication",
            "a basic idea",
            "a@b",
            "12:30",
        ],
    )
    def test_harmless_text(self, text: str) -> None:
        """Text without credentials is left as it is."""
        assert mask_text(text) == text

    def test_entries_are_masked(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Masking is part of both formats, and reaches tracebacks and what libraries say."""
        for log_format in LogFormat:
            configure_logging(log_format)
            try:
                fail("https://anna:hush@host")
            except ValueError:
                structlog.get_logger().exception("call.failed", password="hush", at="sip:anna:hush@host")
            logging.getLogger("library").warning("Authorization: Basic hush")

        text = capsys.readouterr().err
        assert "hush" not in text
        assert text.count("***") == 10

    def test_hostile_text_is_searched_quickly(self) -> None:
        """Text made to slow the search down does not."""
        for text in ("sip:a:" * 20_000 + "@", "://" * 40_000, "Digest " * 20_000, "response=" * 20_000):
            started_at = datetime.now(UTC)
            mask_text(text)

            assert (datetime.now(UTC) - started_at).total_seconds() < 2
