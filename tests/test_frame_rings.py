"""The queues of a port without an engine, by their own clock."""

import numpy as np

from sip_agent.frame_rings import RECEIVED_FRAMES, FrameRings

RATE_HZ = 8000
SILENCE = bytes(320)


def frame(value: int) -> bytes:
    """Return a frame of one value."""
    return np.full(160, value, np.int16).tobytes()


def values(sound: bytes) -> list[int]:
    """Return the first sample of each frame."""
    return [int(sample) for sample in np.frombuffer(sound, np.int16)[::160]]


def test_frames_leave_in_order_after_the_cushion() -> None:
    """40 ms of silence come before a stretch of sound, once."""
    rings = FrameRings(RATE_HZ, 40)
    assert 2 == rings.write(frame(1) + frame(2))
    sent = b"".join(rings.exchange(SILENCE) for _ in range(5))
    assert [0, 0, 1, 2, 0] == values(sent)
    assert (2, 0) == (rings.sent(), rings.queued())


def test_the_queue_takes_half_a_second() -> None:
    """What does not fit is not taken."""
    rings = FrameRings(RATE_HZ, 0)
    assert 25 == rings.write(frame(1) * 30)
    assert 0 == rings.write(frame(1))
    rings.exchange(SILENCE)
    assert 1 == rings.write(frame(1) * 5)


def test_a_short_gap_is_an_underrun_and_a_long_one_a_pause() -> None:
    """Up to 200 ms without a frame count if more follows; after `finish`, or longer, they do not."""
    rings = FrameRings(RATE_HZ, 0)
    for gap, finished in ((3, False), (30, False), (5, True)):
        rings.write(frame(1))
        if finished:
            rings.finish()
        for _ in range(1 + gap):
            rings.exchange(SILENCE)
    rings.write(frame(1))
    rings.exchange(SILENCE)
    assert (3, 30) == (rings.counters().underruns, rings.counters().pauses)


def test_flush_drops_what_waits() -> None:
    """It is neither heard nor counted as sent."""
    rings = FrameRings(RATE_HZ, 0)
    rings.write(frame(1) * 5)
    rings.exchange(SILENCE)
    assert 4 == rings.flush()
    assert [0] == values(rings.exchange(SILENCE))
    assert 1 == rings.sent()


def test_a_pause_keeps_what_waits() -> None:
    """Silence is sent meanwhile."""
    rings = FrameRings(RATE_HZ, 0)
    rings.write(frame(1) + frame(2))
    rings.pause(True)
    assert [0] == values(rings.exchange(SILENCE))
    rings.pause(False)
    assert [1, 2] == values(rings.exchange(SILENCE) + rings.exchange(SILENCE))


def test_what_nobody_reads_is_lost_and_counted() -> None:
    """The oldest goes; what was read late is counted too."""
    rings = FrameRings(RATE_HZ, 0)
    for value in range(RECEIVED_FRAMES + 2):
        rings.exchange(frame(value))
    assert 2 == values(rings.read())[0]
    assert 2 == rings.counters().overruns
    assert rings.counters().late > 0
    assert b"" == rings.read()


def test_the_recording_has_both_sides_of_each_tick() -> None:
    """Left what was received, right what was sent."""
    rings = FrameRings(RATE_HZ, 0)
    rings.write(frame(5))
    rings.exchange(frame(3))
    pairs = np.frombuffer(rings.read_capture(), np.int16).reshape(-1, 2)
    assert [[3, 5]] == np.unique(pairs, axis=0).tolist()
    assert b"" == rings.read_capture()
