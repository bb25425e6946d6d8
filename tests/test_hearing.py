"""Hearing: speech, utterances and digits of a call, worked out off the event loop."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest
from structlog.testing import capture_logs

from media import silero
from media.dtmf import dtmf_tones
from media.endpointing import Endpointing
from media.frames import Samples, silence
from media.silero import ModelFileError, SileroDetector
from media.vad import Floats, LevelDetector
from sip_agent.audio import CallAudio
from sip_agent.call import Call, SpeechEnded, SpeechStarted, Utterance
from sip_agent.config.hearing import DetectorChoice, HearingSettings
from sip_agent.digits import InBandDtmf
from sip_agent.errors import CallEnded, SpeechError, UserAgentError
from sip_agent.hearing import BACKLOG_FRAMES, BATCH_MS, EVENTS_MAX, EventStream, Hearing
from sip_agent.testing import FakeCall, FakePort, FakeSpeech, speech_like
from tests.media.voices import scene, spoken, with_noise

RATE_HZ = 16_000

BATCH_TICKS = -(-BATCH_MS // 20)

TALK = (
    "Please press one for sales, two for service, three for everything else, or stay on the line.",
    "My number is nine four seven, zero zero eight, five five five, one two three six.",
    "Eeeee. Aaaaa. Ooooo. Uuuuu. Hmmmm. Aha. Oh no, oh yes, you and I, we see three bees.",
    "The quick brown fox jumps over the lazy dog, while the five boxing wizards jump quickly.",
    "Eighteen hours a day she sang, hummed, whistled and shouted at the sea, and the sea answered.",
    "I would like to book a table for two people, tomorrow evening at eight, near the window.",
    "Our reference is alpha alpha nine, bravo eight, zulu zero; the postal code is W one A one A A.",
    "Well, I really don't know, maybe on Monday, or rather on Tuesday afternoon, around a quarter to four.",
    "Can you hear me now? Hello? Hello! I said: can you hear me? Yes, yes, very well, thank you.",
    "In an hour or two we are going to need a new ladder, a long rope and a lot of yellow paint.",
)


class Talk:
    """A handler that answers and does what the test says."""

    def __init__(self, talk: object) -> None:
        self._talk = talk

    async def handle(self, call: Call) -> None:
        """Answer, then go on."""
        await call.answer()
        await self._talk(call)  # type: ignore[operator]


async def listen(call: Call, into: list[Utterance]) -> None:
    """Keep every utterance."""
    async for utterance in call.utterances():
        into.append(utterance)  # noqa: PERF401  (they come one by one)


class TestUtterances:
    """`call.utterances()`."""

    async def test_what_the_caller_says(self) -> None:
        """Each stretch of speech is one utterance, with its times since the answer, its sound and its text."""
        heard: list[Utterance] = []
        speech = FakeSpeech(["a table for two", None])
        async with FakeCall(Talk(lambda call: listen(call, heard)), speech=speech) as caller:
            await caller.until_answered()
            await caller.hear(960)
            await caller.speak(speech_like(800))
            await caller.hear(960)
            await caller.speak(speech_like(480))
            await caller.hear(960)

        assert [(960, 1760), (2720, 3200)] == [(item.started_ms, item.ended_ms) for item in heard]
        assert ["a table for two", None] == [item.text for item in heard]
        assert [(1000, RATE_HZ), (680, RATE_HZ)] == [
            (len(item.samples) * 1000 // RATE_HZ, item.sample_rate_hz) for item in heard
        ]
        assert all(np.array_equal(given.samples, sound) for given, sound in zip(heard, speech.heard, strict=True))
        assert [{"speaker": "caller", "text": "a table for two", "at_ms": 960}] == caller.record.transcript

    async def test_without_recognition(self) -> None:
        """Who wants no text pays for none."""
        heard: list[Utterance] = []

        async def talk(call: Call) -> None:
            async for utterance in call.utterances(recognize=False):
                heard.append(utterance)  # noqa: PERF401

        speech = FakeSpeech(["never"])
        async with FakeCall(Talk(talk), speech=speech) as caller:
            await caller.until_answered()
            await caller.speak(speech_like(500))
            await caller.hear(1000)

        assert [None] == [item.text for item in heard]
        assert [] == speech.heard

    async def test_a_recognizer_that_fails(self) -> None:
        """A failure of the recognizer costs the text of one utterance, and is logged."""
        heard: list[Utterance] = []
        speech = FakeSpeech([SpeechError("the recognizer failed: no model"), "hello"])
        with capture_logs() as logs:
            async with FakeCall(Talk(lambda call: listen(call, heard)), speech=speech) as caller:
                await caller.until_answered()
                for _ in range(2):
                    await caller.speak(speech_like(500))
                    await caller.hear(1000)

        assert [None, "hello"] == [item.text for item in heard]
        assert ["the recognizer failed: no model"] == [
            entry["error"] for entry in logs if entry["event"] == "call.not_recognized"
        ]

    async def test_a_cough_is_none(self) -> None:
        """What is shorter than speech is no utterance."""
        heard: list[Utterance] = []
        async with FakeCall(Talk(lambda call: listen(call, heard))) as caller:
            await caller.until_answered()
            await caller.speak(speech_like(120))
            await caller.hear(1500)

        assert [] == heard

    async def test_the_last_words_before_the_caller_hangs_up(self) -> None:
        """What the caller said last is heard, though the call is over before the silence that ends it."""
        heard: list[Utterance] = []
        async with FakeCall(Talk(lambda call: listen(call, heard)), speech=FakeSpeech(["bye"])) as caller:
            await caller.until_answered()
            await caller.speak(speech_like(600))
            caller.hang_up()

        assert ["bye"] == [item.text for item in heard]

    async def test_begins_with_the_call_of_the_method(self) -> None:
        """What is said between `utterances()` and the first turn of the loop over it is not lost."""
        async with FakeCall() as caller:
            await caller.call.answer()
            utterances = caller.call.utterances()
            await caller.speak(speech_like(500))
            await caller.hear(1000)

            utterance = await anext(utterances)
        assert (0, 512) == (utterance.started_ms, utterance.ended_ms)

    async def test_before_the_answer(self) -> None:
        """Where no sound flows yet, there is nothing to listen to, and the error says what to do."""
        async with FakeCall() as caller:
            with pytest.raises(UserAgentError, match=r"await call\.answer"):
                caller.call.utterances()

    async def test_after_the_call(self) -> None:
        """Where the call is over, the iteration is."""
        async with FakeCall() as caller:
            await caller.call.answer()
            caller.hang_up()

            assert [] == [utterance async for utterance in caller.call.utterances()]

    async def test_a_call_without_ears(self) -> None:
        """A call that was made without hearing says so."""
        async with FakeCall() as caller:
            await caller.call.answer()
            caller.call._hearing = None
            with pytest.raises(UserAgentError, match="nothing listens"):
                caller.call.speech()

    async def test_early_media(self) -> None:
        """What is said before the answer has times before it: the answer is where time begins."""
        async with FakeCall() as caller:
            await caller.call.progress()
            utterances = caller.call.utterances()
            await caller.speak(speech_like(512))
            await caller.call.answer()
            await caller.hear(1000)
            utterance = await anext(utterances)

        assert utterance.started_ms < 0
        assert 0 == pytest.approx(utterance.ended_ms, abs=20)


class TestSpeech:
    """`call.speech()`."""

    async def test_starts_and_ends(self) -> None:
        """Each stretch of speech starts and ends, a cough too."""
        heard: list[SpeechStarted | SpeechEnded] = []

        async def talk(call: Call) -> None:
            async for event in call.speech():
                heard.append(event)  # noqa: PERF401

        async with FakeCall(Talk(talk)) as caller:
            await caller.until_answered()
            await caller.hear(480)
            await caller.speak(speech_like(160))
            await caller.hear(1120)
            await caller.speak(speech_like(640))
            await caller.hear(960)

        assert [
            SpeechStarted(at_ms=480),
            SpeechEnded(at_ms=640),
            SpeechStarted(at_ms=1760),
            SpeechEnded(at_ms=2400),
        ] == heard

    async def test_the_ear_knows_whether_somebody_speaks(self) -> None:
        """From the start of speech to its end, also for those who did not listen then."""
        async with FakeCall() as caller:
            await caller.call.answer()
            ear = caller.call._open_ear("speech")
            spoke = [ear.speaking]
            for sound in (speech_like(320), silence(320, RATE_HZ), silence(640, RATE_HZ)):
                await caller.speak(sound)
                spoke.append(ear.speaking)

        assert [False, True, True, False] == spoke

    async def test_the_model_hears_a_voice_in_noise(self) -> None:
        """With the model, a voice is told from a tone and from noise."""
        heard: list[SpeechStarted | SpeechEnded] = []

        async def talk(call: Call) -> None:
            async for event in call.speech():
                heard.append(event)  # noqa: PERF401

        voice = spoken("Good evening, I would like to book a table.", RATE_HZ)
        sound = with_noise(scene(1000, voice, 1000, sample_rate_hz=RATE_HZ), -45)
        async with FakeCall(Talk(talk), detector=SileroDetector()) as caller:
            await caller.until_answered()
            await caller.speak(speech_like(1000))
            await caller.hear(1000)
            await caller.speak(sound)

        assert [SpeechStarted, SpeechEnded] == [type(event) for event in heard]
        assert heard[0].at_ms == pytest.approx(3000, abs=150)


class TestDigits:
    """Digits as tones."""

    @pytest.mark.parametrize(
        ("telephone_event", "wanted", "expected"),
        [
            (False, InBandDtmf.AUTO, "12#"),
            (True, InBandDtmf.AUTO, ""),
            (True, InBandDtmf.ALWAYS, "12#"),
            (False, InBandDtmf.NEVER, ""),
        ],
    )
    async def test_where_they_are_looked_for(self, telephone_event: bool, wanted: InBandDtmf, expected: str) -> None:
        """By default tones are digits where the caller has no other way to send them."""
        async with FakeCall(telephone_event=telephone_event, in_band_dtmf=wanted) as caller:
            await caller.call.answer()
            await caller.speak(dtmf_tones("12#", RATE_HZ))
            await caller.hear(200)

        assert expected == "".join(entry["digit"] for entry in caller.record.dtmf)
        assert {"inband"} >= {entry["method"] for entry in caller.record.dtmf}

    async def test_each_digit_once(self) -> None:
        """A digit that comes as an event, as a tone and by INFO is one digit; pressed twice it is two."""
        async with FakeCall(in_band_dtmf=InBandDtmf.ALWAYS) as caller:
            await caller.call.answer()
            for digit in "1122":
                caller.press(digit)
                await caller.speak(dtmf_tones(digit, RATE_HZ))
                await caller.hear(100)
                caller.press(digit, method="info")
                await caller.hear(100)
            digits = await caller.call.gather(digit_timeout_s=0.01)

        assert "1122" == digits
        assert ["rfc4733"] * 4 == [entry["method"] for entry in caller.record.dtmf]

    async def test_speech_holds_no_digits(self) -> None:
        """Two minutes of speech, with noise and without, give not one digit (talk-off, ITU-T Q.24)."""
        voice = np.concatenate([spoken(text, 8000) for text in TALK])
        async with FakeCall(sample_rate_hz=8000, in_band_dtmf=InBandDtmf.ALWAYS) as caller:
            await caller.call.answer()
            await caller.speak(voice)
            await caller.speak(with_noise(voice, -40))

        assert 2 * len(voice) >= 120 * 8000
        assert [] == caller.record.dtmf


class Line:
    """A call's sound whose media clock is the test's, and an ear on it."""

    def __init__(self, hearing: Hearing) -> None:
        self.port = FakePort(RATE_HZ)
        self.audio = CallAudio(self.port)
        self.ear = hearing.listen_for_speech(self.audio, lambda at: round(at.timestamp() * 1000))

    def tick(self, ticks: int = 1, said: Samples | None = None) -> None:
        """Let 20 ms pass, so many times."""
        for _ in range(ticks):
            self.port.tick(said)
            self.audio.tick()


class Gate(LevelDetector):
    """A detector that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.batches: list[int] = []
        self.fail = False

    def advance(self, chunks: Floats, states: Floats) -> tuple[Floats, Floats]:
        """Wait, then judge by level."""
        self.entered.set()
        assert self.open.wait(10)
        streams, chunks_of_each, _ = chunks.shape
        self.batches += [streams] * chunks_of_each
        if self.fail:
            raise ArithmeticError("no answer")
        return super().advance(chunks, states)


