"""Whole sessions, replayed: `realtime_sessions` has them line by line, and says where they come from."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sip_agent.testing import FakeCall, speech_like
from tests.handlers.realtime_calls import loud_ms, talking, tone
from tests.handlers.realtime_server import Connection, RealtimeServer

SESSIONS = sorted((Path(__file__).parent / "realtime_sessions").glob("*.jsonl"))

Line = dict[str, Any]


@pytest.mark.parametrize("session", SESSIONS, ids=lambda path: path.stem)
async def test_replay(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler plays its part in the session, and the record says what was said, by whom, and what went wrong."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    lines = read(session)
    (options,) = (line["options"] for line in lines if "options" in line)
    (expected,) = (line["record"] for line in lines if "record" in line)
    async with RealtimeServer() as server, talking(server, **options) as (caller, model):
        for line in lines:
            await play(line, caller, model)
        await caller.until(lambda: len(caller.record.transcript) == len(expected["transcript"]), "the transcript")

    entries = caller.record.transcript
    assert expected["transcript"] == [[entry["speaker"], entry.get("text") or entry["tool"]] for entry in entries]
    assert expected["stalls"] == [stall["cause"] for stall in caller.record.stalls]
    assert ("answered", None) == (caller.record.outcome, caller.record.error)


def read(session: Path) -> list[Line]:
    """Return the lines of a session."""
    return [json.loads(line) for line in session.read_text(encoding="utf-8").splitlines()]


async def play(line: Line, caller: FakeCall, model: Connection) -> None:
    """Do what a line says."""
    match line:
        case {"server": event}:
            fields = {key: with_sound(value) for key, value in event.items() if key not in {"type", "event_id"}}
            await model.send(event["type"], **fields)
        case {"client": wanted}:
            await caller.until(lambda: bool(model.events), str(wanted))
            assert_has(wanted, model.events.pop(0))
        case {"caller_has_heard_ms": duration_ms}:
            await caller.until(lambda: loud_ms(caller.heard) >= duration_ms, "the model's sound")
        case {"caller_speaks_ms": duration_ms}:
            await caller.speak(speech_like(duration_ms))
        case {"caller_waits_ms": duration_ms}:
            await caller.until(lambda: not model.events)
            await caller.hear(duration_ms)


def with_sound(value: Any) -> Any:
    """Put sound in the place of its description."""
    if not isinstance(value, str) or not value.startswith("tone:"):
        return value
    _, hz, duration_ms = value.split(":")
    return base64.b64encode(tone(int(hz), int(duration_ms)).tobytes()).decode()


def assert_has(wanted: Mapping[str, Any], event: Mapping[str, Any]) -> None:
    """Fail unless an event has these fields, at any depth."""
    for key, value in wanted.items():
        if isinstance(value, dict):
            assert_has(value, event[key])
        else:
            assert value == event[key]
