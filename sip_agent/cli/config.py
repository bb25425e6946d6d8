"""`sip-agent config`: are the settings right, and which are in force."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from sip_agent.cli.output import JsonOption, console, print_json
from sip_agent.errors import SettingsError

if TYPE_CHECKING:
    from sip_agent.config import SettingDescription, Settings

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file, instead of SIP_AGENT_CONFIG or ./sip-agent.toml."),
]

app = typer.Typer(no_args_is_help=True, help="Check and show the settings.")


@app.command()
def check(config: ConfigOption = None) -> None:
    """Say whether the settings are right, including the handlers of the routes and what speaks.

    Example: sip-agent config check --config sip-agent.toml
    """
    from sip_agent.config import load_settings

    settings = load_settings(config)
    _check_handlers(settings)
    _check_speech(settings)
    for title, text in _summary(settings):
        console.print(f"{title:<11}{text}", markup=False, soft_wrap=True)
    for warning in settings.warnings:
        console.print(f"! {warning}", markup=False, soft_wrap=True)


@app.command()
def show(
    config: ConfigOption = None,
    *,
    defaults: Annotated[
        bool, typer.Option(help="Print a settings file with every default and its purpose instead.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show the settings in force, and where each comes from; secrets are masked.

    Example: sip-agent config show --json
    """
    if defaults:
        _show_defaults(json=json)
    else:
        _show_settings(config, json=json)


def _check_handlers(settings: "Settings") -> None:
    from sip_agent.handlers import handler_factory

    problems = []
    for index, route in enumerate(settings.routes):
        try:
            handler_factory(route.handler, route.options, settings.base_dir)
        except SettingsError as error:
            problems.append(f"routes[{index}].handler: {error}")
    if problems:
        raise SettingsError("\n".join(problems))


def _check_speech(settings: "Settings") -> None:
    import asyncio

    from sip_agent.speech import Speech

    asyncio.run(Speech.from_settings(settings.speech, settings.base_dir).close())


def _summary(settings: "Settings") -> Iterator[tuple[str, str]]:
    sip, admission = settings.sip, settings.admission
    ports = {"udp": sip.udp_port, "tcp": sip.tcp_port, "tls": sip.tls_port}
    users = len(settings.auth.users)
    yield "settings", str(settings.file or "defaults (there is no settings file)")
    yield (
        "listens on",
        f"{', '.join(sip.bind)}, {', '.join(f'{name} {port}' for name, port in ports.items() if port)}",
    )
    yield "admits", f"{', '.join(admission.allow) or 'any address'}, {admission.max_calls} calls at once"
    yield "challenges", f"every caller ({users} user{'s' * (users != 1)})" if users else "nobody"
    yield "registers", ", ".join(account.name for account in settings.accounts) or "nowhere"
    yield "routes", ", ".join(route.handler for route in settings.routes) or "none: every call gets 404"


def _show_settings(config: Path | None, *, json: bool) -> None:
    from sip_agent.config import effective_values, load_settings, toml_value
    from sip_agent.log import MASK, mask_secrets

    settings = load_settings(config)
    values = {key: mask_secrets(value) for key, value in effective_values(settings, mask=MASK)}
    if json:
        document = {key: {"value": value, "source": str(settings.source_of(key))} for key, value in values.items()}
        print_json({"file": settings.file and str(settings.file), "settings": document})
        return
    table = Table("Setting", "Value", "Source", box=None)
    for key, value in values.items():
        source = settings.source_of(key)
        style = "dim" if source == "default" else None
        table.add_row(escape(key), escape(toml_value(value)), source, style=style)
    console.print(table)


def _show_defaults(*, json: bool) -> None:
    from dataclasses import asdict

    from sip_agent.config import describe_settings

    descriptions = describe_settings()
    if json:
        print_json([asdict(description) for description in descriptions])
        return
    for line in _settings_file(descriptions):
        print(line)


def _settings_file(descriptions: "Sequence[SettingDescription]") -> Iterator[str]:
    """Write a settings file that says what holds without one; lists of tables are commented out."""
    last_table = ""
    for item in descriptions:
        table, _, name = item.key.rpartition(".")
        repeated = table.endswith("[]") or "[]." in table or "NAME" in table
        mark = "# " if repeated else ""
        outer, _, inner = table.partition("[].")
        header = f"[[{outer.removesuffix('[]')}]]" if "[]" in table else f"[{table}]"
        if header != last_table:
            yield from ("", f"{mark}{header}")
            last_table = header
        key = f"{inner}.{name}" if inner else name
        yield f"{mark}{key} = {item.default or '...'}  # {item.description}"
