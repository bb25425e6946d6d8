"""Recordings: left the caller, right the agent, aligned; and what becomes of a call whose recording fails."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import ROUTES, StartAgent
from tests.calls.peer import Peer
from tests.calls.rtp import CLOCK_RATE_HZ, RtpPeer, strongest_hz, tone
from tests.calls.sdp_text import audio_address
from tests.calls.sipp import Sipp

pytestmark = pytest.mark.sipp


def talk(agent: AgentProcess, user: str, sound: np.ndarray | None = None, packets: int = 75) -> dict[str, Any]:
    """Call `user`, say `sound`, and return the record."""
    with Peer(agent) as peer, RtpPeer(sound) as rtp:
        response = peer.invite(user, sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: len(rtp.packets) >= packets, "sound of the agent")
        assert peer.bye().status == 200
        return agent.record(peer.call_id)


def channels(record: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the caller's and the agent's sound, and the sample rate."""
    samples, rate_hz = soundfile.read(record["recording"]["path"], dtype="int16")
    return samples[:, 0], samples[:, 1], rate_hz


def test_caller_left_agent_right(agent: AgentProcess) -> None:
    """The caller's tone is on the left, the agent's on the right, and neither on the other side."""
    record = talk(agent, "tone", tone(600, 1.0))
    assert (record["recording"]["state"], record["recording"]["error"]) == ("ok", None)
    caller, sent, rate_hz = channels(record)
    middle = slice(rate_hz // 2, rate_hz)
    assert 600.0 == pytest.approx(strongest_hz(caller[middle], rate_hz), abs=10)
    assert 1000.0 == pytest.approx(strongest_hz(sent[middle], rate_hz), abs=10)
    assert power(caller[middle], 1000, rate_hz) < power(caller[middle], 600, rate_hz) / 1000
    assert power(sent[middle], 600, rate_hz) < power(sent[middle], 1000, rate_hz) / 1000


def test_the_recording_is_as_long_as_the_call(agent: AgentProcess) -> None:
    """The recording covers the call from its answer to its end, and says how long it is."""
    record = talk(agent, "tone")
    caller, sent, rate_hz = channels(record)
    assert len(caller) == len(sent)
    duration_ms = len(caller) * 1000 // rate_hz
    assert record["recording"]["duration_ms"] == duration_ms
    assert record["talk_ms"] == pytest.approx(duration_ms, abs=150)
    assert record["recording"]["channels"] == ["caller", "agent"]


def test_the_channels_are_aligned(agent: AgentProcess) -> None:
    """An echo stands on the right as long after its original on the left as the handler took: 20 to 80 ms."""
    beep = np.concatenate(
        [np.zeros(CLOCK_RATE_HZ // 2, np.int16), tone(1000, 0.1), np.zeros(CLOCK_RATE_HZ // 2, np.int16)]
    )
    record = talk(agent, "echo", beep, packets=100)
    caller, sent, rate_hz = channels(record)
    delay_ms = (onset(sent) - onset(caller)) * 1000 / rate_hz
    assert 10 <= delay_ms <= 80


def test_recording_may_be_turned_off(start_agent: StartAgent, sipp: Sipp) -> None:
    """With media.record off nothing is kept."""
    agent = start_agent(media={"record": False})
    run = sipp("talk", agent)
    assert agent.record(run.call_id)["recording"] is None
    assert list(agent.folder.rglob("*.wav*")) == []


def test_nothing_unfinished_is_left(agent: AgentProcess, sipp: Sipp) -> None:
    """A recording is written under another name until it is whole."""
    record = agent.record(sipp("talk", agent).call_id)
    path = Path(record["recording"]["path"])
    assert path.is_file()
    assert not list(path.parent.glob(f"{path.stem}*.part"))


def test_a_refused_call_has_no_recording(agent: AgentProcess, sipp: Sipp) -> None:
    """A call without sound has no recording."""
    run = sipp("refused", agent, user="busy", status="486")
    assert agent.record(run.call_id)["recording"] is None


def test_a_folder_that_is_a_file(start_agent: StartAgent) -> None:
    """A recording that cannot be begun is named in the record; the call is held as if nothing were."""
    agent = start_agent(routes=ROUTES, media={"recordings_dir": "taken"})
    (agent.folder / "taken").write_text("not a folder", encoding="utf-8")
    record = talk(agent, "echo")
    assert (record["outcome"], record["ended_by"], record["error"]) == ("answered", "caller", None)
    assert record["recording"]["state"] == "failed"
    assert record["recording"]["error"]
    assert (record["audio"]["underruns"], agent.entries("recording.failed") != []) == (0, True)


def test_a_disk_that_is_full(start_agent: StartAgent) -> None:
    """A full disk costs the recording, not the call, and not the record: that is stored when there is room again."""
    agent = start_agent(routes=ROUTES, media={"recordings_dir": "recordings"})
    agent.limit_file_size(30_000)
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite("echo", sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: agent.entries("recording.failed"), "end of the recording")
        heard = len(rtp.packets)
        eventually(lambda: len(rtp.packets) > heard + 25, "sound after the loss")
        assert peer.bye().status == 200
        agent.limit_file_size()
        record = agent.record(peer.call_id)
    assert (record["outcome"], record["ended_by"], record["error"]) == ("answered", "caller", None)
    assert record["recording"]["state"] == "failed"
    assert record["recording"]["error"]


def test_a_folder_that_goes_away(start_agent: StartAgent) -> None:
    """A folder that vanishes in the middle of a call costs the recording, not the call."""
    agent = start_agent(routes=ROUTES, media={"recordings_dir": "recordings"})
    with Peer(agent) as peer, RtpPeer() as rtp:
        response = peer.invite("echo", sdp=peer.offer(port=rtp.port))
        rtp.send_to(audio_address(response.body))
        eventually(lambda: list(agent.folder.rglob("recordings/*/*")), "recording that has begun")
        shutil.rmtree(agent.folder / "recordings")
        (agent.folder / "recordings").write_text("in the way", encoding="utf-8")
        heard = len(rtp.packets)
        eventually(lambda: len(rtp.packets) > heard + 25, "sound after the loss")
        assert peer.bye().status == 200
        record = agent.record(peer.call_id)
    assert (record["outcome"], record["ended_by"], record["error"]) == ("answered", "caller", None)
    assert record["recording"]["state"] == "failed"
    assert record["recording"]["error"]


def power(samples: np.ndarray, hz: float, rate_hz: int) -> float:
    """Return the energy near a frequency."""
    spectrum = np.abs(np.fft.rfft(samples.astype(float) * np.hanning(len(samples)))) ** 2
    index = round(hz * len(samples) / rate_hz)
    return float(np.sum(spectrum[index - 3 : index + 4]))


def onset(samples: np.ndarray) -> int:
    """Return where it becomes loud."""
    return int(np.argmax(np.abs(samples) > 2000))
