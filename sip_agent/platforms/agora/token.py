"""Agora's access tokens, version 007 (AccessToken2), for one channel and one user.

Source: github.com/AgoraIO/Tools, DynamicKey/AgoraDynamicKey/python3/src (AccessToken2.py, RtcTokenBuilder2.py). Numbers
are little-endian; a string is its length in 16 bits and its bytes.
"""

import base64
import hashlib
import hmac
import struct
import zlib
from collections.abc import Mapping
from enum import IntEnum

VERSION = "007"
RTC_SERVICE = 1


class Privilege(IntEnum):
    """What a token lets its user do in the channel."""

    JOIN = 1
    PUBLISH_AUDIO = 2
    PUBLISH_VIDEO = 3
    PUBLISH_DATA = 4


def mint_token(
    *,
    app_id: str,
    certificate: str,
    channel: str,
    uid: int,
    issued_at_s: int,
    lifetime_s: int,
    salt: int,
    privileges: Mapping[Privilege, int],
) -> str:
    """Return a token for a user id (0: any) in a channel; `privileges` say for how many seconds each is good.

    `issued_at_s` is Unix time, `salt` a number from 1 to 99999999. `app_id` and `certificate` are 32 hex digits.
    """
    services = struct.pack("<HHH", 1, RTC_SERVICE, len(privileges))
    services += b"".join(struct.pack("<HI", right, seconds) for right, seconds in sorted(privileges.items()))
    services += _string(channel) + _string(str(uid) if uid else "")
    content = _string(app_id) + struct.pack("<III", issued_at_s, lifetime_s, salt) + services
    key = _hmac(struct.pack("<I", salt), _hmac(struct.pack("<I", issued_at_s), certificate.encode()))
    signature = _hmac(key, content)
    packed = zlib.compress(struct.pack("<H", len(signature)) + signature + content)
    return VERSION + base64.b64encode(packed).decode()


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _string(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<H", len(content)) + content
