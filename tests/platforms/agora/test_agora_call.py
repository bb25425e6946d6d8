"""Calls through Agora to a real agent, on a double of Agora's SDK with its signatures; the real one is not run."""

import asyncio
import base64
import json
import shutil
import ssl
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from aiohttp import ClientSession

from sip_agent.errors import SettingsError
from sip_agent.platforms.agora.channel import load_sdk
from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import dial
from tests.calls.rtp import strongest_hz, tone

DOUBLE = Path(__file__).parent / "double"
RATE_HZ = 16_000
APP_ID = "970CA35de60c44645bbae8a215061b33"
SECRET = "what-cekura-sends"
AGORA = {
    "app_id": APP_ID,
    "app_certificate": "5CFd2fd1755d40ecb72977518be15d3b",
    "secret": SECRET,
    "client_id": "client-1",
    "sessions_per_minute": 4,
    "user": "echo",
    "join_timeout": "2s",
    "encryption_mode": "aes_256_gcm2",
    "encryption_key": "0f" * 32,
}
ASKED = {"client_id": "client-1"}


class Channel:
    """The channel as the guest, and Agora, see it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._heard = bytearray()
        self.left = asyncio.Event()

    async def next(self) -> dict[str, Any]:
        """Return what the agent tells Agora next."""
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self._reader.readline(), 10))
        return message

    async def hear(self, duration_s: float) -> np.ndarray:
        """Return what the agent says."""
        heard = bytearray()
        while len(heard) < duration_s * RATE_HZ * 2:
            message = await self.next()
            assert "sound" == message["event"]
            heard += base64.b64decode(message["sound"])
        return np.frombuffer(bytes(heard), np.int16)

    async def until_left(self) -> None:
        """Wait until the agent leaves."""
        while (await self.next())["event"] != "leave":
            pass

    async def tell(self, **message: Any) -> None:
        """Let something happen in the channel."""
        self._writer.write(json.dumps(message).encode() + b"\n")
        await self._writer.drain()

    async def say(self, samples: np.ndarray, uid: str = "1") -> None:
        """Say something, 10 ms at a time as Agora does, in real time."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for start in range(0, len(samples), 160):
            sound = base64.b64encode(samples[start : start + 160].tobytes()).decode()
            await self.tell(event="sound", uid=uid, sound=sound)
            due += 0.01
            await asyncio.sleep(max(0.0, due - loop.time()))


class Network:
    """Where the double of the SDK connects to."""

    def __init__(self) -> None:
        self.port = 0
        self._channels: asyncio.Queue[Channel] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Network"]:
        """Serve on a port of its own."""
        server = await asyncio.start_server(self._take, "127.0.0.1", 0, limit=2**20)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.close()

    async def channel(self) -> Channel:
        """Return the next channel that the agent joins."""
        return await asyncio.wait_for(self._channels.get(), 10)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._channels.put_nowait(Channel(reader, writer))


class Cekura:
    """Asks an agent for sessions."""

    def __init__(self, agent: AgentProcess, network: Network) -> None:
        (entry,) = agent.entries("api.started")
        self._url = f"{entry['url']}/agora/session"
        self.agent = agent
        self.network = network

    async def ask(
        self, method: str = "POST", *, status: int = 200, secret: str | None = SECRET, user: str = "", **content: Any
    ) -> dict[str, Any]:
        """Return the document of the answer, after checking its status."""
        headers = {"X-Cekura-Secret": secret} if secret is not None else {}
        content = content or ({"json": ASKED} if method == "POST" else {"params": ASKED})
        url = f"{self._url}?user={user}" if user else self._url
        async with ClientSession() as session, session.request(method, url, headers=headers, **content) as response:
            assert status == response.status, await response.text()
            document: dict[str, Any] = await response.json()
            return document

    async def record(self) -> dict[str, Any]:
        """Return the record of the only call."""

        def look() -> dict[str, Any]:
            (record,) = eventually(self.agent.all_records, "call record")
            return self.agent.record(record["call_uuid"])

        return await asyncio.to_thread(look)


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    """Serve the channels."""
    async with Network().serving() as serving:
        yield serving


@pytest.fixture
async def cekura(
    network: Network, agent_folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Cekura]:
    """Run an agent with the double of the SDK in its folder."""
    monkeypatch.setenv("AGORA_DOUBLE_PORT", str(network.port))
    folder = next(agent_folders)
    shutil.copytree(DOUBLE / "agora", folder / "agora")
    routes = [dial("echo"), dial("busy", "reject", status=486)]
    settings = {"routes": routes, "api": {"bind": "127.0.0.1:0"}, "agora": AGORA, "auth": {"users": {"a": "b"}}}
    with AgentProcess(folder, settings) as agent:
        yield Cekura(agent, network)


def token_content(token: str) -> bytes:
    """Return what a token says."""
    return zlib.decompress(base64.b64decode(token[3:]))


