"""`sip-agent doctor`: what on this machine would keep the agent from working, and how to mend it."""

import asyncio
import os
import resource
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from sip_agent.cli.certificate import certificate_expiry
from sip_agent.cli.config import ConfigOption
from sip_agent.cli.folders import nearest_folder, why_unwritable
from sip_agent.cli.output import ExitStatus, JsonOption, console, print_json
from sip_agent.errors import SettingsError

if TYPE_CHECKING:
    from sip_agent.config import Settings
    from sip_agent.ua.engine import EngineInfo

SUPPORTED_PYTHON = ((3, 11), (3, 13))
FILES_OF_THE_PROCESS = 13
FILES_PER_CALL = 4
"""RTP and RTCP sockets, and what recording and the store need."""
LITTLE_DISK_SPACE = 1 << 30
CERTIFICATE_RENEWAL = timedelta(days=21)
DOCKER_BRIDGE = IPv4Network("172.17.0.0/16")


class CheckStatus(StrEnum):
    """How a check went; `warning` lets the agent run, but not as well as it could."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


_MARKS = {CheckStatus.OK: "[green]✓[/]", CheckStatus.WARNING: "[yellow]![/]", CheckStatus.FAILED: "[red]✗[/]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, what was found, and what to do about it."""

    name: str
    status: CheckStatus
    found: str
    fix: str = ""


