"""When each side of a recording speaks: levels of 10 ms, and the stretches of them that are speech.

This looks back on a whole call, which voice activity detection in the middle of one cannot: the background is
measured before and after each moment, and a word's quiet beginning belongs to the word.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from media.levels import FULL_SCALE, MIN_LEVEL_DBOV
from media.wav import AudioFileError

LEVEL_MS = 10
"""How fine activity is resolved."""

Levels: TypeAlias = npt.NDArray[np.float32]
"""Levels in dBov, one per `LEVEL_MS`: shape `(n,)`, or `(n, channels)`, float32."""

_READ_MS = 1000
_MASK: TypeAlias = npt.NDArray[np.bool_]


class Span(NamedTuple):
    """A stretch of time in milliseconds, `ended_ms` excluded."""

    started_ms: int
    ended_ms: int


ENTER_DB = 12.0
STAY_DB = 8.0
"""A word rises so far above the background somewhere, and lasts for as long as it stays so far above it."""

GAP_MS = 200
"""Words less than this apart are one stretch of speech: the closure of a plosive is shorter, a breath longer."""

SHORTEST_MS = 80
"""What has less sound in it is a click, no word."""

QUIETEST_BACKGROUND_DBOV = -68.0
"""A line cannot be quieter than this for us: with `ENTER_DB` it leaves speech of -56 dBov, 16 dB below a quiet
speaker, and the idle noise of G.711 (about -72 dBov) unheard."""

LOUDEST_BACKGROUND_DBOV = -42.0
"""What is louder, however steady, is a sound that somebody makes (a tone, music), unless speech stands out of it."""

LOUD_ABOVE_BACKGROUND_DB = 25.0
"""How far speech stands out of a background that is louder than that."""

LOUD_MS = 1000
"""A channel is as loud as the level that it exceeds for so long in total."""

BACKGROUND_SHARE = 0.1
"""The background is the level that this share of a window stays below: nobody speaks without any pause."""

BACKGROUND_WINDOW_MS = 10_000
_BLOCK_MS = 500
_BINS = 128

ECHO_LONGEST_MS = 500
"""The longest way of our sound through networks, jitter buffers and a loudspeaker, and back."""

ECHO_LEAST_LOSS_DB = 6.0
"""Sound that comes back louder than this is no leak: somebody sends it, as an echo test does."""

ECHO_LEAST_CORRELATION = 0.65
"""Of levels while the source sounds, second by second: echoes that could be taken for speech have 0.75 to 1, in a very
reverberant room 0.6; people who talk at the same time have up to 0.6 in two seconds, and less the longer they do."""

ECHO_LEAST_VARIATION_DB = 2.0
"""What varies less in a second (standard deviation) correlates less: steady sounds are all alike."""

ECHO_RANGE_DB = 30.0
"""Of the source, only so much below its loud moments is heard again above the background."""

ECHO_MARGIN_DB = 8.0
_ECHO_SPREAD = 4
_ECHO_LEAST_LEVELS = 1000 // LEVEL_MS


def recording_levels(path: str | Path, *, start_ms: int = 0) -> Levels:
    """Return the levels of a recording from `start_ms` on, shape `(n, channels)`: 10 ms each, without their mean.

    The mean is what an offset (DC) adds; taken out of 10 ms, it leaves what is above some 50 Hz. Reads a second
    at a time, so that memory does not grow with the file. A last piece of less than 10 ms is left out.
    Raise AudioFileError for a file that is missing, is no audio, or has a rate without whole pieces of 10 ms.
    """
    try:
        with soundfile.SoundFile(path) as file:
            size, remainder = divmod(file.samplerate * LEVEL_MS, 1000)
            if remainder or not size:
                raise AudioFileError(f"{path}: {LEVEL_MS} ms are not a whole number of samples at {file.samplerate} Hz")
            file.seek(min(file.frames, start_ms * file.samplerate // 1000))
            levels = [frame_levels_dbov(block, size) for block in _read_blocks(file, size)]
            return np.concatenate(levels) if levels else np.empty((0, file.channels), np.float32)
    except (soundfile.SoundFileError, OSError) as error:
        if isinstance(error, AudioFileError):
            raise
        raise AudioFileError(f"{path}: cannot be read: {error}") from error


def frame_levels_dbov(samples: npt.NDArray[np.int16], size: int) -> Levels:
    """Return the level of each `size` samples: `(samples, channels)` int16 give `(samples // size, channels)`.

    Without the mean of each piece; -127.0 is digital silence.
    """
    count, channels = len(samples) // size, samples.shape[1]
    # Channel by channel: on interleaved samples the same takes ten times as long.
    pieces = np.ascontiguousarray(samples[: count * size].T, np.float32).reshape(channels, count, size)
    pieces -= pieces.mean(axis=2, keepdims=True)
    power = np.einsum("cns,cns->nc", pieces, pieces) / np.float32(size * FULL_SCALE**2)
    floor = np.float32(10 ** (MIN_LEVEL_DBOV / 10))
    return np.asarray(10 * np.log10(np.maximum(power, floor)), dtype=np.float32)


def find_speech(levels: Levels, *, leak: _MASK | None = None) -> list[Span]:
    """Return the stretches of speech of one channel in order; what `leak` marks is somebody else's."""
    background = background_dbov(levels)
    quiet = levels <= background + STAY_DB
    loud = levels > background + ENTER_DB
    if leak is not None:
        quiet |= leak
        loud &= ~leak
    words = [(start, end) for start, end in _runs(~quiet) if loud[start:end].any()]
    spans = []
    for start, end, active in _joined(words, GAP_MS // LEVEL_MS):
        if active * LEVEL_MS >= SHORTEST_MS:
            spans.append(Span(start * LEVEL_MS, end * LEVEL_MS))
    return spans


def background_dbov(levels: Levels) -> Levels:
    """Return the background of one channel at each moment.

    It is the level that a tenth of ten seconds around it stays below, of the ten seconds for which that is
    loudest: so noise that sets in is background at once, and until it ends.
    """
    count = len(levels)
    if not count:
        return levels
    per_block = _BLOCK_MS // LEVEL_MS
    blocks = -(-count // per_block)
    bins = np.clip(levels - MIN_LEVEL_DBOV, 0, _BINS - 1).astype(np.intp)
    cells = np.arange(count) // per_block * _BINS + bins
    histograms = np.bincount(cells, minlength=blocks * _BINS).reshape(blocks, _BINS)
    sums = np.concatenate((np.zeros((1, _BINS), np.intp), histograms.cumsum(axis=0)))
    window = min(BACKGROUND_WINDOW_MS // _BLOCK_MS, blocks)
    starts = np.arange(blocks - window + 1)
    windows = sums[starts + window] - sums[starts]
    below = windows.cumsum(axis=1) >= BACKGROUND_SHARE * windows.sum(axis=1, keepdims=True)
    found = below.argmax(axis=1) + MIN_LEVEL_DBOV
    # A moment has the loudest background of all windows that it is in.
    padded = np.pad(found, window - 1, mode="edge")
    background = np.lib.stride_tricks.sliding_window_view(padded, window).max(axis=1)
    loudest = max(LOUDEST_BACKGROUND_DBOV, _loud_dbov(levels) - LOUD_ABOVE_BACKGROUND_DB)
    return np.repeat(background.clip(QUIETEST_BACKGROUND_DBOV, loudest), per_block)[:count].astype(np.float32)


def leak_of(source: Levels, levels: Levels) -> _MASK:
    """Mark the moments at which a channel has no more than a leak of `source`: its echo, later and quieter.

    An echo rises and falls as its source does, after always the same time; somebody who talks over it does not. Only
    what it does while the source sounds counts: somebody who begins and ends with the source is no echo.
    """
    count = len(levels)
    nothing = np.zeros(count, np.bool_)
    if count < _ECHO_LEAST_LEVELS:
        return nothing
    active = source > background_dbov(source) + ENTER_DB
    lag = _echo_lag(source, levels, active)
    if lag is None:
        return nothing
    shifted = np.concatenate((np.full(lag, MIN_LEVEL_DBOV, np.float32), source[: count - lag]))
    was_active = np.concatenate((np.zeros(lag, np.bool_), active[: count - lag]))
    loss_db = float(np.median(shifted[was_active] - levels[was_active]))
    if loss_db < ECHO_LEAST_LOSS_DB:
        return nothing
    expected = _spread(shifted, _ECHO_SPREAD) - loss_db + ECHO_MARGIN_DB
    return np.asarray(levels <= expected, dtype=np.bool_)


def _read_blocks(file: soundfile.SoundFile, size: int) -> Iterator[npt.NDArray[np.int16]]:
    while len(block := file.read(size * _READ_MS // LEVEL_MS, dtype="int16", always_2d=True)) >= size:
        yield block


def _loud_dbov(levels: Levels) -> float:
    count = min(len(levels), LOUD_MS // LEVEL_MS)
    return float(np.partition(levels, -count)[-count])


def _runs(mask: _MASK) -> list[tuple[int, int]]:
    """Return where each run of True begins and ends."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _joined(words: list[tuple[int, int]], gap: int) -> Iterator[tuple[int, int, int]]:
    """Join what is less than `gap` apart; yield where each begins and ends, and how much of it is words."""
    stretch: tuple[int, int, int] | None = None
    for start, end in words:
        if stretch is not None and start - stretch[1] < gap:
            stretch = stretch[0], end, stretch[2] + end - start
            continue
        if stretch is not None:
            yield stretch
        stretch = start, end, end - start
    if stretch is not None:
        yield stretch


def _echo_lag(source: Levels, levels: Levels, active: _MASK) -> int | None:
    """Return after how many levels the source comes back, None if it does not."""
    longest = min(ECHO_LONGEST_MS // LEVEL_MS, len(source) - _ECHO_LEAST_LEVELS)
    best, best_lag = ECHO_LEAST_CORRELATION, None
    source = np.maximum(source, np.float32(_loud_dbov(source) - ECHO_RANGE_DB))
    for lag in range(1, longest):
        chosen = active[:-lag]
        if np.count_nonzero(chosen) < _ECHO_LEAST_LEVELS:
            break
        correlation = _correlation(source[:-lag][chosen], levels[lag:][chosen])
        if correlation > best:
            best, best_lag = correlation, lag
    return best_lag


def _correlation(x: Levels, y: Levels) -> float:
    """Return how alike two channels rise and fall: the mean of their correlations in each second of at least one."""
    seconds = len(x) // _ECHO_LEAST_LEVELS
    x, y = (_varying(levels[: len(x) // seconds * seconds].reshape(seconds, -1)) for levels in (x, y))
    return float((x * y).mean())


def _varying(levels: Levels) -> Levels:
    """Return each row without its mean, in units of its standard deviation."""
    deviation = np.maximum(levels.std(axis=1, keepdims=True), ECHO_LEAST_VARIATION_DB)
    return np.asarray((levels - levels.mean(axis=1, keepdims=True)) / deviation)


def _spread(levels: Levels, spread: int) -> Levels:
    """Return the loudest level within `spread` of each moment."""
    padded = np.pad(levels, spread, constant_values=MIN_LEVEL_DBOV)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * spread + 1).max(axis=1))
