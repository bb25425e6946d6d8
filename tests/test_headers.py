"""Header fields: what is read, what is found, what is hidden."""

import json
import re
import sqlite3
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_agent.errors import MessageError
from sip_agent.headers import (
    PROFILES,
    CorrelationIds,
    CorrelationProfile,
    HeaderField,
    Headers,
    SecretHeaders,
    correlate,
    decode_text,
    split_message,
)


def pairs(headers: Headers) -> list[tuple[str, str]]:
    """Return what a test compares: names and values."""
    return [(item.name, item.value) for item in headers]


class TestParse:
    """Reading a header section."""

    @pytest.mark.parametrize("line_end", [b"\r\n", b"\n", b"\r\r\n"])
    def test_line_ends(self, line_end: bytes) -> None:
        """A line ends in CRLF, in bare LF, or in whatever CRs came before it."""
        headers = Headers.parse(b"X-Run-Id: 1" + line_end + b"X-Scenario-Id: 2" + line_end)

        assert pairs(headers) == [("X-Run-Id", "1"), ("X-Scenario-Id", "2")]

    def test_folds(self) -> None:
        """A fold and the white space around it become one space (RFC 3261 §7.3.1)."""
        headers = Headers.parse(b"Subject: I know  \r\n \t you're there,\r\n\r\n")
        folded_at_once = Headers.parse(b"Subject:\r\n \r\n lunch\r\n")

        assert pairs(headers) == [("Subject", "I know you're there,")]
        assert pairs(folded_at_once) == [("Subject", "lunch")]

    def test_white_space_before_the_colon(self) -> None:
        """White space around the colon and after the value does not count; inside the value it does."""
        headers = Headers.parse(b"X-Run-Id \t :  4 \t 2 \t\r\n")

        assert pairs(headers) == [("X-Run-Id", "4 \t 2")]

    def test_compact_names(self) -> None:
        """Compact names become long ones in any letter case (RFC 3261 §7.3.3)."""
        headers = Headers.parse(b"v: 1\nF: 2\nt: 3\nI: 4\nm: 5\nl: 6\nc: 7\ns: 8\nk: 9\ne: 10\nr: 11\nx: 12\n")

        expected = ["Via", "From", "To", "Call-ID", "Contact", "Content-Length", "Content-Type", "Subject"]
        expected += ["Supported", "Content-Encoding", "Refer-To", "Session-Expires"]
        assert expected == [item.name for item in headers]

    def test_empty_value(self) -> None:
        """A header may be there and empty, which is not the same as absent."""
        headers = Headers.parse(b"X-Run-Id:\r\nX-Result-Id:  \r\n")

        assert tuple(headers.get(f"X-{name}-Id") for name in ("Run", "Result", "Scenario")) == ("", "", None)

    def test_colons_in_the_value(self) -> None:
        """Only the first colon separates."""
        assert pairs(Headers.parse(b"X-Url: http://a:80/b\r\n")) == [("X-Url", "http://a:80/b")]

    def test_bytes_that_are_not_utf_8(self) -> None:
        """A value is UTF-8, or else ISO-8859-1; the bytes themselves are kept."""
        utf_8, latin_1 = Headers.parse("X-Name: Jäsøn".encode() + b"\r\n" + "X-Name: Jäsøn".encode("latin-1"))

        assert utf_8 == HeaderField(name="X-Name", value="Jäsøn", raw=b"X-Name: J\xc3\xa4s\xc3\xb8n")
        assert latin_1 == HeaderField(name="X-Name", value="Jäsøn", raw=b"X-Name: J\xe4s\xf8n")

    def test_control_characters(self) -> None:
        """NUL, ESC and their like show as control pictures: JSON, databases and terminals stay unharmed."""
        (item,) = Headers.parse(b"X-Run-Id: 1\x002\x1b[2J\x7f3")
        stored = sqlite3.connect(":memory:").execute("SELECT ?, length(?)", [item.value, item.value]).fetchone()

        assert "1␀2␛[2J␡3" == item.value == json.loads(json.dumps(item.value))
        assert (item.value, len(item.value)) == stored
        assert item.raw == b"X-Run-Id: 1\x002\x1b[2J\x7f3"

    @pytest.mark.parametrize(
        "block",
        [
            b"no colon here\r\nX-Run-Id: 1\r\n",
            b"no colon here\r\n X-Scenario-Id: smuggled\r\nX-Run-Id: 1\r\n",
            b" X-Scenario-Id: continues nothing\r\nX-Run-Id: 1\r\n",
            b": no name\r\nX-Run-Id: 1\r\n",
            b"X-Run-Id: 1\r\n\r\nX-Scenario-Id: in the body\r\n",
        ],
    )
    def test_garbage_is_skipped(self, block: bytes) -> None:
        """A line that is no header field is skipped with its continuation; an empty line ends the section."""
        assert pairs(Headers.parse(block)) == [("X-Run-Id", "1")]

    @given(st.binary())
    def test_never_raises(self, block: bytes) -> None:
        """Whatever the bytes, there are headers, and their text holds no control character but HTAB."""
        text = "".join(item.name + item.value for item in Headers.parse(block))

        assert re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text) is None

    @given(
        st.lists(
            st.tuples(
                st.from_regex(r"[A-Za-z][A-Za-z0-9.!%*_+`'~-]{1,12}", fullmatch=True),
                st.text(st.characters(exclude_categories=["C", "Z"])),
            )
        )
    )
    def test_round_trip(self, sent: list[tuple[str, str]]) -> None:
        """What is written one field per line is read back, in the same order."""
        block = "".join(f"{name}: {value}\r\n" for name, value in sent).encode()

        assert sent == pairs(Headers.parse(block))

    @pytest.mark.parametrize(
        "block",
        [
            b"".join(b"X-Header-%d: value\r\n" % number for number in range(10_000)),
            b"X-Header: 1\r\n" * 10_000,
            b"X-Header: 1" + b"\r\n " * 100_000,
            b"X-Header: 1" + b"\r" * 300_000,
            b"X" * 300_000,
        ],
        ids=["many", "repeated", "folded", "carriage-returns", "no-colon"],
    )
    def test_time_is_linear(self, block: bytes) -> None:
        """Hostile sections of hundreds of kilobytes take a fraction of a second."""
        started_at = time.process_time()
        headers = Headers.parse(block)
        headers.extensions()

        assert time.process_time() - started_at < 1


