"""Call records in a database: SQLite by default, PostgreSQL by URL."""

from sip_agent.store.calls import CallStore
from sip_agent.store.dials import Claim, DialLedger, dial_ledger
from sip_agent.store.errors import StoreError
from sip_agent.store.migrations import pending_migrations, upgrade
from sip_agent.store.outbox import Letter, Outbox, correspondence
from sip_agent.store.reader import CallQuery, CallReader, reading

__all__ = [
    "CallQuery",
    "CallReader",
    "CallStore",
    "Claim",
    "DialLedger",
    "Letter",
    "Outbox",
    "StoreError",
    "correspondence",
    "dial_ledger",
    "pending_migrations",
    "reading",
    "upgrade",
]
