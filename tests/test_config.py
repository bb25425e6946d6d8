"""Settings: what may be written, where from, and what is said when it is wrong."""

import json
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from sip_agent.auth import DigestAlgorithm
from sip_agent.config import (
    AdmissionSettings,
    AuthSettings,
    EngineChoice,
    LogFormat,
    RouteMatch,
    RouteSettings,
    Settings,
    SettingSource,
    SipSettings,
    SrtpMode,
    describe_settings,
    format_duration,
    load_settings,
    parse_duration,
)
from sip_agent.errors import SettingsError
from sip_agent.headers import CorrelationProfile

pytestmark = pytest.mark.usefixtures("own_environment")


def load(text: str) -> Settings:
    """Load settings from a file with this text."""
    Path("sip-agent.toml").write_text(text, encoding="utf-8")
    return load_settings()


def errors_of(text: str = "") -> list[str]:
    """Return the lines of the error that a settings file with this text leads to."""
    with pytest.raises(SettingsError) as caught:
        load(text)
    return str(caught.value).splitlines()


class TestSources:
    """A file, then the environment."""

    def test_there_need_not_be_a_file(self, tmp_path: Path) -> None:
        """Without a file the defaults serve a laptop: loopback, echo, nobody challenged."""
        settings = load_settings()

        assert settings.sip.bind == ("127.0.0.1",)
        assert settings.routes == (RouteSettings(match=RouteMatch(), handler="echo"),)
        assert settings.auth.users == {}
        assert settings.file is None
        assert tmp_path == settings.base_dir

    def test_the_file_in_the_working_folder_is_read(self) -> None:
        """`sip-agent.toml` in the working folder is taken when no file is named."""
        assert load("[sip]\nudp_port = 5070").sip.udp_port == 5070

    def test_the_variable_names_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """SIP_AGENT_CONFIG goes before `sip-agent.toml`, and the argument before both."""
        for port, name in ((1, "sip-agent.toml"), (2, "variable.toml"), (3, "argument.toml")):
            (tmp_path / name).write_text(f"[sip]\nudp_port = {port}")
        monkeypatch.setenv("SIP_AGENT_CONFIG", "variable.toml")

        assert load_settings().sip.udp_port == 2
        assert load_settings(Path("argument.toml")).sip.udp_port == 3

    def test_a_named_file_must_exist(self) -> None:
        """A file that was named and is not there is an error, not a reason for defaults."""
        with pytest.raises(SettingsError) as caught:
            load_settings(Path("other.toml"))

        assert (
            str(caught.value) == "other.toml: no such settings file: create it, or correct --config or SIP_AGENT_CONFIG"
        )

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        """What cannot be read is named with the reason."""
        with pytest.raises(SettingsError, match=f"^{tmp_path}: is a directory$"):
            load_settings(tmp_path)

    def test_the_environment_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable overrides the file, and leaves the rest of the section alone."""
        monkeypatch.setenv("SIP_AGENT_SIP__UDP_PORT", "5080")

        settings = load("[sip]\nudp_port = 5070\ntcp_port = 5071")

        assert (settings.sip.udp_port, settings.sip.tcp_port) == (5080, 5071)

    def test_sources_are_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each value can be traced to the default, the file or the environment."""
        monkeypatch.setenv("SIP_AGENT_SIP__UDP_PORT", "5080")

        settings = load("[sip]\nudp_port = 5070\ntcp_port = 5071")

        assert settings.source_of("sip.udp_port") is SettingSource.ENVIRONMENT
        assert settings.source_of("sip.tcp_port") is SettingSource.FILE
        assert settings.source_of("sip.tls_port") is SettingSource.DEFAULT

    def test_sources_of_secrets_and_lists_are_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A secret comes from where its file is named, and a list of tables from where it is written."""
        Path("key").write_text("abc")
        monkeypatch.setenv("SIP_AGENT_CEKURA__API_KEY_FILE", "key")
        monkeypatch.setenv("SIP_AGENT_ROUTES", '[{"handler": "ring"}]')

        settings = load('[cekura]\napi_key = "old"\n[[routes]]\nhandler = "echo"')

        assert settings.cekura.api_key.get_secret_value() == "abc"
        assert settings.source_of("cekura.api_key") is SettingSource.ENVIRONMENT
        assert settings.source_of("routes[0].handler") is SettingSource.ENVIRONMENT
        assert settings.source_of("routes[0].options") is SettingSource.DEFAULT

    def test_variables_hold_lists_and_tables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lists are written a,b or as JSON or TOML; tables as JSON or TOML, or entry by entry."""
        monkeypatch.setenv("SIP_AGENT_SIP__BIND", "127.0.0.1, ::1")
        monkeypatch.setenv("SIP_AGENT_MEDIA__CODECS", '["PCMA"]')
        monkeypatch.setenv("SIP_AGENT_MEDIA__RTP_PORTS", "30000,30999")
        monkeypatch.setenv("SIP_AGENT_MEDIA__RECORD", "false")
        monkeypatch.setenv("SIP_AGENT_AUTH__USERS", '{ anna = "1" }')
        monkeypatch.setenv("SIP_AGENT_AUTH__USERS__Bob", "2,3")

        settings = load_settings()

        assert settings.sip.bind == ("127.0.0.1", "::1")
        assert settings.media.codecs == ("PCMA",)
        assert settings.media.rtp_ports == (30000, 30999)
        assert settings.media.record is False
        assert settings.auth.users == {"anna": SecretStr("1"), "Bob": SecretStr("2,3")}

    def test_variables_reach_into_lists_of_tables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An entry of a list of tables is named by its number; one past the last adds an entry."""
        monkeypatch.setenv("SIP_AGENT_ACCOUNTS__0__PASSWORD", "secret")
        monkeypatch.setenv("SIP_AGENT_ACCOUNTS__1", '{"name": "b", "registrar": "sip:b", "username": "2"}')
        monkeypatch.setenv("SIP_AGENT_ROUTES", '[{"handler": "ring"}]')
        monkeypatch.setenv("SIP_AGENT_ROUTES__0__OPTIONS__seconds", "3")

        settings = load('[[accounts]]\nname = "a"\nregistrar = "sip:a"\nusername = "1"')

        assert [account.name for account in settings.accounts] == ["a", "b"]
        assert settings.accounts[0].password.get_secret_value() == "secret"
        assert settings.routes == (RouteSettings(handler="ring", options={"seconds": 3}),)

    def test_variables_of_others_are_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Names without a double underscore, which orchestrators make up, and empty ones are no settings."""
        monkeypatch.setenv("SIP_AGENT_PORT", "udp://10.0.0.1:5060")
        monkeypatch.setenv("SIP_AGENT_SIP__UDP_PORT", "")

        assert load_settings().sip.udp_port == 5060

    def test_relative_paths_start_at_the_settings_file(self, tmp_path: Path) -> None:
        """Paths, also those by default, are taken from the folder of the settings file."""
        folder = tmp_path / "etc"
        folder.mkdir()
        (folder / "a.toml").write_text('[sip.tls]\ncertificate = "c.pem"\nprivate_key = "/k.pem"')

        settings = load_settings(Path("etc/a.toml"))

        assert settings.base_dir == folder
        assert settings.sip.tls.certificate == folder / "c.pem"
        assert settings.sip.tls.private_key == Path("/k.pem")
        assert settings.media.recordings_dir == folder / "recordings"
        assert settings.path("hello.wav") == folder / "hello.wav"

    def test_settings_are_immutable(self) -> None:
        """Nobody changes settings while the agent runs."""
        with pytest.raises(ValidationError, match="frozen"):
            load_settings().sip.udp_port = 1  # type: ignore[misc]


