"""Phone numbers as the whole world dials them: `+`, country code, number (ITU-T E.164)."""

import re

_SPACERS = re.compile(r"[\s().\-]+")  # visual separators of RFC 3966 §3, and spaces
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")


def read_phone_number(text: str) -> str | None:
    """Return a number as `+14155550123`, without what people write between its digits; None if it is none.

    Without the `+` nobody knows which country is meant: such a number is none.
    """
    number = _SPACERS.sub("", text)
    return number if _E164.fullmatch(number) else None
