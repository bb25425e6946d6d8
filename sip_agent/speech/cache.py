"""Synthesised sound kept on disk: what was said once is not made again, nor paid for again."""

import asyncio
import hashlib
import os
import struct
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import structlog

from media.frames import Samples

log = structlog.get_logger()

_SUFFIX = ".speech"
_HEADER = struct.Struct("<8sI")
_MAGIC = b"speech1\n"
_FULL_AFTER_EVICTION = 0.9
"""Making room for more than one entry saves looking through the folder for each."""


class SoundCache:
    """A folder of sounds by their key, of `max_bytes` at most: those unused for longest are removed.

    An entry is a file with a checksum. One that is damaged counts as missing, and is written anew. A folder that
    cannot be written is reported once, and no call suffers from it. Several processes may share a folder.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._bytes: int | None = None
        self._warned = False
        self._worker = ThreadPoolExecutor(1, "speech-cache")

    async def load(self, key: str) -> Samples | None:
        """Return the sound that was stored under `key` (int16 mono, read-only), or None."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._load, self._path(key))

    async def store(self, key: str, samples: Samples) -> None:
        """Keep a sound (int16 mono), unless it is larger than the cache."""
        await asyncio.get_running_loop().run_in_executor(self._worker, self._store, self._path(key), samples)

    def close(self) -> None:
        """End the thread once what was stored is written."""
        self._worker.shutdown()

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}{_SUFFIX}"

    def _load(self, path: Path) -> Samples | None:
        try:
            data = path.read_bytes()
            magic, checksum = _HEADER.unpack_from(data)
            sound = memoryview(data)[_HEADER.size :]
            if magic != _MAGIC or zlib.crc32(sound) != checksum:
                return None
            os.utime(path)
        except (OSError, struct.error):
            return None
        return np.frombuffer(sound, dtype="<i2")

    def _store(self, path: Path, samples: Samples) -> None:
        sound = samples.astype("<i2", copy=False).tobytes()
        size = _HEADER.size + len(sound)
        if size > self._max_bytes:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._bytes is None or self._bytes + size > self._max_bytes:
                self._bytes = self._make_room(size)
            _write(path, _HEADER.pack(_MAGIC, zlib.crc32(sound)) + sound)
            self._bytes += size
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning(
                    "speech.cache_unusable", error=str(error), hint="correct speech.cache_dir, or set cache_mb = 0"
                )

    def _make_room(self, size: int) -> int:
        """Remove what was unused for longest, where room is short, and return how many bytes stay."""
        entries = []
        for path in self._folder.glob(f"*{_SUFFIX}*"):
            with suppress(FileNotFoundError):  # another process was quicker
                stat = path.stat()
                entries.append((stat.st_mtime_ns, stat.st_size, path))
        used = sum(entry_size for _, entry_size, _ in entries)
        if used + size > self._max_bytes:
            for _, entry_size, path in sorted(entries):
                if used + size <= self._max_bytes * _FULL_AFTER_EVICTION:
                    break
                path.unlink(missing_ok=True)
                used -= entry_size
        return used


def _write(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever reads a part of it."""
    handle, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
