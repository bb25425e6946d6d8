"""Registrations with upstream registrars (RFC 3261 §10): digest, refresh, retry with back-off, state."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from sip_agent.config import AccountSettings
from sip_agent.ua import engine

if TYPE_CHECKING:
    from sip_agent.ua.endpoint import Endpoint

log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class AccountState:
    """Where a registration stands; `registrar_hosts` are the addresses that answered for the registrar."""

    name: str
    username: str
    registered: bool = False
    status: int = 0
    reason: str = "not registered yet"
    expires_s: int = 0
    registrar_hosts: set[str] = field(default_factory=set)


def account_of(states: list[AccountState], source_host: str, user: str) -> str | None:
    """Return the account through which a call came: its registrar sent it, to its user.

    Both are asked: anyone can dial the user's name, and one registrar may serve several accounts.
    """
    for state in states:
        if source_host in state.registrar_hosts and user.lower() == state.username.lower():
            return state.name
    return None


def local_account_config(endpoint: "Endpoint", uri: str, transport_id: int, host: str) -> Any:
    """Return the pjsua2 configuration of an account that only answers, on one transport."""
    config = endpoint.account_config(host)
    config.idUri = uri
    config.regConfig.registerOnAdd = False
    config.sipConfig.transportId = transport_id
    return config


def registered_account_config(endpoint: "Endpoint", settings: AccountSettings) -> Any:
    """Return the pjsua2 configuration of an account that registers."""
    pj = engine.load()
    config = endpoint.account_config("")
    host = settings.registrar.partition(":")[2].partition(";")[0].rpartition("@")[2]
    config.idUri = settings.from_uri or f"sip:{settings.username}@{host}"
    config.regConfig.registrarUri = settings.registrar
    config.regConfig.registerOnAdd = True
    config.regConfig.timeoutSec = max(1, round(settings.expires.total_seconds()))
    retry_s = max(1, round(settings.retry_interval.total_seconds()))
    config.regConfig.retryIntervalSec = retry_s
    config.regConfig.firstRetryIntervalSec = 1
    # Many agents do not come back all at once; but never so far apart that there is no pause left.
    config.regConfig.randomRetryIntervalSec = retry_s // 3
    config.regConfig.unregWaitMsec = 1000
    if settings.outbound_proxy:
        config.sipConfig.proxies = pj.StringVector([settings.outbound_proxy])
    if password := settings.password.get_secret_value():
        add_credentials(config, settings.auth_username or settings.username, password, settings.realm)
    return config


def add_credentials(config: Any, username: str, password: str, realm: str = "*") -> None:
    """Let an account answer digest challenges of `realm` (`*`: any)."""
    pj = engine.load()
    credentials = pj.AuthCredInfoVector()
    credentials.append(pj.AuthCredInfo("digest", realm, username, 0, password))
    config.sipConfig.authCreds = credentials


def open_account(config: Any, on_incoming: Callable[[Any, int, Any], None], state: AccountState | None = None) -> Any:
    """Create a pjsua2 account; `on_incoming(account, call_id, rdata)` gets its calls. SIP thread only."""
    account = _account_class()(on_incoming, state)
    account.create(config)
    return account


def _account_class() -> type:
    pj = engine.load()

    class PjAccount(pj.Account):  # type: ignore[name-defined,misc]
        """The pjsua2 account; an exception in a callback would end the process, so each is guarded."""

        def __init__(self, on_incoming: Callable[[Any, int, Any], None], state: AccountState | None) -> None:
            super().__init__()
            self._on_incoming = on_incoming
            self._state = state

        def onIncomingCall(self, prm: Any) -> None:
            try:
                self._on_incoming(self, prm.callId, prm.rdata)
            except Exception:
                log.exception("account.incoming_call_failed")

        def onRegState(self, prm: Any) -> None:
            try:
                if self._state is not None:
                    _note_registration(self._state, self.getInfo(), prm)
            except Exception:
                log.exception("account.registration_state_failed")

    return PjAccount


def _note_registration(state: AccountState, info: Any, prm: Any) -> None:
    state.registered = bool(info.regIsActive) and prm.code // 100 == 2
    state.status, state.reason = prm.code, prm.reason
    state.expires_s = info.regExpiresSec if state.registered else 0
    host = prm.rdata.srcAddress.rpartition(":")[0].strip("[]")
    if host and state.registered:
        state.registrar_hosts.add(host)
    report = log.info if state.registered else log.warning
    report(
        "account.registration",
        account=state.name,
        registered=state.registered,
        status=prm.code,
        reason=prm.reason,
    )
