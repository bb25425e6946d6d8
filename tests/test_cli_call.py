"""`sip-agent call`: what it refuses before anybody is called, and what it prints."""

import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sip_agent.caller import CallResult
from sip_agent.cli import app, call, main
from sip_agent.record import CallRecord
from sip_agent.status import Outcome

pytestmark = pytest.mark.usefixtures("own_environment")

LATIN_1 = "Jos\udce9"
"""An argument whose last byte is not UTF-8, as Python hands it to a program."""


@pytest.fixture(autouse=True)
def nobody_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a call would be placed."""

    def place(*_: object) -> None:
        pytest.fail("a call is placed")

    monkeypatch.setattr(call, "_call", place)


def refusal(*arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what `sip-agent call` says when it refuses its arguments with exit status 2."""
    monkeypatch.setattr(sys, "argv", ["sip-agent", "call", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert 2 == caught.value.code
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--tone", "0"], "--tone: write more than 0 and less than 8000 Hz, not 0"),
        (["--tone", "-440"], "--tone: write more than 0 and less than 8000 Hz, not -440"),
        (["--tone", "8000"], "--tone: write more than 0 and less than 8000 Hz, not 8000"),
        (["--tone", "nan"], "--tone: write more than 0 and less than 8000 Hz, not nan"),
        (["--duration", "-1"], "--duration: write a number of seconds, 0 or more, not -1"),
        (["--duration", "nan"], "--duration: write a number of seconds, 0 or more, not nan"),
        (["--duration", "inf"], "--duration: write a number of seconds, 0 or more, not inf"),
        (["--ring-timeout", "0"], "--ring-timeout: write a number of seconds, more than 0, not 0"),
        (["--ring-timeout", "nan"], "--ring-timeout: write a number of seconds, more than 0, not nan"),
        (["--record", "folder"], "--record: folder is there, and is no file: name a WAV file to write"),
        (["--record", "pipe"], "--record: pipe is there, and is no file: name a WAV file to write"),
        (["--record", "file/a.wav"], "--record: cannot create or write to the folder file: not a directory"),
        (
            ["-H", f"X-Name: {LATIN_1}"],
            "--header: the value of X-Name is not UTF-8 text: 'Jos\\udce9'; write it in UTF-8",
        ),
        (["--user", LATIN_1], "--user: it is not UTF-8 text; write it in UTF-8"),
        (["--password", LATIN_1], "--password: it is not UTF-8 text; write it in UTF-8"),
        (["--from", f"sip:{LATIN_1}@example.com"], "--from: it is not UTF-8 text; write it in UTF-8"),
        (["--say", LATIN_1], "--say: it is not UTF-8 text; write it in UTF-8"),
        (["--var", f"name={LATIN_1}"], "--var: it is not UTF-8 text; write it in UTF-8"),
    ],
)
def test_wrong_options(
    options: list[str], error: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be done is said before anybody is called, with the option's name."""
    Path("folder").mkdir()
    Path("file").write_text("no folder")
    os.mkfifo("pipe")

    said = refusal("sip:nobody@127.0.0.1:9", *options, monkeypatch=monkeypatch, capsys=capsys)

    assert f"error: {error}\n" == said


def test_wrong_uri(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A URI that cannot be sent is refused."""
    said = refusal(f"sip:{LATIN_1}@127.0.0.1:9", monkeypatch=monkeypatch, capsys=capsys)

    assert "error: the URI: it is not UTF-8 text; write it in UTF-8\n" == said


def test_no_number_is_claimed_for_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Options are looked at before a number is, which counts for outbound.max_calls_per_day."""
    said = refusal("+14155550123", "--codec", "nope", monkeypatch=monkeypatch, capsys=capsys)

    assert said.startswith("error: --codec: ")


def printed(record: CallRecord, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what `sip-agent call` prints of a call with this record."""

    async def place(*_: object) -> CallResult:
        return CallResult(record=record, statuses=(200,))

    monkeypatch.setattr(call, "_call", place)
    return CliRunner().invoke(app, ["call", "sip:nobody@127.0.0.1:9"], catch_exceptions=False).stdout


def test_failed_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that failed during the call is said to have failed."""
    recording = {"path": "a.wav", "error": "a.wav: no space left on device"}
    record = CallRecord(call_uuid="1", outcome=Outcome.ANSWERED, sip_status=200, recording=recording)

    assert "failed: a.wav: no space left on device" in printed(record, monkeypatch)


def test_what_the_far_end_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The far end's text is printed as it is, whatever brackets it has."""
    record = CallRecord(call_uuid="1", outcome=Outcome.REJECTED, sip_status=486, end_reason="Busy [/here]")

    assert "Busy [/here]" in printed(record, monkeypatch)
