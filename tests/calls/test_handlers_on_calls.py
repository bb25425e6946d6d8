"""What handlers do to calls, the built-in ones and the unruly ones."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import StartAgent
from tests.calls.peer import Peer
from tests.calls.rtp import CLOCK_RATE_HZ, RtpPeer, strongest_hz, tone
from tests.calls.sdp_text import audio_address
from tests.calls.sipp import Sipp

pytestmark = pytest.mark.sipp

ANSWERED = ["INVITE", "100", "200", "ACK", "BYE", "200"]
HUNG_UP = ["INVITE", "100", "200", "ACK", "[BYE]"]


def hear(agent: AgentProcess, user: str, packets: int = 60) -> np.ndarray:
    """Call `user`, say a tone of 1000 Hz, and return what is heard."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(user, sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) >= packets, "sound of the agent")
        assert peer.bye().status == 200
        assert agent.record(peer.call_id)["outcome"] == "answered"
        return rtp.heard()


def test_tone(agent: AgentProcess) -> None:
    """The tone handler sends its tone, at its level."""
    heard = hear(agent, "tone")[CLOCK_RATE_HZ // 4 :]
    assert 1000.0 == pytest.approx(strongest_hz(heard, CLOCK_RATE_HZ), abs=10)
    level_dbov = 20 * np.log10(np.sqrt(np.mean(heard.astype(float) ** 2)) / 32768)
    assert level_dbov == pytest.approx(-15, abs=1)


@pytest.mark.parametrize("user", ["silence", "record"])
def test_silence(agent: AgentProcess, user: str) -> None:
    """Handlers that only listen send silence, so that the path stays open."""
    assert np.max(np.abs(hear(agent, user, 30))) <= 8


@pytest.mark.parametrize(
    ("name", "rate_hz", "channels"), [("mono.wav", 8000, 1), ("stereo.wav", 44_100, 2), ("music.ogg", 48_000, 1)]
)
def test_playback(start_agent: StartAgent, tmp_path: Path, name: str, rate_hz: int, channels: int) -> None:
    """Any sound file is played at its own speed, to the end, and then the agent hangs up."""
    sound = np.column_stack([tone(600, 1.0, rate_hz=rate_hz)] * channels)
    soundfile.write(tmp_path / name, sound, rate_hz)
    agent = start_agent(routes=[{"handler": "playback", "options": {"file": str(tmp_path / name)}}])
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        peer.reply(peer.await_request("BYE"))
        record = agent.record(peer.call_id)
        heard = rtp.heard()
    assert (record["ended_by"], record["audio"]["underruns"]) == ("agent", 0)
    assert 1000 <= record["talk_ms"] <= 1600
    loud = heard[np.abs(heard) > 300]
    assert 600.0 == pytest.approx(strongest_hz(heard[2000:6000], CLOCK_RATE_HZ), abs=10)
    assert 0.9 <= len(loud) / CLOCK_RATE_HZ <= 1.05


def test_playback_in_a_loop(start_agent: StartAgent, tmp_path: Path) -> None:
    """A looped file goes on without a gap until the caller hangs up."""
    soundfile.write(tmp_path / "loop.wav", tone(500, 0.2), CLOCK_RATE_HZ)
    options = {"file": str(tmp_path / "loop.wav"), "loop": True}
    agent = start_agent(routes=[{"handler": "playback", "options": options}])
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) >= 75, "a second and a half of the loop")
        assert peer.bye().status == 200
        record = agent.record(peer.call_id)
        heard = rtp.heard()[CLOCK_RATE_HZ // 4 :]
    assert record["audio"]["underruns"] == 0
    assert np.min(np.max(np.abs(heard[: len(heard) // 80 * 80].reshape(-1, 80)), axis=1)) > 3000


@pytest.mark.parametrize(
    ("user", "error"),
    [
        ("raise_before", "RuntimeError: no model was loaded"),
        ("unanswered", "the handler returned without answering the call"),
    ],
)
def test_a_handler_that_fails_before_the_answer(agent: AgentProcess, sipp: Sipp, user: str, error: str) -> None:
    """The caller gets 500; the record says failed, and why."""
    run = sipp("refused", agent, user=user, status="500")
    assert run.ladder == ["INVITE", "100", "500", "ACK"]
    record = agent.record(run.call_id)
    told = (record["outcome"], record["sip_status"], record["ended_by"], record["error"])
    assert told == ("failed", 500, "system", error)


@pytest.mark.parametrize(
    ("user", "error"),
    [
        ("raise_after", "RuntimeError: the model went away"),
        ("twice", "answer: the call is already answered"),
    ],
)
def test_a_handler_that_fails_after_the_answer(agent: AgentProcess, sipp: Sipp, user: str, error: str) -> None:
    """The caller gets a BYE; the record says failed, and why."""
    run = sipp("await_bye", agent, user=user)
    assert run.ladder == HUNG_UP
    record = agent.record(run.call_id)
    assert (record["outcome"], record["ended_by"], record["error"]) == ("failed", "system", error)
    assert record["sip_status"] == 200


def test_handlers_that_do_not_end(agent: AgentProcess, sipp: Sipp) -> None:
    """A handler that goes on after the BYE is cancelled, or left behind; the record tells so, and when it ended."""
    with sipp.start("call", agent, user="hang") as one, sipp.start("call", agent, user="undying") as other:
        runs = [one.wait(), other.wait()]
    assert [run.ladder for run in runs] == [ANSWERED, ANSWERED]
    for run in runs:
        record = agent.record(run.call_id, timeout_s=15)
        assert (record["outcome"], record["ended_by"]) == ("answered", "caller")
        assert "cancelled" in record["error"]
        assert record["talk_ms"] < 2000


def test_a_handler_that_floods(agent: AgentProcess) -> None:
    """Twenty tasks that send all at once take no memory and no other call's sound, and end with the call."""
    with Peer(agent) as flooded, RtpPeer() as rtp:
        before_kb = agent.rss_kb()
        response = flooded.invite("flood", sdp=flooded.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) > 25, "flood")
        heard = hear(agent, "echo")
        grown_kb = agent.rss_kb() - before_kb
        assert flooded.bye().status == 200
        record = agent.record(flooded.call_id)
    assert 1000.0 == pytest.approx(strongest_hz(heard[-CLOCK_RATE_HZ // 2 :], CLOCK_RATE_HZ), abs=10)
    assert (record["outcome"], record["ended_by"]) == ("answered", "caller")
    # Each of the twenty waits with its own minute of sound, 2 MB; nothing of it piles up behind them.
    assert grown_kb < 80_000


def test_what_a_handler_does_hurts_no_other_call(agent: AgentProcess, sipp: Sipp) -> None:
    """A call goes on undisturbed while others fail around it."""
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite(sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) > 10, "echo")
        for user in ("raise_after", "twice"):
            assert sipp("await_bye", agent, user=user).exit_status == 0
        assert peer.bye().status == 200
        record = agent.record(peer.call_id)
    assert (record["outcome"], record["error"]) == ("answered", None)
    assert record["audio"]["underruns"] == 0
