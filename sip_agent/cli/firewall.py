"""`sip-agent firewall`: rules that let the allow-list, and nobody else, in to the SIP and RTP ports."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TYPE_CHECKING

import typer

from sip_agent.cli.config import ConfigOption

if TYPE_CHECKING:
    from sip_agent.config import Settings

EVERYONE_V4 = IPv4Network("0.0.0.0/0")
EVERYONE_V6 = IPv6Network("::/0")

app = typer.Typer(no_args_is_help=True, help="Print firewall rules that follow the settings.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What is to be let in, and from where; ports are (first, last)."""

    udp: tuple[tuple[int, int], ...]
    tcp: tuple[tuple[int, int], ...]
    v4: tuple[IPv4Network, ...]
    v6: tuple[IPv6Network, ...]
    notes: tuple[str, ...]

    def by_protocol(self) -> Iterator[tuple[str, tuple[tuple[int, int], ...]]]:
        """Yield each protocol that has ports, with them."""
        yield from (item for item in (("udp", self.udp), ("tcp", self.tcp)) if item[1])


@app.command()
def nftables(config: ConfigOption = None) -> None:
    """Print an nftables table of its own.

    Example: sip-agent firewall nftables | sudo nft -f -
    """
    _print(_nftables(_opening_of(config)))


@app.command()
def iptables(config: ConfigOption = None) -> None:
    """Print commands for iptables and ip6tables.

    Example: sip-agent firewall iptables | sudo sh -e
    """
    _print(_iptables(_opening_of(config)))


@app.command()
def ufw(config: ConfigOption = None) -> None:
    """Print commands for ufw, which refuses by default what no rule allows.

    Example: sip-agent firewall ufw | sudo sh -e
    """
    _print(_ufw(_opening_of(config)))


def _opening_of(config: ConfigOption) -> Opening:
    from sip_agent.config import load_settings

    return opening(load_settings(config))


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        print(line)


def opening(settings: "Settings") -> Opening:
    """Work out from the settings what a firewall has to let in."""
    from sip_agent.admission import AddressAllowList

    sip = settings.sip
    networks = AddressAllowList.parse(settings.admission.allow).networks or (EVERYONE_V4, EVERYONE_V6)
    return Opening(
        udp=(*((port, port) for port in (sip.udp_port,) if port), settings.media.rtp_ports),
        tcp=tuple((port, port) for port in (sip.tcp_port, sip.tls_port) if port),
        v4=tuple(collapse_addresses(network for network in networks if isinstance(network, IPv4Network))),
        v6=tuple(collapse_addresses(network for network in networks if isinstance(network, IPv6Network))),
        notes=tuple(_notes(settings)),
    )


def _notes(settings: "Settings") -> Iterator[str]:
    from ipaddress import ip_address

    from sip_agent.admission import ALLOW_PRESETS

    yield f"sip-agent: SIP and RTP by {settings.file or 'the default settings'}; other ports are left alone"
    for name in settings.admission.allow:
        if preset := ALLOW_PRESETS.get(name):
            yield (
                f'preset "{name}": {", ".join(preset.networks)}, '
                f"checked on {preset.checked_on.isoformat()} at {preset.source}"
            )
    if not settings.admission.allow:
        yield "admission.allow is empty: EVERYONE is let in"
    else:
        yield "RTP may come from other addresses than SIP: the allow-list has to name both"
    if all(ip_address(address).is_loopback for address in settings.sip.bind):
        yield "sip.bind is loopback: nobody outside reaches the agent, whatever the firewall says"


def _nftables(rules: Opening) -> Iterator[str]:
    yield from (f"# {note}" for note in rules.notes)
    yield "# A table of its own; a base chain elsewhere that drops these ports has to let them in too."
    # Declared first, so that it can be deleted whether or not it was there: loading twice is harmless.
    yield from ("table inet sip_agent", "delete table inet sip_agent", "table inet sip_agent {")
    sources = ((rules.v4, EVERYONE_V4, "ipv4", "ip"), (rules.v6, EVERYONE_V6, "ipv6", "ip6"))
    accepts = []
    for networks, everyone, family, keyword in sources:
        if everyone in networks:
            accepts.append(f"meta nfproto {family} accept")
        elif networks:
            yield from _nftables_set(f"callers_{family}", f"{family}_addr", networks)
            accepts.append(f"{keyword} saddr @callers_{family} accept")
    yield "    chain callers {"
    yield "        ct state established,related accept"
    yield from (f"        {rule}" for rule in accepts)
    yield from ("        counter drop", "    }", "    chain input {")
    yield "        type filter hook input priority filter - 5; policy accept;"
    yield '        iifname "lo" accept'
    for protocol, ports in rules.by_protocol():
        yield f"        {protocol} dport {{ {', '.join(_span(*item, '-') for item in ports)} }} jump callers"
    yield from ("    }", "}")


def _nftables_set(name: str, kind: str, networks: Sequence[IPv4Network | IPv6Network]) -> Iterator[str]:
    yield f"    set {name} {{"
    yield f"        type {kind}"
    yield "        flags interval"
    yield f"        elements = {{ {', '.join(str(network) for network in networks)} }}"
    yield "    }"


def _iptables(rules: Opening) -> Iterator[str]:
    yield from (f"# {note}" for note in rules.notes)
    yield "# Ports published by Docker do not pass INPUT: put the jumps into DOCKER-USER instead."
    for command, networks in (("iptables", rules.v4), ("ip6tables", rules.v6)):
        yield f"{command} -N SIP-AGENT 2>/dev/null || {command} -F SIP-AGENT"
        yield f"{command} -A SIP-AGENT -i lo -j ACCEPT"
        yield f"{command} -A SIP-AGENT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
        yield from (f"{command} -A SIP-AGENT -s {network} -j ACCEPT" for network in networks)
        yield f"{command} -A SIP-AGENT -j DROP"
        for protocol, ports in rules.by_protocol():
            listed = ",".join(_span(*item, ":") for item in ports)
            jump = f"INPUT -p {protocol} -m multiport --dports {listed} -j SIP-AGENT"
            yield f"{command} -C {jump} 2>/dev/null || {command} -I {jump}"


def _ufw(rules: Opening) -> Iterator[str]:
    yield from (f"# {note}" for note in rules.notes)
    for network in (*rules.v4, *rules.v6):
        for protocol, ports in rules.by_protocol():
            for item in ports:
                target = f"to any port {_span(*item, ':')}"
                yield f"ufw allow proto {protocol} from {network} {target} comment sip-agent"


def _span(first: int, last: int, separator: str) -> str:
    return str(first) if first == last else f"{first}{separator}{last}"
