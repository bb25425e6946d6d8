"""`sip-agent calls` and `sip-agent db`, on a store with real records."""

import asyncio
import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sip_agent.cli import calls, db
from sip_agent.cli.output import console
from sip_agent.errors import SettingsError
from sip_agent.record import CallRecord, RtpRecord
from sip_agent.status import EndedBy, Outcome
from sip_agent.store import CallStore
from sip_agent.store.migrations import MIGRATIONS

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

ANSWERED = CallRecord(
    call_uuid="aaaaaaaa-1111-4000-8000-000000000001",
    call_id="one@caller.example.com",
    from_uri='"Alice" <sip:alice@caller.example.com;user=phone>;tag=1',
    to_uri="<sip:echo@agent.example.com>",
    request_uri="sip:echo@agent.example.com:5060;transport=udp",
    run_id="4711",
    scenario_id="7",
    result_id="9",
    headers={"X-Run-Id": ["4711"], "X-Tenant": ["acme", "[red]other[/red]"]},
    handler="echo",
    outcome=Outcome.ANSWERED,
    sip_status=200,
    ended_by=EndedBy.CALLER,
    invite_received_at=NOW,
    answered_at=NOW,
    ended_at=NOW + timedelta(seconds=65),
    talk_ms=65_000,
    codec="PCMU",
    rtp=RtpRecord(mos_lq_estimated=4.37),
    transcript=[{"speaker": "agent", "text": "Hello, \x1b[2Jworld", "at_ms": 12}],
)
REJECTED = CallRecord(
    call_uuid="aaaaaaaa-2222-4000-8000-000000000002",
    call_id="two@caller.example.com",
    from_uri="<sip:192.0.2.7>",
    request_uri="sip:+4930@agent.example.com",
    run_id="4711",
    outcome=Outcome.REJECTED,
    sip_status=486,
    invite_received_at=NOW + timedelta(seconds=1),
)

Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a settings file whose store is not made yet."""
    path = tmp_path / "sip-agent.toml"
    path.write_text('[store]\nurl = "sqlite:///calls.db"\n')
    return path


@pytest.fixture
def filled(config: Path) -> None:
    """Store an answered and a rejected call."""

    async def fill() -> None:
        store = CallStore.open("sqlite:///calls.db", base_dir=config.parent)
        for record in (ANSWERED, REJECTED):
            await store.finish(record)
        await store.close()

    asyncio.run(fill())


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command of `sip-agent calls` on a wide terminal, one hour east of Greenwich."""
    monkeypatch.setattr(console, "width", 200)
    monkeypatch.setenv("TZ", "EAST-1")
    time.tzset()

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(calls.app, [*arguments, "--config", str(config)])

    yield invoke
    monkeypatch.undo()
    time.tzset()


MEASURED = CallRecord(
    call_uuid="bbbbbbbb-1111-4000-8000-000000000003",
    outcome=Outcome.ANSWERED,
    invite_received_at=NOW,
    turns=[
        {
            "speaker": "agent",
            "started_ms": 1400,
            "ended_ms": 3000,
            "text": "Hello, \x1b[2Jworld",
            "response_latency_ms": 2400,
            "interrupted": True,
            "stop_time_ms": 240,
            "stalled_ms": 900,
        },
        {
            "speaker": "caller",
            "started_ms": 2760,
            "ended_ms": 4000,
            "text": None,
            "response_latency_ms": None,
            "interrupted": True,
            "stop_time_ms": None,
            "stalled_ms": 0,
        },
    ],
    metrics={
        "response_latency_ms": {"p50": 2400, "p95": 2400, "max": 2400, "count": 1},
        "talk_ratio": None,
        "double_talk_ms": 240,
        "bounds": [
            {
                "metric": "response_latency_ms.p95",
                "value": 2400,
                "bound": "< 2000",
                "passed": False,
                "source": "Cekura",
            },
            {"metric": "talk_ratio", "value": None, "bound": "≥ 0.4", "passed": None, "source": "Cekura"},
        ],
    },
)


async def _store_measured(folder: Path) -> None:
    store = CallStore.open("sqlite:///calls.db", base_dir=folder)
    await store.finish(MEASURED)
    await store.close()


