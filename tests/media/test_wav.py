"""Audio files: read as mono samples, written as stereo recordings that survive what happens to them."""

import os
import resource
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import media.wav
from media.frames import to_float32
from media.levels import level_dbov
from media.tones import dominant_frequency_hz, tone
from media.wav import (
    AudioFileError,
    StereoRecorder,
    load_audio,
    load_channels,
    open_audio,
    partial_path,
    repair_partial,
)

_RATE_HZ = 8000


def _stereo(seconds: float, sample_rate_hz: int = _RATE_HZ) -> npt.NDArray[np.int16]:
    """Return a block with 400 Hz from the caller and 700 Hz from the agent."""
    caller, agent = (tone(hz, 1000 * seconds, sample_rate_hz) for hz in (400, 700))
    return np.stack((caller, agent), axis=1)


def _read(path: Path) -> npt.NDArray[np.int16]:
    samples, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    assert rate_hz == _RATE_HZ
    return np.asarray(samples, dtype=np.int16)


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """Let no file of this process grow past 100,001 bytes: the kernel fails writes as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_001, limits[1]))
    yield 100_001
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("a.wav", "PCM_16"),
        ("a.wav", "PCM_24"),
        ("a.wav", "FLOAT"),
        ("a.wav", "ULAW"),
        ("a.flac", "PCM_16"),
        ("a.ogg", "VORBIS"),
        ("a.mp3", "MPEG_LAYER_III"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("file_rate_hz", [8000, 44100])
def test_loads_what_libsndfile_reads(tmp_path: Path, name: str, subtype: str, channels: int, file_rate_hz: int) -> None:
    """Any format, rate and number of channels comes as mono at the wanted rate, at its level and pitch."""
    sound = to_float32(tone(440, 1000, file_rate_hz))
    soundfile.write(tmp_path / name, np.stack([sound] * channels, axis=1), file_rate_hz, subtype)

    samples = load_audio(tmp_path / name, 16000)

    assert samples.dtype == np.int16
    assert len(samples) == pytest.approx(16000, abs=2)
    assert dominant_frequency_hz(samples, 16000) == pytest.approx(440, abs=0.5)
    assert level_dbov(samples) == pytest.approx(-15, abs=0.6)


def test_samples_of_the_wanted_kind_are_not_touched(tmp_path: Path) -> None:
    """A mono 16-bit file at the wanted rate is read bit by bit."""
    samples = np.random.default_rng(5).integers(-32768, 32768, 50_000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, _RATE_HZ)

    assert samples.tolist() == load_audio(tmp_path / "a.wav", _RATE_HZ).tolist()


@pytest.mark.parametrize(("sample_rate_hz", "file_rate_hz"), [(8000, 8000), (8000, 48000), (16000, 11025)])
def test_streaming_gives_what_loading_gives(tmp_path: Path, sample_rate_hz: int, file_rate_hz: int) -> None:
    """Frame by frame a file is the same as at once, the last frame filled up with silence."""
    soundfile.write(tmp_path / "a.wav", tone(440, 3333, file_rate_hz), file_rate_hz)
    whole = load_audio(str(tmp_path / "a.wav"), sample_rate_hz)

    with open_audio(str(tmp_path / "a.wav"), sample_rate_hz) as source:
        duration_ms = source.duration_ms
        frames = list(source)

    assert duration_ms == 3333
    assert {sample_rate_hz // 50} == {len(frame) for frame in frames}
    joined = np.concatenate(frames)
    assert whole.tolist() == joined[: len(whole)].tolist()
    assert not joined[len(whole) :].any()
    assert len(joined) - len(whole) < sample_rate_hz // 50


def test_a_loop_has_no_gap(tmp_path: Path) -> None:
    """Repeated, the first sample follows the last one, and there is no end."""
    samples = np.arange(1000, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, _RATE_HZ)

    with open_audio(tmp_path / "a.wav", _RATE_HZ, loop=True) as source:
        joined = np.concatenate(list(islice(source, 25)))

    assert np.tile(samples, 4).tolist() == joined.tolist()


def test_a_loop_at_another_rate_is_a_steady_tone(tmp_path: Path) -> None:
    """Whole periods repeated through the resampler stay one tone."""
    wave = (8000 * np.sin(2 * np.pi * np.arange(4800) / 48)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", wave, 48000)

    with open_audio(tmp_path / "a.wav", _RATE_HZ, loop=True) as source:
        joined = np.concatenate(list(islice(source, 100)))

    levels = [level_dbov(joined[at : at + 80]) for at in range(80, len(joined), 80)]
    assert max(levels) - min(levels) < 0.1


def test_a_long_file_is_not_held_in_memory(tmp_path: Path) -> None:
    """Streaming two minutes takes less than 200 kB, where the samples are 1.9 MB."""
    soundfile.write(tmp_path / "a.wav", np.zeros(120 * _RATE_HZ, np.int16), _RATE_HZ)

    tracemalloc.start()
    with open_audio(tmp_path / "a.wav", _RATE_HZ) as source:
        count = sum(1 for _ in source)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 6000
    assert most < 200_000


def test_a_closed_source_is_at_its_end(tmp_path: Path) -> None:
    """After closing nothing more comes, and closing again does no harm."""
    soundfile.write(tmp_path / "a.wav", np.zeros(8000, np.int16), _RATE_HZ)
    source = open_audio(tmp_path / "a.wav", _RATE_HZ, loop=True)
    next(source)

    source.close()
    source.close()

    assert list(source) == []


def test_an_empty_file_has_no_frames_and_cannot_be_repeated(tmp_path: Path) -> None:
    """A file without samples ends at once; repeating it for ever is refused."""
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.int16), _RATE_HZ)

    assert list(open_audio(tmp_path / "a.wav", _RATE_HZ)) == []
    assert len(load_audio(tmp_path / "a.wav", _RATE_HZ)) == 0
    with pytest.raises(AudioFileError, match=r"a\.wav: has no sound"):
        next(open_audio(tmp_path / "a.wav", _RATE_HZ, loop=True))


def test_a_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """Beyond the limit loading stops; the limit itself still loads."""
    soundfile.write(tmp_path / "a.wav", np.zeros(16000, np.int16), _RATE_HZ)

    assert len(load_audio(tmp_path / "a.wav", _RATE_HZ, max_duration_s=2)) == 16000
    with pytest.raises(AudioFileError, match=r"a\.wav: longer than 1\.9 s"):
        load_audio(tmp_path / "a.wav", _RATE_HZ, max_duration_s=1.9)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.wav", b""),
        ("a.wav", b"RIFF"),
        ("a.wav", b"\x00" * 5000),
        ("a.mp3", b"no music"),
        ("a.raw", b"\x01" * 64),
    ],
)
def test_what_is_no_audio_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    """A file that libsndfile does not understand is refused by its name."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(AudioFileError, match=rf"{name}: cannot be read as audio"):
        load_audio(tmp_path / name, _RATE_HZ)
    with pytest.raises(AudioFileError, match=name):
        open_audio(tmp_path / name, _RATE_HZ)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder and a pipe, which would never end, are refused, each in its own words."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(AudioFileError, match="none: no such file"):
        load_audio(tmp_path / "none", _RATE_HZ)
    for name in ("", "pipe"):
        with pytest.raises(AudioFileError, match="not a file"):
            load_audio(tmp_path / name, _RATE_HZ)


