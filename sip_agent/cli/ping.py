"""`sip-agent ping`: ask a SIP endpoint whether it is there."""

import secrets
import socket
import time
from typing import Annotated

import typer

from sip_agent.cli.config import ConfigOption
from sip_agent.cli.output import ExitStatus, console, stderr


def ping(
    uri: Annotated[str, typer.Argument(help="Whom to ask; this agent, as its settings say, unless given.")] = "",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 2.0,
    config: ConfigOption = None,
) -> None:
    """Send OPTIONS over UDP (RFC 3261 §11); exit status 0 if anything answers. For health checks.

    Example: sip-agent ping sip:agent@127.0.0.1:5060
    """
    host, port = _address(uri, config)
    started = time.perf_counter()
    status_line = ask(host, port, timeout)
    if status_line is None:
        stderr.print(f"no answer from {host}:{port}")
        raise typer.Exit(ExitStatus.TESTED_THING_FAILED)
    console.print(f"{status_line} from {host}:{port} in {(time.perf_counter() - started) * 1000:.1f} ms")


def ask(host: str, port: int, timeout_s: float) -> str | None:
    """Send OPTIONS over UDP and return the status line of the answer, or None if there is none in time."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.settimeout(timeout_s)
        try:
            peer.connect((host, port))
            local_host, local_port = peer.getsockname()[:2]
            peer.send(_options(host, port, local_host, local_port))
            answer = peer.recv(65535)
        except TimeoutError:
            return None
        except OSError:
            # Nobody listens there yet: the answer to that comes at once, but a health check waits its time.
            time.sleep(timeout_s)
            return None
    return answer.partition(b"\r\n")[0].decode("utf-8", "replace")


def _address(uri: str, config: ConfigOption) -> tuple[str, int]:
    if uri:
        from sip_agent.invite import SipUri

        target = SipUri.parse(uri)
        return target.host.strip("[]"), target.port or 5060
    from sip_agent.config import load_settings

    sip = load_settings(config).sip
    wildcards = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    return wildcards.get(sip.bind[0], sip.bind[0]), sip.udp_port


def _options(host: str, port: int, local_host: str, local_port: int) -> bytes:
    from sip_agent.invite import bracketed

    token = secrets.token_hex(8)
    lines = (
        f"OPTIONS sip:ping@{bracketed(host)}:{port} SIP/2.0",
        f"Via: SIP/2.0/UDP {bracketed(local_host)}:{local_port};branch=z9hG4bK{token};rport",
        "Max-Forwards: 70",
        f"From: <sip:ping@{bracketed(local_host)}>;tag={token}",
        f"To: <sip:ping@{bracketed(host)}:{port}>",
        f"Call-ID: {token}",
        "CSeq: 1 OPTIONS",
        "Content-Length: 0",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
