"""Handlers of the tests of hearing, reached by `module:Class` routes inside the agent's process."""

from media.tones import ToneGenerator
from sip_agent.audio import BargeIn
from sip_agent.call import Call


class Interrupted:
    """Play a tone of 1000 Hz for a minute and give way as the option says; note how much was played."""

    def __init__(self, barge_in: str = "stop") -> None:
        self._barge_in = BargeIn(barge_in)

    async def handle(self, call: Call) -> None:
        """Answer, play, note what was played, and wait for the end."""
        await call.answer()
        tone = ToneGenerator(1000, call.sample_rate_hz, level_dbov=-15)
        playback = await call.play(tone.next(60 * call.sample_rate_hz), barge_in=self._barge_in)
        call.transcript.add("agent", f"{playback.played_ms}")
        await call.disconnected


class Intrudes:
    """Say nothing until the caller speaks; then play a tone of 1000 Hz for two seconds, as `Interrupted` does."""

    def __init__(self, barge_in: str = "stop") -> None:
        self._barge_in = BargeIn(barge_in)

    async def handle(self, call: Call) -> None:
        """Answer, wait for speech, play into it, note what was played, and wait for the end."""
        await call.answer()
        async for _ in call.speech():
            break
        tone = ToneGenerator(1000, call.sample_rate_hz, level_dbov=-15)
        playback = await call.play(tone.next(2 * call.sample_rate_hz), barge_in=self._barge_in)
        call.transcript.add("agent", f"{playback.played_ms} {playback.interrupted}")
        await call.disconnected


class Understand:
    """Note each utterance: how long it was."""

    async def handle(self, call: Call) -> None:
        """Answer and listen."""
        await call.answer()
        async for utterance in call.utterances():
            call.transcript.add("caller", f"{utterance.ended_ms - utterance.started_ms}", at_ms=utterance.started_ms)


class SayAndDial:
    """Say a sentence, then send digits by INFO."""

    async def handle(self, call: Call) -> None:
        """Answer, say, dial, hang up."""
        await call.answer()
        await call.say("Good evening, and welcome to the agent.")
        await call.send_dtmf("4#", method="info")
