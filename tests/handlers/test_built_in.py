"""The built-in handlers, heard from the other end."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from media.levels import level_dbov
from media.tones import dominant_frequency_hz, tone
from sip_agent.handlers.echo import EchoHandler
from sip_agent.handlers.playback import PlaybackHandler
from sip_agent.handlers.record import RecordHandler
from sip_agent.handlers.reject import RejectHandler
from sip_agent.handlers.ring import RingHandler
from sip_agent.handlers.silence import SilenceHandler
from sip_agent.handlers.tone import ToneHandler
from sip_agent.status import EndedBy, Outcome
from sip_agent.testing import FakeCall

RATE_HZ = 16_000


async def test_echo() -> None:
    """The caller hears itself, until it hangs up."""
    said = tone(440, 400, RATE_HZ)
    async with FakeCall(EchoHandler()) as caller:
        await caller.until_answered()
        heard = np.concatenate((await caller.speak(said), await caller.hear(20)))

    np.testing.assert_array_equal(said, heard[320:])
    assert ([200], Outcome.ANSWERED, None) == (caller.statuses, caller.record.outcome, caller.record.error)


async def test_silence() -> None:
    """The caller hears nothing, for as long as it likes."""
    async with FakeCall(SilenceHandler()) as caller:
        await caller.until_answered()
        heard = await caller.speak(tone(440, 400, RATE_HZ))
        assert not caller.ended

    assert not heard.any()
    assert (Outcome.ANSWERED, EndedBy.CALLER, None) == (
        caller.record.outcome,
        caller.record.ended_by,
        caller.record.error,
    )


async def test_tone() -> None:
    """A tone of the frequency and the level that were asked for, for as long as asked for."""
    async with FakeCall(ToneHandler(hz=1000, seconds=0.5, level_dbov=-20)) as caller:
        await caller.until_ended()
    sound = caller.heard[np.flatnonzero(caller.heard)[0] :][:8000]

    assert 25 == np.count_nonzero(caller.heard.reshape(-1, 320).any(axis=1))
    assert 1000 == pytest.approx(dominant_frequency_hz(sound, RATE_HZ), abs=1)
    assert -20 == pytest.approx(level_dbov(sound), abs=0.5)
    assert EndedBy.AGENT == caller.record.ended_by


async def test_endless_tone() -> None:
    """Without a duration the tone ends with the call."""
    async with FakeCall(ToneHandler()) as caller:
        await caller.until_answered()
        await caller.hear(3000)
        assert (await caller.hear(20)).any()

    assert (EndedBy.CALLER, None) == (caller.record.ended_by, caller.record.error)


@pytest.mark.parametrize(("rate_hz", "channels"), [(8000, 1), (44_100, 2), (16_000, 1)])
async def test_playback(tmp_path: Path, rate_hz: int, channels: int) -> None:
    """A file of any rate, mono or stereo, is heard once, whole, and then the agent hangs up."""
    wave = tone(440, 500, rate_hz)
    soundfile.write(tmp_path / "a.wav", np.column_stack([wave] * channels), rate_hz)
    async with FakeCall(PlaybackHandler(str(tmp_path / "a.wav"))) as caller:
        await caller.until_ended()

    assert 440 == pytest.approx(dominant_frequency_hz(caller.heard, RATE_HZ), abs=2)
    assert 8000 == pytest.approx(np.count_nonzero(caller.heard), rel=0.05)
    assert (Outcome.ANSWERED, EndedBy.AGENT) == (caller.record.outcome, caller.record.ended_by)


async def test_playback_in_a_loop(tmp_path: Path) -> None:
    """A loop repeats without a gap until the caller hangs up."""
    soundfile.write(tmp_path / "a.wav", np.full(1000, 7, np.int16), RATE_HZ)
    async with FakeCall(PlaybackHandler(str(tmp_path / "a.wav"), loop=True)) as caller:
        await caller.until_answered()
        heard = await caller.hear(2000)

    assert 2000 * 16 == np.count_nonzero(heard == 7)


async def test_playback_of_no_sound(tmp_path: Path) -> None:
    """A file that has become no sound since the agent started fails the call by name."""
    soundfile.write(tmp_path / "a.wav", np.zeros(80, np.int16), 8000)
    handler = PlaybackHandler(str(tmp_path / "a.wav"))
    (tmp_path / "a.wav").write_text("not a sound")
    async with FakeCall(handler) as caller:
        await caller.until_ended()

    assert Outcome.FAILED == caller.record.outcome
    assert "a.wav" in str(caller.record.error)


@pytest.mark.parametrize(("status", "reason"), [(486, ""), (603, "closed"), (302, "")])
async def test_reject(status: int, reason: str) -> None:
    """The call is refused with the status of the route, unanswered."""
    async with FakeCall(RejectHandler(status, reason)) as caller:
        await caller.until_ended()

    assert [status] == caller.statuses
    assert (Outcome.REJECTED, status, EndedBy.AGENT) == (
        caller.record.outcome,
        caller.record.sip_status,
        caller.record.ended_by,
    )
    assert (reason or "the route rejects every call") == caller.record.end_reason


async def test_ring_until_the_time_is_up() -> None:
    """It rings, and then the call is refused."""
    async with FakeCall(RingHandler(seconds=0.01, status=408)) as caller:
        await caller.until_ended()

    assert [180, 408] == caller.statuses
    assert (Outcome.REJECTED, "rang for 0.01 s without an answer") == (
        caller.record.outcome,
        caller.record.end_reason,
    )
    assert caller.record.ringing_delay_ms is not None


async def test_ring_until_the_caller_gives_up() -> None:
    """A caller that gives up has cancelled the call."""
    async with FakeCall(RingHandler()) as caller:
        await caller.until(lambda: caller.statuses == [180])
        caller.hang_up()

    assert [180, 487] == caller.statuses
    assert (Outcome.CANCELLED, None) == (caller.record.outcome, caller.record.error)


async def test_record_until_the_time_is_up() -> None:
    """It listens for so long and hangs up."""
    async with FakeCall(RecordHandler(seconds=0.01)) as caller:
        await caller.until_ended()

    assert EndedBy.AGENT == caller.record.ended_by
    assert not caller.heard.any()


async def test_record_until_the_caller_hangs_up() -> None:
    """Without a limit it listens to the end."""
    async with FakeCall(RecordHandler()) as caller:
        await caller.until_answered()
        await caller.speak(tone(440, 1000, RATE_HZ))
        assert not caller.ended

    assert (EndedBy.CALLER, None) == (caller.record.ended_by, caller.record.error)
