"""`sip-agent demo`: one whole test run on this machine, with a stand-in for Cekura and real SIP and RTP on loopback."""

import asyncio
import json
import secrets
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree as ET

import typer

from sip_agent.cli.output import ExitStatus, JsonOption, console, print_json
from sip_agent.errors import SipAgentError

SCENARIOS = "cekura-scenarios.yaml"
REPORT = "report.xml"
SLOW_SCENARIO = "Asks for the dish of the day"
"""The scenario that fails: the agent keeps its guest waiting for more than two seconds, and no more are allowed."""

EXAMPLE_ENDPOINT = "127.0.0.1:5060"
EXAMPLE_API_KEY = "an-api-key-of-the-stand-in"
EXAMPLE_PASSWORD = "a-password-of-the-stand-in"  # noqa: S105  (it stands in the example, to be replaced)
START_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A folder with everything that the demonstration needs, and where its two sides listen."""

    folder: Path
    api_address: str
    sip_endpoint: str

    @property
    def settings_file(self) -> Path:
        """The agent's settings, with access to the stand-in."""
        return self.folder / "sip-agent.toml"

    @property
    def scenarios_file(self) -> Path:
        """What the stand-in knows."""
        return self.folder / SCENARIOS

    @property
    def simulate(self) -> list[str]:
        """The command of the stand-in."""
        return ["cekura", "simulate", "--bind", self.api_address, "--scenarios", _short(self.scenarios_file)]

    @property
    def run(self) -> list[str]:
        """The command of the test run: it brings the agent up meanwhile."""
        return ["cekura", "run", "--all", "--serve", "--config", _short(self.settings_file)]


def demo(
    folder: Annotated[
        Path, typer.Option("--dir", help="Folder for the settings, the call records and the recordings.")
    ] = Path("sip-agent-demo"),
    *,
    as_json: JsonOption = False,
) -> None:
    """Run three scenarios of a stand-in for Cekura against an agent on this machine; one of them is to fail.

    Example: sip-agent demo
    """
    stage = _set_up(folder.resolve())
    passed, report = asyncio.run(_demonstrate(stage, as_json=as_json))
    if as_json:
        print_json({"passed": passed, "report": report})
    else:
        _say_what_next(stage, passed=passed)
    raise typer.Exit(ExitStatus.DONE if passed else ExitStatus.TESTED_THING_FAILED)


def _set_up(folder: Path) -> Stage:
    """Fill the folder: the shipped example with ports and passwords of this machine, and settings to match."""
    from sip_agent.platforms.cekura.simulator.world import EXAMPLE

    folder.mkdir(parents=True, exist_ok=True)
    sip_port, api_port = _free_port(), _free_port()
    api_key, password = secrets.token_urlsafe(12), secrets.token_urlsafe(12)
    for file in EXAMPLE.parent.glob("*.yaml"):
        text = file.read_text(encoding="utf-8").replace(EXAMPLE_ENDPOINT, f"127.0.0.1:{sip_port}")
        _write_secret(folder / file.name, text.replace(EXAMPLE_API_KEY, api_key).replace(EXAMPLE_PASSWORD, password))
    _write_secret(folder / "cekura.key", f"{api_key}\n")
    _write_secret(folder / "users", f"cekura:{password}\n")
    stage = Stage(folder=folder, api_address=f"127.0.0.1:{api_port}", sip_endpoint=f"sip:agent@127.0.0.1:{sip_port}")
    stage.settings_file.write_text(
        f"""# Settings of the demonstration: an agent, and access to a stand-in for Cekura.
[sip]
udp_port = {sip_port}
tcp_port = {sip_port}

[auth]
users_file = "users"

[admission]
allow = ["127.0.0.0/8"]

[[routes]]
match = {{ user = "agent" }}
handler = "script"
options = {{ file = "restaurant.yaml" }}

[api]
bind = ""

[cekura]
base_url = "http://{stage.api_address}" # the stand-in; Cekura itself is https://api.cekura.ai
api_key_file = "cekura.key"
agent_id = 5

[log]
level = "warning"
""",
        encoding="utf-8",
    )
    return stage


