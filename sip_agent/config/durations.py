"""Durations, as people write them."""

import re
from datetime import timedelta

_DURATION_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|d|h|m|s))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")
_LONGEST_DURATION = timedelta(days=366)


def parse_duration(value: object) -> timedelta:
    """Read `"30m"`, `"1h30m"`, `"500ms"` or a number of seconds."""
    advice = 'write a duration like "30m", "10s", "500ms" or "1h30m", or a number of seconds'
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(advice)  # noqa: TRY004  (pydantic reports ValueError, not TypeError)
    try:
        seconds = float(value)
    except ValueError:
        text = str(value).replace(" ", "").lower()
        if not _DURATION.fullmatch(text):
            raise ValueError(advice) from None
        parts = _DURATION_PART.findall(text)
        seconds = sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts) / 1000
    if not 0 <= seconds <= _LONGEST_DURATION.total_seconds():
        raise ValueError(f"{advice}; at least 0 and at most {_LONGEST_DURATION.days} days")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Write a duration the way the settings file has it: the inverse of `parse_duration`."""
    rest = round(duration.total_seconds() * 1000)
    parts = []
    for unit, milliseconds in _DURATION_UNITS.items():
        count, rest = divmod(rest, milliseconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