def test_an_absurd_rate_is_refused(tmp_path: Path) -> None:
    """A header that claims a sample a second would make gigabytes of a small file."""
    soundfile.write(tmp_path / "a.wav", np.zeros(100, np.int16), 1)

    with pytest.raises(AudioFileError, match="1 samples a second"):
        load_audio(tmp_path / "a.wav", _RATE_HZ)


def test_the_error_is_an_oserror_and_a_valueerror() -> None:
    """Whoever catches either catches it."""
    assert issubclass(AudioFileError, OSError)
    assert issubclass(AudioFileError, ValueError)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(content=st.binary(max_size=200), cut=st.integers(0, 400), at=st.integers(0, 60))
def test_damaged_files_raise_nothing_else(tmp_path: Path, content: bytes, cut: int, at: int) -> None:
    """A WAV file cut short or overwritten anywhere is read as far as it goes, or refused."""
    soundfile.write(tmp_path / "good.wav", np.arange(150, dtype=np.int16), _RATE_HZ)
    good = (tmp_path / "good.wav").read_bytes()
    (tmp_path / "bad.wav").write_bytes((good[:at] + content + good[at + len(content) :])[:cut])

    try:
        samples = load_audio(tmp_path / "bad.wav", _RATE_HZ, max_duration_s=10)
    except AudioFileError:
        return
    assert samples.dtype == np.int16


