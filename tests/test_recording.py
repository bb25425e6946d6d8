"""Recordings: written off the event loop, complete or named as failed, and never in the way of a call."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from structlog.testing import capture_logs

from media.wav import StereoRecorder
from sip_agent.audio import PortCounters
from sip_agent.recording import CUT_OFF, STOPPED, TOO_SLOW, RecordingWriter, find_cut_off, mend

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
RATE_HZ = 8000


def block(frames: int = 10, caller: int = 1, agent: int = 2) -> bytes:
    """Return a block of (caller, agent) sound."""
    return np.tile(np.array([caller, agent], np.int16), frames * 160).tobytes()


class Spoken:
    """The sound of a call: blocks that the recording takes."""

    opened_at = NOON

    def __init__(self, *blocks: bytes) -> None:
        self.blocks = list(blocks)
        self.capture_overruns = 0

    def read_capture(self) -> bytes:
        """Take all that was said."""
        blocks, self.blocks = self.blocks, []
        return b"".join(blocks)

    def counters(self) -> PortCounters:
        """Tell what did not find room."""
        return PortCounters(capture_overruns=self.capture_overruns)

    async def until_taken(self) -> None:
        """Wait until the recording has taken all."""
        await until(lambda: not self.blocks)


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[RecordingWriter]:
    """Start the writing thread."""
    writer = RecordingWriter(tmp_path / "recordings", RATE_HZ)
    yield writer
    await writer.stop()


async def test_stereo(writer: RecordingWriter, tmp_path: Path) -> None:
    """A recording lies in a folder of its day, left caller, right agent, and says what it is."""
    spoken = Spoken(block())
    recording = writer.open("uuid", spoken)
    await spoken.until_taken()
    spoken.blocks.append(block(5, 3, 4))
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
    spoken = Spoken(block())
    recording = writer.open_file(tmp_path / "call.wav", spoken)
    await until((tmp_path / "call.wav.part").exists)
    during = names(tmp_path)
    await recording.close()

    assert ["call.wav.part"] == during
    assert ["call.wav"] == names(tmp_path)


async def test_without_sound(writer: RecordingWriter, tmp_path: Path) -> None:
    """A call without sound has no recording, and no file is named that does not exist."""
    assert None is await writer.open("uuid", Spoken()).close()
    assert [] == names(tmp_path)


async def test_several_at_once(writer: RecordingWriter, tmp_path: Path) -> None:
    """Recordings that grow at the same time do not mix."""
    calls = [Spoken() for _ in range(5)]
    recordings = [writer.open_file(tmp_path / f"{number}.wav", spoken) for number, spoken in enumerate(calls)]
    for _ in range(3):
        for number, spoken in enumerate(calls):
            spoken.blocks.append(block(2, number, number))
        await asyncio.gather(*(spoken.until_taken() for spoken in calls))
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
        spoken = Spoken(block())
        recording = writer.open("uuid", spoken)
        await spoken.until_taken()
        spoken.blocks.append(block())
        described = await recording.close()
        await writer.stop()

        assert described is not None
        assert ("failed", 0) == (described["state"], described["duration_ms"])
        assert "file" in described["error"]

    async def test_file_is_removed(self, writer: RecordingWriter, tmp_path: Path) -> None:
        """A recording whose file goes away fails by name."""
        spoken = Spoken(block(50))
        recording = writer.open_file(tmp_path / "call.wav", spoken)
        await until((tmp_path / "call.wav.part").exists)
        (tmp_path / "call.wav.part").unlink()
        spoken.blocks.append(block(50))
        described = await recording.close()

        assert described is not None
        assert "failed" == described["state"]
        assert "removed" in described["error"]

    async def test_part_file_is_taken(self, writer: RecordingWriter, tmp_path: Path) -> None:
        """What another recording writes is left alone."""
        (tmp_path / "call.wav.part").write_text("mine")
        described = await writer.open_file(tmp_path / "call.wav", Spoken(block())).close()

        assert described is not None
        assert "failed" == described["state"]
        assert "mine" == (tmp_path / "call.wav.part").read_text()

    async def test_half_a_sample(self, writer: RecordingWriter, tmp_path: Path) -> None:
        """Whatever the writing raises is named, and the call is not kept waiting for its end."""
        described = await writer.open_file(tmp_path / "call.wav", Spoken(b"odd")).close()

        assert described is not None
        assert "failed" == described["state"]

    async def test_one_failure_is_one(self, writer: RecordingWriter, tmp_path: Path) -> None:
        """A recording that fails takes no other with it."""
        bad = writer.open_file(tmp_path / "bad.wav", Spoken(b"odd"))
        good = writer.open_file(tmp_path / "good.wav", Spoken(block()))
        results = await asyncio.gather(bad.close(), good.close())

        assert ["failed", "ok"] == [result and result["state"] for result in results]

    async def test_slow_disk(self, writer: RecordingWriter, tmp_path: Path) -> None:
        """A recording whose sound was not taken in time ends before the hole; what was taken is kept."""
        spoken = Spoken(block())
        recording = writer.open_file(tmp_path / "slow.wav", spoken)
        await spoken.until_taken()
        spoken.capture_overruns = 1
        spoken.blocks.append(block(100))
        await spoken.until_taken()
        spoken.blocks.append(block())
        described = await recording.close()

        assert described is not None
        assert ("failed", TOO_SLOW) == (described["state"], described["error"])
        assert 2200 == described["duration_ms"]

    async def test_counters_that_cannot_be_read(self, writer: RecordingWriter, tmp_path: Path) -> None:
        """Nothing that goes wrong with one recording ends the thread that writes all of them."""

        class Broken(Spoken):
            def counters(self) -> PortCounters:
                raise LookupError("no such port")

        broken = writer.open_file(tmp_path / "broken.wav", Broken(block(100)))
        sound = writer.open_file(tmp_path / "sound.wav", Spoken(block()))
        results = [await recording.close() for recording in (broken, sound)]

        assert [("failed", "no such port"), ("ok", None)] == [
            result and (result["state"], result["error"]) for result in results
        ]

    async def test_after_the_end(self, tmp_path: Path) -> None:
        """When the agent stops, the recordings of calls that go on are complete until then, and say so."""
        writer = RecordingWriter(tmp_path, RATE_HZ)
        recording = writer.open_file(tmp_path / "call.wav", Spoken(block()))
        await writer.stop()
        described = await asyncio.wait_for(recording.close(), 5)

        assert described is not None
        assert ("failed", STOPPED, 200) == (described["state"], described["error"], described["duration_ms"])
        assert 1600 == soundfile.info(tmp_path / "call.wav").frames


async def test_nobody_waits_for_its_end(tmp_path: Path) -> None:
    """A recording is completed though whoever closed it was cancelled, and nothing is amiss."""
    troubles: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    writer = RecordingWriter(tmp_path, RATE_HZ)
    closing = asyncio.create_task(writer.open_file(tmp_path / "call.wav", Spoken(block())).close())
    await asyncio.sleep(0)
    closing.cancel()
    await writer.stop()
    await asyncio.sleep(0)

    assert [] == troubles
    assert 1600 == soundfile.info(tmp_path / "call.wav").frames


async def test_stop_writes_what_waits(tmp_path: Path) -> None:
    """Stopping waits until every block is on the disk."""
    writer = RecordingWriter(tmp_path, RATE_HZ)
    recording = writer.open_file(tmp_path / "call.wav", Spoken(*[block()] * 20))
    closing = asyncio.create_task(recording.close())
    await asyncio.sleep(0)
    await writer.stop()
    described = await closing

    assert described is not None
    assert ("ok", 4000) == (described["state"], described["duration_ms"])


class TestAfterDeath:
    """What becomes of the recordings of an agent that died."""

    def test_cut_off(self, tmp_path: Path) -> None:
        """A recording that was not completed is found, says until when it goes, and is mended."""
        part = leave(tmp_path / "2026-11-21" / "uuid.wav.part", block(50))
        found = find_cut_off(tmp_path, "uuid", NOON)
        mend(str(part.with_suffix("")))

        assert {
            "path": str(tmp_path / "2026-11-21" / "uuid.wav"),
            "state": "failed",
            "error": CUT_OFF,
            "started_at": "2026-11-21T12:00:09.000Z",
            "duration_ms": 1000,
            "sample_rate_hz": RATE_HZ,
            "channels": ["caller", "agent"],
        } == found
        assert ["uuid.wav"] == names(part.parent)
        assert 8000 == soundfile.info(part.with_suffix("")).frames

    def test_answered_after_midnight(self, tmp_path: Path) -> None:
        """The recording of a call that rang over midnight lies in the folder of the next day."""
        leave(tmp_path / "2026-11-22" / "uuid.wav.part", block())

        assert find_cut_off(tmp_path, "uuid", NOON) is not None

    def test_complete(self, tmp_path: Path) -> None:
        """Where the agent died between the end of a recording and that of its record, the recording is whole."""
        leave(tmp_path / "2026-11-21" / "uuid.wav", block())
        found = find_cut_off(tmp_path, "uuid", NOON)

        assert found is not None
        assert ("ok", None, 200) == (found["state"], found["error"], found["duration_ms"])

    def test_without_sound(self, tmp_path: Path) -> None:
        """A recording that had just begun tells when that was, and no empty file is left."""
        part = leave(tmp_path / "2026-11-21" / "uuid.wav.part", b"")
        found = find_cut_off(tmp_path, "uuid", NOON)
        mend(str(part.with_suffix("")))

        assert found is not None
        assert ("failed", "2026-11-21T12:00:10.000Z", 0) == (found["state"], found["started_at"], found["duration_ms"])
        assert [] == names(part.parent)

    @pytest.mark.parametrize("content", [b"", b"x" * 100])
    def test_no_recording(self, tmp_path: Path, content: bytes) -> None:
        """What is no recording is left alone, and keeps no agent from starting."""
        part = tmp_path / "2026-11-21" / "uuid.wav.part"
        part.parent.mkdir()
        part.write_bytes(content)
        with capture_logs() as logs:
            assert None is find_cut_off(tmp_path, "uuid", NOON)

        assert ["recording.unreadable"] == [entry["event"] for entry in logs]
        assert [part.name] == names(part.parent)

    def test_nothing_left(self, tmp_path: Path) -> None:
        """A call that was not recorded has nothing to find, and what was mended needs no mending."""
        with capture_logs() as logs:
            assert None is find_cut_off(tmp_path / "gone", "uuid", NOON)
            mend(str(tmp_path / "gone" / "uuid.wav"))

        assert [] == logs

    def test_cannot_be_mended(self, tmp_path: Path) -> None:
        """A file that cannot be completed stays for the next start, and the log says why."""
        (tmp_path / "call.wav.part").write_bytes(b"x" * 100)
        with capture_logs() as logs:
            mend(str(tmp_path / "call.wav"))

        assert ["recording.not_mended"] == [entry["event"] for entry in logs]
        assert ["call.wav.part"] == names(tmp_path)


def leave(path: Path, sound: bytes) -> Path:
    """Write what a recording has on the disk when its agent dies, ten seconds after noon."""
    path.parent.mkdir()
    recorder = StereoRecorder(path.with_name("uuid.wav"), RATE_HZ)
    recorder.write(sound)
    recorder.close()
    (path.parent / "uuid.wav").rename(path)
    os.utime(path, (NOON.timestamp() + 10,) * 2)
    return path


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the writing thread has brought something about."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  (a thread knows no event of the loop's)
            await asyncio.sleep(0.01)


def names(folder: Path) -> list[str]:
    """Return the names of what is in a folder."""
    return sorted(path.name for path in folder.iterdir())
