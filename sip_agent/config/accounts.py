"""[[accounts]] and [outbound] of the settings file: registrars that calls come from, trunks that calls go through."""

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, field_validator

from sip_agent.config.secret_files import secret_or_file
from sip_agent.config.section import Section
from sip_agent.config.values import Name, OptionalPath, PositiveDuration, SipUri, WholeNumber, sip_uri
from sip_agent.phone_numbers import read_phone_number


class CallerIdIn(StrEnum):
    """The header fields of an INVITE that carry the caller id."""

    FROM = "from"
    ASSERTED = "p-asserted-identity"
    BOTH = "both"


def _phone_number(value: str) -> str:
    number = read_phone_number(value)
    if value and number is None:
        raise ValueError('write the number with + and country code, like "+14155550123", or leave it empty')
    return number or ""


def _prefix(value: str) -> str:
    prefix = re.sub(r"[\s().\-]+", "", value)
    if not re.fullmatch(r"\+[1-9][0-9]{0,14}", prefix):
        raise ValueError('write how numbers may begin, with + and country code, like "+1415" or "+44"')
    return prefix


def _dial(value: str) -> str:
    uri, found = re.subn(r"\{(?:number|digits)\}", "0", value)
    if value and (found != 1 or "{" in uri):
        raise ValueError(
            "write {number} (+14155550123) or {digits} (14155550123) where the number belongs, like "
            '"sip:{number}@trunk.example.com;user=phone", or leave it empty'
        )
    sip_uri(uri)
    return value


class AccountSettings(Section):
    """[[accounts]]: a registrar (RFC 3261 §10), or a trunk; with a `caller_id`, calls can be placed through it."""

    name: Name = Field(description="name of the account in routes, records and logs")
    registrar: Annotated[SipUri, Field(min_length=1)] = Field(
        description='SIP URI of the registrar or the trunk, like "sip:pbx.example.com"'
    )
    registers: bool = Field(
        default=True, description="register there, so that calls come in; false for a trunk that only takes calls"
    )
    username: Name = Field(description="user part of the address that is registered")
    auth_username: str = Field("", description="user name for digest, where it is not username")
    password_file: OptionalPath = Field(None, description="file with the password, instead of password")
    password: SecretStr = Field(SecretStr(""), description="password for digest; better from the environment or a file")
    realm: Name = Field("*", description="realm the password is meant for; * takes any")
    expires: PositiveDuration = Field(timedelta(seconds=300), description="life of the registration, renewed in time")
    outbound_proxy: SipUri = Field(
        "", description="SIP URI of the proxy that REGISTER and calls go through; empty: none"
    )
    from_uri: SipUri = Field("", description="address of record, where it is not username at the registrar")
    retry_interval: PositiveDuration = Field(
        timedelta(seconds=30), description="pause before a failed registration is tried again"
    )
    caller_id: Annotated[str, AfterValidator(_phone_number)] = Field(
        "", description='number that calls placed through it show, like "+14155550123"; empty: none are placed'
    )
    caller_id_in: CallerIdIn = Field(
        CallerIdIn.BOTH, description="header that carries caller_id; trunks differ in which they heed (RFC 3325)"
    )
    dial: Annotated[str, AfterValidator(_dial)] = Field(
        "",
        description="SIP URI to call, with {number} (+1415…) or {digits} (1415…); empty: the number at the registrar",
    )

    _password_from_file = field_validator("password")(secret_or_file)


class OutboundSettings(Section):
    """[outbound]: calls to phone numbers, which cost money: what may be dialled, and how much."""

    account: str = Field("", description="account that calls go through; empty: the only one with a caller_id")
    allow: tuple[Annotated[str, AfterValidator(_prefix)], ...] = Field(
        (), description='how the numbers begin that may be dialled, like "+1415"; empty: none may'
    )
    max_calls: WholeNumber = Field(2, ge=1, description="calls to phone numbers at the same time")
    max_calls_per_day: WholeNumber = Field(
        50, ge=0, description="calls to phone numbers in any 24 hours, restarts or not"
    )
    ring_timeout: PositiveDuration = Field(
        timedelta(seconds=60), description="give up a call that is not answered for so long"
    )
