"""Turns and what is measured of them, on stretches of speech with known answers."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.activity import Span
from media.turns import OVERLAP_MS, PAUSE_MS, Conversation, Speaker, Turn

CALLER, AGENT = Speaker.CALLER, Speaker.AGENT
Spans = Sequence[tuple[int, int]]


def conversation(
    caller: Spans = (), agent: Spans = (), duration_ms: int = 20_000, stalls: Spans = ()
) -> tuple[list[Turn], dict[str, Any]]:
    """Return the turns and metrics of a call."""
    call = Conversation(
        caller=[Span(*span) for span in caller],
        agent=[Span(*span) for span in agent],
        duration_ms=duration_ms,
        stalls=[Span(*span) for span in stalls],
    )
    turns = call.turns()
    return turns, call.metrics(turns)


def floor(turns: Sequence[Turn]) -> list[tuple[Speaker, int, int]]:
    """Return who held the floor when."""
    return [(turn.speaker, turn.started_ms, turn.ended_ms) for turn in turns]


class TestTurns:
    """From stretches of speech to turns."""

    def test_in_order(self) -> None:
        """Turns of both come by when they began."""
        turns, _ = conversation([(1000, 2000), (5000, 6000)], [(2500, 4000), (6400, 7000)])

        assert [
            (CALLER, 1000, 2000),
            (AGENT, 2500, 4000),
            (CALLER, 5000, 6000),
            (AGENT, 6400, 7000),
        ] == floor(turns)

    @pytest.mark.parametrize(("pause_ms", "turns"), [(PAUSE_MS - 1, 1), (PAUSE_MS, 2)])
    def test_pause(self, pause_ms: int, turns: int) -> None:
        """A short pause is part of the turn, a long one divides it."""
        assert turns == len(conversation([(0, 1000), (1000 + pause_ms, 4000)])[0])

    def test_interrupted_one_ends(self) -> None:
        """Who has interrupted goes on with the same turn when the other falls silent in a pause of it."""
        turns, _ = conversation([(1000, 1500), (1800, 3000)], [(0, 1600)])

        assert [(AGENT, 0, 1600), (CALLER, 1000, 3000)] == floor(turns)

    @pytest.mark.parametrize("interjection", [(1100, 1250), (1100, 3000), (500, 1200)])
    def test_divided_by_the_other(self, interjection: tuple[int, int]) -> None:
        """A pause in which the other begins or ends is no pause inside a turn."""
        assert [(AGENT, 0, 1000), (AGENT, 1400, 2000)] == [
            turn for turn in floor(conversation([interjection], [(0, 1000), (1400, 2000)])[0]) if turn[0] is AGENT
        ]

    def test_talked_over(self) -> None:
        """Somebody who talks all through a pause of the other does not divide it."""
        turns, _ = conversation([(0, 5000)], [(1000, 2000), (2400, 3000)])

        assert [(CALLER, 0, 5000), (AGENT, 1000, 3000)] == floor(turns)

    @given(
        st.lists(st.integers(1, 2000), max_size=20),
        st.lists(st.integers(1, 2000), max_size=20),
    )
    def test_nothing_is_lost(self, caller: list[int], agent: list[int]) -> None:
        """Whoever speaks, it is in a turn of theirs; no two turns of one speaker overlap."""
        spans = {speaker: _spans(lengths) for speaker, lengths in ((CALLER, caller), (AGENT, agent))}
        turns, metrics = conversation(spans[CALLER], spans[AGENT], 100_000)
        for speaker in Speaker:
            own = [Span(start, end) for who, start, end in floor(turns) if who is speaker]
            assert all(before.ended_ms < after.started_ms for before, after in itertools.pairwise(own))
            assert all(any(turn[0] <= start and end <= turn[1] for turn in own) for start, end in spans[speaker])

        assert 0 <= metrics["double_talk_ms"] <= 100_000
        assert metrics["interruptions"]["by_caller"] >= metrics["stop_time_ms"]["count"]
        assert all(turn.response_latency_ms is None or turn.response_latency_ms >= 0 for turn in turns)


def _spans(lengths: list[int]) -> list[tuple[int, int]]:
    edges = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    return list(zip(edges[::2], edges[1::2], strict=False))


class TestLatency:
    """How long the agent takes to reply."""

    def test_of_replies(self) -> None:
        """Each reply has the time since the caller's last word; the greeting replies to nobody."""
        turns, metrics = conversation(
            [(2000, 3000), (6000, 7000), (10_000, 11_000)], [(500, 1500), (3400, 5000), (8000, 9000), (12_600, 13_000)]
        )

        assert [None, None, 400, None, 1000, None, 1600] == [turn.response_latency_ms for turn in turns]
        assert {"p50": 1000, "p95": 1540, "max": 1600, "count": 3} == metrics["response_latency_ms"]
        assert {"p50": 1000, "p95": 1000, "max": 1000, "count": 3} == metrics["caller_latency_ms"]
        assert 500 == metrics["time_to_first_audio_ms"]

    def test_since_the_last_question(self) -> None:
        """A caller who asks again is answered since then."""
        turns, _ = conversation([(0, 1000), (4000, 5000)], [(5300, 6000)])

        assert 300 == turns[-1].response_latency_ms

    def test_going_on_is_no_reply(self) -> None:
        """An agent that goes on after a pause of its own, or after one that it talked over, replies to nobody."""
        turns, metrics = conversation([(0, 1000), (3000, 3400)], [(1500, 5000), (6000, 7000)])

        assert [500, None] == [turn.response_latency_ms for turn in turns if turn.speaker is AGENT]
        assert 1 == metrics["response_latency_ms"]["count"]

    def test_after_an_interjection(self) -> None:
        """What somebody says before the other has ended is no reply; what they say afterwards is."""
        turns, metrics = conversation([(0, 10_000)], [(4000, 4300), (15_000, 17_000)])

        assert [None, None, 5000] == [turn.response_latency_ms for turn in turns]
        assert {"p50": 5000, "p95": 5000, "max": 5000, "count": 1} == metrics["response_latency_ms"]
        assert 5000 == conversation([(4000, 4300), (15_000, 17_000)], [(0, 10_000)])[1]["caller_latency_ms"]["max"]

    def test_one_reply_each(self) -> None:
        """What follows a reply, however short it was, is no second one."""
        turns, _ = conversation([(0, 1000)], [(970, 990), (3000, 4000)])

        assert [0, None] == [turn.response_latency_ms for turn in turns if turn.speaker is AGENT]

    def test_edges_that_touch(self) -> None:
        """A reply that seems to begin a little before the end has taken no time."""
        turns, metrics = conversation([(0, 1000)], [(1000 - OVERLAP_MS + 10, 2000)])

        assert 0 == turns[-1].response_latency_ms
        assert {"by_caller": 0, "by_agent": 0} == metrics["interruptions"]


