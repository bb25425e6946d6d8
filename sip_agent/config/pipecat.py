"""[pipecat] of the settings file: sessions of Pipecat bots, and rooms at Daily for the agent itself."""

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator

from sip_agent.config.secret_files import secret_or_file
from sip_agent.config.section import Section
from sip_agent.config.values import BaseUrl, Name, OptionalPath, PositiveDuration


def _start_url(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.hostname or not parts.path.endswith("/start")):
        raise ValueError(
            "write the whole address of the start endpoint, like "
            "https://api.pipecat.daily.co/v1/public/AGENT/start or http://127.0.0.1:7860/start"
        )
    return value


class PipecatSettings(Section):
    """[pipecat]: for `sip-agent cekura pipecat`."""

    start_url: Annotated[str, AfterValidator(_start_url)] = Field(
        "", description="start endpoint: Pipecat Cloud's, or that of a runner of yours"
    )
    public_key_file: OptionalPath = Field(None, description="file with the public key, instead of public_key")
    public_key: SecretStr = Field(
        SecretStr(""),
        description="Pipecat Cloud's public key (pk_…), which starts sessions; a runner of yours has none",
    )
    private_key_file: OptionalPath = Field(None, description="file with the private key, instead of private_key")
    private_key: SecretStr = Field(
        SecretStr(""),
        description="Pipecat Cloud's private key (sk_…), which stops sessions; empty: they end when all have left",
    )
    daily_api_key_file: OptionalPath = Field(None, description="file with Daily's API key, instead of daily_api_key")
    daily_api_key: SecretStr = Field(
        SecretStr(""), description="Daily's API key, with which --join makes the rooms that the agent joins itself"
    )
    daily_api_url: BaseUrl = Field("https://api.daily.co/v1", description="where Daily's API is")
    user: Name = Field("daily", description="user that routes match for calls in a Daily room")
    join_timeout: PositiveDuration = Field(
        timedelta(seconds=60), description="how long the agent waits in a room for Cekura"
    )

    _public_key_from_file = field_validator("public_key")(secret_or_file)
    _private_key_from_file = field_validator("private_key")(secret_or_file)
    _daily_key_from_file = field_validator("daily_api_key")(secret_or_file)
