"""The dialects as values: what a bot is told, what it may say, and what it may not."""

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from media.g711 import decode_mulaw, encode_mulaw
from sip_agent.handlers.websocket import DIALECTS
from sip_agent.handlers.websocket.dialect import (
    BotAudio,
    Clear,
    Dialect,
    Digits,
    Mark,
    Stop,
    StreamInfo,
    UnreadableMessage,
)

UUID = "1592c385-5aa3-4a68-b490-d1269fa873e4"
HEX = UUID.replace("-", "")
INFO = StreamInfo(
    call_uuid=UUID,
    caller="sip:alice@example.com",
    called="sip:agent@example.com",
    account_id="AC9",
    parameters={"X-Run-Id": "7", "tenant": 'a"b'},
)
FRAME = np.arange(-8000, 8000, 100, dtype=np.int16)
MULAW = encode_mulaw(FRAME)
PCM = decode_mulaw(MULAW).tobytes()
PAYLOAD = base64.b64encode(MULAW).decode()


def mp3(sound: bytes) -> str:
    """Return a media message with this sound, that of a Telnyx bot in its default mode."""
    return json.dumps({"event": "media", "media": {"payload": base64.b64encode(sound).decode()}})


def build(name: str) -> Dialect:
    """Return a dialect for a stream."""
    return DIALECTS[name](INFO)


def opened(name: str) -> tuple[Dialect, list[dict[str, Any]]]:
    """Return a dialect that has begun its stream, and how."""
    dialect = build(name)
    return dialect, [json.loads(message) for message in dialect.opening()]


def test_twilio_begins_with_connected_and_start() -> None:
    """As Twilio documents it, with the call's headers as custom parameters."""
    _, (connected, start) = opened("twilio")
    assert {"event": "connected", "protocol": "Call", "version": "1.0.0"} == connected
    assert {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": f"MZ{HEX}",
        "start": {
            "accountSid": "AC9",
            "streamSid": f"MZ{HEX}",
            "callSid": f"CA{HEX}",
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"X-Run-Id": "7", "tenant": 'a"b'},
        },
    } == start


def test_twilio_numbers_its_messages() -> None:
    """The sequence counts all messages, the chunk those with sound; the timestamp is where the chunk ends."""
    dialect, _ = opened("twilio")
    first, second = json.loads(dialect.media(FRAME)), json.loads(dialect.media(FRAME))
    digit = json.loads(dialect.digit("5") or "")
    assert {
        "event": "media",
        "sequenceNumber": "2",
        "streamSid": f"MZ{HEX}",
        "media": {"track": "inbound", "chunk": "1", "timestamp": "20", "payload": PAYLOAD},
    } == first
    assert ("3", "2", "40") == (
        second["sequenceNumber"],
        second["media"]["chunk"],
        second["media"]["timestamp"],
    )
    assert {
        "event": "dtmf",
        "sequenceNumber": "4",
        "streamSid": f"MZ{HEX}",
        "dtmf": {"track": "inbound_track", "digit": "5"},
    } == digit


def test_twilio_ends_with_stop() -> None:
    """The last message names account and call."""
    dialect, _ = opened("twilio")
    stop = json.loads(dialect.closing() or "")
    assert ("stop", {"accountSid": "AC9", "callSid": f"CA{HEX}"}) == (stop["event"], stop["stop"])


@pytest.mark.parametrize("cleared", [False, True])
def test_twilio_returns_marks_played_or_not(cleared: bool) -> None:
    """A clear returns the marks, too."""
    message = json.loads(build("twilio").played("end", cleared=cleared) or "")
    assert ("mark", {"name": "end"}, f"MZ{HEX}") == (message["event"], message["mark"], message["streamSid"])


def test_telnyx_speaks_snake_case() -> None:
    """Ids at the top, formats as Telnyx names them."""
    dialect, (connected, start) = opened("telnyx")
    media = json.loads(dialect.media(FRAME))
    assert {"event": "connected", "version": "1.0.0"} == connected
    assert (UUID, "1") == (start["stream_id"], start["sequence_number"])
    assert f"v3:{HEX}" == start["start"]["call_control_id"]
    assert {"encoding": "PCMU", "sample_rate": 8000, "channels": 1} == start["start"]["media_format"]
    assert {"X-Run-Id": "7", "tenant": 'a"b'} == start["start"]["custom_parameters"]
    assert ("2", UUID, PAYLOAD) == (media["sequence_number"], media["stream_id"], media["media"]["payload"])
    assert "5" == json.loads(dialect.digit("5") or "")["dtmf"]["digit"]
    assert "stop" == json.loads(dialect.closing() or "")["event"]


