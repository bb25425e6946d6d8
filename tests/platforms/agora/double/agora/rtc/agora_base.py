"""The values of the SDK that are used, with its names, fields and defaults (agora-python-server-sdk 2.4.9)."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class ChannelProfileType(IntEnum):
    """As in the SDK."""

    CHANNEL_PROFILE_COMMUNICATION = 0
    CHANNEL_PROFILE_LIVE_BROADCASTING = 1


class ClientRoleType(IntEnum):
    """As in the SDK."""

    CLIENT_ROLE_BROADCASTER = 1
    CLIENT_ROLE_AUDIENCE = 2


class AudioScenarioType(IntEnum):
    """As in the SDK."""

    AUDIO_SCENARIO_DEFAULT = 0
    AUDIO_SCENARIO_CHORUS = 7
    AUDIO_SCENARIO_AI_SERVER = 9


class AudioPublishType(IntEnum):
    """As in the SDK."""

    AUDIO_PUBLISH_TYPE_NONE = 0
    AUDIO_PUBLISH_TYPE_PCM = 1


@dataclass(kw_only=True)
class AgoraServiceConfig:
    """As in the SDK."""

    log_path: str = ""
    log_size: int = 0
    enable_audio_processor: int = 1
    enable_audio_device: int = 0
    enable_video: int = 0
    context: object = None
    appid: str = ""
    log_level: int = 0
    log_file_size_kb: int = 5 * 1024
    data_dir: str = ""
    config_dir: str = ""


@dataclass(kw_only=True)
class AudioSubscriptionOptions:
    """As in the SDK."""

    packet_only: int = 0
    pcm_data_only: int = 0
    bytes_per_sample: int = 0
    number_of_channels: int = 0
    sample_rate_hz: int = 0


@dataclass(kw_only=True)
class RTCConnConfig:
    """As in the SDK."""

    auto_subscribe_audio: int = 0
    auto_subscribe_video: int = 0
    enable_audio_recording_or_playout: int = 0
    max_send_bitrate: int = 0
    min_port: int = 0
    max_port: int = 0
    audio_subs_options: AudioSubscriptionOptions = field(default_factory=AudioSubscriptionOptions)
    client_role_type: ClientRoleType = ClientRoleType.CLIENT_ROLE_BROADCASTER
    channel_profile: ChannelProfileType = ChannelProfileType.CHANNEL_PROFILE_LIVE_BROADCASTING
    audio_recv_media_packet: int = 0
    audio_recv_encoded_frame: int = 0
    video_recv_media_packet: int = 0


@dataclass(kw_only=True)
class RtcConnectionPublishConfig:
    """As in the SDK."""

    audio_profile: int = 0
    audio_scenario: AudioScenarioType = AudioScenarioType.AUDIO_SCENARIO_AI_SERVER
    is_publish_audio: bool = True
    is_publish_video: bool = False
    audio_publish_type: AudioPublishType = AudioPublishType.AUDIO_PUBLISH_TYPE_PCM
    video_publish_type: int = 0
    send_external_audio_parameters: Any = None


@dataclass(kw_only=True)
class EncryptionConfig:
    """As in the SDK."""

    encryption_mode: int
    encryption_key: str
    encryption_kdf_salt: bytearray | None = None
    datastream_encryption_enabled: bool = False


@dataclass(frozen=True, kw_only=True)
class AudioFrame:
    """As in the SDK; of its fields those that say what the sound is."""

    samples_per_channel: int
    bytes_per_sample: int
    channels: int
    samples_per_sec: int
    buffer: bytearray
