"""WAV over a connection."""

import io
import struct
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from media.frames import Samples
from media.tones import ToneGenerator
from media.wav_stream import WavStream, wav_bytes

SOUND = ToneGenerator(300, 16000).next(1600)


def read(data: bytes, rate_hz: int = 16000, step: int = 1 << 20) -> Samples:
    """Feed a stream in steps and return all its sound."""
    stream = WavStream(rate_hz)
    parts = [stream.feed(data[start : start + step]) for start in range(0, len(data), step)]
    return np.concatenate([*parts, stream.feed(b"", last=True)])


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """Return a RIFF chunk; it says that it is `size` bytes long."""
    return struct.pack("<4sI", name, len(content) if size is None else size) + content + b"\0" * (len(content) % 2)


def riff(*chunks: bytes) -> bytes:
    """Return a file of unknown size."""
    return struct.pack("<4sI4s", b"RIFF", 0xFFFF_FFFF, b"WAVE") + b"".join(chunks)


def format_chunk(tag: int = 1, channels: int = 1, rate_hz: int = 16000, bits: int = 16, more: bytes = b"") -> bytes:
    """Return the chunk that says what the sound is."""
    size = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * size, size, bits) + more)


@given(st.integers(1, 500))
def test_however_the_bytes_come(step: int) -> None:
    """The sound is the same in whatever pieces it comes, with chunks of no interest before it."""
    data = riff(chunk(b"LIST", b"odd"), format_chunk(), chunk(b"fact", b"\0" * 4), chunk(b"data", SOUND.tobytes(), 0))

    assert np.array_equal(SOUND, read(data, step=step))


def test_what_soundfile_writes() -> None:
    """Files of another program are read, stereo and WAVE_FORMAT_EXTENSIBLE among them."""
    stereo = np.stack([SOUND, SOUND], axis=1)
    for subtype_format in ("WAV", "WAVEX"):
        file = io.BytesIO()
        soundfile.write(file, stereo, 16000, format=subtype_format, subtype="PCM_16")

        assert np.array_equal(SOUND, read(file.getvalue())[: len(SOUND)])


def test_another_rate() -> None:
    """The sound comes at the rate that is wanted, complete."""
    sound = read(riff(format_chunk(rate_hz=16000), chunk(b"data", SOUND.tobytes(), 0xFFFF_FFFF)), 8000, step=77)

    assert 800 == len(sound)
    assert np.abs(sound[50:-50].astype(int) - ToneGenerator(300, 8000).next(800)[50:-50]).max() < 60


@pytest.mark.parametrize("step", [100, 1 << 20])
def test_what_follows_the_sound(step: int) -> None:
    """A size that is one ends the sound: the chunks after it are not heard."""
    data = riff(format_chunk(), chunk(b"data", SOUND.tobytes()), chunk(b"LIST", b"made by a program"))

    assert np.array_equal(SOUND, read(data, step=step))


@pytest.mark.parametrize("size", [0, 2_000_000_000, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_sizes_that_mean_to_the_end(size: int) -> None:
    """Of the sizes that streaming servers write, none cuts the sound."""
    assert np.array_equal(SOUND, read(riff(format_chunk(), chunk(b"data", SOUND.tobytes(), size)), step=100))


def test_half_a_sample_at_the_end() -> None:
    """A stream that breaks off within a sample has the sound before it."""
    assert np.array_equal(SOUND[:-1], read(riff(format_chunk(), chunk(b"data", SOUND.tobytes(), 0)[:-1])))


@pytest.mark.parametrize("left_out", [2, 1600, 3200])
def test_a_sound_that_breaks_off(left_out: int) -> None:
    """A size that is one is a promise: what ends before is not whole."""
    data = riff(format_chunk(), chunk(b"data", SOUND.tobytes()[: 3200 - left_out], 3200))
    with pytest.raises(ValueError, match=f"breaks off: {left_out} bytes of its sound are missing"):
        read(data, step=100)


def test_a_size_with_half_a_sample() -> None:
    """A size that is no number of samples is reached with the last whole one."""
    assert np.array_equal(SOUND, read(riff(format_chunk(), chunk(b"data", SOUND.tobytes() + b"\1"))))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "without sound"),
        (b"RIFF", "without sound"),
        (b"ID3\x04 this is no WAV", "it begins with b'ID3"),
        (riff(format_chunk()), "without sound"),
        (riff(chunk(b"data", b"\0\0")), "does not say what its sound is"),
        (riff(chunk(b"fmt ", b"\1\0")), "a format of 2 bytes"),
        (riff(format_chunk(bits=8), chunk(b"data", b"")), "8 bits: not 16-bit PCM"),
        (riff(format_chunk(tag=3, bits=32), chunk(b"data", b"")), "format 3, .*32 bits"),
        (riff(format_chunk(channels=0), chunk(b"data", b"")), "0 channels"),
        (riff(format_chunk(rate_hz=0), chunk(b"data", b"")), "0 Hz"),
        (riff(chunk(b"LIST", bytes(70_000))), "without sound"),
    ],
)
def test_what_is_no_wav(data: bytes, message: str) -> None:
    """What is no 16-bit WAV is refused with the reason, and is not collected for ever."""
    with pytest.raises(ValueError, match=message):
        read(data, step=100)


def test_a_whole_file() -> None:
    """Samples become a file that others read."""
    with wave.open(io.BytesIO(wav_bytes(SOUND, 16000))) as reader:
        assert (1, 2, 16000, 1600) == reader.getparams()[:4]
        assert SOUND.tobytes() == reader.readframes(1600)
