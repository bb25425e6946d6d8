"""`sip-agent script`, and what `sip-agent call` says of scripts before it calls."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
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


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--dtmf", "12x"], "--dtmf: write digits of 0-9 * # A-D, not 'X'"),
        (["--var", "a=1"], "--var: a variable is of a script; name the script with --script"),
        (["--play", "{folder}/none.wav"], "--play: there is no sound file {folder}/none.wav"),
        (["--play", "{folder}/zero.wav"], "--play: there is no sound in {folder}/zero.wav"),
        (["--play", "{folder}/text.wav"], "--play: {folder}/text.wav"),
        (["--header", "X-A"], "--header: write 'Name: value', not 'X-A'"),
        (["--header", "X A: 1"], "--header: no name of a header field: 'X A'"),
        (["--header", "X-A: 1\r\nX-B: 2"], "--header: the value of X-A has control characters"),
    ],
)
def test_call_with_what_cannot_be_done(tmp_path: Path, options: list[str], error: str) -> None:
    """What could not be played, pressed or sent is said before anybody is called."""
    soundfile.write(tmp_path / "zero.wav", np.empty(0, np.int16), 8000)
    (tmp_path / "text.wav").write_text("This is no sound.")
    with pytest.raises(SettingsError) as caught:
        run("call", "sip:nobody@127.0.0.1:9", *(option.format(folder=tmp_path) for option in options))

    assert error.format(folder=tmp_path) in str(caught.value)


def test_call_with_a_wrong_script(wrong: Path) -> None:
    """A script that is not right is not begun."""
    with pytest.raises(SettingsError, match=r"wrong\.yaml:2:5: sayy"):
        run("call", "sip:nobody@127.0.0.1:9", "--script", str(wrong))
