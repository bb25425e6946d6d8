"""The synthesizer `espeak`: eSpeak NG, offline, many languages, without delay.

The library is the one that the package espeakng-loader carries. It speaks a hundred sentences in the time that
one of them lasts, so a sentence is made whole before it is handed on. Functions, constants and their meaning
are those of espeak-ng's `speak_lib.h`.
"""

import asyncio
import ctypes
import re
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock

import espeakng_loader
import numpy as np

from media.frames import Samples
from media.resample import resample
from sip_agent.errors import SettingsError, SpeechError

DEFAULT_VOICE = "en-us"

_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_EE_OK = 0
_RATE = 1
_UTF8 = 1
_POSITION_CHARACTER = 1
_BUFFER_MS = 500
_GO_ON = 0

_VOICE = re.compile(r"[\w/ '(),-]{1,40}(?:\+[A-Za-z0-9_ -]{1,20})?")
"""Names of voices and variants: the library copies that of a variant into 40 bytes without looking at its length."""

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class EspeakSynthesizer:
    """Speak with eSpeak NG: quick, clear, offline, and a robot by its sound.

    `voice` is a language ("en-us", "de"), with a variant if wanted ("en-us+f2").
    """

    def __init__(self, *, voice: str = "", words_per_minute: int = 160) -> None:
        self._library = _library()
        self._voice = voice or DEFAULT_VOICE
        self._words_per_minute = words_per_minute
        self.fingerprint = f"{self._library.version} {words_per_minute}"
        self._worker = ThreadPoolExecutor(1, "espeak")
        if not self._library.has(self._voice):
            raise SettingsError(
                f'speech.voice = "{voice}": espeak has no such voice; '
                "write a language like en-us, en-gb, de or fr, with a variant if you like: en-us+f2"
            )

    async def synthesize(
        self, text: str, *, voice: str | None = None, sample_rate_hz: int
    ) -> AsyncGenerator[Samples, None]:
        """Yield the speech of a text in one piece: int16 mono. Raises SpeechError for an unknown voice."""
        yield await asyncio.get_running_loop().run_in_executor(
            self._worker, self._speak, text, voice or self._voice, sample_rate_hz
        )

    def _speak(self, text: str, voice: str, sample_rate_hz: int) -> Samples:
        sound = self._library.speak(text, voice, self._words_per_minute)
        return resample(sound, self._library.sample_rate_hz, sample_rate_hz)

    async def close(self) -> None:
        """End the thread."""
        self._worker.shutdown(wait=False, cancel_futures=True)


class _Library:
    """The library: it has one state for the whole process, so one thread at a time uses it.

    While it works, the interpreter does too: ctypes lets go of its lock.
    """

    def __init__(self) -> None:
        self._functions = ctypes.CDLL(espeakng_loader.get_library_path())
        self._functions.espeak_Info.restype = ctypes.c_char_p
        self._lock = Lock()
        self._pieces: list[bytes] = []
        self._on_sound = _Callback(self._keep)  # the library calls it as long as it lives
        self.sample_rate_hz = int(
            self._functions.espeak_Initialize(
                _SYNCHRONOUS, _BUFFER_MS, espeakng_loader.get_data_path().encode(), _DO_NOT_EXIT
            )
        )
        if self.sample_rate_hz <= 0:
            raise SettingsError(
                'speech.synthesizer = "espeak": its data is missing: install the package espeakng-loader again'
            )
        self._functions.espeak_SetSynthCallback(self._on_sound)
        self.version = self._functions.espeak_Info(None).decode()

    def has(self, voice: str) -> bool:
        """Say whether there is such a voice."""
        with self._lock:
            return self._choose(voice)

    def speak(self, text: str, voice: str, words_per_minute: int) -> Samples:
        """Return the speech of a text: int16 mono at `sample_rate_hz`."""
        # A zero byte would end the text; half a surrogate pair has no UTF-8.
        data = text.replace("\0", " ").encode("utf-8", "replace")
        with self._lock:
            if not self._choose(voice):
                raise SpeechError(f'espeak has no voice "{voice[:60]}": write a language like en-us, or en-us+f2')
            self._functions.espeak_SetParameter(_RATE, words_per_minute, 0)
            self._pieces = []
            self._functions.espeak_Synth(
                data, ctypes.c_size_t(len(data) + 1), 0, _POSITION_CHARACTER, 0, _UTF8, None, None
            )
            return np.frombuffer(b"".join(self._pieces), np.int16)

    def _choose(self, voice: str) -> bool:
        return _VOICE.fullmatch(voice) is not None and self._functions.espeak_SetVoiceByName(voice.encode()) == _EE_OK

    def _keep(self, sound: int | None, samples: int, _events: int | None) -> int:
        if sound:
            self._pieces.append(ctypes.string_at(sound, samples * 2))
        return _GO_ON


@cache
def _library() -> _Library:
    return _Library()