class TestLookup:
    """Finding fields."""

    def test_any_letter_case(self) -> None:
        """Names are found in any letter case; the first value is the one that counts."""
        headers = Headers.from_pairs([("X-Run-Id", "1"), ("x-run-id", "2"), ("To", "me")])

        assert headers.get("X-RUN-ID") == "1"
        assert headers.all("x-Run-Id") == ("1", "2")
        assert "tO" in headers
        assert "From" not in headers
        assert headers.get("From", "nobody") == "nobody"
        assert headers.all("From") == ()
        assert len(headers) == 3

    def test_extensions(self) -> None:
        """X- fields of any letter case come under the spelling met first, repeats in their order."""
        headers = Headers.from_pairs([("x-tag", "a"), ("To", "me"), ("X-Run-Id", "1"), ("X-TAG", "b"), ("X", "-")])

        assert headers.extensions() == {"x-tag": ["a", "b"], "X-Run-Id": ["1"]}

    def test_is_a_value(self) -> None:
        """Equal fields make equal headers."""
        block = b"To: me\r\nX-Run-Id: 1\r\n"

        assert Headers.parse(block) == Headers.parse(block)
        assert hash(Headers.parse(block)) == hash(Headers.parse(block))
        assert Headers.parse(block) != Headers.parse(b"To: me\r\n")

    def test_repr_keeps_secrets(self) -> None:
        """Headers show their names and none of their values, so that no traceback holds a secret."""
        assert repr(Headers.parse(b"t: me\r\nX-Auth-Token: hunter2\r\n")) == "Headers(To, X-Auth-Token)"


