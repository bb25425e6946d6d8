"""Asking a voice URL what to do with a call, as Twilio does.

Sources: twilio.com/docs/voice/api/sip-twiml (the parameters), twilio.com/docs/usage/security (the signature).
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping

import aiohttp

from sip_agent.call import Call
from sip_agent.errors import MessageError
from sip_agent.handlers.websocket.connection import BotError, ConnectOptions, authority, cause_of, shown
from sip_agent.handlers.websocket.twilio import NO_ACCOUNT, call_sid
from sip_agent.handlers.websocket.twiml import CHARACTERS_MAX, Response, TwimlError, parse_twiml
from sip_agent.invite import SipUri
from sip_agent.status import SipStatus

SOUND_BYTES_MAX = 20 * 1024 * 1024


def voice_parameters(call: Call, account_sid: str) -> dict[str, str]:
    """Return the form that a voice URL is sent: the call, and each `X-` header as `SipHeader_X-…`."""
    invite = call.invite
    try:
        domain = SipUri.parse(invite.request_uri).host
    except MessageError:
        domain = ""
    return {
        "CallSid": call_sid(call.call_uuid),
        "AccountSid": account_sid or NO_ACCOUNT,
        "From": invite.from_uri,
        "To": invite.to_uri,
        "CallStatus": "ringing",
        "ApiVersion": "2010-04-01",
        "Direction": "inbound",
        "SipDomain": domain,
        "SipCallId": invite.call_id,
        "SipSourceIp": invite.source_host,
        **{f"SipHeader_{name}": ", ".join(values) for name, values in call.headers.items()},
    }


def signature(auth_token: str, url: str, parameters: Mapping[str, str]) -> str:
    """Return the `X-Twilio-Signature` of a request."""
    signed = url + "".join(f"{name}{parameters[name]}" for name in sorted(parameters))
    digest = hmac.new(auth_token.encode(), signed.encode("utf-8", "surrogateescape"), hashlib.sha1).digest()
    return base64.b64encode(digest).decode("ascii")


async def ask_voice_url(
    session: aiohttp.ClientSession, url: str, parameters: Mapping[str, str], auth_token: str, options: ConnectOptions
) -> Response:
    """Return what a voice URL answers; raises BotError."""
    headers = options.request_headers()
    if auth_token:
        headers["X-Twilio-Signature"] = signature(auth_token, url, parameters)
    document = await _fetch(session, "POST", url, options, CHARACTERS_MAX, data=dict(parameters), headers=headers)
    try:
        return parse_twiml(document, url)
    except TwimlError as error:
        raise BotError(f"the voice URL {shown(url)} answered with TwiML that cannot be carried out: {error}") from error


async def fetch_sound(session: aiohttp.ClientSession, url: str, options: ConnectOptions) -> bytes:
    """Return a sound file that TwiML names; raises BotError."""
    return await _fetch(session, "GET", url, options, SOUND_BYTES_MAX)


async def _fetch(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    options: ConnectOptions,
    limit: int,
    *,
    data: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    tls = authority(options.ca_file) if options.ca_file else True
    try:
        async with (
            asyncio.timeout(options.timeout_s),
            session.request(method, url, data=data, headers=headers, ssl=tls) as response,
        ):
            if response.status >= 400:
                raise BotError(f"{shown(url)} answered with HTTP status {response.status}")
            content = bytearray()
            async for chunk in response.content.iter_chunked(65_536):
                content += chunk
                if len(content) > limit:
                    raise BotError(f"{shown(url)} answered with more than {limit} bytes")
            return bytes(content)
    except TimeoutError as error:
        raise BotError(
            f"{shown(url)} did not answer within {options.timeout_s:g} s (connect_timeout_s)",
            SipStatus.SERVER_TIMEOUT,
        ) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise BotError(f"{shown(url)} cannot be reached: {cause_of(error)}") from error
