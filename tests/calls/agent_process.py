"""The agent under test: a process of its own, so that a crash is seen as one, with free ports and own files."""

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

from sip_agent.errors import SettingsError
from sip_agent.store import CallQuery, reading
from tests.ports import free_port, free_rtp_range, give_back

T = TypeVar("T")

ENGINE = os.environ.get("SIP_AGENT_TEST_ENGINE", "native")
STORE_URL = "sqlite:///calls.db"
REPOSITORY = Path(__file__).parents[2]

START_S = 20.0
STOP_S = 20.0
EVENTUALLY_S = 10.0

BAD_LOG_WORDS = ("callback_failed", "job_failed", "Traceback", "pump.tick_failed", "flow_failed")
"""None of these may ever stand in the log, whatever a caller does."""

HANDLER_FAILED = '"event":"handler.failed"'
"""The one entry that may carry a traceback: that of a handler that is not ours."""


def eventually(look: Callable[[], T | None], what: str, timeout_s: float = EVENTUALLY_S) -> T:
    """Return what `look` finds, looking again until it finds something; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"within {timeout_s:g} s there was no {what}")
        time.sleep(0.02)


def to_toml(value: Any) -> str:
    """Write a value in TOML; tables are written inline."""
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(str(key))} = {to_toml(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(to_toml(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)


class AgentProcess:
    """`sip-agent serve` with settings of its own in a folder of its own.

    `settings` override the defaults below, section by section. Leaving the context stops the agent and fails
    if it did not end well.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.host = host
        self.udp_port = free_port(socket.SOCK_DGRAM, host)
        self.tcp_port = free_port(socket.SOCK_STREAM, host)
        with_tls = "tls" in settings.get("sip", {})
        self.tls_port = free_port(socket.SOCK_STREAM, host) if with_tls else 0
        self.rtp_ports = tuple(settings.get("media", {}).get("rtp_ports", ())) or free_rtp_range(64)
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._resources = ExitStack()
        self.settings = self._complete(settings)

    def _complete(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        defaults: dict[str, dict[str, Any]] = {
            "sip": {
                "bind": [self.host],
                "udp_port": self.udp_port,
                "tcp_port": self.tcp_port,
                "tls_port": self.tls_port,
            },
            "media": {"engine": ENGINE, "rtp_ports": list(self.rtp_ports)},
            "store": {"url": STORE_URL},
            "api": {"bind": ""},
            "log": {"format": "json", "level": "info"},
        }
        sections = {name: {**defaults.get(name, {}), **settings.get(name, {})} for name in defaults}
        return {**settings, **sections}

    @property
    def settings_file(self) -> Path:
        """The settings file of this agent."""
        return self.folder / "sip-agent.toml"

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """The log of the current run."""
        return self.folder / f"agent-{self._starts}.log"

    def start(self) -> Self:
        """Start the agent and wait until it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{json.dumps(name)} = {to_toml(value)}\n" for name, value in self.settings.items()]
        self.settings_file.write_text("".join(lines), encoding="utf-8")
        self._starts += 1
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sip_agent", "serve", "--config", str(self.settings_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )
        try:
            eventually(self._has_started, f"agent.started in {self.log_file}", START_S)
        except AssertionError:
            self.kill()
            raise
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        give_back(self.rtp_ports)
        self.stop()

    def stop(self) -> None:
        """Stop the agent; fails if it had crashed, does not end by itself, or logged what must not be."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            status = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the agent did not stop within {STOP_S:g} s: {self.log_file}") from None
        assert status == 0, f"exit status {status}:\n{self.tail()}"
        assert not self.bad_lines(), f"{self.log_file}:\n" + "\n".join(self.bad_lines())

    def terminate(self) -> None:
        """Ask the agent to stop, and do not wait."""
        assert self._process is not None
        self._process.terminate()

    def limit_file_size(self, size: int = resource.RLIM_INFINITY) -> None:
        """Let no file of the agent grow beyond `size` bytes, as on a full disk; without a size, end that."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, hard))

    def kill(self) -> None:
        """End the agent as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process is not None and self._process.poll() is None

    # What it says

    def entries(self, event: str = "", **values: Any) -> list[dict[str, Any]]:
        """Return the log entries of this run that have this event, if one is named, and these values."""
        text = self.log_file.read_text(encoding="utf-8", errors="replace")
        wanted = f'"event":"{event}' if event else '"event":'
        found = [json.loads(line) for line in text.splitlines() if wanted in line and line.endswith("}")]
        return [
            entry
            for entry in found
            if event in {"", entry["event"]} and all(entry.get(key) == value for key, value in values.items())
        ]

    def bad_lines(self) -> list[str]:
        """Return the log lines that tell of a bug in the agent."""
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if any(word in line for word in BAD_LOG_WORDS) and HANDLER_FAILED not in line]

    def tail(self) -> str:
        """Return the end of the log."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-4000:]

    def _has_started(self) -> bool:
        if not self.is_alive():
            raise AssertionError(f"the agent did not start:\n{self.tail()}")
        return bool(self.entries("agent.started"))

    # What it records

    def records(self, identifier: str) -> list[dict[str, Any]]:
        """Return the stored records of a Call-ID, or of another id that the store finds."""
        try:
            with reading(STORE_URL, base_dir=self.folder) as store:
                return store.find(identifier)
        except SettingsError:
            return []

    def all_records(self) -> list[dict[str, Any]]:
        """Return every stored record, newest first."""
        with reading(STORE_URL, base_dir=self.folder) as store:
            return store.search(CallQuery())

    def record(self, identifier: str, timeout_s: float = EVENTUALLY_S) -> dict[str, Any]:
        """Return the one record of a call, once the call is over; two of them are a failure."""

        def look() -> list[dict[str, Any]]:
            found = self.records(identifier)
            return found if found and all(record["ended_at"] for record in found) else []

        (record,) = eventually(look, f"finished record of {identifier}, see {self.log_file}", timeout_s)
        return record

    # What it takes

    def rss_kb(self) -> int:
        """Return the resident memory of the process."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0])

    def open_files(self) -> int:
        """Return the number of open file descriptors."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())
