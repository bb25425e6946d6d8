"""The sections of the settings file, each a closed and immutable model."""

from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sip_agent.auth import DigestAlgorithm
from sip_agent.config.faults import FaultSettings
from sip_agent.config.secret_files import read_users_file, secret_or_file
from sip_agent.config.section import Section
from sip_agent.config.values import (
    CODECS,
    SAMPLE_RATES_HZ,
    BindAddresses,
    Codecs,
    DigestAlgorithms,
    Duration,
    EngineChoice,
    HostOrNothing,
    IpAddressOrNothing,
    LogFormat,
    LogLevel,
    Name,
    Networks,
    OptionalPath,
    Port,
    PositiveDuration,
    RtpPort,
    SettingsPath,
    SrtpMode,
    TextOrNone,
    WholeNumber,
    is_ip_address,
)
from sip_agent.headers import PROFILES, CorrelationProfile


def agent_version() -> str:
    """Return the version of the installed package."""
    try:
        return metadata.version("sip-agent")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "0.0.0"


class SipTlsSettings(Section):
    """[sip.tls]: what the TLS transport shows; read only if `sip.tls_port` is not 0."""

    certificate: SettingsPath = Field(
        Path("server.pem"), description="PEM file with the certificate and the chain up to its authority"
    )
    private_key: SettingsPath = Field(Path("server.key"), description="PEM file with the certificate's private key")


class SipSettings(Section):
    """[sip]: where the agent listens and how it presents itself."""

    bind: BindAddresses = Field(
        ("127.0.0.1",), description="addresses to listen on; loopback until you open the agent on purpose"
    )
    udp_port: Port = Field(5060, description="port for SIP over UDP; 0 switches UDP off")
    tcp_port: Port = Field(5060, description="port for SIP over TCP; 0 switches TCP off")
    tls_port: Port = Field(0, description="port for SIP over TLS, usually 5061; 0 switches TLS off")
    public_address: HostOrNothing = Field(
        "",
        description="address that Contact and SDP show, if callers reach the agent by another one (NAT)",
    )
    rewrite_contact: bool = Field(
        default=True,
        description="answer callers behind NAT where their messages came from, whatever their Contact says",
    )
    session_timers: bool = Field(
        default=True,
        description="accept RFC 4028 session timers, so that a vanished caller does not hold a call for ever",
    )
    user_agent: Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")] = Field(
        "sip-agent/<version>",
        description="text of the Server and User-Agent headers; <version> becomes the agent's version",
    )
    tls: SipTlsSettings = Field(default_factory=SipTlsSettings, description="certificate of the TLS transport")

    @field_validator("user_agent")
    @classmethod
    def _insert_version(cls, value: str) -> str:
        return value.replace("<version>", agent_version())

    @model_validator(mode="after")
    def _check_ports(self) -> Self:
        if not (self.udp_port or self.tcp_port or self.tls_port):
            raise ValueError("every transport is off: set udp_port, tcp_port or tls_port")
        if self.tls_port and self.tls_port == self.tcp_port:
            raise ValueError(
                f"tcp_port and tls_port are both {self.tls_port}: TLS needs a port of its own, usually 5061"
            )
        return self


class AuthSettings(Section):
    """[auth]: digest authentication of callers (RFC 3261 §22, RFC 8760)."""

    realm: Annotated[str, Field(min_length=1, pattern=r'^[^"\\\x00-\x1f\x7f]+$')] = Field(
        "sip-agent", description="realm of the challenge; callers may need to be given it"
    )
    algorithms: DigestAlgorithms = Field(
        (DigestAlgorithm.MD5, DigestAlgorithm.SHA_256),
        description="digest algorithms, offered in this order; many callers know only MD5",
    )
    users_file: OptionalPath = Field(None, description="file with lines of user:password, instead of users")
    users: dict[Name, SecretStr] = Field(
        default_factory=dict,
        description="user names and passwords; with no users, callers are not challenged",
    )
    nonce_ttl: PositiveDuration = Field(
        timedelta(seconds=60),
        description="how long a nonce is good; a later answer is challenged again as stale",
    )

    @field_validator("users")
    @classmethod
    def _users_from_file(cls, value: dict[str, SecretStr], info: ValidationInfo) -> dict[str, SecretStr]:
        path = info.data.get("users_file")
        if path is None:
            for user, password in value.items():
                if not password.get_secret_value():
                    raise ValueError(f"user {user} has an empty password: write one")
            return value
        if value:
            raise ValueError("users_file is set too: keep one of the two")
        return read_users_file(path, info)


