"""`sip-agent calls`: look up, show and export call records."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer
from rich import box
from rich.progress import track
from rich.table import Table
from rich.text import Text

from sip_agent.cli.config import ConfigOption
from sip_agent.cli.ladder import print_ladder
from sip_agent.cli.options import with_options
from sip_agent.cli.output import ExitStatus, console, plain, print_json, stderr
from sip_agent.cli.turns import metrics_table, turns_table
from sip_agent.record import CallRecord
from sip_agent.status import Outcome

if TYPE_CHECKING:
    from sip_agent.store import CallQuery, CallReader

app = typer.Typer(name="calls", help="Look up, show and export call records.", no_args_is_help=True)

COLUMNS = tuple(item.name for item in fields(CallRecord))
"""The columns of CSV, in this order: the keys of a call record."""

SHORT_UUID = 8
"""Characters of a call uuid in tables: `calls show` takes them."""

SECTIONS = {
    "Call": (
        *("call_uuid", "call_id", "direction", "transport", "source_address", "from_uri", "to_uri"),
        *("request_uri", "user_agent", "account", "auth_user", "handler", "outcome", "sip_status"),
        *("ended_by", "end_reason", "q850_cause"),
    ),
    "Correlation": ("run_id", "scenario_id", "result_id"),
    "Timing": (
        *("invite_received_at", "ringing_at", "answered_at", "ended_at", "ringing_delay_ms"),
        *("answer_delay_ms", "setup_ms", "talk_ms", "rx_first_audio_ms", "tx_first_audio_ms"),
    ),
    "Messages": ("messages",),
    "Media": ("codec", "clock_rate_hz", "srtp", "rtp", "audio"),
    "Headers": ("headers",),
    "DTMF": ("dtmf",),
    "Transfers": ("transfers",),
    "Turns": ("turns",),
    "Metrics": ("metrics",),
    "Transcript": ("transcript",),
    "Stalls": ("stalls",),
    "Faults": ("faults",),
    "Recording": ("recording",),
    "Evidence": ("evidence",),
    "Verdict": ("verdict",),
    "Error": ("error",),
}
"""What `calls show` prints, and under which title; a section without a value is left out."""

_URI = re.compile(r"sips?:(?:(?P<user>[^@;>]+)@)?(?P<host>[^;>?]+)", re.IGNORECASE)


class ExportFormat(StrEnum):
    """How records are written: one JSON object per line, a table, or one JSON array."""

    JSONL = "jsonl"
    CSV = "csv"
    JSON = "json"


def parse_since(text: str) -> datetime:
    """Read a moment (RFC 3339; without an offset it is local time), or how long ago it was (`10m`, `3d`)."""
    from sip_agent.config import parse_duration

    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        pass
    try:
        return datetime.now(UTC) - parse_duration(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; write 2026-01-31T12:00:00Z, or how long ago: 10m, 2h, 3d"
        ) from None


def parse_header(text: str) -> tuple[str, str]:
    """Read `Name=value`."""
    name, equals, value = text.partition("=")
    if not name.strip() or not equals:
        raise typer.BadParameter(f"{text!r} is no header field; write Name=value, like X-Tenant=acme")
    return name.strip(), value


RunId = Annotated[str | None, typer.Option("--run-id", help="Calls of this test run.")]
ScenarioId = Annotated[str | None, typer.Option("--scenario-id", help="Calls of this scenario.")]
ResultId = Annotated[str | None, typer.Option("--result-id", help="Calls of this result.")]
Header = Annotated[
    list[Any] | None,
    typer.Option(
        "--header",
        parser=parse_header,
        metavar="NAME=VALUE",
        help="Calls with this header field; repeatable.",
    ),
]
WithOutcome = Annotated[Outcome | None, typer.Option("--outcome", help="Calls that ended in this way.")]
Since = Annotated[
    datetime | None,
    typer.Option("--since", parser=parse_since, metavar="TIME", help="Calls from this time on: RFC 3339, or 2h."),
]
Identifier = Annotated[
    str, typer.Argument(metavar="ID", help="Call uuid or its start, Call-ID, run:, scenario: or result:ID.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _query(
    *,
    run_id: RunId = None,
    scenario_id: ScenarioId = None,
    result_id: ResultId = None,
    header: Header = None,
    outcome: WithOutcome = None,
    since: Since = None,
) -> "CallQuery":
    from sip_agent.store import CallQuery

    return CallQuery(
        run_id=run_id,
        scenario_id=scenario_id,
        result_id=result_id,
        headers=tuple(header or ()),
        outcome=outcome,
        since=since,
    )


@app.command("list")
@with_options(query=_query)
def list_calls(
    *,
    query: "CallQuery",
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 20,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    config: ConfigOption = None,
) -> None:
    """List call records, newest first.

    Example:
        sip-agent calls list --run-id 4711 --since 2h

        sip-agent calls list --header X-Tenant=acme --outcome failed --json
    """
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv")
    query = replace(query, limit=limit)
    with _store(config) as store:
        documents = store.search(query)
    if not documents:
        _say_nothing_found(query)
    if as_json:
        print_json(documents)
    elif as_csv:
        _write_csv(documents, sys.stdout)
    elif documents:
        console.print(_table(documents))


@app.command("show")
def show_call(
    identifier: Identifier,
    *,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Show one call record.

    Example:
        sip-agent calls show 1f0c9a2e

        sip-agent calls show run:4711 --json
    """
    document = _find_one(identifier, config)
    if as_json:
        print_json(document)
    else:
        print_sections(document)


