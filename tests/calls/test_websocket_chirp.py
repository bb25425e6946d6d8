"""Calls by WebSocket (Cekura's CHIRP) to a real agent: the same flow, handlers, records and recordings as by SIP."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import ROUTES, StartAgent, dial
from tests.calls.rtp import strongest_hz, tone
from tests.ports import free_port

RATE_HZ = 16_000
FRAME_S = 0.02
FRAME_SAMPLES = 320


@pytest.fixture(scope="module")
def api_port() -> int:
    """Return the port of the agent's HTTP API."""
    return free_port(socket.SOCK_STREAM)


@pytest.fixture(scope="module")
def agent(agent_folders: Iterator[Path], api_port: int) -> Iterator[AgentProcess]:
    """Run an agent whose handlers can be reached by `?user=`."""
    settings = {"routes": ROUTES, "api": {"bind": f"127.0.0.1:{api_port}"}}
    with AgentProcess(next(agent_folders), settings) as process:
        yield process


class Caller:
    """A CHIRP client: it speaks in real time and keeps what it hears."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self._sound = bytearray()
        self._reader = asyncio.create_task(self._read())

    @property
    def heard(self) -> np.ndarray:
        """All that was heard so far."""
        return np.frombuffer(bytes(self._sound[: len(self._sound) // 2 * 2]), np.int16)

    async def speak(self, samples: np.ndarray) -> None:
        """Say something, frame by frame."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for start in range(0, len(samples), FRAME_SAMPLES):
            await self.socket.send_bytes(samples[start : start + FRAME_SAMPLES].tobytes())
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def until_closed(self) -> int | None:
        """Wait until the agent closes the socket; returns the code."""
        await asyncio.wait_for(self._reader, 10)
        return self.close_code

    async def _read(self) -> None:
        async for message in self.socket:
            if message.type is WSMsgType.BINARY:
                self._sound += message.data
            else:
                self.events.append(json.loads(message.data))
        self.close_code = self.socket.close_code


@asynccontextmanager
async def calling(port: int, user: str, **options: Any) -> AsyncIterator[Caller]:
    """Call a user by WebSocket."""
    async with (
        ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/chirp", params={"user": user}, **options) as connected,
    ):
        yield Caller(connected)


def basic(credentials: str) -> dict[str, str]:
    """Return the header with which a caller says who it is."""
    return {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}


async def record_of(agent: AgentProcess, run_id: str) -> dict[str, Any]:
    """Return the finished record of a run."""
    return await asyncio.to_thread(agent.record, f"run:{run_id}")


