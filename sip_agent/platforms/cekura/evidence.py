"""What Cekura is told of a call that is over, made from its record.

Test calls go to the endpoint for transcripts of a custom provider (docs.cekura.ai/documentation/integrations/
custom-integration), production calls to observability (…/documentation/advanced/transcript-format).
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from sip_agent.config import CekuraSettings, MessageTimes
from sip_agent.conversation import LONGEST_DURATION
from sip_agent.platforms.errors import WRONG_USE, PlatformError
from sip_agent.record import CallRecord, format_timestamp
from sip_agent.status import Direction, EndedBy, EvidenceState, Outcome, SipStatus

DEADLINES = {"transcript": timedelta(minutes=5), "observe": timedelta(days=1)}
"""Cekura listens for a transcript for five minutes after the end of the call; of the other, it says nothing."""

RUN_ID_DIGITS_MAX = 18
"""So many fit into 64 bits: no database numbers its rows further."""

_TURN_DISTANCE_MS = 3000
"""How far from its turn a text may be noted: what `turns` allows when it gives texts to turns."""

_PHONE_NUMBER = re.compile(r"(?:sips?|tel):(\+[0-9]{1,15})(?![0-9])", re.IGNORECASE)
_TRACE_ID = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?![0-9a-f])", re.IGNORECASE)
_TRACE_HEADERS = frozenset({"x-traceparent", "x-trace-id", "x-b3-traceid", "x-cloud-trace-context"})
"""Headers that carry a trace id of 16 bytes: W3C Trace Context §3.2 under an X- name, and its forerunners."""

_REFUSALS = {
    SipStatus.BUSY_HERE: "Main agent-busy",
    SipStatus.BUSY_EVERYWHERE: "Main agent-busy",
    SipStatus.REQUEST_TIMEOUT: "Main agent-did-not-answer",
    SipStatus.TEMPORARILY_UNAVAILABLE: "Main agent-did-not-answer",
    SipStatus.REQUEST_TERMINATED: "call-canceled",
    SipStatus.NOT_FOUND: "Main agent-invalid-phone-number",
    SipStatus.NOT_ACCEPTABLE_HERE: "sip-call-failed",
}
"""Which of Cekura's end reasons a SIP status stands for: inferred, Cekura documents no such mapping."""


class Endpoint(StrEnum):
    """Where the evidence of a call goes."""

    TRANSCRIPT = "transcript"
    OBSERVE = "observe"


