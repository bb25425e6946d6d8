"""Calls whose bot is found through a voice URL: what it is asked, and what is done with its answer."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from aiohttp import web
from structlog.testing import capture_logs

from sip_agent.handlers.websocket import DIGIT_S, WebSocketHandler
from sip_agent.handlers.websocket.voice_url import signature
from sip_agent.testing import FakeCall, FakeSpeech, speech_like
from tests.handlers.websocket.bots import Bot, running_bot, serving, tone

RATE_HZ = 8000


class VoiceUrl:
    """A voice URL: `forms` and `headers` are what it was asked, `twiml` is what it answers."""

    def __init__(self, twiml: str) -> None:
        self.twiml = twiml
        self.url = ""
        self.forms: list[dict[str, str]] = []
        self.headers: dict[str, str] = {}
        self.sound = b""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request: TwiML to a POST, the sound to a GET."""
        if request.method == "GET":
            return web.Response(body=self.sound)
        self.headers = dict(request.headers)
        self.forms.append({name: str(value) for name, value in (await request.post()).items()})
        if self.twiml == "broken":
            return web.Response(status=500)
        return web.Response(text=self.twiml, content_type="text/xml")


@asynccontextmanager
async def voice_url(twiml: str | Callable[[str], str]) -> AsyncIterator[VoiceUrl]:
    """Run a voice URL; `twiml` may be a function of the address that it has."""
    server = VoiceUrl("")
    async with serving(server.answer) as address:
        server.url = f"http://{address}/voice?tenant=1"
        server.twiml = twiml if isinstance(twiml, str) else twiml(address)
        yield server


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    """Run a bot."""
    async with running_bot() as running:
        yield running


def calling(server: VoiceUrl, headers: dict[str, str] | None = None, **options: object) -> FakeCall:
    """Return a call whose handler asks the voice URL."""
    handler = WebSocketHandler(voice_url=server.url, **{"slow_after_s": 0, **options})  # type: ignore[arg-type]
    return FakeCall(handler, sample_rate_hz=RATE_HZ, headers=headers)


def connect(bot: Bot) -> str:
    """Return the TwiML that connects a bot."""
    parameter = '<Parameter name="tenant" value="acme"/>'
    return f'<Response><Connect><Stream url="{bot.url}">{parameter}</Stream></Connect></Response>'


def test_the_signature_is_twilios() -> None:
    """The example of Twilio's documentation on validating requests."""
    parameters = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+12349013030",
        "Digits": "1234",
        "From": "+12349013030",
        "To": "+18005551212",
    }
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    assert "0/KCTR6DLpKmkAf8muzZqo1nDgQ=" == signature("12345", url, parameters)


async def test_the_voice_url_is_asked_and_its_bot_connected(bot: Bot, tmp_path: Path) -> None:
    """It gets the call and its headers, signed; the bot gets the parameters of the stream, and the headers too."""
    (tmp_path / "token").write_text("12345")
    async with (
        voice_url(connect(bot)) as server,
        calling(server, {"X-Run-Id": "7"}, account_sid="AC5", auth_token_file=str(tmp_path / "token")) as caller,
    ):
        await caller.until_answered()
        await caller.until(lambda: bool(bot.events("start")), "start")
        await bot.close()
        await caller.until_ended()
    (form,) = server.forms
    start = bot.events("start")[0]["start"]
    assert ("7", "inbound", "ringing", "AC5") == (
        form["SipHeader_X-Run-Id"],
        form["Direction"],
        form["CallStatus"],
        form["AccountSid"],
    )
    assert (caller.call.invite.from_uri, caller.call.invite.to_uri) == (form["From"], form["To"])
    assert start["callSid"] == form["CallSid"]
    assert signature("12345", server.url, form) == server.headers["X-Twilio-Signature"]
    assert {"X-Run-Id": "7", "tenant": "acme"} == start["customParameters"]
    assert [180, 200] == caller.statuses
    assert "the TwiML of the voice URL came to its end" == caller.record.end_reason


async def test_a_leading_pause_rings() -> None:
    """The call is answered after it, as by Twilio; a caller that gives up meanwhile was never answered."""
    twiml = '<Response><Pause length="60"/><Hangup/></Response>'
    async with voice_url(twiml) as server, calling(server) as caller:
        await caller.until(lambda: bool(server.forms), "the question")
        await caller.hear(200)
    assert [180, 487] == caller.statuses
    assert "cancelled" == caller.record.outcome
    async with voice_url('<Response><Pause length="0"/><Reject/></Response>') as server, calling(server) as caller:
        await caller.until_ended()
    assert [180, 603] == caller.statuses


async def test_relative_addresses_begin_at_the_voice_url(bot: Bot) -> None:
    """The sound and the bot are where the TwiML is; what is not taken note of is logged once."""
    stream = f'<Stream url="{bot.url.removeprefix("ws:")}" statusCallback="/status"/>'
    twiml = f'<Response><Play>/hi.wav</Play><Connect action="/after">{stream}</Connect></Response>'
    with capture_logs() as logs:
        async with voice_url(twiml) as server:
            server.sound = wav(tone(700, 200))
            async with calling(server) as caller:
                await caller.until(lambda: bool(bot.events("start")), "start")
    assert ["<Connect action>, <Stream statusCallback>"] == [
        line["attributes"] for line in logs if line["event"] == "twiml.ignored"
    ]
    assert np.abs(caller.heard).max() > 2000


