"""The processes of a benchmark: the agent, the native floor below it, and SIPp as its callers; all on loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.calls.agent_process import REPOSITORY, AgentProcess, eventually
from tests.ports import free_port, free_rtp_range
from tests.processes import end

HOST = "127.0.0.1"
SCENARIOS = Path(__file__).parent / "scenarios"

CALLS_PER_S = 50
"""How fast talking calls are set up before anything is measured."""

SETTLE_S = 2.0
"""Jitter buffers and memory have found their size by then."""

ALAW_SILENCE = b"\xd5"

MARGIN_S = 3.0
"""What a call talks on after its measurement, so that none ends inside it."""

_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What takes the calls: its process, its SIP port, and the log in which each call is noted once."""

    pid: int
    port: int
    log_file: Path

    def wait_for(self, calls: int, seconds: float = 30.0) -> None:
        """Wait until so many calls are confirmed."""
        eventually(lambda: self.confirmed() >= calls, f"{calls} confirmed calls in {self.log_file}", seconds)

    def confirmed(self) -> int:
        """Return how many calls were confirmed so far."""
        return self.log_file.read_bytes().count(b"call.confirmed")

    def cpu_s(self) -> float:
        """Return the processor time, user and system, of all threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS_PER_S


def cpu_ms_per_call_second(calls: int, window_s: float, *targets: Target) -> list[float]:
    """Return what one second of one call costs each target, over the next `window_s` in which `calls` go on at each."""
    before_s, start = [target.cpu_s() for target in targets], time.monotonic()
    time.sleep(window_s)
    after_s, took_s = [target.cpu_s() for target in targets], time.monotonic() - start
    return [1000 * (after - before) / took_s / calls for before, after in zip(before_s, after_s, strict=True)]


@contextmanager
def running_agent(
    folder: Path, *, calls: int, sample_rate_hz: int = 8000, handler: str = "echo", **settings: Any
) -> Iterator[tuple[AgentProcess, Target]]:
    """Run an agent that takes `calls` calls with one handler, and records them."""
    limits = {"max_calls": calls + 50, "calls_per_second": 1000}
    media = {"codecs": ["PCMA", "PCMU"], "sample_rate_hz": sample_rate_hz, "record": True}
    agent = AgentProcess(
        folder,
        {
            "admission": limits,
            "media": {**media, "rtp_ports": free_rtp_range(4 * (calls + 50))},
            "routes": [{"match": {}, "handler": handler}],
            **settings,
        },
    )
    with agent:
        yield agent, Target(pid=agent.pid, port=agent.udp_port, log_file=agent.log_file)


@contextmanager
def running_echo_bot(folder: Path) -> Iterator[str]:
    """Run a WebSocket bot that says back what it hears; yields its address."""
    folder.mkdir(parents=True)
    log_file = folder / "bot.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.echo_bot"], cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=log
        )
    try:
        line = eventually(lambda: log_file.read_text(encoding="utf-8"), f"port in {log_file}")
        yield f"ws://127.0.0.1:{int(line.removeprefix('port '))}/"
    finally:
        end(process)


@contextmanager
def running_floor(folder: Path, *, calls: int, sample_rate_hz: int = 8000) -> Iterator[Target]:
    """Run the engine alone: each call's sound goes back inside the bridge, and no Python is in its way."""
    folder.mkdir(parents=True)
    port = free_port(socket.SOCK_DGRAM)
    first, last = free_rtp_range(4 * calls)
    log_file = folder / "floor.log"
    command = [sys.executable, "-m", "tests.bench.floor", *map(str, (port, first, last, calls, sample_rate_hz))]
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually(lambda: b"ready" in log_file.read_bytes(), f"floor.ready in {log_file}")
        yield Target(pid=process.pid, port=port, log_file=log_file)
    finally:
        end(process)


@dataclass(slots=True, kw_only=True)
class Callers:
    """SIPp processes that call a target; made by `talking` and `setting_up`."""

    folder: Path
    silence_s: float = 0.0
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self, scenario: str, target: Target, *options: str, media_ports: int = 4) -> None:
        """Start SIPp."""
        self.folder.mkdir(parents=True)
        (self.folder / "talk.alaw").write_bytes(_speech_like(self.folder) + ALAW_SILENCE * round(8000 * self.silence_s))
        media_port, _ = free_rtp_range(media_ports)
        command = [
            *("sipp", f"{HOST}:{target.port}", "-sf", str(SCENARIOS / f"{scenario}.xml"), "-s", "bench", "-t", "u1"),
            *("-i", HOST, "-p", str(free_port(socket.SOCK_DGRAM)), "-mi", HOST, "-mp", str(media_port)),
            *("-nostdin", "-trace_err", "-error_file", "errors", "-timeout", "120s", "-timeout_error"),
            *options,
        ]
        with (self.folder / "screen").open("wb") as screen:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=screen, stderr=screen
            )

    def wait(self, seconds: float) -> None:
        """Wait until every call has ended as its scenario says; raises AssertionError if one did not."""
        status = self.process.wait(seconds)
        errors = self.folder / "errors"
        assert status == 0, f"SIPp ended with {status}: {errors.read_text()[:2000] if errors.exists() else ''}"

    def response_ms(self) -> list[float]:
        """Return the response times that the scenario measured."""
        (table,) = self.folder.glob("*_rtt.csv")
        rows = table.read_text(encoding="utf-8").splitlines()[1:]
        return [float(row.split(";")[1]) for row in rows]


@contextmanager
def talking(folder: Path, target: Target, *, calls: int, seconds: float, silence_s: float = 0.0) -> Iterator[Callers]:
    """Have `calls` calls send sound, set up when the context is entered, for at least `seconds` from then on.

    After two seconds of sound each is silent for `silence_s`, over and over.
    """
    duration_s = calls / CALLS_PER_S + SETTLE_S + seconds + MARGIN_S
    callers = Callers(folder=folder, silence_s=silence_s)
    confirmed = target.confirmed()
    callers.start(
        "talk",
        target,
        *("-r", str(CALLS_PER_S), "-m", str(calls), "-l", str(calls), "-d", str(round(1000 * duration_s))),
        media_ports=4 * calls,
    )
    try:
        target.wait_for(confirmed + calls)
        time.sleep(SETTLE_S)
        yield callers
    finally:
        end(callers.process, signal.SIGKILL)


@contextmanager
def setting_up(folder: Path, target: Target, *, calls: int, per_second: int) -> Iterator[Callers]:
    """Have `calls` calls authenticate, be answered and end, `per_second` new ones a second."""
    callers = Callers(folder=folder)
    rate = ("-r", str(per_second), "-m", str(calls), "-l", "400")
    callers.start("set_up", target, *rate, "-trace_rtt", "-rtt_freq", "1")
    try:
        yield callers
    finally:
        end(callers.process, signal.SIGKILL)


def _speech_like(folder: Path) -> bytes:
    """Return two seconds of A-law whose level rises and falls as that of speech does."""
    times = np.arange(16_000) / 8000
    samples = np.round(8000 * np.sin(2 * np.pi * 440 * times) * np.abs(np.sin(2 * np.pi * 3 * times)))
    path = folder / "talk.raw"
    soundfile.write(path, samples.astype(np.int16), 8000, format="RAW", subtype="ALAW")
    return path.read_bytes()
