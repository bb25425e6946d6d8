"""G.711 by table: the same codes as libsndfile's, and as close to the original as eight bits allow."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile

from media.frames import Samples
from media.g711 import decode_alaw, decode_mulaw, encode_alaw, encode_mulaw

EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)
EVERY_CODE = bytes(range(256))


def encoded(subtype: str) -> bytes:
    """Return what libsndfile makes of every sample."""
    out = io.BytesIO()
    soundfile.write(out, EVERY_SAMPLE, 8000, format="RAW", subtype=subtype)
    return out.getvalue()


def decoded(subtype: str) -> np.ndarray:
    """Return what libsndfile makes of every code."""
    source = io.BytesIO(EVERY_CODE)
    samples: np.ndarray
    samples, _ = soundfile.read(source, samplerate=8000, channels=1, format="RAW", subtype=subtype, dtype="int16")
    return samples


def test_mulaw_is_libsndfiles() -> None:
    """Each of the 65536 samples has the code that libsndfile gives it, and each code its sample."""
    assert encoded("ULAW") == encode_mulaw(EVERY_SAMPLE)
    np.testing.assert_array_equal(decoded("ULAW"), decode_mulaw(EVERY_CODE))


def test_alaw_expands_as_libsndfile_does() -> None:
    """Each code has the sample that libsndfile gives it."""
    np.testing.assert_array_equal(decoded("ALAW"), decode_alaw(EVERY_CODE))


def test_codes_survive_a_round_trip() -> None:
    """What was once compressed loses nothing more; mu-law has two zeros, of which one is used."""
    assert EVERY_CODE == encode_alaw(decode_alaw(EVERY_CODE))
    assert EVERY_CODE.replace(b"\x7f", b"\xff") == encode_mulaw(decode_mulaw(EVERY_CODE))


@pytest.mark.parametrize(("encode", "decode"), [(encode_mulaw, decode_mulaw), (encode_alaw, decode_alaw)])
def test_the_error_is_small_beside_the_sample(
    encode: Callable[[Samples], bytes], decode: Callable[[bytes], Samples]
) -> None:
    """No sample is off by more than a 24th of its size, nor, where it is small, by more than 16."""
    wide = EVERY_SAMPLE.astype(np.int32)
    errors = np.abs(decode(encode(EVERY_SAMPLE)).astype(np.int32) - wide)
    inside = np.abs(wide) < 32_000
    assert (errors[inside] <= np.maximum(16, np.abs(wide[inside]) / 24)).all()
