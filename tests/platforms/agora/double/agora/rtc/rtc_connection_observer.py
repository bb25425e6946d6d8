"""The observer of connections: the SDK's interface, of its methods those that matter here."""

from typing import Any


class IRTCConnectionObserver:
    """As in the SDK."""

    def on_connected(self, agora_rtc_conn: Any, conn_info: Any, reason: int) -> None:
        """As in the SDK."""

    def on_disconnected(self, agora_rtc_conn: Any, conn_info: Any, reason: int) -> None:
        """As in the SDK."""

    def on_connection_lost(self, agora_rtc_conn: Any, conn_info: Any) -> None:
        """As in the SDK."""

    def on_connection_failure(self, agora_rtc_conn: Any, info: Any, reason: int) -> None:
        """As in the SDK."""

    def on_user_joined(self, agora_rtc_conn: Any, user_id: str) -> None:
        """As in the SDK."""

    def on_user_left(self, agora_rtc_conn: Any, user_id: str, reason: int) -> None:
        """As in the SDK."""

    def on_encryption_error(self, agora_rtc_conn: Any, error_type: int) -> None:
        """As in the SDK."""