class TestValues:
    """What the sections take."""

    def test_the_documented_example_is_right(self) -> None:
        """The settings of the documentation load, and say what they mean."""
        Path("trunk.password").write_text("pw\n")
        settings = load(
            """
            [sip]
            bind = ["0.0.0.0"]
            tls_port = 5061
            [auth]
            algorithms = ["md5", "sha-512-256"]
            users = { cekura = "secret" }
            nonce_ttl = 30
            [admission]
            allow = ["127.0.0.0/8", "cekura", "192.0.2.7"]
            max_duration = "1h30m"
            [media]
            codecs = ["pcmu", "OPUS"]
            srtp = "optional"
            engine = "light"
            [[accounts]]
            name = "trunk"
            registrar = "sip:pbx.example.com"
            username = "1001"
            password_file = "trunk.password"
            [[routes]]
            match = { user = "a", account = "trunk", header.X-Name = "v", "header.X-Other" = "w" }
            handler = "reject"
            options = { status = 486 }
            [log]
            format = "json"
            """
        )

        assert settings.auth.algorithms == (DigestAlgorithm.MD5, DigestAlgorithm.SHA_512_256)
        assert settings.auth.nonce_ttl == timedelta(seconds=30)
        assert settings.admission.allow == ("127.0.0.0/8", "cekura", "192.0.2.7")
        assert settings.admission.max_duration == timedelta(minutes=90)
        assert settings.media.codecs == ("PCMU", "opus")
        assert settings.media.srtp is SrtpMode.OPTIONAL
        assert settings.media.engine is EngineChoice.LIGHT
        assert settings.accounts[0].password.get_secret_value() == "pw"
        assert settings.routes[0].match == RouteMatch(user="a", account="trunk", header={"X-Name": "v", "X-Other": "w"})
        assert settings.routes[0].options == {"status": 486}
        assert settings.log.format is LogFormat.JSON

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            ("[sip]\nudp_port = 70000", "sip.udp_port = 70000: write a number up to 65535"),
            ("[sip]\nudp_port = true", "sip.udp_port = true: write a whole number"),
            ("[sip]\nbind = []", "sip.bind = []: write at least one"),
            (
                '[sip]\nbind = ["localhost"]',
                ('sip.bind[0] = "localhost": write an IP address of this machine, like 127.0.0.1, 0.0.0.0 or ::'),
            ),
            (
                "[sip]\nudp_port = 0\ntcp_port = 0",
                "sip: every transport is off: set udp_port, tcp_port or tls_port",
            ),
            (
                "[sip]\ntls_port = 5060",
                "sip: tcp_port and tls_port are both 5060: TLS needs a port of its own, usually 5061",
            ),
            (
                '[sip]\npublic_address = "a:5060"',
                ('sip.public_address = "a:5060": write an IP address or a host name, without port, or leave it empty'),
            ),
            (
                '[auth]\nalgorithms = ["SHA1"]',
                'auth.algorithms[0] = "SHA1": write one of MD5, SHA-256, SHA-512-256',
            ),
            ("[auth]\nusers = { a = 1 }", "auth.users.a = (hidden): write text, in quotes"),
            ('[auth]\nusers = { a = "" }', "auth.users: user a has an empty password: write one"),
            (
                '[admission]\nallow = ["10.1.2.3/8"]',
                (
                    'admission.allow[0] = "10.1.2.3/8": '
                    'write a CIDR block like "10.0.0.0/8", an address, or a preset: "cekura"'
                ),
            ),
            (
                '[admission]\nmax_duration = "soon"',
                (
                    'admission.max_duration = "soon": '
                    'write a duration like "30m", "10s", "500ms" or "1h30m", or a number of seconds'
                ),
            ),
            ("[admission]\nmax_duration = 0", "admission.max_duration = 0: write a duration longer than 0"),
            ("[admission]\nmax_calls = 0", "admission.max_calls = 0: write a number from 1 on"),
            (
                "[media]\nrtp_ports = [30000, 20000]",
                "media.rtp_ports = [30000, 20000]: write the first and the last port, the lower one first",
            ),
            ("[media]\nrtp_ports = [1, 2, 3]", "media.rtp_ports = [1, 2, 3]: write 2 values, not 3"),
            (
                "[media]\nrtp_ports = [5000, 6000]",
                "media.rtp_ports = [5000, 6000]: holds sip.udp_port 5060: move one of them",
            ),
            (
                '[media]\ncodecs = ["GSM"]',
                'media.codecs[0] = "GSM": write one of PCMU, PCMA, G722, opus',
            ),
            (
                '[media]\ncodecs = ["PCMU", "pcmu"]',
                'media.codecs = ["PCMU", "pcmu"]: PCMU stands here twice: once is enough',
            ),
            (
                "[media]\nsample_rate_hz = 44100",
                "media.sample_rate_hz = 44100: write 8000, 16000 or 48000",
            ),
            (
                '[media]\nsrtp = "on"',
                "media.srtp = \"on\": write one of 'off', 'optional' or 'mandatory'",
            ),
            (
                '[correlation]\nprofile = "mine"',
                (
                    'correlation.profile = "mine": '
                    "write one of cekura, coval, call-id, or add [correlation.profiles.mine]"
                ),
            ),
            (
                '[[accounts]]\nname = "a"\nregistrar = "pbx"\nusername = "u"',
                (
                    'accounts[0].registrar = "pbx": '
                    'write a SIP URI without angle brackets, like "sip:pbx.example.com:5060;transport=tcp"'
                ),
            ),
            (
                '[[accounts]]\nname = "a"\nregistrar = "sip:pbx"',
                "accounts[0].username: is missing: add it",
            ),
            (
                '[[routes]]\nhandler = "echo"\nmatch = { account = "b" }',
                'routes[0].match.account = "b": no such account (there is: none)',
            ),
            (
                '[store]\nurl = "mysql://u:pw@host/db"',
                (
                    'store.url = "mysql://***@host/db": '
                    "write sqlite:///file, sqlite:////folder/file or postgresql://user@host/name"
                ),
            ),
            (
                '[api]\nbind = "8080"',
                'api.bind = "8080": write address:port, like 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080',
            ),
            (
                '[cekura]\nbase_url = "api.cekura.ai"',
                'cekura.base_url = "api.cekura.ai": write an address that starts with https:// or http://',
            ),
            ("sip = 5", "sip = 5: write a table"),
        ],
    )
    def test_an_error_names_key_value_and_remedy(self, line: str, error: str) -> None:
        """Each error says which key is wrong, what was found there, what to write, and in which file."""
        assert [error.removesuffix(" (in sip-agent.toml)")] == [
            found.removesuffix(" (in sip-agent.toml)") for found in errors_of(line)
        ]

    def test_accounts_have_names_of_their_own(self) -> None:
        """Two accounts of one name could not be told apart in routes and records."""
        account = '[[accounts]]\nname = "a"\nregistrar = "sip:pbx"\nusername = "u"\n'

        assert errors_of(account * 2) == ['accounts: two are named "a": give each a name of its own']

    def test_all_errors_are_listed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All errors are told at once, each with the place it comes from."""
        monkeypatch.setenv("SIP_AGENT_LOG__LEVEL", "loud")

        errors = errors_of("[sip]\nudp_port = -1\n[media]\nrecord = 7")

        assert errors == [
            "sip.udp_port = -1: write a number from 0 on (in sip-agent.toml)",
            "media.record = 7: write true or false (in sip-agent.toml)",
            ("log.level = \"loud\": write one of 'debug', 'info', 'warning' or 'error' (from SIP_AGENT_LOG__LEVEL)"),
        ]

    def test_correlation_profiles_can_be_added(self) -> None:
        """A platform with other header names gets a profile; cekura is built in."""
        settings = load('[correlation]\nprofile = "mine"\n[correlation.profiles.mine]\nrun_id = "X-Test"')

        assert settings.correlation.active == CorrelationProfile(name="mine", run_id="X-Test")
        assert Settings().correlation.active.scenario_id == "X-Scenario-Id"

    def test_the_api_address_is_taken_apart(self) -> None:
        """An IPv6 address is written in brackets, which the socket does not want."""
        api = load('[api]\nbind = "[::1]:8080"').api

        assert (api.host, api.port) == ("::1", 8080)

    def test_the_user_agent_shows_the_version(self) -> None:
        """<version> in the user agent becomes the version of the agent."""
        assert load('[sip]\nuser_agent = "x/<version>"').sip.user_agent.startswith("x/")
        assert "<" not in Settings().sip.user_agent

    def test_an_empty_list_of_routes_is_kept(self) -> None:
        """Echo takes the calls only if nothing is said about routes."""
        assert load("routes = []").routes == ()


class TestUnknownKeys:
    """A key that does not exist is a mistake, and mostly a slip."""

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("[sip]\nudp_prt = 1", "sip.udp_prt: no such setting; did you mean sip.udp_port?"),
            ("[sip]\nmax_calls = 1", "sip.max_calls: no such setting; did you mean admission.max_calls?"),
            ("[admision]\nallow = []", "admision: no such setting; did you mean admission?"),
            (
                '[[routes]]\nhandler = "echo"\noption = {}',
                "routes[0].option: no such setting; did you mean routes[].options?",
            ),
            ("[weather]\nx = 1", "weather: no such setting"),
        ],
    )
    def test_the_nearest_key_is_named(self, text: str, error: str) -> None:
        """The error names the key, and the one that was probably meant."""
        assert errors_of(text) == [f"{error} (in sip-agent.toml)"]

    @pytest.mark.parametrize(
        ("variable", "error"),
        [
            (
                "SIP_AGENT_SIP__TLS__CERT",
                "SIP_AGENT_SIP__TLS__CERT: no such setting; did you mean SIP_AGENT_SIP__TLS__CERTIFICATE?",
            ),
            ("SIP_AGENT_WEATHER__X", "SIP_AGENT_WEATHER__X: no such setting"),
            (
                "SIP_AGENT_SIP__UDP_PORT__X",
                "SIP_AGENT_SIP__UDP_PORT__X: no such setting; did you mean SIP_AGENT_SIP__UDP_PORT?",
            ),
            (
                "SIP_AGENT_AUTH__USERS",
                "SIP_AGENT_AUTH__USERS: write a list or table as JSON, or as in the settings file",
            ),
            (
                "SIP_AGENT_ACCOUNTS__2__NAME",
                "SIP_AGENT_ACCOUNTS__2__NAME: there are 0 accounts: write __0__ for one more",
            ),
        ],
    )
    def test_variables_are_checked_too(self, variable: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable that sets nothing is an error as well."""
        monkeypatch.setenv(variable, "x")

        assert error in errors_of()


