"""Call records in a database: SQLite by default, PostgreSQL by URL."""

from sip_agent.store.calls import CallStore
from sip_agent.store.errors import StoreError
from sip_agent.store.migrations import pending_migrations, upgrade
from sip_agent.store.reader import CallQuery, CallReader, reading

__all__ = [
    "CallQuery",
    "CallReader",
    "CallStore",
    "StoreError",
    "pending_migrations",
    "reading",
    "upgrade",
]
