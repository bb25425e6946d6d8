"""The CI jobs under deploy/ci: their settings and their commands are ones that this version has."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from sip_agent.cli import app
from sip_agent.config import load_settings

CI = Path(__file__).parents[2] / "deploy" / "ci"
STAND_INS = {"CEKURA_API_KEY": "k", "SIP_PASSWORD": "p", "CEKURA_AGENT_ID": "5", "SIP_PUBLIC_ADDRESS": "203.0.113.5"}


def github() -> tuple[dict[str, Any], str]:
    """Return the environment and the command of the GitHub job."""
    job = YAML(typ="safe").load(CI / "github.yml")["jobs"]["cekura"]
    command = next(step["run"] for step in job["steps"] if "cekura run" in step.get("run", ""))
    return job["env"], command


def gitlab() -> tuple[dict[str, Any], str]:
    """Return the environment and the command of the GitLab job."""
    job = YAML(typ="safe").load(CI / "gitlab.yml")["voice-agent"]
    return job["variables"], job["script"][0]


@pytest.mark.usefixtures("own_environment")
@pytest.mark.parametrize("job", [github, gitlab])
def test_the_settings_are_right(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With values for the secrets and variables, the agent takes them, and has nothing to warn of."""
    for name, value in job()[0].items():
        found = re.search("|".join(STAND_INS), str(value))
        monkeypatch.setenv(name, STAND_INS[found[0]] if found else str(value))

    settings = load_settings(None)

    assert ("203.0.113.5", 5) == (settings.sip.public_address, settings.cekura.agent_id)
    assert ["cekura"] == list(settings.auth.users)
    assert () == settings.warnings


@pytest.mark.parametrize("job", [github, gitlab])
def test_the_command_is_right(job: Any) -> None:
    """Every option exists."""
    words = shlex.split(job()[1].partition(">")[0])
    command: Any = typer.main.get_command(app)
    arguments = words[1:]
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]

    context = command.make_context("run", arguments)

    assert context.params["serve"]
    assert ["smoke"] == list(context.params["tag"])
    assert 2000 == context.params["max_p95_latency"]
