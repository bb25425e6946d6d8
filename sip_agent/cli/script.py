"""`sip-agent script`: is a script right, and what may stand in one."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sip_agent.cli.output import ExitStatus, JsonOption, console, print_json

app = typer.Typer(no_args_is_help=True, help="Check scripts, the dialogues written in YAML.")


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Scripts to check.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with scripts, as FILE:LINE:COLUMN: message; exit status 2 if anything is.

    Example: sip-agent script check booking.yaml
    """
    from sip_agent.script import check_script, describe

    checked = [(path, *check_script(path)) for path in files]
    if as_json:
        found = [(path, problem) for path, _, problems in checked for problem in problems]
        print_json(
            [{"file": str(path), **asdict(problem.place), "message": problem.message} for path, problem in found]
        )
    else:
        for path, script, problems in checked:
            for problem in problems:
                console.print(describe(path, problem), markup=False, soft_wrap=True)
            if script is not None and not problems:
                console.print(f"{path}: right", markup=False, soft_wrap=True)
    if any(problems for _, _, problems in checked):
        raise typer.Exit(ExitStatus.WRONG_USE)


@app.command()
def schema() -> None:
    """Print the JSON Schema of scripts, for editors that check and complete while you type.

    Example: sip-agent script schema > script.schema.json
    """
    from sip_agent.script import json_schema

    print_json(json_schema())
