"""Settings: a TOML file, then the environment, validated once; errors name the key and what to write."""

from sip_agent.config.accounts import AccountSettings, CallerIdIn, OutboundSettings
from sip_agent.config.agora import ENCRYPTION_MODES, AgoraSettings
from sip_agent.config.cekura import CekuraSettings, MessageTimes
from sip_agent.config.describe import SettingDescription, describe_settings, effective_values, toml_value
from sip_agent.config.durations import format_duration, parse_duration
from sip_agent.config.faults import FaultSettings
from sip_agent.config.pipecat import PipecatSettings
from sip_agent.config.reading import CONFIG_VARIABLE, DEFAULT_FILE, load_settings
from sip_agent.config.sections import (
    AdmissionSettings,
    ApiSettings,
    AuthSettings,
    CorrelationHeaders,
    CorrelationSettings,
    HeaderSettings,
    LogSettings,
    MediaSettings,
    RouteMatch,
    RouteSettings,
    SipSettings,
    SipTlsSettings,
    StoreSettings,
    agent_version,
)
from sip_agent.config.settings import RTP_PORTS_PER_CALL, Settings
from sip_agent.config.sipfront import BodyFormat, SipfrontSettings
from sip_agent.config.speech import SpeechSettings
from sip_agent.config.values import EngineChoice, LogFormat, LogLevel, SettingSource, SrtpMode

__all__ = [
    "CONFIG_VARIABLE",
    "DEFAULT_FILE",
    "ENCRYPTION_MODES",
    "RTP_PORTS_PER_CALL",
    "AccountSettings",
    "AdmissionSettings",
    "AgoraSettings",
    "ApiSettings",
    "AuthSettings",
    "BodyFormat",
    "CallerIdIn",
    "CekuraSettings",
    "CorrelationHeaders",
    "CorrelationSettings",
    "EngineChoice",
    "FaultSettings",
    "HeaderSettings",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "MediaSettings",
    "MessageTimes",
    "OutboundSettings",
    "PipecatSettings",
    "RouteMatch",
    "RouteSettings",
    "SettingDescription",
    "SettingSource",
    "Settings",
    "SipSettings",
    "SipTlsSettings",
    "SipfrontSettings",
    "SpeechSettings",
    "SrtpMode",
    "StoreSettings",
    "agent_version",
    "describe_settings",
    "effective_values",
    "format_duration",
    "load_settings",
    "parse_duration",
    "toml_value",
]
