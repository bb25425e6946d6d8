"""The tables as the code of today sees them, and how a record becomes a row."""

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from sqlalchemy import JSON, BigInteger, Column, Integer, MetaData, Table, Text

from sip_agent.record import CallRecord

metadata = MetaData()

calls = Table(
    "calls",
    metadata,
    Column("call_uuid", Text, primary_key=True),
    Column("call_id", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("source_address", Text, nullable=False),
    Column("account", Text),
    Column("auth_user", Text),
    Column("run_id", Text),
    Column("scenario_id", Text),
    Column("result_id", Text),
    Column("handler", Text),
    Column("outcome", Text),
    Column("sip_status", Integer),
    Column("invite_received_at", Text, nullable=False),
    Column("ended_at", Text),
    Column("instance", BigInteger, nullable=False),
    Column("document", JSON, nullable=False),
)
"""One row per INVITE. `document` is the whole record; the columns are what one filters and sorts by.

Times are the record's own RFC 3339 text: UTC and of fixed width, it sorts as the moments do. `outcome` is
null while the call goes on; `instance` says which running agent has the call.
"""

call_headers = Table(
    "call_headers",
    metadata,
    Column("call_uuid", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),
)
"""One row per header field value; `name` is lower-case (RFC 3261 §7.3.1: names are case-insensitive)."""

outbox = Table(
    "outbox",
    metadata,
    Column("call_uuid", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Text),
    Column("deadline_at", Text),
    Column("changed_at", Text, nullable=False),
    Column("reason", Text),
)
"""One row per call of which a platform is to be told; `due_at` is null once there is nothing left to do."""

verdicts = Table(
    "verdicts",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("document", JSON, nullable=False),
)
"""What the platform said of a run, by the run's id."""

dials = Table(
    "dials",
    metadata,
    Column("run_id", BigInteger, unique=True),
    Column("number", Text, nullable=False),
    Column("dialled_at", Text, nullable=False),
)
"""One row per call to a phone number, written before it is placed; `run_id` is null where no test run asked for it."""

OUTBOX_KEYS = tuple(column.name for column in outbox.columns if not column.primary_key)
"""What a record's `evidence` shows of its row in the outbox."""

_COPIED = [column.name for column in calls.columns if column.name not in {"instance", "document"}]


def document_of(record: CallRecord) -> dict[str, Any]:
    """Return the record as an independent JSON object that every database takes."""
    document: dict[str, Any] = storable(record.to_dict())
    return document


def call_row(document: dict[str, Any], instance: int) -> dict[str, Any]:
    """Return the row of a record in `calls`."""
    row = {name: document[name] for name in _COPIED}
    # Text rather than null, so that both databases sort a record without it last.
    row["invite_received_at"] = document["invite_received_at"] or ""
    return row | {"instance": instance, "document": document}


def header_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a record in `call_headers`."""
    return [
        {"call_uuid": document["call_uuid"], "name": name.lower(), "value": value}
        for name, values in document["headers"].items()
        for value in values
    ]


def outbox_row(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return the row of a record in `outbox`, if a platform might have been told of it."""
    evidence = document["evidence"]
    if evidence is None:
        return None
    return {"call_uuid": document["call_uuid"]} | {name: evidence[name] for name in OUTBOX_KEYS}


def storable(value: Any) -> Any:
    """Copy a value, with what a database or JSON cannot hold written visibly.

    PostgreSQL has no NUL in text, UTF-8 no lone surrogates (bytes that were not UTF-8), JSON no NaN and no numbers
    of numpy.
    """
    if isinstance(value, str):
        return value.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    if isinstance(value, Real | np.bool_):
        return _number(value)
    return None if value is None else storable(str(value))


def _number(value: Any) -> bool | int | float | None:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    return float(value) if math.isfinite(value) else None
