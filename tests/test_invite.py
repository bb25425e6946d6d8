"""What is read of an INVITE, and what is refused."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_agent.errors import MessageError
from sip_agent.headers import Headers
from sip_agent.invite import Invite, SipUri

RECEIVED_AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

MESSAGE = (
    b"INVITE sip:agent@198.51.100.1:5060;transport=udp SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 10.0.0.7:5060;branch=z9hG4bK776asdhds;rport, SIP/2.0/TCP first;branch=z9hG4bKother\r\n"
    b"Max-Forwards: 70\r\n"
    b'From: "Cekura" <sip:caller@cekura.ai>;tag=1928301774\r\n'
    b"To: <sip:agent@198.51.100.1>\r\n"
    b"Call-ID: a84b4c76e66710@10.0.0.7\r\n"
    b"CSeq: 314159 INVITE\r\n"
    b"User-Agent: FreeSWITCH\r\n"
    b"X-Run-Id: 34625\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Content-Length: 5\r\n"
    b"\r\n"
    b"v=0\r\n"
)


def parse(message: bytes) -> Invite:
    """Parse a message as it comes in on the test's socket."""
    return Invite.parse(
        message,
        transport="udp",
        source_host="203.0.113.9",
        source_port=5080,
        received_at=RECEIVED_AT,
        account="trunk",
        local_host="198.51.100.1",
    )


def with_header(name: bytes, value: bytes | None) -> bytes:
    """Return MESSAGE with one header replaced, or left out."""
    lines = MESSAGE.split(b"\r\n")
    index = next(index for index, line in enumerate(lines) if line.startswith(name + b":"))
    lines[index : index + 1] = [] if value is None else [name + b":" + value]
    return b"\r\n".join(lines)


def with_request_line(line: bytes) -> bytes:
    """Return MESSAGE with another first line."""
    return line + MESSAGE[MESSAGE.index(b"\r\n") :]


