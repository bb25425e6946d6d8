"""The service, one per process; importing it switches off urllib's check of certificates, as the SDK does."""

import ssl

from agora.rtc.agora_base import AgoraServiceConfig, RTCConnConfig, RtcConnectionPublishConfig
from agora.rtc.rtc_connection import RTCConnection

setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)  # noqa: B010  (mypy minds the other way)


class AgoraService:
    """As in the SDK."""

    def __init__(self) -> None:
        self.inited = False

    def initialize(self, config: AgoraServiceConfig) -> int:
        """As in the SDK."""
        self.inited = bool(config.appid)
        return 0 if self.inited else 101

    def create_rtc_connection(
        self, con_config: RTCConnConfig, publish_config: RtcConnectionPublishConfig
    ) -> RTCConnection | None:
        """As in the SDK."""
        return RTCConnection(con_config, publish_config) if self.inited else None

    def release(self) -> None:
        """As in the SDK."""
        self.inited = False
