"""Bots written with Pipecat for Twilio, Telnyx and Plivo, as processes of their own, behind a real SIP call."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.calls.agent_process import REPOSITORY, AgentProcess, eventually
from tests.calls.peer import Peer
from tests.calls.rtp import RtpPeer, strongest_hz, tone
from tests.calls.sdp_text import audio_address
from tests.ports import free_port

ACCOUNT_SID = "AC" + "7" * 32
AUTH_TOKEN = "token-of-the-test"
DIALECTS = ("twilio", "telnyx", "plivo")
GOODBYE_HZ, STORY_HZ = 700, 900
"""As the bot has them; importing it would import Pipecat."""

START_S = 60.0
"""Pipecat takes its time to import."""


class PipecatBot:
    """The bot's process."""

    def __init__(self, folder: Path, api_port: int) -> None:
        self._log = folder / "bot.log"
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "TWILIO_ACCOUNT_SID": ACCOUNT_SID,
            "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
            "TWILIO_BASE_URL": f"http://127.0.0.1:{api_port}",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.calls.pipecat_bot"],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        self.port = int(eventually(lambda: self.lines("port "), f"port in {self._log}", START_S)[0])

    def lines(self, start: str) -> list[str]:
        """Return the rest of each line of the log that begins so."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.removeprefix(start) for line in lines if line.startswith(start)]


@pytest.fixture(scope="module")
def api_port() -> int:
    """Return the port of the agent's HTTP API, which the bot is told."""
    return free_port(socket.SOCK_STREAM)


@pytest.fixture(scope="module")
def bot(tmp_path_factory: pytest.TempPathFactory, api_port: int) -> Iterator[PipecatBot]:
    """Run one bot for all calls: each connection says which provider it is from."""
    bot = PipecatBot(tmp_path_factory.mktemp("bot"), api_port)
    yield bot
    bot.process.kill()
    bot.process.wait()


@pytest.fixture(scope="module")
def agent(agent_folders: Iterator[Path], bot: PipecatBot, api_port: int) -> Iterator[AgentProcess]:
    """Run an agent with a route to the bot in each dialect, and at 16 kHz, so that sound is resampled too."""
    folder = next(agent_folders)
    folder.mkdir(parents=True)
    (folder / "twilio.token").write_text(AUTH_TOKEN + "\n")
    url = f"ws://127.0.0.1:{bot.port}/ws"
    twilio = {"account_sid": ACCOUNT_SID, "auth_token_file": "twilio.token"}
    routes = [
        {
            "match": {"user": dialect},
            "handler": "websocket",
            "options": {"url": url, "dialect": dialect, **(twilio if dialect == "twilio" else {})},
        }
        for dialect in DIALECTS
    ]
    settings = {"routes": routes, "api": {"bind": f"127.0.0.1:{api_port}"}, "media": {"sample_rate_hz": 16_000}}
    with AgentProcess(folder, settings) as process:
        yield process


def channels(record: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the caller's and the agent's sound, and the sample rate."""
    samples, rate_hz = soundfile.read(record["recording"]["path"], dtype="int16")
    return samples[:, 0], samples[:, 1], rate_hz


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_pipecat_bot_answers(agent: AgentProcess, bot: PipecatBot, dialect: str) -> None:
    """The bot takes us for its provider; what the caller says comes back through it, and the caller hangs up."""
    with Peer(agent) as peer, RtpPeer(tone(600, 1.0)) as rtp:
        response = peer.invite(dialect, sdp=peer.offer(port=rtp.port), headers=["X-Run-Id: 4711"])
        assert response.status == 200
        rtp.send_to(audio_address(response.body))
        eventually(lambda: np.abs(rtp.heard()[-4000:]).max(initial=0) > 3000, "the echo of the bot", 20)
        packets = len(rtp.packets)
        eventually(lambda: len(rtp.packets) > packets + 75, "a second and a half of the echo")
        peer.bye()
        record = agent.record(peer.call_id)
    caller, sent, rate_hz = channels(record)
    assert ("answered", "caller", None) == (record["outcome"], record["ended_by"], record["error"])
    assert 600.0 == pytest.approx(strongest_hz(sent[-rate_hz:], rate_hz), abs=10)
    assert 600.0 == pytest.approx(strongest_hz(caller[-rate_hz:], rate_hz), abs=10)
    (handshake,) = bot.lines(f"{dialect} ")[-1:]
    if dialect == "twilio":
        assert '"X-Run-Id":"4711"' in handshake
        assert record["call_uuid"].replace("-", "") in handshake


def test_an_interruption_silences_the_caller_at_once(agent: AgentProcess, bot: PipecatBot) -> None:  # noqa: ARG001
    """The bot has sent a story of 20 s; on its interruption nothing of it is heard any more."""
    silence = np.zeros(8000, np.int16)
    with Peer(agent) as peer, RtpPeer(silence) as rtp:
        response = peer.invite("twilio", sdp=peer.offer(port=rtp.port))
        remote = audio_address(response.body)
        rtp.send_to(remote)
        rtp.send_digit("5", remote)
        eventually(lambda: np.abs(rtp.heard()[-1600:]).max(initial=0) > 3000, "the story", 20)
        rtp.send_digit("1", remote)
        eventually(lambda: np.abs(rtp.heard()[-3200:]).max() < 100, "silence", 10)
        peer.bye()
        record = agent.record(peer.call_id)
    _, sent, rate_hz = channels(record)
    loud = np.flatnonzero(np.abs(sent) > 3000)
    assert STORY_HZ == pytest.approx(strongest_hz(sent[loud[0] : loud[-1]], rate_hz), abs=10)
    assert (loud[-1] - loud[0]) / rate_hz < 15
    assert ["5", "1"] == [digit["digit"] for digit in record["dtmf"]]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_pipecat_bot_hangs_up(agent: AgentProcess, bot: PipecatBot, dialect: str) -> None:  # noqa: ARG001
    """The end of its pipeline ends the call: for Twilio by the REST call to our API, else by closing the socket."""
    silence = np.zeros(8000, np.int16)
    with Peer(agent) as peer, RtpPeer(silence) as rtp:
        response = peer.invite(dialect, sdp=peer.offer(port=rtp.port))
        remote = audio_address(response.body)
        rtp.send_to(remote)
        eventually(lambda: len(rtp.packets) > 25, "sound")
        rtp.send_digit("9", remote)
        peer.reply(peer.await_request("BYE", 20))
        record = agent.record(peer.call_id)
    _, sent, rate_hz = channels(record)
    loud = np.flatnonzero(np.abs(sent) > 3000)
    how = {"twilio": "the bot hung up through the REST API"}.get(dialect, "closed the stream")
    assert how in record["end_reason"]
    assert ("answered", "agent", None) == (record["outcome"], record["ended_by"], record["error"])
    assert GOODBYE_HZ == pytest.approx(strongest_hz(sent[loud[0] : loud[-1]], rate_hz), abs=10)
