"""The command `sip-agent`, composed from one module per command or group of commands."""

import os
import sys
import traceback
from typing import Annotated

import typer

from sip_agent.cli import (
    call,
    calls,
    cekura,
    config,
    db,
    demo,
    doctor,
    firewall,
    handlers,
    ping,
    script,
    serve,
    sipfront,
)
from sip_agent.cli.interrupts import INTERRUPTED
from sip_agent.cli.output import ExitStatus
from sip_agent.errors import SettingsError, SipAgentError
from sip_agent.platforms.errors import PlatformError

DEBUG_VARIABLE = "SIP_AGENT_DEBUG"

# The modules of the commands import what is heavy inside the commands: `sip-agent --help` is to be quick.
app = typer.Typer(
    name="sip-agent",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("call")(call.call)
app.add_typer(calls.app, name="calls")
app.add_typer(cekura.app, name="cekura")
app.add_typer(sipfront.app, name="sipfront")
app.command("demo")(demo.demo)
app.command("handlers")(handlers.handlers)
app.command("ping")(ping.ping)
app.add_typer(config.app, name="config")
app.add_typer(script.app, name="script")
app.add_typer(db.app, name="db")
app.command("doctor")(doctor.doctor)
app.add_typer(firewall.app, name="firewall")


def _print_version(wanted: bool) -> None:
    if wanted:
        from sip_agent.config import agent_version

        typer.echo(f"sip-agent {agent_version()}")
        raise typer.Exit


@app.callback()
def sip_agent(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Answer the test calls of a voice-agent platform, and join them to their test runs."""
    from sip_agent.config import LogFormat, LogLevel
    from sip_agent.log import configure_logging

    # Until a command reads its settings, what is logged must not get between its lines of output.
    configure_logging(LogFormat.CONSOLE, LogLevel.WARNING)


def main() -> None:
    """Run the command line; the exit status is one of `ExitStatus`, or `INTERRUPTED`."""
    try:
        app()
    except SettingsError as error:
        _fail(str(error), ExitStatus.WRONG_USE)
    except PlatformError as error:
        _fail(str(error), ExitStatus(error.exit_status))
    except SipAgentError as error:
        _fail(str(error), ExitStatus.BROKEN)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001  (the last resort: people get a sentence, not a traceback)
        if os.environ.get(DEBUG_VARIABLE) == "1":
            traceback.print_exc()
            sys.exit(ExitStatus.BROKEN)
        text = " ".join(str(error).split())
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        _fail(f"{what} ({DEBUG_VARIABLE}=1 shows where)", ExitStatus.BROKEN)


def _fail(message: str, status: ExitStatus) -> None:
    for line in message.splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(status)
