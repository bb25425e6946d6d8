"""Audio files: any file read as mono samples, calls recorded as stereo WAV.

Recordings are written here and not by libsndfile, because a recording has to survive what happens to a
server: a full disk is an OSError that says so, a killed process leaves a file that `repair_partial` mends.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import soundfile

from media.frames import AudioFrame, Samples, mix_down, samples_per_frame, to_int16
from media.resample import StreamResampler

MAX_DURATION_S = 3600.0
"""What `load_audio` holds in memory at most: 115 MB at 16 kHz."""

PARTIAL_SUFFIX = ".part"

_READ_MS = 500
_MAX_READ_SAMPLES = 1 << 18
_MIN_RATE_HZ = 1000

_CHANNELS = 2
_BYTES_PER_FRAME = 4
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_UNKNOWN_SIZE = 0xFFFF_FFFF
"""Stands in the header until the recording is closed; ffmpeg and SoX take it for "to the end of the file"."""
MAX_DATA_BYTES = (0xFFFF_FFFF - _HEADER.size) // _BYTES_PER_FRAME * _BYTES_PER_FRAME
"""RIFF counts bytes in 32 bits: 37 hours at 8 kHz, 18 at 16 kHz."""


class AudioFileError(OSError, ValueError):
    """An audio file that cannot be read or written; the message names the file and the reason."""


class AudioSource(Iterator[AudioFrame]):
    """The frames of an audio file, read as they are taken; made by `open_audio`.

    Holds half a second of sound and one open file. Iterating raises AudioFileError where the file turns out
    to be damaged. Close it, or use it in a `with` statement; it closes itself at the end of the file.
    """

    def __init__(self, path: str | Path, sample_rate_hz: int, *, loop: bool = False) -> None:
        self._frame_samples = samples_per_frame(sample_rate_hz)
        self._reader = _Reader(path, sample_rate_hz, loop=loop)
        self._block = np.zeros(0, dtype=np.int16)
        self._taken = 0

    @property
    def duration_ms(self) -> int:
        """How long the file says it is, once through."""
        return self._reader.duration_ms

    def __next__(self) -> AudioFrame:
        while len(self._block) - self._taken < self._frame_samples:
            more = self._reader.read()
            if more is None:
                return self._last()
            self._block = np.concatenate((self._block[self._taken :], more))
            self._taken = 0
        self._taken += self._frame_samples
        return self._block[self._taken - self._frame_samples : self._taken]

    def close(self) -> None:
        """Close the file; nothing more comes. Safe to repeat."""
        self._reader.close()
        self._block, self._taken = self._block[:0], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _last(self) -> AudioFrame:
        rest = self._block[self._taken :]
        self.close()
        if not len(rest):
            raise StopIteration
        frame = np.zeros(self._frame_samples, dtype=np.int16)
        frame[: len(rest)] = rest
        return frame


def open_audio(path: str | Path, sample_rate_hz: int, *, loop: bool = False) -> AudioSource:
    """Open a file for its 20 ms frames, mono int16 at `sample_rate_hz`; `loop` starts again without a gap.

    Takes whatever libsndfile reads (WAV, FLAC, Ogg, MP3, …), any rate, any number of channels. The last
    frame is filled up with silence. Raise AudioFileError for a file that is missing, is no audio, or has no
    sound to repeat; ValueError for a rate without whole frames.
    """
    return AudioSource(path, sample_rate_hz, loop=loop)


def load_audio(path: str | Path, sample_rate_hz: int, *, max_duration_s: float = MAX_DURATION_S) -> Samples:
    """Read a whole file as mono samples at `sample_rate_hz`, shape `(samples,)`, int16.

    Takes what `open_audio` takes. Raise AudioFileError for a file that is missing, is no audio, or lasts
    longer than `max_duration_s`.
    """
    reader = _Reader(path, sample_rate_hz)
    limit = round(max_duration_s * sample_rate_hz)
    blocks = [np.zeros(0, dtype=np.int16)]
    count = 0
    try:
        # The header is a claim; what counts is what comes out.
        while count <= limit and (block := reader.read()) is not None:
            blocks.append(block)
            count += len(block)
    finally:
        reader.close()
    if count > limit:
        raise AudioFileError(f"{path}: longer than {max_duration_s:g} s")
    return np.concatenate(blocks)


def load_channels(path: str | Path) -> tuple[Samples, int]:
    """Read a whole recording as it is: int16 of shape `(samples, channels)`, and its rate in Hz.

    Raise AudioFileError for a file that is missing or is no audio.
    """
    try:
        samples, sample_rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioFileError(f"{path}: {error}") from error
    return samples, int(sample_rate_hz)


class _Reader:
    """An audio file as blocks of mono int16 samples at the wanted rate."""

    def __init__(self, path: str | Path, sample_rate_hz: int, *, loop: bool = False) -> None:
        self._path = path
        self._loop = loop
        if not Path(path).is_file():
            raise AudioFileError(f"{path}: {'not a file' if Path(path).exists() else 'no such file'}")
        try:
            self._file = soundfile.SoundFile(os.fspath(path))
        # TypeError: headerless formats, known by the suffix, whose rate nobody has told.
        except (soundfile.SoundFileError, OSError, TypeError) as error:
            raise AudioFileError(f"{path}: cannot be read as audio: {error}") from error
        rate_hz = self._file.samplerate
        if rate_hz < _MIN_RATE_HZ:
            self.close()
            raise AudioFileError(f"{path}: has {rate_hz} samples a second; at least {_MIN_RATE_HZ} are needed")
        self.duration_ms: int = round(max(0, self._file.frames) * 1000 / rate_hz)
        self._resampler = StreamResampler(rate_hz, sample_rate_hz)
        self._block_samples = max(1, min(rate_hz * _READ_MS // 1000, _MAX_READ_SAMPLES // self._file.channels))
        self._sound_since_start = False

    def read(self) -> Samples | None:
        """Return the next block, empty while the resampler fills, or None at the end."""
        if self._file.closed:
            return None
        block = self._read_file()
        if not len(block) and self._loop:
            if not self._sound_since_start:
                self.close()
                raise AudioFileError(f"{self._path}: has no sound to repeat")
            self._file.seek(0)
            self._sound_since_start = False
            block = self._read_file()
        self._sound_since_start = self._sound_since_start or len(block) > 0
        ended = not len(block) and not self._loop
        samples = self._resampler.process(block, last=ended)
        if ended:
            self.close()
        return samples

    def close(self) -> None:
        self._file.close()

    def _read_file(self) -> Samples:
        try:
            block = self._file.read(self._block_samples, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            self.close()
            raise AudioFileError(f"{self._path}: damaged: {error}") from error
        return to_int16(mix_down(block))


class StereoRecorder:
    """Write a call as a 16-bit stereo WAV file: left what the caller said, right what the agent said.

    Sound goes to `<path>.part`, in pieces of half a second so that a killed process loses no more than that;
    `close` completes it and gives it its name. The file is locked while it is being written, so that
    `repair_partial` leaves it alone. One thread at a time may use a recorder.

    Raise FileExistsError where the `.part` file exists, OSError where it cannot be created, ValueError for a
    sample rate below 1 Hz.
    """

    def __init__(self, path: str | Path, sample_rate_hz: int) -> None:
        if sample_rate_hz < 1:
            raise ValueError(f"a sample rate is at least 1 Hz, not {sample_rate_hz}")
        self.path = Path(path)
        self.sample_rate_hz = sample_rate_hz
        self._partial = partial_path(path)
        self._flush_bytes = max(_BYTES_PER_FRAME, sample_rate_hz // 2 * _BYTES_PER_FRAME)
        self._pending = bytearray()
        self._data_bytes = 0
        self._error: OSError | None = None
        self._file = FileIO(self._partial, "xb")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_all(self._file, _header(sample_rate_hz, _UNKNOWN_SIZE))
        except OSError:
            self.abort()
            raise

    @property
    def frames(self) -> int:
        """How many stereo sample pairs have been taken; after an error, how many reached the file."""
        return (self._data_bytes + len(self._pending)) // _BYTES_PER_FRAME

    @property
    def duration_ms(self) -> int:
        """How much sound has been taken."""
        return self.frames * 1000 // self.sample_rate_hz

    def write(self, block: bytes | bytearray | memoryview | npt.NDArray[np.int16]) -> None:
        """Take interleaved samples: int16 of the shape `(n, 2)` or `(2n,)`, or little-endian bytes.

        Raise ValueError for half a pair, another type, or a closed recorder; OSError when the disk is full or
        the file is gone; AudioFileError when the 4 GiB of a WAV file are used up, and for every block after
        an error. What was written until then is kept: `close` makes a valid recording of it.
        """
        if self._file.closed:
            raise ValueError(f"{self.path}: the recording is closed")
        if self._error is not None:
            raise AudioFileError(f"{self.path}: stopped by an earlier error: {self._error}") from self._error
        self._pending += _as_bytes(block)
        if len(self._pending) >= self._flush_bytes:
            self._flush()

    def close(self) -> Path:
        """Complete the file, wait until the disk has it, and rename it to `path`, replacing what is there.

        Waiting takes milliseconds, on a busy disk many: call it from a thread that may wait. Safe to repeat.
        Raise OSError when the sound cannot be kept; the `.part` file, if there still is one, then remains.
        """
        if not self._file.closed:
            with self._file:
                if self._error is None:
                    self._flush()
                _complete(self._file, self.sample_rate_hz, self._data_bytes)
            self._partial.replace(self.path)
        return self.path

    def abort(self) -> None:
        """Throw the recording away. Safe to repeat; after `close` it does nothing."""
        if not self._file.closed:
            with self._file:
                self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _flush(self) -> None:
        try:
            if os.fstat(self._file.fileno()).st_nlink == 0:
                raise FileNotFoundError(errno.ENOENT, "removed while it was being written", str(self._partial))
            if self._data_bytes + len(self._pending) > MAX_DATA_BYTES:
                raise AudioFileError(f"{self._partial}: a WAV file cannot hold more than 4 GiB")
            _write_all(self._file, self._pending)
            self._data_bytes += len(self._pending)
        except OSError as error:
            if error.errno is not None and error.filename is None:
                error.filename = str(self._partial)
            self._error = error
            # A part of the block may have been written; only whole pairs count.
            on_disk = os.fstat(self._file.fileno()).st_size - _HEADER.size
            self._data_bytes = max(0, on_disk) // _BYTES_PER_FRAME * _BYTES_PER_FRAME
            raise
        finally:
            self._pending.clear()


def partial_path(path: str | Path) -> Path:
    """Return where the recording `path` is written until it is closed: `<path>.part`."""
    return Path(f"{path}{PARTIAL_SUFFIX}")


@dataclass(frozen=True, slots=True)
class SoundOnDisk:
    """What a recording has on the disk, and since when that is all."""

    sample_rate_hz: int
    duration_ms: int
    written_at: datetime


def look_into(path: str | Path) -> SoundOnDisk:
    """Return what a recording has on the disk, whether it is complete or the `.part` of a killed process.

    Raise AudioFileError for a file that is no recording, OSError where it cannot be read.
    """
    with FileIO(path) as file:
        status = os.fstat(file.fileno())
        rate_hz = _rate_in_header(Path(path), file.read(_HEADER.size))
    frames = (status.st_size - _HEADER.size) // _BYTES_PER_FRAME
    return SoundOnDisk(rate_hz, frames * 1000 // rate_hz, datetime.fromtimestamp(status.st_mtime, UTC))


def repair_partial(path: str | Path) -> Path | None:
    """Complete the `.part` file that a killed process left, and return the recording's own path.

    Return None where there is nothing to save: the file is still being written, is gone, or has no sound in
    it and was removed. Raise AudioFileError for a file that is no `.part` of a recording, OSError where it
    cannot be changed.
    """
    partial = Path(path)
    if partial.suffix != PARTIAL_SUFFIX:
        raise AudioFileError(f"{path}: not a {PARTIAL_SUFFIX} file")
    try:
        file = FileIO(partial, "r+b")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        data_bytes = os.fstat(file.fileno()).st_size - _HEADER.size
        if data_bytes < _BYTES_PER_FRAME:
            partial.unlink(missing_ok=True)
            return None
        rate_hz = _rate_in_header(partial, file.read(_HEADER.size))
        _complete(file, rate_hz, min(data_bytes, MAX_DATA_BYTES) // _BYTES_PER_FRAME * _BYTES_PER_FRAME)
        return partial.replace(partial.with_suffix(""))


def _header(sample_rate_hz: int, data_bytes: int) -> bytes:
    """Return the header of a 16-bit stereo WAV file (RIFF, "fmt " and "data" chunks)."""
    return _HEADER.pack(
        b"RIFF",
        min(data_bytes + _HEADER.size - 8, _UNKNOWN_SIZE),
        b"WAVE",
        b"fmt ",
        16,
        1,
        _CHANNELS,
        sample_rate_hz,
        sample_rate_hz * _BYTES_PER_FRAME,
        _BYTES_PER_FRAME,
        16,
        b"data",
        data_bytes,
    )


def _rate_in_header(path: Path, header: bytes) -> int:
    """Return the sample rate of a header that `_header` made."""
    rate_hz = int.from_bytes(header[24:28], "little")
    if not rate_hz or header[:4] != b"RIFF" or header[8:40] != _header(rate_hz, 0)[8:40]:
        raise AudioFileError(f"{path}: not a recording of this program")
    return rate_hz


def _complete(file: FileIO, sample_rate_hz: int, data_bytes: int) -> None:
    """Cut off what is no whole pair, write the true sizes, and wait for the disk."""
    file.truncate(_HEADER.size + data_bytes)
    file.seek(0)
    _write_all(file, _header(sample_rate_hz, data_bytes))
    os.fsync(file.fileno())


def _write_all(file: FileIO, data: bytes | bytearray) -> None:
    """Write everything or raise OSError: a nearly full disk takes a part of it first."""
    with memoryview(data) as rest:
        written = 0
        while written < len(rest):
            written += file.write(rest[written:])


def _as_bytes(
    block: bytes | bytearray | memoryview | npt.NDArray[np.int16],
) -> bytes | bytearray | memoryview:
    if isinstance(block, np.ndarray):
        if block.dtype != np.int16 or (block.ndim != 1 and block.shape[1:] != (_CHANNELS,)):
            raise ValueError(f"a block is int16 of the shape (n, 2), not {block.dtype} of {block.shape}")
        block = block.astype("<i2", copy=False).tobytes()
    if (block.nbytes if isinstance(block, memoryview) else len(block)) % _BYTES_PER_FRAME:
        raise ValueError("a block holds whole pairs of samples, one for either side")
    return block
