"""SIP header fields: reading them, finding the test run's ids among them, and hiding the secret ones."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sip_agent.errors import MessageError

# RFC 3261 §7.3.3 and the IANA registry of compact forms.
_COMPACT_FORMS = {
    "a": "Accept-Contact",
    "b": "Referred-By",
    "c": "Content-Type",
    "d": "Request-Disposition",
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "j": "Reject-Contact",
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "n": "Identity-Info",
    "o": "Event",
    "r": "Refer-To",
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",
    "v": "Via",
    "x": "Session-Expires",
    "y": "Identity",
}

# A line may end in LF alone; stray CRs before it belong to the line end. The quantifiers are possessive,
# so that hostile input cannot make the expressions backtrack.
_SECTION_END = re.compile(rb"(?:\A|\n)\r*+\n")
_FIELD_LINES = re.compile(rb"[^\n]++(?:\n[ \t][^\n]*+)*+")
_LWS = b" \t\r"

# A NUL cuts text short in some databases and an ESC steers a terminal: each control character except HTAB
# is shown as its Unicode control picture, which loses nothing and harms nobody.
_CONTROL_PICTURES = {code: 0x2400 + code for code in range(0x20) if code != 0x09} | {0x7F: 0x2421}


def decode_text(raw: bytes) -> str:
    """Decode bytes of a SIP message as UTF-8 (RFC 3261 §7), or as ISO-8859-1 when they are not UTF-8.

    Control characters other than HTAB become control pictures (NUL is "␀"): the text is safe to store.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("iso-8859-1")
    return text.translate(_CONTROL_PICTURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderField:
    """One header field: its name in the long form, its unfolded value, and both as the bytes received."""

    name: str
    value: str = field(repr=False)
    raw: bytes = field(default=b"", repr=False)


class Headers:
    """The header fields of one message in the order received; immutable, found by name in any letter case."""

    __slots__ = ("_by_name", "_fields")

    def __init__(self, fields: Iterable[HeaderField] = ()) -> None:
        self._fields = tuple(fields)
        self._by_name: dict[str, list[str]] = {}
        for item in self._fields:
            self._by_name.setdefault(item.name.lower(), []).append(item.value)

    @classmethod
    def parse(cls, block: bytes) -> "Headers":
        """Read a header section, up to an empty line or the end of `block`.

        It takes every line end and fold that RFC 3261 §7.3.1 allows, expands compact names, skips lines
        that are not header fields, and never raises.
        """
        end = _SECTION_END.search(block)
        section = block if end is None else block[: end.start()]
        fields = (_read_field(match.group()) for match in _FIELD_LINES.finditer(section))
        return cls(item for item in fields if item is not None)

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> "Headers":
        """Build headers from (name, value) pairs, as a test or an outgoing call has them."""
        return cls(HeaderField(name=name, value=value) for name, value in pairs)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value under `name`, or `default` if there is none."""
        values = self._by_name.get(name.lower())
        return values[0] if values else default

    def all(self, name: str) -> tuple[str, ...]:
        """Return every value under `name`, in the order received."""
        return tuple(self._by_name.get(name.lower(), ()))

    def extensions(self) -> dict[str, list[str]]:
        """Return the X- fields; names that differ in letter case only go under the spelling met first."""
        spelling: dict[str, str] = {}
        for item in self._fields:
            key = item.name.lower()
            if key.startswith("x-"):
                spelling.setdefault(key, item.name)
        return {name: list(self._by_name[key]) for key, name in spelling.items()}

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._by_name

    def __iter__(self) -> Iterator[HeaderField]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return self._fields == other._fields if isinstance(other, Headers) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fields)

    def __repr__(self) -> str:
        return f"Headers({', '.join(item.name for item in self._fields)})"


def _read_field(lines: bytes) -> HeaderField | None:
    raw_name, colon, raw_value = lines.partition(b":")
    name = decode_text(raw_name.strip(_LWS))
    # A line that begins with white space continues nothing here; a fold before the colon is not SIP.
    if not colon or not name or lines[:1] in {b" ", b"\t"} or b"\n" in raw_name:
        return None
    pieces = (line.strip(_LWS) for line in raw_value.split(b"\n"))
    return HeaderField(
        name=_COMPACT_FORMS.get(name.lower(), name),
        value=decode_text(b" ".join(piece for piece in pieces if piece)),
        raw=lines.rstrip(b"\r"),
    )


def split_message(message: bytes) -> tuple[str, Headers, bytes]:
    """Split a SIP message into start line, headers and body.

    Empty lines before the start line are skipped (RFC 3261 §7.5), and so is what follows a body of
    Content-Length bytes (§18.3). Raises MessageError if there is no start line.
    """
    start, _, rest = message.lstrip(b"\r\n").partition(b"\n")
    start_line = decode_text(start.strip(_LWS))
    if not start_line:
        raise MessageError("the message has no start line")
    headers = Headers.parse(rest)
    end = _SECTION_END.search(rest)
    body = b"" if end is None else rest[end.end() :]
    length = headers.get("Content-Length", "")
    if length and length.isascii() and length.isdigit() and len(length) < 10:
        body = body[: int(length)]
    return start_line, headers, body


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelationIds:
    """The ids of the test run that a call belongs to, as received; None where the header is absent."""

    run_id: str | None = None
    scenario_id: str | None = None
    result_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelationProfile:
    """The names of the headers in which a test platform sends its ids; None where it sends none."""

    name: str
    run_id: str | None = None
    scenario_id: str | None = None
    result_id: str | None = None

    @property
    def header_names(self) -> tuple[str, ...]:
        """The headers that the profile reads."""
        return tuple(name for name in (self.run_id, self.scenario_id, self.result_id) if name is not None)


PROFILES: Mapping[str, CorrelationProfile] = {
    profile.name: profile
    for profile in (
        CorrelationProfile(name="cekura", run_id="X-Run-Id", scenario_id="X-Scenario-Id", result_id="X-Result-Id"),
        CorrelationProfile(name="coval", run_id="X-Coval-Simulation-Id"),
        CorrelationProfile(name="call-id", run_id="Call-ID"),
    )
}


def correlate(headers: Headers, profile: CorrelationProfile) -> CorrelationIds:
    """Read the correlation ids: the first value of each header, as received."""

    def value(name: str | None) -> str | None:
        return None if name is None else headers.get(name)

    return CorrelationIds(
        run_id=value(profile.run_id),
        scenario_id=value(profile.scenario_id),
        result_id=value(profile.result_id),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretHeaders:
    """Which headers hold secrets, and what a record shows in their place.

    A name is secret if it contains one of `patterns` in any letter case and is not in `exempt`, where the
    correlation headers belong. `salt` keys the fingerprints: equal values look equal, and stay unknown.
    """

    patterns: tuple[str, ...] = ("auth", "token", "secret", "key", "password")
    salt: bytes = field(repr=False)
    exempt: tuple[str, ...] = ()

    def is_secret(self, name: str) -> bool:
        """Tell whether the values under `name` are to be hidden."""
        key = name.lower()
        if any(key == exempt.lower() for exempt in self.exempt):
            return False
        return any(pattern.lower() in key for pattern in self.patterns)

    def redact(self, headers: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Return a copy of `headers` with every secret value replaced by its fingerprint."""
        return {
            name: [self._fingerprint(value) for value in values] if self.is_secret(name) else list(values)
            for name, values in headers.items()
        }

    def _fingerprint(self, value: str) -> str:
        if not value:
            return value
        digest = hmac.new(self.salt, value.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()
        return f"fingerprint:{digest[:12]}"