class TestSplitMessage:
    """Cutting a message into its three parts."""

    @pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
    def test_parts(self, line_end: bytes) -> None:
        """A message is a start line, headers, an empty line and a body (RFC 3261 §7)."""
        lines = [b"INVITE sip:a@b SIP/2.0", b"To: me", b"", b"v=0", b"", b"s=-"]

        start_line, headers, body = split_message(line_end.join(lines))

        assert start_line == "INVITE sip:a@b SIP/2.0"
        assert pairs(headers) == [("To", "me")]
        assert body == line_end.join([b"v=0", b"", b"s=-"])

    def test_empty_lines_first(self) -> None:
        """Empty lines before the start line do not count (RFC 3261 §7.5)."""
        assert ("BYE sip:a SIP/2.0", Headers(), b"") == split_message(b"\r\n\r\nBYE sip:a SIP/2.0\r\n\r\n")

    @pytest.mark.parametrize(
        ("length", "body"),
        [
            (b"3", b"v=0"),
            (b"0", b""),
            (b"99", b"v=0 trailing"),
            (b"-1", b"v=0 trailing"),
            (b"x", b"v=0 trailing"),
        ],
    )
    def test_content_length(self, length: bytes, body: bytes) -> None:
        """Bytes beyond Content-Length are not part of the body (RFC 3261 §18.3)."""
        message = b"INVITE sip:a@b SIP/2.0\r\nl: " + length + b"\r\n\r\nv=0 trailing"

        assert body == split_message(message)[2]

    @pytest.mark.parametrize("message", [b"", b"\r\n\r\n", b"  \r\nTo: me\r\n"])
    def test_no_start_line(self, message: bytes) -> None:
        """Without a start line it is no message."""
        with pytest.raises(MessageError, match="no start line"):
            split_message(message)

    @given(st.binary())
    def test_raises_nothing_else(self, message: bytes) -> None:
        """Whatever the bytes, they are a message or a MessageError."""
        try:
            start_line, _, _ = split_message(message)
        except MessageError:
            return
        assert start_line


class TestCorrelate:
    """Finding the test run that a call belongs to."""

    def test_cekura(self) -> None:
        """Cekura's three ids are text exactly as received, also where they do not look like numbers."""
        headers = Headers.parse(b"x-run-id:  0034625 \r\nX-Scenario-Id: ten, or so\r\nX-Result-Id:\r\n")

        expected = CorrelationIds(run_id="0034625", scenario_id="ten, or so", result_id="")
        assert expected == correlate(headers, PROFILES["cekura"])

    def test_absent_and_repeated(self) -> None:
        """An absent header is None; of a repeated one the first value counts."""
        headers = Headers.parse(b"X-Run-Id: 1\r\nX-Run-Id: 2\r\n")

        assert CorrelationIds(run_id="1") == correlate(headers, PROFILES["cekura"])

    @pytest.mark.parametrize(
        ("profile", "block"),
        [("coval", b"X-Coval-Simulation-ID: abc"), ("call-id", b"i: abc")],
    )
    def test_other_profiles(self, profile: str, block: bytes) -> None:
        """Other platforms send one id, under their own name."""
        assert CorrelationIds(run_id="abc") == correlate(Headers.parse(block), PROFILES[profile])


class TestSecretHeaders:
    """Keeping secrets out of records."""

    secrets = SecretHeaders(salt=b"salt")

    @pytest.mark.parametrize("name", ["X-Auth-Token", "x-api-KEY", "X-Password", "X-SECRETS", "X-Authorization"])
    def test_secret_names(self, name: str) -> None:
        """A name that contains a pattern in any letter case is secret."""
        assert self.secrets.is_secret(name)

    def test_values_become_fingerprints(self) -> None:
        """Equal secrets have equal fingerprints, empty ones stay empty, other headers stay as they are."""
        redacted = self.secrets.redact({"X-Token": ["hunter2", "hunter3", "hunter2", ""], "X-Run-Id": ["1"]})

        first, second, third, empty = redacted["X-Token"]
        assert re.fullmatch(r"fingerprint:[0-9a-f]{12}", first)
        assert first == third != second
        assert (empty, ["1"]) == ("", redacted["X-Run-Id"])

    def test_fingerprints_depend_on_the_salt(self) -> None:
        """Without the salt nobody can test a guess against a fingerprint."""
        other = SecretHeaders(salt=b"other")

        assert self.secrets.redact({"X-Token": ["1234"]}) != other.redact({"X-Token": ["1234"]})
        assert "other" not in repr(other)

    def test_correlation_headers_are_exempt(self) -> None:
        """A header that the correlation needs stays readable, whatever its name."""
        profile = CorrelationProfile(name="mine", run_id="X-Run-Key")
        secrets = SecretHeaders(salt=b"salt", exempt=profile.header_names)

        assert secrets.redact({"x-run-key": ["1"]}) == {"x-run-key": ["1"]}
        assert secrets.is_secret("X-Other-Key")


@given(st.binary())
def test_decode_text_keeps_every_byte(raw: bytes) -> None:
    """Decoding loses nothing: distinct bytes can be told apart in the text."""
    text = decode_text(raw)
    controls = {0x2400 + code: code for code in range(0x20)} | {0x2421: 0x7F}
    try:
        expected = raw.decode()
    except UnicodeDecodeError:
        expected = raw.decode("iso-8859-1")

    assert expected.translate(controls) == text.translate(controls)
