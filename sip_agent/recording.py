"""Stereo recordings of calls (left caller, right agent), written off the event loop by one thread.

The thread itself takes the sound from each call, twice a second; its event loop has no part in it. A recording
that fails never ends its call: what went wrong stands in the record.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import structlog

from media.wav import StereoRecorder, look_into, partial_path, repair_partial
from sip_agent.audio import PortCounters
from sip_agent.record import format_timestamp

log = structlog.get_logger()

WRITE_INTERVAL_S = 0.5
"""A call keeps two seconds of its sound: that is how long a disk may take for all recordings."""

LOOK_INTERVAL_S = 0.1
"""How often the thread looks which calls are due: not all are written at once."""

TOO_SLOW = "the disk is too slow: the recording ends early"
STOPPED = "the agent stops: the recording ends early"
CUT_OFF = "the agent died during the call: the recording ends early"


class Sound(Protocol):
    """What is recorded: a `CallAudio`. Its methods are called on the writing thread."""

    @property
    def opened_at(self) -> datetime:
        """When the sound began."""

    def read_capture(self) -> bytes:
        """See `AudioPort`."""

    def counters(self) -> PortCounters:
        """See `AudioPort`."""


class Recording:
    """The recording of one call."""

    def __init__(self, writer: "RecordingWriter", path: Path, sound: Sound, sample_rate_hz: int) -> None:
        self._writer = writer
        self._path = path
        self._sound = sound
        self._sample_rate_hz = sample_rate_hz
        self._recorder: StereoRecorder | None = None
        self._error: str | None = None
        self.due_s = 0.0

    async def close(self) -> dict[str, Any] | None:
        """Complete the file and return what the record says of it; None if no sound ever came."""
        loop = asyncio.get_running_loop()
        closed: asyncio.Future[dict[str, Any] | None] = loop.create_future()

        def settle(result: dict[str, Any] | None) -> None:
            if not closed.done():  # whoever waited may have been cancelled
                closed.set_result(result)

        def finish() -> None:
            result = self._finish()
            loop.call_soon_threadsafe(settle, result)

        if self._writer.finish(self, finish):
            return await closed
        self._error = self._error or STOPPED
        return self._describe()

    def collect(self) -> None:
        """Write what was said since the last time; on the writing thread."""
        if self._error is not None:
            return
        try:
            block = self._sound.read_capture()
            if not block:
                return
            if self._recorder is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._recorder = StereoRecorder(self._path, self._sample_rate_hz)
            self._recorder.write(block)
            # Only a call whose memory was full can have lost sound; what follows would stand too early.
            if len(block) > 4 * self._sample_rate_hz and self._sound.counters().capture_overruns:
                self._fail(TOO_SLOW)
        except Exception as error:  # noqa: BLE001  (whatever it is, the record says it, and the call goes on)
            self._fail(str(error) or type(error).__name__)

    def end_early(self) -> None:
        """Complete the file of a call that has not ended; on the writing thread."""
        self.collect()
        if self._error is None:
            self._fail(STOPPED)
        self._finish()

    def _finish(self) -> dict[str, Any] | None:
        self.collect()
        if self._recorder is not None:
            try:
                self._recorder.close()
            except Exception as error:  # noqa: BLE001  (whatever it is, the record says it, and the call goes on)
                self._fail(str(error) or type(error).__name__)
        elif self._error is None:
            return None
        return self._describe()

    def _describe(self) -> dict[str, Any]:
        return _description(
            self._path,
            error=self._error,
            started_at=self._sound.opened_at,
            duration_ms=self._recorder.duration_ms if self._recorder is not None else 0,
            sample_rate_hz=self._sample_rate_hz,
        )

    def _fail(self, error: str) -> None:
        self._error = error
        log.warning("recording.failed", path=str(self._path), error=error)


class RecordingWriter:
    """The thread that writes all recordings; the methods are for the event loop."""

    def __init__(self, directory: Path, sample_rate_hz: int) -> None:
        self._directory = directory
        self._sample_rate_hz = sample_rate_hz
        self._recordings: list[Recording] = []
        self._finishing: list[Callable[[], None]] = []
        self._stopped = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
        self._thread.start()

    def open(self, call_uuid: str, sound: Sound) -> Recording:
        """Begin the recording of a call, in a folder per day; its first sound makes the file."""
        return self.open_file(_path(self._directory, sound.opened_at, call_uuid), sound)

    def open_file(self, path: Path, sound: Sound) -> Recording:
        """Begin a recording in a file of one's own choice."""
        recording = Recording(self, path, sound, self._sample_rate_hz)
        with self._lock:
            self._recordings.append(recording)
        return recording

    def finish(self, recording: Recording, finish: Callable[[], None]) -> bool:
        """Have `finish` called on the thread as the last of a recording; False if the thread has stopped."""
        with self._lock:
            if self._stopped:
                return False
            self._recordings.remove(recording)
            self._finishing.append(finish)
        self._wake.set()
        return True

    async def stop(self) -> None:
        """Complete all recordings, also those of calls that go on, and end the thread."""
        with self._lock:
            self._stopped = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, 5.0)

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait(LOOK_INTERVAL_S)
            self._wake.clear()
            self._look()
        self._look()
        for recording in self._recordings:
            recording.end_early()

    def _look(self) -> None:
        with self._lock:
            finishing, self._finishing = self._finishing, []
            recordings = tuple(self._recordings)
        for finish in finishing:
            finish()
        now = time.monotonic()
        for recording in recordings:
            if recording.due_s <= now:
                recording.due_s = now + WRITE_INTERVAL_S
                recording.collect()


def find_cut_off(directory: Path, call_uuid: str, received_at: datetime) -> dict[str, Any] | None:
    """Return what the record says of the recording of a call during which the agent died; None if it left none.

    Its file gets its name by `mend`; until then it says when the agent was last alive.
    """
    for day in (received_at, received_at + timedelta(days=1)):  # what comes before midnight may be answered after it
        path = _path(directory, day, call_uuid)
        # It is complete where the agent died while the call was being measured.
        for file, error in ((partial_path(path), CUT_OFF), (path, None)):
            try:
                sound = look_into(file)
            except FileNotFoundError:
                continue
            except OSError as problem:
                log.warning("recording.unreadable", path=str(file), error=str(problem))
                continue
            return _description(
                path,
                error=error,
                started_at=sound.written_at - timedelta(milliseconds=sound.duration_ms),
                duration_ms=sound.duration_ms,
                sample_rate_hz=sound.sample_rate_hz,
            )
    return None


def mend(path: str) -> None:
    """Complete the file of a recording that was cut off, unless that has been done; waits for the disk."""
    try:
        repair_partial(partial_path(path))
    except OSError as error:
        log.warning("recording.not_mended", path=path, error=str(error))


def _path(directory: Path, opened_at: datetime, call_uuid: str) -> Path:
    return directory / opened_at.strftime("%Y-%m-%d") / f"{call_uuid}.wav"


def _description(
    path: Path, *, error: str | None, started_at: datetime, duration_ms: int, sample_rate_hz: int
) -> dict[str, Any]:
    return {
        "path": str(path),
        "state": "failed" if error else "ok",
        "error": error,
        "started_at": format_timestamp(started_at),
        "duration_ms": duration_ms,
        "sample_rate_hz": sample_rate_hz,
        "channels": ["caller", "agent"],
    }