def doctor(
    config: ConfigOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Look for what would keep the agent from working here; exit status 1 if there is something.

    Example: sip-agent doctor --config sip-agent.toml
    """
    checks = list(examine(config))
    failed = any(check.status is CheckStatus.FAILED for check in checks)
    if json:
        print_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            console.print(f"{_MARKS[check.status]} {check.name:<15}{escape(check.found)}", soft_wrap=True)
            if check.fix:
                console.print(f"  {'':<15}→ {escape(check.fix)}", soft_wrap=True)
    raise typer.Exit(ExitStatus.TESTED_THING_FAILED if failed else ExitStatus.DONE)


def examine(config: Path | None) -> Iterator[Check]:
    """Carry out every check, in the order in which things are needed."""
    from sip_agent.config import Settings, load_settings

    yield from check_python()
    yield from check_clock()
    try:
        settings = load_settings(config)
    except SettingsError as error:
        for line in str(error).splitlines():
            yield _failed("settings", line, "correct it; what follows was checked with the defaults")
        settings = Settings()
    else:
        yield _ok("settings", str(settings.file or "defaults (there is no settings file)"))
        for warning in settings.warnings:
            yield _warning("settings", warning)
    for check in _CHECKS:
        yield from check(settings)


def _ok(name: str, found: str) -> Check:
    return Check(name=name, status=CheckStatus.OK, found=found)


def _warning(name: str, found: str, fix: str = "") -> Check:
    return Check(name=name, status=CheckStatus.WARNING, found=found, fix=fix)


def _failed(name: str, found: str, fix: str) -> Check:
    return Check(name=name, status=CheckStatus.FAILED, found=found, fix=fix)


def check_python() -> Iterator[Check]:
    """Look whether the SIP engines exist for this Python."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    oldest, newest = SUPPORTED_PYTHON
    if oldest <= sys.version_info[:2] <= newest:
        yield _ok("python", found)
    else:
        yield _failed("python", found, f"use Python 3.{oldest[1]} to 3.{newest[1]}")


def check_clock() -> Iterator[Check]:
    """Look whether the clock is later than this installation: it decides on nonces and dates the records."""
    now = datetime.now(UTC)
    installed_at = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    found = f"{now:%Y-%m-%d %H:%M} UTC"
    if now < installed_at - timedelta(days=1):
        yield _failed("clock", f"{found} is before the agent was installed", "set the clock, by NTP for good")
    else:
        yield _ok("clock", found)


def check_engine(settings: "Settings") -> Iterator[Check]:
    """Look which build of pjsua2 there is, and whether it carries what the settings ask for."""
    try:
        from sip_agent.ua.engine import describe_engine

        engine = describe_engine(settings.media.engine)
    except (ImportError, SettingsError) as error:
        yield _failed("engine", str(error), "run `make setup`, which installs or builds an engine")
    else:
        yield from judge_engine(engine, settings)


def judge_engine(engine: "EngineInfo", settings: "Settings") -> Iterator[Check]:
    """Compare what an engine can do with what the settings ask for."""
    found = f"{engine.name}, pjsip {engine.version}, {engine.max_calls} calls, {engine.tls}"
    if engine.limits:
        yield _warning("engine", f"{found}: {'; '.join(engine.limits)}", "build the native engine: `make setup`")
    else:
        yield _ok("engine", found)
    if settings.admission.max_calls > engine.max_calls:
        yield _warning(
            "engine",
            f"admission.max_calls is {settings.admission.max_calls}, the engine carries {engine.max_calls}",
            f"set admission.max_calls = {engine.max_calls}, or use the native engine",
        )
    missing = [codec for codec in settings.media.codecs if codec not in engine.codecs]
    if missing:
        yield _warning("engine", f"no {', '.join(missing)} in this engine", "take it out of media.codecs")


def check_ports(settings: "Settings") -> Iterator[Check]:
    """Try to bind every port the agent will listen on."""
    sip, api = settings.sip, settings.api
    wanted = [("sip.udp_port", socket.SOCK_DGRAM, address, sip.udp_port) for address in sip.bind if sip.udp_port]
    wanted += [("sip.tcp_port", socket.SOCK_STREAM, address, sip.tcp_port) for address in sip.bind if sip.tcp_port]
    wanted += [("sip.tls_port", socket.SOCK_STREAM, address, sip.tls_port) for address in sip.bind if sip.tls_port]
    if api.bind and api.port:
        wanted.append(("api.bind", socket.SOCK_STREAM, api.host, api.port))
    problems = [check for item in wanted if (check := _try_port(*item))]
    yield from problems
    if not problems:
        yield _ok("ports", ", ".join(dict.fromkeys(f"{key} {port}" for key, _, _, port in wanted)) + ": free")


def _try_port(key: str, kind: socket.SocketKind, address: str, port: int) -> Check | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    protocol = "UDP" if kind is socket.SOCK_DGRAM else "TCP"
    try:
        with socket.socket(family, kind) as probe:
            if kind is socket.SOCK_STREAM:  # connections that linger after a restart are no obstacle
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
    except OSError as error:
        fixes = {
            EADDRINUSE: f"stop what listens there (see `ss -lnp sport = :{port}`), or change {key}",
            EADDRNOTAVAIL: f"{address} is no address of this machine: see `ip address`",
            EACCES: f"ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or change {key}",
        }
        reason = (error.strerror or str(error)).lower()
        return _failed("ports", f"{key}: {protocol} {address} port {port}: {reason}", fixes.get(error.errno or 0, ""))
    return None


def check_rtp_ports(settings: "Settings") -> Iterator[Check]:
    """Look whether the RTP range has room for all calls; the shortage itself is a warning of the settings."""
    from sip_agent.config import RTP_PORTS_PER_CALL

    first, last = settings.media.rtp_ports
    count, calls = last - first + 1, settings.admission.max_calls
    found = f"{first}-{last}: {count} ports for {calls} calls"
    if count < 2 * calls:
        fix = f"widen media.rtp_ports to {RTP_PORTS_PER_CALL * calls} ports, or lower admission.max_calls"
        yield _failed("rtp", f"{found}; each call takes 2", fix)
    else:
        yield _ok("rtp", found)


def check_open_files(settings: "Settings") -> Iterator[Check]:
    """Compare the limit of open files with what all calls together need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_OF_THE_PROCESS + FILES_PER_CALL * settings.admission.max_calls
    found = f"{soft} allowed, {needed} needed for {settings.admission.max_calls} calls"
    if soft == resource.RLIM_INFINITY or soft >= needed:
        yield _ok("open files", found)
    elif hard == resource.RLIM_INFINITY or hard >= needed:
        yield _failed("open files", found, f"ulimit -n {needed}; systemd: LimitNOFILE={needed}")
    else:
        yield _failed(
            "open files", found, f"raise the hard limit: docker run --ulimit nofile={needed}, or LimitNOFILE="
        )


def check_public_address(settings: "Settings") -> Iterator[Check]:
    """Say which address callers are told to send audio to, and whether that can work."""
    told = settings.media.public_address or settings.sip.public_address
    if told:
        yield _ok("address", f"SDP shows {told}")
        return
    bound = [ip_address(address) for address in settings.sip.bind]
    if all(address.is_loopback for address in bound):
        yield _ok("address", "loopback: only this machine can call")
        return
    shown = next((str(address) for address in bound if not address.is_unspecified), None) or _outgoing_address()
    if shown is None:
        yield _failed("address", "there is no network to take calls from", "connect one, or set sip.bind to 127.0.0.1")
    elif in_container() and ip_address(shown) in DOCKER_BRIDGE:
        yield _failed(
            "address",
            f"SDP shows {shown}, an address inside the Docker bridge: callers hear nothing",
            "run with --network host, or set sip.public_address and publish the SIP ports and all RTP ports",
        )
    elif ip_address(shown).is_private:
        yield _warning(
            "address",
            f"SDP shows {shown}, a private address: callers outside that network hear nothing",
            "set sip.public_address to the address they reach, unless all callers are inside",
        )
    else:
        yield _ok("address", f"SDP shows {shown}")


def _outgoing_address() -> str | None:
    """Return the address that packets leave from; a UDP socket finds out without sending any."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def in_container() -> bool:
    """Say whether this process runs in a Docker or Podman container."""
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()


def check_store(settings: "Settings") -> Iterator[Check]:
    """Open the database of the call records, without changing it."""
    from sip_agent.store import pending_migrations
    from sip_agent.store.database import Location

    try:
        location = Location.of(settings.store.url, settings.base_dir)
        pending = pending_migrations(settings.store.url, base_dir=settings.base_dir)
    except SettingsError as error:
        yield _failed("store", str(error), "correct store.url")
        return
    if location.path is not None and (problem := _why_no_database(location.path)):
        yield _failed("store", problem, "set store.url to a file that this user can write, in a folder that is there")
    elif pending:
        yield _ok("store", f"{location}; to be brought up to date ({', '.join(pending)}) when the agent starts")
    else:
        yield _ok("store", str(location))


def _why_no_database(file: Path) -> str:
    if not file.parent.is_dir():
        return f"there is no folder {file.parent}"
    if file.exists() and not os.access(file, os.W_OK):
        return f"{file} is not writable"
    return why_unwritable(file.parent)


def check_recordings(settings: "Settings") -> Iterator[Check]:
    """Look whether recordings can be written, and for how long."""
    media = settings.media
    if not media.record:
        yield _ok("recordings", "off")
        return
    if problem := why_unwritable(media.recordings_dir):
        fix = "set media.recordings_dir to a folder that this user can create or write to, or media.record = false"
        yield _failed("recordings", problem, fix)
        return
    free = shutil.disk_usage(nearest_folder(media.recordings_dir)).free
    hours = free / (media.sample_rate_hz * 4 * 3600)  # stereo, 16 bits
    found = f"{media.recordings_dir}: {free / (1 << 30):.1f} GiB free, {hours:,.0f} hours of calls"
    if free < LITTLE_DISK_SPACE:
        yield _warning("recordings", found, "make room, or set media.record = false")
    else:
        yield _ok("recordings", found)


def check_speech(settings: "Settings") -> Iterator[Check]:
    """Build what speaks and what recognises speech, and have a word said."""
    from sip_agent.errors import SpeechError

    try:
        delay_ms = asyncio.run(_say_hello(settings))
    except SettingsError as error:
        yield _failed("speech", str(error), "correct it: the agent does not start with it")
    except SpeechError as error:
        yield _warning("speech", str(error), "until it works, calls in which something is said fail")
    else:
        speech = settings.speech
        recognizer = f"recognised by {speech.recognizer}" if speech.recognizer else "not recognised"
        yield _ok("speech", f"made by {speech.synthesizer}, begins after {delay_ms} ms; {recognizer}")


async def _say_hello(settings: "Settings") -> int:
    """Return how many milliseconds it takes until something is heard."""
    from sip_agent.speech import Speech

    speech = Speech.from_settings(settings.speech.model_copy(update={"cache_mb": 0}), settings.base_dir)
    started_at = time.monotonic()
    try:
        async with aclosing(speech.synthesize("Hello.", sample_rate_hz=settings.media.sample_rate_hz)) as sound:
            await anext(sound)
    finally:
        await speech.close()
    return round((time.monotonic() - started_at) * 1000)


def check_tls(settings: "Settings") -> Iterator[Check]:
    """Load the certificate with its key, and look when it expires."""
    if not settings.sip.tls_port:
        yield _ok("tls", "off")
        return
    tls = settings.sip.tls
    try:
        # An encrypted key is not asked for its pass phrase at a prompt: the agent cannot answer one either.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.private_key, password="")
        expires_at = certificate_expiry(tls.certificate.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        fix = "set sip.tls.certificate and sip.tls.private_key to a certificate and its unencrypted key, as PEM"
        yield _failed("tls", f"{tls.certificate}, {tls.private_key}: {error}", fix)
        return
    yield judge_expiry(tls.certificate, expires_at, datetime.now(UTC))


def judge_expiry(certificate: Path, expires_at: datetime, now: datetime) -> Check:
    """Say whether a certificate is good, and for long enough."""
    if expires_at <= now:
        return _failed("tls", f"{certificate}: expired on {expires_at:%Y-%m-%d}", "renew it")
    found = f"{certificate}: good until {expires_at:%Y-%m-%d}"
    if expires_at - now < CERTIFICATE_RENEWAL:
        return _warning("tls", found, "renew it, and start the agent again")
    return _ok("tls", found)


_CHECKS: tuple[Callable[["Settings"], Iterator[Check]], ...] = (
    check_engine,
    check_ports,
    check_rtp_ports,
    check_open_files,
    check_public_address,
    check_tls,
    check_store,
    check_recordings,
    check_speech,
)
