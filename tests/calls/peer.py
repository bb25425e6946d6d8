"""A SIP peer made of sockets and bytes, for what SIPp cannot say: TLS, folded headers, odd digests, RTP at will."""

import hashlib
import re
import socket
import ssl
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Self

from tests.calls.agent_process import AgentProcess
from tests.calls.messages import Message

ANSWER_S = 5.0

_ADDRESS_FAMILY = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
_CONTENT_LENGTH = re.compile(rb"^(?:content-length|l)\s*:\s*(\d+)", re.IGNORECASE | re.MULTILINE)
_CHALLENGE = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^",\s]+))')


class Peer:
    """One socket to the agent, and one dialog on it at a time."""

    def __init__(self, agent: AgentProcess, transport: str = "UDP", *, port: int = 0) -> None:
        self.agent = agent
        self.transport = transport
        self.seen: list[Message] = []
        self._rest = b""
        self._sdp_version = 0
        self._socket = self._connect(port)
        host, self.port = self._socket.getsockname()[:2]
        self.host = f"[{host}]" if ":" in host else host
        self.new_dialog()

    def _connect(self, port: int) -> socket.socket:
        host = self.agent.host
        if self.transport == "UDP":
            udp = socket.socket(_ADDRESS_FAMILY[host], socket.SOCK_DGRAM)
            udp.bind((host, 0))
            udp.connect((host, port or self.agent.udp_port))
            return udp
        number = port or (self.agent.tls_port if self.transport == "TLS" else self.agent.tcp_port)
        stream = socket.create_connection((host, number), ANSWER_S)
        if self.transport == "TCP":
            return stream
        context = ssl.create_default_context()
        # The certificate of the test is its own authority.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def new_dialog(self) -> None:
        """Forget the dialog: the next request begins another one."""
        self.call_id = f"{uuid.uuid4().hex}@peer"
        self.tag = uuid.uuid4().hex[:8]
        self.to_tag = ""
        self.cseq = 0
        self.user = "echo"
        self.target = ""

    # Messages out

    def send(self, message: bytes) -> None:
        """Send bytes as they are: a datagram, or a piece of the stream."""
        self._socket.sendall(message)

    def build(
        self,
        method: str,
        *,
        headers: Sequence[str | bytes] = (),
        body: str | bytes = b"",
        content_type: str = "application/sdp",
        cseq: int | None = None,
        branch: str = "",
        via: str = "",
        contact: str = "",
    ) -> bytes:
        """Return a request of the dialog; each header is a whole line, or several if folded."""
        if cseq is None:
            self.cseq += method != "ACK"
            cseq = self.cseq
        content = body.encode() if isinstance(body, str) else body
        branch = branch or f"z9hG4bK{uuid.uuid4().hex}"
        number = cseq
        to_tag = f";tag={self.to_tag}" if self.to_tag else ""
        lines: list[str | bytes] = [
            f"{method} {self.target or self.uri} SIP/2.0",
            via or f"Via: SIP/2.0/{self.transport} {self.host}:{self.port};branch={branch};rport",
            f"From: <sip:peer@{self.host}>;tag={self.tag}",
            f"To: <{self.uri}>{to_tag}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {number} {method}",
            contact or f"Contact: <sip:peer@{self.host}:{self.port};transport={self.transport.lower()}>",
            "Max-Forwards: 70",
            *headers,
            *([f"Content-Type: {content_type}"] if content else []),
            f"Content-Length: {len(content)}",
        ]
        head = b"\r\n".join(line.encode() if isinstance(line, str) else line for line in lines)
        return head + b"\r\n\r\n" + content

    @property
    def uri(self) -> str:
        """The URI that is dialled."""
        host = f"[{self.agent.host}]" if ":" in self.agent.host else self.agent.host
        return f"sip:{self.user}@{host}"

    def request(self, method: str, **parts: object) -> Message:
        """Send a request and return its final response."""
        self.send(self.build(method, **parts))  # type: ignore[arg-type]
        return self.final(method)

    def invite(
        self, user: str = "echo", *, sdp: str | bytes | None = None, headers: Sequence[str | bytes] = ()
    ) -> Message:
        """Call `user`: send an INVITE, return its final response, and send the ACK."""
        self.user = user
        branch = f"z9hG4bK{uuid.uuid4().hex}"
        self.send(self.build("INVITE", body=self.offer() if sdp is None else sdp, headers=headers, branch=branch))
        response = self.final("INVITE")
        self.acknowledge(response, branch)
        return response

    def reinvite(self, sdp: str) -> Message:
        """Send an INVITE inside the dialog, return its final response, and send the ACK."""
        branch = f"z9hG4bK{uuid.uuid4().hex}"
        self.send(self.build("INVITE", body=sdp, branch=branch))
        response = self.final("INVITE")
        self.acknowledge(response, branch)
        return response

    def acknowledge(self, response: Message, branch: str) -> None:
        """Send the ACK that a final response asks for (RFC 3261 §17.1.1.3)."""
        to_tag, self.to_tag = self.to_tag, tag_of(response)
        if response.status < 300:
            self.target = response.header("Contact").strip("<>").partition(">")[0]
            self.send(self.build("ACK"))
        else:
            self.send(self.build("ACK", branch=branch))
            self.to_tag = to_tag

    def bye(self, headers: Sequence[str] = ()) -> Message:
        """Hang up."""
        return self.request("BYE", headers=headers)

    def reply(self, request: Message, status: int = 200, phrase: str = "OK") -> None:
        """Answer a request of the agent."""
        copied = [
            f"{name}: {value}"
            for name in ("Via", "Record-Route", "From", "To", "Call-ID", "CSeq")
            for value in request.headers(name)
        ]
        text = "\r\n".join([f"SIP/2.0 {status} {phrase}", *copied, "Content-Length: 0", "", ""])
        self.send(text.encode())

    def offer(self, *, port: int = 40_000, codec: str = "8 PCMA/8000", extra: str = "", host: str = "") -> str:
        """Return an SDP offer of one codec and telephone-event."""
        kind = "IP6" if ":" in self.host else "IP4"
        address = host or self.host.strip("[]")
        payload, _, name = codec.partition(" ")
        self._sdp_version += 1
        return (
            f"v=0\r\no=- 1 {self._sdp_version} IN {kind} {address}\r\ns=-\r\nc=IN {kind} {address}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP {payload} 101\r\na=rtpmap:{payload} {name}\r\n"
            f"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n{extra}"
        )

    # Messages in

    def receive(self, timeout_s: float = ANSWER_S) -> Message:
        """Return the next message; raises TimeoutError if none comes."""
        deadline = time.monotonic() + timeout_s
        while (message := self._take_message()) is None:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(65_535)
            if not data:
                raise ConnectionError("the agent closed the connection")
            self._rest += data
        self.seen.append(message)
        return message

    def final(self, method: str, timeout_s: float = ANSWER_S) -> Message:
        """Return the next final response to `method`; what comes before it is in `seen`."""
        while True:
            message = self.receive(timeout_s)
            if message.status >= 200 and message.method == method and message.header("Call-ID") == self.call_id:
                return message

    def await_request(self, method: str, timeout_s: float = ANSWER_S) -> Message:
        """Return the next request of the agent with this method."""
        while True:
            message = self.receive(timeout_s)
            if message.start_line.startswith(f"{method} "):
                return message

    def is_silent(self, timeout_s: float) -> bool:
        """Tell whether nothing at all arrives for so long."""
        try:
            self.receive(timeout_s)
        except TimeoutError:
            return True
        return False

    def _take_message(self) -> Message | None:
        if self.transport == "UDP":
            data, self._rest = self._rest, b""
            return Message(sent=False, raw=data) if data.strip() else None
        self._rest = self._rest.lstrip(b"\r\n")
        head, separator, rest = self._rest.partition(b"\r\n\r\n")
        if not separator:
            return None
        length = _CONTENT_LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return None
        self._rest = rest[size:]
        return Message(sent=False, raw=head + separator + rest[:size])


