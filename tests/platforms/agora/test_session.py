"""Sessions: who gets one, and what it says; without a network."""

import base64
import json
import zlib
from typing import Any

import pytest
from pydantic import ValidationError

from sip_agent.config import AgoraSettings
from sip_agent.platforms.agora.session import AgoraSessions, SessionRefused, mint_session
from sip_agent.rooms import RoomEndpoint
from tests.platforms.agora.test_token import APP_ID, CERTIFICATE

HOST = "192.0.2.7"
GIVEN: dict[str, Any] = {"app_id": APP_ID, "app_certificate": CERTIFICATE, "secret": "s3cret"}


def settings(**changed: Any) -> AgoraSettings:
    """Return settings."""
    return AgoraSettings(**(GIVEN | changed))


def sessions(**changed: Any) -> AgoraSessions:
    """Return sessions that a program of the user's joins."""
    rooms = RoomEndpoint(lambda _: None, sample_rate_hz=16_000, cushion_ms=40)
    return AgoraSessions(settings(**changed), rooms, None)


async def test_each_session_has_a_channel_of_its_own() -> None:
    """Unless the settings name one."""
    first, second = (mint_session(settings(), issued_at_s=1) for _ in range(2))
    fixed = mint_session(settings(channel="lobby"), issued_at_s=1)

    assert first.channel != second.channel
    assert len(first.channel) < 64
    assert "lobby" == fixed.document()["agora_channel"]
    assert {"agora_app_id", "agora_channel", "agora_token"} == set(first.document())
    assert not any(secret in repr(first) for secret in (first.guest_token, first.agent_token, CERTIFICATE))


def test_tokens_are_good_for_the_uid_alone() -> None:
    """Each for its own, for as long as the settings say."""
    session = mint_session(settings(join_uid=17, agent_uid=18, token_lifetime="10m"), issued_at_s=5)
    said = [zlib.decompress(base64.b64decode(token[3:])) for token in (session.guest_token, session.agent_token)]

    assert [b"\x02\x0017", b"\x02\x0018"] == [content[-4:] for content in said]
    assert all(b"\x05\x00\x00\x00\x58\x02\x00\x00" in content for content in said)


@pytest.mark.parametrize(
    ("mode", "salt", "salt_bytes"),
    [("aes_256_gcm2", "", 32), ("aes_128_gcm", "", None), ("aes_256_gcm2", base64.b64encode(bytes(32)).decode(), 32)],
)
def test_encryption(mode: str, salt: str, salt_bytes: int | None) -> None:
    """A salt where the mode wants one: the given one, or a new one for each session."""
    given = settings(encryption_mode=mode, encryption_key="k" * 64, encryption_salt=salt)
    found = [mint_session(given, issued_at_s=1).document() for _ in range(2)]
    salts = [document.get("encryption_salt") for document in found]

    assert (mode, "k" * 64) == (found[0]["encryption_mode"], found[0]["encryption_key"])
    assert salt_bytes == (None if salts[0] is None else len(base64.b64decode(salts[0])))
    assert bool(salt or salts[0] is None) is (salts[0] == salts[1])


async def test_who_has_the_secret_gets_one() -> None:
    """In the header that the settings name."""
    sessions(secret_header="X-Mine").authenticate(HOST, {"X-Mine": "s3cret"}, now=0)


@pytest.mark.parametrize("headers", [{}, {"X-Cekura-Secret": ""}, {"X-Cekura-Secret": "s3cret "}, {"X-Mine": "s3cret"}])
async def test_who_has_not_gets_none(headers: dict[str, str]) -> None:
    """And the secret is not shown."""
    with pytest.raises(SessionRefused) as refusal:
        sessions().authenticate(HOST, headers, now=0)

    assert 401 == refusal.value.status
    assert "s3cret" not in json.dumps([str(refusal.value), refusal.value.hint])


async def test_guessing_is_slow() -> None:
    """After ten wrong secrets of a source nothing of it is heard for a while; others are."""
    guarded = sessions()
    for _ in range(10):
        with pytest.raises(SessionRefused):
            guarded.authenticate(HOST, {"X-Cekura-Secret": "wrong"}, now=0)
    with pytest.raises(SessionRefused) as refusal:
        guarded.authenticate(HOST, {"X-Cekura-Secret": "s3cret"}, now=0)
    guarded.authenticate("192.0.2.8", {"X-Cekura-Secret": "s3cret"}, now=0)
    guarded.authenticate(HOST, {"X-Cekura-Secret": "s3cret"}, now=6)

    assert (429, 5) == (refusal.value.status, refusal.value.retry_after_s)


async def test_sessions_have_a_rate() -> None:
    """One more than agora.sessions_per_minute waits."""
    limited = sessions(sessions_per_minute=2)
    for _ in range(2):
        limited.admit("", now=0)
    with pytest.raises(SessionRefused) as refusal:
        limited.admit("", now=0)
    limited.admit("", now=30)

    assert (429, 30) == (refusal.value.status, refusal.value.retry_after_s)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"app_id": "short"}, "32 hexadecimal digits"),
        ({"app_certificate": ""}, "app_certificate: write"),
        ({"secret": ""}, "secret: write the secret"),
        ({"encryption_mode": "aes"}, "write one of aes_128_xts"),
        ({"encryption_mode": "aes_256_gcm2"}, "encryption_key: encryption_mode needs one"),
        ({"encryption_salt": "short"}, "32 bytes in Base64"),
        ({"agent_uid": 1}, "agent_uid and join_uid are the same"),
        ({"join_uid": 0}, "greater than or equal to 1"),
        ({"token_lifetime": "25h"}, "at most 24h"),
        ({"channel": "é"}, "ASCII"),
        ({"channel": "c" * 64}, "63 ASCII"),
        ({"secret_header": "X Secret"}, "pattern"),
    ],
)
def test_wrong_settings_say_what_to_write(changed: dict[str, Any], said: str) -> None:
    """Before the agent starts."""
    with pytest.raises(ValidationError, match=said):
        settings(**changed)


def test_without_an_app_nothing_else_is_asked_for() -> None:
    """Most agents have nothing to do with Agora."""
    assert not AgoraSettings().app_id
