"""Phone numbers: what is one, and how it is written."""

import pytest

from sip_agent.phone_numbers import read_phone_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+14155550123", "+14155550123"),
        (" +1 (415) 555-0123", "+14155550123"),
        ("+49.30.901820", "+4930901820"),
        ("+123456789012345", "+123456789012345"),
        ("+1234567890123456", None),  # E.164 has 15 digits at most
        ("14155550123", None),
        ("0014155550123", None),
        ("+0415", None),
        ("+1", None),
        ("+1415555x23", None),
        ("+1415555٠١٢", None),  # noqa: RUF001  (digits, and not those that are dialled)
        ("sip:+14155550123@example.com", None),
        ("", None),
    ],
)
def test_reading(text: str, number: str | None) -> None:
    """A number has a plus and a country code; spaces and the like do not count."""
    assert number == read_phone_number(text)