def test_show_turns_and_metrics(run: Run, config: Path) -> None:
    """Turns are a table, and each metric has the platform's bound beside it."""
    asyncio.run(_store_measured(config.parent))
    shown = [" ".join(line.split()) for line in run("show", "bbbbbbbb").stdout.splitlines()]

    assert {
        "agent 1.40 s 3.00 s 2400 ms 900 ms of it stalled by us, interrupted, went on for 240 ms Hello, \\x1b[2Jworld",
        "caller 2.76 s 4.00 s interrupted",
        "response_latency_ms p50 2400, p95 2400, max 2400, count 1 p95 < 2000 missed",
        "talk_ratio - ≥ 0.4",
        "double_talk_ms 240",
    } <= set(shown)


@pytest.mark.usefixtures("filled")
def test_list_shows_what_matters_to_people(run: Run) -> None:
    """A call is one line: when (local time), for which run, from whom to whom, and how it went."""
    result = run("list")

    lines = [" ".join(line.split()) for line in result.stdout.splitlines() if "aaaaaaaa" in line]
    assert lines == [
        "2026-03-01 13:00:01 4711 192.0.2.7 → +4930 - rejected 486 - - - aaaaaaaa",
        "2026-03-01 13:00:00 4711 alice → echo echo answered 200 1:05 PCMU 4.4 aaaaaaaa",
    ]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], [REJECTED, ANSWERED]),
        (["--limit", "1"], [REJECTED]),
        (["--run-id", "4711", "--scenario-id", "7", "--result-id", "9"], [ANSWERED]),
        (["--outcome", "rejected"], [REJECTED]),
        (["--header", "x-tenant=acme", "--header", "X-Run-Id=4711"], [ANSWERED]),
        (["--since", "2026-03-01T12:00:01Z"], [REJECTED]),
        (["--since", "2026-03-01T13:00:00.500+01:00"], [REJECTED]),
        (["--since", "2h"], []),
    ],
    ids=str,
)
def test_filters_reach_the_store(run: Run, filters: list[str], expected: list[CallRecord]) -> None:
    """`--json` prints the records that meet every filter, whole and newest first; none is an empty list."""
    result = run("list", "--json", *filters)

    assert [record.to_dict() for record in expected] == json.loads(result.stdout)


@pytest.mark.usefixtures("filled")
def test_an_empty_answer_says_what_to_try(run: Run) -> None:
    """Where nothing matches, people read so on standard error, and standard output stays empty."""
    result = run("list", "--run-id", "404")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "no call record matches; leave a filter out" in result.stderr


