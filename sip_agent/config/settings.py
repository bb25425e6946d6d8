"""All settings together, and what they must not say together."""

import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr, model_validator

from sip_agent.config.accounts import AccountSettings, OutboundSettings
from sip_agent.config.agora import AgoraSettings
from sip_agent.config.cekura import CekuraSettings
from sip_agent.config.hearing import HearingSettings
from sip_agent.config.pipecat import PipecatSettings
from sip_agent.config.section import Section
from sip_agent.config.sections import (
    AdmissionSettings,
    ApiSettings,
    AuthSettings,
    CorrelationSettings,
    HeaderSettings,
    LogSettings,
    MediaSettings,
    RouteSettings,
    SipSettings,
    StoreSettings,
)
from sip_agent.config.sipfront import SipfrontSettings
from sip_agent.config.speech import SpeechSettings
from sip_agent.config.values import Loading, SettingSource, SrtpMode, is_ip_address

RTP_PORTS_PER_CALL = 4
"""The stack gives up looking for a free RTP port after 100 tries: a roomy range keeps the search short."""


_ECHO_ROUTE = RouteSettings(handler="echo")


class Settings(Section):
    """All settings, validated. `Settings()` has the defaults; `load_settings` reads file and environment."""

    sip: SipSettings = Field(default_factory=SipSettings, description="where the agent listens")
    auth: AuthSettings = Field(default_factory=AuthSettings, description="digest authentication of callers")
    admission: AdmissionSettings = Field(default_factory=AdmissionSettings, description="who may call, and how much")
    media: MediaSettings = Field(default_factory=MediaSettings, description="RTP, codecs and recordings")
    correlation: CorrelationSettings = Field(
        default_factory=CorrelationSettings, description="how a call is joined to a test run"
    )
    headers: HeaderSettings = Field(default_factory=HeaderSettings, description="headers that carry secrets")
    accounts: tuple[AccountSettings, ...] = Field((), description="registrations with upstream registrars, and trunks")
    outbound: OutboundSettings = Field(default_factory=OutboundSettings, description="calls to phone numbers")
    routes: tuple[RouteSettings, ...] = Field(
        (_ECHO_ROUTE,), description="which handler takes which call; without any, echo takes every call"
    )
    store: StoreSettings = Field(default_factory=StoreSettings, description="where call records are kept")
    api: ApiSettings = Field(default_factory=ApiSettings, description="the HTTP API, dashboard and metrics")
    cekura: CekuraSettings = Field(default_factory=CekuraSettings, description="access to Cekura's API")
    agora: AgoraSettings = Field(default_factory=AgoraSettings, description="calls in Agora channels")
    pipecat: PipecatSettings = Field(default_factory=PipecatSettings, description="Pipecat's sessions, Daily's rooms")
    sipfront: SipfrontSettings = Field(default_factory=SipfrontSettings, description="access to Sipfront's API")
    hearing: HearingSettings = Field(
        default_factory=HearingSettings, description="when a caller speaks; digits in the sound"
    )
    speech: SpeechSettings = Field(default_factory=SpeechSettings, description="synthesis and recognition of speech")
    log: LogSettings = Field(default_factory=LogSettings, description="log entries")

    _loading: Loading = PrivateAttr(default_factory=lambda: Loading(base_dir=Path.cwd()))

    def model_post_init(self, context: Any, /) -> None:
        """Keep what is known of the load: pydantic calls this with the context of the validation."""
        if isinstance(context, Loading):
            self._loading = context

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = list(_contradictions(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def file(self) -> Path | None:
        """The settings file that was read, if any."""
        return self._loading.file

    @property
    def base_dir(self) -> Path:
        """What relative paths are relative to: the folder of the settings file, else the working folder."""
        return self._loading.base_dir

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but probably not meant."""
        return (*self._loading.warnings, *_doubts(self))

    def path(self, path: str | Path) -> Path:
        """Return `path`, taken from `base_dir` if it is relative."""
        return self._loading.base_dir / Path(path).expanduser()

    def source_of(self, key: str) -> SettingSource:
        """Return where the value of `key` (like `sip.udp_port` or `accounts[0].name`) came from."""
        return self._loading.sources.get(key, SettingSource.DEFAULT)


def _contradictions(settings: Settings) -> Iterator[str]:
    """Yield what is wrong about settings that are each right."""
    sip, media = settings.sip, settings.media
    exposed = [address for address in sip.bind if not ipaddress.ip_address(address).is_loopback]
    if exposed and not settings.admission.allow and not settings.auth.users:
        yield (
            f"sip.bind = {json.dumps(exposed)}: REFUSED: with neither auth.users nor admission.allow, "
            "anyone who reaches this address may call, and scanners find it within minutes: "
            "set passwords in auth.users, or the callers' networks in admission.allow "
            '(["0.0.0.0/0", "::/0"] if you do mean everyone)'
        )
    first, last = media.rtp_ports
    if first <= sip.udp_port <= last:
        yield f"media.rtp_ports = [{first}, {last}]: holds sip.udp_port {sip.udp_port}: move one of them"
    names = [account.name for account in settings.accounts]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f'accounts: two are named "{name}": give each a name of its own'
    if settings.outbound.account and settings.outbound.account not in names:
        known = ", ".join(names) or "none"
        found = json.dumps(settings.outbound.account, ensure_ascii=False)
        yield f"outbound.account = {found}: no such account (there is: {known})"
    for index, route in enumerate(settings.routes):
        if route.match.account is not None and route.match.account not in names:
            known = ", ".join(names) or "none"
            found = json.dumps(route.match.account, ensure_ascii=False)
            yield f"routes[{index}].match.account = {found}: no such account (there is: {known})"


def _doubts(settings: Settings) -> Iterator[str]:
    """Yield what is allowed but probably not meant."""
    first, last = settings.media.rtp_ports
    wanted = RTP_PORTS_PER_CALL * settings.admission.max_calls
    if last - first + 1 < wanted:
        yield (
            f"media.rtp_ports holds {last - first + 1} ports; {settings.admission.max_calls} calls "
            f"(admission.max_calls) want {wanted}: widen the range, or lower max_calls"
        )
    public_address = settings.sip.public_address
    if public_address and not settings.media.public_address and not is_ip_address(public_address):
        yield (
            f'sip.public_address = "{public_address}" is a name, and SDP wants an IP address: set media.public_address'
        )
    if settings.media.srtp is not SrtpMode.OFF and not settings.sip.tls_port:
        yield (
            f'media.srtp = "{settings.media.srtp}" without TLS: the keys travel in clear in SDP: '
            "set sip.tls_port and [sip.tls]"
        )
    api = settings.api
    if api.bind and not api.token.get_secret_value() and not ipaddress.ip_address(api.host).is_loopback:
        yield f'api.bind = "{api.bind}" without a token: anyone there hears every call: set api.token_file'
