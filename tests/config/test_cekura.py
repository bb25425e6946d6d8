"""[cekura] as settings: what may be written, and what must not be written together."""

from pathlib import Path

import pytest

from sip_agent.config import CekuraSettings, MessageTimes, load_settings
from sip_agent.errors import SettingsError


def load(tmp_path: Path, text: str) -> CekuraSettings:
    """Return the section, written as in the file."""
    file = tmp_path / "sip-agent.toml"
    file.write_text(f"[cekura]\n{text}\n", encoding="utf-8")
    return load_settings(file).cekura


def test_values(tmp_path: Path) -> None:
    """Secrets come from files, addresses lose their last slash."""
    (tmp_path / "hook").write_text("s3cret\n")
    (tmp_path / "hook").chmod(0o600)
    found = load(
        tmp_path,
        'webhook_secret_file = "hook"\nmessage_times = "epoch_ms"\nrecordings_url = "https://files.example.com/x/"\n'
        'transcript_url = "https://eu.example.com/hook/"\nannounced_runs_only = true\nobserve = true\nagent_id = 5',
    )

    assert ("s3cret", MessageTimes.EPOCH_MS) == (found.webhook_secret.get_secret_value(), found.message_times)
    assert ("https://files.example.com/x", "https://eu.example.com/hook/") == (
        found.recordings_url,
        found.transcript_url,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("observe = true", "observe: Cekura asks whose call it was: set agent_id"),
        ("announced_runs_only = true", "announced_runs_only: nobody can announce runs: set webhook_secret_file"),
        ('transcript_url = "webhook"', "write a path at base_url that starts with /"),
        ('transcript_url = "ftp://x/"', "write a path at base_url that starts with /"),
        ('recordings_url = "files.example.com"', "write an address that starts with https://"),
        ('message_times = "minutes"', "message_times"),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    """The message names the setting and what to write."""
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, text)
