"""Messages that no honest caller sends, and a few that only RFC 4475 would."""

import random
import re
from collections.abc import Callable, Iterator

Rewrite = Callable[[bytes], bytes]

_NUMBER = re.compile(rb"\d+")
_LINES = re.compile(rb"\r\n")
_ODD_BYTES = (
    b"\x00",
    b"\xff\xfe",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b":",
    b";",
    b",",
    b"<",
    b">",
    b'"',
    b"%00",
    b" ",
)
_ODD_NUMBERS = (b"-1", b"0", b"4294967296", b"99999999999999999999999999", b"2147483648", b"0x10", b"1e9")


def replace(old: bytes, new: bytes) -> Rewrite:
    """Return a rewriting of a part that is there."""

    def rewrite(message: bytes) -> bytes:
        assert old in message, old
        return message.replace(old, new, 1)

    return rewrite


def header(name: bytes, value: bytes) -> Rewrite:
    """Return a rewriting of the value of a header."""
    pattern = re.compile(rb"^" + name + rb":[^\r]*", re.MULTILINE)
    return lambda message: pattern.sub(lambda _: name + b": " + value, message, count=1)


def without(name: bytes) -> Rewrite:
    """Return a rewriting that leaves a header out."""
    pattern = re.compile(rb"^" + name + rb":[^\n]*\n", re.MULTILINE)
    return lambda message: pattern.sub(b"", message, count=1)


def extra(lines: bytes) -> Rewrite:
    """Return a rewriting that adds header lines."""
    return replace(b"Max-Forwards:", lines + b"\r\nMax-Forwards:")