class Evidence:
    """Decides what is sent of a call, and writes it; `joined` says that run ids are Cekura's."""

    def __init__(self, settings: CekuraSettings, *, joined: bool, recordings_dir: Path) -> None:
        self._settings = settings
        self._joined = joined
        self._recordings_dir = recordings_dir

    def decide(self, record: CallRecord) -> dict[str, Any] | None:
        """Return the `evidence` of a record whose call is over; None if nothing is to be sent.

        Whoever may not call, or is refused before a handler is found, cannot make the agent send anything.
        """
        endpoint = self._endpoint(record)
        if endpoint is None or record.ended_at is None:
            return None
        reason = self.unfit(endpoint, record.run_id)
        state = EvidenceState.WAITING if reason is None else EvidenceState.NOT_SENT
        deadline_at = format_timestamp(record.ended_at + DEADLINES[endpoint])
        return {
            "endpoint": endpoint.value,
            "state": state.value,
            "trace_id": trace_id(record.headers, record.call_uuid),
            "attempts": 0,
            "due_at": format_timestamp(record.ended_at) if reason is None else None,
            "deadline_at": deadline_at if reason is None else None,
            "changed_at": format_timestamp(record.ended_at),
            "reason": reason,
        }

    def _endpoint(self, record: CallRecord) -> Endpoint | None:
        if record.handler is None:
            return None
        if record.run_id is None:
            return Endpoint.OBSERVE if self._settings.observe and record.outcome is Outcome.ANSWERED else None
        return Endpoint.TRANSCRIPT if self._settings.send_transcripts and self._joined else None

    def endpoint_of(self, document: Mapping[str, Any]) -> Endpoint:
        """Return where the evidence of a stored call goes when somebody asks for it; raises PlatformError."""
        endpoint = Endpoint.OBSERVE if document["run_id"] is None else Endpoint.TRANSCRIPT
        reason = self.unfit(endpoint, document["run_id"])
        hint = ""
        if document["ended_at"] is None:
            reason, hint = "it goes on", "try again when it is over"
        elif endpoint is Endpoint.OBSERVE and not self._settings.observe:
            reason, hint = "it has no run id", "set cekura.observe to send production calls"
        if reason is not None:
            raise PlatformError(
                f"the call {document['call_uuid']} cannot be sent: {reason}", hint, exit_status=WRONG_USE
            )
        return endpoint

    def unfit(self, endpoint: Endpoint, run_id: str | None) -> str | None:
        """Return why the evidence of a call cannot be sent, or None if it can."""
        if endpoint is Endpoint.TRANSCRIPT and run_number(run_id) is None:
            return f"the run id {run_id!r} is no integer, and Cekura takes no other"
        if not self._settings.api_key.get_secret_value():
            return "there is no API key (cekura.api_key_file)"
        return None

    def transcript(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body that sends the transcript of one test call."""
        call = {
            "id": document["call_uuid"],
            "run_id": run_number(document["run_id"]),
            "startedAt": format_timestamp(_started_at(document)),
            "endedAt": document["ended_at"],
            "endedReason": end_reason(document),
            "trace_id": trace_id(document["headers"], document["call_uuid"]),
            "metadata": self._metadata(document),
            "messages": list(self._messages(document)),
        }
        for key, uri in (("to_phone_number", document["request_uri"]), ("from_phone_number", document["from_uri"])):
            if (found := _PHONE_NUMBER.match(uri)) is not None:
                call[key] = found[1]
        return {"calls": [call]}

    def observation(self, document: Mapping[str, Any]) -> tuple[dict[str, Any], Path | None]:
        """Return the fields that send one production call, and its recording, if there is one."""
        fields = {
            "call_id": document["call_uuid"],
            "agent": self._settings.agent_id,
            "transcript_type": "cekura",
            "transcript_json": list(_observed(document)),
            "call_ended_reason": end_reason(document),
            "timestamp": format_timestamp(_started_at(document)),
            "trace_id": trace_id(document["headers"], document["call_uuid"]),
            "metadata": self._metadata(document),
            "main_agent_channel_index": 1,
        }
        if (found := _PHONE_NUMBER.match(document["from_uri"])) is not None:
            fields["customer_number"] = found[1]
        return fields, _recording(document)

    def _metadata(self, document: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {"call_uuid": document["call_uuid"], "sip_call_id": document["call_id"]}
        metadata |= {name: document[name] for name in ("handler", "codec", "sip_status")}
        metadata |= {name: document["metrics"][name] for name in _METRICS if name in document["metrics"]}
        path = _recording(document)
        if self._settings.recordings_url and path is not None and path.is_relative_to(self._recordings_dir.resolve()):
            place = path.relative_to(self._recordings_dir.resolve()).as_posix()
            metadata["recording_url"] = f"{self._settings.recordings_url}/{place}"
        return metadata

    def _messages(self, document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what was said and done, in the roles of a custom provider."""
        for number, (entry, until_ms) in enumerate(_timed(document)):
            times = self._times(document, entry["at_ms"], until_ms)
            if "tool" not in entry:
                role = "bot" if entry["speaker"] == "agent" else "user"
                yield {"role": role, "content": entry["text"], **times}
                continue
            tool = {"id": f"call_{number}", "name": entry["tool"]}
            called, returned = {"arguments": entry["arguments"]}, {"result": entry["result"]}
            yield {"role": "function_call", "content": "", "data": tool | called, **times}
            yield {"role": "function_call_result", "content": "", "data": tool | returned, **times}

    def _times(self, document: Mapping[str, Any], at_ms: int, until_ms: int | None) -> dict[str, float]:
        mode = self._settings.message_times
        if mode is MessageTimes.OFF:
            return {}
        found = {"start_time": at_ms, "end_time": until_ms}
        if mode is MessageTimes.SECONDS:
            return {name: ms / 1000 for name, ms in found.items() if ms is not None}
        started_ms = round(_started_at(document).timestamp() * 1000)
        return {name: started_ms + ms for name, ms in found.items() if ms is not None}


_METRICS = ("response_latency_ms", "stop_time_ms", "interruptions", "time_to_first_audio_ms")
"""Our own figures that stand beside Cekura's."""


def run_number(run_id: str | None) -> int | None:
    """Return a run id as the integer that Cekura takes (`A valid integer is required.`), or None if it is none."""
    if run_id is None or not (run_id.isascii() and run_id.isdigit() and len(run_id) <= RUN_ID_DIGITS_MAX):
        return None
    number = int(run_id)
    return number if str(number) == run_id and number > 0 else None


def trace_id(headers: Mapping[str, list[str]], call_uuid: str) -> str:
    """Return the 32 hexadecimal digits of the trace that the caller names in a header; else, of the call's uuid."""
    values = (value for name, items in headers.items() if name.lower() in _TRACE_HEADERS for value in items)
    found = (_TRACE_ID.match(value.strip().replace("-", "") if value.count("-") == 4 else value) for value in values)
    named = next((match[1].lower() for match in found if match is not None and set(match[1]) != {"0"}), None)
    return named or call_uuid.replace("-", "").lower()


def end_reason(document: Mapping[str, Any]) -> str:
    """Return why a call ended, in Cekura's words (docs.cekura.ai/documentation/advanced/call-end-reasons)."""
    if document["answered_at"] is None:
        return _why_unanswered(document)
    if LONGEST_DURATION in (document["end_reason"] or ""):
        return "exceeded-max-duration"
    if document["outcome"] != Outcome.ANSWERED or document["ended_by"] == EndedBy.SYSTEM:
        return "call-failed-unknown-error"
    if document["ended_by"] == EndedBy.AGENT:
        return "Main agent-ended-call"
    return "external-user-ended-call" if document["run_id"] is None else "Testing agent-ended-call"


def _why_unanswered(document: Mapping[str, Any]) -> str:
    outcome = document["outcome"]
    if outcome == Outcome.CANCELLED:
        return "call-canceled"
    if document["direction"] == Direction.OUTBOUND:
        return "call-not-connected"
    fallback = "call-rejected" if outcome == Outcome.REJECTED else "sip-call-failed"
    return _REFUSALS.get(document["sip_status"], fallback)


def _observed(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what was said and done, in the roles of Cekura's own transcript format; tools take and give text there."""
    for number, (entry, until_ms) in enumerate(_timed(document)):
        start = entry["at_ms"] / 1000
        times = {"start_time": start, "end_time": start if until_ms is None else until_ms / 1000}
        if "tool" not in entry:
            role = "Main Agent" if entry["speaker"] == "agent" else "Testing Agent"
            yield {"role": role, "content": entry["text"], **times}
            continue
        tool = {"id": f"call_{number}", "name": entry["tool"]}
        called, returned = {"arguments": _text(entry["arguments"])}, {"result": _text(entry["result"])}
        yield {"role": "Function Call", "content": "", "data": tool | called, **times}
        yield {"role": "Function Call Result", "content": "", "data": tool | returned, **times}


def _timed(document: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], int | None]]:
    """Yield each entry of the transcript, and when it was over, if a turn or the next of its speaker tells."""
    transcript = document["transcript"]
    for number, entry in enumerate(transcript):
        if "tool" in entry:
            yield entry, entry["at_ms"]
            continue
        later = (item["at_ms"] for item in islice(transcript, number + 1, None) if _same(item, entry))
        covering = (turn["ended_ms"] for turn in document["turns"] if _covers(turn, entry))
        ends = [*islice(later, 1), *islice(covering, 1)]
        yield entry, max(entry["at_ms"], min(ends)) if ends else None


def _same(later: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    return "text" in later and later["speaker"] == entry["speaker"]


def _covers(turn: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    at_ms = entry["at_ms"]
    near = turn["started_ms"] - _TURN_DISTANCE_MS < at_ms <= turn["ended_ms"]
    return bool(near and turn["speaker"] == entry["speaker"])


def _started_at(document: Mapping[str, Any]) -> datetime:
    moment = datetime.fromisoformat(document["answered_at"] or document["invite_received_at"])
    return moment.astimezone(UTC)


def _recording(document: Mapping[str, Any]) -> Path | None:
    recording = document["recording"]
    return Path(recording["path"]).resolve() if recording is not None and recording["state"] == "ok" else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
