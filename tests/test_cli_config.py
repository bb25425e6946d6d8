"""`sip-agent config`: are the settings right, and which are in force."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sip_agent.cli import app
from sip_agent.config import Settings, describe_settings, load_settings
from sip_agent.errors import SettingsError

pytestmark = pytest.mark.usefixtures("own_environment")

ECHO = "sip_agent.handlers.echo:EchoHandler"


def run(*arguments: str) -> Result:
    """Run `sip-agent` with these arguments; errors are raised."""
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


class TestCheck:
    """`config check`."""

    def test_right_settings_are_summed_up(self, tmp_path: Path) -> None:
        """Right settings give a summary: who may call, where, and what answers."""
        path = tmp_path / "a.toml"
        path.write_text(
            '[sip]\ntls_port = 5061\n[auth]\nusers = { a = "1" }\n[admission]\nallow = ["cekura"]\n'
            f'[[routes]]\nhandler = "{ECHO}"\n'
        )

        result = run("config", "check", "--config", str(path))

        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            f"settings   {path}",
            "listens on 127.0.0.1, udp 5060, tcp 5060, tls 5061",
            "admits     cekura, 100 calls at once",
            "challenges every caller (1 user)",
            "registers  nowhere",
            f"routes     {ECHO}",
        ]

    def test_what_speaks_is_looked_for(self) -> None:
        """A voice or an engine that is not there is found before a call needs it."""
        Path("sip-agent.toml").write_text('[speech]\nvoice = "nope"')

        with pytest.raises(SettingsError, match=r'^speech\.voice = "nope": espeak has no such voice'):
            run("config", "check")

    def test_doubts_are_told(self) -> None:
        """Warnings come after the summary, and are no failure."""
        Path("sip-agent.toml").write_text(f'[media]\nsrtp = "optional"\n[[routes]]\nhandler = "{ECHO}"')

        result = run("config", "check")

        assert result.exit_code == 0
        assert result.stdout.splitlines()[-1].startswith('! media.srtp = "optional" without TLS')

    def test_wrong_settings_are_an_error(self) -> None:
        """What is wrong with a setting is raised, for `main` to print."""
        Path("sip-agent.toml").write_text("[sip]\nudp_port = -1")

        with pytest.raises(SettingsError, match=r"^sip\.udp_port = -1: write a number from 0 on"):
            run("config", "check")

    def test_handlers_are_built(self) -> None:
        """Every route's handler is looked for, and must take its options; the error names the route."""
        Path("sip-agent.toml").write_text(
            f'[[routes]]\nhandler = "{ECHO}"\n'
            '[[routes]]\nhandler = "no_such:Handler"\n'
            f'[[routes]]\nhandler = "{ECHO}"\noptions = {{ volume = 11 }}'
        )

        with pytest.raises(SettingsError) as caught:
            run("config", "check")

        first, second = str(caught.value).splitlines()
        assert first.startswith("routes[1].handler: ")
        assert second.startswith("routes[2].handler: ")


class TestShow:
    """`config show`."""

    def test_values_have_sources(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each setting is shown with its value, and with where it came from."""
        Path("sip-agent.toml").write_text(
            '[sip]\nudp_port = 5070\n[[accounts]]\nname="a"\nregistrar="sip:r"\nusername="u"'
        )
        monkeypatch.setenv("SIP_AGENT_ADMISSION__MAX_DURATION", "90s")

        document = json.loads(run("config", "show", "--json").stdout)

        assert document["file"] == "sip-agent.toml"
        assert document["settings"]["sip.udp_port"] == {"value": 5070, "source": "file"}
        assert document["settings"]["sip.tcp_port"] == {"value": 5060, "source": "default"}
        assert document["settings"]["admission.max_duration"] == {"value": "1m30s", "source": "environment"}
        assert document["settings"]["accounts[0].registrar"] == {"value": "sip:r", "source": "file"}

    def test_the_table_has_them_too(self) -> None:
        """Without --json there is a table."""
        Path("sip-agent.toml").write_text("[sip]\nudp_port = 5070")

        lines = run("config", "show").stdout.splitlines()

        assert ["sip.udp_port", "5070", "file"] in [line.split() for line in lines]

    @pytest.mark.parametrize("arguments", [("config", "show"), ("config", "show", "--json")])
    def test_secrets_are_masked(self, arguments: tuple[str, ...]) -> None:
        """No secret is shown, wherever it was written."""
        Path("sip-agent.toml").write_text(
            """
            [auth]
            users = { anna = "hush1" }
            [headers]
            fingerprint_salt = "hush2"
            [[accounts]]
            name = "a"
            registrar = "sip:r"
            username = "u"
            password = "hush3"
            [[routes]]
            handler = "websocket"
            options = { url = "wss://u:hush4@host?token=hush5", headers = { Authorization = "hush6" } }
            [store]
            url = "postgresql://u:hush7@host/db"
            [api]
            token = "hush8"
            [cekura]
            api_key = "hush9"
            """
        )

        result = run(*arguments)

        assert result.exit_code == 0
        assert "hush" not in result.stdout
        assert result.stdout.count("***") >= 9

    def test_defaults_are_a_settings_file(self) -> None:
        """The defaults are printed as a settings file, which says what holds without one."""
        Path("defaults.toml").write_text(run("config", "show", "--defaults").stdout)

        assert load_settings(Path("defaults.toml")).model_dump() == load_settings().model_dump()

    def test_defaults_can_be_brought_to_life(self) -> None:
        """What is commented out in that file is right once the comment signs are gone."""
        text = run("config", "show", "--defaults").stdout.replace("\n# ", "\n").replace(" = ...", ' = "sip:x"')
        Path("full.toml").write_text(text)

        settings = load_settings(Path("full.toml"))

        assert settings.accounts[0].registrar == "sip:x"
        assert settings.routes[0].match == Settings().routes[0].match

    def test_defaults_are_described(self) -> None:
        """With --json the defaults come with type, purpose and variable."""
        document = json.loads(run("config", "show", "--defaults", "--json").stdout)

        assert [item["key"] for item in document] == [item.key for item in describe_settings()]
        assert set(document[0]) == {"key", "type", "default", "description", "environment"}
