"""The SIP endpoint: transports, accounts, incoming INVITEs and outgoing calls on one pjsua2 library.

An INVITE reaches the event loop as an `Offer`, undecided: on the native engine it is held in the invite
gate and has cost nothing yet; on the light engine pjsua2 has already opened a call for it.
"""

import asyncio
import functools
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from sip_agent.call import Offer
from sip_agent.config import AccountSettings, Settings, SrtpMode
from sip_agent.errors import SettingsError, StackRefusal
from sip_agent.invite import bracketed
from sip_agent.line import LineFaults
from sip_agent.record import message_entry
from sip_agent.status import SipStatus, reason_phrase
from sip_agent.ua import engine
from sip_agent.ua.accounts import (
    AccountState,
    account_of,
    add_credentials,
    local_account_config,
    open_account,
    registered_account_config,
)
from sip_agent.ua.dialogs import Dialog
from sip_agent.ua.frame_port import FramePorts
from sip_agent.ua.line import Lines
from sip_agent.ua.offers import HeldOffer, OpenedOffer
from sip_agent.ua.pj_call import call_options, pj_call_class
from sip_agent.ua.pump import Pump
from sip_agent.ua.sip_thread import SipThread

log = structlog.get_logger()

SPARE_CALLS = 16
"""Call slots above `admission.max_calls`: calls that are just ending hold theirs a little longer."""

SWEEP_S = 1.0
"""How often RTP counters are looked at, for the first packet and for silence."""

