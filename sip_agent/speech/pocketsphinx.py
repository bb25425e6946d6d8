"""The recognizer `pocketsphinx`: CMU PocketSphinx with the model inside its package; for tests and demonstrations.

It keeps the interpreter's lock for a whole utterance, and a fault in it ends the process, so it has one of its own.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from media.frames import Samples
from media.resample import resample
from sip_agent.errors import SettingsError, SpeechError

SAMPLE_RATE_HZ = 16000

_NICENESS = 5
"""The calls' sound goes first."""


class PocketsphinxRecognizer:
    """Recognise a little English; with a JSGF grammar of what may be said, reliably."""

    def __init__(self, *, grammar_file: Path | None = None) -> None:
        if find_spec("pocketsphinx") is None:
            raise SettingsError(
                'speech.recognizer = "pocketsphinx": it is not installed: pip install "sip-agent[pocketsphinx]"'
            )
        if grammar_file is not None and not grammar_file.is_file():
            raise SettingsError(f"speech.pocketsphinx.grammar_file: there is no file {grammar_file}")
        self._grammar = None if grammar_file is None else str(grammar_file)
        self._process = _start()
        try:
            self._process.submit(_load, self._grammar).result()
        except (RuntimeError, BrokenProcessPool) as error:
            self._process.shutdown(wait=False)
            raise SettingsError(
                f"speech.pocketsphinx.grammar_file = {grammar_file}: PocketSphinx does not load it: "
                "write a JSGF grammar with words that its dictionary has"
            ) from error

    async def recognize(self, samples: Samples, sample_rate_hz: int) -> str:
        """Return what was said. Raises SpeechError if the process dies of it; the next utterance has a new one."""
        process = self._process
        sound = resample(samples, sample_rate_hz, SAMPLE_RATE_HZ).astype("<i2", copy=False).tobytes()
        try:
            return await asyncio.get_running_loop().run_in_executor(process, _recognize, self._grammar, sound)
        except BrokenProcessPool as error:
            if self._process is process:
                self._process = _start()
                process.shutdown(wait=False)
            raise SpeechError("the process of pocketsphinx has died; the next utterance gets a new one") from error

    async def close(self) -> None:
        """End the process."""
        await asyncio.to_thread(self._process.shutdown, cancel_futures=True)


def _start() -> ProcessPoolExecutor:
    # A forked child would hold the sockets of every call.
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare)


# What follows runs in the process of its own.


def _prepare() -> None:
    os.nice(_NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the agent, which ends this
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


@cache
def _decoder(grammar: str | None) -> Any:
    from pocketsphinx import Decoder  # noqa: PLC0415  (an extra, and 100 MB that only this process needs)

    options = {} if grammar is None else {"jsgf": grammar, "lm": None}
    return Decoder(samprate=SAMPLE_RATE_HZ, loglevel="FATAL", **options)


def _load(grammar: str | None) -> None:
    _decoder(grammar)


def _recognize(grammar: str | None, sound: bytes) -> str:
    decoder = _decoder(grammar)
    decoder.start_utt()
    try:
        decoder.process_raw(sound, no_search=False, full_utt=True)
    finally:
        decoder.end_utt()
    hypothesis = decoder.hyp()
    return "" if hypothesis is None else str(hypothesis.hypstr)