def test_plivo_begins_with_start_and_numbers_by_number() -> None:
    """No `connected`; the headers come as `extra_headers` with every message."""
    dialect, (start,) = opened("plivo")
    media = json.loads(dialect.media(FRAME))
    assert (UUID, UUID) == (start["start"]["callId"], start["start"]["streamId"])
    assert {"encoding": "audio/x-mulaw", "sampleRate": 8000} == start["start"]["mediaFormat"]
    assert 'X-Run-Id=7;tenant=a"b' == start["extra_headers"] == media["extra_headers"]
    assert (2, 1, PAYLOAD) == (media["sequenceNumber"], media["media"]["chunk"], media["media"]["payload"])
    assert dialect.closing() is None


def test_plivo_acknowledges_what_was_played_and_what_was_cleared() -> None:
    """A checkpoint whose sound was dropped is never acknowledged; the clearing is."""
    dialect = build("plivo")
    assert "playedStream" == json.loads(dialect.played("end", cleared=False) or "")["event"]
    assert dialect.played("end", cleared=True) is None
    assert "clearedAudio" == json.loads(dialect.cleared() or "")["event"]


def test_pcm_is_sound_and_little_else() -> None:
    """Binary messages both ways; the caller's speech has events with one id for beginning and end."""
    dialect, opening = opened("pcm")
    started = json.loads(dialect.speech(100, started=True) or "")
    completed = json.loads(dialect.speech(900, started=False) or "")
    again = json.loads(dialect.speech(1500, started=True) or "")
    assert [] == opening
    assert FRAME.tobytes() == dialect.media(FRAME)
    np.testing.assert_array_equal(FRAME, dialect.decode(FRAME.tobytes()))
    assert ("speech.started", "speech.completed") == (started["type"], completed["type"])
    assert started["data"] == completed["data"] != again["data"]


@pytest.mark.parametrize(
    ("name", "message", "read"),
    [
        ("twilio", {"event": "media", "media": {"payload": PAYLOAD}}, BotAudio(MULAW)),
        ("twilio", {"event": "mark", "mark": {"name": "a"}}, Mark("a")),
        ("twilio", {"event": "clear", "streamSid": "MZ"}, Clear()),
        ("telnyx", {"event": "media", "media": {"payload": PAYLOAD}}, BotAudio(MULAW)),
        ("telnyx", {"event": "mark", "mark": {"name": "a"}}, Mark("a")),
        ("telnyx", {"event": "clear"}, Clear()),
        ("telnyx", {"event": "stop"}, Stop()),
        ("plivo", {"event": "playAudio", "media": {"payload": PAYLOAD}}, BotAudio(PCM)),
        ("plivo", {"event": "checkpoint", "name": "a"}, Mark("a")),
        ("plivo", {"event": "clearAudio"}, Clear()),
        ("plivo", {"event": "sendDTMF", "dtmf": "12#"}, Digits("12#")),
        ("plivo", {"event": "stop"}, Stop()),
        ("pcm", {"type": "speech.started", "data": {"utterance_id": "u"}}, Clear()),
        ("pcm", {"type": "speech.completed", "data": {"utterance_id": "u"}}, None),
        ("pcm", {"type": "clear"}, Clear()),
    ],
)
def test_reads_what_a_bot_says(name: str, message: dict[str, Any], read: object) -> None:
    """Each message in each dialect."""
    assert read == build(name).read(json.dumps(message))


def test_quiet_mulaw_is_no_mp3() -> None:
    """It is full of bytes that could begin an MP3 frame."""
    quiet = b"\xff\xfb\x79\x7d" + b"\xff\xfe\x7f\xfb" * 100
    message = {"event": "media", "media": {"payload": base64.b64encode(quiet).decode()}}
    assert BotAudio(quiet) == build("telnyx").read(json.dumps(message))