@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_recording_is_what_was_written(tmp_path: Path, as_bytes: bool) -> None:
    """Blocks of any length come back as one stereo WAV file, the caller left and the agent right."""
    sound = _stereo(2.0)
    recorder = StereoRecorder(tmp_path / "call.wav", _RATE_HZ)

    for block in np.split(sound, [1, 1, 161, 9000]):
        recorder.write(block.tobytes() if as_bytes else block)
    counted = (recorder.frames, recorder.duration_ms)
    path = recorder.close()

    assert counted == (16000, 2000)
    assert path == tmp_path / "call.wav"
    assert sound.tolist() == _read(path).tolist()
    assert [item.name for item in tmp_path.iterdir()] == ["call.wav"]
    left, right = _read(path).T
    assert dominant_frequency_hz(left, _RATE_HZ) == pytest.approx(400, abs=0.1)
    assert dominant_frequency_hz(right, _RATE_HZ) == pytest.approx(700, abs=0.1)


def test_the_header_is_that_of_44_bytes(tmp_path: Path) -> None:
    """The plainest WAV header there is: every program reads it."""
    with StereoRecorder(tmp_path / "call.wav", 16000) as recorder:
        recorder.write(np.zeros((100, 2), np.int16))

    header = struct.unpack("<4sI4s4sIHHIIHH4sI", (tmp_path / "call.wav").read_bytes()[:44])

    assert header == (b"RIFF", 436, b"WAVE", b"fmt ", 16, 1, 2, 16000, 64000, 4, 16, b"data", 400)


def test_the_name_appears_when_the_recording_is_complete(tmp_path: Path) -> None:
    """Until it is closed the recording is `<path>.part`, and closing twice does no harm."""
    recorder = StereoRecorder(tmp_path / "call.wav", _RATE_HZ)
    recorder.write(_stereo(1))
    before = {item.name for item in tmp_path.iterdir()}

    recorder.close()
    recorder.close()

    assert before == {"call.wav.part"}
    assert {item.name for item in tmp_path.iterdir()} == {"call.wav"}
    assert partial_path(tmp_path / "call.wav") == tmp_path / "call.wav.part"


def test_half_a_second_at_most_is_not_yet_on_the_disk(tmp_path: Path) -> None:
    """Frames are gathered up to half a second, then written."""
    recorder = StereoRecorder(tmp_path / "call.wav", _RATE_HZ)
    sizes = []
    for _ in range(50):
        recorder.write(np.zeros((160, 2), np.int16))
        sizes.append((tmp_path / "call.wav.part").stat().st_size - 44)
    recorder.abort()

    assert sizes == [0] * 24 + [16000] * 25 + [32000]


def test_an_aborted_recording_leaves_nothing(tmp_path: Path) -> None:
    """Aborting removes the file; aborting again, or closing then, changes nothing."""
    recorder = StereoRecorder(tmp_path / "call.wav", _RATE_HZ)
    recorder.write(_stereo(1))

    recorder.abort()
    recorder.abort()
    recorder.close()

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        recorder.write(_stereo(1))


@pytest.mark.parametrize(
    "block",
    [
        b"abc",
        memoryview(b"abcdef"),
        np.zeros((10, 2), np.float32),
        np.zeros((10, 3), np.int16),
        np.zeros(5, np.int16),
        np.zeros((2, 2, 2), np.int16),
    ],
)
def test_refuses_what_is_no_stereo(tmp_path: Path, block: object) -> None:
    """Half a pair, another type or another shape would shift the channels: nothing of it is taken."""
    recorder = StereoRecorder(tmp_path / "call.wav", _RATE_HZ)

    with pytest.raises(ValueError, match="block"):
        recorder.write(block)  # type: ignore[arg-type]

    assert recorder.frames == 0
    recorder.abort()


def test_interleaved_samples_and_views_are_taken(tmp_path: Path) -> None:
    """Flat samples, views with gaps and memoryviews are as good as the array itself."""
    sound = _stereo(0.5)
    wide = np.repeat(sound, 2, axis=0)
    with StereoRecorder(tmp_path / "call.wav", _RATE_HZ) as recorder:
        recorder.write(sound.reshape(-1))
        recorder.write(wide[::2])
        recorder.write(memoryview(sound.tobytes()))
        recorder.write(bytearray(sound.tobytes()))

    assert np.tile(sound, (4, 1)).tolist() == _read(tmp_path / "call.wav").tolist()


