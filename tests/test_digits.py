"""DTMF digits: what a SIP INFO says, and each digit once."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sip_agent.digits import DIGITS_MAX, DTMF_DIGITS, Digits, read_info

START = datetime(2026, 1, 1, tzinfo=UTC)


class TestInfo:
    """`read_info`."""

    @pytest.mark.parametrize(
        ("content_type", "body", "expected"),
        [
            ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", ("5", 160)),
            ("application/dtmf-relay", "Signal= 5\r\nDuration= 250\r\n", ("5", 250)),
            ("Application/DTMF-Relay; charset=utf-8", "signal=#\nduration=100", ("#", 100)),
            ("application/dtmf-relay", "Signal=*", ("*", None)),
            ("application/dtmf-relay", "Signal=10\r\nDuration=160", ("*", 160)),
            ("application/dtmf-relay", "Signal=11", ("#", None)),
            ("application/dtmf-relay", "Signal=15", ("D", None)),
            ("application/dtmf-relay", "Duration=160\r\nSignal=a\r\n", ("A", 160)),
            ("application/dtmf", "5", ("5", None)),
            ("application/dtmf", "*\r\n", ("*", None)),
            ("application/dtmf", " d ", ("D", None)),
            ("application/dtmf", "Signal=7\r\nDuration=80", ("7", 80)),
        ],
    )
    def test_forms(self, content_type: str, body: str, expected: tuple[str, int | None]) -> None:
        """Both types are read, as the gateways in the field write them."""
        assert expected == read_info(content_type, body)

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("application/dtmf-relay", ""),
            ("application/dtmf-relay", "5"),
            ("application/dtmf-relay", "Signal="),
            ("application/dtmf-relay", "Signal=16"),
            ("application/dtmf-relay", "Signal=55"),
            ("application/dtmf-relay", "Signal=x"),
            ("application/dtmf", ""),
            ("application/dtmf", "123"),
            ("application/dtmf", "é"),
            ("application/media_control+xml", "5"),
            ("text/plain", "Signal=5"),
            ("", "5"),
        ],
    )
    def test_what_is_no_digit(self, content_type: str, body: str) -> None:
        """Anything else is no digit."""
        assert read_info(content_type, body) is None

    @given(st.sampled_from(["application/dtmf-relay", "application/dtmf"]), st.text(max_size=60))
    def test_hostile_bodies(self, content_type: str, body: str) -> None:
        """Whatever is sent, it is a digit or nothing."""
        found = read_info(content_type, body)
        assert found is None or found[0] in DTMF_DIGITS


def digits_of(*presses: tuple[str, str, float]) -> str:
    """Return which of the digits (digit, method, second) are new."""
    digits = Digits()
    return "".join(
        digit for digit, method, second in presses if digits.note(digit, method, START + timedelta(seconds=second))
    )


def new_ones(*told: tuple[str, float, int | None]) -> list[bool]:
    """Return which of the words on one key (method, second, duration) are of a new press."""
    digits = Digits()
    return [
        digits.note("7", method, START + timedelta(seconds=second), duration_ms) for method, second, duration_ms in told
    ]


class TestDigits:
    """Each digit once."""

    def test_by_several_methods(self) -> None:
        """The same key by another method is the same key, whichever comes first."""
        assert "1" == digits_of(("1", "rfc4733", 0), ("1", "inband", 0.05), ("1", "info", 0.3))
        assert "1" == digits_of(("1", "inband", 0), ("1", "rfc4733", 0.1))

    def test_pressed_twice(self) -> None:
        """The same key by the same method was pressed again; each press has its echo."""
        assert "11" == digits_of(
            ("1", "rfc4733", 0), ("1", "inband", 0.05), ("1", "rfc4733", 0.3), ("1", "inband", 0.35)
        )
        assert "11" == digits_of(
            ("1", "rfc4733", 0), ("1", "rfc4733", 0.2), ("1", "inband", 0.25), ("1", "inband", 0.45)
        )

    @pytest.mark.parametrize("duration_ms", [160, 3000, 24_000, None])
    @pytest.mark.parametrize("before_the_end", [True, False])
    def test_a_key_held(self, duration_ms: int | None, *, before_the_end: bool) -> None:
        """An INFO when a key is let go is that key, however long it was held, and whatever the INFO says of it."""
        told: list[tuple[str, float, int | None]] = [("rfc4733", 3, 3000), ("info", 3.02, duration_ms)]
        if before_the_end:
            told.reverse()

        assert [True, False, False] == new_ones(("rfc4733", 0, None), *told)

    @pytest.mark.parametrize("duration_ms", [160, 20_000, None])
    def test_long_after(self, duration_ms: int | None) -> None:
        """The same digit by another method is another press a second after the key was let go, whatever it says."""
        assert [True, False, True] == new_ones(("rfc4733", 0, None), ("rfc4733", 0.1, 100), ("info", 1.2, duration_ms))
        assert [True, True] == new_ones(("info", 0, duration_ms), ("rfc4733", 1.2, None))

    def test_a_tone_held(self) -> None:
        """Nobody says when a tone ends: an INFO much later is still the same key, and ever later another one."""
        assert [True, False] == new_ones(("inband", 0, None), ("info", 3, 160))
        assert [True, True] == new_ones(("inband", 0, None), ("info", 11, 160))

    def test_a_key_held_again(self) -> None:
        """The next press is a new one, however long the last was held, and has its own INFO."""
        for method, end in (("rfc4733", [("rfc4733", 1.6, 1600)]), ("inband", [])):
            presses = [(method, 0, None), *end, ("info", 1.6, 160), (method, 2, None), ("info", 3.6, 160)]

            assert [True, *[False] * len(end), False, True, False] == new_ones(*presses)

    def test_other_digits_do_not_matter(self) -> None:
        """Digits between do not hide the other one."""
        assert "12" == digits_of(("1", "rfc4733", 0), ("2", "rfc4733", 0.2), ("1", "inband", 0.3), ("2", "inband", 0.4))

    async def test_a_flood_ends(self) -> None:
        """Nobody can fill the memory with digits."""
        digits = Digits()
        taken = sum(digits.note("1", "info", START + timedelta(seconds=number)) for number in range(DIGITS_MAX + 50))

        assert DIGITS_MAX == taken

    async def test_after_the_end(self) -> None:
        """Digits that wait are still given out when the call is over, then None, again and again."""
        digits = Digits()
        digits.note("1", "info", START)
        digits.end()

        assert ["1", None, None] == [await digits.next(), await digits.next(), await digits.next()]
