"""A speech-to-speech model on a real call: the agent is a process of its own, the model's server is local."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media.tones import ToneGenerator
from tests.calls.agent_process import eventually
from tests.calls.conftest import StartAgent
from tests.calls.peer import Peer
from tests.calls.rtp import CLOCK_RATE_HZ, RtpPeer, strongest_hz
from tests.calls.sdp_text import audio_address
from tests.handlers.realtime_server import Connection, Event, RealtimeServer

GREETING = "Hello there what can I do for you today"


class Receptionist(Connection):
    """Greets for eight seconds, all at once; falls silent when it hears a tone; then says goodbye and hangs up."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._interrupted = False

    async def take(self, event: Event) -> None:
        """Hold the conversation."""
        await super().take(event)
        if event["type"] == "response.create" and "response" in event:
            await self.begin_response()
            await self.begin_item()
            await self.say_part(GREETING, ToneGenerator(500, self.rate_hz).next(8 * self.rate_hz))
            await self.end_item(GREETING)
            await self.end_response()
        elif event["type"] == "input_audio_buffer.append" and not self._interrupted and self._hears_something():
            self._interrupted = True
            await self.start_speech()
        elif event["type"] == "conversation.item.truncate":
            await self.stop_speech()
            await self.transcribe("I have to go.")
            await self.begin_response("resp_2")
            goodbye = ToneGenerator(900, self.rate_hz).next(self.rate_hz)
            await self.say("Goodbye.", goodbye, response_id="resp_2", item_id="item_2")
            await self.call_tool("hang_up", "{}", response_id="resp_2")
            await self.end_response("resp_2")

    def _hears_something(self) -> bool:
        latest = self.heard()[-self.rate_hz // 10 :].astype(int)
        return bool(np.mean(np.abs(latest) > 1000) > 0.5)


@contextmanager
def in_a_thread(server: RealtimeServer) -> Iterator[RealtimeServer]:
    """Run a server beside a test that waits for its peers."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        yield server
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def loud(heard: np.ndarray) -> np.ndarray:
    """Return, for each 20 ms, whether something is to be heard."""
    frames = heard[: len(heard) // 160 * 160].reshape(-1, 160)
    return np.asarray(np.max(np.abs(frames), axis=1) > 200)


@pytest.mark.parametrize("audio_format", ["pcm16", "g711_ulaw"])
def test_interrupted_conversation(start_agent: StartAgent, audio_format: str) -> None:
    """The caller interrupts: silence at once, the model knows what was heard, answers, and hangs up after it."""
    with in_a_thread(RealtimeServer(connection=Receptionist)) as server:
        options = {
            "base_url": server.url,
            "greeting": "Greet the caller.",
            "tools": ["hang_up"],
            "audio_format": audio_format,
        }
        agent = start_agent(routes=[{"handler": "openai-realtime", "options": options}])
        with Peer(agent) as peer, RtpPeer() as rtp:
            remote = audio_address(peer.invite(sdp=peer.offer(port=rtp.port)).body)
            eventually(lambda: np.count_nonzero(loud(rtp.heard())) > 100, "two seconds of the greeting")
            rtp.send_to(remote)
            peer.reply(peer.await_request("BYE"))
            record = agent.record(peer.call_id)
            heard = rtp.heard()
        (truncation,) = server.connection.sent("conversation.item.truncate")

    times = np.flatnonzero(loud(heard))
    greeting, goodbye = np.split(times, np.flatnonzero(np.diff(times) > 1)[:1] + 1)
    assert (greeting[-1] - greeting[0] + 1) * 20 == pytest.approx(truncation["audio_end_ms"], abs=40)
    assert len(goodbye) * 20 == pytest.approx(1000, abs=60)
    for part, hz in ((greeting, 500), (goodbye, 900)):
        sound = heard[(part[0] + 5) * 160 : (part[-1] - 5) * 160]
        assert hz == pytest.approx(strongest_hz(sound, CLOCK_RATE_HZ), abs=10)
    assert ("answered", "agent", "the model hung up") == (record["outcome"], record["ended_by"], record["end_reason"])
    assert ([], 0) == (record["stalls"], record["audio"]["underruns"])
    said = [(entry["speaker"], entry.get("text") or entry["tool"]) for entry in record["transcript"]]
    assert [("caller", "I have to go."), ("agent", "Goodbye."), ("agent", "hang_up")] == said[1:]
    assert "agent" == said[0][0]
    assert GREETING.startswith(said[0][1] + " ")


def test_no_model(start_agent: StartAgent, tmp_path: Path) -> None:
    """Where no model is, the caller is refused and the record says why; the key is in neither record nor log."""
    (tmp_path / "key").write_text("sk-test-0123456789", encoding="utf-8")
    options = {"base_url": "http://127.0.0.1:1/v1", "api_key_file": str(tmp_path / "key")}
    agent = start_agent(routes=[{"handler": "openai-realtime", "options": options}])
    with Peer(agent) as peer:
        assert 503 == peer.invite().status
        record = agent.record(peer.call_id)
    assert "cannot be reached" in record["end_reason"]
    assert "0123456789" not in f"{record}{agent.tail()}"
