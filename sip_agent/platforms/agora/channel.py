"""The agent's place in an Agora channel, on Agora's server SDK (extra `agora`).

Written against agora-python-server-sdk 2.4 (github.com/AgoraIO-Extensions/Agora-Python-Server-SDK). The SDK fetches its
native library when it is installed, calls back on threads of its own, and its calls may block: those of one channel
run in order on one thread.
"""

import asyncio
import importlib
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from sip_agent.config import ENCRYPTION_MODES
from sip_agent.errors import SettingsError, UserAgentError
from sip_agent.pcm_call import SAMPLE_RATE_HZ
from sip_agent.platforms.agora.session import Session
from sip_agent.rooms import RoomListener

log = structlog.get_logger()

UNSENT_FRAMES_MAX = 50
"""A second of sound for an SDK that does not take it; then what is said is dropped."""

LOG_BYTES_KB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AgoraSdk:
    """The modules of the SDK that are used."""

    base: Any
    service: Any
    connection_observer: Any
    audio_observer: Any


def load_sdk() -> AgoraSdk:
    """Import the SDK; raises SettingsError where it is not installed, or its native library is missing."""
    make_context = ssl._create_default_https_context  # noqa: SLF001
    try:
        return AgoraSdk(
            base=importlib.import_module("agora.rtc.agora_base"),
            service=importlib.import_module("agora.rtc.agora_service"),
            connection_observer=importlib.import_module("agora.rtc.rtc_connection_observer"),
            audio_observer=importlib.import_module("agora.rtc.audio_frame_observer"),
        )
    except (ImportError, OSError) as error:
        raise SettingsError(
            f"agora.join: Agora's SDK cannot be loaded ({error}): pip install 'sip-agent[agora]', or set agora.join to "
            "false and let a program of yours join the channel"
        ) from error
    finally:
        # Importing it switches off the check of TLS certificates in all of urllib.
        ssl._create_default_https_context = make_context  # noqa: SLF001


class AgoraService:
    """The SDK's service, one per process; `log_file` is where the SDK writes what it has to say."""

    def __init__(self, sdk: AgoraSdk, app_id: str, log_file: Path) -> None:
        self.sdk = sdk
        config = sdk.base.AgoraServiceConfig(
            appid=app_id, log_path=str(log_file), log_file_size_kb=LOG_BYTES_KB, enable_video=0
        )
        self._service = sdk.service.AgoraService()
        status = self._service.initialize(config)
        if status != 0:
            raise SettingsError(f"agora.app_id: Agora's SDK does not start (error {status})")

    def open_channel(self, session: Session) -> "AgoraChannel":
        """Return the channel of a session, not joined yet."""
        return AgoraChannel(self, session)

    def connect(self) -> Any:
        """Return a connection of the SDK, for 16 kHz sound in both directions; raises UserAgentError."""
        base = self.sdk.base
        connection = self._service.create_rtc_connection(
            base.RTCConnConfig(
                auto_subscribe_audio=1,
                auto_subscribe_video=0,
                client_role_type=base.ClientRoleType.CLIENT_ROLE_BROADCASTER,
                channel_profile=base.ChannelProfileType.CHANNEL_PROFILE_LIVE_BROADCASTING,
                audio_subs_options=base.AudioSubscriptionOptions(
                    packet_only=0,
                    pcm_data_only=1,
                    bytes_per_sample=2,
                    number_of_channels=1,
                    sample_rate_hz=SAMPLE_RATE_HZ,
                ),
            ),
            # The SDK's default, AI_SERVER, asks for clients that have been set up for it.
            base.RtcConnectionPublishConfig(
                audio_scenario=base.AudioScenarioType.AUDIO_SCENARIO_CHORUS,
                is_publish_audio=True,
                is_publish_video=False,
                audio_publish_type=base.AudioPublishType.AUDIO_PUBLISH_TYPE_PCM,
            ),
        )
        if connection is None:
            raise UserAgentError("answer", "Agora's SDK makes no connection")
        return connection

    def close(self) -> None:
        """Give the service back, when all channels were left."""
        self._service.release()


