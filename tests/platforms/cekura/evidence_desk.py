"""Where Cekura takes evidence, on a socket of its own: refuses what the real one is documented to refuse."""

import json
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "desk-key-4711"
TRANSCRIPT = "/test_framework/custom-provider-transcript-webhook"
OBSERVE = "/observability/v1/observe/"

_ROLES = {"bot", "user", "system", "function_call", "function_call_result"}
_OBSERVED_ROLES = {"Testing Agent", "Main Agent", "Function Call", "Function Call Result"}
_PHONE_NUMBER = re.compile(r"\+[0-9]{1,15}")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer given instead of the proper one; with `hold`, none is given until the desk closes."""

    status: int = 503
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: bool = False


class EvidenceDesk:
    """Knows the runs `runs`; `accepted` are the bodies taken, `seen` all paths asked, `instead` answers given first."""

    def __init__(self) -> None:
        self.runs = {456789}
        self.accepted: list[dict[str, Any]] = []
        self.recordings: list[bytes] = []
        self.seen: list[str] = []
        self.instead: deque[Answer] = deque()
        self.always: Answer | None = None
        self.closing = threading.Event()
        self.url = ""

    @contextmanager
    def open(self) -> Iterator["EvidenceDesk"]:
        """Serve until the block is left."""
        desk = self

        class Clerk(_Clerk):
            """Works at this desk."""

            at = desk

        server = ThreadingHTTPServer(("127.0.0.1", 0), Clerk)
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            self.closing.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def take(self, path: str, headers: Message, body: bytes) -> Answer:
        """Return the answer to a request."""
        self.seen.append(path)
        if self.instead:
            return self.instead.popleft()
        if self.always is not None:
            return self.always
        if headers["X-CEKURA-API-KEY"] != KEY:
            return Answer(status=401, document={"detail": "Invalid API key."})
        if path == TRANSCRIPT:
            return self._transcript(json.loads(body))
        if path == OBSERVE:
            return self._observe(headers, body)
        return Answer(status=404, document={"detail": "Not found."})

    def _transcript(self, document: Any) -> Answer:
        calls = document["calls"]
        problems = [problem for call in calls for problem in _problems(call)]
        unknown = [call["run_id"] for call in calls if call.get("run_id") not in self.runs]
        if not problems and unknown:
            problems = [f"Run IDs not found or deleted: {unknown}"]
        if problems:
            return Answer(status=400, document={"calls": problems})
        self.accepted += calls
        return Answer(status=202, document="accepted")

    def _observe(self, headers: Message, body: bytes) -> Answer:
        fields, recording = _read_form(headers, body)
        rows = fields["transcript_json"]
        if not fields.get("call_id") or not isinstance(fields.get("agent"), int):
            return Answer(status=400, document={"call_id": ["This field is required."]})
        if any(row["role"] not in _OBSERVED_ROLES or row["start_time"] > row["end_time"] for row in rows):
            return Answer(status=400, document={"transcript_json": ["Invalid transcript."]})
        self.accepted.append(fields)
        self.recordings.append(recording)
        return Answer(status=201, document={"id": 1})


def _problems(call: Mapping[str, Any]) -> Iterator[str]:
    for key in ("id", "startedAt", "endedAt"):
        if not call.get(key):
            yield f"{key}: This field is required."
    if not isinstance(call.get("run_id"), int):
        yield "A valid integer is required."
    if datetime.fromisoformat(call["startedAt"]) > datetime.fromisoformat(call["endedAt"]):
        yield "endedAt: before startedAt"
    for key in ("to_phone_number", "from_phone_number"):
        if key in call and not _PHONE_NUMBER.fullmatch(call[key]):
            yield f"{key}: Enter a valid phone number."
    for message in call.get("messages", []):
        if message.get("role") not in _ROLES or not isinstance(message.get("content"), str):
            yield "messages: invalid"


def _read_form(headers: Message, body: bytes) -> tuple[dict[str, Any], bytes]:
    if headers.get_content_type() == "application/json":
        return json.loads(body), b""
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    fields: dict[str, Any] = {}
    recording = b""
    for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        if name == "voice_recording":
            recording = content
            continue
        text = content.decode()
        try:
            fields[name] = json.loads(text)
        except ValueError:
            fields[name] = text
    return fields, recording


class _Clerk(BaseHTTPRequestHandler):
    at: EvidenceDesk
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer one request."""
        chunks = self.headers["Transfer-Encoding"] == "chunked"
        body = self._chunked() if chunks else self.rfile.read(int(self.headers["Content-Length"] or 0))
        answer = self.at.take(self.path, self.headers, body)
        if answer.hold:
            self.at.closing.wait()
            return
        text = b"" if answer.document is None else json.dumps(answer.document).encode()
        if answer.status == 202:
            text = b"Accepted"  # what it looks like is not documented
        with suppress(ConnectionError):
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        """Say nothing."""
