"""The compose project and the systemd unit: their settings are settings of the agent."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sip_agent.config import describe_settings, load_settings
from sip_agent.config.reading import CONFIG_VARIABLE

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
UNIT = DEPLOY / "systemd" / "sip-agent.service"


@pytest.mark.parametrize("file", [COMPOSE, UNIT, DEPLOY / "README.md"], ids=lambda path: path.name)
def test_every_variable_is_a_setting(file: Path) -> None:
    """A variable with a typing error would stop the agent at its start."""
    known = {setting.environment for setting in describe_settings()} | {CONFIG_VARIABLE, "SIP_AGENT_CACHE"}

    used = set(re.findall(r"\bSIP_AGENT_[A-Z0-9_]+", file.read_text()))
    assert used
    assert set() == used - known


@pytest.mark.parametrize("name", ["compose", "systemd"])
def test_the_settings_file_is_valid_and_writes_where_it_may(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example settings load, answer the network, admit the platform, and keep their data in one folder."""
    data = {"compose": "/data", "systemd": "/var/lib/sip-agent"}[name]
    for variable in [setting.environment for setting in describe_settings()]:
        monkeypatch.delenv(variable, raising=False)

    settings = load_settings(DEPLOY / name / "sip-agent.toml")

    assert ("0.0.0.0",) == settings.sip.bind  # noqa: S104  (behind a firewall, with an allow-list)
    assert "cekura" in settings.admission.allow
    assert Path(data, "recordings") == settings.media.recordings_dir
    assert Path(data, "speech-cache") == settings.speech.cache_dir
    assert f"sqlite:///{data}/sip-agent.db" == settings.store.url


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    """systemd-analyze has nothing to say."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/sip-agent/bin/sip-agent", "/bin/true"))

    result = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)

    assert "" == "".join(line for line in result.stderr.splitlines() if unit.name in line)


def test_the_unit_gives_no_capability() -> None:
    """The agent needs no privilege: no capability is left, and none can be gained."""
    lines = UNIT.read_text().splitlines()

    assert {"AmbientCapabilities=", "CapabilityBoundingSet=", "NoNewPrivileges=yes", "DynamicUser=yes"} <= set(lines)
