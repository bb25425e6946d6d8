"""When a bot owes an answer, and how long it took."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from media.frames import AudioFrame
from sip_agent.handlers.websocket.reply_watch import ReplyWatch

SILENCE_DB = -90.0


@dataclass
class StandInCall:
    """What the watch asks of a call; `now_ms` is its time."""

    now_ms: int = 0
    queued_ms: int = 0
    stalls: list[tuple[str, int, int]] = field(default_factory=list)

    def elapsed_ms(self) -> int:
        """See `Call`."""
        return self.now_ms

    def note_stall(self, cause: str, started_ms: int, ended_ms: int) -> None:
        """See `Call`."""
        self.stalls.append((cause, started_ms, ended_ms))


class Talk:
    """A watch on a call in which time passes with the caller's sound."""

    def __init__(self, after_ms: int = 1000) -> None:
        self.call = StandInCall()
        self.watch = ReplyWatch(self.call, after_ms)  # type: ignore[arg-type]
        self._random = np.random.default_rng(1)

    def hear(self, level_db: float, ms: int) -> None:
        """Let the caller be so loud for so long."""
        for _ in range(ms // 20):
            self.call.now_ms += 20
            self.watch.hear_caller(self._noise(level_db))

    def _noise(self, level_db: float) -> AudioFrame:
        return np.round(self._random.normal(0, 32_767 * 10 ** (level_db / 20), 160)).astype(np.int16)


@pytest.mark.parametrize("floor_db", [SILENCE_DB, -45.0])
def test_an_answer_that_takes_too_long_is_noted(floor_db: float) -> None:
    """From where the caller stopped to where the bot was heard, on a quiet line and on a noisy one."""
    talk = Talk()
    talk.hear(floor_db, 500)
    talk.hear(-20, 1000)
    talk.hear(floor_db, 3000)
    assert talk.watch.owed
    talk.watch.settle(talk.call.now_ms)
    ((cause, started_ms, ended_ms),) = talk.call.stalls
    assert ("slow_bot", 4500) == (cause, ended_ms)
    assert 1500 == pytest.approx(started_ms, abs=120)


def test_an_answer_in_time_is_not() -> None:
    """Less than the bound."""
    talk = Talk()
    talk.hear(SILENCE_DB, 500)
    talk.hear(-20, 1000)
    talk.hear(SILENCE_DB, 800)
    talk.watch.settle(talk.call.now_ms)
    assert [] == talk.call.stalls


def test_the_first_word_is_owed_from_the_beginning() -> None:
    """A bot that lets a silent caller wait is noted too; until it is heard, and that once."""
    talk = Talk()
    talk.hear(SILENCE_DB, 3000)
    talk.watch.settle(talk.call.now_ms)
    talk.hear(SILENCE_DB, 3000)
    talk.watch.settle(talk.call.now_ms)
    assert [("slow_bot", 0, 3000)] == talk.call.stalls


def test_a_caller_who_speaks_first_waited_for_nobody() -> None:
    """He did not let the bot have its first word."""
    talk = Talk()
    talk.hear(SILENCE_DB, 500)
    talk.hear(-20, 3000)
    assert [] == talk.call.stalls
    assert not talk.watch.owed


def test_a_pause_is_not_the_end() -> None:
    """Between words nobody owes anything."""
    talk = Talk()
    talk.hear(SILENCE_DB, 500)
    for _ in range(10):
        talk.hear(-20, 400)
        talk.hear(SILENCE_DB, 400)
        assert not talk.watch.owed


def test_a_caller_who_asks_again_waited_until_then() -> None:
    """Each silence counts by itself."""
    talk = Talk()
    talk.hear(SILENCE_DB, 500)
    talk.hear(-20, 500)
    talk.hear(SILENCE_DB, 2000)
    talk.hear(-20, 500)
    talk.hear(SILENCE_DB, 800)
    talk.watch.settle(talk.call.now_ms)
    assert 1 == len(talk.call.stalls)
    assert 3100 == pytest.approx(talk.call.stalls[0][2], abs=120)


def test_a_bot_that_is_being_heard_owes_nothing() -> None:
    """Whoever is spoken over stops when it likes."""
    talk = Talk()
    talk.watch.settle(0)
    talk.call.queued_ms = 100
    talk.hear(SILENCE_DB, 500)
    talk.hear(-20, 500)
    talk.hear(SILENCE_DB, 3000)
    assert not talk.watch.owed


def test_noise_alone_is_no_speech() -> None:
    """However loud, if it is steady."""
    talk = Talk()
    talk.watch.settle(0)
    talk.hear(-30, 3000)
    assert not talk.watch.owed


def test_zero_does_not_watch() -> None:
    """Nothing is looked at."""
    talk = Talk(after_ms=0)
    talk.hear(SILENCE_DB, 500)
    talk.hear(-20, 1000)
    talk.hear(SILENCE_DB, 5000)
    assert not talk.watch.owed
