"""The call records, and the recordings that they name."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from sip_agent.api.parts import PARTS, ApiParts, Problem, json_response, to_json
from sip_agent.api.query import read_query
from sip_agent.store import CallQuery, CallReader

CANDIDATES_MAX = 20
"""How many records an ambiguous id shows."""


async def list_calls(request: web.Request) -> web.Response:
    """Answer with the records that the parameters ask for, newest first."""
    parts = request.app[PARTS]
    query = read_query(tuple(request.query.items()), datetime.now(UTC))
    return web.Response(body=await parts.in_thread(_search, parts.store, query), content_type="application/json")


async def show_call(request: web.Request) -> web.Response:
    """Answer with one record."""
    return json_response(await _find_one(request.app[PARTS], request.match_info["id"]))


async def show_recording(request: web.Request) -> web.FileResponse:
    """Answer with the sound file of one call, or with a part of it (Range)."""
    parts = request.app[PARTS]
    document = await _find_one(parts, request.match_info["id"])
    path = await parts.in_thread(_recording_of, document, parts.recordings_dir)
    name = f'inline; filename="{document["call_uuid"]}.wav"'
    return web.FileResponse(path, headers={"Content-Type": "audio/wav", "Content-Disposition": name})


def _search(store: CallReader, query: CallQuery) -> bytes:
    # Record by record: writing all of them as one JSON document would hold the interpreter lock, and with it the loop.
    return b'{"calls": [' + b", ".join(to_json(document) for document in store.stream(query)) + b"]}"


async def _find_one(parts: ApiParts, identifier: str) -> dict[str, Any]:
    found = await parts.in_thread(_find, parts.store, identifier)
    if not found:
        raise Problem(
            404,
            f"no call record has the uuid (or 6 characters of it), the Call-ID or the id {identifier!r}",
            "GET /calls lists what there is; a / in a Call-ID is written %2F",
        )
    if len(found) > 1:
        several = f"{CANDIDATES_MAX} or more" if len(found) >= CANDIDATES_MAX else str(len(found))
        keys = ("call_uuid", "call_id", "invite_received_at", "outcome")
        candidates = [{key: document[key] for key in keys} for document in found[:CANDIDATES_MAX]]
        raise Problem(
            300, f"{identifier!r} names {several} call records", "ask for one by its call_uuid", calls=candidates
        )
    return found[0]


def _find(store: CallReader, identifier: str) -> list[dict[str, Any]]:
    kind, _, value = identifier.partition(":")
    if value and kind in {"run", "scenario", "result"}:
        return store.search(CallQuery(**{f"{kind}_id": value, "limit": CANDIDATES_MAX}))  # type: ignore[arg-type]
    return store.find(identifier)


def _recording_of(document: dict[str, Any], recordings_dir: Path) -> Path:
    """Return the file that a record names, if it is there and is ours to give."""
    recording, call_uuid = document["recording"], document["call_uuid"]
    if recording is None and document["ended_at"] is None:
        raise Problem(404, f"the call {call_uuid} goes on", "its recording is complete when it is over")
    if recording is None:
        hint = "calls are recorded once they are answered, unless media.record is off"
        raise Problem(404, f"the call {call_uuid} has no recording", hint)
    path = Path(recording["path"]).resolve()
    if not path.is_relative_to(recordings_dir.resolve()):
        hint = "only files in media.recordings_dir are given out; was it another folder at the time of the call?"
        raise Problem(404, f"the recording of the call {call_uuid} lies elsewhere", hint)
    if not path.is_file():
        hint = f"recording it failed: {recording['error']}" if recording.get("error") else "it was removed"
        raise Problem(404, f"the recording of the call {call_uuid} is not there", hint)
    return path
