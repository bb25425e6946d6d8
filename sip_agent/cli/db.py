"""`sip-agent db`: look after the database of call records."""

from typing import Annotated

import typer

from sip_agent.cli.config import ConfigOption
from sip_agent.cli.output import ExitStatus, console

app = typer.Typer(name="db", help="Look after the database of call records.", no_args_is_help=True)


@app.callback()
def db() -> None:
    """Look after the database of call records."""


@app.command("upgrade")
def upgrade_database(
    *,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit status 1 if an upgrade is due.")] = False,
    config: ConfigOption = None,
) -> None:
    """Bring the database up to date; 'sip-agent serve' does so too when it starts.

    Example:
        sip-agent db upgrade --check
    """
    from sip_agent.config import load_settings
    from sip_agent.store import pending_migrations, upgrade

    settings = load_settings(config)
    names = (pending_migrations if check else upgrade)(settings.store.url, base_dir=settings.base_dir)
    for name in names:
        console.print(f"{'pending' if check else 'applied'}: {name}")
    if not names:
        console.print("the database is up to date")
    if check and names:
        raise typer.Exit(ExitStatus.TESTED_THING_FAILED)