async def test_the_echo_in_a_channel(cekura: Cekura) -> None:
    """Asked for a session, the agent joins its channel; what is said there comes back, and is on record."""
    session = await cekura.ask()
    channel = await cekura.network.channel()
    join = await channel.next()
    await channel.tell(event="joined", uid="77")
    await channel.tell(event="joined", uid="1")
    speaking = asyncio.create_task(channel.say(tone(600, 1.5, rate_hz=RATE_HZ)))
    heard = await channel.hear(1.2)
    await speaking
    await channel.say(tone(600, 0.1, rate_hz=RATE_HZ), uid="77")
    await channel.tell(event="left", uid="77")
    await channel.tell(event="left", uid="1")
    await channel.until_left()
    record = await cekura.record()

    assert (APP_ID, join["channel"]) == (session["agora_app_id"], session["agora_channel"])
    assert "2" == join["uid"]
    assert token_content(join["token"]).endswith(b"\x01\x002")
    assert token_content(session["agora_token"]).endswith(b"\x01\x001")
    assert ["aes_256_gcm2", "0f" * 32] == [session["encryption_mode"], session["encryption_key"]]
    assert ([8, "0f" * 32], session["encryption_salt"]) == (join["encryption"], join["salt"])
    assert 32 == len(base64.b64decode(session["encryption_salt"]))
    assert 600.0 == pytest.approx(strongest_hz(heard[-RATE_HZ // 2 :], RATE_HZ), abs=10)
    assert ("answered", "caller", "the caller left") == (record["outcome"], record["ended_by"], record["end_reason"])
    assert ("AGORA", "inbound", "echo") == (record["transport"], record["direction"], record["handler"])
    assert ("pcm_s16le", 16_000, None) == (record["codec"], record["clock_rate_hz"], record["error"])
    assert SECRET not in json.dumps(record)
    samples, rate_hz = soundfile.read(record["recording"]["path"], dtype="int16")
    middle = samples[len(samples) // 3 : len(samples) // 2]
    for side in (0, 1):
        assert 600.0 == pytest.approx(strongest_hz(middle[:, side], rate_hz), abs=10)


async def test_nobody_comes(cekura: Cekura) -> None:
    """After agora.join_timeout the agent leaves, and the record says why."""
    await cekura.ask("GET")
    channel = await cekura.network.channel()
    await channel.until_left()
    record = await cekura.record()

    assert ("system", None) == (record["ended_by"], record["answered_at"])
    assert "nobody came within 2 s (Agora)" == record["end_reason"]


@pytest.mark.parametrize(
    ("event", "said"), [("lost", "the connection to Agora was lost"), ("encryption_error", "encryption of the channel")]
)
async def test_a_channel_that_breaks(cekura: Cekura, event: str, said: str) -> None:
    """The call is over, and its record has the reason."""
    await cekura.ask()
    channel = await cekura.network.channel()
    await channel.tell(event="joined", uid="1")
    await channel.tell(event=event)
    record = await cekura.record()

    assert "system" == record["ended_by"]
    assert said in record["end_reason"]


async def test_who_is_refused_a_call_gets_no_session(cekura: Cekura) -> None:
    """The route's handler refuses; there is a record, and nobody joins."""
    await cekura.ask(user="busy", status=503)
    record = await cekura.record()

    assert ("rejected", 486) == (record["outcome"], record["sip_status"])


async def test_who_has_no_secret_gets_nothing(cekura: Cekura) -> None:
    """No session, no record; and after some tries nobody listens."""
    assert "X-Cekura-Secret" in (await cekura.ask(secret=None, status=401))["error"]
    for _ in range(9):
        await cekura.ask(secret=SECRET + "x", status=401)
    await cekura.ask(secret="wrong", status=429)
    await cekura.ask(status=429)

    assert [] == cekura.agent.all_records()


@pytest.mark.parametrize("content", [{"json": {"client_id": "other"}}, {"json": {"client_id": 1}}, {"data": b""}])
async def test_another_client_is_refused(cekura: Cekura, content: dict[str, Any]) -> None:
    """As is who does not say which one it is."""
    document = await cekura.ask(status=403, **content)

    assert "agora.client_id" in document["hint"]
    assert [] == cekura.agent.all_records()


async def test_a_body_that_cannot_be_read(cekura: Cekura) -> None:
    """Gets no session, whoever is asked for, and is no call; it uses up nobody's rate. The secret comes first."""
    for body in (b"{", b"[]", b"client_id=client-1", b"\xff", b"[" * 100_000):
        document = await cekura.ask(status=400, data=body)
        assert "the body is no JSON object" == document["error"]
    await cekura.ask(status=401, secret="wrong", data=b"{")
    await cekura.ask(user="busy", status=503)

    assert 486 == (await cekura.record())["sip_status"]


def test_without_the_sdk_people_are_told() -> None:
    """What to install, or to set."""
    with pytest.raises(SettingsError, match=r"sip-agent\[agora\].*agora.join to false"):
        load_sdk()


def test_certificates_are_still_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the SDK switches their check off in urllib; it is on again."""
    monkeypatch.syspath_prepend(str(DOUBLE))
    before = ssl._create_default_https_context
    try:
        load_sdk()
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "agora"]:
            del sys.modules[name]

    assert before is ssl._create_default_https_context
