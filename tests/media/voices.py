"""Speech for tests of hearing: espeak-ng's, with noise where a line has some."""

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from media.frames import Samples, silence
from media.resample import resample
from sip_agent.speech.espeak import EspeakSynthesizer

_RATE_HZ = 22_050


@functools.cache
def spoken(text: str, sample_rate_hz: int, voice: str | None = None) -> Samples:
    """Return a text as espeak-ng says it, without the silence around it."""

    async def synthesize() -> Samples:
        synthesizer = EspeakSynthesizer()
        pieces = synthesizer.synthesize(text, voice=voice, sample_rate_hz=_RATE_HZ)
        return np.concatenate([piece async for piece in pieces])

    with ThreadPoolExecutor(1) as thread:  # tests with a loop of their own ask as well
        said = thread.submit(lambda: asyncio.run(synthesize())).result()
    sound = resample(said, _RATE_HZ, sample_rate_hz)
    (loud,) = np.nonzero(np.abs(sound) > 200)
    return sound[loud[0] : loud[-1] + 1]


def with_noise(samples: Samples, noise_dbov: float, seed: int = 1) -> Samples:
    """Return samples with white noise of this level."""
    noise = np.random.default_rng(seed).normal(0, 32768 * 10 ** (noise_dbov / 20), len(samples))
    return np.clip(np.rint(samples + noise), -32768, 32767).astype(np.int16)


def scene(*parts: Samples | int, sample_rate_hz: int) -> Samples:
    """Return sounds in a row; a number is so many milliseconds of silence."""
    return np.concatenate([silence(part, sample_rate_hz) if isinstance(part, int) else part for part in parts])