async def test_digits_that_cannot_be_sent_are_left_out() -> None:
    """The log says so, once; the next verb is carried out."""
    with capture_logs() as logs:
        async with voice_url('<Response><Play digits="123"/><Hangup/></Response>') as server:
            handler = WebSocketHandler(voice_url=server.url)
            async with FakeCall(handler, refuse=["send_dtmf"]) as caller:
                await caller.until_ended()
    assert 1 == len([line for line in logs if line["event"] == "bot.digits_not_sent"])
    assert ("answered", "the TwiML of the voice URL hangs up") == (caller.record.outcome, caller.record.end_reason)


async def test_plays_pauses_sends_digits_and_hangs_up() -> None:
    """The verbs around a stream, in order; the sound comes over HTTP."""

    def twiml(address: str) -> str:
        return (
            f'<Response><Play loop="2">http://{address}/hi.wav</Play><Pause length="0"/>'
            '<Play digits="4w2"/><Hangup/><Say>never</Say></Response>'
        )

    async with voice_url(twiml) as server:
        server.sound = wav(tone(700, 200))
        async with calling(server) as caller:
            await caller.until_ended()
    loud = np.abs(caller.heard).reshape(-1, 160).max(axis=1) > 2000
    assert 400 == pytest.approx(loud.sum() * 20, abs=40)
    assert "42" == caller.digits
    assert "the TwiML of the voice URL hangs up" == caller.record.end_reason
    assert "answered" == caller.record.outcome


async def test_digits_are_heard_before_the_next_verb() -> None:
    """Each has its time, `w` half a second more and `W` a second: what hangs up after them cuts none off."""
    began_s = asyncio.get_running_loop().time()
    async with (
        voice_url('<Response><Play digits="1wW2"/><Hangup/></Response>') as server,
        calling(server) as caller,
    ):
        await caller.until(lambda: caller.digits == "1", "the first digit")
        await caller.until_ended()
    assert "12" == caller.digits
    assert asyncio.get_running_loop().time() - began_s >= 2 * DIGIT_S + 1.5


async def test_a_word_of_the_caller_does_not_cut_what_is_said() -> None:
    """`<Say>` is an announcement, as it is at Twilio."""
    async with voice_url("<Response><Say>The office is closed.</Say></Response>") as server:
        handler = WebSocketHandler(voice_url=server.url)
        async with FakeCall(handler, speech=FakeSpeech(), sample_rate_hz=RATE_HZ) as caller:
            await caller.until(lambda: caller.call.sent_ms >= 100, "the announcement")
            await caller.speak(speech_like(500, RATE_HZ))
            await caller.until_ended()
    assert ["The office is closed."] == caller.said


async def test_a_sound_that_is_none_fails_by_its_address() -> None:
    """The caller hears nothing of it, and the record says which it was."""
    async with voice_url(lambda address: f"<Response><Play>http://{address}/hi.wav</Play></Response>") as server:
        server.sound = b"no sound"
        async with calling(server) as caller:
            await caller.until_ended()
    assert "failed" == caller.record.outcome
    assert (caller.record.error or "").endswith("/hi.wav answered with is no sound that can be played")


@pytest.mark.parametrize(("reason", "status"), [("busy", 486), ("rejected", 603)])
async def test_rejects(reason: str, status: int) -> None:
    """The call is not answered."""
    async with voice_url(f'<Response><Reject reason="{reason}"/></Response>') as server, calling(server) as caller:
        await caller.until_ended()
    assert [180, status] == caller.statuses
    assert ("rejected", None) == (caller.record.outcome, caller.record.error)


@pytest.mark.parametrize(
    ("twiml", "message"),
    [
        ("broken", "answered with HTTP status 500"),
        ("<Response><Gather/></Response>", "<Gather> is not supported"),
        ('<Response><Play digits="1x2"/></Response>', "has 0-9 * # A-D, and w or W to wait, not '1x2'"),
        ("hello", "no XML"),
        ('<Response><Connect><Stream url="ws://127.0.0.1:1/x"/></Connect></Response>', "Connection refused"),
    ],
)
async def test_an_answer_that_cannot_be_carried_out_refuses_the_call(twiml: str, message: str) -> None:
    """502, and the record says what was wrong with it."""
    async with voice_url(twiml) as server, calling(server) as caller:
        await caller.until_ended()
    assert [180, 502] == caller.statuses
    assert message in (caller.record.end_reason or "")
    assert "tenant=1" not in (caller.record.end_reason or "")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("/again?token=hush", "cannot be reached: it redirects again and again"),
        ("ftp://me:hush@x/?token=hush", "cannot be reached: it redirects to an address that cannot be followed"),
    ],
)
async def test_a_voice_url_that_redirects_nowhere_shows_no_secret(location: str, message: str) -> None:
    """Neither of its own address nor of the one that it redirects to."""

    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": location})

    async with (
        serving(redirect) as address,
        FakeCall(WebSocketHandler(voice_url=f"http://{address}/voice?token=hush")) as caller,
    ):
        await caller.until_ended()
    assert [180, 502] == caller.statuses
    assert message in (caller.record.end_reason or "")
    assert "hush" not in json.dumps(caller.record.to_dict())


async def test_a_voice_url_that_is_not_there_refuses_the_call() -> None:
    """As a bot that is not there does."""
    async with FakeCall(WebSocketHandler(voice_url="http://127.0.0.1:1/voice")) as caller:
        await caller.until_ended()
    assert [180, 502] == caller.statuses
    assert "http://127.0.0.1:1/voice cannot be reached: Connection refused" == caller.record.end_reason


def wav(samples: np.ndarray) -> bytes:
    """Return a WAV file."""
    out = io.BytesIO()
    soundfile.write(out, samples, RATE_HZ, format="WAV")
    return out.getvalue()
