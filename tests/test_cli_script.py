"""`sip-agent script`, and what `sip-agent call` says of scripts before it calls."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sip_agent.cli import app
from sip_agent.errors import SettingsError


def run(*arguments: str) -> Result:
    """Run `sip-agent` with these arguments in this process; errors are raised."""
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """Return a script with a mistake."""
    file = tmp_path / "wrong.yaml"
    file.write_text("steps:\n  - sayy: hello\n")
    return file


@pytest.fixture
def right(tmp_path: Path) -> Path:
    """Return a script that is right."""
    file = tmp_path / "right.yaml"
    file.write_text("variables: {guest: Ada}\nsteps:\n  - say: '{guest}'\n")
    return file


def test_check(wrong: Path, right: Path) -> None:
    """Every problem is a line that editors understand, and the exit status says that there is one."""
    result = run("script", "check", str(right), str(wrong))

    assert 2 == result.exit_code
    assert [f"{right}: right", f"{wrong}:2:5: sayy: there is no such step; did you mean say?"] == (
        result.stdout.splitlines()
    )
    assert 0 == run("script", "check", str(right)).exit_code


def test_check_for_programs(wrong: Path) -> None:
    """One JSON document, with stable keys."""
    result = run("script", "check", "--json", str(wrong))

    assert [
        {"file": str(wrong), "line": 2, "column": 5, "message": "sayy: there is no such step; did you mean say?"}
    ] == (json.loads(result.stdout))
    assert 2 == result.exit_code


def test_schema() -> None:
    """The schema is a JSON document."""
    assert "sip-agent script" == json.loads(run("script", "schema").stdout)["title"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--tone", "440"], "--script: write what is played, said or pressed, and for how long, into the script"),
        (["--var", "guest"], "--var: write NAME=TEXT, not 'guest'"),
        (["--var", "gest=Bob"], "has no variable 'gest'; did you mean guest?"),
    ],
)
def test_call_with_a_script(right: Path, options: list[str], error: str) -> None:
    """What is wrong with the script's options is said before anybody is called."""
    with pytest.raises(SettingsError) as caught:
        run("call", "sip:nobody@127.0.0.1:9", "--script", str(right), *options)

    assert error in str(caught.value)


def test_call_with_a_wrong_script(wrong: Path) -> None:
    """A script that is not right is not begun."""
    with pytest.raises(SettingsError, match=r"wrong\.yaml:2:5: sayy"):
        run("call", "sip:nobody@127.0.0.1:9", "--script", str(wrong))