class TestParse:
    """Reading a whole INVITE."""

    def test_everything(self) -> None:
        """Each thing that the flow and the handler need is where it belongs."""
        invite = parse(MESSAGE)

        expected = Invite(
            call_id="a84b4c76e66710@10.0.0.7",
            from_uri="sip:caller@cekura.ai",
            from_tag="1928301774",
            to_uri="sip:agent@198.51.100.1",
            to_tag="",
            request_uri="sip:agent@198.51.100.1:5060;transport=udp",
            user="agent",
            user_agent="FreeSWITCH",
            cseq=314159,
            via_branch="z9hG4bK776asdhds",
            transport="UDP",
            source_host="203.0.113.9",
            source_port=5080,
            local_host="198.51.100.1",
            account="trunk",
            headers=Headers.parse(MESSAGE.partition(b"\r\n")[2]),
            body=b"v=0\r\n",
            received_at=RECEIVED_AT,
        )
        assert expected == invite
        assert invite.headers.extensions() == {"X-Run-Id": ["34625"]}

    def test_torture(self) -> None:
        """The short tortuous INVITE of RFC 4475 §3.1.1.1 is legal."""
        invite = parse(
            b"INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\n"
            b"TO :\r\n"
            b" sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\r\n"
            b'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>\r\n'
            b"  ;\r\n"
            b"  tag = 98asjd8\r\n"
            b"MaX-fOrWaRdS: 0068\r\n"
            b"Call-ID: wsinv.ndaksdj@192.0.2.1\r\n"
            b"Content-Length   : 150\r\n"
            b"cseq: 0009\r\n"
            b"  INVITE\r\n"
            b"Via  : SIP  /   2.0\r\n"
            b" /UDP\r\n"
            b"    192.0.2.2;branch=390skdjuw\r\n"
            b"s :\r\n"
            b"NewFangledHeader:   newfangled value\r\n"
            b" continued newfangled value\r\n"
            b"UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n"
            b"Content-Type: application/sdp\r\n"
            b"Route:\r\n"
            b" <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n"
            b"v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n"
            b"  branch  =   z9hG4bK9ikj8  ,\r\n"
            b" SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n"
            b" z9hG4bK30239\r\n"
            b'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =\r\n'
            b"      newvalue ;\r\n"
            b"  secondparam ; q = 0.33\r\n"
            b"\r\n"
            b"v=0\r\n"
        )

        assert (invite.to_uri, invite.to_tag) == ("sip:vivekg@chair-dnrc.example.com", "1918181833n")
        assert (invite.from_uri, invite.from_tag) == ("sip:jdrosen@example.com", "98asjd8")
        assert (invite.user, invite.cseq, invite.via_branch) == ("vivekg", 9, "390skdjuw")

    @pytest.mark.parametrize(
        ("value", "uri", "tag"),
        [
            (b"<sip:a@b>;tag=1", "sip:a@b", "1"),
            (b"Bob <sip:a@b>;tag=1", "sip:a@b", "1"),
            (b"<sip:a@b;transport=tcp;lr?Subject=x>;tag=1", "sip:a@b;transport=tcp;lr?Subject=x", "1"),
            (rb'"<sip:eve@evil>;tag=9, \"Bob\" \\" <sip:a@b> ; x="tag=7;" ; TAG = 1', "sip:a@b", "1"),
            (b"sip:a@b;tag=1", "sip:a@b", "1"),
            (b"sip:a@b ;x;tag=1", "sip:a@b", "1"),
            (b"sip:a@[2001:db8::1]:5060;tag=1", "sip:a@[2001:db8::1]:5060", "1"),
            (b"<tel:+1-201-555-0123;phone-context=x>;tag=1", "tel:+1-201-555-0123;phone-context=x", "1"),
            ("Jäsøn <sip:a@b>;tag=1".encode("latin-1"), "sip:a@b", "1"),
            (b'"unclosed <sip:a@b>;tag=1', "sip:a@b", "1"),
            (b"Bob <sip:a@b;tag=1", "sip:a@b;tag=1", ""),
            (b"Bob sip:a@b;tag=1", "Bob sip:a@b", "1"),
            (b"<>;tag=1", "<>;tag=1", "1"),
            (b"nonsense", "nonsense", ""),
            (b"<sip:a@b>", "sip:a@b", ""),
            (b'<sip:a@b>;tag="1"', "sip:a@b", "1"),
        ],
    )
    def test_from_and_to(self, value: bytes, uri: str, tag: str) -> None:
        """The URI is found in all forms of an address, and recorded as text even where it is none."""
        caller = parse(with_header(b"From", value))
        called = parse(with_header(b"To", value))

        assert (uri, tag) == (caller.from_uri, caller.from_tag)
        assert (uri, tag) == (called.to_uri, called.to_tag)

    @pytest.mark.parametrize(
        ("request_uri", "user"),
        [
            (b"sip:agent@example.com", "agent"),
            (b"SIP:agent:password@example.com", "agent"),
            (b"sips:%61gent%20one@example.com", "agent one"),
            (b"sip:J%C3%A4s%C3%B8n@example.com", "Jäsøn"),
            (b"sip:J%E4s%F8n@example.com", "Jäsøn"),
            (b"sip:a%00b@example.com", "a␀b"),
            (b"sip:+1201;phone-context=x@example.com", "+1201;phone-context=x"),
            (b"sip:user@host@example.com", "user@host"),
            (b"tel:+1-201-555-0123;isub=1", "+1-201-555-0123"),
            (b"sip:example.com;transport=tcp", ""),
            (b"urn:service:sos", ""),
            (b"garbage", ""),
        ],
    )
    def test_dialled_user(self, request_uri: bytes, user: str) -> None:
        """The dialled user is the decoded user part of the Request-URI, or nothing."""
        invite = parse(with_request_line(b"INVITE " + request_uri + b" SIP/2.0"))

        assert (request_uri.decode(), user) == (invite.request_uri, invite.user)

    @pytest.mark.parametrize(
        "line",
        [
            b"INVITE  sip:agent@b\tsip/2.0 ",
            b"INVITE <sip:agent@b> SIP/2.0",
            b"\r\nINVITE sip:agent@b SIP/2.0",
        ],
    )
    def test_odd_request_lines(self, line: bytes) -> None:
        """Harmless mistakes in the request line are forgiven."""
        assert parse(with_request_line(line)).request_uri == "sip:agent@b"

    def test_old_peers(self) -> None:
        """A peer of RFC 2543 sends neither branch nor tag; a shy one no User-Agent."""
        invite = parse(with_header(b"Via", b" SIP/2.0/UDP 10.0.0.7"))

        assert invite.via_branch == ""
        assert parse(with_header(b"User-Agent", None)).user_agent is None

    @pytest.mark.parametrize(
        ("message", "complaint"),
        [
            (b"", "no start line"),
            (with_request_line(b"OPTIONS sip:a@b SIP/2.0"), "not an INVITE"),
            (with_request_line(b"invite sip:a@b SIP/2.0"), "not an INVITE"),
            (with_request_line(b"SIP/2.0 200 OK"), "not an INVITE"),
            (with_request_line(b"INVITE sip:a@b SIP/3.0"), "not a SIP/2.0 request line"),
            (with_request_line(b"INVITE sip:a b@c SIP/2.0"), "not a SIP/2.0 request line"),
            (with_request_line(b"INVITE"), "not a SIP/2.0 request line"),
            (with_header(b"From", None), "no From header"),
            (with_header(b"To", None), "no To header"),
            (with_header(b"To", b" "), "no To header"),
            (with_header(b"Call-ID", None), "no Call-ID header"),
            (with_header(b"Via", None), "no Via header"),
            (with_header(b"CSeq", None), "no CSeq header"),
            (with_header(b"CSeq", b" INVITE"), "not the CSeq"),
            (with_header(b"CSeq", b" 1 BYE"), "not the CSeq"),
            (with_header(b"CSeq", b" 36893488147419103232 INVITE"), "not the CSeq"),
            (with_header(b"CSeq", b" 2147483648 INVITE"), "too large"),
            (with_header(b"To", b" <sip:a@b>\r\nTo: <sip:c@d>"), "more than one To header"),
        ],
    )
    def test_unanswerable(self, message: bytes, complaint: str) -> None:
        """What cannot be answered properly is refused, and the message says why."""
        with pytest.raises(MessageError, match=complaint):
            parse(message)

    @given(st.binary(), st.sampled_from([b"From", b"To", b"Via", b"CSeq", b"Call-ID", b"Content-Type"]))
    def test_raises_nothing_else(self, value: bytes, name: bytes) -> None:
        """Whatever a header holds, the INVITE is read or refused with MessageError."""
        try:
            invite = parse(with_header(name, value))
        except MessageError:
            return
        assert invite.from_uri
        assert invite.has_offer in {True, False}

    @pytest.mark.parametrize("value", [b'"' * 50_000, b'"\\' * 25_000, b";a=" * 20_000, b"<" * 50_000, b"; " * 25_000])
    def test_time_is_linear(self, value: bytes) -> None:
        """An address made to be slow to read is not."""
        started_at = time.process_time()
        parse(with_header(b"From", value))

        assert time.process_time() - started_at < 1


