"""Calls without SIP, and no network either: the request as an INVITE, its end, and sound that arrives unevenly."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from media.frames import Samples
from sip_agent.call import Call, ConversationHandler
from sip_agent.chirp import ChirpEndpoint
from sip_agent.events import CallConfirmed, CallDisconnected, CallEvent, MediaChanged, Responded
from sip_agent.invite import Invite
from sip_agent.pcm_call import BACKLOG_FRAMES_AIM, BACKLOG_FRAMES_MAX, CallRequest, PcmDialog, PcmOffer, PcmPort
from sip_agent.rooms import RoomEndpoint, RoomListener
from tests.test_call_flow import Agent, in_short

RATE_HZ = 16_000
FRAME = 640


def asked(*headers: tuple[bytes, bytes], user: str = "echo") -> CallRequest:
    """Return a request."""
    return CallRequest(
        transport="WS",
        caller="chirp",
        source_host="2001:db8::1",
        source_port=4711,
        local_address="127.0.0.1:8080",
        user=user,
        headers=headers,
    )


def request(*headers: tuple[bytes, bytes], user: str = "echo") -> Invite:
    """Return what the call flow reads of a request."""
    call = asked(*headers, user=user)
    return Invite.parse(
        call.as_invite(),
        transport="WS",
        source_host=call.source_host,
        source_port=call.source_port,
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


class Socket:
    """The WebSocket of a call; keeps the code with which it was closed."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def send_bytes(self, data: bytes) -> None:
        """Send nothing."""

    async def send_str(self, data: str) -> None:
        """Send nothing."""

    async def close(self, *, code: int, message: bytes) -> bool:
        """Keep the code."""
        del message
        self.closed.set_result(code)
        return True


class Waiting:
    """A handler that rings, or answers, and then waits for the end."""

    def __init__(self, *, answers: bool) -> None:
        self.rang = asyncio.Event()
        self._answers = answers

    async def handle(self, call: Call) -> None:
        """Serve the call."""
        if self._answers:
            await call.answer()
        await call.ring()
        self.rang.set()
        await call.disconnected


class Calls:
    """An endpoint whose calls one handler serves, and its records."""

    def __init__(self, agent: Agent, handler: ConversationHandler) -> None:
        agent.build(routes=agent.route_to(lambda: handler))
        self.records = agent.records
        self.flow = agent.flow
        self.serving: list[asyncio.Task[None]] = []
        self.chirp = ChirpEndpoint(self._serve, sample_rate_hz=RATE_HZ, cushion_ms=0, protected=False)
        self.rooms = RoomEndpoint(self._serve, sample_rate_hz=RATE_HZ, cushion_ms=0)

    async def until_over(self) -> None:
        """Wait until every call is on record."""
        async with asyncio.timeout(10):
            await asyncio.gather(*self.serving)

    def _serve(self, offer: PcmOffer) -> None:
        self.serving.append(asyncio.create_task(self.flow.serve_call(offer)))


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    """Make a flow with a store."""
    agent = Agent(tmp_path)
    yield agent
    await agent.analyst.stop()
    await agent.store.close()


async def test_a_stop_ends_what_rings(agent: Agent) -> None:
    """A call that is not answered yet is refused, and its record is complete."""
    handler = Waiting(answers=False)
    calls = Calls(agent, handler)
    dialog = calls.chirp.offer(asked())
    await handler.rang.wait()
    await calls.chirp.hang_up_all("the agent is shutting down")
    await calls.until_over()
    [record] = calls.records()

    assert 603 == (await dialog.decision).status
    assert ("system", "the agent is shutting down") == (record["ended_by"], record["end_reason"])


async def test_gone_before_the_handler_listens(agent: Agent) -> None:
    """A caller that gives up while the record is begun has cancelled its call."""
    calls = Calls(agent, Waiting(answers=True))
    calls.chirp.offer(asked()).closed(None)
    await calls.until_over()
    [record] = calls.records()

    assert ("cancelled", 487, "caller", "the caller closed the WebSocket") == in_short(record)


async def test_a_refused_call_is_over(agent: Agent) -> None:
    """Nobody has to end it, in a room or not."""
    calls = Calls(agent, Waiting(answers=True))
    calls.flow.draining = True
    dialogs: list[PcmDialog] = [calls.chirp.offer(asked()), calls.rooms.offer(asked(), Room(), join_timeout_s=5)]
    await calls.until_over()

    assert [(503, (("Retry-After", "30"),))] * 2 == [
        (decision.status, decision.headers) for decision in [await dialog.decision for dialog in dialogs]
    ]
    assert [True, True] == [dialog._over.is_set() for dialog in dialogs]


async def test_ended_before_the_socket_is_open(agent: Agent) -> None:
    """A call that ends while its upgrade is accepted is closed, and its clock does not tick."""
    calls = Calls(agent, Waiting(answers=True))
    dialog = calls.chirp.offer(asked())
    granted = await dialog.decision
    await calls.chirp.hang_up_all("the agent is shutting down")
    socket = Socket()
    dialog.open(socket)
    async with asyncio.timeout(10):
        code = await socket.closed
    await calls.until_over()
    [record] = calls.records()

    assert (101, 1000) == (granted.status, code)
    assert 0 == calls.chirp._open_count
    assert ("system", "the agent is shutting down") == (record["ended_by"], record["end_reason"])


async def test_an_answer_that_was_given_up_may_come_later() -> None:
    """Whoever no longer waits for the answer takes the sound from nobody."""
    endpoint = ChirpEndpoint(lambda _: None, sample_rate_hz=RATE_HZ, cushion_ms=0, protected=False)
    dialog = endpoint.offer(asked())
    answering = asyncio.create_task(dialog.respond(200))
    await dialog.decision
    answering.cancel()
    await asyncio.wait({answering})
    dialog.open(Socket())
    events: list[CallEvent] = []
    dialog.listen(events.append)
    await dialog.respond(200)
    dialog.closed(1000)

    assert [MediaChanged, Responded, CallConfirmed, CallDisconnected] == [type(event) for event in events]


class Room:
    """A room whose guest is there, and speaks, as soon as it is joined."""

    medium = "test"

    async def join(self, listener: RoomListener) -> None:
        """See `Room`."""
        listener.guest_joined()
        listener.heard(voice(10).tobytes())

    def send(self, sound: bytes) -> None:
        """See `Room`."""

    async def leave(self) -> None:
        """See `Room`."""


async def test_the_first_word_in_a_room(agent: Agent) -> None:
    """What the guest says between its coming and the answer is heard."""

    class Listening:
        async def handle(self, call: Call) -> None:
            await call.answer()
            async for frame in call.frames():
                if np.abs(frame).max() > 1000:
                    return

    calls = Calls(agent, Listening())
    calls.rooms.offer(asked(), Room(), join_timeout_s=5)
    await calls.until_over()
    [record] = calls.records()

    assert ("answered", 200, "agent", "the handler returned") == in_short(record)


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