@app.command("ladder")
def show_ladder(identifier: Identifier, *, as_json: AsJson = False, config: ConfigOption = None) -> None:
    """Show the SIP messages of a call and when they passed: challenges and retransmissions too.

    What came after the call was recorded, like the ACK of a refusal, is missing. The light engine notes no messages.

    Example:
        sip-agent calls ladder run:4711
    """
    document = _find_one(identifier, config)
    if as_json:
        print_json(document.get("messages", []))
    elif document.get("messages"):
        print_ladder(document)
    else:
        _refuse(
            f"call {document['call_uuid']} has no SIP messages: it is not over, it did not come by SIP, "
            "or it came when the light engine ran, or an older release"
        )


@app.command("export")
@with_options(query=_query)
def export_calls(
    *,
    query: "CallQuery",
    export_format: Annotated[ExportFormat, typer.Option("--format", help="How to write.")] = ExportFormat.JSONL,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="F", help="File to write; default: standard output.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Export all matching call records, newest first.

    Example:
        sip-agent calls export --since 7d --format csv --output calls.csv
    """
    write = _WRITERS[export_format]
    with _store(config) as store:
        if output is None:
            write(store.stream(query), sys.stdout)
            return
        documents = track(
            store.stream(query), "exporting", console=stderr, transient=True, disable=not stderr.is_terminal
        )
        try:
            with output.open("w", encoding="utf-8", newline="") as file:
                write(documents, file)
        except OSError as error:
            raise typer.BadParameter(f"cannot write {output}: {error.strerror}") from error


def _find_one(identifier: str, config: Path | None) -> dict[str, Any]:
    with _store(config) as store:
        found = store.find(identifier)
    if not found:
        _refuse(
            f"no call record has the uuid (or 6 characters of it), the Call-ID or the id {identifier!r}; "
            "see what there is: sip-agent calls list"
        )
    if len(found) > 1:
        candidates = (f"  {document['call_uuid']}  {document['invite_received_at']}" for document in found)
        _refuse(f"{identifier!r} names {len(found)} call records; show one by its uuid:", *candidates)
    return found[0]


def _store(config: Path | None) -> AbstractContextManager["CallReader"]:
    from sip_agent.config import load_settings
    from sip_agent.store import reading

    settings = load_settings(config)
    return reading(settings.store.url, base_dir=settings.base_dir)


def _refuse(*lines: str) -> NoReturn:
    for number, line in enumerate(lines):
        stderr.print(plain(line if number else f"error: {line}"), soft_wrap=True)
    raise typer.Exit(ExitStatus.WRONG_USE)


def _write_jsonl(documents: Iterable[dict[str, Any]], file: TextIO) -> None:
    file.writelines(_json(document) + "\n" for document in documents)


def _write_json(documents: Iterable[dict[str, Any]], file: TextIO) -> None:
    separator = "[\n"
    for document in documents:
        file.write(separator + _json(document))
        separator = ",\n"
    file.write("[]\n" if separator == "[\n" else "\n]\n")


def _write_csv(documents: Iterable[dict[str, Any]], file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for document in documents:
        values = (document.get(name) for name in COLUMNS)
        writer.writerow(_json(value) if isinstance(value, dict | list) else value for value in values)


_WRITERS = {
    ExportFormat.JSONL: _write_jsonl,
    ExportFormat.CSV: _write_csv,
    ExportFormat.JSON: _write_json,
}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _say_nothing_found(query: "CallQuery") -> None:
    if query == replace(_query(), limit=query.limit):
        message = "no calls yet; place one with: sip-agent call sip:echo@127.0.0.1"
    else:
        message = "no call record matches; leave a filter out, or see what there is: sip-agent calls list"
    stderr.print(message, soft_wrap=True)


def _table(documents: Iterable[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("when", "run id", "from → to", "handler", "outcome"):
        table.add_column(title, overflow="fold")
    for title in ("talk", "codec", "MOS", "uuid"):
        table.add_column(title, justify="left" if title in {"codec", "uuid"} else "right", no_wrap=True)
    for document in documents:
        mos = (document["rtp"] or {}).get("mos_lq_estimated")
        cells = (
            _local(document["invite_received_at"]),
            document["run_id"],
            f"{_user(document['from_uri'])} → {_user(document['request_uri'] or document['to_uri'])}",
            document["handler"],
            f"{document['outcome'] or 'in progress'} {document['sip_status'] or ''}".rstrip(),
            _minutes(document["talk_ms"]),
            document["codec"],
            None if mos is None else f"{mos:.1f}",
            document["call_uuid"][:SHORT_UUID],
        )
        table.add_row(*(plain("-" if cell is None else cell) for cell in cells))
    return table


def print_sections(document: dict[str, Any]) -> None:
    """Print a call record for people: one title per section, what has no value left out."""
    for title, keys in SECTIONS.items():
        if (table := _as_table(title, document)) is not None:
            console.print(Text(title, style="bold"))
            console.print(table)
            continue
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for key in keys:
            for label, value in _facts("" if len(keys) == 1 else key, document.get(key)):
                grid.add_row(plain(f"  {label}"), plain(value))
        if grid.row_count:
            console.print(Text(title, style="bold"))
            console.print(grid)


def _as_table(title: str, document: dict[str, Any]) -> Table | None:
    """Return the table of a section that has one, None for what is shown fact by fact."""
    if title == "Turns" and document.get("turns"):
        return turns_table(document["turns"])
    if title == "Metrics" and "bounds" in document.get("metrics", {}):
        return metrics_table(document["metrics"])
    return None


def _facts(label: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield what a value says, one line each: nested objects by dotted label, lists item by item."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _facts(f"{label}.{key}".lstrip("."), item)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                rest = {key: part for key, part in item.items() if key != "speaker" and part is not None}
                yield item.get("speaker", label), ", ".join(f"{key}={part}" for key, part in rest.items())
            else:
                yield label, str(item)
    elif value not in {None, ""}:
        yield label, str(value)


def _local(timestamp: str | None) -> str | None:
    return timestamp and datetime.fromisoformat(timestamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _user(uri: str) -> str:
    """Return whom a SIP URI names: its user, or its host if it has none (RFC 3261 §19.1.1)."""
    match = _URI.search(uri)
    return (match["user"] or match["host"]) if match else uri


def _minutes(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes}:{seconds:02}"
