"""Pipelines of Pipecat behind a call: sound, interruption, digits, and both ends of it."""

import asyncio
import subprocess
import sys

import numpy as np
import pytest
from loguru import logger
from pipecat.pipeline.worker import PipelineParams
from pipecat.transports.base_transport import TransportParams
from structlog.testing import capture_logs

from media.tones import ToneGenerator
from sip_agent.pipecat import SipTransport
from sip_agent.testing import FakeCall
from tests.pipecat_bots import Echo, PipelineBot, Refusing, Talker, loud


def loud_frames(caller: FakeCall) -> int:
    """Return how many frames the caller has heard that are not silent."""
    return int(np.count_nonzero(loud(caller.heard)))


async def test_echo() -> None:
    """The pipeline hears the caller and the caller the pipeline, at the right pitch."""
    async with FakeCall(PipelineBot(Echo())) as caller:
        await caller.until_answered()
        tone = ToneGenerator(440, 16_000).next(16_000)
        await caller.until(lambda: caller.call.sent_ms > 0, "the start of the pipeline")
        start = len(caller.heard)
        for second in range(2):
            del second
            await caller.speak(tone)
        await caller.until(lambda: loud_frames(caller) > 75)
        heard = caller.heard[start:]
        caller.hang_up()

    first = int(np.argmax(np.abs(heard) > 100))
    spectrum = np.abs(np.fft.rfft(heard[first + 1600 : first + 9600].astype(float) * np.hanning(8000)))
    assert 440 == pytest.approx(np.argmax(spectrum) * 2, abs=4)


@pytest.mark.parametrize("rate_hz", [8_000, 24_000])
async def test_rates(rate_hz: int) -> None:
    """A pipeline gets the caller's sound at its own rate, and its own sound is resampled to the call's."""
    params = PipelineParams(audio_in_sample_rate=rate_hz, audio_out_sample_rate=24_000)
    async with FakeCall(PipelineBot(Talker(), params=params)) as caller:
        await caller.until(lambda: loud_frames(caller) >= 50)
        heard = caller.heard

    first = int(np.argmax(np.abs(heard) > 100))
    spectrum = np.abs(np.fft.rfft(heard[first + 1600 : first + 9600].astype(float) * np.hanning(8000)))
    assert 500 == pytest.approx(np.argmax(spectrum) * 2, abs=4)


async def test_said_whole() -> None:
    """Sound that the pipeline makes all at once is heard whole and without a gap; its words are on record."""
    async with FakeCall(PipelineBot(Talker())) as caller:
        await caller.until(lambda: bool(caller.record.transcript))
        heard = loud(caller.heard)

    first, last = np.flatnonzero(heard)[[0, -1]]
    assert 250 == pytest.approx(last - first + 1, abs=3)
    assert heard[first : last + 1].all()
    assert [("agent", "one two three four five")] == [
        (entry["speaker"], entry["text"]) for entry in caller.record.transcript
    ]


async def test_interruption() -> None:
    """An interruption of the pipeline silences the caller's ear with the next frame; what was heard is on record."""
    async with FakeCall(PipelineBot(Talker())) as caller:
        await caller.until(lambda: loud_frames(caller) >= 125)
        caller.press("1")
        await dropped(caller)
        rest = await caller.hear(2000)

    assert not loud(rest).any()
    assert ["one two"] == [entry["text"] for entry in caller.record.transcript]


async def test_what_is_not_to_be_interrupted() -> None:
    """Sound that the pipeline marks as not interruptible is heard whole."""
    async with FakeCall(PipelineBot(Talker(interruptible=False))) as caller:
        await caller.until(lambda: loud_frames(caller) >= 125)
        caller.press("12")
        await caller.until(lambda: bool(caller.digits))
        await caller.hear(200)
        heard = loud_frames(caller)

    assert 250 == pytest.approx(heard, abs=3)


async def dropped(caller: FakeCall) -> None:
    """Wait until nothing is queued, while the clock of the call stands still."""
    async with asyncio.timeout(10):
        while caller.call.queued_ms:  # noqa: ASYNC110  (a queue tells nobody of itself)
            await asyncio.sleep(0.001)


async def test_digits() -> None:
    """The caller's digits reach the pipeline, and the pipeline's the caller."""
    async with FakeCall(PipelineBot(Talker())) as caller:
        await caller.until(lambda: loud_frames(caller) > 0)
        caller.press("1A2")
        await caller.until(lambda: bool(caller.digits))

    assert "42" == caller.digits


async def test_record() -> None:
    """What the pipeline recognised and which tools it used stands in the record."""
    async with FakeCall(PipelineBot(Talker())) as caller:
        await caller.until(lambda: loud_frames(caller) > 0)
        caller.press("3")
        await caller.until(lambda: len(caller.record.transcript) == 2)
        said, used = sorted(caller.record.transcript, key=lambda entry: "tool" in entry)

    assert ("caller", "A table for two.") == (said["speaker"], said["text"])
    assert ("find_table", {"guests": 2}, {"table": 7}) == (used["tool"], used["arguments"], used["result"])


