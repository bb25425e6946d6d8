"""`sip-agent cekura push`: what was sent of which call, and sending it again."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from sip_agent.cli.calls import SHORT_UUID, AsJson
from sip_agent.cli.config import ConfigOption
from sip_agent.cli.output import console, plain, print_json, stderr
from sip_agent.platforms.errors import WRONG_USE, PlatformError
from sip_agent.status import EvidenceState

if TYPE_CHECKING:
    from sip_agent.store import CallReader

KEYS = ("call_uuid", "run_id", "ended_at", "outcome", "evidence")
"""What is printed of a record."""


def push(
    identifier: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="Send this call again: call uuid or its start, Call-ID or run:ID."),
    ] = None,
    *,
    state: Annotated[EvidenceState | None, typer.Option(help="List the calls in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="List the newest so many.")] = 20,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """List what was sent to Cekura of which call; with an ID, send that call's evidence now.

    Cekura takes a transcript within five minutes after the end of its call.

    Example:
        sip-agent cekura push --state given_up

        sip-agent cekura push run:456789
    """
    if identifier is not None:
        document = _send(identifier, config)
        if as_json:
            print_json(_shown(document))
        else:
            console.print(plain(f"sent: the evidence of the call {document['call_uuid']}"), soft_wrap=True)
        return
    documents = _list(config, state, limit)
    if as_json:
        print_json([_shown(document) for document in documents])
    elif documents:
        console.print(_table(documents))
    else:
        stderr.print("nothing was sent, or waits to be sent: calls with a run id are (see cekura.send_transcripts)")


def _list(config: Path | None, state: EvidenceState | None, limit: int) -> list[dict[str, Any]]:
    from sip_agent.config import load_settings
    from sip_agent.store import reading

    settings = load_settings(config)
    with reading(settings.store.url, base_dir=settings.base_dir) as store:
        return store.evidence(state=state, limit=limit)


def _send(identifier: str, config: Path | None) -> dict[str, Any]:
    from sip_agent.config import load_settings
    from sip_agent.platforms.cekura import outbox
    from sip_agent.platforms.cekura.client import CekuraClient
    from sip_agent.platforms.cekura.evidence import Evidence
    from sip_agent.store import correspondence

    settings = load_settings(config)
    cekura = settings.cekura
    evidence = Evidence(cekura, joined=True, recordings_dir=settings.media.recordings_dir)

    async def send(document: dict[str, Any]) -> None:
        client = CekuraClient(cekura.base_url, cekura.api_key.get_secret_value())
        async with outbox.Courier(client, evidence, transcript_url=cekura.transcript_url) as courier:
            await outbox.push(document, letters, courier, evidence)

    with correspondence(settings.store.url, base_dir=settings.base_dir) as (store, letters):
        document = _find_one(store, identifier)
        asyncio.run(send(document))
        return _find_one(store, document["call_uuid"])


def _find_one(store: "CallReader", identifier: str) -> dict[str, Any]:
    found = store.find(identifier)
    if not found:
        raise PlatformError(
            f"no call record has the uuid (or 6 characters of it), the Call-ID or the id {identifier!r}",
            "see what there is: sip-agent calls list",
            exit_status=WRONG_USE,
        )
    if len(found) > 1:
        uuids = ", ".join(document["call_uuid"] for document in found[:10])
        raise PlatformError(
            f"{identifier!r} names {len(found)} call records",
            f"send one by its uuid, the newest first: {uuids}",
            exit_status=WRONG_USE,
        )
    return found[0]


def _shown(document: dict[str, Any]) -> dict[str, Any]:
    return {key: document[key] for key in KEYS}


def _table(documents: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("ended", "run id", "to", "state", "tries", "reason", "call"):
        table.add_column(title, overflow="fold", no_wrap=title in {"state", "call"})
    for document in documents:
        evidence = document["evidence"]
        cells = (
            *(document["ended_at"], document["run_id"], evidence["endpoint"], evidence["state"]),
            *(str(evidence["attempts"]), evidence["reason"], document["call_uuid"][:SHORT_UUID]),
        )
        table.add_row(*(plain(cell or "-") for cell in cells))
    return table