def test_a_full_disk_is_noticed_and_what_was_written_is_kept(tmp_path: Path, file_size_limit: int) -> None:
    """The write that does not fit raises; closing then makes a valid recording of what did fit."""
    sound = _stereo(5)
    recorder = StereoRecorder(tmp_path / "call.wav", _RATE_HZ)

    with pytest.raises(OSError, match=r"call\.wav\.part"):
        recorder.write(sound)
    with pytest.raises(AudioFileError, match="earlier error"):
        recorder.write(sound)
    recorder.close()

    whole_pairs = (file_size_limit - 44) // 4
    assert recorder.frames == whole_pairs
    assert sound[:whole_pairs].tolist() == _read(tmp_path / "call.wav").tolist()


def test_a_full_disk_at_the_end_is_noticed(tmp_path: Path, file_size_limit: int) -> None:
    """What waits to be written at the end may not fit either: close raises, and .part remains."""
    recorder = StereoRecorder(tmp_path / "call.wav", _RATE_HZ)
    for _ in range(6):
        recorder.write(_stereo(0.5))
    recorder.write(_stereo(0.49))

    with pytest.raises(OSError, match=r"call\.wav\.part"):
        recorder.close()

    assert {item.name for item in tmp_path.iterdir()} == {"call.wav.part"}
    assert (tmp_path / "call.wav.part").stat().st_size == file_size_limit
    repaired = repair_partial(tmp_path / "call.wav.part")
    assert repaired is not None
    assert len(_read(repaired)) == (file_size_limit - 44) // 4


def test_a_removed_file_is_noticed(tmp_path: Path) -> None:
    """Sound for a file that somebody removed is not written into nowhere."""
    recorder = StereoRecorder(tmp_path / "call.wav", _RATE_HZ)
    (tmp_path / "call.wav.part").unlink()

    with pytest.raises(FileNotFoundError, match=r"call\.wav\.part"):
        recorder.write(_stereo(1))
    with pytest.raises(FileNotFoundError):
        recorder.close()


def test_a_missing_folder_is_noticed(tmp_path: Path) -> None:
    """Without its folder a recording cannot begin."""
    with pytest.raises(FileNotFoundError, match="gone"):
        StereoRecorder(tmp_path / "gone" / "call.wav", _RATE_HZ)


def test_a_part_file_is_never_overwritten(tmp_path: Path) -> None:
    """Two recordings of one name cannot run at once, and a crash's remains wait to be repaired."""
    first = StereoRecorder(tmp_path / "call.wav", _RATE_HZ)

    with pytest.raises(FileExistsError):
        StereoRecorder(tmp_path / "call.wav", _RATE_HZ)

    first.abort()


def test_refuses_an_impossible_rate(tmp_path: Path) -> None:
    """A sample rate is positive, and nothing is created otherwise."""
    with pytest.raises(ValueError, match="sample rate"):
        StereoRecorder(tmp_path / "call.wav", 0)

    assert list(tmp_path.iterdir()) == []


