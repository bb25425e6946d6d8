"""The recognizer `faster-whisper`, with a double of its model: weights cannot be had in a test."""

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sip_agent.errors import SettingsError
from sip_agent.speech.whisper import WhisperRecognizer


@dataclass
class Segment:
    """What faster-whisper returns a list of; it has more fields."""

    text: str


class WhisperModel:
    """The constructor and `transcribe` take what those of faster-whisper 1.2.1 take, by the same names.

    Only the arguments that the recognizer may pass are spelled out.
    """

    built: list["WhisperModel"]
    error: Exception | None

    def __init__(  # noqa: PLR0917  (as it is there)
        self,
        model_size_or_path: str,
        device: str = "auto",
        device_index: int | list[int] = 0,
        compute_type: str = "default",
        cpu_threads: int = 0,
        num_workers: int = 1,
        download_root: str | None = None,
        local_files_only: bool = False,
        files: dict[str, bytes] | None = None,
        revision: str | None = None,
        use_auth_token: bool | str | None = None,
    ) -> None:
        assert local_files_only, "a test, and an agent that starts, must not fetch a model"
        assert device in {"cpu", "cuda", "auto"}
        assert compute_type in {"default", "auto", "int8", "float16", "float32"}
        assert (device_index, num_workers, download_root, files, revision, use_auth_token) == (0, 1) + (None,) * 4
        if self.error is not None:
            raise self.error
        self.model = model_size_or_path
        self.cpu_threads = cpu_threads
        self.built.append(self)

    def transcribe(
        self,
        audio: npt.NDArray[np.float32],
        language: str | None = None,
        task: str = "transcribe",
        log_progress: bool = False,
        beam_size: int = 5,
        *,
        condition_on_previous_text: bool = True,
    ) -> tuple[Iterator[Segment], object]:
        """Return segments that are worked out as they are taken, as the real one does."""
        assert task == "transcribe"
        assert not log_progress
        assert audio.dtype == np.float32
        assert audio.ndim == 1
        assert beam_size >= 1
        self.heard = audio
        self.language = language
        self.conditioned = condition_on_previous_text

        def segments() -> Iterator[Segment]:
            self.thread = threading.current_thread()
            yield Segment(" A table for two,")
            yield Segment(" please.")

        return segments(), object()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> type[WhisperModel]:
    """Install the double as the package faster_whisper."""
    WhisperModel.built = []
    WhisperModel.error = None
    module: Any = ModuleType("faster_whisper")
    module.WhisperModel = WhisperModel
    monkeypatch.setitem(sys.modules, "faster_whisper", module)
    return WhisperModel


async def test_an_utterance(model: type[WhisperModel]) -> None:
    """The model hears the utterance at 16 kHz, off the event loop, and all its segments are the text."""
    recognizer = WhisperRecognizer(model="base.en", language="en", cpu_threads=3)
    text = await recognizer.recognize(np.full(8000, 16384, np.int16), 8000)
    await recognizer.close()
    (built,) = model.built

    assert "A table for two, please." == text.strip()
    assert ("base.en", 3, "en") == (built.model, built.cpu_threads, built.language)
    assert 16000 == len(built.heard)
    assert 0.5 == pytest.approx(float(built.heard[8000]), abs=0.01)
    assert built.thread is not threading.current_thread()
    assert not built.conditioned


async def test_the_language_may_be_found_out(model: type[WhisperModel]) -> None:
    """No language in the settings leaves it to the model; the calls keep half of the processors."""
    recognizer = WhisperRecognizer(model="base")
    await recognizer.recognize(np.zeros(8000, np.int16), 8000)
    await recognizer.close()

    assert model.built[0].language is None
    assert model.built[0].cpu_threads >= 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        # huggingface_hub's LocalEntryNotFoundError is a FileNotFoundError.
        (FileNotFoundError("no snapshot"), r'speech\.whisper\.model = "m": .*fetch it once, by .*download_model'),
        (ValueError("Invalid model size 'm'"), "Invalid model size 'm'"),
        (RuntimeError("CUDA driver version is insufficient"), 'device = "cuda": CUDA driver version'),
    ],
)
def test_a_model_that_cannot_be_loaded(model: type[WhisperModel], error: Exception, message: str) -> None:
    """A missing model is a wrong setting when the agent starts; the message says how to get it."""
    model.error = error
    with pytest.raises(SettingsError, match=message):
        WhisperRecognizer(model="m", device="cuda")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is missing, the message says how to install it."""
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(SettingsError, match=r'speech\.recognizer = "faster-whisper": .*"sip-agent\[whisper\]"'):
        WhisperRecognizer(model="base.en")