class TestInterruptions:
    """Who talks into whose turn."""

    def test_caller_barges_in(self) -> None:
        """The agent's turn was interrupted, and it stopped after so long."""
        turns, metrics = conversation([(3000, 5000)], [(0, 3300), (5600, 7000)])

        assert (True, 300, None) == (turns[0].interrupted, turns[0].stop_time_ms, turns[0].response_latency_ms)
        assert (False, None) == (turns[1].interrupted, turns[1].stop_time_ms)
        assert 600 == turns[2].response_latency_ms
        assert {"by_caller": 1, "by_agent": 0} == metrics["interruptions"]
        assert {"p50": 300, "max": 300, "count": 1} == metrics["stop_time_ms"]
        assert 300 == metrics["double_talk_ms"]

    def test_agent_interrupts(self) -> None:
        """An agent that begins too early interrupts, and does not reply."""
        turns, metrics = conversation([(0, 3000)], [(2500, 5000)])

        assert {"by_caller": 0, "by_agent": 1} == metrics["interruptions"]
        assert (True, None, None) == (turns[0].interrupted, turns[0].stop_time_ms, turns[1].response_latency_ms)
        assert 0 == metrics["stop_time_ms"]["count"]

    def test_agent_that_does_not_stop(self) -> None:
        """It is measured from the first interruption, though the caller tries twice."""
        turns, metrics = conversation([(2000, 2500), (4000, 4500)], [(0, 8000)])

        assert 6000 == turns[0].stop_time_ms
        assert {"by_caller": 2, "by_agent": 0} == metrics["interruptions"]
        assert {"p50": 6000, "max": 6000, "count": 1} == metrics["stop_time_ms"]

    @pytest.mark.parametrize(("later_ms", "count"), [(0, 0), (10, 0), (OVERLAP_MS - 1, 0), (OVERLAP_MS, 1)])
    def test_at_once(self, later_ms: int, count: int) -> None:
        """If both begin together, nobody interrupts; two measured edges may be a little apart."""
        _, by_agent = conversation([(1000, 2000)], [(1000 + later_ms, 3000)])
        turns, by_caller = conversation([(1000 + later_ms, 2000)], [(1000, 3000)])

        assert {"by_caller": 0, "by_agent": count} == by_agent["interruptions"]
        assert {"by_caller": count, "by_agent": 0} == by_caller["interruptions"]
        assert count == by_caller["stop_time_ms"]["count"] == [turn.interrupted for turn in turns].count(True)
        assert 1000 - later_ms == by_agent["double_talk_ms"]


