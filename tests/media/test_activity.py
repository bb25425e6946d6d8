"""Which stretches of a recording are speech: to 10 ms where the answer is known, and not what only sounds like it."""

import itertools
import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from media import wav
from media.activity import (
    LEVEL_MS,
    Levels,
    Span,
    background_dbov,
    find_speech,
    frame_levels_dbov,
    leak_of,
    recording_levels,
)
from media.levels import FULL_SCALE
from media.wav import AudioFileError

RATE_HZ = 8000

Wave = npt.NDArray[np.float64]


def noise(duration_ms: int, level_dbov: float, seed: int = 1) -> Wave:
    """Return white noise in int16 units."""
    return np.random.default_rng(seed).normal(0, FULL_SCALE * 10 ** (level_dbov / 20), duration_ms * RATE_HZ // 1000)


def tone(duration_ms: int, level_dbov: float) -> Wave:
    """Return a sine in int16 units that begins and ends at once."""
    times = np.arange(duration_ms * RATE_HZ // 1000) / RATE_HZ
    return np.asarray(FULL_SCALE * 10 ** (level_dbov / 20) * np.sqrt(2) * np.sin(2 * np.pi * 440 * times))


def syllables(duration_ms: int, level_dbov: float, seed: int = 1) -> Wave:
    """Return noise that rises and falls without rule, as speech does: 50 to 150 ms each, over 12 dB."""
    draw = np.random.default_rng(seed)
    wave = noise(duration_ms, level_dbov, seed)
    position = 0
    while position < len(wave):
        end = position + int(draw.integers(RATE_HZ // 20, RATE_HZ * 3 // 20))
        wave[position:end] *= 10 ** (-draw.uniform(0, 12) / 20)
        position = end
    return wave


def placed(duration_ms: int, *sounds: tuple[int, Wave]) -> Wave:
    """Return silence with sounds in it, each from its millisecond on."""
    wave = np.zeros(duration_ms * RATE_HZ // 1000)
    for start_ms, sound in sounds:
        start = start_ms * RATE_HZ // 1000
        wave[start : start + len(sound)] += sound
    return wave


def levels_of(wave: Wave) -> Levels:
    """Return the levels of one channel."""
    samples = np.clip(np.rint(wave), -32768, 32767).astype(np.int16)
    return frame_levels_dbov(samples[:, np.newaxis], RATE_HZ * LEVEL_MS // 1000)[:, 0]


def assert_close(expected: Sequence[Span], found: Sequence[Span], within_ms: int) -> None:
    """Compare stretches, edge by edge."""
    assert len(expected) == len(found), found
    for known, measured in zip(expected, found, strict=True):
        assert known == pytest.approx(measured, abs=within_ms)


class TestLevels:
    """Levels of 10 ms."""

    def test_of_known_sounds(self) -> None:
        """Digital silence has -127 dBov, a sine its level, whatever constant is added."""
        found = levels_of(np.concatenate((np.zeros(800), tone(100, -20), tone(100, -20) + 9000)))

        assert (30,) == found.shape
        np.testing.assert_allclose(found, [-127] * 10 + [-20] * 20, atol=0.5)

    def test_of_a_file(self, tmp_path: Path) -> None:
        """Each channel has its own, from where one asks on; a last piece of less than 10 ms does not count."""
        stereo = np.zeros((RATE_HZ * 2 + 33, 2), np.int16)
        stereo[RATE_HZ:, 1] = tone(1010, -20)[: RATE_HZ + 33]
        soundfile.write(tmp_path / "a.wav", stereo, RATE_HZ)
        found = recording_levels(tmp_path / "a.wav", start_ms=500)

        assert (150, 2) == found.shape
        assert [150, 50] == (found <= -127).sum(axis=0).tolist()
        assert (0, 2) == recording_levels(tmp_path / "a.wav", start_ms=5000).shape

    @pytest.mark.parametrize("rate_hz", [8000, 16_000, 24_000, 44_100, 48_000])
    def test_rates(self, tmp_path: Path, rate_hz: int) -> None:
        """A second has a hundred levels at each rate."""
        soundfile.write(tmp_path / "a.wav", np.full((rate_hz, 2), 100, np.int16), rate_hz)

        assert (100, 2) == recording_levels(tmp_path / "a.wav").shape

    def test_memory_is_bounded(self, tmp_path: Path) -> None:
        """Ten minutes at 48 kHz, 115 MB, need no more than a few."""
        path, size = tmp_path / "long.wav", 600 * 48_000 * 4
        path.write_bytes(wav._header(48_000, size))
        os.truncate(path, path.stat().st_size + size)
        tracemalloc.start()
        levels = recording_levels(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert 60_000 == len(levels)
        assert peak < 8_000_000

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        """A file that is missing, no sound, or of an odd rate, is named."""
        (tmp_path / "text.wav").write_text("no sound")
        soundfile.write(tmp_path / "odd.wav", np.zeros(11_025, np.int16), 11_025)
        for name in ("missing.wav", "text.wav", "odd.wav"):
            with pytest.raises(AudioFileError, match=name):
                recording_levels(tmp_path / name)


BACKGROUNDS = {
    "nothing": placed(12_000),
    "an offset": placed(12_000) + 2000,
    "comfort noise": noise(12_000, -60),
    "line noise": noise(12_000, -50),
    "mains hum": 100 * np.sin(2 * np.pi * 50 * np.arange(12 * RATE_HZ) / RATE_HZ),
}


class TestBursts:
    """Sounds whose beginning and end are known."""

    @pytest.mark.parametrize("background", BACKGROUNDS)
    @pytest.mark.parametrize("kind", [tone, noise])
    @given(lengths=st.lists(st.tuples(st.integers(220, 1500), st.integers(100, 1500)), max_size=4))
    @settings(deadline=None, max_examples=20)
    def test_edges(self, kind: type, background: str, lengths: list[tuple[int, int]]) -> None:
        """Each is found where it is, to 20 ms, whatever lies under it."""
        edges = list(itertools.accumulate(itertools.chain.from_iterable(lengths)))
        spans = [Span(*pair) for pair in zip(edges[::2], edges[1::2], strict=True)]
        sounds = [(span.started_ms, kind(span.ended_ms - span.started_ms, -20)) for span in spans]

        assert_close(spans, find_speech(levels_of(placed(12_000, *sounds) + BACKGROUNDS[background])), 20)

    def test_quiet_line(self) -> None:
        """Somebody who speaks very quietly on a quiet line is heard."""
        quiet = placed(4000, (1000, syllables(1000, -42))) + noise(4000, -72)

        assert_close([Span(1000, 2000)], find_speech(levels_of(quiet)), 20)

    def test_clicks_and_gaps(self) -> None:
        """A click is no word; words 190 ms apart are one stretch, 210 ms apart two."""
        wave = placed(
            5000, (500, tone(70, -20)), (1000, tone(200, -20)), (1390, tone(200, -20)), (1800, tone(200, -20))
        )

        assert [Span(1000, 1590), Span(1800, 2000)] == find_speech(levels_of(wave))

    @pytest.mark.parametrize("level_dbov", [-10, -25])
    def test_steady_sound(self, level_dbov: float) -> None:
        """A tone that lasts for the whole call is a sound that somebody makes."""
        assert [Span(0, 30_000)] == find_speech(levels_of(tone(30_000, level_dbov)))

    @pytest.mark.parametrize(("level_dbov", "ended_ms", "heard"), [(-35, 3900, 0), (-35, 3500, 1), (-28, 3900, 1)])
    def test_steady_sound_in_a_short_call(self, level_dbov: float, ended_ms: int, heard: int) -> None:
        """Who makes a steady sound for over nine tenths of a short call must be as loud as in a long one."""
        wave = placed(4000, (100, tone(ended_ms - 100, level_dbov)))

        assert [Span(100, ended_ms)] * heard == find_speech(levels_of(wave))

    def test_nothing(self) -> None:
        """In silence, and in no time at all, nobody speaks."""
        assert [] == find_speech(levels_of(placed(1000)))
        assert [] == find_speech(levels_of(placed(0)))


class TestBackground:
    """What is not speech."""

    @pytest.mark.parametrize("level_dbov", [-70, -55, -45, -35])
    def test_noise_alone(self, level_dbov: float) -> None:
        """A caller who says nothing on a noisy line says nothing."""
        assert [] == find_speech(levels_of(noise(30_000, level_dbov)))

    @pytest.mark.parametrize("begins_ms", [0, 10_000])
    def test_noise_that_sets_in(self, begins_ms: int) -> None:
        """Noise that begins or ends in the middle of a call is not speech, and speech in it is found."""
        spoken = placed(30_000, (4000, syllables(1000, -20)), (20_000, syllables(1000, -20, seed=2)))
        spoken += placed(30_000, (begins_ms, noise(15_000, -45)))

        assert_close([Span(4000, 5000), Span(20_000, 21_000)], find_speech(levels_of(spoken)), 20)

    def test_lost_packets(self) -> None:
        """Holes of 20 ms in a noisy line do not make its noise speech."""
        wave = noise(30_000, -45).reshape(-1, RATE_HZ // 50)
        wave[::25] = 0

        assert [] == find_speech(levels_of(wave.ravel()))

    def test_level(self) -> None:
        """The background is the noise between the words."""
        found = background_dbov(levels_of(placed(20_000, (5000, syllables(6000, -20))) + noise(20_000, -50)))

        assert -51 == pytest.approx(float(found.mean()), abs=1.5)


class TestLeak:
    """The agent's voice, out of the caller's loudspeaker into the microphone."""

    AGENT = placed(20_000, (1000, syllables(4000, -18)), (9000, syllables(6000, -18, seed=2)))

    def heard(self, loss_db: float, delay_ms: int, *said: tuple[int, Wave]) -> list[Span]:
        """Return when the caller speaks, who has an echo."""
        echo = np.roll(self.AGENT, delay_ms * RATE_HZ // 1000) * 10 ** (-loss_db / 20)
        caller = levels_of(echo + placed(20_000, *said) + noise(20_000, -65))
        return find_speech(caller, leak=leak_of(levels_of(self.AGENT), caller))

    @pytest.mark.parametrize("delay_ms", [10, 80, 250, 450])
    @pytest.mark.parametrize("loss_db", [15, 25, 35])
    def test_is_not_the_caller(self, loss_db: float, delay_ms: int) -> None:
        """What comes back of the agent is not the caller."""
        assert [] == self.heard(loss_db, delay_ms)

    def test_does_not_hide_the_caller(self) -> None:
        """A caller who talks over an echo is heard, and in the agent's pauses as ever."""
        said = (6000, syllables(1500, -22, seed=3)), (11_000, syllables(1500, -18, seed=4))

        assert_close([Span(6000, 7500), Span(11_000, 12_500)], self.heard(25, 200, *said), 40)

    @pytest.mark.parametrize("offset_ms", [0, 50, 200, 400])
    @pytest.mark.parametrize("kind", [tone, noise, syllables])
    def test_does_not_hide_who_begins_together(self, kind: type, offset_ms: int) -> None:
        """A caller who begins and ends with the agent, or always equally late, is no echo: only the pattern tells."""
        agent = levels_of(placed(6000, (1000, kind(2000, -15))))
        said = kind(2000, -25) if kind is tone else kind(2000, -25, seed=2)
        caller = levels_of(placed(6000, (1000 + offset_ms, said)))

        assert [Span(1000 + offset_ms, 3000 + offset_ms)] == find_speech(caller, leak=leak_of(agent, caller))

    @pytest.mark.parametrize("room_ms", [20, 60])
    def test_in_a_room(self, room_ms: int) -> None:
        """An echo of one stretch of the agent is known by its pattern, though a room blurs it."""
        agent = placed(6000, (1000, syllables(3000, -15)))
        times_ms = np.arange(4 * room_ms * RATE_HZ // 1000) * 1000 / RATE_HZ
        room = np.random.default_rng(1).normal(0, 0.05, len(times_ms)) * np.exp(-times_ms / room_ms)
        room[0] = 1
        echo = np.roll(np.convolve(agent, room)[: len(agent)], RATE_HZ // 5) / 10
        caller = levels_of(echo + noise(6000, -65))

        assert [] != find_speech(caller)
        assert [] == find_speech(caller, leak=leak_of(levels_of(agent), caller))

    def test_callers_who_answer_have_no_echo(self) -> None:
        """Whoever speaks after the agent, or as loud, is no leak of it."""
        agent = levels_of(self.AGENT)
        answer = levels_of(placed(20_000, (5600, syllables(2000, -30, seed=5)), (16_000, syllables(2000, -30, seed=6))))
        repeated = levels_of(np.roll(self.AGENT, RATE_HZ // 10))

        assert not leak_of(agent, answer)[answer > -60].any()
        assert not leak_of(agent, repeated).any()
        assert not leak_of(agent[:0], agent[:0]).any()