@pytest.mark.parametrize(
    ("host", "expected"),
    [("203.0.113.9", "203.0.113.9:5080"), ("2001:db8::1", "[2001:db8::1]:5080"), ("[::1]", "[::1]:5080")],
)
def test_source_address(host: str, expected: str) -> None:
    """The source is host:port, with brackets around IPv6."""
    invite = Invite.parse(MESSAGE, transport="UDP", source_host=host, source_port=5080, received_at=RECEIVED_AT)

    assert expected == invite.source_address


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (b" application/sdp", b"v=0\r\n", True),
        (b" Application/SDP;charset=utf-8", b"v=0\r\n", True),
        (None, b"v=0\r\n", True),
        (b" application/sdp", b"", False),
        (b" text/plain", b"hello", False),
        (b" multipart/mixed;boundary=x", b"--x\r\nContent-Type: application/SDP\r\n\r\nv=0\r\n--x--", True),
        (b" multipart/mixed;boundary=x", b"--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x--", False),
    ],
)
def test_has_offer(content_type: bytes | None, body: bytes, *, expected: bool) -> None:
    """An offer is an SDP body, alone or as a part of several; without one the offer is left to us."""
    message = with_header(b"Content-Type", content_type).replace(b"Content-Length: 5", b"Max-Breadth: 60")
    head, separator, _ = message.partition(b"\r\n\r\n")

    assert expected == parse(head + separator + body).has_offer


def test_uri_parts() -> None:
    """A URI falls into its parts; names of schemes and parameters are in lower case."""
    expected = SipUri(
        scheme="sips",
        user="a;b",
        host="[2001:db8::1]",
        port=5061,
        parameters=(("transport", "TCP"), ("lr", "")),
    )

    assert expected == SipUri.parse("SIPS:a%3bb:pw@[2001:db8::1]:5061;Transport=TCP;lr?Subject=x")
    assert SipUri(scheme="sip", host="[::1]") == SipUri.parse("sip:[::1]")
    assert SipUri(scheme="sip", host="b") == SipUri.parse("sip:b:port")
