"""Stereo recordings of calls (left caller, right agent), written off the event loop by one thread.

A recording that fails never ends its call: what went wrong stands in the record.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from media.wav import StereoRecorder
from sip_agent.record import format_timestamp

log = structlog.get_logger()

BACKLOG_BYTES_MAX = 16 * 1024 * 1024
"""Sound that may wait for a slow disk, over all calls; beyond it, recordings fail rather than memory."""


WRITE_INTERVAL_S = 0.25
"""Waking the thread for each block would cost the event loop more than the block does."""

TOO_SLOW = "the disk is too slow: the recording ends early"


class Recording:
    """The recording of one call; all methods are for the event loop."""

    def __init__(self, writer: "RecordingWriter", path: Path, sample_rate_hz: int, started_at: datetime) -> None:
        self._writer = writer
        self._path = path
        self._started_at = started_at
        self._sample_rate_hz = sample_rate_hz
        self._recorder: StereoRecorder | None = None
        self._error: str | None = None
        self._cut_off = False

    def write(self, block: bytes) -> None:
        """Add a block of (caller, agent) sound: int16, interleaved."""
        if self._cut_off or self._writer.submit(lambda: self._append(block), len(block)):
            return
        # What was taken before is still written; what follows would leave a hole.
        self._cut_off = True
        log.warning("recording.failed", path=str(self._path), error=TOO_SLOW)

    async def close(self) -> dict[str, Any] | None:
        """Complete the file and return what the record says of it; None if no sound ever came."""
        loop = asyncio.get_running_loop()
        closed = loop.create_future()

        def finish() -> None:
            result = self._close()
            loop.call_soon_threadsafe(closed.set_result, result)

        if not self._writer.submit(finish, 0):
            return self._describe(0)
        result: dict[str, Any] | None = await closed
        return result

    def _append(self, block: bytes) -> None:
        if self._error is not None:
            return
        try:
            if self._recorder is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._recorder = StereoRecorder(self._path, self._sample_rate_hz)
            self._recorder.write(block)
        except Exception as error:  # noqa: BLE001  (whatever it is, the record says it, and the call goes on)
            self._fail(error)

    def _close(self) -> dict[str, Any] | None:
        duration_ms = 0
        if self._recorder is not None:
            duration_ms = self._recorder.duration_ms
            try:
                self._recorder.close()
            except Exception as error:  # noqa: BLE001  (whatever it is, the record says it, and the call goes on)
                self._fail(error)
        elif self._error is None:
            return None
        return self._describe(duration_ms)

    def _describe(self, duration_ms: int) -> dict[str, Any]:
        error = self._error or (TOO_SLOW if self._cut_off else None)
        return {
            "path": str(self._path),
            "state": "failed" if error else "ok",
            "error": error,
            "started_at": format_timestamp(self._started_at),
            "duration_ms": duration_ms,
            "sample_rate_hz": self._sample_rate_hz,
            "channels": ["caller", "agent"],
        }

    def _fail(self, error: Exception) -> None:
        self._error = str(error) or type(error).__name__
        log.warning("recording.failed", path=str(self._path), error=self._error)


class RecordingWriter:
    """The thread that writes all recordings, several times a second."""

    def __init__(self, directory: Path, sample_rate_hz: int) -> None:
        self._directory = directory
        self._sample_rate_hz = sample_rate_hz
        self._jobs: deque[tuple[Callable[[], None], int]] = deque()
        self._backlog_bytes = 0
        self._stopped = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
        self._thread.start()

    def open(self, call_uuid: str, started_at: datetime) -> Recording:
        """Begin the recording of sound that opened at `started_at`, in a folder per day; its first block makes it."""
        return self.open_file(self._directory / started_at.strftime("%Y-%m-%d") / f"{call_uuid}.wav", started_at)

    def open_file(self, path: Path, started_at: datetime) -> Recording:
        """Begin a recording in a file of one's own choice."""
        return Recording(self, path, self._sample_rate_hz, started_at)

    def submit(self, job: Callable[[], None], size: int) -> bool:
        """Have `job` run on the writing thread, unless it has stopped or too many bytes wait already.

        A job with sound, of `size` bytes, waits for the next look at the queue; one without runs at once.
        """
        with self._lock:
            if self._stopped or (size and self._backlog_bytes + size > BACKLOG_BYTES_MAX):
                return False
            self._backlog_bytes += size
            self._jobs.append((job, size))
        if not size:
            self._wake.set()
        return True

    async def stop(self) -> None:
        """Write what waits and end the thread."""
        with self._lock:
            self._stopped = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, 5.0)

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(WRITE_INTERVAL_S)
            self._wake.clear()
            self._run_jobs()
        self._run_jobs()

    def _run_jobs(self) -> None:
        while self._jobs:
            job, size = self._jobs.popleft()
            try:
                job()
            except Exception:
                log.exception("recording.job_failed")
            with self._lock:
                self._backlog_bytes -= size
