"""TwiML: what a voice URL answers, read without trust.

Source: twilio.com/docs/voice/twiml. Of its verbs there are those that a voice bot's answer is made of.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from sip_agent.errors import SipAgentError
from sip_agent.handlers.websocket.connection import check_url

CHARACTERS_MAX = 64_000
"""Twilio's own limit of a document."""

DEPTH_MAX = 8
LOOPS_MAX = 1000
"""`loop="0"` means this often, as Twilio documents."""

_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "Say": frozenset({"loop"}),
    "Play": frozenset({"loop", "digits"}),
    "Pause": frozenset({"length"}),
    "Reject": frozenset({"reason"}),
    "Stream": frozenset({"url"}),
    "Parameter": frozenset({"name", "value"}),
}
"""What is read of each element."""

_DIGITS = re.compile(r"[0-9*#A-DW]*", re.IGNORECASE)


class TwimlError(SipAgentError):
    """The document cannot be carried out; the message says why."""


@dataclass(frozen=True, slots=True)
class Say:
    """Say a text, `loops` times."""

    text: str
    loops: int = 1


@dataclass(frozen=True, slots=True)
class Play:
    """Play the sound file at `url`, `loops` times, or send `digits`, in which `w` waits 0.5 s and `W` 1 s."""

    url: str = ""
    digits: str = ""
    loops: int = 1


@dataclass(frozen=True, slots=True)
class Pause:
    """Be silent for `seconds`; before the answer, ring for so long."""

    seconds: float = 1


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the call."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse the call: busy, or just not wanted."""

    busy: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """Connect the call with the bot at `url`."""

    url: str
    parameters: dict[str, str] = field(default_factory=dict)


Verb = Say | Play | Pause | Hangup | Reject | Stream


@dataclass(frozen=True, slots=True)
class Response:
    """What a document says to do, and which of its attributes (`<Connect action>`) are not taken note of."""

    verbs: tuple[Verb, ...]
    ignored: tuple[str, ...] = ()


def parse_twiml(document: bytes, base_url: str) -> Response:
    """Read a `<Response>` that came from `base_url`, where its relative addresses begin; raises TwimlError."""
    root = _read_xml(document)
    if root.tag != "Response":
        raise TwimlError(f"the document is <{root.tag[:40]}>, not <Response>")
    return Response(tuple(_read_verb(element, base_url) for element in root), _ignored(root))


def _ignored(root: Element) -> tuple[str, ...]:
    found = {
        f"<{element.tag[:40]} {name[:40]}>"
        for verb in root
        for element in verb.iter()
        for name in element.attrib.keys() - _ATTRIBUTES.get(element.tag, frozenset())
    }
    return tuple(sorted(found))


def _read_verb(element: Element, base_url: str) -> Verb:
    match element.tag:
        case "Say":
            return Say(_text(element), loops=_loops(element))
        case "Play":
            digits = element.get("digits", "")
            url = _text(element)
            if bool(digits) == bool(url):
                raise TwimlError("<Play> has either the address of a sound or digits")
            if not _DIGITS.fullmatch(digits):
                raise TwimlError(f'<Play digits="…"> has 0-9 * # A-D, and w or W to wait, not {digits[:20]!r}')
            if url:
                url = _absolute("<Play>", base_url, url, ("https", "http"))
            return Play(url=url, digits=digits, loops=_loops(element))
        case "Pause":
            return Pause(_number(element, "length", 1))
        case "Hangup":
            return Hangup()
        case "Reject":
            return Reject(busy=element.get("reason") == "busy")
        case "Connect":
            return _read_stream(element, base_url)
    raise TwimlError(f"<{element.tag[:40]}> is not supported; there are Connect, Say, Play, Pause, Hangup and Reject")


def _read_stream(connect: Element, base_url: str) -> Stream:
    nouns = list(connect)
    if len(nouns) != 1 or nouns[0].tag != "Stream":
        raise TwimlError("<Connect> has to hold one <Stream>")
    written = nouns[0].get("url", "").strip()
    if not written:
        raise TwimlError("<Stream> has no url")
    url = _absolute("<Stream>", re.sub("(?i)^http", "ws", base_url), written, ("wss", "ws"))
    parameters = {
        child.get("name", ""): child.get("value", "")
        for child in nouns[0]
        if child.tag == "Parameter" and child.get("name")
    }
    return Stream(url, parameters)


def _absolute(tag: str, base_url: str, written: str, schemes: tuple[str, str]) -> str:
    try:
        url = urljoin(base_url, written)
        check_url(tag, url, schemes)
    except ValueError:
        raise TwimlError(
            f"the address in {tag} is relative, or starts with {schemes[0]}:// or {schemes[1]}://"
        ) from None
    return url


def _text(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def _loops(element: Element) -> int:
    loops = int(_number(element, "loop", 1))
    return loops if 0 < loops < LOOPS_MAX else LOOPS_MAX


def _number(element: Element, name: str, default: float) -> float:
    written = element.get(name)
    if written is None:
        return default
    if not written.isascii() or not written.isdigit() or len(written) > 5:
        raise TwimlError(f'<{element.tag} {name}="…"> is a whole number, not {written[:20]!r}')
    return int(written)


def _read_xml(document: bytes) -> Element:
    """Build the tree by hand: a document type, and with it every entity, is refused."""
    if len(document) > CHARACTERS_MAX:
        raise TwimlError(f"the document has {len(document)} bytes; {CHARACTERS_MAX} are allowed")
    builder, depth = TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH_MAX:
            raise TwimlError(f"the document is nested deeper than {DEPTH_MAX} levels")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise TwimlError("the document has a document type, which TwiML has not")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise TwimlError(f"the document is no XML: {error}") from error
    except (LookupError, ValueError) as error:  # an encoding that nobody knows
        raise TwimlError(f"the document cannot be decoded: {error}") from error
    return builder.close()
