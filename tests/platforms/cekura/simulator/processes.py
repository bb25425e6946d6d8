"""A stand-in and an agent as processes of their own: real SIP, real RTP, and whatever client a test has."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sip_agent.platforms.cekura.simulator.world import EXAMPLE
from tests.calls.agent_process import REPOSITORY, AgentProcess

API_KEY = "an-api-key-of-the-stand-in"
PASSWORD = "a-password-of-the-stand-in"


@contextmanager
def restaurant(folder: Path) -> Iterator[AgentProcess]:
    """Run the example's agent under test."""
    settings = {
        "auth": {"users": {"cekura": PASSWORD}},
        "routes": [
            {"match": {}, "handler": "script", "options": {"file": str(EXAMPLE.with_name("restaurant.yaml"))}},
        ],
    }
    with AgentProcess(folder, settings) as agent:
        yield agent


@contextmanager
def stand_in(
    folder: Path, agent: AgentProcess, *, bind: str = "127.0.0.1:0", webhook: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Run the example's stand-in for an agent, and yield its address; fails if it does not end well."""
    scenarios = folder / "cekura-scenarios.yaml"
    for file in EXAMPLE.parent.glob("*.yaml"):
        (folder / file.name).write_text(file.read_text().replace(":5060", f":{agent.udp_port}"))
    if webhook is not None:
        with scenarios.open("a") as end:
            end.write(f"webhook: {json.dumps(webhook)}\n")
    settings = folder / "stand-in.toml"
    settings.write_text('[log]\nformat = "json"\n')
    with (folder / "stand-in.log").open("w+b") as log:
        process = simulate(["--bind", bind, "--scenarios", str(scenarios), "--config", str(settings)], log)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "Stand-in for Cekura (not Cekura itself) on " in line, (folder / "stand-in.log").read_text()
            yield line.split()[-1]
        finally:
            process.terminate()
            process.communicate(timeout=20)
        log.seek(0)
        text = log.read().decode()
    assert (0, False) == (process.returncode, "Traceback" in text), text


def simulate(arguments: Sequence[str], log: IO[bytes] | int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start `sip-agent cekura simulate`."""
    return subprocess.Popen(
        [sys.executable, "-m", "sip_agent", "cekura", "simulate", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        cwd=REPOSITORY,
    )
