"""`sip-agent demo`: one whole test call on this machine, with real SIP and RTP on loopback."""

import asyncio
import secrets
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sip_agent.cli.call import caller_settings, result_document
from sip_agent.cli.calls import print_sections
from sip_agent.cli.output import ExitStatus, console, print_json
from sip_agent.cli.ping import ask
from sip_agent.errors import SipAgentError

if TYPE_CHECKING:
    from sip_agent.caller import CallResult

USER = "cekura"
REFUSED_RUN, ANSWERED_RUN = "34624", "34625"
TONE_HZ = 440.0
TALK_S = 3.0
START_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """What the demonstration found: both calls as the caller saw them, the records as the agent stored them."""

    refused: "CallResult"
    answered: "CallResult"
    record: dict[str, Any]
    heard_hz: float | None


def demo(
    folder: Annotated[
        Path, typer.Option("--dir", help="Folder for the settings, the call records and the recordings.")
    ] = Path("sip-agent-demo"),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Start an agent, call it as Cekura does (wrong password, then right), and show the joined record.

    Example: sip-agent demo
    """
    from sip_agent.config import LogFormat, LogLevel
    from sip_agent.log import configure_logging

    configure_logging(LogFormat.CONSOLE, LogLevel.WARNING)
    settings_file = _write_settings(folder.resolve())
    result = asyncio.run(_demonstrate(settings_file, quiet=as_json))
    passed = result.record.get("outcome") == "answered" and result.refused.record.answered_at is None
    if as_json:
        print_json(
            {
                "passed": passed,
                "refused": result_document(result.refused),
                "answered": result_document(result.answered),
                "record": result.record,
                "heard_hz": result.heard_hz,
            }
        )
    else:
        _print(result, settings_file)
    raise typer.Exit(ExitStatus.DONE if passed else ExitStatus.TESTED_THING_FAILED)


def _write_settings(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    password_file = folder / "users"
    password_file.touch(mode=0o600)
    password_file.write_text(f"{USER}:{secrets.token_urlsafe(12)}\n", encoding="utf-8")
    port = _free_port()
    file = folder / "sip-agent.toml"
    file.write_text(
        f"""# Settings of the demonstration; `sip-agent serve --config {file.name}` runs the same agent.
[sip]
udp_port = {port}
tcp_port = {port}

[auth]
users_file = "users"

[[routes]]
match = {{ user = "agent" }}
handler = "echo"

[api]
bind = ""

[log]
format = "json"
""",
        encoding="utf-8",
    )
    return file


def _free_port() -> int:
    """Return a port that is free for UDP and TCP now."""
    while True:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            stream.bind(("127.0.0.1", 0))
            port: int = stream.getsockname()[1]
            with suppress(OSError):
                datagram.bind(("127.0.0.1", port))
                return port


async def _demonstrate(settings_file: Path, *, quiet: bool) -> Demonstration:
    from sip_agent.caller import CallRequest, place_call
    from sip_agent.config import load_settings
    from sip_agent.ua.endpoint import Binding, Caller, Endpoint

    def say(text: str) -> None:
        if not quiet:
            console.print(text)

    settings = load_settings(settings_file)
    uri = f"sip:agent@127.0.0.1:{settings.sip.udp_port}"
    password = settings.auth.users[USER].get_secret_value()
    say(f"[bold]1.[/] starting the agent, echo handler, digest authentication, on {uri}")
    async with _agent(settings_file, settings.sip.udp_port):
        endpoint = Endpoint(caller_settings(), [Binding(transport="UDP", host="127.0.0.1", port=0)], max_calls=2)
        await endpoint.start()
        try:
            wrong = Caller(username=USER, password="not-" + password)
            say("[bold]2.[/] calling with a wrong password, as run " + REFUSED_RUN)
            refused = await place_call(endpoint, CallRequest(uri=uri, caller=wrong, headers=_headers(REFUSED_RUN)))
            say(f"   statuses: {_ladder(refused)}")
            right = Caller(username=USER, password=password)
            say(
                f"[bold]3.[/] calling with the right one, as run {ANSWERED_RUN}, saying {TONE_HZ:g} Hz for {TALK_S:g} s"
            )
            request = CallRequest(
                uri=uri, caller=right, headers=_headers(ANSWERED_RUN), tone_hz=TONE_HZ, duration_s=TALK_S
            )
            answered = await place_call(endpoint, request)
            say(f"   statuses: {_ladder(answered)}")
        finally:
            await endpoint.stop()
    record = _joined_record(settings_file, answered.record.call_id)
    return Demonstration(refused=refused, answered=answered, record=record, heard_hz=_echoed_hz(record))


def _headers(run_id: str) -> tuple[tuple[str, str], ...]:
    return (("X-Run-Id", run_id), ("X-Scenario-Id", "11547"), ("X-Result-Id", "16870"), ("X-Customer", "demo"))


@asynccontextmanager
async def _agent(settings_file: Path, port: int) -> AsyncIterator[None]:
    """Run `sip-agent serve` as a process of its own, as a user would, and stop it again."""
    log_file = settings_file.with_name("agent.log")
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sip_agent", "serve", "--config", str(settings_file), stderr=log
        )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while await asyncio.to_thread(ask, "127.0.0.1", port, 0.2) is None:
                if process.returncode is not None:
                    raise SipAgentError(f"the agent did not start: {_last_line(log_file)}")
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


def _last_line(log_file: Path) -> str:
    lines = log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"see {log_file}"


def _joined_record(settings_file: Path, call_id: str) -> dict[str, Any]:
    from sip_agent.config import load_settings
    from sip_agent.store import reading

    settings = load_settings(settings_file)
    with reading(settings.store.url, base_dir=settings.base_dir) as store:
        found = store.find(call_id)
    if not found:
        raise SipAgentError(f"the agent stored no record of the call {call_id}")
    return found[0]


def _echoed_hz(record: dict[str, Any]) -> float | None:
    """Return the tone on the agent's side of the recording: proof that sound went there and back."""
    from media.tones import dominant_frequency_hz
    from media.wav import load_channels

    if record["recording"] is None:
        return None
    samples, sample_rate_hz = load_channels(record["recording"]["path"])
    middle = len(samples) // 2
    return dominant_frequency_hz(samples[middle : middle + sample_rate_hz, 1], sample_rate_hz)


def _ladder(result: "CallResult") -> str:
    return " → ".join(str(status) for status in result.statuses)


def _print(result: Demonstration, settings_file: Path) -> None:
    console.print("[bold]4.[/] the record that the agent stored, joined to the run by its headers\n")
    print_sections(result.record)
    if result.heard_hz is not None:
        console.print(f"\nThe agent's side of the recording has a tone of [bold]{result.heard_hz:.0f} Hz[/].")
    program, config = _program(), f"--config {_short(settings_file)}"
    console.print(
        f"""
What next:
  {program} calls list {config}          every call so far, the refused one too
  {program} calls show run:{ANSWERED_RUN} --json {config}
  {program} serve {config}               run this agent, then call it with a softphone
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