def _write_secret(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")


def _free_port() -> int:
    """Return a port that is free for UDP and TCP now."""
    while True:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            stream.bind(("127.0.0.1", 0))
            port: int = stream.getsockname()[1]
            with suppress(OSError):
                datagram.bind(("127.0.0.1", port))
                return port


async def _demonstrate(stage: Stage, *, as_json: bool) -> tuple[bool, Any]:
    """Hold the test run; return whether it went as it was to go, and its report if it was asked for as JSON."""
    if not as_json:
        console.print("[bold]1.[/] a stand-in for Cekura, with three scenarios for a restaurant's telephone")
        _show(stage.simulate)
    async with _stand_in(stage):
        if not as_json:
            console.print(f"[bold]2.[/] the test run: the stand-in really calls the agent, {stage.sip_endpoint}")
            _show(stage.run)
            console.print()
        arguments = ["--poll-interval", "0.5", "--junit", str(stage.folder / REPORT)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sip_agent", *stage.run, *arguments, *(["--json"] if as_json else [])),
            stdout=asyncio.subprocess.PIPE if as_json else None,
        )
        output, _ = await process.communicate()
    if process.returncode not in {ExitStatus.DONE, ExitStatus.TESTED_THING_FAILED}:
        raise SipAgentError(f"the test run broke off; the stand-in's log is {_short(stage.folder / 'stand-in.log')}")
    return _went_as_intended(stage.folder / REPORT), json.loads(output) if as_json else None


@asynccontextmanager
async def _stand_in(stage: Stage) -> AsyncIterator[None]:
    """Run the stand-in as a process of its own, and stop it again."""
    log_file = stage.folder / "stand-in.log"
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sip_agent", *stage.simulate),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        assert process.stdout is not None  # noqa: S101  (it is a pipe)
        async with asyncio.timeout(START_TIMEOUT_S):
            if not await process.stdout.readline():
                raise SipAgentError(f"the stand-in did not start: {_last_line(log_file)}")
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def _last_line(log_file: Path) -> str:
    lines = log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"see {log_file}"


def _went_as_intended(report: Path) -> bool:
    """Tell whether every run has a call of ours, and the slow scenario failed, and no other."""
    root = ET.parse(report).getroot()  # noqa: S314  (written by this program)
    runs = [case for case in root.iter("testcase") if case.get("classname") == "cekura.runs"]
    joined = [run for run in runs if "call_uuid" in run.findtext("system-out", "")]
    failed = [run.get("name", "") for run in runs if run.find("failure") is not None or run.find("error") is not None]
    return len(joined) == len(runs) and len(failed) == 1 and SLOW_SCENARIO in failed[0]


def _show(command: list[str]) -> None:
    console.print(f"   $ {_program()} {' '.join(command)}", style="dim", soft_wrap=True)


def _say_what_next(stage: Stage, *, passed: bool) -> None:
    if passed:
        console.print(
            "\nThat is what it was to show: two scenarios passed, and one failed for the reason that the table gives."
        )
    else:
        console.print("\nThis did not go as intended: one scenario was to fail, and two to pass.", style="red")
    program, config = _program(), f"--config {_short(stage.settings_file)}"
    console.print(
        f"""
What next:
  {program} calls list {config}
  {program} {" ".join(stage.simulate)}
  {program} {" ".join(stage.run)}
The scenarios are in {_short(stage.scenarios_file)}; the agent's dialogue is restaurant.yaml beside it.
""",
        soft_wrap=True,
    )


def _program() -> str:
    """Return what to type to run this program again: its name if the shell finds it, else its path."""
    return "sip-agent" if shutil.which("sip-agent") else _short(Path(sys.argv[0]).resolve())


def _short(path: Path) -> str:
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
