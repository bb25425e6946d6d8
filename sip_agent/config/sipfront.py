"""[sipfront] of the settings file: access to Sipfront's API."""

from enum import StrEnum

from pydantic import Field, SecretStr, field_validator

from sip_agent.config.secret_files import secret_or_file
from sip_agent.config.section import Section
from sip_agent.config.values import BaseUrl, OptionalPath


class BodyFormat(StrEnum):
    """How a request's fields are written."""

    FORM = "form"
    JSON = "json"


class SipfrontSettings(Section):
    """[sipfront]: access to Sipfront's API; keys are made in its web interface, under API keys."""

    public_key: str = Field("", description="public key, the user name of the API")
    secret_key_file: OptionalPath = Field(None, description="file with the secret key, instead of secret_key")
    secret_key: SecretStr = Field(SecretStr(""), description="secret key; better from the environment or a file")
    base_url: BaseUrl = Field(
        "https://app.sipfront.com/api/v2", description="where the API is; a stand-in is elsewhere"
    )
    body: BodyFormat = Field(BodyFormat.FORM, description="how requests are written: form or json")

    _secret_key_from_file = field_validator("secret_key")(secret_or_file)
