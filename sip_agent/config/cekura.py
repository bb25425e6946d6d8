"""[cekura] of the settings file: access to Cekura's API, what is sent back, and what Cekura may tell."""

from enum import StrEnum
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from sip_agent.config.secret_files import secret_or_file
from sip_agent.config.section import Section
from sip_agent.config.values import BaseUrl, OptionalPath, WholeNumber


class MessageTimes(StrEnum):
    """How the messages of a transcript say when they were spoken: Cekura's pages contradict each other."""

    SECONDS = "seconds"
    EPOCH_MS = "epoch_ms"
    OFF = "off"


def _path_or_url(value: str) -> str:
    parts = urlsplit(value)
    if not (value.startswith("/") or (parts.scheme in {"http", "https"} and parts.hostname)):
        raise ValueError("write a path at base_url that starts with /, or an address that starts with https://")
    return value


def _url_or_nothing(value: str) -> str:
    parts = urlsplit(value)
    if value and not (parts.scheme in {"http", "https"} and parts.hostname):
        raise ValueError("write an address that starts with https:// or http://, or leave it empty")
    return value.rstrip("/")


class CekuraSettings(Section):
    """[cekura]: access to Cekura's API, evidence of calls, webhooks."""

    api_key_file: OptionalPath = Field(None, description="file with the API key, instead of api_key")
    api_key: SecretStr = Field(SecretStr(""), description="API key; better from the environment or a file")
    base_url: BaseUrl = Field("https://api.cekura.ai", description="where Cekura's API is; a stand-in is elsewhere")
    agent_id: WholeNumber = Field(0, ge=0, description="id of this agent at Cekura; 0: not set")
    send_transcripts: bool = Field(
        default=True, description="send the transcript of each call with a run id to Cekura, if there is an API key"
    )
    transcript_url: Annotated[str, AfterValidator(_path_or_url)] = Field(
        "/test_framework/custom-provider-transcript-webhook",
        description="where transcripts go: a path at base_url, or the whole address that Cekura shows",
    )
    message_times: MessageTimes = Field(
        MessageTimes.SECONDS,
        description="times of messages: seconds from the start, epoch_ms, or off; Cekura's pages differ",
    )
    recordings_url: Annotated[str, AfterValidator(_url_or_nothing)] = Field(
        "", description="public address of media.recordings_dir, so that Cekura gets a link; empty: none"
    )
    observe: bool = Field(
        default=False, description="send calls without a run id, with their recording, to Cekura's observability"
    )
    webhook_secret_file: OptionalPath = Field(None, description="file with the secret, instead of webhook_secret")
    webhook_secret: SecretStr = Field(
        SecretStr(""), description="secret of Cekura's webhooks; empty: POST /cekura/webhook does not exist"
    )
    announced_runs_only: bool = Field(
        default=False, description="refuse calls, with 403, whose run the webhook result.pre_trigger did not announce"
    )

    _api_key_from_file = field_validator("api_key")(secret_or_file)
    _webhook_secret_from_file = field_validator("webhook_secret")(secret_or_file)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.observe and not self.agent_id:
            raise ValueError("observe: Cekura asks whose call it was: set agent_id")
        if self.announced_runs_only and not self.webhook_secret.get_secret_value():
            raise ValueError("announced_runs_only: nobody can announce runs: set webhook_secret_file")
        return self
