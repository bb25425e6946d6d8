"""Calls without SIP, and no network either: the request as an INVITE, and sound that arrives unevenly."""

from datetime import UTC, datetime

import numpy as np
import pytest

from media.frames import Samples
from sip_agent.invite import Invite
from sip_agent.pcm_call import BACKLOG_FRAMES_AIM, BACKLOG_FRAMES_MAX, CallRequest, PcmPort

RATE_HZ = 16_000
FRAME = 640


def request(*headers: tuple[bytes, bytes], user: str = "echo") -> Invite:
    """Return what the call flow reads of a request."""
    asked = CallRequest(
        transport="WS",
        caller="chirp",
        source_host="2001:db8::1",
        source_port=4711,
        local_address="127.0.0.1:8080",
        user=user,
        headers=headers,
    )
    return Invite.parse(
        asked.as_invite(),
        transport="WS",
        source_host=asked.source_host,
        source_port=asked.source_port,
        received_at=datetime.now(UTC),
    )


def test_a_request_is_an_invite() -> None:
    """User, headers and agent of the request; nothing else that HTTP has."""
    invite = request(
        (b"Host", b"agent.example"),
        (b"x-run-id", b"7"),
        (b"X-Name", "Zoë".encode()),
        (b"User-Agent", b"cekura/1"),
        (b"Authorization", b"Basic eA=="),
        (b"Cookie", b"a=b"),
        (b"Via", b"1.1 proxy"),
    )
    assert ("echo", "WS", "cekura/1") == (invite.user, invite.transport, invite.user_agent)
    assert {"x-run-id": ["7"], "X-Name": ["Zoë"]} == invite.headers.extensions()
    assert "Basic eA==" == invite.headers.get("Authorization")
    assert "Cookie" not in invite.headers
    assert ("sip:chirp@[2001:db8::1]:4711", "sip:echo@127.0.0.1:8080") == (invite.from_uri, invite.request_uri)


@pytest.mark.parametrize("user", ["a%20b", "%40", "caf%C3%A9"])
def test_a_user_may_be_called_anything(user: str) -> None:
    """As the query wrote it; the route sees it decoded."""
    assert user not in request(user=user).user
    assert request(user=user).user


def voice(frames: int, level: int = 8000) -> Samples:
    """Return a square wave."""
    return np.tile(np.repeat(np.array([level, -level], np.int16), 20), frames * 320 // 40)


def played(port: PcmPort, ticks: int) -> Samples:
    """Return what the handler gets in so many ticks."""
    received = []
    for _ in range(ticks):
        port.tick()
        received.append(port.read())
    return np.frombuffer(b"".join(received), np.int16)


def loud_frames(samples: Samples) -> list[bool]:
    """Tell of each frame whether it is loud."""
    return [bool(loud) for loud in np.abs(samples.reshape(-1, 320)).max(axis=1) > 1000]


def test_uneven_arrival_is_played_evenly() -> None:
    """Messages of any length, in bursts: without a hole from the first frame to the last."""
    port = PcmPort(RATE_HZ, 0)
    sound = voice(10).tobytes()
    heard = []
    for message in (sound[:1400], sound[1400:2560], sound[2560:4060], sound[4060:]):
        port.receive(message)
        heard.append(played(port, 2))
    heard.append(played(port, 10))
    loud = loud_frames(np.concatenate(heard))
    first = loud.index(True)
    assert [True] * 10 == loud[first : first + 10]
    assert 10 == sum(loud)


def test_a_single_frame_is_not_held_back_for_ever() -> None:
    """What comes alone is played after 40 ms."""
    port = PcmPort(RATE_HZ, 0)
    port.receive(voice(1).tobytes())
    assert [False, False, True, False] == loud_frames(played(port, 4))


def test_silence_is_left_out_when_the_caller_is_ahead() -> None:
    """Speech is kept, and the delay goes away in its pauses."""
    port = PcmPort(RATE_HZ, 0)
    port.receive(voice(10).tobytes() + bytes(FRAME * 50) + voice(10).tobytes())
    loud = loud_frames(played(port, 40))
    assert 20 == sum(loud)
    assert loud.index(True) + 20 + BACKLOG_FRAMES_AIM >= len(loud) - loud[::-1].index(True)


def test_a_flood_takes_no_more_than_ten_seconds_of_memory() -> None:
    """The oldest sound goes."""
    port = PcmPort(RATE_HZ, 0)
    for _ in range(30):
        port.receive(voice(50).tobytes())
    assert BACKLOG_FRAMES_MAX == sum(loud_frames(played(port, BACKLOG_FRAMES_MAX + 100)))


@pytest.mark.parametrize("rate_hz", [8000, 48_000])
def test_the_socket_has_16_khz_whatever_the_agent_has(rate_hz: int) -> None:
    """20 ms are 640 bytes on the way out, and a frame of the agent's on the way in."""
    port = PcmPort(rate_hz, 0)
    port.write(np.full(rate_hz // 50, 1000, np.int16).tobytes())
    port.receive(voice(5).tobytes())
    sent = [port.tick() for _ in range(5)]
    assert {FRAME} == {len(sound) for sound in sent}
    assert 5 * rate_hz // 50 == len(port.read()) // 2
