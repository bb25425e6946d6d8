"""The sound of one call: back-pressure, playback, received frames, capture."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from media.frames import Samples
from media.wav import AudioFileError
from sip_agent.audio import QUEUE_FRAMES_MAX, RECEIVED_FRAMES_MAX, CallAudio, Playback
from sip_agent.errors import CallEnded
from sip_agent.testing import FakeCall, FakePort

RATE_HZ = 8000
FRAME = 160


def ramp(frames: float, start: int = 1) -> Samples:
    """Return sound in which every sample is another one, so that nothing can be lost, doubled or moved."""
    return np.arange(start, start + round(frames * FRAME), dtype=np.int16)


def constant(frames: int, value: int) -> Samples:
    """Return frames of one value."""
    return np.full(frames * FRAME, value, np.int16)


class Line:
    """A `CallAudio` on a port whose clock the test turns."""

    def __init__(self) -> None:
        self.port = FakePort(RATE_HZ)
        self.audio = CallAudio(self.port)
        self.most_queued = 0

    async def tick(self, ticks: int = 1, said: Samples | None = None) -> Samples:
        """Let the clock tick, and everybody react; return what was sent."""
        heard = []
        await self._settle()
        for _ in range(ticks):
            heard.append(self.port.tick(said))
            self.audio.tick()
            await self._settle()
            self.most_queued = max(self.most_queued, self.port.queued())
        return np.concatenate(heard)

    async def tick_until(self, task: asyncio.Task[object]) -> Samples:
        """Let the clock tick until a task is done; return what was sent."""
        await self._settle()
        heard = [np.empty(0, np.int16)]
        while not task.done():
            heard.append(await self.tick())
        return np.concatenate(heard)

    async def _settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    """Open the sound of a call."""
    line = Line()
    yield line
    line.audio.close()


class TestSlowSource:
    """A playback whose sound is late in coming."""

    async def test_is_stopped_at_once(self, line: Line) -> None:
        """Nobody waits for sound that is not wanted any more, and its source is closed."""
        closed = asyncio.Event()

        async def hangs() -> AsyncGenerator[Samples, None]:
            try:
                yield constant(2, 7)
                await asyncio.get_running_loop().create_future()
            finally:
                closed.set()

        playing = asyncio.create_task(line.audio.play_blocks(hangs()))
        await line.tick(5)
        line.audio.stop()
        await line.tick(2)

        assert closed.is_set()
        assert playing.done()
        assert Playback(played_ms=40, interrupted=True) == await playing

    async def test_ends_with_the_call(self, line: Line) -> None:
        """Nor does anybody wait for it in a call that is over."""

        async def hangs() -> AsyncGenerator[Samples, None]:
            await asyncio.get_running_loop().create_future()
            yield constant(1, 7)

        playing = asyncio.create_task(line.audio.play_blocks(hangs()))
        await line.tick()
        line.audio.close()

        with pytest.raises(CallEnded):
            await playing

    async def test_fails(self, line: Line) -> None:
        """What goes wrong in a source is for who plays it."""

        async def breaks() -> AsyncGenerator[Samples, None]:
            yield constant(1, 7)
            raise AudioFileError("the server was silent")

        playing = asyncio.create_task(line.audio.play_blocks(breaks()))
        await line.tick_until(playing)
        with pytest.raises(AudioFileError, match="the server was silent"):
            await playing


class TestHold:
    """A peer that hears nothing for a while."""

    async def test_sound_waits(self, line: Line) -> None:
        """What is queued is kept until the peer is back, also if a barge-in pauses and resumes it meanwhile."""
        playing = asyncio.create_task(line.audio.play(constant(10, 7)))
        before = await line.tick(4)
        line.audio.hold(on=True)
        line.audio.pause()
        line.audio.resume()
        during = await line.tick(20)
        line.audio.hold(on=False)
        after = await line.tick_until(playing)

        assert [4, 0, 6] == [int(np.count_nonzero(sound)) // FRAME for sound in (before, during, after)]
        assert Playback(played_ms=200, interrupted=False) == await playing
        assert 0 == line.audio.counters().underruns


class TestSend:
    """Sound on its way to the caller."""

    async def test_queues_at_most_half_a_second(self, line: Line) -> None:
        """A handler that sends ten seconds at once is never more than QUEUE_FRAMES_MAX frames ahead."""
        sound = ramp(100)
        task = asyncio.create_task(line.audio.send(sound))
        await asyncio.sleep(0)

        assert QUEUE_FRAMES_MAX == line.port.queued()
        assert not task.done()

        heard = await line.tick(100)

        assert QUEUE_FRAMES_MAX == line.most_queued
        assert task.done()
        np.testing.assert_array_equal(sound, heard)

    async def test_endless_sender_leaves_the_loop_to_others(self, line: Line) -> None:
        """A handler that sends without end waits for the clock, and others get their turns."""

        async def flood() -> None:
            while True:
                await line.audio.send(constant(1, 1))

        task = asyncio.create_task(flood())
        turns = 0
        for _ in range(100):
            await asyncio.sleep(0)
            turns += 1

        assert 100 == turns
        assert QUEUE_FRAMES_MAX == line.port.queued()
        task.cancel()

    async def test_two_senders(self, line: Line) -> None:
        """Two tasks that send share the room, and both get all of their sound out."""
        tasks = [asyncio.create_task(line.audio.send(constant(60, value))) for value in (1, 2)]
        heard = await line.tick(120)

        assert [True, True] == [task.done() for task in tasks]
        assert [60 * FRAME, 60 * FRAME] == [np.count_nonzero(heard == value) for value in (1, 2)]
        assert QUEUE_FRAMES_MAX == line.most_queued

    @given(lengths=st.lists(st.integers(min_value=0, max_value=2 * FRAME), max_size=12))
    @settings(deadline=None)
    def test_any_lengths(self, lengths: list[int]) -> None:
        """Sound cut into pieces of any lengths arrives as one, filled up with less than a frame of silence."""
        sound = np.arange(sum(lengths), dtype=np.int16)

        async def heard() -> Samples:
            line = Line()
            for start, end in pairwise(np.cumsum([0, *lengths])):
                await line.audio.send(sound[start:end])
            task = asyncio.create_task(line.audio.drained())
            sent = await line.tick(QUEUE_FRAMES_MAX)
            await task
            return sent

        filled = np.zeros(QUEUE_FRAMES_MAX * FRAME, np.int16)
        filled[: len(sound)] = sound

        np.testing.assert_array_equal(filled, asyncio.run(heard()))

    async def test_partial_frame_waits_for_its_rest(self, line: Line) -> None:
        """What does not fill a frame is sent with what comes next."""
        sound = ramp(3)
        await line.audio.send(sound[:200])

        assert 1 == line.port.queued()

        await line.audio.send(sound[200:])

        np.testing.assert_array_equal(sound, await line.tick(3))

    async def test_after_the_end(self, line: Line) -> None:
        """Sending when the call is over raises CallEnded."""
        line.audio.close()

        with pytest.raises(CallEnded, match="the call is over"):
            await line.audio.send(constant(1, 1))

    async def test_call_ends_meanwhile(self, line: Line) -> None:
        """Whoever waits for room when the call ends gets CallEnded."""
        task = asyncio.create_task(line.audio.send(constant(100, 1)))
        await line.tick()
        line.audio.close()

        with pytest.raises(CallEnded, match="the call is over"):
            await task

    @pytest.mark.parametrize(
        "samples",
        [np.zeros(160, np.float32), np.zeros((160, 2), np.int16), np.zeros(160, np.uint8)],
        ids=["float", "stereo", "bytes"],
    )
    async def test_not_sound(self, line: Line, samples: Samples) -> None:
        """Anything but mono int16 is refused rather than sent as noise."""
        with pytest.raises(ValueError, match=r"int16 of shape \(n,\), not"):
            await line.audio.send(samples)

    async def test_cancelled_sender_gives_way(self, line: Line) -> None:
        """A sender that is cancelled while it waits does not keep others waiting."""
        first = asyncio.create_task(line.audio.send(constant(100, 1)))
        await asyncio.sleep(0)
        first.cancel()
        second = asyncio.create_task(line.audio.send(constant(10, 2)))
        heard = await line.tick(QUEUE_FRAMES_MAX + 10)

        assert second.done()
        assert 2 == heard[-1]


class TestPlay:
    """Playback of samples and files."""

    async def test_samples(self, line: Line) -> None:
        """Playing returns when the last frame was sent, and says how long that was."""
        sound = ramp(40.5)
        task = asyncio.create_task(line.audio.play(sound))
        heard = await line.tick_until(task)

        assert Playback(played_ms=820, interrupted=False) == task.result()
        np.testing.assert_array_equal(sound, heard[: len(sound)])
        assert not heard[len(sound) :].any()
        assert line.port.finished

    async def test_file(self, tmp_path: Path) -> None:
        """A file of another rate is resampled and plays for as long as it lasts."""
        wave = (8000 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)).astype(np.int16)
        soundfile.write(tmp_path / "tone.wav", wave, 48_000)
        async with FakeCall(sample_rate_hz=RATE_HZ) as caller:
            await caller.call.answer()
            task = asyncio.create_task(caller.call.play(tmp_path / "tone.wav"))
            await caller.until(task.done)

        assert Playback(played_ms=1000, interrupted=False) == task.result()
        assert 0.9 * RATE_HZ < np.count_nonzero(caller.heard) <= RATE_HZ

    async def test_ten_seconds_take_no_time(self, line: Line) -> None:
        """Ten seconds of sound need 500 ticks of the clock and no more."""
        task = asyncio.create_task(line.audio.play(constant(500, 1)))
        heard = await line.tick(500)

        assert 500 * FRAME == np.count_nonzero(heard)
        assert task.done()

    async def test_loop_without_gap(self, line: Line) -> None:
        """Samples that are not whole frames repeat without silence between the rounds."""
        task = asyncio.create_task(line.audio.play(ramp(2.3), loop=True))
        await asyncio.sleep(0)
        heard = await line.tick(50)

        np.testing.assert_array_equal(np.resize(ramp(2.3), 50 * FRAME), heard)
        line.audio.stop()
        await line.tick_until(task)
        assert task.result().interrupted

    async def test_loop_of_nothing(self, line: Line) -> None:
        """Repeating no sound at all ends instead of spinning."""
        assert Playback(played_ms=0, interrupted=False) == await line.audio.play(constant(0, 0), loop=True)

    async def test_missing_file(self, line: Line) -> None:
        """A file that cannot be read is named."""
        with pytest.raises(AudioFileError, match=r"nowhere\.wav"):
            await line.audio.play("nowhere.wav")

    async def test_stop(self, line: Line) -> None:
        """Stopping is silence from the next tick on, and says what was dropped and what was heard."""
        task = asyncio.create_task(line.audio.play(constant(100, 1)))
        await asyncio.sleep(0)
        heard = await line.tick(30)
        dropped_ms = line.audio.stop()
        silence = await line.tick(10)

        assert heard.all()
        assert not silence.any()
        assert QUEUE_FRAMES_MAX * 20 == dropped_ms
        assert Playback(played_ms=600, interrupted=True) == await task
        assert line.port.finished

    async def test_stop_ends_a_long_send(self, line: Line) -> None:
        """What a sender has not queued yet is not sent either after a stop."""
        task = asyncio.create_task(line.audio.send(constant(100, 1)))
        await line.tick(30)
        line.audio.stop()

        assert not (await line.tick(20)).any()
        assert task.done()

    async def test_stop_forgets_a_partial_frame(self, line: Line) -> None:
        """What waits for the rest of its frame is dropped with everything else."""
        await line.audio.send(ramp(0.5))
        line.audio.stop()
        await line.audio.send(constant(1, 7))

        assert (await line.tick() == 7).all()

    async def test_play_again_after_a_stop(self, line: Line) -> None:
        """A stop ends what plays, not what is played after it."""
        line.audio.stop()
        task = asyncio.create_task(line.audio.play(constant(3, 1)))
        await line.tick_until(task)

        assert Playback(played_ms=60, interrupted=False) == task.result()

    async def test_counts_only_itself(self, line: Line) -> None:
        """What was queued before a playback is not part of it."""
        await line.audio.send(constant(20, 1))
        task = asyncio.create_task(line.audio.play(constant(5, 2)))
        await line.tick_until(task)

        assert Playback(played_ms=100, interrupted=False) == task.result()

    async def test_stopped_before_its_turn(self, line: Line) -> None:
        """A playback that is stopped behind other sound has played nothing."""
        await line.audio.send(constant(20, 1))
        task = asyncio.create_task(line.audio.play(constant(5, 2)))
        await asyncio.sleep(0)
        await line.tick(3)
        line.audio.stop()
        await line.tick_until(task)

        assert Playback(played_ms=0, interrupted=True) == task.result()

    async def test_call_ends_meanwhile(self, line: Line) -> None:
        """A playback that the end of the call cuts short raises CallEnded."""
        task = asyncio.create_task(line.audio.play(constant(100, 1)))
        await line.tick()
        line.audio.close()

        with pytest.raises(CallEnded):
            await task

    async def test_call_ends_in_the_last_half_second(self, line: Line) -> None:
        """A playback that is queued, but not heard to its end, raises CallEnded as well."""
        task = asyncio.create_task(line.audio.play(constant(10, 1)))
        await line.tick()
        line.audio.close()

        with pytest.raises(CallEnded, match="not all was sent"):
            await task


class TestFinish:
    """The end of a stretch of sound."""

    async def test_sound_after_it(self, line: Line) -> None:
        """New sound opens a new stretch."""
        await line.audio.drained()
        await line.audio.send(constant(1, 1))

        assert not line.port.finished

    async def test_partial_frame_behind_a_full_queue(self, line: Line) -> None:
        """The last frame is sent however much waits before it."""
        task = asyncio.create_task(line.audio.play(ramp(QUEUE_FRAMES_MAX + 0.5)))
        heard = await line.tick_until(task)

        np.testing.assert_array_equal(ramp(QUEUE_FRAMES_MAX + 0.5), heard[: int((QUEUE_FRAMES_MAX + 0.5) * FRAME)])
        assert line.port.finished

    async def test_drained_sends_a_partial_frame(self, line: Line) -> None:
        """Waiting until all was sent is waiting for the partial frame too."""
        await line.audio.send(ramp(0.5))
        task = asyncio.create_task(line.audio.drained())
        heard = await line.tick_until(task)

        np.testing.assert_array_equal(ramp(0.5), heard[:80])

    async def test_drained_at_once(self, line: Line) -> None:
        """With nothing queued there is nothing to wait for, also after the end."""
        await line.audio.drained()
        line.audio.close()
        await line.audio.drained()

        assert 0 == line.port.queued()


class TestFrames:
    """What the caller says, as a handler receives it."""

    async def test_in_order(self, line: Line) -> None:
        """Every frame comes once, in order, as int16 that cannot be written to."""
        stream = line.audio.frames()
        for value in range(3):
            await line.tick(said=constant(1, value))
        line.audio.close()
        frames = [frame async for frame in stream]

        assert [0, 1, 2] == [int(frame[0]) for frame in frames]
        assert {(np.dtype(np.int16), (FRAME,), False)} == {(f.dtype, f.shape, f.flags.writeable) for f in frames}

    async def test_waits_for_a_frame(self, line: Line) -> None:
        """Whoever iterates waits for the next tick."""
        task = asyncio.ensure_future(anext(line.audio.frames()))
        await asyncio.sleep(0)

        assert not task.done()

        await line.tick(said=constant(1, 5))

        assert 5 == (await task)[0]

    async def test_several_at_once(self, line: Line) -> None:
        """Two streams each get every frame."""
        first, second = line.audio.frames(), line.audio.frames()
        await line.tick(said=constant(1, 5))

        assert [5, 5] == [int((await anext(stream))[0]) for stream in (first, second)]

    async def test_ends_with_the_call(self, line: Line) -> None:
        """The iteration ends with the call, for one who waits and for one who comes late."""
        waiting = asyncio.ensure_future(anext(line.audio.frames(), None))
        await asyncio.sleep(0)
        line.audio.close()

        assert await waiting is None
        assert [] == [frame async for frame in line.audio.frames()]

    async def test_shared_by_two_tasks(self, line: Line) -> None:
        """A second task on one stream is told to take a stream of its own."""
        stream = line.audio.frames()
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)

        with pytest.raises(RuntimeError, match="let each call frames"):
            await anext(stream)
        first.cancel()

    async def test_goes_on_after_a_time_out(self, line: Line) -> None:
        """A wait for a frame that is given up can be taken up again."""
        stream = line.audio.frames()
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        second = asyncio.ensure_future(anext(stream))
        await line.tick(said=constant(1, 5))

        assert 5 == (await second)[0]

    async def test_given_up_as_the_frame_came(self, line: Line) -> None:
        """A frame that came just before the wait was given up is there for the next one."""
        stream = line.audio.frames()
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        stream.push(constant(1, 5))
        first.cancel()
        await asyncio.wait([first])

        assert first.cancelled()
        assert 5 == (await anext(stream))[0]

    async def test_overflow(self, line: Line) -> None:
        """A handler that does not take its frames loses the oldest ones, and they are counted."""
        stream = line.audio.frames()
        for value in range(RECEIVED_FRAMES_MAX + 10):
            await line.tick(said=constant(1, value))
        line.audio.close()
        frames = [int(frame[0]) async for frame in stream]

        assert list(range(10, RECEIVED_FRAMES_MAX + 10)) == frames
        assert 10 == line.audio.late_frames()

    async def test_left_behind(self, line: Line) -> None:
        """A stream that nobody holds any longer is not fed, and nothing of it counts as late."""
        stream = line.audio.frames()
        await line.tick(said=constant(1, 1))
        async for _ in stream:
            break
        del stream
        gc.collect()
        await line.tick(RECEIVED_FRAMES_MAX + 10)

        assert 0 == line.audio.late_frames()

    async def test_late_loop(self, line: Line) -> None:
        """Frames that waited in the engine for more than 60 ms are late, and still arrive."""
        stream = line.audio.frames()
        for _ in range(10):
            line.port.tick(constant(1, 3))
        line.audio.tick()
        line.audio.close()

        assert 10 == len([frame async for frame in stream])
        assert 7 == line.audio.late_frames()


class TestFirstSound:
    """When sound was first heard and sent."""

    async def test_silence_is_no_sound(self, line: Line) -> None:
        """Digital silence of the caller and of an agent that sends nothing leaves both open."""
        await line.tick(5)

        assert (None, None) == (line.audio.first_heard_at, line.audio.first_sent_at)

    async def test_noted_once(self, line: Line) -> None:
        """The first sound either way is noted, and later sound does not move it."""
        await line.audio.send(constant(10, 1))
        await line.tick(said=constant(1, 1))
        first = line.audio.first_heard_at, line.audio.first_sent_at
        await line.tick(3, said=constant(1, 1))

        assert None not in first
        assert first == (line.audio.first_heard_at, line.audio.first_sent_at)


class TestCapture:
    """The sound for the recording."""

    async def test_left_caller_right_agent(self, line: Line) -> None:
        """Both sides of every tick stand side by side, and are taken once."""
        await line.audio.send(constant(5, 2))
        await line.tick(5, said=constant(1, 1))
        stereo = np.frombuffer(line.audio.read_capture(), np.int16).reshape(-1, 2)

        assert 5 * FRAME == len(stereo)
        assert (stereo == [1, 2]).all()
        assert b"" == line.audio.read_capture()


async def test_play_closes_its_file(tmp_path: Path) -> None:
    """A playback that is given up leaves no file open."""
    path = tmp_path / "long.wav"
    soundfile.write(path, np.ones(30 * RATE_HZ, np.int16), RATE_HZ)
    async with FakeCall(sample_rate_hz=RATE_HZ) as caller:
        await caller.call.answer()
        task = asyncio.create_task(caller.call.play(path))
        await caller.hear(2000)
        opened = _open_files(path)
        task.cancel()
        await asyncio.wait([task])
        await caller.until(lambda: not _open_files(path), "the end of the reading")

    assert 1 == opened


def _open_files(path: Path) -> int:
    links = Path("/proc/self/fd").iterdir()
    return sum(_target(link) == path for link in links)


def _target(link: Path) -> Path | None:
    try:
        return link.readlink()
    except FileNotFoundError:
        return None
