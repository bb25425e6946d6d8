"""Agora's tokens."""

import base64
import zlib

import pytest

from sip_agent.platforms.agora.token import Privilege, mint_token

APP_ID = "970CA35de60c44645bbae8a215061b33"
CERTIFICATE = "5CFd2fd1755d40ecb72977518be15d3b"
CHANNEL = "7d72365eb983485397e3e3f9d460bdda"
UID = 2882341273


def token(**changed: object) -> str:
    """Return the token of Agora's own test, with some of its parts changed."""
    given: dict[str, object] = {
        "app_id": APP_ID,
        "certificate": CERTIFICATE,
        "channel": CHANNEL,
        "uid": UID,
        "issued_at_s": 1111111,
        "lifetime_s": 600,
        "salt": 1,
        "privileges": {Privilege.JOIN: 600},
    }
    return mint_token(**(given | changed))  # type: ignore[arg-type]


def content(text: str) -> bytes:
    """Return what a token says, after its signature."""
    assert text.startswith("007")
    return zlib.decompress(base64.b64decode(text[3:]))[34:]


def test_agoras_own_vector() -> None:
    """The token that Agora's own test expects (AgoraIO/Tools, AccessToken2)."""
    expected = (
        "007eJxTYBBbsMMnKq7p9Hf/HcIX5kce9b518kCiQgSr5Zrp4X1Tu6UUGCzNDZwdjU1TUs0Mkk1MzExMk5ISUy0SjQxNDcwMk4yN3b8IMEQwMTAwMo"
        "AwBIL4CgzmKeZGxmamqUmWFsYmFqbGluapxqnGaZYpJmYGSSkpiVwMRhYWRsYmhkbmxgDCaiTj"
    )
    assert expected == token()


def test_uid_0_is_anybody() -> None:
    """It is written as nothing."""
    assert content(token(uid=0)).endswith(CHANNEL.encode() + b"\x00\x00")


def test_privileges_are_in_order() -> None:
    """However they are given."""
    rights = {Privilege.PUBLISH_AUDIO: 7, Privilege.JOIN: 9}
    assert b"\x02\x00" + b"\x01\x00\x09\x00\x00\x00" + b"\x02\x00\x07\x00\x00\x00" in content(token(privileges=rights))


@pytest.mark.parametrize("changed", [{"certificate": "0" * 32}, {"salt": 2}, {"issued_at_s": 1111112}])
def test_whatever_signs_changes_the_signature(changed: dict[str, object]) -> None:
    """The certificate, the time and the salt."""
    unpacked = [zlib.decompress(base64.b64decode(text[3:]))[:34] for text in (token(), token(**changed))]
    assert unpacked[0] != unpacked[1]