@pytest.mark.usefixtures("filled")
def test_csv_has_stable_columns(run: Run) -> None:
    """CSV has a column per key of the record; nested values are JSON text, missing ones empty."""
    rows = list(csv.DictReader(io.StringIO(run("list", "--csv").stdout)))

    assert list(ANSWERED.to_dict()) == list(rows[0])
    assert ANSWERED.to_dict()["headers"] == json.loads(rows[1]["headers"])
    assert (rows[1]["talk_ms"], rows[0]["talk_ms"]) == ("65000", "")


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "yesterday"], "'yesterday' is no time"),
        (["--header", "acme"], "'acme' is no header field"),
        (["--json", "--csv"], "choose one"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_wrong_use_is_explained(run: Run, arguments: list[str], message: str) -> None:
    """An option that cannot be understood ends with status 2 and what to write instead."""
    result = run("list", *arguments)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("identifier", ["aaaaaaaa-1", "one@caller.example.com", "scenario:7", "result:9"])
def test_show_finds_a_call_by_any_id(run: Run, identifier: str) -> None:
    """A call is shown by the start of its uuid, its Call-ID, or an id of the test run that only it has."""
    result = run("show", identifier, "--json")

    assert ANSWERED.to_dict()["call_uuid"] == json.loads(result.stdout)["call_uuid"]


@pytest.mark.usefixtures("filled")
def test_show_prints_sections(run: Run) -> None:
    """People read a call under titles, and what callers wrote can neither colour nor steer the terminal."""
    lines = [line.rstrip() for line in run("show", "aaaaaaaa-1").stdout.splitlines()]

    titles = [line for line in lines if not line.startswith(" ")]
    assert titles == ["Call", "Correlation", "Timing", "Media", "Headers", "Transcript"]
    assert "[red]other[/red]" in " ".join(lines)
    assert lines[-1].split(maxsplit=1) == ["agent", r"text=Hello, \x1b[2Jworld, at_ms=12"]


def test_show_leaves_nothing_out() -> None:
    """Every key of a record has its section."""
    shown = [key for keys in calls.SECTIONS.values() for key in keys]

    assert sorted(ANSWERED.to_dict()) == sorted(shown)


@pytest.mark.usefixtures("filled")
def test_show_names_the_candidates(run: Run) -> None:
    """What names several calls ends with status 2 and their uuids."""
    for identifier in ("aaaaaaaa", "run:4711"):
        result = run("show", identifier)

        assert (result.exit_code, result.stdout) == (2, "")
        assert f"error: '{identifier}' names 2 call records" in result.stderr
        assert ANSWERED.call_uuid in result.stderr
        assert REJECTED.call_uuid in result.stderr


@pytest.mark.usefixtures("filled")
def test_show_says_what_it_searched_for(run: Run) -> None:
    """An unknown id ends with status 2 and is named."""
    result = run("show", "run:404")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: no call record has" in result.stderr
    assert "'run:404'" in result.stderr


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("name", "parse"),
    [
        ("jsonl", lambda text: [json.loads(line) for line in text.splitlines()]),
        ("json", json.loads),
    ],
)
def test_export_writes_whole_records(run: Run, tmp_path: Path, name: str, parse: Callable[[str], Any]) -> None:
    """The same records go to standard output and to a file, whole."""
    expected = [REJECTED.to_dict(), ANSWERED.to_dict()]

    printed = run("export", "--format", name)
    run("export", "--format", name, "--output", str(tmp_path / "out"))

    assert expected == parse(printed.stdout)
    assert expected == parse((tmp_path / "out").read_text())


@pytest.mark.usefixtures("filled")
def test_export_of_nothing_is_still_a_document(run: Run) -> None:
    """No match is an empty array, an empty file, or a header line."""
    printed = [run("export", "--run-id", "404", "--format", name).stdout for name in ("json", "jsonl", "csv")]

    assert ["[]\n", "", ",".join(ANSWERED.to_dict()) + "\n"] == printed


@pytest.mark.usefixtures("filled")
def test_export_names_the_file_it_cannot_write(run: Run, tmp_path: Path) -> None:
    """An output that cannot be written ends with status 2."""
    result = run("export", "--output", str(tmp_path))

    assert result.exit_code == 2
    assert "cannot write" in result.stderr


def test_reading_before_any_call_names_the_file(run: Run) -> None:
    """Where there is no store yet, the error names the file and how it comes to be."""
    error = run("list").exception

    assert isinstance(error, SettingsError)
    assert "calls.db; 'sip-agent serve' creates it" in str(error)


def test_db_upgrade_makes_the_database(config: Path) -> None:
    """`--check` ends with status 1 while an upgrade is due; an upgrade says what it applied, once."""
    runs = [
        CliRunner().invoke(db.app, ["upgrade", *options, "--config", str(config)])
        for options in (["--check"], [], [], ["--check"])
    ]

    assert [(result.exit_code, result.stdout) for result in runs] == [
        (1, "".join(f"pending: {migration.__name__}\n" for migration in MIGRATIONS)),
        (0, "".join(f"applied: {migration.__name__}\n" for migration in MIGRATIONS)),
        (0, "the database is up to date\n"),
        (0, "the database is up to date\n"),
    ]


@pytest.mark.usefixtures("filled")
def test_programs_read_one_document(config: Path) -> None:
    """As a process of its own the command prints JSON and nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "sip_agent", "calls", "show", "one@caller.example.com", "--json"],
        env={"SIP_AGENT_CONFIG": str(config)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ANSWERED.call_uuid == json.loads(done.stdout)["call_uuid"]
    assert not done.stderr
