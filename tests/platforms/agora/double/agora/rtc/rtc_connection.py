"""A connection, whose channel is a socket of the test: what is sent there, and what comes from there.

Messages are one line of JSON each; sound is Base64.
"""

import base64
import json
import os
import socket
import threading
from typing import Any

from agora.rtc.agora_base import AudioFrame, EncryptionConfig, RTCConnConfig, RtcConnectionPublishConfig

PORT_VARIABLE = "AGORA_DOUBLE_PORT"


class LocalUser:
    """As in the SDK."""

    def __init__(self) -> None:
        self.playback: tuple[int, int] | None = None

    def set_playback_audio_frame_before_mixing_parameters(self, channels: int, sample_rate_hz: int) -> int:
        """As in the SDK."""
        self.playback = (channels, sample_rate_hz)
        return 0


class RTCConnection:
    """As in the SDK; one thread of its own calls the observers."""

    def __init__(self, conn_config: RTCConnConfig, publish_config: RtcConnectionPublishConfig) -> None:
        self._config = conn_config
        self._publish_config = publish_config
        self._local_user = LocalUser()
        self._observer: Any = None
        self._audio_observer: Any = None
        self._encryption: EncryptionConfig | None = None
        self._published = False
        self._socket: socket.socket | None = None

    def get_local_user(self) -> LocalUser:
        """As in the SDK."""
        return self._local_user

    def register_observer(self, conn_observer: Any) -> int:
        """As in the SDK."""
        self._observer = conn_observer
        return 0

    def register_audio_frame_observer(self, observer: Any, enable_vad: int, vad_configure: Any) -> int:
        """As in the SDK; the rate has to be set before."""
        del enable_vad, vad_configure
        self._audio_observer = observer
        return 0 if self._local_user.playback == (1, 16000) else -1

    def enable_encryption(self, enabled: int, config: EncryptionConfig) -> int:
        """As in the SDK: before the connection is made."""
        if self._socket is not None:
            return -1
        self._encryption = config if enabled else None
        return 0

    def connect(self, token: str, chan_id: str, user_id: str) -> int:
        """As in the SDK: returns before the connection is made."""
        self._socket = socket.create_connection(("127.0.0.1", int(os.environ[PORT_VARIABLE])), 10)
        encryption = self._encryption
        self._tell(
            event="join",
            token=token,
            channel=chan_id,
            uid=user_id,
            encryption=encryption and [encryption.encryption_mode, encryption.encryption_key],
            salt=encryption and base64.b64encode(encryption.encryption_kdf_salt or b"").decode(),
        )
        threading.Thread(target=self._read, args=(self._socket,), daemon=True).start()
        return 0

    def publish_audio(self) -> int:
        """As in the SDK."""
        self._published = True
        return 0

    def push_audio_pcm_data(self, data: bytes, sample_rate: int, channels: int, start_pts: int = 0) -> int:
        """As in the SDK: whole milliseconds."""
        del start_pts
        if not self._published:
            return -1001
        if len(data) % (sample_rate // 1000 * 2 * channels):
            return -1002
        self._tell(event="sound", sound=base64.b64encode(data).decode())
        return 0

    def disconnect(self) -> int:
        """As in the SDK."""
        self._tell(event="leave")
        return 0

    def release(self) -> None:
        """As in the SDK."""
        if self._socket is not None:
            self._socket.close()

    def _tell(self, **message: Any) -> None:
        if self._socket is not None:
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _read(self, channel: socket.socket) -> None:
        self._observer.on_connected(self, None, 0)
        try:
            with channel.makefile("rb") as lines:
                for line in lines:
                    self._take(json.loads(line))
        except OSError:
            return

    def _take(self, message: dict[str, Any]) -> None:
        uid = message.get("uid", "")
        if message["event"] == "joined":
            self._observer.on_user_joined(self, uid)
        elif message["event"] == "left":
            self._observer.on_user_left(self, uid, 0)
        elif message["event"] == "lost":
            self._observer.on_connection_lost(self, None)
        elif message["event"] == "encryption_error":
            self._observer.on_encryption_error(self, 1)
        elif message["event"] == "sound":
            sound = bytearray(base64.b64decode(message["sound"]))
            frame = AudioFrame(
                samples_per_channel=len(sound) // 2, bytes_per_sample=2, channels=1, samples_per_sec=16000, buffer=sound
            )
            self._audio_observer.on_playback_audio_frame_before_mixing(self._local_user, "c", uid, frame, -1, None)