@pytest.mark.parametrize("seed", range(100))
def test_against_a_timeline(seed: int) -> None:
    """Random conversations have the waits and latencies that are counted in them, one 10 ms after the other."""
    draw = np.random.default_rng(seed)
    turns, metrics = conversation(_talk(draw, 0), _talk(draw, 50), 60_000)
    speaks = {
        speaker: {at for who, start, end in floor(turns) if who is speaker for at in range(start, end, 10)}
        for speaker in Speaker
    }

    def silence_ms(since_ms: int, *speakers: Speaker) -> int:
        times = range(since_ms, 60_000, 10)
        return 10 * sum(
            1 for _ in itertools.takewhile(lambda at: not any(at in speaks[who] for who in speakers), times)
        )

    waits = [silence_ms(turn.ended_ms, *Speaker) for turn in turns if turn.speaker is CALLER]
    assert max(waits, default=0) == metrics["longest_wait_ms"]
    for speaker, metric in ((AGENT, "response_latency_ms"), (CALLER, "caller_latency_ms")):
        asked = [turn.ended_ms for turn in turns if turn.speaker is speaker.other]
        replies = [
            wait_ms
            for ended_ms in asked
            if 0 < (wait_ms := silence_ms(ended_ms, speaker)) < 60_000 - ended_ms
            and wait_ms < silence_ms(ended_ms, speaker.other)
        ]
        assert (len(replies), max(replies, default=None)) == (metrics[metric]["count"], metrics[metric]["max"])


def _talk(draw: np.random.Generator, offset_ms: int) -> list[tuple[int, int]]:
    """Return stretches of speech with edges every 100 ms at most, so that with another offset none is at once."""
    edges = offset_ms + np.cumsum(draw.choice((300, 700, 1500, 4000, 9000), 100))
    inside = edges[edges < 60_000].tolist()
    return list(zip(inside[::2], inside[1::2], strict=False))


class TestSilence:
    """Who was silent, and whose fault it was."""

    def test_longest(self) -> None:
        """It may lie at the beginning, between turns, or at the end."""
        assert 3000 == conversation([(3000, 5000)], [(5500, 9000)], 10_000)[1]["longest_silence_ms"]
        assert 4000 == conversation([(1000, 2000)], [(6000, 9000)], 10_000)[1]["longest_silence_ms"]
        assert 9000 == conversation([(0, 1000)], [], 10_000)[1]["longest_silence_ms"]
        assert 10_000 == conversation([], [], 10_000)[1]["longest_silence_ms"]

    def test_longest_wait(self) -> None:
        """The caller waits for the agent: until somebody speaks, or the call is over."""
        assert 4000 == conversation([(1000, 2000)], [(6000, 9000)])[1]["longest_wait_ms"]
        assert 3000 == conversation([(1000, 2000), (5000, 6000)], [(6500, 9000)])[1]["longest_wait_ms"]
        assert 18_000 == conversation([(1000, 2000)], [])[1]["longest_wait_ms"]
        assert 0 == conversation([], [(1000, 2000)])[1]["longest_wait_ms"]

    def test_wait_after_an_interjection(self) -> None:
        """What the agent said before the caller had ended shortens no wait."""
        assert 34_000 == conversation([(1000, 6000)], [(3000, 3300)], 40_000)[1]["longest_wait_ms"]
        assert 5000 == conversation([(0, 10_000)], [(4000, 4300), (15_000, 17_000)])[1]["longest_wait_ms"]

    def test_no_wait_for_an_agent_that_speaks(self) -> None:
        """A caller who ends while the agent speaks does not wait for it, and has the next word."""
        assert 0 == conversation([(4000, 4300)], [(0, 10_000)], 30_000)[1]["longest_wait_ms"]
        assert 0 == conversation([(1000, 2000)], [(500, 3500)])[1]["longest_wait_ms"]
        assert 10_000 == conversation([(4000, 4300), (9000, 20_000)], [(0, 10_000)], 30_000)[1]["longest_wait_ms"]

    def test_talk_ratio(self) -> None:
        """The agent's share of all speech, pauses left out; in silence there is none."""
        assert 0.75 == conversation([(0, 1000)], [(2000, 5000)])[1]["talk_ratio"]
        assert None is conversation()[1]["talk_ratio"]
        assert None is conversation([(0, 1000)])[1]["time_to_first_audio_ms"]

    def test_nothing_to_measure(self) -> None:
        """What never happened has no figure."""
        metrics = conversation()[1]

        assert {"p50": None, "p95": None, "max": None, "count": 0} == metrics["response_latency_ms"]
        assert {"p50": None, "max": None, "count": 0} == metrics["stop_time_ms"]

    def test_stalls(self) -> None:
        """What of a wait and of the longest silence was a stall of ours is told apart; it counts once."""
        stalls = [(2500, 3500), (3000, 4000), (8000, 9000)]
        turns, metrics = conversation([(1000, 2000)], [(6000, 9000)], 9000, stalls)

        assert [0, 1500] == [turn.stalled_ms for turn in turns]
        assert {"response_latency": 1500, "longest_silence": 1500} == metrics["stalled_ms"]