class TestToml:
    """A file that is not TOML is an error at a line and column."""

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            (b"a = 1\nb = \n", "sip-agent.toml:2:5: Invalid value"),
            (b"a = [", "sip-agent.toml:1:6: Invalid value at the end of the file"),
            (b'a = 1\nb = "\xff"', "sip-agent.toml:2:6: not UTF-8 text: save the file as UTF-8"),
        ],
    )
    def test_the_place_is_named(self, content: bytes, error: str) -> None:
        """File, line and column are written so that editors can jump there."""
        Path("sip-agent.toml").write_bytes(content)

        with pytest.raises(SettingsError) as caught:
            load_settings()

        assert error == str(caught.value)

    def test_a_byte_order_mark_does_no_harm(self) -> None:
        """Some editors begin UTF-8 files with a mark."""
        Path("sip-agent.toml").write_bytes(b"\xef\xbb\xbf[sip]\nudp_port = 5070")

        assert load_settings().sip.udp_port == 5070


class TestSafety:
    """An agent that anyone can reach must not take calls from everyone by accident."""

    REFUSAL = (
        'sip.bind = ["0.0.0.0"]: REFUSED: with neither auth.users nor admission.allow, '
        "anyone who reaches this address may call, and scanners find it within minutes: "
        "set passwords in auth.users, or the callers' networks in admission.allow "
        '(["0.0.0.0/0", "::/0"] if you do mean everyone)'
    )

    def test_an_open_agent_is_refused(self) -> None:
        """Without users and allow-list, only loopback may be bound; the error names both ways out."""
        assert errors_of('[sip]\nbind = ["127.0.0.1", "0.0.0.0"]') == [self.REFUSAL]
        with pytest.raises(ValidationError, match="REFUSED"):
            Settings(sip=SipSettings(bind=("192.0.2.1",)))

    def test_users_make_it_safe(self) -> None:
        """Callers who must know a password may come from anywhere."""
        settings = Settings(sip=SipSettings(bind=("::",)), auth=AuthSettings(users={"a": SecretStr("b")}))

        assert settings.sip.bind == ("::",)

    def test_everyone_can_be_meant(self) -> None:
        """An allow-list of everyone says that it is no accident."""
        settings = Settings(sip=SipSettings(bind=("::",)), admission=AdmissionSettings(allow=("0.0.0.0/0", "::/0")))

        assert settings.admission.allow == ("0.0.0.0/0", "::/0")


