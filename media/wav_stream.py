"""WAV that comes or goes over a connection: sound taken out of it piece by piece, and a whole one in memory.

Who streams WAV does not know its length in advance and writes 0, 0xFFFFFFFF or another large size: such sound lasts
as long as bytes come.
"""

import io
import struct
import wave

import numpy as np

from media.frames import Samples, mix_down
from media.resample import StreamResampler

_MAX_HEADER_BYTES = 65_536
_ENDLESS_BYTES = 0x7000_0000
"""More is no size but a word for "to the end": two billion, 2^31 - 1 and 2^32 - 1 are met."""
_RIFF = struct.Struct("<4sI4s")
_CHUNK = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")
_PCM = 1
_EXTENSIBLE = 0xFFFE
"""Says that the true format follows; with 16 bits it is PCM in all that is met."""


class WavStream:
    """Take the sound out of a WAV stream, as mono samples at `sample_rate_hz`.

    Feed it bytes as they come. Raise ValueError for what is no WAV of 16-bit PCM, or breaks off before the size that
    it has announced.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._buffer = bytearray()
        self._channels = 0
        self._left = _ENDLESS_BYTES
        self._resampler: StreamResampler | None = None

    def feed(self, data: bytes, *, last: bool = False) -> Samples:
        """Return the samples that are ready, shape `(samples,)`, int16; with `last`, the rest of them."""
        self._buffer += data
        if self._resampler is None:
            self._read_header()
        if self._resampler is None:
            if last or len(self._buffer) > _MAX_HEADER_BYTES:
                raise ValueError("a WAV without sound")
            return np.zeros(0, np.int16)
        frame = 2 * self._channels
        there = min(len(self._buffer), self._left)
        whole = there - there % frame
        samples = np.frombuffer(bytes(self._buffer[:whole]), "<i2").reshape(-1, self._channels)
        del self._buffer[:whole]
        if self._left < _ENDLESS_BYTES:
            self._left -= whole
            if last and self._left >= frame:
                raise ValueError(f"a WAV that breaks off: {self._left} bytes of its sound are missing")
        return self._resampler.process(mix_down(samples), last=last)

    def _read_header(self) -> None:
        """Look for the chunk with the sound, and begin with it once it is there."""
        if len(self._buffer) < _RIFF.size:
            return
        riff, _, kind = _RIFF.unpack_from(self._buffer)
        if (riff, kind) != (b"RIFF", b"WAVE"):
            raise ValueError(f"no WAV: it begins with {bytes(self._buffer[:12])!r}")
        offset = _RIFF.size
        rate_hz = 0
        while len(self._buffer) >= offset + _CHUNK.size:
            name, size = _CHUNK.unpack_from(self._buffer, offset)
            offset += _CHUNK.size
            if name == b"data":
                if not rate_hz:
                    raise ValueError("a WAV that does not say what its sound is")
                self._left = size or _ENDLESS_BYTES
                self._resampler = StreamResampler(rate_hz, self._sample_rate_hz)
                del self._buffer[:offset]
                return
            if name == b"fmt ":
                if size < _FORMAT.size:
                    raise ValueError(f"a WAV with a format of {size} bytes")
                if len(self._buffer) < offset + _FORMAT.size:
                    return
                rate_hz = self._read_format(offset)
            offset += size + size % 2  # chunks begin at even places

    def _read_format(self, offset: int) -> int:
        format_, self._channels, rate_hz, _, _, bits = _FORMAT.unpack_from(self._buffer, offset)
        if format_ not in {_PCM, _EXTENSIBLE} or bits != 16 or not self._channels or not rate_hz:
            raise ValueError(
                f"a WAV of format {format_}, {self._channels} channels, {rate_hz} Hz, {bits} bits: not 16-bit PCM"
            )
        return int(rate_hz)


def wav_bytes(samples: Samples, sample_rate_hz: int) -> bytes:
    """Return mono samples, shape `(samples,)`, int16, as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(sample_rate_hz)
        writer.writeframes(samples.astype("<i2", copy=False).tobytes())
    return file.getvalue()
