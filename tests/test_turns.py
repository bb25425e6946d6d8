"""Turns and metrics of whole calls: from a recording to what stands in the record."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from media.frames import Samples, silence
from media.tones import tone
from media.turns import Speaker, Turn
from sip_agent.speech.espeak import EspeakSynthesizer
from sip_agent.turns import Bound, measure, serve, with_texts

RATE_HZ = 16_000

Sounds = Sequence[tuple[int, Samples]]


def channel(duration_ms: int, sounds: Sounds) -> Samples:
    """Return silence with sounds in it, each from its millisecond on."""
    samples = silence(duration_ms, RATE_HZ)
    for start_ms, sound in sounds:
        start = start_ms * RATE_HZ // 1000
        samples[start : start + len(sound)] = sound
    return samples


def beeps(*spans: tuple[int, int]) -> Sounds:
    """Return tones from when to when."""
    return [(start_ms, tone(440, end_ms - start_ms, RATE_HZ)) for start_ms, end_ms in spans]


def recorded(path: Path, duration_ms: int, caller: Sounds, agent: Sounds) -> str:
    """Write a stereo recording."""
    soundfile.write(path, np.column_stack((channel(duration_ms, caller), channel(duration_ms, agent))), RATE_HZ)
    return str(path)


class TestMeasure:
    """A recording with known answers."""

    CALLER = (2000, 3000), (6000, 8000), (12_000, 14_000)
    AGENT = (500, 1500), (3800, 6240), (8600, 11_000), (13_500, 15_000)

    @pytest.mark.parametrize("answer_ms", [0, 400, -250])
    def test_known_answers(self, tmp_path: Path, answer_ms: int) -> None:
        """Every figure is right to 20 ms, wherever in the recording the call was answered."""
        path = recorded(tmp_path / "a.wav", 16_000, beeps(*self.CALLER), beeps(*self.AGENT))
        turns, metrics = measure(path, answer_ms, [], [])
        spans = sorted(
            [("caller", *span) for span in self.CALLER] + [("agent", *span) for span in self.AGENT],
            key=lambda item: item[1],
        )

        for (speaker, start_ms, end_ms), turn in zip(spans, turns, strict=True):
            assert speaker == turn["speaker"]
            assert start_ms - answer_ms == pytest.approx(turn["started_ms"], abs=20)
            assert end_ms - answer_ms == pytest.approx(turn["ended_ms"], abs=20)
        assert [800, 600] == pytest.approx(_values(turns, "response_latency_ms"), abs=20)
        assert [240] == pytest.approx(_values(turns, "stop_time_ms"), abs=20)
        assert [False, False, True, False, False, True, False] == [turn["interrupted"] for turn in turns]
        assert {"by_caller": 1, "by_agent": 1} == metrics["interruptions"]
        assert (700, 790, 800, 2) == pytest.approx(tuple(metrics["response_latency_ms"].values()), abs=20)
        assert (240, 240, 1) == pytest.approx(tuple(metrics["stop_time_ms"].values()), abs=20)
        assert 1000 == pytest.approx(metrics["longest_silence_ms"], abs=20)
        assert 740 == pytest.approx(metrics["double_talk_ms"], abs=40)
        assert 0.595 == pytest.approx(metrics["talk_ratio"], abs=0.01)
        assert 500 - answer_ms == pytest.approx(metrics["time_to_first_audio_ms"], abs=20)

    def test_early_media(self, tmp_path: Path) -> None:
        """What sounded before the answer is no turn."""
        path = recorded(tmp_path / "a.wav", 8000, [], beeps((0, 2000), (5000, 6000)))
        turns, metrics = measure(path, 3000, [], [])

        assert [(2000, 3000)] == [(turn["started_ms"], turn["ended_ms"]) for turn in turns]
        assert 2000 == metrics["time_to_first_audio_ms"]

    def test_stalls_and_texts(self, tmp_path: Path) -> None:
        """A reply that a stall of ours held up says so; each turn has the words of its speaker."""
        path = recorded(tmp_path / "a.wav", 8000, beeps((1000, 2000)), beeps((6000, 7000)))
        transcript: list[dict[str, Any]] = [
            {"speaker": "caller", "text": "A table", "at_ms": 1200},
            {"speaker": "caller", "text": "for two.", "at_ms": 2900},
            {"speaker": "agent", "tool": "book", "arguments": {}, "result": None, "at_ms": 5500},
            {"speaker": "agent", "text": "Booked.", "at_ms": 5400},
        ]
        stalls = [{"cause": "slow_bot", "started_ms": 3000, "ended_ms": 5000}]
        turns, metrics = measure(path, 0, stalls, transcript)

        assert ["A table for two.", "Booked."] == [turn["text"] for turn in turns]
        assert [(None, 0), (4000, 2000)] == [(turn["response_latency_ms"], turn["stalled_ms"]) for turn in turns]
        assert {"response_latency": 2000, "longest_silence": 2000} == metrics["stalled_ms"]

    def test_bounds(self, tmp_path: Path) -> None:
        """Each bound stands beside what was measured of this call, passed, missed or without a case."""
        path = recorded(tmp_path / "a.wav", 14_000, beeps((1000, 2000)), beeps((4500, 5500)))
        bounds = {bound["metric"]: bound for bound in measure(path, 0, [], [])[1]["bounds"]}

        assert {
            "metric": "response_latency_ms.p95",
            "value": 2500,
            "bound": "< 2000",
            "passed": False,
            "source": "Cekura: Latency",
        } == bounds["response_latency_ms.p95"]
        assert {
            "response_latency_ms.p95": False,
            "stop_time_ms.max": None,
            "interruptions.by_agent": True,
            "longest_wait_ms": True,
            "longest_silence_ms": True,
            "talk_ratio": True,
        } == {metric: bound["passed"] for metric, bound in bounds.items()}


def _values(turns: Sequence[dict[str, Any]], key: str) -> list[int]:
    return [turn[key] for turn in turns if turn[key] is not None]


class TestSpeech:
    """Speech of a synthesizer, on lines as they are."""

    CALLER = ((1500, "Hello, I would like to order a large pizza with mushrooms, please."), (11_000, "No, thank you."))
    AGENT = ((7000, "With pleasure. Would you like something to drink with it?"), (13_500, "It will be ready soon."))

    @pytest.fixture
    async def said(self) -> dict[str, Sounds]:
        """Return what both say, at most 2 dB apart from each other."""
        synthesizer = EspeakSynthesizer()
        said: dict[str, Sounds] = {}
        for name, voice, lines in (("caller", "en-us+f3", self.CALLER), ("agent", "en", self.AGENT)):
            said[name] = [
                (
                    start_ms,
                    np.concatenate(
                        [part async for part in synthesizer.synthesize(text, voice=voice, sample_rate_hz=RATE_HZ)]
                    ),
                )
                for start_ms, text in lines
            ]
        await synthesizer.close()
        return said

    @pytest.mark.parametrize("line", ["clean", "quiet", "noisy", "offset", "babble", "echo"])
    async def test_on_a_line(self, tmp_path: Path, said: dict[str, Sounds], line: str) -> None:
        """Who spoke when is found on each line as in the clean recording; soft last sounds may drown in noise."""
        caller, agent = (channel(18_000, said[name]).astype(np.float64) for name in ("caller", "agent"))
        expected, clean = _measured(tmp_path, caller, agent)
        draw = np.random.default_rng(1)
        match line:
            case "quiet":
                caller, agent = caller / 16, agent / 16
            case "noisy":
                caller += draw.normal(0, 100, len(caller))
            case "offset":
                caller, agent = caller + 3000, agent - 500
            case "babble":
                caller += sum(np.roll(agent + caller, shift * RATE_HZ // 3) for shift in range(1, 54)) / 150
            case "echo":
                caller += np.roll(agent, RATE_HZ // 5) / 20
        turns, metrics = _measured(tmp_path, caller, agent)

        assert ["caller", "agent", "caller", "agent"] == [turn["speaker"] for turn in expected]
        assert [turn["speaker"] for turn in expected] == [turn["speaker"] for turn in turns]
        for known, found in zip(expected, turns, strict=True):
            assert known["started_ms"] == pytest.approx(found["started_ms"], abs=60)
            assert known["ended_ms"] == pytest.approx(found["ended_ms"], abs=150)
        assert {"by_caller": 0, "by_agent": 0} == metrics["interruptions"]
        assert clean["response_latency_ms"]["max"] == pytest.approx(metrics["response_latency_ms"]["max"], abs=150)


def _measured(folder: Path, caller: np.ndarray, agent: np.ndarray) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    path = folder / "speech.wav"
    soundfile.write(path, np.clip(np.column_stack((caller, agent)), -32768, 32767).astype(np.int16), RATE_HZ)
    return measure(str(path), 0, [], [])


class TestTexts:
    """Which turn a text belongs to."""

    TURNS = (
        Turn(speaker=Speaker.CALLER, started_ms=1000, ended_ms=2000),
        Turn(speaker=Speaker.AGENT, started_ms=2500, ended_ms=4000),
        Turn(speaker=Speaker.CALLER, started_ms=6000, ended_ms=7000),
    )

    @pytest.mark.parametrize(
        ("at_ms", "number"),
        [(0, 0), (1500, 0), (3900, 0), (4100, 2), (6500, 2), (9900, 2), (10_001, None)],
    )
    def test_nearest(self, at_ms: int, number: int | None) -> None:
        """It goes to the nearest turn of its speaker, and to none that is far away."""
        turns = with_texts(self.TURNS, [{"speaker": "caller", "text": "Hello", "at_ms": at_ms}])

        assert ([] if number is None else [number]) == [index for index, turn in enumerate(turns) if turn.text]

    def test_without_turns(self) -> None:
        """A text of somebody who was never heard belongs to no turn."""
        assert [] == with_texts([], [{"speaker": "agent", "text": "Hello", "at_ms": 0}])


@pytest.mark.parametrize(
    ("bound", "value", "passed", "text"),
    [
        (Bound(metric="a", source="", below=2), 2, False, "< 2"),
        (Bound(metric="a", source="", below=2), 1.9, True, "< 2"),
        (Bound(metric="a", source="", at_most=2), 2, True, "≤ 2"),
        (Bound(metric="a", source="", at_most=2), 2.1, False, "≤ 2"),
        (Bound(metric="a", source="", at_least=0.4, at_most=0.6), 0.4, True, "≥ 0.4 and ≤ 0.6"),
        (Bound(metric="a", source="", at_least=0.4, at_most=0.6), 0.39, False, "≥ 0.4 and ≤ 0.6"),
        (Bound(metric="a", source="", below=2), None, None, "< 2"),
    ],
)
def test_judging(bound: Bound, value: float | None, passed: bool | None, text: str) -> None:
    """A bound holds or not; without a figure there is nothing to judge."""
    assert {"metric": "a", "value": value, "bound": text, "passed": passed, "source": ""} == bound.judge({"a": value})


def test_serving(tmp_path: Path) -> None:
    """Each line is answered by a line, whatever is wrong with it."""
    path = recorded(tmp_path / "a.wav", 1000, [], beeps((200, 800)))
    good = {"path": path, "answer_ms": 0, "stalls": [], "transcript": []}
    replies = io.BytesIO()
    lines = [json.dumps(good), "no JSON", json.dumps(good | {"path": "gone.wav"}), json.dumps(good)]
    serve(io.BytesIO("\n".join(lines).encode()), replies)
    answers = [json.loads(line) for line in replies.getvalue().splitlines()]

    assert [200] * 2 == [answers[number]["turns"][0]["started_ms"] for number in (0, 3)]
    assert [True, True] == ["error" in answers[number] for number in (1, 2)]
    assert "gone.wav" in answers[2]["error"]
