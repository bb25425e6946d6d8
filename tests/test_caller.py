"""The calling side: what it says, how long it stays, and when it gives up."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from media.tones import dominant_frequency_hz, tone
from sip_agent import caller as caller_module
from sip_agent.caller import CallerHandler, CallRequest
from sip_agent.status import EndedBy, Outcome
from sip_agent.testing import FakeCall

URI = "sip:agent@example.com"
RATE_HZ = 16_000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Press digits at once."""
    monkeypatch.setattr(caller_module, "DTMF_PAUSE_S", 0.001)


async def test_plays_and_hangs_up(tmp_path: Path) -> None:
    """With a file to play it hangs up when the last of it was sent."""
    soundfile.write(tmp_path / "a.wav", tone(440, 500, RATE_HZ), RATE_HZ)
    async with FakeCall(CallerHandler(CallRequest(uri=URI, play=tmp_path / "a.wav"))) as peer:
        await peer.until_ended()

    assert 8000 == pytest.approx(np.count_nonzero(peer.heard), rel=0.05)
    assert (Outcome.ANSWERED, EndedBy.AGENT, None) == (peer.record.outcome, peer.record.ended_by, peer.record.error)


async def test_says_and_hangs_up() -> None:
    """With a text to say it hangs up when it has said all of it."""
    async with FakeCall(CallerHandler(CallRequest(uri=URI, say="Good evening."))) as peer:
        await peer.until_ended()

    assert ["Good evening."] == [item["text"] for item in peer.record.transcript]
    assert (EndedBy.AGENT, None) == (peer.record.ended_by, peer.record.error)


async def test_presses_and_hangs_up() -> None:
    """Digits are sent, and then there is no more to say."""
    async with FakeCall(CallerHandler(CallRequest(uri=URI, dtmf="12#"))) as peer:
        await peer.until_ended()

    assert "12#" == peer.digits
    assert EndedBy.AGENT == peer.record.ended_by


async def test_says_nothing_until_the_peer_hangs_up() -> None:
    """With nothing to say and no duration it listens."""
    async with FakeCall(CallerHandler(CallRequest(uri=URI))) as peer:
        heard = await peer.hear(2000)
        assert not peer.ended

    assert not heard.any()
    assert (EndedBy.CALLER, None) == (peer.record.ended_by, peer.record.error)


async def test_tone_for_a_duration() -> None:
    """A tone lasts as long as the call is to last, and stops with it."""
    async with FakeCall(CallerHandler(CallRequest(uri=URI, tone_hz=1000, duration_s=0.2))) as peer:
        await peer.until_ended()

    assert 1000 == pytest.approx(dominant_frequency_hz(peer.heard, RATE_HZ), abs=10)
    assert (EndedBy.AGENT, None) == (peer.record.ended_by, peer.record.error)


async def test_stays_for_its_duration(tmp_path: Path) -> None:
    """With a duration it stays when it has said everything, and leaves when it has not."""
    soundfile.write(tmp_path / "long.wav", np.ones(60 * RATE_HZ, np.int16), RATE_HZ)
    request = CallRequest(uri=URI, play=tmp_path / "long.wav", duration_s=0.3)
    async with FakeCall(CallerHandler(request)) as peer:
        await peer.until_ended()

    assert 0 < np.count_nonzero(peer.heard) < 60 * RATE_HZ
    assert (EndedBy.AGENT, None) == (peer.record.ended_by, peer.record.error)


async def test_peer_hangs_up_while_it_speaks() -> None:
    """A peer that hangs up in the middle is no error."""
    async with FakeCall(CallerHandler(CallRequest(uri=URI, tone_hz=440))) as peer:
        await peer.hear(500)

    assert (Outcome.ANSWERED, EndedBy.CALLER, None) == (peer.record.outcome, peer.record.ended_by, peer.record.error)


async def test_file_that_is_no_sound(tmp_path: Path) -> None:
    """A file that cannot be played fails the call by name."""
    (tmp_path / "a.wav").write_text("no sound")
    async with FakeCall(CallerHandler(CallRequest(uri=URI, play=tmp_path / "a.wav"))) as peer:
        await peer.until_ended()

    assert Outcome.FAILED == peer.record.outcome
    assert "a.wav" in str(peer.record.error)
