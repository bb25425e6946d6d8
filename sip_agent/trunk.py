"""Calls to phone numbers: through which account, as which number, and whether a number may be dialled at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from sip_agent.config import AccountSettings, CallerIdIn, OutboundSettings, Settings
from sip_agent.errors import SettingsError
from sip_agent.headers import CorrelationIds
from sip_agent.invite import SipUri, bracketed
from sip_agent.outgoing import Outgoing
from sip_agent.phone_numbers import read_phone_number
from sip_agent.ua.endpoint import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Trunk:
    """An account that calls go through; `caller_id` is the number that they show."""

    account: AccountSettings

    @property
    def name(self) -> str:
        """The account's name."""
        return self.account.name

    @property
    def caller_id(self) -> str:
        """The number that calls show, as `+14155550123`."""
        return self.account.caller_id

    @property
    def caller(self) -> Caller:
        """As whom calls are placed: the From URI, what a 401 or a 407 is answered with, and the proxy."""
        account = self.account
        password = account.password.get_secret_value()
        return Caller(
            uri=account.from_uri or self._local_uri(account.username)
            if account.caller_id_in is CallerIdIn.ASSERTED
            else self._local_uri(account.caller_id),
            username=(account.auth_username or account.username) if password else "",
            password=password,
            realm=account.realm,
            proxy=account.outbound_proxy,
        )

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """What an INVITE has beside From: the caller id once more, where the trunk heeds that one (RFC 3325 §9.1)."""
        if self.account.caller_id_in is CallerIdIn.FROM:
            return ()
        return (("P-Asserted-Identity", f"<{self._local_uri(self.caller_id)}>"),)

    @property
    def next_hop(self) -> SipUri:
        """Where its INVITEs go: the proxy, if there is one."""
        return SipUri.parse(self.account.outbound_proxy or self.uri("+10"))

    def uri(self, number: str) -> str:
        """Return the SIP URI that a number is called by; `user=phone` says that it is one (RFC 3261 §19.1.1)."""
        if self.account.dial:
            return self.account.dial.replace("{number}", number).replace("{digits}", number[1:])
        scheme, _, host = self.account.registrar.partition(":")
        return f"{scheme}:{number}@{host.rpartition('@')[2]};user=phone"

    def outgoing(self, number: str, ids: CorrelationIds, ring_timeout_s: float) -> Outgoing:
        """Return the call to a number."""
        return Outgoing(
            uri=self.uri(number),
            caller=self.caller,
            headers=self.headers,
            account=self.name,
            ids=ids,
            ring_timeout_s=ring_timeout_s,
        )

    def _local_uri(self, user: str) -> str:
        """Return a URI of ours at the trunk's domain."""
        registrar = SipUri.parse(self.account.registrar)
        return f"{registrar.scheme}:{user}@{bracketed(registrar.host)}"


def find_trunk(settings: Settings, name: str = "") -> Trunk:
    """Return the account that calls go through: `name`, else outbound.account, else the only one with a caller id.

    Raises SettingsError if there is none, or several.
    """
    name = name or settings.outbound.account
    able = [account for account in settings.accounts if account.caller_id]
    chosen = [account for account in settings.accounts if account.name == name] if name else able
    if name and not chosen:
        known = ", ".join(account.name for account in settings.accounts) or "none"
        raise SettingsError(f"accounts: there is no account {name!r} (there is: {known})")
    if not chosen:
        raise SettingsError(
            "accounts: none has a caller_id, so no call can be placed: write the number that your trunk gave you "
            'there, like caller_id = "+14155550123"'
        )
    if len(chosen) > 1:
        names = ", ".join(account.name for account in chosen)
        raise SettingsError(f"outbound.account: several accounts have a caller_id ({names}): name the one to call by")
    trunk = Trunk(account=chosen[0])
    if not trunk.caller_id:
        raise SettingsError(f"accounts: {trunk.name!r} has no caller_id: write the number that its calls show")
    return trunk


def check_reach(trunk: Trunk, settings: Settings) -> None:
    """Raise SettingsError if the agent listens where it cannot reach the trunk: on loopback alone."""
    host = trunk.next_hop.host
    if _is_elsewhere(host) and all(ip_address(address).is_loopback for address in settings.sip.bind):
        raise SettingsError(
            f"sip.bind: {', '.join(settings.sip.bind)} cannot reach the account {trunk.name!r} at {host}: "
            "write the address of this machine that can"
        )


def _is_elsewhere(host: str) -> bool:
    try:
        return not ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() != "localhost"


def check_number(text: str, outbound: OutboundSettings) -> str:
    """Return a number that may be dialled, as `+14155550123`; raises SettingsError that says why it may not."""
    number = read_phone_number(text)
    if number is None:
        raise SettingsError(f"{text!r} is no phone number with + and country code, and is not dialled")
    if not outbound.allow:
        raise SettingsError(
            f"outbound.allow: it is empty, so no number may be dialled: name how those begin that may, like "
            f'allow = ["{number[:5]}"]'
        )
    if not number.startswith(outbound.allow):
        raise SettingsError(f"outbound.allow: {number} begins with none of {', '.join(outbound.allow)}: not dialled")
    return number