class TestSecrets:
    """Secrets come from the environment or from files, and are never shown."""

    def test_files_hold_secrets(self) -> None:
        """A `*_file` setting is read when the settings are."""
        Path("key").write_text(" abc\n")
        Path("users").write_text("# testers\n\ncekura:a:b\n anna : 2 \n")

        settings = load('[cekura]\napi_key_file = "key"\n[auth]\nusers_file = "users"')

        assert settings.cekura.api_key.get_secret_value() == "abc"
        assert settings.auth.users == {"cekura": SecretStr("a:b"), "anna": SecretStr("2")}
        assert settings.source_of("cekura.api_key") is SettingSource.FILE

    def test_secrets_are_not_shown(self) -> None:
        """Printing settings does not print a secret."""
        settings = load('[cekura]\napi_key = "abc123"\n[auth]\nusers = { a = "abc123" }')

        assert "abc123" not in f"{settings!r} {settings} {settings.model_dump()}"

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            (None, "does not exist: create it, or correct the path"),
            (b" \n", "is empty: write the secret into it"),
            (b"\xff", "is not UTF-8 text: write the secret as plain text"),
        ],
    )
    def test_a_file_without_a_secret_is_an_error(self, content: bytes | None, error: str, tmp_path: Path) -> None:
        """The error names the setting, the file and what is wrong with it."""
        if content is not None:
            Path("token").write_bytes(content)

        assert errors_of('[api]\ntoken_file = "token"') == [
            f"api.token_file: {tmp_path / 'token'} {error} (in sip-agent.toml)"
        ]

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            ("# nobody", " names no user: write lines of user:password"),
            ("anna", ", line 1: write user:password"),
            ("a:1\na:2", ", line 2: user a stands here twice"),
        ],
    )
    def test_a_users_file_is_checked(self, content: str, error: str, tmp_path: Path) -> None:
        """A wrong line is named by its number; its text, which may hold a password, is not shown."""
        Path("users").write_text(content)

        assert errors_of('[auth]\nusers_file = "users"') == [
            f"auth.users_file: {tmp_path / 'users'}{error} (in sip-agent.toml)"
        ]

    def test_one_of_the_two_ways_is_enough(self) -> None:
        """A secret that stands in the settings and in a file is a contradiction."""
        Path("token").write_text("a")

        assert errors_of('[api]\ntoken = "b"\ntoken_file = "token"') == [
            "api.token = (hidden): token_file is set too: keep one of the two (in sip-agent.toml)"
        ]

    def test_a_variable_replaces_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A secret from the environment goes before a secret file that the settings file names."""
        monkeypatch.setenv("SIP_AGENT_API__TOKEN", "fresh")

        assert load('[api]\ntoken_file = "gone"').api.token.get_secret_value() == "fresh"

    @pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, False)])
    def test_secrets_that_everyone_can_read_are_warned_of(self, mode: int, *, warned: bool, tmp_path: Path) -> None:
        """A secret file that every user of the machine can read draws a warning."""
        Path("token").write_text("a")
        Path("token").chmod(mode)
        path = tmp_path / "token"

        warnings = load('[api]\ntoken_file = "token"').warnings

        assert (f"{path} holds a secret and is readable by every user: chmod 600 {path}" in warnings) is warned


class TestWarnings:
    """Settings that are allowed, and probably not meant."""

    @pytest.mark.parametrize(
        ("text", "warning"),
        [
            (
                "[media]\nrtp_ports = [20000, 20099]",
                (
                    "media.rtp_ports holds 100 ports; 100 calls (admission.max_calls) want 400: "
                    "widen the range, or lower max_calls"
                ),
            ),
            (
                '[sip]\npublic_address = "sip.example.com"',
                (
                    'sip.public_address = "sip.example.com" is a name, and SDP wants an IP address: '
                    "set media.public_address"
                ),
            ),
            (
                '[media]\nsrtp = "mandatory"',
                (
                    'media.srtp = "mandatory" without TLS: the keys travel in clear in SDP: '
                    "set sip.tls_port and [sip.tls]"
                ),
            ),
            (
                '[api]\nbind = "0.0.0.0:8080"',
                ('api.bind = "0.0.0.0:8080" without a token: anyone there hears every call: set api.token_file'),
            ),
        ],
    )
    def test_doubts_are_told(self, text: str, warning: str) -> None:
        """What is odd is told with a remedy, and does not keep the agent from running."""
        assert load(text).warnings == (warning,)

    def test_the_defaults_raise_no_doubts(self) -> None:
        """The defaults do not warn of themselves."""
        assert load_settings().warnings == ()


class TestDurations:
    """Durations, as people write them."""

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("30m", 1800),
            ("10s", 10),
            ("500ms", 0.5),
            ("1h30m", 5400),
            ("1.5s", 1.5),
            (20, 20),
            ("20", 20),
            (0, 0),
        ],
    )
    def test_reads(self, value: object, seconds: float) -> None:
        """Units may be combined, and a bare number is seconds."""
        assert parse_duration(value) == timedelta(seconds=seconds)

    @pytest.mark.parametrize("value", ["", "m", "5 apples", "-3s", -1, True, None, "nan", "inf", "1e300", "999999h"])
    def test_refuses(self, value: object) -> None:
        """What is no duration, or not one a call could last, is refused."""
        with pytest.raises(ValueError, match="write a duration like"):
            parse_duration(value)

    @pytest.mark.parametrize("text", ["1d", "1h30m", "500ms", "1s500ms", "0s"])
    def test_round_trip(self, text: str) -> None:
        """What is written can be read."""
        assert format_duration(parse_duration(text)) == text


class TestDescriptions:
    """Every setting is described, for the documentation."""

    def test_every_setting_has_a_reason(self) -> None:
        """Each setting has one line that says what it is for."""
        assert [item.key for item in describe_settings() if not item.description.strip()] == []
        assert [item.key for item in describe_settings() if "\n" in item.description] == []

    def test_every_section_is_described(self) -> None:
        """Each section of the settings has described settings."""
        sections = {item.key.partition(".")[0].removesuffix("[]") for item in describe_settings()}

        assert sections == set(Settings.model_fields)

    def test_defaults_are_written_as_in_the_file(self) -> None:
        """A default can be copied into the settings file."""
        for item in describe_settings():
            if item.default:
                tomllib.loads(f"x = {item.default}")

    def test_names_of_variables_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The variables that are named for settings are known, and set them."""
        examples = {"integer", "number", "boolean", "duration", "list of integer"}
        for item in describe_settings():
            plain = "[]" not in item.key and "NAME" not in item.key
            if plain and item.type in examples:
                monkeypatch.setenv(item.environment, item.default.strip('"'))
        monkeypatch.setenv("SIP_AGENT_ADMISSION__MAX_CALLS", "7")
        monkeypatch.setenv("SIP_AGENT_MEDIA__RTP_TIMEOUT", "7s")

        settings = load_settings()

        assert settings.admission.max_calls == 7
        assert settings.media.rtp_timeout == timedelta(seconds=7)

    def test_one_in_full(self) -> None:
        """A description has key, type, default, reason and variable."""
        described = {item.key: item for item in describe_settings()}

        port = described["sip.udp_port"]
        assert (port.type, port.default, port.environment) == ("integer", "5060", "SIP_AGENT_SIP__UDP_PORT")
        assert described["accounts[].name"].environment == "SIP_AGENT_ACCOUNTS__0__NAME"
        assert described["media.srtp"].type == "off | optional | mandatory"
        assert json.loads(described["media.codecs"].default) == ["PCMU", "PCMA", "G722", "opus"]
