"""SIPp as the caller: runs a scenario folder and tells what was said on the wire.

A scenario is SIPp's own XML with two additions, expanded before SIPp sees it:

- `<use fragment="invite" user="echo"/>` is replaced by `fragments/invite.xml`;
- `{name}` is replaced by an attribute of that tag, else by what the test passed, else by `DEFAULTS`.

`{sdp}` names a file of `sdp/`; its text goes in as the body, with Content-Type.
"""

import re
import socket
import subprocess
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import unescape
from pathlib import Path
from typing import Self

from tests.calls.agent_process import AgentProcess
from tests.calls.messages import Message, ladder
from tests.ports import free_port, free_rtp_range, give_back

HERE = Path(__file__).parent
RUN_S = 40

DEFAULTS = {
    "user": "echo",
    "headers": "",
    "sdp": "pcma",
    "version": "1",
    "payload": "8,PCMA/8000",
    "pause_ms": "300",
    "bye_headers": "",
}

_USE = re.compile(r"<use\s+fragment=\"(\w+)\"((?:\s+\w+=\"[^\"]*\")*)\s*/>")
_ATTRIBUTE = re.compile(r"(\w+)=\"([^\"]*)\"")
_EMPTY_LINE = re.compile(r"^[ \t]*\{(\w+)\}\n", re.MULTILINE)
_PLACE = re.compile(r"\{(\w+)\}")
_ENTRY = re.compile(rb"^-{20,} (\S+)\s.*?\n\w+ message (sent|received) (?:\(|\[)(\d+)\)?.*?\n\n", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class SippRun:
    """What became of a run: SIPp's exit status (0: every call went as the scenario says) and the messages."""

    exit_status: int
    output: str
    messages: tuple[Message, ...]

    @cached_property
    def ladder(self) -> list[str]:
        """Requests sent and statuses received, in order; what the agent sent as a request is in brackets."""
        return ladder(self.messages)

    @cached_property
    def call_ids(self) -> list[str]:
        """The Call-IDs of the run, in the order of their first message."""
        return list(dict.fromkeys(message.header("Call-ID") for message in self.messages))

    @property
    def call_id(self) -> str:
        """The Call-ID of a run of one call."""
        (call_id,) = self.call_ids
        return call_id

    def response(self, status: int, method: str = "INVITE") -> Message:
        """Return the first response with this status to this method."""
        return next(item for item in self.messages if item.status == status and item.method == method)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace fragments and variables in a scenario."""

    def fragment(match: re.Match[str]) -> str:
        attributes = {name: unescape(value) for name, value in _ATTRIBUTE.findall(match[2])}
        body = (HERE / "fragments" / f"{match[1]}.xml").read_text(encoding="utf-8")
        filled = {name: _PLACE.sub(lambda place: variables[place[1]], value) for name, value in attributes.items()}
        return expand(body, {**variables, **filled})

    def place(match: re.Match[str]) -> str:
        if match[1] == "body":
            return _body(variables["sdp"], variables)
        return variables[match[1]]

    return _PLACE.sub(place, _EMPTY_LINE.sub(_drop_if_empty(variables), _USE.sub(fragment, text)))


def _drop_if_empty(variables: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    """Drop a line of one variable that is empty: an empty line would end the header section."""
    return lambda match: "" if not variables.get(match[1], "body") else match[0]


def _body(name: str, variables: Mapping[str, str]) -> str:
    if not name:
        return "Content-Length: 0\n"
    sdp = (HERE / "sdp" / f"{name}.sdp").read_text(encoding="utf-8")
    return f"Content-Type: application/sdp\nContent-Length: [len]\n\n{expand(sdp, variables)}"


@dataclass(frozen=True, kw_only=True)
class Sipp:
    """Runs SIPp against an agent; every file of a run lies in `folder`. `audio_file` is what callers say."""

    folder: Path
    audio_file: Path

    def __call__(
        self,
        scenario: str,
        agent: AgentProcess,
        *options: str,
        transport: str = "u1",
        calls: int = 1,
        port: int = 0,
        **variables: str,
    ) -> SippRun:
        """Run `scenarios/<scenario>/uac.xml` until `calls` calls are over."""
        with self.start(scenario, agent, *options, transport=transport, calls=calls, port=port, **variables) as run:
            return run.wait()

    def start(
        self,
        scenario: str,
        agent: AgentProcess,
        *options: str,
        transport: str = "u1",
        calls: int = 1,
        port: int = 0,
        **variables: str,
    ) -> "RunningSipp":
        """Start a run, for a test that does something while it goes on."""
        source = HERE / "scenarios" / scenario / "uac.xml"
        name = f"{scenario}-{uuid.uuid4().hex[:12]}"
        script = self.folder / f"{name}.xml"
        known = {**DEFAULTS, "audio_file": str(self.audio_file), **variables}
        filled = expand(source.read_text(encoding="utf-8"), known)
        script.write_text(filled, encoding="utf-8")
        port = port or (agent.udp_port if transport.startswith("u") else agent.tcp_port)
        target = f"[{agent.host}]:{port}" if ":" in agent.host else f"{agent.host}:{port}"
        # SIPp takes port and port + 2 for each call.
        media_ports = free_rtp_range(4)
        local_port = free_port(socket.SOCK_DGRAM if transport.startswith("u") else socket.SOCK_STREAM, agent.host)
        command = [
            *("sipp", target, "-sf", str(script), "-m", str(calls), "-t", transport),
            *("-i", agent.host, "-p", str(local_port), "-mi", agent.host, "-mp", str(media_ports[0])),
            *("-cid_str", f"%u-{name}", "-nostdin", "-recv_timeout", "20000"),
            *("-timeout", f"{RUN_S}s", "-timeout_error"),
            *("-trace_msg", "-message_file", str(self.folder / f"{name}.messages")),
            *("-trace_err", "-error_file", str(self.folder / f"{name}.errors")),
            *options,
        ]
        return RunningSipp(command, self.folder, name, media_ports)


class RunningSipp:
    """A SIPp process; leaving the context ends it."""

    def __init__(self, command: list[str], folder: Path, name: str, media_ports: tuple[int, int]) -> None:
        self._folder = folder
        self._media_ports = media_ports
        self._name = name
        self._screen = (folder / f"{name}.screen").open("wb")
        self._process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=self._screen, stderr=self._screen
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._screen.close()
        give_back(self._media_ports)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages so far."""
        path = self._folder / f"{self._name}.messages"
        return parse_messages(path.read_bytes()) if path.exists() else ()

    def wait(self) -> SippRun:
        """Wait until every call is over."""
        status = self._process.wait(RUN_S + 10)
        errors = self._folder / f"{self._name}.errors"
        return SippRun(
            exit_status=status,
            output=errors.read_text(encoding="utf-8", errors="replace") if errors.exists() else "",
            messages=self.messages,
        )


def parse_messages(log: bytes) -> tuple[Message, ...]:
    """Read SIPp's message log."""
    entries = list(_ENTRY.finditer(log))
    return tuple(
        Message(sent=entry[2] == b"sent", raw=log[entry.end() : entry.end() + int(entry[3])]) for entry in entries
    )
