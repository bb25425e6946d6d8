"""A call with a bot on the other side: pacing, marks, clearing, digits, and how it ends. The bot is a real server."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from aiohttp import web
from structlog.testing import capture_logs

from media.frames import Samples, silence
from sip_agent.handlers.websocket import WebSocketHandler
from sip_agent.handlers.websocket.bridge import UNREADABLE_MAX
from sip_agent.testing import FakeCall
from tests.handlers.websocket.bots import Bot, running_bot, serving, tone

RATE_HZ = 8000


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    """Run a bot."""
    async with running_bot() as running:
        yield running


@pytest.fixture
def sound_file(tmp_path: Path) -> str:
    """Make a prompt of 400 ms."""
    path = tmp_path / "sorry.wav"
    soundfile.write(path, tone(700, 400), RATE_HZ)
    return str(path)


def calling(bot: Bot, *, rate_hz: int = RATE_HZ, headers: dict[str, str] | None = None, **options: object) -> FakeCall:
    """Return a call whose handler connects it with the bot."""
    handler = WebSocketHandler(bot.url, **{"slow_after_s": 0, **options})  # type: ignore[arg-type]
    return FakeCall(handler, sample_rate_hz=rate_hz, headers=headers)


async def connected(caller: FakeCall, bot: Bot) -> None:
    """Wait until the bot knows of the call."""
    await caller.until_answered()
    await caller.until(lambda: bool(bot.events("start")), "start")


def loud_ms(samples: Samples, rate_hz: int = RATE_HZ) -> float:
    """Return how much of the sound is loud."""
    frames = np.abs(samples[: len(samples) // (rate_hz // 50) * (rate_hz // 50)]).reshape(-1, rate_hz // 50).max(axis=1)
    return float((frames > 2000).sum() * 20)


async def test_the_bot_hears_the_caller_and_knows_the_call(bot: Bot) -> None:
    """Every frame of the caller reaches the bot, in order, after what it is told of the call."""
    async with calling(bot, headers={"X-Run-Id": "7", "X-Tenant": "acme"}, parameters={"from_number": "+1"}) as caller:
        await connected(caller, bot)
        before = len(bot.sound)
        await caller.speak(tone(600, 400))
        await caller.until(lambda: len(bot.sound) >= before + 400 * 8, "the caller's sound")
    kinds = [message["event"] for message in bot.messages]
    start = bot.events("start")[0]["start"]
    numbers = [int(message["sequenceNumber"]) for message in bot.messages[1:]]
    assert ["connected", "start"] == kinds[:2]
    assert {"X-Run-Id": "7", "X-Tenant": "acme", "from_number": "+1"} == start["customParameters"]
    assert list(range(1, len(numbers) + 1)) == numbers
    assert loud_ms(bot.heard) >= 380


async def test_the_bot_is_told_when_the_caller_hangs_up(bot: Bot) -> None:
    """The last message is `stop`; then the socket is closed in order."""
    async with calling(bot) as caller:
        await connected(caller, bot)
    await bot.over.wait()
    assert "stop" == bot.messages[-1]["event"]
    assert 1000 == bot.close_code
    assert ("answered", "caller", None) == (caller.record.outcome, caller.record.ended_by, caller.record.error)


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 48_000])
async def test_sound_sent_at_once_is_heard_in_its_own_time(bot: Bot, rate_hz: int) -> None:
    """Three seconds in one message, in 45 ms pieces, at any rate of the call: three seconds are heard, none skipped."""
    async with calling(bot, rate_hz=rate_hz) as caller:
        await connected(caller, bot)
        await bot.say(tone(900, 1500))
        for _ in range(34):
            await bot.say(tone(900, 45)[: 45 * 8 - 3])
        await bot.send({"event": "mark", "mark": {"name": "end"}})
        start = len(caller.heard)
        await caller.until(lambda: bool(bot.events("mark")), "the mark")
        heard = caller.heard[start:]
    assert 3020 == pytest.approx(loud_ms(heard, rate_hz), abs=60)


async def test_a_mark_comes_back_when_its_sound_was_sent(bot: Bot) -> None:
    """Not when it was queued: the first after 200 ms of sound, the second after 400 more, and not before."""
    async with calling(bot) as caller:
        await connected(caller, bot)
        await bot.say(tone(900, 200))
        await bot.send({"event": "mark", "mark": {"name": "first"}})
        await bot.say(tone(900, 2000))
        await bot.send({"event": "mark", "mark": {"name": "second"}})
        await caller.until(lambda: bool(bot.events("mark")), "the first mark")
        sent_ms = caller.call.sent_ms
        await caller.until(lambda: len(bot.events("mark")) == 2, "the second mark")
    assert 200 <= sent_ms < 1500
    assert ["first", "second"] == [message["mark"]["name"] for message in bot.events("mark")]
    assert caller.call.sent_ms >= 2200


async def test_a_mark_without_sound_comes_back_at_once(bot: Bot) -> None:
    """There is nothing to wait for."""
    async with calling(bot) as caller:
        await connected(caller, bot)
        await bot.send({"event": "mark", "mark": {"name": "now"}})
        await caller.until(lambda: bool(bot.events("mark")), "the mark")


async def test_clear_silences_at_once_and_returns_all_marks(bot: Bot) -> None:
    """Ten seconds are dropped, here and in the engine; what is said after it is heard."""
    async with calling(bot) as caller:
        await connected(caller, bot)
        await bot.say(tone(900, 5000))
        await bot.send({"event": "mark", "mark": {"name": "a"}})
        await bot.say(tone(900, 5000))
        await bot.send({"event": "mark", "mark": {"name": "b"}})
        await caller.until(lambda: caller.call.sent_ms >= 100, "sound")
        await bot.send({"event": "clear"})
        await caller.until(lambda: len(bot.events("mark")) == 2, "both marks")
        after = await caller.hear(1000)
        sent_ms = caller.call.sent_ms
        await bot.say(tone(500, 300))
        await bot.send({"event": "mark", "mark": {"name": "c"}})
        await caller.until(lambda: len(bot.events("mark")) == 3, "the last mark")
    assert 0 == loud_ms(after)
    assert sent_ms < 5000
    assert ["a", "b", "c"] == [message["mark"]["name"] for message in bot.events("mark")]
    assert sent_ms + 300 == caller.call.sent_ms


async def test_digits_reach_the_bot(bot: Bot) -> None:
    """Each once, in order."""
    async with calling(bot) as caller:
        await connected(caller, bot)
        caller.press("12#")
        await caller.until(lambda: len(bot.events("dtmf")) == 3, "digits")
    assert ["1", "2", "#"] == [message["dtmf"]["digit"] for message in bot.events("dtmf")]


async def test_a_plivo_bot_sends_digits(bot: Bot) -> None:
    """They go to the caller; those that are no digits are answered by nothing, and end nothing."""
    async with calling(bot, dialect="plivo") as caller:
        await connected(caller, bot)
        await bot.send({"event": "sendDTMF", "dtmf": "x"})
        await bot.send({"event": "sendDTMF", "dtmf": "42"})
        await caller.until(lambda: caller.digits == "42", "digits")


async def test_digits_that_cannot_be_sent_end_nothing(bot: Bot) -> None:
    """A caller without telephone-event: the log says so, once, and the bot goes on talking."""
    with capture_logs() as logs:
        async with calling(bot, dialect="plivo") as caller:
            caller.refuse.add("send_dtmf")
            await connected(caller, bot)
            for _ in range(UNREADABLE_MAX):
                await bot.send({"event": "sendDTMF", "dtmf": "1"})
            await bot.send({"event": "checkpoint", "name": "end"})
            await caller.until(lambda: bool(bot.events("playedStream")), "the checkpoint")
    (warned,) = [line for line in logs if line["event"] == "bot.digits_not_sent"]
    assert "refused by the test" in warned["error"]
    assert ("answered", None) == (caller.record.outcome, caller.record.error)


async def test_too_many_digits_in_a_message_are_dropped(bot: Bot) -> None:
    """The engine takes them all or none; the log says how many are allowed."""
    with capture_logs() as logs:
        async with calling(bot, dialect="plivo") as caller:
            await connected(caller, bot)
            await bot.send({"event": "sendDTMF", "dtmf": "1" * 33})
            await bot.send({"event": "sendDTMF", "dtmf": "2" * 32})
            await caller.until(lambda: bool(caller.digits), "digits")
    assert "2" * 32 == caller.digits
    (dropped,) = [line for line in logs if line["event"] == "bot.messages_dropped"]
    assert "33 digits in one message; 32 are allowed" == dropped["last"]


async def test_a_plivo_bot_of_16_bits(bot: Bot) -> None:
    """It is told of the stream's format, hears it, and may play another."""
    options = {"dialect": "plivo", "content_type": "audio/x-l16;rate=16000"}
    async with calling(bot, **options) as caller:  # type: ignore[arg-type]
        await connected(caller, bot)
        await caller.speak(tone(600, 400))
        for rate_hz in (8000, 16_000):
            payload = base64.b64encode(tone(900, 200, rate_hz).tobytes()).decode()
            media = {"contentType": "audio/x-l16", "sampleRate": rate_hz, "payload": payload}
            await bot.send({"event": "playAudio", "media": media})
        await caller.until(lambda: caller.call.sent_ms >= 400, "sound")
    assert {"encoding": "audio/x-l16", "sampleRate": 16_000} == bot.events("start")[0]["start"]["mediaFormat"]
    assert loud_ms(np.frombuffer(bytes(bot.sound), np.int16), 16_000) >= 380
    assert 400 == pytest.approx(loud_ms(caller.heard), abs=20)


