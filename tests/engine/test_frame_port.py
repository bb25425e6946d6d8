"""The frame port: what Python writes is heard on the bridge, and what is heard there Python reads."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from itertools import groupby
from typing import Any

import pjsua2_native as pj
import pytest

from tests.engine.engine_process import SAMPLE_RATE_HZ, Engine, engine_test

SAMPLES = SAMPLE_RATE_HZ // 50


def frame(value: int) -> bytes:
    """Return 20 ms of one sample value."""
    return struct.pack("<h", value) * SAMPLES


def frames(first: int, last: int) -> bytes:
    """Return frames that count from `first` to `last`."""
    return b"".join(frame(value) for value in range(first, last + 1))


def values(pcm: bytes) -> list[int]:
    """Return the value of each frame, which must be one and the same throughout the frame."""
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    found = [set(samples[start : start + SAMPLES]) for start in range(0, len(samples), SAMPLES)]
    assert all(len(distinct) == 1 for distinct in found)
    return [distinct.pop() for distinct in found]


def pairs(capture: bytes) -> list[tuple[int, int]]:
    """Return (received, sent) of each captured tick."""
    samples = struct.unpack(f"<{len(capture) // 2}h", capture)
    left = values(struct.pack(f"<{len(samples) // 2}h", *samples[::2]))
    right = values(struct.pack(f"<{len(samples) // 2}h", *samples[1::2]))
    return list(zip(left, right, strict=True))


def looped_port(**options: Any) -> Any:
    """Return a port that hears itself; its rings are long enough for a test that is kept waiting."""
    port = pj.FramePort("loop", SAMPLE_RATE_HZ, **{"received_frames": 500, "capture_frames": 500, **options})
    port.startTransmit(port)
    return port


@engine_test()
def test_written_frames_come_back_unchanged_and_in_order(engine: Engine) -> None:
    """The bridge neither alters, drops, doubles nor reorders a frame, and counts each as sent."""
    port = looped_port()
    assert port.write(frames(1, 60)) == 60
    port.finish()

    engine.ticks_until(lambda: port.sent() == 60)
    engine.ticks(1)

    heard = values(port.read())
    assert [*range(1, 61)] == [value for value in heard if value]
    assert [True] == [audible for audible, _ in groupby(heard, key=bool) if audible]
    assert (60, 60, 0, 0) == tuple(port.stats()[key] for key in ("written", "sent", "queued", "underruns"))
    assert b"" == port.read()


@engine_test()
def test_capture_pairs_what_was_heard_and_said_in_one_tick(engine: Engine) -> None:
    """A looped frame is on both sides of the same captured tick, left as received and right as sent."""
    port = looped_port()
    port.write(frames(1, 20))

    engine.ticks_until(lambda: port.sent() == 20)
    engine.ticks(1)

    captured = pairs(port.read_capture())
    assert [(value, value) for value in range(1, 21)] == [pair for pair in captured if any(pair)]


@engine_test()
def test_capture_tells_the_two_sides_apart(engine: Engine) -> None:
    """What one port says is on its own right side, and on the left side of the port that hears it."""
    speaker = pj.FramePort("speaker", SAMPLE_RATE_HZ)
    listener = pj.FramePort("listener", SAMPLE_RATE_HZ)
    speaker.startTransmit(listener)
    speaker.write(frame(7) * 5)

    engine.ticks_until(lambda: speaker.sent() == 5)
    engine.ticks(1)

    assert [(0, 7)] * 5 == [pair for pair in pairs(speaker.read_capture()) if any(pair)]
    assert [(7, 0)] * 5 == [pair for pair in pairs(listener.read_capture()) if any(pair)]


@engine_test()
def test_flush_drops_the_rest_at_once(engine: Engine) -> None:
    """After flush() not one further frame is played, and every frame is accounted for."""
    port = looped_port()
    port.write(frames(1, 50))
    engine.ticks_until(lambda: port.sent() >= 3)

    dropped = port.flush()
    sent = port.sent()

    assert (50, 0) == (sent + dropped, port.queued())
    engine.ticks(3)
    assert sent == port.sent()
    assert [*range(1, sent + 1)] == [value for value in values(port.read()) if value]
    assert 50 == port.write(frames(51, 100))


@engine_test()
def test_pause_keeps_the_queue(engine: Engine) -> None:
    """A paused port is silent; released, it goes on with the very next frame, and nothing counts as an underrun."""
    port = looped_port()
    port.write(frames(1, 20))
    engine.ticks_until(lambda: port.sent() >= 3)

    port.pause(True)
    engine.ticks(1)
    sent = port.sent()
    engine.ticks(5)
    assert (sent, 20 - sent) == (port.sent(), port.queued())

    port.pause(False)
    engine.ticks_until(lambda: port.sent() == 20)
    engine.ticks(1)
    assert [*range(1, 21)] == [value for value in values(port.read()) if value]
    assert (0, 0) == (port.stats()["underruns"], port.stats()["pauses"])


@engine_test()
def test_underruns_are_the_silent_ticks_inside_a_stream(engine: Engine) -> None:
    """The counter equals the hole that a listener hears, and a finished stream leaves none."""
    port = looped_port(gap_limit_ticks=500)
    port.write(frame(1))
    engine.ticks_until(lambda: port.sent() == 1)
    engine.ticks(3)
    assert 0 == port.stats()["underruns"]
    port.write(frame(2))
    engine.ticks_until(lambda: port.sent() == 2)
    port.finish()
    engine.ticks(3)
    port.write(frame(3))
    engine.ticks_until(lambda: port.sent() == 3)
    engine.ticks(1)

    heard = values(port.read())
    assert heard.index(2) - heard.index(1) - 1 == port.stats()["underruns"] > 0
    assert 0 == port.stats()["pauses"]


@engine_test()
def test_a_long_gap_is_a_pause(engine: Engine) -> None:
    """Beyond the limit a gap is no underrun, and the next stream gets a cushion of its own."""
    port = looped_port(gap_limit_ticks=2, cushion_frames=3)
    port.write(frame(1))
    engine.ticks_until(lambda: port.sent() == 1)
    engine.ticks(5)
    written_at = port.stats()["ticks"]
    port.write(frame(2))
    engine.ticks_until(lambda: port.sent() == 2)

    assert port.stats()["ticks"] - written_at >= 3
    assert (0, 1) == (port.stats()["underruns"], port.stats()["pauses"])
    heard = values(port.read())
    assert heard.index(2) - heard.index(1) - 1 == port.stats()["pause_ticks"]


@engine_test()
def test_a_standstill_is_silence_in_the_capture(engine: Engine) -> None:
    """A process that was stopped for longer than its clock makes up for captures as much sound as time has passed."""
    port = looped_port()
    port.write(frames(1, 10))
    engine.ticks_until(lambda: port.sent() == 10)
    engine.ticks(5)
    began_s, before = time.monotonic(), pairs(port.read_capture())
    subprocess.run(["sh", "-c", 'kill -STOP "$1"; sleep 1.2; kill -CONT "$1"', "sh", str(os.getpid())], check=True)
    port.write(frames(11, 20))
    engine.ticks_until(lambda: port.sent() == 20)
    engine.ticks(2)
    after, took_s = pairs(port.read_capture()), time.monotonic() - began_s

    assert [*range(1, 11)] == [said for _, said in before if said]
    assert [*range(11, 21)] == [said for _, said in after if said]
    assert 50 <= engine.clock.skipped_ticks <= 61
    assert 0 == port.stats()["capture_overruns"]
    assert took_s == pytest.approx(len(after) * 0.02, abs=0.1)
    assert [] == pairs(port.read_capture())[10:]


@engine_test()
def test_a_reader_that_stays_away_loses_the_newest_frames(engine: Engine) -> None:
    """A full ring keeps its oldest frames; what is lost is counted and lies behind what was read."""
    port = looped_port(received_frames=4, capture_frames=6, cushion_frames=0)
    port.write(frames(1, 20))
    engine.ticks_until(lambda: port.sent() == 20)
    engine.clock.stop()

    lost = port.stats()
    heard, captured = values(port.read()), pairs(port.read_capture())
    assert (4, 6) == (len(heard), len(captured))
    assert (lost["ticks"] - 4, lost["ticks"] - 6) == (lost["overruns"], lost["capture_overruns"])
    assert heard == [left for left, _ in captured][:4]
    assert 1 == port.stats()["late"]


@engine_test()
def test_write_takes_whole_frames_of_any_buffer(engine: Engine) -> None:
    """Bytes-like objects of whole frames are accepted as far as there is room, others refused."""
    port = pj.FramePort("p", SAMPLE_RATE_HZ, send_frames=3)

    assert 320 == port.frame_bytes
    assert 2 == port.write(memoryview(bytearray(frame(1) * 2)))
    assert 1 == port.write(frame(1) * 2)
    assert 0 == port.write(frame(1))
    assert 0 == port.write(b"")
    with pytest.raises(ValueError, match="3 bytes are not a whole number of frames of 320 bytes"):
        port.write(b"abc")
    with pytest.raises(TypeError):
        port.write("text")
    engine.ticks(1)


@engine_test()
def test_port_has_the_rate_of_the_bridge(engine: Engine) -> None:
    """A port that the bridge would have to resample is refused, as is a ring without measure."""
    for options in ({"sample_rate_hz": 16000}, {"ptime_ms": 10}, {"send_frames": 1_000_000}):
        with pytest.raises(pj.Error):
            pj.FramePort(**{"name": "p", "sample_rate_hz": SAMPLE_RATE_HZ, **options})
    assert 1 == engine.endpoint.mediaActivePorts()


@engine_test()
def test_closed_port_can_still_be_read(engine: Engine) -> None:
    """close() takes the port off the bridge and keeps what it had received."""
    port = looped_port()
    port.write(frame(9))
    engine.ticks_until(lambda: port.sent() == 1)
    engine.ticks(1)

    port.close()
    port.close()
    engine.ticks(2)
    ticks = port.stats()["ticks"]
    engine.ticks(2)

    assert ticks == port.stats()["ticks"]
    assert 9 in values(port.read())


@engine_test()
def test_ports_come_and_go_while_the_clock_runs(engine: Engine) -> None:
    """Two thousand ports, connected to each other, closed or just forgotten, neither crash nor stay."""
    before = engine.endpoint.mediaActivePorts()
    alive: list[Any] = []
    for number in range(2000):
        port = looped_port(received_frames=5, send_frames=5, capture_frames=5)
        port.write(frame(1) * 3)
        if alive:
            alive[-1].startTransmit(port)
        alive.append(port)
        if len(alive) > 20:
            leaving = alive.pop(number * 7 % 20)
            if number % 2:
                leaving.close()
            del leaving
        if number % 50 == 0:
            engine.ticks(1)
    del port
    alive.clear()

    engine.ticks_until(lambda: engine.endpoint.mediaActivePorts() == before)


@engine_test()
def test_the_clock_signals_the_end_of_every_tick(engine: Engine) -> None:
    """The descriptor counts exactly the ticks of the clock; a stopped clock is silent and can be started again."""
    for _ in range(2):
        engine.clock.stop()
        engine.ended_ticks(0)
        ticks_before = engine.clock.ticks

        engine.clock.start()
        signalled = sum(engine.ended_ticks() for _ in range(10))
        engine.clock.stop()
        signalled += engine.ended_ticks(0)

        assert engine.clock.ticks - ticks_before == signalled >= 10
    with pytest.raises(BlockingIOError):
        os.eventfd_read(engine.clock.fileno())