class AdmissionSettings(Section):
    """[admission]: who may call, and how much."""

    allow: Networks = Field(
        (),
        description='CIDR blocks that may call, and the preset "cekura"; empty: whoever can reach sip.bind',
    )
    max_calls: WholeNumber = Field(100, ge=1, description="simultaneous calls; one more is refused with 503")
    calls_per_second: WholeNumber = Field(50, ge=1, description="new calls a second; more are refused with 503")
    max_duration: PositiveDuration = Field(
        timedelta(minutes=30),
        description="longest call; the agent hangs up then, so that no test runs for ever",
    )
    refusal_records_per_hour: WholeNumber = Field(
        100,
        ge=0,
        description="refusals of one source recorded singly in an hour; further ones are only counted",
    )


class MediaSettings(Section):
    """[media]: RTP, codecs and recordings."""

    rtp_ports: tuple[RtpPort, RtpPort] = Field(
        (20000, 29999),
        description="first and last UDP port for RTP; keep at least 4 ports for each of max_calls",
    )
    public_address: IpAddressOrNothing = Field(
        "", description="address that SDP alone shows; empty: as sip.public_address"
    )
    codecs: Codecs = Field(CODECS, description="codecs in order of preference: PCMU, PCMA, G722, opus")
    sample_rate_hz: WholeNumber = Field(
        16000,
        description="rate of the audio that handlers see; 8000 halves the cost if all codecs are narrow",
    )
    srtp: SrtpMode = Field(SrtpMode.OFF, description="encrypted RTP: mandatory refuses callers that do not offer it")
    rtp_timeout: Duration = Field(
        timedelta(seconds=30),
        description="end a call that gets no RTP for so long and is not on hold; 0 never does",
    )
    playout_cushion_ms: WholeNumber = Field(
        40,
        ge=0,
        le=1000,
        description="audio kept ready ahead of the clock; more survives a busy machine, but adds delay",
    )
    engine: EngineChoice = Field(
        EngineChoice.AUTO,
        description="auto takes the native engine where it is built, else the light one (4 calls)",
    )
    record: bool = Field(
        default=True, description="keep a stereo recording of every answered call: caller left, agent right"
    )
    recordings_dir: SettingsPath = Field(Path("recordings"), description="folder of the recordings")

    @field_validator("rtp_ports")
    @classmethod
    def _check_range(cls, value: tuple[int, int]) -> tuple[int, int]:
        first, last = value
        if last <= first:
            raise ValueError("write the first and the last port, the lower one first")
        return value

    @field_validator("sample_rate_hz")
    @classmethod
    def _check_rate(cls, value: int) -> int:
        if value not in SAMPLE_RATES_HZ:
            raise ValueError("write 8000, 16000 or 48000")
        return value


class CorrelationHeaders(Section):
    """[correlation.profiles.NAME]: the headers in which a test platform names its run."""

    run_id: Name = Field(description="header that carries the id of the test run")
    scenario_id: str = Field("", description="header that carries the id of the scenario; empty: none")
    result_id: str = Field("", description="header that carries the id of the result; empty: none")


class CorrelationSettings(Section):
    """[correlation]: how a call is joined to a test run."""

    profiles: dict[Name, CorrelationHeaders] = Field(
        default_factory=dict, description="further profiles, for platforms that use other header names"
    )
    profile: str = Field(
        "cekura", description="which headers carry the run's ids: cekura, coval, call-id, or one of profiles"
    )
    required: bool = Field(default=False, description="answer 400 to an INVITE without a run id")

    @field_validator("profile")
    @classmethod
    def _check_profile(cls, value: str, info: ValidationInfo) -> str:
        known = dict.fromkeys((*PROFILES, *info.data.get("profiles", {})))
        if value not in known:
            raise ValueError(f"write one of {', '.join(known)}, or add [correlation.profiles.{value}]")
        return value

    @property
    def active(self) -> CorrelationProfile:
        """The profile that is in use."""
        own = self.profiles.get(self.profile)
        if own is None:
            return PROFILES[self.profile]
        return CorrelationProfile(
            name=self.profile,
            run_id=own.run_id,
            scenario_id=own.scenario_id or None,
            result_id=own.result_id or None,
        )