HELD_INVITES_MAX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One transport on one address; port 0 takes any free one."""

    transport: str
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """As whom to call: the From URI, credentials for a challenge of `realm` (401 or 407), and the proxy on the way."""

    uri: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    realm: str = "*"
    proxy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockCounters:
    """Ticks of the media clock, those that began more than 10 ms late, and the longest such delay."""

    ticks: int
    late_ticks: int
    max_lag_us: int


class Endpoint:
    """One pjsua2 library with everything on it; made, used and closed on the event loop."""

    def __init__(
        self,
        settings: Settings,
        bindings: Sequence[Binding],
        *,
        accounts: Sequence[AccountSettings] = (),
        max_calls: int,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.sample_rate_hz = settings.media.sample_rate_hz
        self.cushion_ms = settings.media.playout_cushion_ms
        self.frame_ports = FramePorts(self.sample_rate_hz)
        self.takes_srtp = settings.media.srtp is not SrtpMode.OFF
        self.bye_timeout_s = 5.0
        self.pump = Pump(self.loop)
        self.sip_thread = SipThread(self.loop, self._poll)
        self._account_settings = tuple(item for item in accounts if item.registers)
        self.account_states = [AccountState(name=item.name, username=item.username) for item in self._account_settings]
        self.bound: list[Binding] = []
        self._settings = settings
        self._bindings = tuple(bindings)
        self._max_calls = max_calls
        self._on_offer: Callable[[Offer], None] | None = None
        self._accounts: list[Any] = []
        self._caller_accounts: dict[Caller, Any] = {}
        self._dialogs: dict[Dialog, Any] = {}
        self._gate: Any = None
        self._clock: Any = None
        self._tap: Any = None
        self._lines: Lines | None = None
        self._passed: Dialog | None = None
        self._passing_faults: LineFaults | None = None
        self._next_sweep = 0.0
        self._rtp_timeout_s = settings.media.rtp_timeout.total_seconds()

    async def start(self, on_offer: Callable[[Offer], None] | None = None) -> None:
        """Open the transports and accounts; `on_offer` gets every INVITE, on the event loop.

        Raises SettingsError naming what cannot be opened.
        """
        engine.select(self._settings.media.engine)
        self._on_offer = on_offer
        await self.sip_thread.start(self._set_up, self._tear_down)
        self.pump.start(self._clock)

    async def hang_up_all(self, reason: str, grace_s: float = 5.0) -> None:
        """End every call, and wait up to `grace_s` until the peers have agreed."""

        def hang_up() -> None:
            for dialog in tuple(self._dialogs):
                dialog.end_by_system(reason)

        await self.sip_thread.run("hang up", hang_up)
        if over := [dialog.disconnected for dialog in tuple(self._dialogs)]:
            await asyncio.wait(over, timeout=grace_s)

    async def stop(self) -> None:
        """Close the library; calls that are left are cut off."""
        self.pump.stop()
        await self.sip_thread.stop()

    async def place_call(self, uri: str, caller: Caller, headers: Sequence[tuple[str, str]] = ()) -> Dialog:
        """Send an INVITE to `uri`; the dialog reports how it goes.

        Raises UserAgentError if the URI or the transport is not usable.
        """
        return await self.sip_thread.run("call", functools.partial(self._place_call, uri, caller, headers))

    @property
    def media_clock(self) -> ClockCounters | None:
        """What the media clock has counted; None while there is none, and on the light engine, which does not say."""
        clock = self._clock
        if clock is None:
            return None
        return ClockCounters(ticks=clock.ticks, late_ticks=clock.late_ticks, max_lag_us=clock.max_lag_us)

    @property
    def gate_counters(self) -> Mapping[str, int]:
        """What the invite gate has counted, and `currently_held`; empty on the light engine, which has none."""
        gate = self._gate
        counters: dict[str, int] = {} if gate is None else gate.stats()
        return counters

    def messages(self, call_id: str) -> list[dict[str, Any]]:
        """Return the SIP messages of a call so far, and forget them: a record's `messages`; [] on the light engine."""
        return [] if self._tap is None else [message_entry(*message) for message in self._tap.take(call_id)]

    def account_for(self, source_host: str, user: str) -> str | None:
        """Return the name of the account through which a call came, if any."""
        return account_of(self.account_states, source_host, user)

    # The SIP thread's side

    def account_config(self, media_host: str) -> Any:
        """Return what all accounts share: media, timers, PRACK."""
        pj = engine.load()
        settings = self._settings
        config = pj.AccountConfig()
        media = config.mediaConfig
        first, last = settings.media.rtp_ports
        media.transportConfig.port = first
        media.transportConfig.portRange = last - first
        media.transportConfig.boundAddress = "" if media_host in {"0.0.0.0", "::"} else media_host  # noqa: S104
        public = settings.media.public_address or settings.sip.public_address
        media.transportConfig.publicAddress = public
        ipv6_use = pj.PJSUA_IPV6_ENABLED_USE_IPV6_ONLY if ":" in media_host else pj.PJSUA_IPV6_DISABLED
        media.ipv6Use = config.sipConfig.ipv6Use = ipv6_use
        media.srtpUse = {
            SrtpMode.OFF: pj.PJMEDIA_SRTP_DISABLED,
            SrtpMode.OPTIONAL: pj.PJMEDIA_SRTP_OPTIONAL,
            SrtpMode.MANDATORY: pj.PJMEDIA_SRTP_MANDATORY,
        }[settings.media.srtp]
        media.srtpSecureSignaling = 0
        config.callConfig.timerUse = (
            pj.PJSUA_SIP_TIMER_OPTIONAL if settings.sip.session_timers else pj.PJSUA_SIP_TIMER_INACTIVE
        )
        config.callConfig.prackUse = pj.PJSUA_100REL_OPTIONAL
        config.natConfig.contactRewriteUse = 1
        config.natConfig.sdpNatRewriteUse = 0
        config.natConfig.iceEnabled = False
        return config

    def pass_on(self, held: Any, faults: LineFaults | None = None) -> Dialog:
        """Let pjsua2 have a held INVITE, and return the dialog it opened."""
        self._passed, self._passing_faults = None, faults
        status = held.pass_on()
        dialog, self._passed = self._passed, None
        if dialog is None:
            status = status if status >= 300 else SipStatus.SERVER_INTERNAL_ERROR
            raise StackRefusal(status, f"the SIP stack refused the INVITE: {reason_phrase(status)}")
        return dialog

    def forget(self, dialog: Dialog) -> None:
        """Drop the pjsua2 object of a dialog that is over."""
        self._dialogs.pop(dialog, None)

    def _set_up(self, library: Any) -> None:
        pj = engine.load()
        library.libInit(self._library_config())
        if engine.is_native():
            self._gate = pj.InviteGate(HELD_INVITES_MAX, self._settings.sip.rewrite_contact)
            self._tap = pj.MessageTap()
            if any(route.faults.named for route in self._settings.routes):
                self._lines = Lines()
        self._enable_codecs(library)
        identifiers = [self._open_transport(library, binding) for binding in self._bindings]
        library.libStart()
        if engine.is_native():
            self._clock = pj.BridgeClock()
            self._clock.start()
        else:
            library.audDevManager().setNullDev()
        for binding, identifier in zip(self.bound, identifiers, strict=True):
            uri = f"sip:agent@{bracketed(binding.host)}"
            config = local_account_config(self, uri, identifier, binding.host)
            self._accounts.append(open_account(config, self._on_incoming))
        for settings, state in zip(self._account_settings, self.account_states, strict=True):
            config = registered_account_config(self, settings)
            self._accounts.append(open_account(config, self._on_incoming, state))

    def _library_config(self) -> Any:
        pj = engine.load()
        info = engine.describe_engine()
        config = pj.EpConfig()
        config.logConfig.level = config.logConfig.consoleLevel = 0
        config.logConfig.msgLogging = 0
        config.uaConfig.maxCalls = min(info.max_calls, self._max_calls + SPARE_CALLS)
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.uaConfig.userAgent = self._settings.sip.user_agent
        media = config.medConfig
        media.clockRate = media.sndClockRate = self.sample_rate_hz
        media.channelCount = 1
        media.audioFramePtime = media.ptime = 20
        media.quality = 4
        media.noVad = True
        media.ecTailLen = 0
        media.maxMediaPorts = 2 * (config.uaConfig.maxCalls + 2)
        return config

    def _enable_codecs(self, library: Any) -> None:
        wanted = self._settings.media.codecs
        offered: dict[str, str] = {}
        for codec in library.codecEnum2():
            offered.setdefault(codec.codecId.partition("/")[0].lower(), codec.codecId)
            library.codecSetPriority(codec.codecId, 0)
        for rank, name in enumerate(wanted):
            if identifier := offered.get(name.lower()):
                library.codecSetPriority(identifier, 254 - rank)
            else:
                log.warning("endpoint.codec_missing", codec=name, hint="the engine does not carry it")

    def _open_transport(self, library: Any, binding: Binding) -> int:
        pj = engine.load()
        settings = self._settings.sip
        config = pj.TransportConfig()
        config.port = binding.port
        config.boundAddress = binding.host
        config.publicAddress = settings.public_address
        if binding.transport == "TLS" and binding.port:  # a caller alone shows no certificate
            _check_certificate(settings.tls.certificate, settings.tls.private_key)
            config.tlsConfig.certFile = str(settings.tls.certificate)
            config.tlsConfig.privKeyFile = str(settings.tls.private_key)
        config.tlsConfig.method = pj.PJSIP_SSL_UNSPECIFIED_METHOD
        kind = getattr(pj, f"PJSIP_TRANSPORT_{binding.transport}{'6' if ':' in binding.host else ''}")
        try:
            identifier = library.transportCreate(kind, config)
        except pj.Error as error:
            what = f"{binding.transport} on {binding.host} port {binding.port}"
            raise SettingsError(
                f"sip.bind: {what} cannot be opened: {error.reason}"
                " (is another program using the port? set sip.udp_port, sip.tcp_port or sip.tls_port)"
            ) from error
        address = library.transportGetInfo(identifier).localAddress
        port = int(address.rpartition(":")[2])
        self.bound.append(Binding(transport=binding.transport, host=binding.host, port=port or binding.port))
        return int(identifier)

    def _poll(self) -> None:
        if self._gate is not None:
            while (held := self._gate.take()) is not None:
                self._offer_held(held)
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_S
            for dialog in tuple(self._dialogs):
                dialog.check(now, self._rtp_timeout_s)

    def _offer_held(self, held: Any) -> None:
        if self._on_offer is None:
            held.reject(SipStatus.TEMPORARILY_UNAVAILABLE, "Temporarily Unavailable", [], False)
        else:
            self.sip_thread.deliver(self._on_offer, HeldOffer.of(self, held))

    def _on_incoming(self, account: Any, call_id: int, rdata: Any) -> None:
        dialog = self._open_dialog(account, call_id, outbound=False)
        if engine.is_native():
            if self._passing_faults is not None and self._lines is not None:
                dialog.spoil(self._passing_faults, self._lines.open(self._passing_faults))
            self._passed = dialog
            return
        if self._on_offer is None:
            dialog.end_by_system("no calls are taken")
        else:
            self.sip_thread.deliver(self._on_offer, OpenedOffer.of(dialog, rdata))

    def _open_dialog(self, account: Any, call_id: int, *, outbound: bool) -> Dialog:
        dialog = Dialog(self, outbound=outbound)
        pj_call = pj_call_class()(dialog, account, call_id)
        dialog.adopt(pj_call)
        self._dialogs[dialog] = pj_call
        return dialog

    def _place_call(self, uri: str, caller: Caller, headers: Sequence[tuple[str, str]]) -> Dialog:
        pj = engine.load()
        dialog = self._open_dialog(self._account_of(caller), pj.PJSUA_INVALID_ID, outbound=True)
        try:
            self._dialogs[dialog].makeCall(uri, call_options(headers))
        except pj.Error:
            if (pj_call := self._dialogs.pop(dialog, None)) is not None:  # pjsua2 may have reported its end already
                pj_call.release()
            raise
        return dialog

    def _account_of(self, caller: Caller) -> Any:
        """Return the account that calls as `caller`; pjsua has few of them, so each is opened once."""
        if caller not in self._caller_accounts:
            hosts = list(dict.fromkeys(binding.host for binding in self.bound))
            # Of several addresses, the one that leads to the callee is not known before.
            config = self.account_config(hosts[0] if len(hosts) == 1 else "")
            config.idUri = caller.uri or f"sip:caller@{bracketed(hosts[0])}"
            if caller.username:
                add_credentials(config, caller.username, caller.password, caller.realm)
            if caller.proxy:
                config.sipConfig.proxies = engine.load().StringVector([caller.proxy])
            self._caller_accounts[caller] = open_account(config, self._on_incoming)
        return self._caller_accounts[caller]

    def _tear_down(self, library: Any) -> None:
        if self._clock is not None:
            self._clock.stop()
        library.hangupAllCalls()
        for pj_call in self._dialogs.values():
            pj_call.release()
        self._dialogs.clear()
        if self._lines is not None:
            self._lines.close()
        if self._gate is not None:
            self._gate.close()
        if self._tap is not None:
            self._tap.close()
        self._gate = self._tap = self._clock = None
        # Registrars are told good-bye, which takes a second; without any, there is nothing to wait for. The accounts
        # stay until then: they have the credentials for the challenge.
        library.libDestroy(0 if self._account_settings else engine.load().PJSUA_DESTROY_NO_NETWORK)
        self._accounts.clear()
        self._caller_accounts.clear()


def _check_certificate(certificate: Path, private_key: Path) -> None:
    """Raise SettingsError for a certificate that cannot serve: pjsip would open the port and refuse every caller."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key)
    except OSError as error:
        raise SettingsError(
            f"sip.tls: {certificate} and {private_key} cannot be used: {error.strerror or error} "
            "(name PEM files in sip.tls.certificate and sip.tls.private_key, or set sip.tls_port = 0)"
        ) from error