async def until(condition: object) -> None:
    """Let the loop run until something holds."""
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class TestThread:
    """The one thread that listens to all calls."""

    async def test_the_loop_goes_on_while_the_thread_works(self) -> None:
        """A slow detector delays what is heard, and nothing else; what came meanwhile is one batch."""
        gate = Gate()
        hearing = Hearing(gate)
        lines = [Line(hearing) for _ in range(3)]
        for line in lines:
            line.tick(BATCH_TICKS)
        await until(gate.entered.is_set)
        for line in lines:
            line.tick(20 - BATCH_TICKS)
        gate.open.set()
        await until(lambda: sum(gate.batches) == 3 * (20 * 20 // 32))
        hearing.close()

        assert {3} == set(gate.batches)

    async def test_calls_keep_step(self) -> None:
        """Calls that begin at different times have their batches in the same ticks."""
        gate = Gate()
        gate.open.set()
        hearing = Hearing(gate)
        lines: list[Line] = []
        for tick in range(7 + 3 * 16):
            if len(lines) < 7:
                lines.append(Line(hearing))
            if tick == 7 + 16:  # now that all have begun
                gate.batches.clear()
            for line in lines:
                line.tick()
            await until(lambda: not hearing._busy and not hearing._due)
        hearing.close()

        assert {7} == set(gate.batches)
        assert 2 * 16 * 20 // 32 == len(gate.batches)

    async def test_a_thread_that_does_not_keep_up(self) -> None:
        """The backlog of a call has an end: the oldest sound is not listened to, and times stay right."""
        gate = Gate()
        hearing = Hearing(gate, Endpointing(start_ms=32), clock=lambda: datetime.fromtimestamp(100, UTC))
        line = Line(hearing)
        events = line.ear.events()
        line.tick(BATCH_TICKS)
        await until(gate.entered.is_set)
        line.tick(BACKLOG_FRAMES)
        line.tick(50, speech_like(20))

        assert BACKLOG_FRAMES == len(line.ear._pending)
        gate.open.set()
        started = await anext(events)
        hearing.close()
        # Began 20 ms before second 100; the first batch, 250 silent ticks, then speech.
        assert isinstance(started, SpeechStarted)
        assert started.at_ms == pytest.approx(100_000 + (BATCH_TICKS + 250 - 1) * 20, abs=32)

    async def test_a_failure_is_logged_and_no_end(self) -> None:
        """What goes wrong with one batch is not for the next."""
        gate = Gate()
        gate.open.set()
        gate.fail = True
        hearing = Hearing(gate)
        line = Line(hearing)
        with capture_logs() as logs:
            line.tick(BATCH_TICKS)
            await until(lambda: any(entry["event"] == "hearing.failed" for entry in logs))
        gate.fail = False
        line.tick(BATCH_TICKS)
        await until(lambda: len(gate.batches) >= 2)
        hearing.close()

    async def test_a_call_that_nobody_listens_to_costs_nothing(self) -> None:
        """Without a listener no sound goes to the thread."""
        gate = Gate()
        gate.open.set()
        executor = ThreadPoolExecutor(1)
        Hearing(gate, executor=executor)
        async with FakeCall() as caller:
            await caller.call.answer()
            await caller.speak(speech_like(1000))

        assert [] == gate.batches

    async def test_calls_that_end_are_let_go(self) -> None:
        """An ear goes with its call."""
        gate = Gate()
        gate.open.set()
        hearing = Hearing(gate)
        line = Line(hearing)
        stream = line.ear.events()
        line.tick(3)
        line.audio.close()

        assert [] == [event async for event in stream]
        assert not hearing._ears
        hearing.close()

    async def test_an_abandoned_stream_is_let_go(self) -> None:
        """A stream that nobody holds is not fed."""
        hearing = Hearing(LevelDetector())
        line = Line(hearing)
        stream = line.ear.events()
        assert [stream] == line.ear._live_streams()
        del stream
        gc.collect()

        assert [] == line.ear._live_streams()
        hearing.close()


async def test_events_that_nobody_takes() -> None:
    """Of events that nobody takes, the newest are kept."""
    stream = EventStream()
    for at_ms in range(EVENTS_MAX + 10):
        stream.push(SpeechStarted(at_ms=at_ms))
    stream.end()

    assert [SpeechStarted(at_ms=at_ms) for at_ms in range(10, EVENTS_MAX + 10)] == [event async for event in stream]


class TestSettings:
    """`Hearing.from_settings`."""

    async def test_the_model_is_the_default(self) -> None:
        """Without settings, the model listens, by the documented rules."""
        hearing = Hearing.from_settings(HearingSettings())
        hearing.close()

        assert isinstance(hearing._detector, SileroDetector)
        assert Endpointing() == hearing._endpointing

    async def test_levels(self) -> None:
        """Who wants levels gets levels."""
        hearing = Hearing.from_settings(HearingSettings(detector=DetectorChoice.LEVELS))
        hearing.close()

        assert isinstance(hearing._detector, LevelDetector)

    async def test_without_the_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the weights are missing, levels do, and the log says why."""

        def missing() -> None:
            raise ModelFileError("no weights")

        monkeypatch.setattr(silero, "installed_weights", missing)
        with capture_logs() as logs:
            hearing = Hearing.from_settings(HearingSettings())
        hearing.close()

        assert isinstance(hearing._detector, LevelDetector)
        assert [("hearing.without_model", "no weights")] == [(entry["event"], entry["error"]) for entry in logs]


async def test_gone_while_listening() -> None:
    """A call that ends lets who waits for speech go on."""
    async with FakeCall() as caller:
        await caller.call.answer()
        waiting = asyncio.ensure_future(anext(caller.call.speech(), None))
        await caller.hear(100)
        caller.hang_up()

        assert await waiting is None
        with pytest.raises(CallEnded):
            await caller.call.send(silence(20, RATE_HZ))
