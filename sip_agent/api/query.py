"""What `GET /calls` asks for: its parameters, read into a query of the store."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sip_agent.api.parts import Problem
from sip_agent.config import parse_duration
from sip_agent.status import Outcome
from sip_agent.store import CallQuery

LIMIT = 100
LIMIT_MAX = 1000
"""Records in one response; whoever wants more asks again with `until`."""


HEADERS_MAX = 10
"""Header fields that one query may ask for: each is a search of its own in the database."""


def read_query(parameters: Sequence[tuple[str, str]], now: datetime) -> CallQuery:
    """Return the query that the parameters spell out; a Problem names the one that is wrong."""
    values: dict[str, Any] = {"limit": LIMIT}
    for name in dict.fromkeys(name for name, _ in parameters):
        texts = [text for other, text in parameters if other == name]
        if name == "header":
            if len(texts) > HEADERS_MAX:
                raise Problem(400, f"header: it is given {len(texts)} times", f"ask for {HEADERS_MAX} at most")
            values["headers"] = tuple(_read(name, text, _read_header) for text in texts)
        elif name not in _READERS:
            raise Problem(400, f"there is no parameter {name!r}", f"write {', '.join([*_READERS, 'header'])}")
        elif len(texts) > 1:
            raise Problem(400, f"{name}: it is given {len(texts)} times", "only header may be repeated")
        elif name in {"since", "until"}:
            values[name] = _read(name, texts[0], lambda text: _read_moment(text, now))
        else:
            values[name] = _read(name, texts[0], _READERS[name])
    return CallQuery(**values)


def _read(name: str, text: str, reader: Callable[[str], Any]) -> Any:
    try:
        return reader(text)
    except (ValueError, OverflowError) as error:
        raise Problem(400, f"{name}: {text!r} is not understood", str(error)) from None


def _read_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError("write NAME:VALUE, like X-Tenant:acme")
    return name.strip(), value.strip()


def _read_outcome(text: str) -> Outcome:
    try:
        return Outcome(text)
    except ValueError:
        raise ValueError(f"write {', '.join(Outcome)}") from None


def _read_limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= LIMIT_MAX):
        raise ValueError(f"write a number from 1 to {LIMIT_MAX}")
    return int(text)


def _read_moment(text: str, now: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    try:
        return now - parse_duration(text)
    except (ValueError, OverflowError):
        raise ValueError(
            "write a time like 2026-01-31T12:00:00Z (a + as %2B), or how long ago it was: 10m, 2h, 3d"
        ) from None


_READERS: Mapping[str, Callable[[str], Any]] = {
    "run_id": str,
    "scenario_id": str,
    "result_id": str,
    "outcome": _read_outcome,
    "since": str,
    "until": str,
    "limit": _read_limit,
}
