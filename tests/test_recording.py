"""Recordings: written off the event loop, complete or named as failed, and never in the way of a call."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sip_agent import recording as recording_module
from sip_agent.recording import TOO_SLOW, RecordingWriter

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
RATE_HZ = 8000


def block(frames: int = 10, caller: int = 1, agent: int = 2) -> bytes:
    """Return a block of (caller, agent) sound."""
    return np.tile(np.array([caller, agent], np.int16), frames * 160).tobytes()


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[RecordingWriter]:
    """Start the writing thread."""
    writer = RecordingWriter(tmp_path / "recordings", RATE_HZ)
    yield writer
    await writer.stop()


async def test_stereo(writer: RecordingWriter, tmp_path: Path) -> None:
    """A recording lies in a folder of its day, left caller, right agent, and says what it is."""
    recording = writer.open("uuid", NOON)
    recording.write(block())
    recording.write(block(5, 3, 4))
    described = await recording.close()
    path = tmp_path / "recordings" / "2026-11-21" / "uuid.wav"
    sound, rate_hz = soundfile.read(path, dtype="int16")

    assert {
        "path": str(path),
        "state": "ok",
        "error": None,
        "started_at": "2026-11-21T12:00:00.000Z",
        "duration_ms": 300,
        "sample_rate_hz": RATE_HZ,
        "channels": ["caller", "agent"],
    } == described
    assert RATE_HZ == rate_hz
    np.testing.assert_array_equal(np.repeat([[1, 2], [3, 4]], [1600, 800], axis=0), sound)
    assert [path] == list(path.parent.iterdir())


async def test_part_until_it_is_whole(writer: RecordingWriter, tmp_path: Path) -> None:
    """While a call goes on its recording is a `.part` file."""
    recording = writer.open_file(tmp_path / "call.wav", NOON)
    recording.write(block())
    await flushed(writer)
    during = names(tmp_path)
    await recording.close()

    assert ["call.wav.part"] == during
    assert ["call.wav"] == names(tmp_path)


async def test_without_sound(writer: RecordingWriter, tmp_path: Path) -> None:
    """A call without sound has no recording, and no file is named that does not exist."""
    assert None is await writer.open("uuid", NOON).close()
    assert [] == names(tmp_path)


async def test_several_at_once(writer: RecordingWriter, tmp_path: Path) -> None:
    """Recordings that grow at the same time do not mix."""
    recordings = [writer.open_file(tmp_path / f"{n}.wav", NOON) for n in range(5)]
    for _ in range(4):
        for number, recording in enumerate(recordings):
            recording.write(block(2, number, number))
    await asyncio.gather(*(recording.close() for recording in recordings))

    assert [{number} for number in range(5)] == [
        set(soundfile.read(tmp_path / f"{number}.wav", dtype="int16")[0].ravel().tolist()) for number in range(5)
    ]


class TestFailures:
    """What can go wrong stands in the record."""

    async def test_folder_cannot_be_made(self, tmp_path: Path) -> None:
        """Where no folder can be, the recording fails by name, and blocks that follow do no harm."""
        (tmp_path / "file").write_text("")
        writer = RecordingWriter(tmp_path / "file", RATE_HZ)
        recording = writer.open("uuid", NOON)
        for _ in range(3):
            recording.write(block())
        described = await recording.close()
        await writer.stop()

        assert described is not None
        assert ("failed", 0) == (described["state"], described["duration_ms"])
        assert "file" in described["error"]

    async def test_file_is_removed(self, writer: RecordingWriter, tmp_path: Path) -> None:
        """A recording whose file goes away fails by name."""
        recording = writer.open_file(tmp_path / "call.wav", NOON)
        recording.write(block(50))
        await flushed(writer)
        (tmp_path / "call.wav.part").unlink()
        recording.write(block(50))
        described = await recording.close()

        assert described is not None
        assert "failed" == described["state"]
        assert "removed" in described["error"]

    async def test_part_file_is_taken(self, writer: RecordingWriter, tmp_path: Path) -> None:
        """What another recording writes is left alone."""
        (tmp_path / "call.wav.part").write_text("mine")
        recording = writer.open_file(tmp_path / "call.wav", NOON)
        recording.write(block())
        described = await recording.close()

        assert described is not None
        assert "failed" == described["state"]
        assert "mine" == (tmp_path / "call.wav.part").read_text()

    async def test_half_a_sample(self, writer: RecordingWriter, tmp_path: Path) -> None:
        """Whatever the writing raises is named, and the call is not kept waiting for its end."""
        recording = writer.open_file(tmp_path / "call.wav", NOON)
        recording.write(b"odd")
        described = await recording.close()

        assert described is not None
        assert "failed" == described["state"]

    async def test_one_failure_is_one(self, writer: RecordingWriter, tmp_path: Path) -> None:
        """A recording that fails takes no other with it."""
        bad, good = (writer.open_file(tmp_path / f"{name}.wav", NOON) for name in ("bad", "good"))
        bad.write(b"odd")
        good.write(block())
        results = await asyncio.gather(bad.close(), good.close())

        assert ["failed", "ok"] == [result and result["state"] for result in results]

    async def test_slow_disk(self, writer: RecordingWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beyond the backlog a recording ends early rather than take memory; what was taken is kept, others go on."""
        monkeypatch.setattr(recording_module, "BACKLOG_BYTES_MAX", 2 * len(block()))
        disk = threading.Event()

        def wait() -> None:
            disk.wait(10)

        writer.submit(wait, 0)
        slow = writer.open_file(tmp_path / "slow.wav", NOON)
        for _ in range(5):
            slow.write(block())
        disk.set()
        described = await slow.close()
        later = writer.open_file(tmp_path / "later.wav", NOON)
        later.write(block())

        assert described is not None
        assert ("failed", TOO_SLOW) == (described["state"], described["error"])
        assert 0 < described["duration_ms"]
        assert "ok" == (await later.close() or {})["state"]

    async def test_after_the_end(self, tmp_path: Path) -> None:
        """When the agent has stopped writing, a call that still ends is not kept waiting."""
        writer = RecordingWriter(tmp_path, RATE_HZ)
        recording = writer.open_file(tmp_path / "call.wav", NOON)
        await writer.stop()
        recording.write(block())

        assert "failed" == (await asyncio.wait_for(recording.close(), 5) or {})["state"]

    async def test_broken_job(self, writer: RecordingWriter, tmp_path: Path) -> None:
        """The thread outlives whatever a job does."""

        def fail() -> None:
            raise ZeroDivisionError

        writer.submit(fail, 0)
        recording = writer.open_file(tmp_path / "call.wav", NOON)
        recording.write(block())

        assert "ok" == (await recording.close() or {})["state"]


async def test_stop_writes_what_waits(tmp_path: Path) -> None:
    """Stopping waits until every block is on the disk."""
    writer = RecordingWriter(tmp_path, RATE_HZ)
    recording = writer.open_file(tmp_path / "call.wav", NOON)
    for _ in range(20):
        recording.write(block())
    closing = asyncio.create_task(recording.close())
    await asyncio.sleep(0)
    await writer.stop()
    described = await closing

    assert described is not None
    assert ("ok", 4000) == (described["state"], described["duration_ms"])


async def flushed(writer: RecordingWriter) -> None:
    """Wait until the thread has done what it was given so far."""
    done = threading.Event()
    writer.submit(done.set, 0)
    await asyncio.to_thread(done.wait, 10)


def names(folder: Path) -> list[str]:
    """Return the names of what is in a folder."""
    return sorted(path.name for path in folder.iterdir())