class HeaderSettings(Section):
    """[headers]: what records and logs show of headers that carry secrets."""

    secret: tuple[Name, ...] = Field(
        ("auth", "token", "secret", "key", "password"),
        description="a header whose name contains one of these words carries a secret",
    )
    fingerprint: bool = Field(
        default=True,
        description="keep only a salted fingerprint of secret headers; false stores them in clear",
    )
    fingerprint_salt: SecretStr = Field(
        SecretStr(""),
        description="fixed salt, so that fingerprints compare across restarts; empty: random at each start",
    )


class RouteMatch(Section):
    """What a route asks of a call; all of it must hold, and nothing asked matches every call."""

    user: TextOrNone = Field(None, description="user part of the request URI")
    account: TextOrNone = Field(None, description="name of the account the call came in by")
    header: dict[Name, str] = Field(default_factory=dict, description="header names and the value each must have")

    @model_validator(mode="before")
    @classmethod
    def _dotted_headers(cls, value: Any) -> Any:
        """Accept `"header.X-Name" = "v"`, as a TOML key in quotes, like `header.X-Name = "v"`."""
        if not isinstance(value, dict) or not any(str(key).startswith("header.") for key in value):
            return value
        plain = {key: item for key, item in value.items() if not str(key).startswith("header.")}
        nested = plain.get("header", {})
        dotted = {str(key)[7:]: item for key, item in value.items() if str(key).startswith("header.")}
        return {**plain, "header": {**nested, **dotted}} if isinstance(nested, dict) else value


class RouteSettings(Section):
    """[[routes]]: which handler takes a call; the first match wins."""

    match: RouteMatch = Field(
        default_factory=RouteMatch, description="user, account, header.X-Name; {} matches every call"
    )
    handler: Name = Field(description="name of a handler, or module:Class")
    options: dict[str, Any] = Field(default_factory=dict, description="options that the handler is given")
    faults: FaultSettings = Field(
        default_factory=FaultSettings, description="what goes wrong on purpose, to test tests and alarms"
    )


class StoreSettings(Section):
    """[store]: where call records are kept."""

    url: Name = Field(
        "sqlite:///sip-agent.db",
        description="database of the call records: sqlite:///file or postgresql://user@host/name",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        scheme, separator, _ = value.partition("://")
        if not separator or scheme.split("+")[0] not in {"sqlite", "postgresql", "postgres"}:
            raise ValueError("write sqlite:///file, sqlite:////folder/file or postgresql://user@host/name")
        return value


class ApiSettings(Section):
    """[api]: the HTTP API, dashboard and metrics."""

    bind: str = Field(
        "127.0.0.1:8080", description="address:port of the HTTP API and dashboard; empty switches them off"
    )
    token_file: OptionalPath = Field(None, description="file with the token, instead of token")
    token: SecretStr = Field(SecretStr(""), description="token that API requests must carry; empty: none asked")

    _token_from_file = field_validator("token")(secret_or_file)

    @field_validator("bind")
    @classmethod
    def _check_bind(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        valid = bool(colon) and is_ip_address(host.strip("[]")) and (":" not in host or host.startswith("["))
        if value and not (valid and port.isascii() and port.isdigit() and int(port) <= 65535):
            raise ValueError("write address:port, like 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080")
        return value

    @property
    def host(self) -> str:
        """Address to listen on, without brackets."""
        return self.bind.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Port to listen on; 0 lets the system choose one."""
        return int(self.bind.rpartition(":")[2] or 0)


class LogSettings(Section):
    """[log]: log entries, on standard error."""

    format: LogFormat = Field(LogFormat.CONSOLE, description="console for people, json for log collectors")
    level: LogLevel = Field(
        LogLevel.INFO, description="least severe entry that is written: debug, info, warning, error"
    )