@pytest.mark.parametrize(
    ("content_type", "rate"),
    [("audio/x-mulaw", 8000), ("audio/x-mulaw;rate=8000", None), ("audio/x-l16", 8000), ("audio/x-l16", "16000")],
)
def test_plivo_plays_what_the_message_says(content_type: str, rate: object) -> None:
    """mu-law or 16 bits, at 8 or 16 kHz, whatever the format of the stream is."""
    is_mulaw, from_hz = "mulaw" in content_type, int(str(rate or 8000))
    sound = np.repeat(FRAME, from_hz // 8000)
    payload = base64.b64encode(encode_mulaw(sound) if is_mulaw else sound.tobytes()).decode()
    media = {"contentType": content_type, "payload": payload} | ({"sampleRate": rate} if rate else {})
    dialect = build("plivo")
    read = dialect.read(json.dumps({"event": "playAudio", "media": media}))
    assert isinstance(read, BotAudio)
    assert len(FRAME) == len(dialect.decode(read.payload))


@pytest.mark.parametrize("rate_hz", [8000, 16_000])
def test_plivo_sends_16_bits(rate_hz: int) -> None:
    """As the content type of the route says; `start` names it."""
    dialect = DIALECTS["plivo"](replace(INFO, content_type=f"audio/x-l16;rate={rate_hz}"))
    (start,) = [json.loads(message) for message in dialect.opening()]
    media = json.loads(dialect.media(FRAME))
    assert {"encoding": "audio/x-l16", "sampleRate": rate_hz} == start["start"]["mediaFormat"]
    assert rate_hz == dialect.sample_rate_hz
    assert FRAME.tobytes() == base64.b64decode(media["media"]["payload"])


JUNK = ["", "x", "[]", "null", '"media"', "{}", '{"event":1}', "[" * 100_000]


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("message", JUNK)
def test_junk_is_unreadable(name: str, message: str) -> None:
    """Whatever is no JSON object with an event raises one error, and no other."""
    with pytest.raises(UnreadableMessage):
        build(name).read(message)


@pytest.mark.parametrize(
    ("name", "message", "error"),
    [
        ("twilio", b"\x00\x01", "binary"),
        ("twilio", '{"event":"dance"}', "not 'dance'"),
        ("twilio", '{"event":"media"}', "'media' is missing"),
        ("twilio", '{"event":"media","media":{"payload":7}}', "'payload' is missing"),
        ("twilio", '{"event":"media","media":{"payload":"%%%"}}', "no base64"),
        ("twilio", '{"event":"media","media":{"payload":"é"}}', "no base64"),
        ("twilio", '{"event":"mark","mark":{}}', "'name' is missing"),
        ("plivo", '{"event":"playAudio","media":{"payload":"","contentType":"audio/wav"}}', "neither audio/x-mulaw"),
        (
            "plivo",
            '{"event":"playAudio","media":{"payload":"","sampleRate":16000,"contentType":"audio/x-mulaw"}}',
            "at 8000",
        ),
        ("plivo", '{"event":"playAudio","media":{"payload":"AA==","contentType":"audio/x-l16"}}', "half a sample"),
        ("telnyx", mp3(b"ID3\x04\x00" + bytes(400)), "MP3.* stream_bidirectional_mode rtp"),
        ("telnyx", mp3((b"\xff\xfb\x90\x64" + bytes(413)) * 2), "MP3"),
        ("telnyx", mp3((b"\xff\xf3\x44\xc4" + bytes(92)) * 2), "MP3"),
        ("pcm", b"", "0 bytes"),
        ("pcm", b"abc", "3 bytes"),
        ("pcm", '{"type":"speech.started"}', "'data' is missing"),
        ("pcm", '{"type":"foo"}', "no event 'foo'"),
    ],
)
def test_says_why_a_message_is_unreadable(name: str, message: str | bytes, error: str) -> None:
    """The message names the part that is wrong."""
    with pytest.raises(UnreadableMessage, match=error):
        build(name).read(message)


def test_telnyx_and_pcm_tell_the_bot() -> None:
    """Where the dialect has a word for it, the bot is told what it did wrong."""
    error = UnreadableMessage("'name' is missing, or no text", "MISSING_FIELD")
    assert "error" == json.loads(build("telnyx").unreadable(error) or "")["event"]
    assert "MISSING_FIELD" == json.loads(build("pcm").unreadable(error) or "")["data"]["code"]
    assert build("twilio").unreadable(error) is build("plivo").unreadable(error) is None