async def test_the_pipeline_ends() -> None:
    """A pipeline that ends hangs up once all was heard, and the record has its reason."""
    async with FakeCall(PipelineBot(Talker())) as caller:
        await caller.until(lambda: loud_frames(caller) > 0)
        caller.press("9")
        await caller.until_ended()
        heard = loud(caller.heard)

    assert 250 == pytest.approx(np.count_nonzero(heard), abs=3)
    assert ("agent", "the pipeline ended: goodbye") == (caller.record.ended_by, caller.record.end_reason)
    assert ("answered", None) == (caller.record.outcome, caller.record.error)


async def test_the_caller_hangs_up() -> None:
    """The end of the call cancels the pipeline; both events of the transport come, each once."""
    bot = PipelineBot(Talker())
    async with FakeCall(bot) as caller:
        await caller.until(lambda: loud_frames(caller) > 0)
        caller.hang_up()

    call_uuid = caller.record.call_uuid
    assert [f"connected {call_uuid}", f"disconnected {call_uuid}"] == bot.events
    assert ("answered", "caller", None) == (caller.record.outcome, caller.record.ended_by, caller.record.error)


async def test_a_pipeline_that_cannot_start() -> None:
    """A pipeline that does not start fails the call, and the record says so."""
    async with FakeCall(PipelineBot(Refusing())) as caller:
        await caller.until_ended()

    assert "failed" == caller.record.outcome
    assert "the pipeline did not start: Error setting up processor: no model was loaded" == caller.record.error


async def test_a_fatal_error() -> None:
    """An error that ends the pipeline fails the call, and the record says so."""
    async with FakeCall(PipelineBot(Talker())) as caller:
        await caller.until(lambda: loud_frames(caller) > 0)
        caller.press("6")
        with pytest.warns(DeprecationWarning, match="fatal=True"):
            await caller.until_ended()

    assert ("failed", "system") == (caller.record.outcome, caller.record.ended_by)
    assert "the pipeline ended: no money is left" == caller.record.error


@pytest.mark.parametrize("mended", [True, False])
async def test_an_error_that_is_not_fatal(*, mended: bool) -> None:
    """What an error kept the caller waiting is a stall, until the bot is heard again or the call is over."""
    async with FakeCall(PipelineBot(Talker())) as caller:
        await caller.until(lambda: bool(caller.record.transcript))
        failed_ms = caller.call.elapsed_ms()
        with capture_logs() as entries:
            caller.press("44")
            await caller.until(lambda: len([entry for entry in entries if entry["event"] == "pipecat.error"]) == 2)
        assert [] == caller.record.stalls
        await caller.hear(3000)
        if mended:
            heard = loud_frames(caller)
            caller.press("5")
            await caller.until(lambda: loud_frames(caller) > heard)
            await caller.until(lambda: bool(caller.record.stalls))
        settled_ms = caller.call.elapsed_ms()
        caller.hang_up()

    assert ("answered", None) == (caller.record.outcome, caller.record.error)
    (stall,) = caller.record.stalls
    assert stall["cause"].startswith("pipeline_error: ")
    assert "the model is away" in stall["cause"]
    assert failed_ms <= stall["started_ms"]
    assert failed_ms + 3000 <= stall["ended_ms"] <= settled_ms + 100


async def test_parameters() -> None:
    """What the user sets stays; the output has the call's rate, whatever is set."""
    async with FakeCall() as caller:
        await caller.call.answer()
        params = TransportParams(audio_in_enabled=False, audio_out_sample_rate=44_100, audio_out_end_silence_secs=1)
        transport = SipTransport(caller.call, params, input_name="ear", output_name="mouth")

        assert ("ear", "mouth") == (transport.input().name, transport.output().name)
        assert (False, 16_000, 1) == (
            transport.input()._params.audio_in_enabled,
            transport.output()._params.audio_out_sample_rate,
            transport.output()._params.audio_out_end_silence_secs,
        )
        assert caller.record.call_uuid == transport.get_client_id(caller.call)
        assert 44_100 == params.audio_out_sample_rate


def test_log() -> None:
    """Warnings of Pipecat stand in our log; what it says beside is dropped."""
    with capture_logs() as entries:
        logger.debug("chatter")
        logger.warning("trouble")

    assert [("warning", "pipecat.log", "trouble")] == [
        (entry["log_level"], entry["event"], entry["message"]) for entry in entries
    ]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_only_who_wants_it_imports_pipecat() -> None:
    """Nothing else of the agent imports Pipecat."""
    code = "import sys, sip_agent.agent, sip_agent.testing, sip_agent.cli; print('pipecat' in sys.modules)"

    assert "False\n" == run_python(code).stdout


def test_imports_quietly() -> None:
    """Importing the transport prints nothing."""
    done = run_python("import sip_agent.pipecat")

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("missing", ["loguru", "pipecat"])
def test_without_the_extra(missing: str) -> None:
    """Without the extra the message says what to install."""
    done = run_python(f"import sys; sys.modules[{missing!r}] = None; import sip_agent.pipecat")

    assert "sip_agent.pipecat needs Pipecat" in done.stderr
    assert "pip install 'sip-agent[pipecat]'" in done.stderr