def test_the_size_limit_of_wav_stops_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past 4 GiB (here 40 kB) writing raises, and the recording up to there is whole."""
    monkeypatch.setattr(media.wav, "MAX_DATA_BYTES", 40_000)
    recorder = StereoRecorder(tmp_path / "call.wav", _RATE_HZ)
    recorder.write(_stereo(1))

    with pytest.raises(AudioFileError, match="4 GiB"):
        recorder.write(_stereo(1))

    assert len(_read(recorder.close())) == 8000


def test_a_killed_process_leaves_a_recording_that_can_be_repaired(tmp_path: Path) -> None:
    """After kill -9 all but the last half second is there, and it is readable even before the repair."""
    script = (
        "import os, signal, sys, numpy\n"
        "from media.wav import StereoRecorder\n"
        "recorder = StereoRecorder(sys.argv[1], 8000)\n"
        "for number in range(130):\n"
        "    recorder.write(numpy.full((160, 2), number, numpy.int16))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(media.wav.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script, tmp_path / "call.wav"], env=environment, check=False)
    with (tmp_path / "call.wav.part").open("ab") as file:
        file.write(b"\x01")

    assert soundfile.info(tmp_path / "call.wav.part").channels == 2
    repaired = repair_partial(tmp_path / "call.wav.part")

    assert repaired == tmp_path / "call.wav"
    assert [item.name for item in tmp_path.iterdir()] == ["call.wav"]
    assert np.repeat(np.arange(125), 160).tolist() == _read(repaired)[:, 1].tolist()


def test_what_is_on_the_disk(tmp_path: Path) -> None:
    """Rate, length and time of the last sound are told of a recording in progress and of a complete one."""
    before = datetime.now(UTC)
    recorder = StereoRecorder(tmp_path / "call.wav", _RATE_HZ)
    recorder.write(_stereo(1))
    recorder.write(_stereo(0.1))
    during = media.wav.look_into(tmp_path / "call.wav.part")
    recorder.close()
    after = media.wav.look_into(tmp_path / "call.wav")

    assert [(_RATE_HZ, 1000), (_RATE_HZ, 1100)] == [(it.sample_rate_hz, it.duration_ms) for it in (during, after)]
    assert timedelta(seconds=-0.1) < during.written_at - before < timedelta(seconds=10)


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_what_is_no_recording_is_not_looked_into(tmp_path: Path, content: bytes) -> None:
    """Another file is named as such."""
    (tmp_path / "other.wav").write_bytes(content)

    with pytest.raises(AudioFileError, match=r"other\.wav: not a recording"):
        media.wav.look_into(tmp_path / "other.wav")


def test_a_recording_in_progress_is_not_repaired(tmp_path: Path) -> None:
    """While a recorder holds the file, repairing leaves it alone; also when nothing is in it yet."""
    recorder = StereoRecorder(tmp_path / "call.wav", _RATE_HZ)
    assert repair_partial(tmp_path / "call.wav.part") is None

    recorder.write(_stereo(1))
    assert repair_partial(str(tmp_path / "call.wav.part")) is None

    assert len(_read(recorder.close())) == 8000


@pytest.mark.parametrize("size", [0, 10, 44, 47])
def test_a_part_file_without_sound_is_removed(tmp_path: Path, size: int) -> None:
    """Where a process died before the first block there is nothing to save."""
    (tmp_path / "call.wav.part").write_bytes(bytes(size))

    assert repair_partial(tmp_path / "call.wav.part") is None
    assert list(tmp_path.iterdir()) == []


def test_more_than_a_wav_file_can_hold_is_cut_off(tmp_path: Path) -> None:
    """A `.part` file beyond 4 GiB keeps what its header can count."""
    with StereoRecorder(tmp_path / "call.wav", _RATE_HZ) as recorder:
        recorder.write(_stereo(0.1))
    (tmp_path / "call.wav").rename(tmp_path / "call.wav.part")
    os.truncate(tmp_path / "call.wav.part", 5_000_000_000)

    repaired = repair_partial(tmp_path / "call.wav.part")

    assert repaired is not None
    assert soundfile.info(repaired).frames == media.wav.MAX_DATA_BYTES // 4


def test_only_our_part_files_are_repaired(tmp_path: Path) -> None:
    """Other files are refused and left as they are; a missing one is nothing to save."""
    (tmp_path / "other.part").write_bytes(b"x" * 100)
    (tmp_path / "other.wav").write_bytes(b"y" * 100)

    with pytest.raises(AudioFileError, match=r"other\.part: not a recording"):
        repair_partial(tmp_path / "other.part")
    with pytest.raises(AudioFileError, match=r"other\.wav: not a \.part"):
        repair_partial(tmp_path / "other.wav")

    assert repair_partial(tmp_path / "none.part") is None
    assert (tmp_path / "other.part").read_bytes() == b"x" * 100


class TestLoadChannels:
    """A recording as it is."""

    def test_sides_stay_apart(self, tmp_path: Path) -> None:
        """Left and right come back as they were written, at their own rate."""
        sides = np.array([[1, -1], [2, -2], [3, -3]], np.int16)
        soundfile.write(tmp_path / "call.wav", sides, 16_000)

        samples, sample_rate_hz = load_channels(tmp_path / "call.wav")

        assert (sides.tolist(), 16_000) == (samples.tolist(), sample_rate_hz)

    def test_no_sound_file(self, tmp_path: Path) -> None:
        """A file that is missing is named."""
        with pytest.raises(AudioFileError, match=r"missing\.wav"):
            load_channels(tmp_path / "missing.wav")