async def test_the_echo_answers_by_websocket(agent: AgentProcess, api_port: int) -> None:
    """What is said comes back; record and recording are those of any call."""
    async with calling(api_port, "echo", headers={"X-Run-Id": "ws-1", "X-Api-Key": "hush"}) as caller:
        await caller.speak(tone(600, 1.5, rate_hz=RATE_HZ))
        heard = caller.heard
        await caller.socket.close()
    record = await record_of(agent, "ws-1")
    samples, rate_hz = soundfile.read(record["recording"]["path"], dtype="int16")
    middle = samples[len(samples) // 3 : 2 * len(samples) // 3]
    assert 600.0 == pytest.approx(strongest_hz(heard[-RATE_HZ // 2 :], RATE_HZ), abs=10)
    assert ("answered", "caller", 200) == (record["outcome"], record["ended_by"], record["sip_status"])
    assert ("WS", "inbound", "echo") == (record["transport"], record["direction"], record["handler"])
    assert ("pcm_s16le", 16_000, None) == (record["codec"], record["clock_rate_hz"], record["error"])
    assert ["ws-1"] == record["headers"]["X-Run-Id"]
    assert "hush" not in json.dumps(record)
    assert 1500 == pytest.approx(record["talk_ms"], abs=500)
    assert 0 == record["audio"]["underruns"]
    for channel in (0, 1):
        assert 600.0 == pytest.approx(strongest_hz(middle[:, channel], rate_hz), abs=10)


async def test_a_handler_that_returns_closes_in_order(agent: AgentProcess, api_port: int) -> None:
    """1000, after its last word was sent."""
    async with calling(api_port, "hang_up", headers={"X-Run-Id": "ws-2"}) as caller:
        assert 1000 == await caller.until_closed()
        assert 440.0 == pytest.approx(strongest_hz(caller.heard, RATE_HZ), abs=30)
    record = await record_of(agent, "ws-2")
    assert ("answered", "agent") == (record["outcome"], record["ended_by"])


async def test_a_handler_that_fails_closes_with_1011(agent: AgentProcess, api_port: int) -> None:
    """The caller can tell that it was our failure; the record has the error."""
    async with calling(api_port, "raise_after", headers={"X-Run-Id": "ws-3"}) as caller:
        assert 1011 == await caller.until_closed()
    record = await record_of(agent, "ws-3")
    assert ("failed", "system") == (record["outcome"], record["ended_by"])
    assert "the model went away" in record["error"]


@pytest.mark.parametrize(("user", "status"), [("busy", 503), ("nobody", 404), ("raise_before", 500)])
async def test_a_refusal_is_an_http_status(agent: AgentProcess, api_port: int, user: str, status: int) -> None:
    """The upgrade is not accepted, and the record has the SIP status."""
    with pytest.raises(WSServerHandshakeError) as refused:
        async with calling(api_port, user, headers={"X-Run-Id": f"ws-{user}"}):
            pass
    assert status == refused.value.status
    record = await record_of(agent, f"ws-{user}")
    assert {"busy": 486, "nobody": 404, "raise_before": 500}[user] == record["sip_status"]


async def test_a_message_that_is_not_chirp_is_answered_and_dropped(agent: AgentProcess, api_port: int) -> None:
    """As the protocol says: `session.error`, and the session goes on; events of the caller are taken."""
    async with calling(api_port, "echo", headers={"X-Run-Id": "ws-junk"}) as caller:
        await caller.socket.send_bytes(b"abc")
        await caller.socket.send_str("{")
        await caller.socket.send_str('{"type":"speech.started"}')
        await caller.socket.send_str('{"type":"speech.started","data":{"utterance_id":"u1"}}')
        await caller.speak(tone(600, 0.4, rate_hz=RATE_HZ))
        codes = [event["data"]["code"] for event in caller.events]
        assert np.abs(caller.heard).max() > 3000
    assert ["INVALID_AUDIO_FRAME", "INVALID_MESSAGE", "MISSING_FIELD"] == codes
    assert (await record_of(agent, "ws-junk"))["error"] is None


async def test_nothing_but_junk_is_against_the_policy(agent: AgentProcess, api_port: int) -> None:
    """After fifty such messages the socket is closed with 1008."""
    async with calling(api_port, "silence", headers={"X-Run-Id": "ws-flood"}) as caller:
        for _ in range(50):
            await caller.socket.send_str("{}")
        assert 1008 == await caller.until_closed()
    assert "not CHIRP" in (await record_of(agent, "ws-flood"))["end_reason"]


async def test_a_connection_that_breaks_is_not_a_goodbye(agent: AgentProcess, api_port: int) -> None:
    """The record tells a caller who hung up from one who was lost."""
    async with calling(api_port, "silence", headers={"X-Run-Id": "ws-lost"}) as caller:
        transport = caller.socket._response.connection.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.abort()
        record = await record_of(agent, "ws-lost")
    assert ("answered", "system") == (record["outcome"], record["ended_by"])
    assert "the WebSocket broke off (close code 1006)" == record["end_reason"]


@pytest.mark.parametrize(
    ("frame", "code", "cause"),
    [
        (b"\x82\xff" + (2**20 + 2).to_bytes(8) + bytes(4 + 2**20 + 2), 1009, "1048576"),
        (b"\x81\x82" + bytes(4) + b"\xff\xfe", 1007, "UTF-8"),
    ],
)
async def test_a_message_that_ends_the_connection_is_named(
    agent: AgentProcess, api_port: int, frame: bytes, code: int, cause: str
) -> None:
    """One that is too long, and one that is no text: the caller gets the code, the record has the reason."""
    async with calling(api_port, "silence", headers={"X-Run-Id": f"ws-{code}"}) as caller:
        transport = caller.socket._response.connection.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.write(frame)
        assert code == await caller.until_closed()
    record = await record_of(agent, f"ws-{code}")
    assert ("answered", "system") == (record["outcome"], record["ended_by"])
    assert record["end_reason"].startswith("the WebSocket broke off: ")
    assert cause in record["end_reason"]


async def test_a_web_page_may_not_call(api_port: int, agent: AgentProcess) -> None:  # noqa: ARG001
    """A browser names the page in Origin; plain HTTP is told what this is for."""
    with pytest.raises(WSServerHandshakeError) as refused:
        async with calling(api_port, "echo", headers={"Origin": "https://evil.example"}):
            pass
    assert 403 == refused.value.status
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{api_port}/chirp") as response:
        assert 426 == response.status
        assert "CHIRP" in (await response.json())["error"]


async def test_faults_by_websocket(start_agent: StartAgent) -> None:
    """What is done to packets is refused, naming it; a late reply is late, and the record names what happened."""
    port = free_port(socket.SOCK_STREAM)
    routes = [
        {**dial("lossy", "tone"), "faults": {"loss_percent": 5}},
        {**dial("slow", "tone"), "faults": {"reply_delay": "600ms", "hang_up_after": "2s"}},
    ]
    agent = start_agent(routes=routes, api={"bind": f"127.0.0.1:{port}"})
    with pytest.raises(WSServerHandshakeError):
        async with calling(port, "lossy", headers={"X-Run-Id": "lossy"}):
            pass
    refused = await record_of(agent, "lossy")
    async with calling(port, "slow", headers={"X-Run-Id": "slow"}) as caller:
        assert 1000 == await caller.until_closed()
    late = await record_of(agent, "slow")

    assert ("rejected", 488) == (refused["outcome"], refused["sip_status"])
    assert "fault: loss_percent needs a call by SIP, not WS" == refused["end_reason"]
    assert not refused["faults"]
    assert 600 == pytest.approx(int(np.flatnonzero(caller.heard)[0]) * 1000 / RATE_HZ, abs=150)
    assert ["hang_up_after=2s", "reply_delay=600ms"] == late["faults"]


async def test_callers_prove_who_they_are(start_agent: StartAgent) -> None:
    """Basic authentication with auth.users: 401 without or with a wrong password; the user stands in the record."""
    port = free_port(socket.SOCK_STREAM)
    agent = start_agent(routes=ROUTES, api={"bind": f"127.0.0.1:{port}"}, auth={"users": {"cekura": "s3cret:x"}})
    for given in ({}, basic("cekura:wrong"), basic("nobody:s3cret:x"), {"Authorization": "Basic %"}):
        with pytest.raises(WSServerHandshakeError) as refused:
            async with calling(port, "echo", headers=given):
                pass
        assert 401 == refused.value.status
        assert refused.value.headers is not None
        assert refused.value.headers["WWW-Authenticate"].startswith("Basic realm=")
    async with calling(port, "hang_up", headers={"X-Run-Id": "in", **basic("cekura:s3cret:x")}) as caller:
        assert 1000 == await caller.until_closed()
    record = await record_of(agent, "in")
    assert ("answered", "cekura") == (record["outcome"], record["auth_user"])
    refusals = [record for record in agent.all_records() if record["outcome"] == "rejected"]
    reasons = {record["end_reason"] for record in refusals}
    assert {"authentication: wrong_credentials", "authentication: malformed"} == reasons


async def test_admission_holds_for_websocket_calls(start_agent: StartAgent) -> None:
    """A source that may not call gets 403; one call too many gets 503 with Retry-After."""
    port = free_port(socket.SOCK_STREAM)
    start_agent(routes=ROUTES, api={"bind": f"127.0.0.1:{port}"}, admission={"allow": ["192.0.2.0/24"]})
    with pytest.raises(WSServerHandshakeError) as refused:
        async with calling(port, "echo"):
            pass
    assert 403 == refused.value.status
    other = free_port(socket.SOCK_STREAM)
    start_agent(routes=ROUTES, api={"bind": f"127.0.0.1:{other}"}, admission={"max_calls": 1})
    async with calling(other, "silence"):
        with pytest.raises(WSServerHandshakeError) as refused:
            async with calling(other, "silence"):
                pass
    assert 503 == refused.value.status
    assert refused.value.headers is not None
    assert "10" == refused.value.headers["Retry-After"]


@pytest.mark.parametrize("rate_hz", [8000, 48_000])
async def test_the_agent_may_work_at_another_rate(start_agent: StartAgent, rate_hz: int) -> None:
    """On the socket it is 16 kHz all the same."""
    port = free_port(socket.SOCK_STREAM)
    start_agent(routes=ROUTES, api={"bind": f"127.0.0.1:{port}"}, media={"sample_rate_hz": rate_hz})
    async with calling(port, "echo") as caller:
        await caller.speak(tone(600, 1.0, rate_hz=RATE_HZ))
        assert 600.0 == pytest.approx(strongest_hz(caller.heard[-RATE_HZ // 2 :], RATE_HZ), abs=10)


async def test_a_stopping_agent_ends_websocket_calls(start_agent: StartAgent) -> None:
    """They are closed in order and recorded, and keep nobody waiting."""
    port = free_port(socket.SOCK_STREAM)
    agent = start_agent(routes=ROUTES, api={"bind": f"127.0.0.1:{port}"})
    async with calling(port, "silence", headers={"X-Run-Id": "stop"}) as caller:
        agent.terminate()
        assert 1000 == await caller.until_closed()
    await asyncio.to_thread(eventually, lambda: not agent.is_alive(), "end of the agent")
    (record,) = agent.records("run:stop")
    assert ("answered", "system", "the agent is shutting down") == (
        record["outcome"],
        record["ended_by"],
        record["end_reason"],
    )
