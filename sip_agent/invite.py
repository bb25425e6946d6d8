"""An INVITE as a value: what the call flow and a handler need to know of it."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import unquote_to_bytes

from sip_agent.errors import MessageError
from sip_agent.headers import Headers, decode_text, split_message

# Possessive quantifiers keep hostile text from making these backtrack.
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_UP_TO_ANGLE = re.compile(rf'(?:[^"<]|{_QUOTED})*+<', re.DOTALL)
_PARAMETER = re.compile(rf';\s*+([^\s;,="]++)\s*+(?:=\s*+({_QUOTED}|[^\s;,"]*+))?+', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_CSEQ = re.compile(r"([0-9]{1,10})[ \t]+(\S+)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*+):")


WEBSOCKET = "WS"
"""The transport of a call that came by WebSocket instead of SIP; SIP over WebSocket (RFC 7118) is not spoken."""

AGORA = "AGORA"
DAILY = "DAILY"
ROOMS = frozenset({AGORA, DAILY})
"""The transports of calls in a room of a WebRTC platform: who opened the room has shown who they are."""


def bracketed(host: str) -> str:
    """Return a host as URIs and addresses with a port write it: IPv6 in brackets (RFC 3261 §25.1)."""
    plain = host.strip("[]")
    return f"[{plain}]" if ":" in plain else plain


@dataclass(frozen=True, slots=True, kw_only=True)
class SipUri:
    """A sip, sips or tel URI (RFC 3261 §19.1, RFC 3966) in its parts.

    `scheme` and the parameter names are in lower case, `user` is percent-decoded ("" if there is none; the
    number of a tel URI), an IPv6 `host` keeps its brackets. Of any other scheme only `scheme` is filled.
    """

    scheme: str
    user: str = ""
    host: str = ""
    port: int | None = None
    parameters: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "SipUri":
        """Take a URI apart; whatever has a scheme will do. Raises MessageError if it has none."""
        match = _SCHEME.match(text)
        if match is None:
            raise MessageError(f"not a URI: {text[:80]!r}")
        scheme, rest = match.group(1).lower(), text[match.end() :]
        if scheme == "tel":
            number, *parameters = rest.split(";")
            return cls(scheme=scheme, user=_percent_decode(number), parameters=_uri_parameters(parameters))
        if scheme not in {"sip", "sips"}:
            return cls(scheme=scheme)
        # An "@" can only end the user part: everywhere else it has to be escaped, while ";" and "?" need not
        # be escaped in a user part.
        userinfo, _, target = rest.rpartition("@")
        address, *parameters = target.partition("?")[0].split(";")
        host, port = _split_port(address)
        return cls(
            scheme=scheme,
            user=_percent_decode(userinfo.partition(":")[0]),
            host=host,
            port=port,
            parameters=_uri_parameters(parameters),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """One INVITE as received.

    The URIs are text as received, without display name and header parameters; a missing tag, branch or user
    is "". `user` is whom the caller dialled: the percent-decoded user part of the Request-URI. `transport` is
    "UDP", "TCP" or "TLS"; `source_host` is the packet's source address; `account` names the registration
    that the call came through; `received_at` is aware.
    """

    call_id: str
    from_uri: str
    from_tag: str = ""
    to_uri: str
    to_tag: str = ""
    request_uri: str
    user: str = ""
    user_agent: str | None = None
    cseq: int
    via_branch: str = ""
    transport: str
    source_host: str
    source_port: int
    local_host: str = ""
    account: str | None = None
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    received_at: datetime

    @classmethod
    def parse(
        cls,
        message: bytes,
        *,
        transport: str,
        source_host: str,
        source_port: int,
        received_at: datetime,
        account: str | None = None,
        local_host: str = "",
    ) -> "Invite":
        """Read an INVITE; only what makes it unanswerable raises MessageError (RFC 3261 §8.1.1)."""
        start_line, headers, body = split_message(message)
        request_uri = _read_request_line(start_line)
        from_uri, from_tag = _read_address(_single(headers, "From"))
        to_uri, to_tag = _read_address(_single(headers, "To"))
        via = headers.get("Via")
        if not via:
            raise MessageError("the INVITE has no Via header")
        return cls(
            call_id=_single(headers, "Call-ID"),
            from_uri=from_uri,
            from_tag=from_tag,
            to_uri=to_uri,
            to_tag=to_tag,
            request_uri=request_uri,
            user=_dialled_user(request_uri),
            user_agent=headers.get("User-Agent"),
            cseq=_read_cseq(_single(headers, "CSeq")),
            via_branch=_header_parameters(via.partition(",")[0]).get("branch", ""),
            transport=transport.upper(),
            source_host=source_host,
            source_port=source_port,
            local_host=local_host,
            account=account,
            headers=headers,
            body=body,
            received_at=received_at,
        )

    @property
    def source_address(self) -> str:
        """The packet's source as host:port, an IPv6 address in brackets."""
        return f"{bracketed(self.source_host)}:{self.source_port}"

    @property
    def has_offer(self) -> bool:
        """Whether the body holds an SDP offer; without one the offer is ours to make (RFC 3261 §13.2.1)."""
        media_type = (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if media_type.startswith("multipart/"):
            return b"application/sdp" in self.body.lower()
        return media_type in {"", "application/sdp"} and bool(self.body.strip())


def _read_request_line(start_line: str) -> str:
    parts = [part for part in start_line.replace("\t", " ").split(" ") if part]
    if parts[0] != "INVITE":
        raise MessageError(f"not an INVITE: {start_line[:80]!r}")
    if len(parts) != 3 or parts[2].upper() != "SIP/2.0":
        raise MessageError(f"not a SIP/2.0 request line: {start_line[:80]!r}")
    return parts[1].removeprefix("<").removesuffix(">")


def _single(headers: Headers, name: str) -> str:
    """Return the value of a header that has to be there once: which of two to believe is not ours to say."""
    values = set(headers.all(name))
    if not values or values == {""}:
        raise MessageError(f"the INVITE has no {name} header")
    if len(values) > 1:
        raise MessageError(f"the INVITE has more than one {name} header")
    return values.pop()


def _read_cseq(value: str) -> int:
    match = _CSEQ.fullmatch(value)
    if match is None or match.group(2) != "INVITE":
        raise MessageError(f"not the CSeq of an INVITE: {value[:80]!r}")
    number = int(match.group(1))
    if number >= 2**31:  # RFC 3261 §8.1.1.5
        raise MessageError(f"the CSeq number is too large: {number}")
    return number


def _read_address(value: str) -> tuple[str, str]:
    """Return URI and tag of a From or To: name-addr or addr-spec, then parameters (RFC 3261 §20.20)."""
    match = _UP_TO_ANGLE.match(value)
    # With a quote that never closes, the first angle bracket is the best guess.
    start = match.end() if match is not None else value.find("<") + 1
    if start:
        uri, _, rest = value[start:].partition(">")
    else:
        # Without brackets every parameter belongs to the header, not to the URI.
        uri, semicolon, parameters = value.partition(";")
        rest = semicolon + parameters
    return uri.strip() or value, _header_parameters(rest).get("tag", "")


def _header_parameters(text: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for match in _PARAMETER.finditer(text):
        name, value = match.group(1).lower(), match.group(2) or ""
        if value.startswith('"'):
            value = _ESCAPE.sub(r"\1", value[1:-1])
        parameters.setdefault(name, value)
    return parameters


def _dialled_user(request_uri: str) -> str:
    try:
        return SipUri.parse(request_uri).user
    except MessageError:
        return ""


def _uri_parameters(parameters: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = (parameter.partition("=") for parameter in parameters if parameter)
    return tuple((_percent_decode(name).lower(), _percent_decode(value)) for name, _, value in pairs)


def _split_port(address: str) -> tuple[str, int | None]:
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        return address, None
    return host, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else None


def _percent_decode(text: str) -> str:
    return decode_text(unquote_to_bytes(text)) if "%" in text else text
