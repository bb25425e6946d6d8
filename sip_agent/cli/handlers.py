"""`sip-agent handlers`: the conversation handlers that are installed."""

from dataclasses import asdict

from rich.table import Table

from sip_agent.cli.output import JsonOption, console, print_json


def handlers(*, as_json: JsonOption = False) -> None:
    """List the handlers that a route can name, with their options.

    Example: sip-agent handlers
    """
    from sip_agent.handlers import installed_handlers

    found = installed_handlers()
    if as_json:
        print_json([asdict(handler) for handler in found])
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("handler", "options", "what it does"):
        table.add_column(heading, no_wrap=heading == "handler")
    for handler in found:
        table.add_row(handler.name, ", ".join(handler.options), handler.summary)
    console.print(table)
