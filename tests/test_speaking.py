"""Speaking: barge-in, and what was heard of a text."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from media.frames import Samples
from sip_agent.audio import BargeIn, Playback
from sip_agent.call import Call
from sip_agent.errors import CallEnded, SpeechError, UserAgentError
from sip_agent.testing import CHARACTER_MS, FakeCall, FakeSpeech, speech_like

RATE_HZ = 16_000

FIRST, SECOND = "What can I do for you today?", "We are open until ten in the evening."
PAUSE_MS = 250


class Talk:
    """A handler that answers and does what the test says, and keeps its result."""

    def __init__(self, talk: Callable[[Call], Awaitable[Playback]]) -> None:
        self.result: Playback | None = None
        self._talk = talk

    async def handle(self, call: Call) -> None:
        """Answer, then go on."""
        await call.answer()
        self.result = await self._talk(call)


def loud_ms(heard: Samples) -> int:
    """Return for how long something was heard."""
    frames = heard[: len(heard) // 320 * 320].reshape(-1, 320)
    return int(np.sum(np.any(frames, axis=1))) * 20


class TestBargeIn:
    """What becomes of a playback when the caller speaks."""

    async def test_stop(self) -> None:
        """Playout stops when speech is heard, and the result says how much was played."""
        handler = Talk(lambda call: call.play(speech_like(5000), barge_in=BargeIn.STOP))
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.hear(1000)
            heard = await caller.speak(speech_like(1000))

        assert handler.result is not None
        assert handler.result.interrupted
        assert 0 < loud_ms(heard) <= 180  # until 64 ms of speech, in batches of 64, have come
        assert loud_ms(caller.heard) == handler.result.played_ms

    async def test_a_cough_stops_too(self) -> None:
        """`STOP` does not wait to find out how long the speech lasts."""
        handler = Talk(lambda call: call.play(speech_like(3000), barge_in=BargeIn.STOP))
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.hear(400)
            await caller.speak(speech_like(120))
            await caller.hear(3000)

        assert loud_ms(caller.heard) < 600

    async def test_pause_and_go_on_after_a_cough(self) -> None:
        """A cough is answered with silence, and then every sample of the rest is heard."""
        sound = np.arange(1, 3 * RATE_HZ + 1, dtype=np.int16)
        handler = Talk(lambda call: call.play(sound, barge_in=BargeIn.PAUSE))
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.hear(600)
            await caller.speak(speech_like(120))
            pause = await caller.hear(500)
            await caller.hear(4000)

        assert handler.result == Playback(played_ms=3000, interrupted=False)
        assert loud_ms(pause) <= 60
        silent = np.flatnonzero(caller.heard == 0)
        assert np.array_equal(sound[sound != 0], np.delete(caller.heard, silent))

    async def test_pause_and_stop_when_it_is_speech(self) -> None:
        """What turns out to be speech ends the playback for good."""
        handler = Talk(lambda call: call.play(speech_like(3000), barge_in=BargeIn.PAUSE))
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.hear(600)
            await caller.speak(speech_like(800))
            await caller.until_ended()

        assert handler.result is not None
        assert handler.result.interrupted
        assert loud_ms(caller.heard) == handler.result.played_ms < 800

    async def test_ignore(self) -> None:
        """Unless it is asked for, the agent plays on, and nothing listens."""
        handler = Talk(lambda call: call.play(speech_like(1000)))
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.speak(speech_like(1000))
            assert caller.call._ear is None
            await caller.until_ended()

        assert handler.result == Playback(played_ms=1000, interrupted=False)

    async def test_the_next_playback_is_not_stopped_by_the_last_speech(self) -> None:
        """Speech that has stopped one playback does not stop the next, which the caller may hear to its end."""

        async def talk(call: Call) -> Playback:
            await call.play(speech_like(2000), barge_in=BargeIn.STOP)
            return await call.play(speech_like(500), barge_in=BargeIn.STOP)

        handler = Talk(talk)
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.hear(300)
            await caller.speak(speech_like(600))
            await caller.until_ended()

        assert handler.result == Playback(played_ms=500, interrupted=False)

    @pytest.mark.parametrize("say", [False, True])
    async def test_what_begins_while_the_caller_speaks_is_dropped(self, say: bool) -> None:
        """`STOP` does not wait for the next speech: not a frame of it leaves while the caller speaks."""

        async def talk(call: Call) -> Playback:
            async for _ in call.speech():
                break
            return await (call.say(FIRST) if say else call.play(speech_like(3000), barge_in=BargeIn.STOP))

        handler = Talk(talk)
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.speak(speech_like(2000))
            await caller.until_ended()

        assert handler.result == Playback(played_ms=0, interrupted=True, heard="" if say else None)
        assert 0 == loud_ms(caller.heard)
        assert not caller.port.paused

    async def test_what_begins_when_the_caller_has_spoken_is_heard(self) -> None:
        """An answer to what was said is played to its end, with the caller's last word just over."""

        async def talk(call: Call) -> Playback:
            async for _ in call.utterances():
                break
            return await call.play(speech_like(500), barge_in=BargeIn.STOP)

        handler = Talk(talk)
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.speak(speech_like(640))
            await caller.until_ended()

        assert handler.result == Playback(played_ms=500, interrupted=False)

    @pytest.mark.parametrize("spoken_ms", [120, 1000])
    async def test_a_pause_lasts_until_the_caller_is_silent(self, spoken_ms: int) -> None:
        """`PAUSE` keeps what begins while the caller speaks, however long that is, and then plays all of it."""

        async def talk(call: Call) -> Playback:
            async for _ in call.speech():
                break
            return await call.play(speech_like(500), barge_in=BargeIn.PAUSE)

        handler = Talk(talk)
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            meanwhile = await caller.speak(speech_like(spoken_ms))
            await caller.until_ended()

        assert handler.result == Playback(played_ms=500, interrupted=False)
        assert 0 == loud_ms(meanwhile)
        assert 500 == loud_ms(caller.heard)

    async def test_nothing_to_play_while_the_caller_speaks(self) -> None:
        """A playback that is over before it could be dropped takes nothing with it."""

        async def talk(call: Call) -> Playback:
            async for _ in call.speech():
                break
            await call.play(np.empty(0, np.int16), barge_in=BargeIn.STOP)
            return await call.play(speech_like(200))

        handler = Talk(talk)
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.speak(speech_like(500))
            await caller.until_ended()

        assert handler.result == Playback(played_ms=200, interrupted=False)

    async def test_cancelled_while_paused(self) -> None:
        """Who gives up a paused playback leaves no call that is paused for ever."""

        async def talk(call: Call) -> Playback:
            playing = asyncio.create_task(call.play(speech_like(5000), barge_in=BargeIn.PAUSE))
            async for _ in call.speech():
                break
            playing.cancel()
            await asyncio.wait({playing})
            call.stop_playback()
            return await call.play(speech_like(200))

        handler = Talk(talk)
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.hear(300)
            await caller.speak(speech_like(200))
            await caller.until_ended()

        assert handler.result == Playback(played_ms=200, interrupted=False)
        assert not caller.port.paused


