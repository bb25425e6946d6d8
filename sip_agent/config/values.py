"""What a setting may hold: its words, and the checks that say what to write instead."""

import ipaddress
import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from sip_agent.admission import ALLOW_PRESETS, AddressAllowList
from sip_agent.auth import DigestAlgorithm
from sip_agent.config.durations import format_duration, parse_duration

CODECS = ("PCMU", "PCMA", "G722", "opus")
SAMPLE_RATES_HZ = (8000, 16000, 48000)


class SrtpMode(StrEnum):
    """Whether RTP is encrypted (RFC 3711, keys by RFC 4568)."""

    OFF = "off"
    OPTIONAL = "optional"
    MANDATORY = "mandatory"


class EngineChoice(StrEnum):
    """Which build of pjsua2 carries the calls."""

    AUTO = "auto"
    NATIVE = "native"
    LIGHT = "light"


class OneWay(StrEnum):
    """In which direction no sound gets through."""

    AGENT_UNHEARD = "agent_unheard"
    CALLER_UNHEARD = "caller_unheard"


class WrongCodec(StrEnum):
    """The codecs whose static payload type (RFC 3551 §6) packets may carry wrongly."""

    PCMU = "PCMU"
    GSM = "GSM"
    PCMA = "PCMA"
    G722 = "G722"
    G729 = "G729"


class PacketDirection(StrEnum):
    """Which RTP packets are spoilt."""

    TO_CALLER = "to_caller"
    FROM_CALLER = "from_caller"
    BOTH = "both"


class LogFormat(StrEnum):
    """How log entries are written."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The least severe log entry that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class SettingSource(StrEnum):
    """Where the value of a setting came from."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"


@dataclass(slots=True, kw_only=True)
class Loading:
    """What validation needs to know of the load it is part of."""

    base_dir: Path
    file: Path | None = None
    sources: dict[str, SettingSource] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def _no_bool(advice: str) -> BeforeValidator:
    def check(value: object) -> object:
        if isinstance(value, bool):
            raise ValueError(advice)  # noqa: TRY004
        return value

    return BeforeValidator(check)


def _resolve(path: Path | None, info: ValidationInfo) -> Path | None:
    if path is None or not isinstance(info.context, Loading):
        return path
    return info.context.base_dir / path.expanduser()


def _empty_to_none(value: object) -> object:
    return None if value == "" else value


def _ip_address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value.strip("[]")))
    except ValueError:
        raise ValueError("write an IP address of this machine, like 127.0.0.1, 0.0.0.0 or ::") from None


_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*\.?")


def is_ip_address(value: str) -> bool:
    """Say whether text is an IPv4 or IPv6 address, without brackets and without port."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _host(value: str) -> str:
    if value and not is_ip_address(value) and (value[-1].isdigit() or not _HOST_NAME.fullmatch(value)):
        raise ValueError("write an IP address or a host name, without port, or leave it empty")
    return value


def _public_ip_address(value: str) -> str:
    if value and not is_ip_address(value):
        raise ValueError("write an IP address (SDP carries no host names here), or leave it empty")
    return value


_SIP_URI = re.compile(
    r"sips?:(?:[^\s@<>]+@)?(?:\[[0-9A-Fa-f:.]+\]|[^\s@:;?<>]+)(?::\d{1,5})?(?:[;?][^\s<>]*)?", re.IGNORECASE
)


def sip_uri(value: str) -> str:
    """Return a SIP URI, or nothing, as it is; raises ValueError for anything else."""
    if value and not _SIP_URI.fullmatch(value):
        raise ValueError('write a SIP URI without angle brackets, like "sip:pbx.example.com:5060;transport=tcp"')
    return value


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write an address that starts with https:// or http://")
    return value.rstrip("/")


_Text = TypeVar("_Text", bound=str)


def _one_of(names: tuple[str, ...], value: str) -> str:
    for name in names:
        if name.lower() == value.lower():
            return name
    raise ValueError(f"write one of {', '.join(names)}")


def _codec(value: str) -> str:
    return _one_of(CODECS, value)


def _digest_algorithm(value: object) -> object:
    return _one_of(tuple(DigestAlgorithm), value) if isinstance(value, str) else value


def _allowed(value: str) -> str:
    try:
        AddressAllowList.parse((value,))
    except ValueError:
        example = _network_of_host(value) or "192.0.2.0/24"
        presets = ", ".join(f'"{name}"' for name in ALLOW_PRESETS)
        raise ValueError(f'write a CIDR block like "{example}", an address, or a preset: {presets}') from None
    return value.strip().lower()


def _network_of_host(value: str) -> str:
    """Return the network that a block with host bits was probably meant to be, or nothing."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        return ""


def _distinct(values: tuple[_Text, ...]) -> tuple[_Text, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands here twice: once is enough")
    return values


def _not_empty(values: tuple[_Text, ...]) -> tuple[_Text, ...]:
    if not values:
        raise ValueError("write at least one")
    return values


def _positive(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("write a duration longer than 0")
    return value


def at_most(limit: timedelta) -> AfterValidator:
    """Return what refuses a longer duration."""

    def check(value: timedelta | None) -> timedelta | None:
        if value is not None and value > limit:
            raise ValueError(f"write a duration up to {format_duration(limit)}")
        return value

    return AfterValidator(check)


WholeNumber = Annotated[int, _no_bool("write a whole number")]
Port = Annotated[WholeNumber, Field(ge=0, le=65535)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
StatusOrNone = Annotated[int | None, _no_bool("write a whole number"), BeforeValidator(_empty_to_none)]
Number = Annotated[float, _no_bool("write a number")]
NumberOrNone = Annotated[float | None, _no_bool("write a number"), BeforeValidator(_empty_to_none)]
OneWayOrNone = Annotated[OneWay | None, BeforeValidator(_empty_to_none)]
WrongCodecOrNone = Annotated[WrongCodec | None, BeforeValidator(_empty_to_none)]
OptionalDuration = Annotated[Duration | None, BeforeValidator(_empty_to_none)]
PositiveDuration = Annotated[timedelta, BeforeValidator(parse_duration), AfterValidator(_positive)]
SettingsPath = Annotated[Path, AfterValidator(_resolve)]
OptionalPath = Annotated[Path | None, BeforeValidator(_empty_to_none), AfterValidator(_resolve)]
TextOrNone = Annotated[str | None, BeforeValidator(_empty_to_none)]
SipUri = Annotated[str, AfterValidator(sip_uri)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
Name = Annotated[str, Field(min_length=1)]
HostOrNothing = Annotated[str, AfterValidator(_host)]
IpAddressOrNothing = Annotated[str, AfterValidator(_public_ip_address)]
BindAddresses = Annotated[
    tuple[Annotated[str, AfterValidator(_ip_address)], ...],
    AfterValidator(_distinct),
    AfterValidator(_not_empty),
]
DigestAlgorithms = Annotated[
    tuple[Annotated[DigestAlgorithm, BeforeValidator(_digest_algorithm)], ...],
    AfterValidator(_distinct),
    AfterValidator(_not_empty),
]
Networks = Annotated[tuple[Annotated[str, AfterValidator(_allowed)], ...], AfterValidator(_distinct)]
Codecs = Annotated[
    tuple[Annotated[str, AfterValidator(_codec)], ...],
    AfterValidator(_distinct),
    AfterValidator(_not_empty),
]
RtpPort = Annotated[WholeNumber, Field(ge=1, le=65535)]
