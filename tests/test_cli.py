"""The command line as a whole, `sip-agent doctor` and `sip-agent firewall`."""

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from pydantic import SecretStr
from typer.testing import CliRunner, Result

import sip_agent.cli
from sip_agent.cli import app, main
from sip_agent.cli.certificate import certificate_expiry
from sip_agent.cli.doctor import (
    Check,
    CheckStatus,
    check_open_files,
    check_ports,
    check_public_address,
    check_recordings,
    check_rtp_ports,
    check_speech,
    check_store,
    check_tls,
    judge_engine,
    judge_expiry,
)
from sip_agent.cli.firewall import opening
from sip_agent.config import (
    AdmissionSettings,
    ApiSettings,
    AuthSettings,
    MediaSettings,
    Settings,
    SipSettings,
    SipTlsSettings,
    SpeechSettings,
    StoreSettings,
)
from sip_agent.errors import SettingsError, SipAgentError, UserAgentError
from sip_agent.ua.engine import EngineInfo, EngineName
from tests.ports import free_port

pytestmark = pytest.mark.usefixtures("own_environment")


def run(*arguments: str) -> Result:
    """Run `sip-agent` with these arguments in this process; errors are raised."""
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `sip-agent` with these arguments as a process of its own."""
    command = [sys.executable, "-m", "sip_agent", *arguments]
    path = {"PYTHONPATH": str(Path(sip_agent.cli.__file__).parents[2])}
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **path}, check=False)


def exit_status(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the exit status of `main` for a command that raises this error."""
    failing = typer.Typer(pretty_exceptions_enable=False)

    @failing.command()
    def command() -> None:
        raise error

    monkeypatch.setattr(sip_agent.cli, "app", failing)
    monkeypatch.setattr(sys, "argv", ["sip-agent"])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


class TestMain:
    """Exit statuses, and what is said about errors."""

    @pytest.mark.parametrize(
        ("error", "status", "said"),
        [
            (SettingsError("a: wrong\nb: wrong"), 2, "error: a: wrong\nerror: b: wrong\n"),
            (SipAgentError("broken"), 3, "error: broken\n"),
            (UserAgentError("answer", "no"), 3, "error: answer: no\n"),
            (RuntimeError("two\nlines"), 3, "error: RuntimeError: two lines (SIP_AGENT_DEBUG=1 shows where)\n"),
            (ValueError(), 3, "error: ValueError (SIP_AGENT_DEBUG=1 shows where)\n"),
            (KeyboardInterrupt(), 130, ""),
            (typer.Exit(1), 1, ""),
        ],
    )
    def test_exit_statuses(
        self,
        error: BaseException,
        status: int,
        said: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """2 is wrong use or settings, 3 is something broken, 130 is Ctrl-C; each with a line for each error."""
        assert status == exit_status(error, monkeypatch)
        assert said == capsys.readouterr().err

    def test_debugging_shows_the_traceback(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """SIP_AGENT_DEBUG=1 shows where an unexpected error came from."""
        monkeypatch.setenv("SIP_AGENT_DEBUG", "1")

        status = exit_status(RuntimeError("x"), monkeypatch)

        assert status == 3
        assert capsys.readouterr().err.startswith("Traceback")

    def test_wrong_use_is_told(self) -> None:
        """An unknown command ends with status 2, with the nearest one."""
        done = start("docto")

        assert done.returncode == 2
        assert "doctor" in done.stderr

    def test_wrong_settings_are_told(self) -> None:
        """A wrong setting ends with status 2 and a line on standard error."""
        Path("sip-agent.toml").write_text("[sip]\nudp_port = -1")

        done = start("config", "check")

        assert done.returncode == 2
        assert done.stderr == "error: sip.udp_port = -1: write a number from 0 on (in sip-agent.toml)\n"
        assert done.stdout == ""

    def test_help_is_quick(self) -> None:
        """Help imports neither the SIP stack, nor the database, nor numpy."""
        code = (
            "import sys, sip_agent.cli;"
            "print([name for name in ('pjsua2', 'pjsua2_native', 'sqlalchemy', 'numpy') if name in sys.modules])"
        )
        path = {"PYTHONPATH": str(Path(sip_agent.cli.__file__).parents[2])}
        modules = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **path}, check=True
        )

        assert modules.stdout == "[]\n"

    def test_the_version_is_shown(self) -> None:
        """`--version` names the program and its version."""
        assert run("--version").stdout.startswith("sip-agent ")

    def test_every_command_has_help(self) -> None:
        """Every command says what it does, with an example."""
        command = typer.main.get_command(app)
        names = [[name] for name in command.commands]  # type: ignore[attr-defined]
        for words in names:
            text = run(*words, "--help").stdout
            assert "Example:" in text or "Commands" in text