def tag_of(response: Message) -> str:
    """Return the To tag of a response."""
    return response.header("To").partition(";tag=")[2]


def challenges_of(response: Message) -> list[dict[str, str]]:
    """Return the parameters of every challenge in a 401."""
    return [
        {name.lower(): quoted or plain for name, quoted, plain in _CHALLENGE.findall(value)}
        for value in response.headers("WWW-Authenticate")
    ]


def authorization(
    challenge: Mapping[str, str],
    *,
    user: str,
    password: str,
    uri: str,
    method: str = "INVITE",
    nc: str = "00000001",
    scheme: str = "Digest",
) -> str:
    """Return the Authorization line that answers a challenge (RFC 7616 §3.4)."""
    algorithm = challenge["algorithm"]
    name = {"MD5": "md5", "SHA-256": "sha256"}[algorithm]

    def digest(text: str) -> str:
        return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()

    cnonce = uuid.uuid4().hex
    ha1 = digest(f"{user}:{challenge['realm']}:{password}")
    ha2 = digest(f"{method}:{uri}")
    response = digest(f"{ha1}:{challenge['nonce']}:{nc}:{cnonce}:auth:{ha2}")
    return (
        f'Authorization: {scheme} username="{user}", realm="{challenge["realm"]}", nonce="{challenge["nonce"]}", '
        f'uri="{uri}", response="{response}", algorithm={algorithm}, qop=auth, nc={nc}, cnonce="{cnonce}"'
    )
