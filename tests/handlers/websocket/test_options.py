"""The options of a route, checked when the agent starts; and a bot behind TLS."""

import ssl
import subprocess
from pathlib import Path

import pytest
from aiohttp import web

from sip_agent.errors import SettingsError
from sip_agent.handlers import handler_factory
from sip_agent.handlers.websocket import WebSocketHandler
from sip_agent.testing import FakeCall
from tests.handlers.websocket.bots import Bot


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either url"),
        ({"url": "ws://a/", "voice_url": "http://a/"}, "give either url"),
        ({"url": "http://a/"}, "url is an address that starts with wss:// or ws://, not 'http://a/'"),
        ({"url": "ws://"}, "url is an address"),
        ({"url": "ws://a:99999/"}, "url is an address"),
        ({"voice_url": "ws://a/"}, "voice_url is an address that starts with https:// or http://"),
        ({"url": "ws://a/", "dialect": "vonage"}, "dialect is one of twilio, telnyx, plivo, pcm, not 'vonage'"),
        ({"voice_url": "http://a/", "dialect": "plivo"}, "the dialect is twilio, not plivo"),
        ({"url": "ws://a/", "connect_timeout_s": 0}, "connect_timeout_s is more than 0"),
        ({"url": "ws://a/", "queue_s": -1}, "queue_s is more than 0"),
        ({"url": "ws://a/", "slow_after_s": -1}, "slow_after_s is not negative"),
        ({"url": "ws://a/", "fallback_file": "none.wav"}, "fallback_file: there is no sound file"),
        ({"url": "ws://a/", "fallback_file": "two"}, "fallback_file: there is no sound file .*two: cannot be read"),
        ({"url": "ws://a/", "headers": {"a b": "c"}}, "headers: 'a b' is no header"),
        ({"url": "ws://a/", "headers": {"a": "b\r\nc: d"}}, "headers: 'a' is no header"),
        ({"url": "ws://a/", "headers": [1]}, r"headers is a table, not \[1\]"),
        (
            {"url": "ws://a/", "dialect": "pcm", "parameters": {"my key": "v"}},
            "parameters: 'my key' is no header with a value of one line",
        ),
        (
            {"url": "ws://a/", "content_type": "audio/x-l16;rate=8000"},
            "content_type is for the dialect plivo, not twilio",
        ),
        (
            {"url": "ws://a/", "dialect": "plivo", "content_type": "audio/wav"},
            "content_type is one of audio/x-mulaw;rate=8000, .*, not 'audio/wav'",
        ),
        ({"url": "ws://a/", "parameters": "x"}, "parameters is a table, not 'x'"),
        ({"url": 5}, "url is a text, not 5"),
        ({"url": "ws://a/", "connect_timeout_s": "five"}, "connect_timeout_s is a number, not 'five'"),
        ({"url": "ws://a/", "slow_after_s": "4"}, "slow_after_s is a number, not '4'"),
        ({"url": "ws://a/", "queue_s": True}, "queue_s is a number, not True"),
        ({"url": "ws://a/", "queue_s": float("inf")}, "queue_s is a number, not inf"),
        ({"url": "ws://a/", "basic_auth_file": "none"}, "basic_auth_file: .*none cannot be read"),
        ({"url": "ws://a/", "auth_token_file": "two"}, "auth_token_file: .*two has to have exactly one line"),
        ({"url": "ws://a/", "ca_file": "two"}, "ca_file: .*two is no PEM file"),
        ({"url": "ws://a/", "colour": "red"}, "colour"),
    ],
)
def test_says_what_is_wrong_with_an_option(options: dict[str, object], message: str, tmp_path: Path) -> None:
    """Each mistake stops the agent at its start, with the option's name."""
    (tmp_path / "two").write_text("one\ntwo\n")
    with pytest.raises(SettingsError, match=message):
        handler_factory("websocket", options, tmp_path)


def test_a_route_needs_no_more_than_a_url(tmp_path: Path) -> None:
    """Everything else has a default; files are relative to the settings file."""
    (tmp_path / "token").write_text("secret\n")
    build = handler_factory("websocket", {"url": "wss://a/", "auth_token_file": "token"}, tmp_path)
    assert isinstance(build(), WebSocketHandler)


@pytest.fixture
def tls_files(tmp_path: Path) -> tuple[Path, Path]:
    """Make a certificate that is its own authority, and its key."""
    certificate, key = tmp_path / "bot.pem", tmp_path / "bot.key"
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_bot_behind_tls(tls_files: tuple[Path, Path], trusted: bool) -> None:
    """With `ca_file` a private authority is trusted; without it the call is refused, and the record says why."""
    certificate, key = tls_files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    bot, application = Bot(), web.Application()
    application.router.add_get("/", bot.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"wss://127.0.0.1:{runner.addresses[0][1]}/"
    async with FakeCall(WebSocketHandler(url, ca_file=str(certificate) if trusted else "")) as caller:
        if trusted:
            await caller.until_answered()
            await caller.until(lambda: bool(bot.events("start")), "start")
        else:
            await caller.until_ended()
    await runner.cleanup()
    assert [180, 200 if trusted else 502] == caller.statuses
    assert trusted or "certificate" in (caller.record.end_reason or "")