def statuses(checks: Iterator[Check]) -> list[CheckStatus]:
    """Return how the checks went."""
    return [check.status for check in checks]


class TestDoctor:
    """What the doctor finds on this machine."""

    def test_all_is_looked_at(self) -> None:
        """Every part has its check, and the exit status says whether one failed."""
        port = free_port(socket.SOCK_DGRAM)
        Path("sip-agent.toml").write_text(
            f"[sip]\nudp_port = {port}\ntcp_port = 0\n[admission]\nmax_calls = 2\n[api]\nbind = ''"
        )

        done = start("doctor", "--json")

        document = json.loads(done.stdout)
        names = {check["name"] for check in document["checks"]}
        assert names == {
            "python", "clock", "settings", "engine", "ports", "rtp", "open files", "address", "tls", "store",
            "recordings", "speech",
        }  # fmt: skip
        assert done.returncode == (0 if document["ok"] else 1)

    def test_people_get_marks_and_remedies(self) -> None:
        """Each check is a line with a mark; what is wrong is followed by the way out."""
        Path("sip-agent.toml").write_text("[sip]\nudp_port = -1\n")

        done = start("doctor")

        assert done.returncode == 1
        assert "✓ python" in done.stdout
        assert "✗ settings       sip.udp_port = -1: write a number from 0 on (in sip-agent.toml)" in done.stdout
        assert "→ correct it" in done.stdout

    def test_the_engine_must_carry_the_settings(self) -> None:
        """An engine with too few calls and codecs draws warnings that say what to change."""
        engine = EngineInfo(
            name=EngineName.LIGHT, version="2.15", max_calls=4, codecs=("PCMU",), tls="-", limits=("small",)
        )
        settings = Settings(media=MediaSettings(codecs=("PCMU", "opus")))

        checks = list(judge_engine(engine, settings))

        assert [check.found for check in checks] == [
            "light, pjsip 2.15, 4 calls, -: small",
            "admission.max_calls is 100, the engine carries 4",
            "no opus in this engine",
        ]
        assert {check.status for check in checks} == {CheckStatus.WARNING}

    @pytest.mark.parametrize(("kind", "key"), [(socket.SOCK_DGRAM, "udp"), (socket.SOCK_STREAM, "tcp")])
    def test_a_busy_port_is_named(self, kind: socket.SocketKind, key: str) -> None:
        """A port that somebody else has is named, with its transport and its setting."""
        with socket.socket(socket.AF_INET, kind) as other:
            other.bind(("127.0.0.1", 0))
            if kind is socket.SOCK_STREAM:
                other.listen()
            port = other.getsockname()[1]
            ports = {"udp_port": 0, "tcp_port": 0, "tls_port": free_port(socket.SOCK_STREAM), f"{key}_port": port}
            settings = Settings(
                sip=SipSettings(**ports),
                media=MediaSettings(rtp_ports=(2, 3)),
                api=ApiSettings(bind=""),
            )

            (check,) = check_ports(settings)

        assert check.status is CheckStatus.FAILED
        assert check.found == f"sip.{key}_port: {key.upper()} 127.0.0.1 port {port}: address already in use"
        assert f"change sip.{key}_port" in check.fix

    def test_an_address_of_another_machine_is_named(self) -> None:
        """An address that this machine does not have cannot be bound."""
        settings = Settings(sip=SipSettings(bind=("192.0.2.1",)), admission=AdmissionSettings(allow=("10.0.0.0/8",)))

        checks = list(check_ports(settings))

        assert "192.0.2.1 is no address of this machine: see `ip address`" in [check.fix for check in checks]

    def test_free_ports_are_right(self) -> None:
        """Free ports are listed."""
        port = free_port(socket.SOCK_STREAM)
        settings = Settings(
            sip=SipSettings(udp_port=port, tcp_port=port),
            media=MediaSettings(rtp_ports=(2, 3)),
            api=ApiSettings(bind=""),
        )

        assert [check.found for check in check_ports(settings)] == [f"sip.udp_port {port}, sip.tcp_port {port}: free"]

    def test_the_rtp_range_must_hold_all_calls(self) -> None:
        """Each call takes two ports of the range."""
        media = MediaSettings(rtp_ports=(20000, 20198))

        assert statuses(check_rtp_ports(Settings(media=media))) == [CheckStatus.FAILED]
        assert statuses(check_rtp_ports(Settings())) == [CheckStatus.OK]

    def test_open_files_must_suffice(self) -> None:
        """The limit of open files must hold all calls."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        many = Settings(admission=AdmissionSettings(max_calls=soft))
        few = Settings(admission=AdmissionSettings(max_calls=1))

        assert statuses(check_open_files(many)) == [CheckStatus.FAILED]
        assert statuses(check_open_files(few)) == [CheckStatus.OK]

    @pytest.mark.parametrize(
        ("sip", "status", "found"),
        [
            (SipSettings(), CheckStatus.OK, "loopback: only this machine can call"),
            (
                SipSettings(bind=("10.1.2.3",)),
                CheckStatus.WARNING,
                "SDP shows 10.1.2.3, a private address: callers outside that network hear nothing",
            ),
            (SipSettings(bind=("8.8.8.8",)), CheckStatus.OK, "SDP shows 8.8.8.8"),
            (SipSettings(bind=("::",), public_address="8.8.4.4"), CheckStatus.OK, "SDP shows 8.8.4.4"),
        ],
    )
    def test_the_address_in_sdp_is_told(self, sip: SipSettings, status: CheckStatus, found: str) -> None:
        """What SDP will show is told, and doubted if callers elsewhere cannot reach it."""
        (check,) = check_public_address(Settings(sip=sip, admission=AdmissionSettings(allow=("10.0.0.0/8",))))

        assert (check.status, check.found) == (status, found)

    def test_the_store_is_opened(self, tmp_path: Path) -> None:
        """A database that is yet to be made is right; a file that is none is not."""
        (tmp_path / "other").write_text("not a database" * 100)

        assert statuses(check_store(Settings())) == [CheckStatus.OK]
        assert statuses(check_store(Settings(store=StoreSettings(url="sqlite:///other")))) == [CheckStatus.FAILED]

    def test_recordings_have_room(self, tmp_path: Path) -> None:
        """The folder need not exist yet; the free space is told in hours."""
        settings = Settings(media=MediaSettings(recordings_dir=tmp_path / "a" / "b"))

        (check,) = check_recordings(settings)

        assert str(tmp_path / "a" / "b") in check.found
        assert "hours of calls" in check.found
        assert [check.found for check in check_recordings(Settings(media=MediaSettings(record=False)))] == ["off"]

    @pytest.mark.parametrize("folder", ["/proc/x", "/proc/1/x/y", "file", "file/x"])
    def test_recordings_that_cannot_be_written(self, folder: str) -> None:
        """A folder that cannot be created, not even by the administrator, fails with the setting to change."""
        Path("file").write_text("no folder")

        (check,) = check_recordings(Settings(media=MediaSettings(recordings_dir=Path(folder))))

        assert check.status is CheckStatus.FAILED
        assert f"cannot create or write to the folder {folder}: " in check.found
        assert check.fix.startswith("set media.recordings_dir to a folder that this user can create or write to")

    @pytest.mark.parametrize(
        ("file", "found"),
        [("/proc/x.db", "cannot create or write to the folder /proc: "), ("none/x.db", "there is no folder ")],
    )
    def test_a_store_that_cannot_be_made(self, file: str, found: str) -> None:
        """A database that is yet to be made needs a folder for it, that can be written."""
        (check,) = check_store(Settings(store=StoreSettings(url=f"sqlite:///{file}")))

        assert check.status is CheckStatus.FAILED
        assert found in check.found
        assert "set store.url" in check.fix

    def test_something_is_said(self, tmp_path: Path) -> None:
        """What speaks is asked for a word, and leaves nothing behind."""
        (check,) = check_speech(Settings(speech=SpeechSettings(cache_dir=tmp_path / "cache")))

        assert check.status is CheckStatus.OK
        assert "made by espeak, begins after " in check.found
        assert "not recognised" in check.found
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize(
        ("values", "status", "found"),
        [
            ({"voice": "nope"}, CheckStatus.FAILED, 'speech.voice = "nope"'),
            ({"recognizer": "nope"}, CheckStatus.FAILED, 'speech.recognizer = "nope"'),
            (
                {"synthesizer": "openai", "openai": {"base_url": "http://127.0.0.1:1"}},
                CheckStatus.WARNING,
                "is speech.openai.base_url right, and the server up?",
            ),
        ],
    )
    def test_what_cannot_speak(self, values: dict[str, object], status: CheckStatus, found: str) -> None:
        """What keeps the agent from starting fails; a server that is away is a warning."""
        (check,) = check_speech(Settings(speech=SpeechSettings.model_validate(values)))

        assert check.status is status
        assert found in check.found

    def test_tls_files_are_loaded(self, tmp_path: Path) -> None:
        """Certificate and key are loaded together, and the date of expiry is read."""
        certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "60",
             "-keyout", key, "-out", certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        tls = SipTlsSettings(certificate=certificate, private_key=key)
        settings = Settings(sip=SipSettings(tls_port=5061, tls=tls))
        missing = Settings(sip=SipSettings(tls_port=5061))

        expires_at = certificate_expiry(certificate.read_text())

        assert statuses(check_tls(settings)) == [CheckStatus.OK]
        assert abs(expires_at - datetime.now(UTC) - timedelta(days=60)) < timedelta(hours=1)
        assert statuses(check_tls(missing)) == [CheckStatus.FAILED]
        assert [check.found for check in check_tls(Settings())] == ["off"]

    @pytest.mark.parametrize(
        ("days", "status"), [(-1, CheckStatus.FAILED), (5, CheckStatus.WARNING), (60, CheckStatus.OK)]
    )
    def test_certificates_expire(self, days: int, status: CheckStatus) -> None:
        """A certificate that is about to expire draws a warning in time."""
        now = datetime(2026, 1, 1, tzinfo=UTC)

        assert judge_expiry(Path("c.pem"), now + timedelta(days=days), now).status is status


SETTINGS_FILES = {
    "presets and blocks": (
        '[sip]\ntls_port = 5061\n[admission]\nallow = ["cekura", "10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"]'
    ),
    "IPv4 only": '[admission]\nallow = ["cekura"]',
    "IPv6 only": '[admission]\nallow = ["2001:db8::1"]',
    "everyone": "",
    "UDP only": "[sip]\ntcp_port = 0",
}


class TestFirewall:
    """Rules for firewalls."""

    @pytest.mark.parametrize("text", SETTINGS_FILES.values(), ids=SETTINGS_FILES)
    def test_nft_takes_the_table(self, text: str) -> None:
        """The output is right for nft, which checks it without loading it."""
        Path("sip-agent.toml").write_text(text)
        rules = run("firewall", "nftables").stdout
        # Checking talks to the kernel: without root, in a network namespace of its own.
        prefix = [] if os.geteuid() == 0 else ["unshare", "-rn"]

        checked = subprocess.run(
            [*prefix, "nft", "-c", "-f", "-"], input=rules, text=True, capture_output=True, check=False
        )

        assert checked.stderr == ""
        assert checked.returncode == 0

    @pytest.mark.parametrize("text", SETTINGS_FILES.values(), ids=SETTINGS_FILES)
    @pytest.mark.parametrize("kind", ["iptables", "ufw"])
    def test_the_shell_takes_the_commands(self, kind: str, text: str) -> None:
        """The output of the others is a shell script."""
        Path("sip-agent.toml").write_text(text)
        rules = run("firewall", kind).stdout

        checked = subprocess.run(["sh", "-n"], input=rules, text=True, capture_output=True, check=False)

        assert checked.stderr == ""

    def test_nftables(self) -> None:
        """Only the SIP ports and the RTP range are touched, and only the allow-list comes in."""
        Path("sip-agent.toml").write_text(SETTINGS_FILES["presets and blocks"])

        lines = [line.strip() for line in run("firewall", "nftables").stdout.splitlines()]

        assert "elements = { 10.0.0.0/8, 32.184.152.201/32 }" in lines
        assert "elements = { 2001:db8::/32 }" in lines
        assert "udp dport { 5060, 20000-29999 } jump callers" in lines
        assert "tcp dport { 5060, 5061 } jump callers" in lines
        assert lines.index("ip saddr @callers_ipv4 accept") < lines.index("counter drop")
        assert "type filter hook input priority filter - 5; policy accept;" in lines

    def test_iptables(self) -> None:
        """A chain of its own, which is filled anew each time, accepts the allow-list and drops the rest."""
        Path("sip-agent.toml").write_text(SETTINGS_FILES["IPv4 only"])

        lines = run("firewall", "iptables").stdout.splitlines()

        accepted = lines.index("iptables -A SIP-AGENT -s 32.184.152.201/32 -j ACCEPT")
        assert accepted < lines.index("iptables -A SIP-AGENT -j DROP")
        assert lines[-1].endswith("ip6tables -I INPUT -p tcp -m multiport --dports 5060 -j SIP-AGENT")

    def test_ufw(self) -> None:
        """One permission for each port and network."""
        Path("sip-agent.toml").write_text(SETTINGS_FILES["IPv4 only"])

        lines = run("firewall", "ufw").stdout.splitlines()

        assert [line for line in lines if not line.startswith("#")] == [
            "ufw allow proto udp from 32.184.152.201/32 to any port 5060 comment sip-agent",
            "ufw allow proto udp from 32.184.152.201/32 to any port 20000:29999 comment sip-agent",
            "ufw allow proto tcp from 32.184.152.201/32 to any port 5060 comment sip-agent",
        ]

    def test_presets_are_dated(self) -> None:
        """A preset is written out, with the day it was checked and the page it came from."""
        settings = Settings(admission=AdmissionSettings(allow=("cekura",)))

        assert (
            'preset "cekura": 32.184.152.201/32, checked on 2026-07-11 at '
            "docs.cekura.ai/documentation/advanced/ip-whitelisting" in opening(settings).notes
        )

    def test_an_open_door_is_told(self) -> None:
        """Without an allow-list everyone is let in, and the rules say so."""
        settings = Settings(sip=SipSettings(bind=("::",)), auth=AuthSettings(users={"a": SecretStr("b")}))

        assert "admission.allow is empty: EVERYONE is let in" in opening(settings).notes
