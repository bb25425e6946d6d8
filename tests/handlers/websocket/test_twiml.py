"""TwiML: the verbs of a voice bot, and what is no TwiML at all."""

import pytest

from sip_agent.handlers.websocket.twiml import (
    Hangup,
    Pause,
    Play,
    Reject,
    Response,
    Say,
    Stream,
    TwimlError,
    Verb,
    parse_twiml,
)

BASE_URL = "https://bot.example/voice/start?tenant=1"


def parse(document: bytes) -> tuple[Verb, ...]:
    """Return the verbs of a document that came from BASE_URL."""
    return parse_twiml(document, BASE_URL).verbs


def test_connects_a_stream_with_its_parameters() -> None:
    """The usual answer of a voice bot."""
    document = b"""<?xml version="1.0" encoding="UTF-8"?>
        <Response>
          <Connect>
            <Stream url="wss://bot.example/ws?a=1&amp;b=2">
              <Parameter name="tenant" value="acme"/><Parameter name="empty"/>
            </Stream>
          </Connect>
        </Response>"""
    assert (Stream("wss://bot.example/ws?a=1&b=2", {"tenant": "acme", "empty": ""}),) == parse(document)


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        ("<Say>Hello\n  there</Say>", Say("Hello there")),
        ('<Say voice="alice" loop="2">Hi</Say>', Say("Hi", loops=2)),
        ('<Say loop="0">Hi</Say>', Say("Hi", loops=1000)),
        ("<Play>https://a.example/hi.wav</Play>", Play("https://a.example/hi.wav")),
        ("<Play>/hi.wav</Play>", Play("https://bot.example/hi.wav")),
        ("<Play>hi.wav</Play>", Play("https://bot.example/voice/hi.wav")),
        ('<Connect><Stream url="/ws"/></Connect>', Stream("wss://bot.example/ws")),
        ('<Connect><Stream url="//other.example/ws"/></Connect>', Stream("wss://other.example/ws")),
        ('<Connect><Stream url="ws://other.example/ws"/></Connect>', Stream("ws://other.example/ws")),
        ('<Play digits="12w#"/>', Play(digits="12w#")),
        ('<Play digits="aW*"/>', Play(digits="aW*")),
        ("<Pause/>", Pause(1)),
        ('<Pause length="3"/>', Pause(3)),
        ("<Hangup/>", Hangup()),
        ("<Reject/>", Reject()),
        ('<Reject reason="busy"/>', Reject(busy=True)),
    ],
)
def test_reads_the_verbs(text: str, verb: Verb) -> None:
    """Each with its attributes and their defaults."""
    assert (verb,) == parse(f"<Response>{text}</Response>".encode())


def test_an_empty_response_has_nothing_to_do() -> None:
    """It ends the call, as Twilio documents."""
    assert () == parse(b"<Response/>")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "no XML"),
        (b"{}", "no XML"),
        (b"<Response>", "no XML"),
        (b"<html/>", "not <Response>"),
        (b"<Response><Gather/></Response>", "<Gather> is not supported; there are Connect"),
        (b"<Response><Connect><Room>x</Room></Connect></Response>", "one <Stream>"),
        (b"<Response><Connect/></Response>", "one <Stream>"),
        (b'<Response><Connect><Stream url="http://x"/></Connect></Response>', "<Stream> is relative, or .* wss://"),
        (b'<Response><Connect><Stream url="ws://[::1"/></Connect></Response>', "<Stream> is relative, or .* wss://"),
        (b"<Response><Connect><Stream/></Connect></Response>", "<Stream> has no url"),
        (b"<Response><Play>ftp://me:hush@x/hi.wav</Play></Response>", "<Play> is relative, or starts with https://"),
        (b'<Response><Play digits="1x2"/></Response>', "<Play digits=.* has 0-9 .*, not '1x2'"),
        (b"<Response><Play/></Response>", "address of a sound or digits"),
        (b'<Response><Pause length="-1"/></Response>', "whole number"),
        (b'<Response><Pause length="99999999999"/></Response>', "whole number"),
        (b'<?xml version="1.0" encoding="klingon"?><Response/>', "decoded|no XML"),
        (b"<Response>" + b"<Say>" * 9 + b"</Say>" * 9 + b"</Response>", "deeper"),
        (b"<Response>" + b" " * 64_000 + b"</Response>", "64000 are allowed"),
        (
            b'<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;&x;">]><Response><Say>&y;</Say></Response>',
            "document type",
        ),
        (
            b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><Response><Say>&x;</Say></Response>',
            "document type",
        ),
    ],
)
def test_says_what_is_wrong(document: bytes, message: str) -> None:
    """Whatever a voice URL answers, the message says what to look at, and nothing is expanded or fetched."""
    with pytest.raises(TwimlError, match=message):
        parse(document)


def test_a_relative_stream_of_a_plain_voice_url_is_plain() -> None:
    """ws:// where the voice URL is http://."""
    document = b'<Response><Connect><Stream url="ws"/></Connect></Response>'
    assert (Stream("ws://127.0.0.1:7/a/ws"),) == parse_twiml(document, "http://127.0.0.1:7/a/b").verbs


def test_names_the_attributes_that_it_does_not_read() -> None:
    """Each once, whatever they say."""
    document = b"""<Response><Pause length="1"/><Say voice="alice" language="en">a</Say><Say voice="bob">b</Say>
        <Connect action="/after"><Stream url="/ws" statusCallback="/status"><Parameter name="a" value="b"/></Stream>
        </Connect></Response>"""
    ignored = "<Connect action>", "<Say language>", "<Say voice>", "<Stream statusCallback>"
    assert ignored == parse_twiml(document, BASE_URL).ignored
    assert Response((Hangup(),)) == parse_twiml(b"<Response><Hangup/></Response>", BASE_URL)
