"""G.711: mu-law and A-law (ITU-T G.711), one table look-up per sample in either direction."""

import numpy as np
import numpy.typing as npt

from media.frames import Samples

_MULAW_BIAS = 132
_MULAW_CLIP = 32635
_SEGMENT_ENDS = np.array([0x1F, 0x3F, 0x7F, 0xFF, 0x1FF, 0x3FF, 0x7FF, 0xFFF])


def encode_mulaw(samples: Samples) -> bytes:
    """Compress int16 samples, shape `(n,)`, to mu-law (PCMU), one byte each."""
    return _TO_MULAW[samples.view(np.uint16)].tobytes()


def decode_mulaw(data: bytes | memoryview) -> Samples:
    """Expand mu-law (PCMU) to int16 samples, shape `(len(data),)`."""
    return _FROM_MULAW[np.frombuffer(data, np.uint8)]


def encode_alaw(samples: Samples) -> bytes:
    """Compress int16 samples, shape `(n,)`, to A-law (PCMA), one byte each."""
    return _TO_ALAW[samples.view(np.uint16)].tobytes()


def decode_alaw(data: bytes | memoryview) -> Samples:
    """Expand A-law (PCMA) to int16 samples, shape `(len(data),)`."""
    return _FROM_ALAW[np.frombuffer(data, np.uint8)]


def _mulaw_codes(linear: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Return the code of each sample: all bits inverted, sign 1 for positive (G.711 table 2)."""
    magnitudes = np.minimum(np.abs(linear), _MULAW_CLIP) + _MULAW_BIAS
    segments = np.floor(np.log2(magnitudes)).astype(np.int32) - 7
    steps = (magnitudes >> (segments + 3)) & 0x0F
    signs = np.where(linear < 0, 0x80, 0)
    codes: npt.NDArray[np.int32] = ~(signs | segments << 4 | steps) & 0xFF
    return codes.astype(np.uint8)


def _mulaw_values(codes: npt.NDArray[np.int32]) -> Samples:
    bits = ~codes & 0xFF
    magnitudes = (((bits & 0x0F) << 3) + _MULAW_BIAS << ((bits & 0x70) >> 4)) - _MULAW_BIAS
    return np.where(bits & 0x80, -magnitudes, magnitudes).astype(np.int16)


def _alaw_codes(linear: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Return the code of each sample: even bits inverted, sign 1 for positive (G.711 table 1)."""
    magnitudes = np.where(linear < 0, ~linear, linear) >> 3
    segments = np.searchsorted(_SEGMENT_ENDS, magnitudes)
    steps = (magnitudes >> np.maximum(segments, 1)) & 0x0F
    return ((segments << 4 | steps) ^ np.where(linear < 0, 0x55, 0xD5)).astype(np.uint8)


def _alaw_values(codes: npt.NDArray[np.int32]) -> Samples:
    bits = codes ^ 0x55
    segments = (bits & 0x70) >> 4
    steps = (bits & 0x0F) << 4
    magnitudes = np.where(segments == 0, steps + 8, (steps + 0x108) << np.maximum(segments - 1, 0))
    return np.where(bits & 0x80, magnitudes, -magnitudes).astype(np.int16)


# Indexed by the bits of an int16 sample as an unsigned number.
_LINEAR = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
_CODES = np.arange(256, dtype=np.int32)
_TO_MULAW = _mulaw_codes(_LINEAR)
_FROM_MULAW = _mulaw_values(_CODES)
_TO_ALAW = _alaw_codes(_LINEAR)
_FROM_ALAW = _alaw_values(_CODES)