class AgoraChannel:
    """One channel, as a `Room`."""

    medium = "Agora"

    def __init__(self, service: AgoraService, session: Session) -> None:
        self._service = service
        self._session = session
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="agora")
        self._connection: Any = None
        self._observers: tuple[Any, ...] = ()
        self._room = threading.Semaphore(UNSENT_FRAMES_MAX)
        self._refused = 0

    async def join(self, listener: RoomListener) -> None:
        """See `Room`."""
        loop = asyncio.get_running_loop()

        def tell(event: Callable[..., None], *values: Any) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event, *values)

        await loop.run_in_executor(self._thread, self._join, listener, tell)

    def send(self, sound: bytes) -> None:
        """See `Room`."""
        if sound and self._room.acquire(blocking=False):
            self._thread.submit(self._push, sound)

    async def leave(self) -> None:
        """See `Room`."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._leave)
        self._thread.shutdown(wait=False)

    # On the thread of the channel

    def _join(self, listener: RoomListener, tell: Callable[..., None]) -> None:
        session = self._session
        connection = self._connection = self._service.connect()
        guest = str(session.guest_uid)
        sdk = self._service.sdk
        self._observers = (
            _watch_connection(sdk.connection_observer, guest, listener, tell),
            _watch_sound(sdk.audio_observer, guest, listener, tell),
        )
        if session.encryption is not None:
            config = sdk.base.EncryptionConfig(
                encryption_mode=ENCRYPTION_MODES[session.encryption.mode],
                encryption_key=session.encryption.key,
                encryption_kdf_salt=bytearray(session.encryption.salt),
            )
            _check("switch the encryption on", connection.enable_encryption(1, config))
        _check("watch the connection", connection.register_observer(self._observers[0]))
        local_user = connection.get_local_user()
        _check("set the rate", local_user.set_playback_audio_frame_before_mixing_parameters(1, SAMPLE_RATE_HZ))
        _check("listen", connection.register_audio_frame_observer(self._observers[1], 0, None))
        _check("join", connection.connect(session.agent_token, session.channel, str(session.agent_uid)))
        _check("publish", connection.publish_audio())

    def _push(self, sound: bytes) -> None:
        self._room.release()
        status = self._connection.push_audio_pcm_data(sound, SAMPLE_RATE_HZ, 1)
        self._refused += status != 0
        if status != 0 and self._refused == 1:
            log.warning("agora.sound_refused", status=status, hint="further refusals of this call are not told")

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
            connection.release()
        self._observers = ()


def _watch_connection(module: Any, guest: str, listener: RoomListener, tell: Callable[..., None]) -> Any:
    """Return an observer of the SDK that tells who comes and goes."""

    class Observer(module.IRTCConnectionObserver):  # type: ignore[misc]
        def on_user_joined(self, _connection: Any, user_id: str) -> None:
            if user_id == guest:
                tell(listener.guest_joined)

        def on_user_left(self, _connection: Any, user_id: str, _reason: int) -> None:
            if user_id == guest:
                tell(listener.guest_left)

        def on_connection_failure(self, _connection: Any, _info: Any, reason: int) -> None:
            tell(listener.lost, f"Agora refuses the connection (reason {reason})")

        def on_connection_lost(self, _connection: Any, _info: Any) -> None:
            tell(listener.lost, "the connection to Agora was lost")

        def on_disconnected(self, _connection: Any, _info: Any, reason: int) -> None:
            tell(listener.lost, f"Agora ended the connection (reason {reason})")

        def on_encryption_error(self, _connection: Any, error_type: int) -> None:
            tell(listener.lost, f"the encryption of the channel does not match (Agora's error {error_type})")

    return Observer()


def _watch_sound(module: Any, guest: str, listener: RoomListener, tell: Callable[..., None]) -> Any:
    """Return an observer of the SDK that hands on what the guest says."""

    class Observer(module.IAudioFrameObserver):  # type: ignore[misc]
        def on_playback_audio_frame_before_mixing(
            self, _user: Any, _channel: str, user_id: str, frame: Any, _state: int, _content: Any
        ) -> int:
            if user_id == guest:
                tell(listener.heard, bytes(frame.buffer))
            return 1

    return Observer()


def _check(what: str, status: int) -> None:
    if status != 0:
        raise UserAgentError("answer", f"Agora's SDK could not {what} (error {status})")