async def test_a_last_piece_of_a_frame_is_heard(bot: Bot) -> None:
    """Sound that ends inside a frame is completed with silence, and follows the frame before it at once."""
    async with calling(bot) as caller:
        await connected(caller, bot)
        await bot.say(tone(900, 110)[:-40])
        await caller.until(lambda: caller.call.sent_ms >= 120, "the last frame")
        heard = np.flatnonzero(np.abs(caller.heard) > 2000)
    assert 105 == pytest.approx((heard[-1] - heard[0]) / (RATE_HZ // 1000), abs=2)


async def test_a_bot_that_closes_hangs_up_after_its_last_word(bot: Bot) -> None:
    """What it had said is sent; the record names the bot."""
    async with calling(bot) as caller:
        await connected(caller, bot)
        start = len(caller.heard)
        await bot.say(tone(900, 3000))
        await bot.close()
        await caller.until_ended()
        heard = caller.heard[start:]
    assert 3000 == pytest.approx(loud_ms(heard), abs=60)
    assert ("answered", "agent", None) == (caller.record.outcome, caller.record.ended_by, caller.record.error)
    assert f"the bot at {bot.url} closed the stream" == caller.record.end_reason


async def test_a_caller_does_not_have_to_hear_the_last_word_of_a_bot(bot: Bot) -> None:
    """It hangs up while what a bot that closed had said is still being sent: that ends the handler, too."""
    async with calling(bot) as caller:
        await connected(caller, bot)
        await bot.say(tone(900, 10_000))
        await bot.close()
        await bot.over.wait()
        await caller.until(lambda: caller.call.sent_ms >= 100, "sound")
    assert ("answered", "caller", None) == (caller.record.outcome, caller.record.ended_by, caller.record.error)


@pytest.mark.parametrize("how", ["break_off", "1011", "4000"])
async def test_a_bot_that_breaks_off_fails_the_call(bot: Bot, how: str) -> None:
    """A lost connection and any close code but the normal ones: the record says which."""
    async with calling(bot) as caller:
        await connected(caller, bot)
        if how == "break_off":
            bot.break_off()
        else:
            await bot.close(int(how))
        await caller.until_ended()
    code = "1006" if how == "break_off" else how
    expected = f"the bot at {bot.url} went away during the call (WebSocket close code {code})"
    assert ("failed", "agent") == (caller.record.outcome, caller.record.ended_by)
    assert expected == caller.record.end_reason
    assert (caller.record.error or "").startswith(expected)


@pytest.mark.filterwarnings("error::RuntimeWarning", "error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("with_fallback", [False, True])
async def test_a_bot_that_resets_at_once_fails_the_call(sound_file: str, with_fallback: bool) -> None:
    """After the 101 and before anything else: it is as if it broke off later."""

    async def reset(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        assert request.transport is not None
        request.transport.abort()
        return socket

    async with serving(reset) as address:
        handler = WebSocketHandler(f"ws://{address}/", fallback_file=sound_file if with_fallback else "")
        async with FakeCall(handler, sample_rate_hz=RATE_HZ) as caller:
            await caller.until_ended()
    expected = f"the bot at ws://{address}/ went away during the call (WebSocket close code 1006)"
    assert ("failed", "agent", expected) == (caller.record.outcome, caller.record.ended_by, caller.record.error)
    assert (400 if with_fallback else 0) == pytest.approx(loud_ms(caller.heard), abs=40)


async def test_the_caller_hears_the_fallback_when_the_bot_breaks_off(bot: Bot, sound_file: str) -> None:
    """The prompt is played, then the call ends; the record still says `failed`."""
    async with calling(bot, fallback_file=sound_file) as caller:
        await connected(caller, bot)
        bot.break_off()
        start = len(caller.heard)
        await caller.until_ended()
        heard = caller.heard[start:]
    assert 400 == pytest.approx(loud_ms(heard), abs=40)
    assert "failed" == caller.record.outcome
    assert "went away" in (caller.record.error or "")


async def test_a_little_junk_is_survived(bot: Bot) -> None:
    """Messages that cannot be read are dropped, and the conversation goes on."""
    async with calling(bot) as caller:
        await connected(caller, bot)
        for junk in ("{", "[]", '{"event":"media"}', b"\x00"):
            await bot.send(junk)
        await bot.say(tone(900, 200))
        await caller.until(lambda: caller.call.sent_ms >= 200, "sound")
    assert caller.record.error is None


async def test_junk_instead_of_sound_is_on_record(bot: Bot) -> None:
    """The silence has its cause in the stalls; the log has, once, how many were dropped and the last."""
    with capture_logs() as logs:
        async with calling(bot, slow_after_s=0.5) as caller:
            await connected(caller, bot)
            for _ in range(29):
                await bot.send("{")
            await bot.send({"event": "media", "media": {"payload": "?"}})
            await caller.hear(1000)
            await bot.say(tone(900, 200))
            await caller.until(lambda: caller.call.sent_ms >= 200, "sound")
    (dropped,) = [line for line in logs if line["event"] == "bot.messages_dropped"]
    assert (30, "media.payload is no base64") == (dropped["count"], dropped["last"])
    assert ["unreadable_bot: media.payload is no base64"] == [stall["cause"] for stall in caller.record.stalls]


async def test_nothing_but_junk_ends_the_call(bot: Bot) -> None:
    """The record says that the bot speaks another dialect."""
    async with calling(bot) as caller:
        await connected(caller, bot)
        for _ in range(UNREADABLE_MAX):
            await bot.send({"event": "playAudio", "media": {"payload": ""}})
        await caller.until_ended()
    assert "failed" == caller.record.outcome
    assert "not of its dialect" in (caller.record.error or "")
    assert "not 'playAudio'" in (caller.record.error or "")


async def test_sound_beyond_the_queue_is_dropped_and_noted(bot: Bot) -> None:
    """With room for two seconds, ten sent at once are two seconds; the record has a stall that says so."""
    async with calling(bot, queue_s=2) as caller:
        await connected(caller, bot)
        for _ in range(10):
            await bot.say(tone(900, 1000))
        await bot.send({"event": "mark", "mark": {"name": "end"}})
        await caller.until(lambda: bool(bot.events("mark")), "the mark")
        assert caller.call.sent_ms <= 3000
    assert ["bot_queue_full"] == [stall["cause"] for stall in caller.record.stalls]


async def test_a_bot_that_owes_an_answer_is_noted(bot: Bot) -> None:
    """The caller spoke, and heard nothing until the end of the call."""
    async with calling(bot, slow_after_s=0.5) as caller:
        await connected(caller, bot)
        await bot.say(tone(900, 100))
        await caller.until(lambda: caller.call.sent_ms >= 100, "the first word")
        await caller.speak(silence(200, RATE_HZ))
        await caller.speak(tone(600, 400))
        await caller.until(lambda: caller.call.elapsed_ms() > 2500, "time")
    assert ["slow_bot"] == [stall["cause"] for stall in caller.record.stalls]


async def test_an_answer_past_the_platforms_bound_is_noted_by_default(bot: Bot) -> None:
    """What fails `response_latency_ms` (2 s) is in the stalls, without an option of the route."""
    async with FakeCall(WebSocketHandler(bot.url), sample_rate_hz=RATE_HZ) as caller:
        await connected(caller, bot)
        await caller.speak(tone(600, 400))
        await caller.hear(2800)
        await bot.say(tone(900, 200))
        await caller.until(lambda: caller.call.sent_ms >= 200, "the answer")
    assert ["slow_bot"] == [stall["cause"] for stall in caller.record.stalls]


async def test_a_bot_that_never_speaks_is_noted(bot: Bot) -> None:
    """Neither does the caller: the whole call was the bot's silence."""
    async with calling(bot, slow_after_s=2) as caller:
        await connected(caller, bot)
        await caller.hear(7000)
    (stall,) = caller.record.stalls
    assert "slow_bot" == stall["cause"]
    assert 7000 == pytest.approx(stall["ended_ms"] - stall["started_ms"], abs=200)


async def test_pcm_is_sound_at_16_khz(bot: Bot) -> None:
    """Binary messages both ways; the call's headers are on the upgrade; `speech.started` clears."""
    async with calling(bot, rate_hz=16_000, dialect="pcm", headers={"X-Run-Id": "7"}) as caller:
        await caller.until_answered()
        await caller.speak(tone(600, 400, 16_000))
        await bot.send(tone(900, 5000, 16_000).tobytes())
        await caller.until(lambda: caller.call.sent_ms >= 100, "sound")
        await bot.send({"type": "speech.started", "data": {"utterance_id": "u1"}})
        await caller.until(lambda: caller.call.queued_ms == 0, "silence")
        after = await caller.hear(500)
    assert "7" == bot.headers["X-Run-Id"]
    assert loud_ms(np.frombuffer(bytes(bot.sound), np.int16), 16_000) >= 380
    assert 0 == loud_ms(after, 16_000)


async def test_a_bot_that_is_not_there_refuses_the_call() -> None:
    """502 before any answer, with the reason in the record; the address is shown without its secrets."""
    handler = WebSocketHandler("ws://user:hush@127.0.0.1:1/stream?token=hush")
    async with FakeCall(handler) as caller:
        await caller.until_ended()
    assert [180, 502] == caller.statuses
    assert "rejected" == caller.record.outcome
    reason = caller.record.end_reason or ""
    assert reason == "the bot at ws://127.0.0.1:1/stream cannot be reached: Connection refused"


async def test_a_bot_that_is_no_websocket_refuses_the_call() -> None:
    """The HTTP status is in the record."""

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=401)

    async with serving(refuse) as address, FakeCall(WebSocketHandler(f"ws://{address}/")) as caller:
        await caller.until_ended()
    assert [180, 502] == caller.statuses
    assert (caller.record.end_reason or "").endswith("refused the WebSocket: HTTP status 401")


async def test_a_bot_that_redirects_refuses_the_call() -> None:
    """As with the providers, nobody follows; where to is not told to the record, as there may be secrets in it."""

    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "ftp://me:hush@x/?token=hush"})

    async with serving(redirect) as address, FakeCall(WebSocketHandler(f"ws://{address}/?token=hush")) as caller:
        await caller.until_ended()
    assert [180, 502] == caller.statuses
    assert f"the bot at ws://{address}/ refused the WebSocket: HTTP status 302" == caller.record.end_reason


async def test_a_bot_that_does_not_answer_refuses_the_call() -> None:
    """504 after the time-out, which is named."""

    async def hesitate(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with (
        serving(hesitate) as address,
        FakeCall(WebSocketHandler(f"ws://{address}/", connect_timeout_s=0.05)) as caller,
    ):
        await caller.until_ended()
    assert [180, 504] == caller.statuses
    assert "did not answer within 0.05 s (connect_timeout_s)" in (caller.record.end_reason or "")


async def test_the_caller_hears_the_fallback_when_there_is_no_bot(sound_file: str) -> None:
    """The call is answered, the prompt played, the record says `failed` and why."""
    async with FakeCall(
        WebSocketHandler("ws://127.0.0.1:1/", fallback_file=sound_file), sample_rate_hz=RATE_HZ
    ) as caller:
        await caller.until_ended()
    assert [180, 200] == caller.statuses
    assert 400 == pytest.approx(loud_ms(caller.heard), abs=40)
    assert "failed" == caller.record.outcome
    assert "Connection refused" in (caller.record.error or "")


async def test_a_fallback_that_cannot_be_played_hides_nothing(sound_file: str) -> None:
    """The file was sound when the agent started; the record has what was wrong with the bot."""
    handler = WebSocketHandler("ws://127.0.0.1:1/", fallback_file=sound_file)
    _spoil(sound_file)
    async with FakeCall(handler, sample_rate_hz=RATE_HZ) as caller:
        await caller.until_ended()
    assert ("failed", "agent") == (caller.record.outcome, caller.record.ended_by)
    assert "Connection refused" in (caller.record.error or "")


async def test_a_caller_who_gives_up_is_no_failure() -> None:
    """While the bot is being reached the caller cancels: the record says so, and nothing else."""
    waiting = asyncio.Event()

    async def hesitate(_: web.Request) -> web.Response:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(hesitate) as address, FakeCall(WebSocketHandler(f"ws://{address}/")) as caller:
        await waiting.wait()
        caller.hang_up()
    assert [180, 487] == caller.statuses
    assert ("cancelled", None) == (caller.record.outcome, caller.record.error)


async def test_the_upgrade_carries_what_the_options_say(bot: Bot, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Headers, Basic authentication from a file, the subprotocol, and the signature of the account."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "basic").write_text("me:hush\n")
    (folder / "token").write_text("12345\n")
    async with calling(
        bot,
        headers=None,
        basic_auth_file=str(folder / "basic"),
        auth_token_file=str(folder / "token"),
        subprotocol="audio.example",
    ) as caller:
        await connected(caller, bot)
    assert "Basic bWU6aHVzaA==" == bot.headers["Authorization"]
    assert "audio.example" == bot.headers["Sec-WebSocket-Protocol"]
    assert bot.headers["X-Twilio-Signature"]
    assert "hush" not in json.dumps(caller.record.to_dict())


def _spoil(file: str) -> None:
    Path(file).write_text("no sound")