class TestSay:
    """`call.say()`."""

    async def test_to_the_end(self) -> None:
        """A text is said sentence by sentence, with a breath between, and stands in the transcript."""
        handler = Talk(lambda call: call.say(f"{FIRST} {SECOND}"))
        speech = FakeSpeech()
        async with FakeCall(handler, speech=speech) as caller:
            await caller.until_ended()

        duration_ms = (len(FIRST) + len(SECOND)) * CHARACTER_MS + PAUSE_MS
        assert handler.result is not None
        assert handler.result.played_ms == pytest.approx(duration_ms, abs=20)
        assert not handler.result.interrupted
        assert f"{FIRST} {SECOND}" == handler.result.heard
        assert [FIRST, SECOND] == speech.synthesized
        assert [("agent", f"{FIRST} {SECOND}")] == [
            (entry["speaker"], entry["text"]) for entry in caller.record.transcript
        ]

    async def test_interrupted(self) -> None:
        """By default the caller may interrupt, and only what was heard counts as said."""
        handler = Talk(lambda call: call.say(f"{FIRST} {SECOND}"))
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.hear(len(FIRST) * CHARACTER_MS + PAUSE_MS + 400)
            await caller.speak(speech_like(1000))
            await caller.until_ended()

        assert handler.result is not None
        assert handler.result.interrupted
        assert handler.result.heard in {f"{FIRST} We are", f"{FIRST} We are open"}
        assert [handler.result.heard] == caller.said

    async def test_interrupted_before_the_first_word(self) -> None:
        """Of what was cut before its first word, nothing was said."""
        handler = Talk(lambda call: call.say("Extraordinarily " + SECOND))
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.speak(speech_like(500))
            await caller.until_ended()

        assert handler.result is not None
        assert "" == handler.result.heard
        assert [] == caller.record.transcript

    async def test_the_first_word_does_not_wait_for_the_last(self) -> None:
        """The first sentence is heard before the second is there."""
        second = asyncio.Event()

        class Slow(FakeSpeech):
            async def synthesize(self, text: str, *, voice: str | None, sample_rate_hz: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
                if text == SECOND:
                    await second.wait()
                async for piece in super().synthesize(text, voice=voice, sample_rate_hz=sample_rate_hz):
                    yield piece

        handler = Talk(lambda call: call.say(f"{FIRST} {SECOND}"))
        async with FakeCall(handler, speech=Slow()) as caller:
            await caller.until_answered()
            assert loud_ms(await caller.hear(len(FIRST) * CHARACTER_MS)) > len(FIRST) * CHARACTER_MS - 100
            second.set()
            await caller.until_ended()

        assert handler.result is not None
        assert f"{FIRST} {SECOND}" == handler.result.heard

    async def test_a_text_that_cannot_be_said(self) -> None:
        """A failure of the synthesizer reaches the handler; what was said before stands in the transcript."""
        errors: list[SpeechError] = []

        async def talk(call: Call) -> Playback:
            try:
                await call.say(f"{FIRST} {SECOND}")
            except SpeechError as error:
                errors.append(error)
            return await call.say("I am sorry for that.")

        handler = Talk(talk)
        async with FakeCall(handler, speech=FakeSpeech(refuse=[SECOND])) as caller:
            await caller.until_ended()

        assert ["refused by the test"] == [str(error) for error in errors]
        assert "I am sorry for that." == caller.said[-1]

    async def test_hung_up(self) -> None:
        """A caller who hangs up in the middle ends it; what was heard stands in the transcript."""
        handler = Talk(lambda call: call.say(FIRST))
        async with FakeCall(handler) as caller:
            await caller.until_answered()
            await caller.hear(len("What can I do ") * CHARACTER_MS)
            caller.hang_up()

        assert ["What can I do"] == caller.said
        assert "answered" == caller.record.outcome

    async def test_cancelled(self) -> None:
        """A text that is given up is not heard to its end."""

        async def talk(call: Call) -> Playback:
            saying = asyncio.create_task(call.say(FIRST))
            await call.until_sent(600)
            saying.cancel()
            await asyncio.wait({saying})
            return await call.play(np.zeros(320, np.int16))

        async with FakeCall(Talk(talk)) as caller:
            await caller.until_ended()

        assert loud_ms(caller.heard) <= 660
        assert ["What can I"] == caller.said

    async def test_nothing_to_say(self) -> None:
        """A blank text is said at once."""
        handler = Talk(lambda call: call.say("  \n"))
        async with FakeCall(handler) as caller:
            await caller.until_ended()

        assert handler.result == Playback(played_ms=0, interrupted=False, heard="")

    async def test_without_a_synthesizer(self) -> None:
        """A call that was made without speech services says so."""
        async with FakeCall() as caller:
            await caller.call.answer()
            caller.call._speech = None
            with pytest.raises(UserAgentError, match="no speech synthesis"):
                await caller.call.say("Hello")


class TestPositions:
    """`sent_ms`, `queued_ms`, `until_sent`."""

    async def test_what_was_sent(self) -> None:
        """Sound counts once it has left, silence never."""
        async with FakeCall() as caller:
            call = caller.call
            assert (0, 0) == (call.sent_ms, call.queued_ms)
            await call.answer()
            await call.send(speech_like(100))
            assert (0, 100) == (call.sent_ms, call.queued_ms)
            await caller.hear(60)
            assert (60, 40) == (call.sent_ms, call.queued_ms)
            await caller.hear(200)
            assert (100, 0) == (call.sent_ms, call.queued_ms)

    async def test_waits_until_a_position_is_reached(self) -> None:
        """The wait is over in the tick in which the position is reached."""
        async with FakeCall() as caller:
            await caller.call.answer()
            await caller.call.send(speech_like(200))
            reached = asyncio.create_task(caller.call.until_sent(100))
            await caller.hear(80)
            assert not reached.done()
            await caller.hear(20)
            await reached

            assert 100 == caller.call.sent_ms

    async def test_a_flush_ends_the_wait(self) -> None:
        """What is dropped is never sent: nobody waits for it."""
        async with FakeCall() as caller:
            await caller.call.answer()
            await caller.call.send(speech_like(200))
            reached = asyncio.create_task(caller.call.until_sent(200))
            await caller.hear(60)
            dropped_ms = caller.call.stop_playback()
            await caller.hear(20)
            await reached

            assert (60, 140) == (caller.call.sent_ms, dropped_ms)

    async def test_the_end_of_the_call_ends_the_wait(self) -> None:
        """A call that ends before raises CallEnded."""
        async with FakeCall() as caller:
            await caller.call.answer()
            await caller.call.send(speech_like(200))
            reached = asyncio.create_task(caller.call.until_sent(200))
            await caller.hear(20)
            caller.hang_up()
            with pytest.raises(CallEnded):
                await reached
