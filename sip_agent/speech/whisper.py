"""The recognizer `faster-whisper`: Whisper models on this machine, by CTranslate2."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from media.frames import Samples, to_float32
from media.resample import resample
from sip_agent.errors import SettingsError

SAMPLE_RATE_HZ = 16000


class WhisperRecognizer:
    """Recognise speech with a Whisper model that is on this machine; nothing is fetched from elsewhere.

    One utterance is worked on at a time; `cpu_threads` 0 takes half of the processors. The interpreter works on
    meanwhile: CTranslate2 lets go of its lock.
    """

    def __init__(self, *, model: str, language: str = "", device: str = "auto", cpu_threads: int = 0) -> None:
        try:
            from faster_whisper import WhisperModel  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise SettingsError(
                f'speech.recognizer = "faster-whisper": {error}: install it: pip install "sip-agent[whisper]"'
            ) from error
        try:
            self._model = WhisperModel(
                model,
                device=device,
                compute_type="auto",
                cpu_threads=cpu_threads or max(1, (os.cpu_count() or 1) // 2),
                local_files_only=True,
            )
        except FileNotFoundError as error:
            raise SettingsError(
                f'speech.whisper.model = "{model}": it is not on this machine: fetch it once, by '
                f"{sys.executable} -c \"import faster_whisper; faster_whisper.download_model('{model}')\", "
                "or name the folder of a model"
            ) from error
        except (ValueError, OSError, RuntimeError) as error:
            raise SettingsError(f'speech.whisper.model = "{model}", device = "{device}": {error}') from error
        self._language = language or None
        self._worker = ThreadPoolExecutor(1, "whisper")

    async def recognize(self, samples: Samples, sample_rate_hz: int) -> str:
        """Return what was said."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._recognize, samples, sample_rate_hz)

    def _recognize(self, samples: Samples, sample_rate_hz: int) -> str:
        sound = to_float32(resample(samples, sample_rate_hz, SAMPLE_RATE_HZ))
        # The most likely word each time is found five times as fast as the best of five sentences. An utterance is
        # no continuation of another caller's.
        segments, _ = self._model.transcribe(
            sound, language=self._language, beam_size=1, condition_on_previous_text=False
        )
        return "".join(segment.text for segment in segments)

    async def close(self) -> None:
        """End the thread."""
        self._worker.shutdown(wait=False, cancel_futures=True)