HOSTILE: dict[str, Rewrite] = {
    "nothing but a line": lambda _: b"INVITE sip:echo@127.0.0.1 SIP/2.0\r\n\r\n",
    "an empty line": lambda _: b"\r\n\r\n",
    "noise": lambda _: random.Random(1).randbytes(1400),  # noqa: S311  (repeatable on purpose)
    "zeros": lambda _: bytes(1400),
    "HTTP": lambda _: b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n",
    "TLS": lambda _: bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "truncated in the headers": lambda message: message[:200],
    "truncated in the body": lambda message: message[:-80],
    "no end of the headers": lambda message: message.partition(b"\r\n\r\n")[0] + b"\r\n",
    "65 kB of header": extra(b"X-Long: " + b"a" * 60_000),
    "65 kB of name": extra(b"X-" + b"a" * 60_000 + b": 1"),
    "65 kB of body": lambda message: message + b"a=x\r\n" * 12_000,
    "a very long request URI": replace(b"sip:echo@127.0.0.1 ", b"sip:" + b"e" * 30_000 + b"@127.0.0.1 "),
    "a very long Call-ID": header(b"Call-ID", b"c" * 30_000),
    "a very long branch": replace(b"branch=", b"branch=" + b"b" * 30_000),
    "a very long tag": replace(b";tag=", b";tag=" + b"t" * 30_000),
    "10,000 headers": extra(b"\r\n".join(b"X-%d: 1" % number for number in range(5_000)) + b"\r\nX-A: 1" * 1_000),
    "2,000 Vias": extra(b"\r\n".join([b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx"] * 1_200)),
    "1,000 Routes": extra(b"\r\n".join([b"Route: <sip:127.0.0.1;lr>"] * 1_000)),
    "1,000 Record-Routes": extra(b"\r\n".join([b"Record-Route: <sip:127.0.0.1;lr>"] * 1_000)),
    "1,000 Contacts": extra(b"\r\n".join([b"Contact: <sip:x@127.0.0.1>"] * 1_000)),
    "1,000 Authorizations": extra(b"\r\n".join([b'Authorization: Digest username="x"'] * 1_000)),
    "deep folds": extra(b"X-Folded: a" + b"\r\n b" * 5_000),
    "deep parameters": header(b"Contact", b"<sip:x@127.0.0.1>" + b";a=b" * 8_000),
    "Content-Length too large": header(b"Content-Length", b"99999"),
    "Content-Length too small": header(b"Content-Length", b"3"),
    "Content-Length negative": header(b"Content-Length", b"-1"),
    "Content-Length huge": header(b"Content-Length", b"18446744073709551617"),
    "Content-Length of words": header(b"Content-Length", b"many"),
    "two Content-Lengths": extra(b"Content-Length: 1\r\nl: 99999"),
    "no Content-Length": without(b"Content-Length"),
    "NUL in the request URI": replace(b"sip:echo@", b"sip:ec\x00ho@"),
    "NUL in a header": extra(b"X-Nul: a\x00b"),
    "NUL in a name": extra(b"X-N\x00ul: a"),
    "NUL in the body": replace(b"s=-", b"s=\x00"),
    "bad UTF-8 everywhere": lambda message: message.replace(b"peer", b"\xc3\x28\xf0\x28\x8c\x28"),
    "overlong UTF-8": extra(b"X-Bad: \xc0\xaf\xe0\x80\xaf"),
    "empty Via": header(b"Via", b""),
    "no Via": without(b"Via"),
    "Via of nothing": header(b"Via", b"SIP/2.0/UDP"),
    "Via of nowhere": header(b"Via", b"SIP/2.0/UDP nowhere.invalid;branch=z9hG4bKn"),
    "Via of port 0": header(b"Via", b"SIP/2.0/UDP 127.0.0.1:0;branch=z9hG4bK0"),
    "Via of port 99999": header(b"Via", b"SIP/2.0/UDP 127.0.0.1:99999;branch=z9hG4bK9;rport"),
    "Via of another protocol": header(b"Via", b"SIP/7.3/CARRIERPIGEON 127.0.0.1;branch=z9hG4bKp;rport"),
    "no From": without(b"From"),
    "no To": without(b"To"),
    "no Call-ID": without(b"Call-ID"),
    "no CSeq": without(b"CSeq"),
    "empty From": header(b"From", b""),
    "From without tag": header(b"From", b"<sip:peer@127.0.0.1>"),
    "From with an open quote": header(b"From", b'"Mr. Bean <sip:peer@127.0.0.1>;tag=1'),
    "From with an open bracket": header(b"From", b"<sip:peer@127.0.0.1;tag=1"),
    "From of no URI": header(b"From", b"<<<>>>;tag=1"),
    "To of 5,000 quotes": header(b"To", b'"' + b'\\"' * 5_000 + b'" <sip:echo@127.0.0.1>'),
    "two Froms": extra(b"From: <sip:other@127.0.0.1>;tag=2"),
    "two Call-IDs": extra(b"Call-ID: other"),
    "negative CSeq": header(b"CSeq", b"-1 INVITE"),
    "huge CSeq": header(b"CSeq", b"99999999999999999999 INVITE"),
    "CSeq of another method": header(b"CSeq", b"1 BYE"),
    "CSeq without method": header(b"CSeq", b"1"),
    "negative Max-Forwards": header(b"Max-Forwards", b"-5"),
    "Max-Forwards 0": header(b"Max-Forwards", b"0"),
    "huge Max-Forwards": header(b"Max-Forwards", b"999999999999"),
    "huge Expires": extra(b"Expires: 99999999999999999999999"),
    "huge Session-Expires": extra(b"Supported: timer\r\nSession-Expires: 99999999999999999999"),
    "negative Session-Expires": extra(b"Supported: timer\r\nSession-Expires: -1"),
    "nonsense RAck": extra(b"RAck: -1 -1 INVITE"),
    "nonsense Replaces": extra(b"Replaces: nothing;to-tag=1;from-tag=2"),
    "nonsense Require": extra(b"Require: " + b"x," * 2_000 + b"x"),
    "nonsense Date": extra(b"Date: Fri, 32 Foo 0000 99:99:99 XYZ"),
    "Contact of *": header(b"Contact", b"*"),
    "Contact of a mail": header(b"Contact", b"<mailto:x@example.org>"),
    "Contact that is empty": header(b"Contact", b""),
    "no Contact": without(b"Contact"),
    "another SIP version": replace(b"SIP/2.0\r\n", b"SIP/7.0\r\n"),
    "no version": replace(b" SIP/2.0\r\n", b"\r\n"),
    "spaces in the request URI": replace(b"sip:echo@127.0.0.1", b"sip:echo  who @127.0.0.1"),
    "a tel URI": replace(b"INVITE sip:echo@127.0.0.1", b"INVITE tel:+15551234;phone-context=x"),
    "an unknown URI": replace(b"INVITE sip:echo@127.0.0.1", b"INVITE nobodyknows:what"),
    "a URI with headers": replace(b"INVITE sip:echo@127.0.0.1", b"INVITE sip:echo@127.0.0.1?Route=%3Csip:x%3E"),
    "a URI in brackets": replace(b"INVITE sip:echo@127.0.0.1", b"INVITE <sip:echo@127.0.0.1>"),
    "percent zero": replace(b"INVITE sip:echo@", b"INVITE sip:%00%ff%zz@"),
    "a response nobody asked for": lambda _: (
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n"
        b"To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    ),
    "a status of 4294967301": lambda _: (
        b"SIP/2.0 4294967301 better not break\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\n"
        b"From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n"
    ),
    "SDP of noise": lambda message: message.partition(b"v=0")[0] + bytes(range(1, 200)),
    "SDP without end": replace(b"m=audio", b"m=audio 1 RTP/AVP" + b" 0" * 500 + b"\r\nm=audio"),
    "SDP of 1,000 streams": lambda message: message + b"m=audio 9 RTP/AVP 8\r\n" * 1_000,
    "SDP of odd ports": replace(b"m=audio 40000", b"m=audio 99999999"),
    "SDP of a negative port": replace(b"m=audio 40000", b"m=audio -1"),
    "SDP of no payload": replace(b"RTP/AVP 8 101", b"RTP/AVP"),
    "SDP of payload 999": replace(b"RTP/AVP 8 101", b"RTP/AVP 999"),
    "SDP of clock rate 0": replace(b"PCMA/8000", b"PCMA/0"),
    "SDP of a huge ptime": lambda message: message + b"a=ptime:4294967295\r\n",
    "SDP of ptime 0": lambda message: message + b"a=ptime:0\r\n",
    "SDP of no address": lambda message: re.sub(rb"c=IN[^\r]*", b"c=IN IP4", message),
    "SDP of a name": lambda message: re.sub(rb"c=IN[^\r]*", b"c=IN IP4 nowhere.invalid", message),
    "SDP of a multicast address": lambda message: re.sub(rb"c=IN[^\r]*", b"c=IN IP4 224.2.1.1/127/3", message),
    "SDP in another type": header(b"Content-Type", b"application/x-unknown"),
    "multipart without parts": header(b"Content-Type", b"multipart/mixed;boundary=x"),
    "Content-Type of nonsense": header(b"Content-Type", b";;;/=;"),
    "an ACK of nothing": lambda message: message.replace(b"INVITE", b"ACK"),
    "a CANCEL of nothing": lambda message: message.replace(b"INVITE", b"CANCEL"),
    "a BYE of nothing": lambda message: message.replace(b"INVITE", b"BYE"),
    "a PRACK of nothing": lambda message: message.replace(b"INVITE", b"PRACK"),
    "a method of 3,000 letters": lambda message: message.replace(b"INVITE", b"M" * 3_000),
}
"""What is done to a good INVITE, by name; whole messages where nothing is left of it."""


def well_framed(message: bytes) -> bytes:
    """Return a message with the Content-Length of its body, so that it goes through a TCP stream in one piece."""
    head, _, body = message.partition(b"\r\n\r\n")
    return header(b"Content-Length", str(len(body)).encode())(head) + b"\r\n\r\n" + body


def mutations(message: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Yield `count` messages that are each a few random changes away from a good one; the same for each seed."""
    dice = random.Random(seed)  # noqa: S311  (repeatable on purpose)
    for _ in range(count):
        mutant = message
        for _ in range(dice.randint(1, 4)):
            mutant = dice.choice(_CHANGES)(mutant, dice)
        yield mutant[:60_000]


def _flip(message: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(message))
    return message[:place] + dice.randbytes(1) + message[place + 1 :]


def _cut(message: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(message))
    return (message[:start] + message[start + dice.randint(1, 40) :]) or b"\r\n"


def _repeat(message: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(message))
    piece = message[start : start + dice.randint(1, 60)]
    return message[:start] + piece * dice.choice((2, 3, 50)) + message[start:]


def _insert(message: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(message))
    return message[:place] + dice.choice(_ODD_BYTES) + message[place:]


def _renumber(message: bytes, dice: random.Random) -> bytes:
    numbers = list(_NUMBER.finditer(message))
    if not numbers:
        return message
    chosen = dice.choice(numbers)
    return message[: chosen.start()] + dice.choice(_ODD_NUMBERS) + message[chosen.end() :]


def _shuffle(message: bytes, dice: random.Random) -> bytes:
    lines = _LINES.split(message)
    one, other = dice.randrange(len(lines)), dice.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\r\n".join(lines)


_CHANGES = (_flip, _cut, _repeat, _insert, _renumber, _shuffle)
