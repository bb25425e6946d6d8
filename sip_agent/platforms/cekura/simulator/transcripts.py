"""The custom transcript endpoint: what an agent knows of its side of a call, by run id.

Documented (docs.cekura.ai, Custom Integration; the vendor's skill custom-transcript-provider): the fields, the roles,
`run_id` as a JSON integer of an existing run with its two error texts, one bad call refuses all of them, the five
minutes, 202 for success. Our own choice: the other texts, 400 for what comes too late, and that a second posting
replaces the first one.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from sip_agent.platforms.cekura.simulator.runs import Ledger, Run
from sip_agent.platforms.cekura.simulator.starting import BadRequest, wrong

DEADLINE = timedelta(minutes=5)
ID_MAX = 255
ROLES = frozenset({"bot", "user", "system", "function_call", "function_call_result"})
REQUIRED = "This field is required."


def take_transcripts(body: Any, ledger: Ledger, now: datetime) -> list[Run]:
    """Note the calls of a posting with their runs, and return these. Raises BadRequest, and then notes none."""
    calls = body.get("calls") if isinstance(body, Mapping) else None
    if not isinstance(calls, list) or not calls:
        raise wrong("calls", REQUIRED)
    problems = [dict(_problems(call)) for call in calls]
    if any(problems):
        raise BadRequest({"calls": problems})
    missing = [call["run_id"] for call in calls if call["run_id"] not in ledger.runs]
    if missing:
        raise wrong("run_id", f"Run IDs not found or deleted: {missing}")
    runs = [ledger.runs[call["run_id"]] for call in calls]
    late = [run.id for run in runs if run.ended_at is not None and now - run.ended_at > DEADLINE]
    if late:
        raise wrong("run_id", f"The calls of these runs ended more than 5 minutes ago: {late}")
    for run, call in zip(runs, calls, strict=True):
        run.provider_call = dict(call)
    return runs


def _problems(call: Any) -> Iterator[tuple[str, list[str]]]:
    if not isinstance(call, Mapping):
        yield "non_field_errors", ["Invalid data. Expected a dictionary."]
        return
    run_id = call.get("run_id")
    if not isinstance(run_id, int) or isinstance(run_id, bool):
        # Without a run id a posting is of production calls, which the stand-in has no use for.
        yield "run_id", ["A valid integer is required."]
    identifier = call.get("id")
    if not isinstance(identifier, str) or not identifier:
        yield "id", [REQUIRED]
    elif len(identifier) > ID_MAX:
        yield "id", [f"Ensure this field has no more than {ID_MAX} characters."]
    for field in ("startedAt", "endedAt"):
        if not _is_time(call.get(field)):
            yield field, [REQUIRED if call.get(field) is None else "Datetime has wrong format."]
    for field in ("to_phone_number", "from_phone_number"):
        if call.get(field) is not None and not _is_phone_number(call[field]):
            yield field, ["Enter a valid phone number: + and at most 15 digits."]
    if wrong_messages := _wrong_messages(call.get("messages", [])):
        yield "messages", wrong_messages


def _wrong_messages(messages: Any) -> list[str]:
    if not isinstance(messages, list):
        return ["Expected a list of items."]
    roles = [message.get("role") if isinstance(message, Mapping) else message for message in messages]
    return [f'"{role}" is not a valid choice.' for role in roles if not isinstance(role, str) or role not in ROLES]


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_phone_number(value: Any) -> bool:
    digits = value.removeprefix("+") if isinstance(value, str) and value.startswith("+") else ""
    return digits.isascii() and digits.isdigit() and len(digits) <= 15
