"""TwiML: what a voice URL answers, read without trust.

Source: twilio.com/docs/voice/twiml. Of its verbs there are those that a voice bot's answer is made of.
"""

import re
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from sip_agent.errors import SipAgentError

CHARACTERS_MAX = 64_000
"""Twilio's own limit of a document."""

DEPTH_MAX = 8
LOOPS_MAX = 1000
"""`loop="0"` means this often, as Twilio documents."""

_DIGITS = re.compile(r"[0-9*#A-DW]*", re.IGNORECASE)


class TwimlError(SipAgentError):
    """The document cannot be carried out; the message says why."""


@dataclass(frozen=True, slots=True)
class Say:
    """Say a text, `loops` times."""

    text: str
    voice: str = ""
    loops: int = 1


@dataclass(frozen=True, slots=True)
class Play:
    """Play the sound file at `url`, `loops` times, or send `digits`, in which `w` waits 0.5 s and `W` 1 s."""

    url: str = ""
    digits: str = ""
    loops: int = 1


@dataclass(frozen=True, slots=True)
class Pause:
    """Be silent for `seconds`."""

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


def parse_twiml(document: bytes) -> tuple[Verb, ...]:
    """Read a `<Response>`; raises TwimlError."""
    root = _read_xml(document)
    if root.tag != "Response":
        raise TwimlError(f"the document is <{root.tag[:40]}>, not <Response>")
    return tuple(_read_verb(element) for element in root)


def _read_verb(element: Element) -> Verb:
    match element.tag:
        case "Say":
            return Say(_text(element), voice=element.get("voice", ""), loops=_loops(element))
        case "Play":
            digits = element.get("digits", "")
            url = _text(element)
            if bool(digits) == bool(url):
                raise TwimlError("<Play> has either the address of a sound or digits")
            if not _DIGITS.fullmatch(digits):
                raise TwimlError(f'<Play digits="…"> has 0-9 * # A-D, and w or W to wait, not {digits[:20]!r}')
            return Play(url=url, digits=digits, loops=_loops(element))
        case "Pause":
            return Pause(_number(element, "length", 1))
        case "Hangup":
            return Hangup()
        case "Reject":
            return Reject(busy=element.get("reason") == "busy")
        case "Connect":
            return _read_stream(element)
    raise TwimlError(f"<{element.tag[:40]}> is not supported; there are Connect, Say, Play, Pause, Hangup and Reject")


def _read_stream(connect: Element) -> Stream:
    nouns = list(connect)
    if len(nouns) != 1 or nouns[0].tag != "Stream":
        raise TwimlError("<Connect> has to hold one <Stream>")
    url = nouns[0].get("url", "").strip()
    if not url.startswith(("ws://", "wss://")):
        raise TwimlError("<Stream> has no url that starts with wss:// or ws://")
    parameters = {
        child.get("name", ""): child.get("value", "")
        for child in nouns[0]
        if child.tag == "Parameter" and child.get("name")
    }
    return Stream(url, parameters)


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
