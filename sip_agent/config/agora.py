"""[agora] of the settings file: calls in Agora channels."""

import base64
import binascii
from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from sip_agent.config.secret_files import secret_or_file
from sip_agent.config.section import Section
from sip_agent.config.values import Name, OptionalPath, PositiveDuration, WholeNumber

ENCRYPTION_MODES = {
    "aes_128_xts": 1,
    "aes_128_ecb": 2,
    "aes_256_xts": 3,
    "sm4_128_ecb": 4,
    "aes_128_gcm": 5,
    "aes_256_gcm": 6,
    "aes_128_gcm2": 7,
    "aes_256_gcm2": 8,
}
"""Agora's modes by their names (docs.agora.io, EncryptionConfig); those that end in 2 want a salt."""

SALT_BYTES = 32
CHANNEL_BYTES_MAX = 63
"""A channel's name is shorter than 64 bytes."""

TOKEN_LIFETIME_MAX = timedelta(hours=24)
"""A token is good for no longer, whatever it says."""

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


def _is_id(value: str) -> bool:
    return len(value) == 32 and _HEX_DIGITS.issuperset(value)


def _app_id(value: str) -> str:
    if value and not _is_id(value):
        raise ValueError("write the 32 hexadecimal digits of the App ID in Agora's console, or leave it empty")
    return value


def _channel(value: str) -> str:
    if not (value.isascii() and value.isprintable() and len(value) <= CHANNEL_BYTES_MAX):
        raise ValueError(f"write at most {CHANNEL_BYTES_MAX} ASCII characters, or leave it empty")
    return value


def _mode(value: str) -> str:
    if value and value not in ENCRYPTION_MODES:
        raise ValueError(f"write one of {', '.join(ENCRYPTION_MODES)}, or leave it empty")
    return value


def _salt(value: str) -> str:
    try:
        content = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        content = b"?"
    if len(content) not in {0, SALT_BYTES}:
        raise ValueError(f"write {SALT_BYTES} bytes in Base64 (openssl rand -base64 32), or leave it empty")
    return value


UserId = Annotated[WholeNumber, Field(ge=1, le=2**32 - 1)]


class AgoraSettings(Section):
    """[agora]: the session endpoint, GET or POST /agora/session, and the agent's place in the channel."""

    app_id: Annotated[str, AfterValidator(_app_id)] = Field(
        "", description="App ID of the Agora project; empty: no calls through Agora"
    )
    app_certificate_file: OptionalPath = Field(
        None, description="file with the certificate, instead of app_certificate"
    )
    app_certificate: SecretStr = Field(
        SecretStr(""), description="App Certificate of the project; better from the environment or a file"
    )
    secret_file: OptionalPath = Field(None, description="file with the secret, instead of secret")
    secret: SecretStr = Field(SecretStr(""), description="what Cekura has to send to get a session")
    secret_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = Field(
        "X-Cekura-Secret", description="header field that carries the secret"
    )
    client_id: str = Field("", description="client id that has to be asked for; empty: any")
    user: Name = Field("agora", description="user that routes match, unless the address says ?user=NAME")
    channel: Annotated[str, AfterValidator(_channel)] = Field(
        "", description="name of the channel, for one call at a time; empty: a new one for each call"
    )
    join_uid: UserId = Field(1, description="user id as which Cekura joins; its token is for that one alone")
    join: bool = Field(
        default=True,
        description='the agent joins the channel itself (extra "agora"); false: a program of yours does',
    )
    agent_uid: UserId = Field(2, description="user id as which the agent joins")
    join_timeout: PositiveDuration = Field(
        timedelta(seconds=60), description="how long the agent waits in the channel for Cekura"
    )
    token_lifetime: PositiveDuration = Field(
        timedelta(hours=1), description="how long the tokens are good, at most 24h"
    )
    sessions_per_minute: WholeNumber = Field(60, ge=1, description="new sessions a minute; more are refused with 429")
    encryption_mode: Annotated[str, AfterValidator(_mode)] = Field(
        "", description='encryption of the channel, like "aes_256_gcm2"; empty: none'
    )
    encryption_key_file: OptionalPath = Field(None, description="file with the key, instead of encryption_key")
    encryption_key: SecretStr = Field(
        SecretStr(""), description="key of the encryption, like the output of: openssl rand -hex 32"
    )
    encryption_salt: Annotated[str, AfterValidator(_salt)] = Field(
        "", description="32 bytes in Base64, for the modes that end in gcm2; empty: new ones for each session"
    )

    _certificate_from_file = field_validator("app_certificate")(secret_or_file)
    _secret_from_file = field_validator("secret")(secret_or_file)
    _key_from_file = field_validator("encryption_key")(secret_or_file)

    @field_validator("token_lifetime")
    @classmethod
    def _check_lifetime(cls, value: timedelta) -> timedelta:
        if value > TOKEN_LIFETIME_MAX:
            raise ValueError("write at most 24h: Agora takes no token for longer")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if not self.app_id:
            return self
        if not _is_id(self.app_certificate.get_secret_value()):
            raise ValueError("app_certificate: write the 32 hexadecimal digits of the project's primary certificate")
        if not self.secret.get_secret_value():
            raise ValueError("secret: write the secret that Cekura sends (openssl rand -hex 32 makes one)")
        if self.encryption_mode and not self.encryption_key.get_secret_value():
            raise ValueError("encryption_key: encryption_mode needs one (openssl rand -hex 32 makes one)")
        if self.join and self.agent_uid == self.join_uid:
            raise ValueError("agent_uid and join_uid are the same: each in the channel needs one of its own")
        return self
