"""The handler `openai-realtime`, against a local server that holds both sides to the published schema."""

from pathlib import Path
from typing import Any

import pytest

from sip_agent.handlers.realtime import RealtimeHandler
from sip_agent.testing import speech_like
from tests.handlers.realtime_calls import KEY, arrives, loud_ms, onset, strongest_hz, talking, tone
from tests.handlers.realtime_server import RealtimeServer


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


class TestSetUp:
    """Connecting, and the session."""

    async def test_session(self) -> None:
        """The session is as the options say, in the shape that is published now."""
        detection = {"type": "server_vad", "silence_duration_ms": 300}
        options: dict[str, Any] = {"instructions": "Be brief.", "voice": "marin", "turn_detection": detection}
        async with RealtimeServer() as server, talking(server, **options) as (_, model):
            session = model.session

        assert {
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": "Be brief.",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24_000},
                    "transcription": {"model": "gpt-transcribe"},
                    "turn_detection": {
                        "type": "server_vad",
                        "silence_duration_ms": 300,
                        "interrupt_response": True,
                    },
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "marin"},
            },
        } == session
        assert "Bearer " + KEY == model.headers["Authorization"]
        assert {"model": "test-model"} == model.query

    async def test_beta_session(self) -> None:
        """A server of the shape before gets the session flat, and the header that asks for it."""
        options: dict[str, Any] = {
            "shape": "beta",
            "voice": "alloy",
            "audio_format": "g711_ulaw",
            "turn_detection": "semantic_vad",
        }
        async with RealtimeServer("beta") as server, talking(server, **options) as (_, model):
            session = model.session

        assert {
            "modalities": ["text", "audio"],
            "input_audio_format": "g711_ulaw",
            "output_audio_format": "g711_ulaw",
            "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
            "input_audio_transcription": {"model": "gpt-transcribe"},
            "voice": "alloy",
        } == session
        assert "realtime=v1" == model.headers["OpenAI-Beta"]

    async def test_what_is_left_to_the_server(self) -> None:
        """Nothing that is not set is sent, and turn detection `none` is sent as null."""
        options: dict[str, Any] = {"turn_detection": "none", "transcription_model": ""}
        async with RealtimeServer() as server, talking(server, **options) as (_, model):
            session = model.session

        heard, spoken = session["audio"]["input"], session["audio"]["output"]
        assert (None, {"format", "turn_detection"}) == (heard["turn_detection"], heard.keys())
        assert {"format"} == spoken.keys()
        assert not {"instructions", "tools"} & session.keys()

    async def test_answers_when_the_model_is_there(self) -> None:
        """The caller hears ringing until the session is set up."""
        async with RealtimeServer() as server, talking(server) as (caller, _):
            assert [180, 200] == caller.statuses

    async def test_files(self, tmp_path: Path) -> None:
        """The key and the instructions may be in files of their own."""
        (tmp_path / "key").write_text("sk-from-file\n", encoding="utf-8")
        (tmp_path / "instructions").write_text("Be kind.\n", encoding="utf-8")
        options: dict[str, Any] = {
            "api_key_file": str(tmp_path / "key"),
            "instructions_file": str(tmp_path / "instructions"),
        }
        async with RealtimeServer() as server, talking(server, **options) as (_, model):
            pass

        assert "Bearer sk-from-file" == model.headers["Authorization"]
        assert "Be kind." == model.session["instructions"]

    async def test_greeting(self) -> None:
        """The model is asked to speak first; the instructions of the session go along, as these replace them."""
        options: dict[str, Any] = {"instructions": "You are Ada.", "greeting": "Greet the caller."}
        async with RealtimeServer() as server, talking(server, **options) as (caller, model):
            await caller.until(lambda: bool(model.sent("response.create")))
            (request,) = model.sent("response.create")

        assert {"instructions": "You are Ada.\n\nGreet the caller."} == request["response"]


class TestOptions:
    """The options of a route."""

    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"base_url": "api.openai.com/v1"}, "base_url is like https://api.openai.com/v1"),
            ({"base_url": "https://user:secret@host/v1"}, "the key goes into api_key_file"),
            ({"base_url": "https://host/v1?api-key=secret"}, "the key goes into api_key_file"),
            ({"api_key_file": "/nowhere"}, "api_key_file: /nowhere cannot be read: No such file"),
            ({"instructions_file": "/nowhere"}, "instructions_file: /nowhere cannot be read"),
            ({"instructions": "a", "instructions_file": "b"}, "keep one of the two"),
            ({"audio_format": "opus"}, "audio_format is one of pcm16, g711_ulaw, not 'opus'"),
            ({"shape": "alpha"}, "shape is one of ga, beta, not 'alpha'"),
            ({"turn_detection": "vad"}, "turn_detection is server_vad, semantic_vad, none, or a table"),
            ({"turn_detection": {"threshold": 0.5}}, "or a table with such a type"),
            ({"fallback_file": "/nowhere.wav"}, "fallback_file: there is no sound file /nowhere.wav"),
            ({"response_timeout_s": 0}, "response_timeout_s is more than 0"),
            ({"tools": ["nowhere:nothing"]}, "tools, entry 1: nowhere:nothing cannot be imported: ModuleNotFoundError"),
        ],
    )
    def test_wrong(self, options: dict[str, Any], problem: str) -> None:
        """A wrong option is named when the agent starts, and no secret with it."""
        with pytest.raises(ValueError) as caught:
            RealtimeHandler(**options)

        assert problem in str(caught.value)
        assert "secret" not in str(caught.value)

    def test_no_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """OpenAI wants a key; a server of one's own may do without."""
        monkeypatch.delenv("OPENAI_API_KEY")
        RealtimeHandler(base_url="http://localhost:8000/v1")
        with pytest.raises(ValueError, match="api_key_file, or set OPENAI_API_KEY"):
            RealtimeHandler()


class TestSound:
    """What is heard, and what stands on record."""

    @pytest.mark.parametrize("audio_format", ["pcm16", "g711_ulaw"])
    async def test_both_ways(self, audio_format: str) -> None:
        """The model hears the caller and the caller the model, each at the right pitch and for the right time."""
        async with RealtimeServer() as server, talking(server, audio_format=audio_format) as (caller, model):
            await caller.speak(tone(440, 500, 16_000))
            await caller.until(lambda: len(model.heard()) >= model.rate_hz // 2, "the caller's sound")
            question = model.heard()
            await model.begin_response()
            await model.say("Hello.", tone(1000, 600, model.rate_hz))
            await model.end_response()
            await caller.until(lambda: loud_ms(caller.heard) >= 600)
            heard = caller.heard

        assert 440 == pytest.approx(strongest_hz(question[-model.rate_hz // 4 :], model.rate_hz), abs=5)
        answer = heard[onset(heard) :]
        assert 1000 == pytest.approx(strongest_hz(answer[1000:6000]), abs=10)
        assert 600 <= loud_ms(heard) <= 620

    async def test_paced(self) -> None:
        """Sound that comes all at once is heard to its end, without a gap; then it is on record, at its time."""
        async with RealtimeServer() as server, talking(server) as (caller, model):
            await model.begin_response()
            await model.say("Ten seconds of speech.", tone(300, 10_000))
            await model.end_response()
            await caller.until(lambda: bool(caller.record.transcript))
            heard = caller.heard

        assert 10_000 == pytest.approx(loud_ms(heard), abs=20)
        (entry,) = caller.record.transcript
        assert ("agent", "Ten seconds of speech.") == (entry["speaker"], entry["text"])
        assert entry["at_ms"] == pytest.approx(onset(heard) / 16, abs=60)
        assert [] == caller.record.stalls

    async def test_transcript(self) -> None:
        """What the caller said stands where it began, however late the text comes."""
        async with RealtimeServer() as server, talking(server) as (caller, model):
            await caller.hear(1000)
            await model.start_speech()
            await caller.hear(500)
            await model.stop_speech()
            await model.begin_response()
            await model.say("Sure.", tone(300, 200))
            await model.end_response()
            await caller.until(lambda: bool(caller.record.transcript))
            await model.transcribe("A table for two.\n")
            await caller.until(lambda: len(caller.record.transcript) == 2)
            entries = caller.record.transcript

        assert [("caller", "A table for two."), ("agent", "Sure.")] == [(e["speaker"], e["text"]) for e in entries]
        assert 1000 == pytest.approx(entries[0]["at_ms"], abs=100)

    async def test_hangs_up_in_the_middle(self) -> None:
        """When the caller hangs up, what was heard until then is on record."""
        async with RealtimeServer() as server, talking(server) as (caller, model):
            await model.begin_response()
            await model.begin_item()
            await model.say_part("one two three four", tone(300, 4000))
            await caller.until(lambda: loud_ms(caller.heard) >= 2000)
            caller.hang_up()

        assert ["one two"] == [entry["text"] for entry in caller.record.transcript]
        assert ("answered", None) == (caller.record.outcome, caller.record.error)


class TestInterruption:
    """The caller speaks while the model does."""

    async def test_truncates_at_what_was_heard(self) -> None:
        """The caller speaks: silence at once, and the model learns to the frame what was heard; nothing late is."""
        async with RealtimeServer() as server, talking(server) as (caller, model):
            await model.begin_response()
            await model.begin_item()
            await model.say_part("one two three four five", tone(300, 5000))
            await caller.until(lambda: loud_ms(caller.heard) >= 1000)
            await model.start_speech()
            await arrives(lambda: model.sent("conversation.item.truncate"))
            heard_ms = loud_ms(caller.heard)
            await model.say_part(" six", tone(300, 1000))
            await model.end_item("one two three four five six")
            await model.end_response(status="cancelled", details={"type": "cancelled", "reason": "turn_detected"})
            rest = await caller.hear(1000)
            (truncation,) = model.sent("conversation.item.truncate")
            cancelled = model.sent("response.cancel")

        assert ("item_1", 0) == (truncation["item_id"], truncation["content_index"])
        assert heard_ms == pytest.approx(truncation["audio_end_ms"], abs=20)
        assert 1000 <= heard_ms <= 1040
        assert 0 == loud_ms(rest)
        assert ["one"] == [entry["text"] for entry in caller.record.transcript]
        assert [] == cancelled

    async def test_cancels_where_the_server_does_not(self) -> None:
        """A server that is told not to interrupt by itself gets the cancellation from us."""
        detection = {"type": "server_vad", "interrupt_response": False}
        async with RealtimeServer() as server, talking(server, turn_detection=detection) as (caller, model):
            await model.begin_response("resp_9")
            await model.begin_item("resp_9")
            await model.say_part("one two", tone(300, 2000), response_id="resp_9")
            await caller.until(lambda: loud_ms(caller.heard) >= 500)
            await model.start_speech()
            await arrives(lambda: model.sent("response.cancel"))
            (event,) = model.sent("response.cancel")

        assert "resp_9" == event["response_id"]

    @pytest.mark.parametrize("done", [False, True], ids=["under way", "over"])
    async def test_nothing_late(self, done: bool) -> None:
        """Sound of an interrupted response is not heard, however late it comes: also not after the next response."""
        async with RealtimeServer() as server, talking(server) as (caller, model):
            await model.begin_response()
            await model.begin_item()
            await model.say_part("one two three", tone(300, 5000))
            if done:
                await model.end_response()
            await caller.until(lambda: loud_ms(caller.heard) >= 500)
            await model.start_speech()
            await arrives(lambda: model.sent("conversation.item.truncate"))
            if not done:
                await model.end_response(status="cancelled")
            await model.say_part(" four", tone(300, 1000))
            await model.stop_speech()
            await model.begin_response("resp_2")
            await model.say("Yes?", tone(500, 400), response_id="resp_2", item_id="item_2")
            await model.end_response("resp_2")
            await caller.until(lambda: "Yes?" in caller.said)
            before = len(caller.heard)
            await model.say_part(" five", tone(300, 1000))
            await model.transcribe("Wait.")
            await caller.until(lambda: len(caller.record.transcript) == 2)
            rest = await caller.hear(1000)

            assert 0 == loud_ms(caller.heard[before:]) == loud_ms(rest)
            assert 900 <= loud_ms(caller.heard[:before]) <= 980

    async def test_an_earlier_response_is_over(self) -> None:
        """The end of another response is not the end of the one that is heard."""
        async with RealtimeServer() as server, talking(server, tools=["hang_up"]) as (caller, model):
            await model.begin_response("resp_1")
            await model.begin_response("resp_2")
            await model.begin_item("resp_2")
            await model.say_part("one", tone(300, 1000), response_id="resp_2")
            await model.call_tool("hang_up", "{}", response_id="resp_2")
            await model.end_response("resp_1", status="cancelled")
            await caller.until(lambda: loud_ms(caller.heard) >= 500)
            await model.say_part(" two", tone(300, 1000), response_id="resp_2")
            await model.end_item("one two", "resp_2")
            await model.end_response("resp_2")
            await caller.until_ended()

        assert ["one two"] == [entry["text"] for entry in caller.record.transcript if "text" in entry]
        assert 2000 <= loud_ms(caller.heard) <= 2040

    async def test_several_items(self) -> None:
        """Of two items in the queue, each is truncated at what was heard of it."""
        async with RealtimeServer() as server, talking(server) as (caller, model):
            await model.begin_response()
            for item_id in ("item_1", "item_2", "item_3"):
                await model.begin_item(item_id=item_id)
                await model.say_part("word", tone(300, 1000), item_id=item_id)
            await caller.until(lambda: loud_ms(caller.heard) >= 1500)
            await model.start_speech()
            await arrives(lambda: len(model.sent("conversation.item.truncate")) == 3)
            heard = [(event["item_id"], event["audio_end_ms"]) for event in model.sent("conversation.item.truncate")]

        assert [("item_1", 1000), ("item_2", 500), ("item_3", 0)] == [(item, ms // 20 * 20) for item, ms in heard]

    async def test_the_next_response_is_heard(self) -> None:
        """After an interruption the model's next answer is heard whole."""
        async with RealtimeServer() as server, talking(server) as (caller, model):
            await model.begin_response()
            await model.begin_item()
            await model.say_part("Never mind", tone(300, 5000))
            await caller.until(lambda: loud_ms(caller.heard) >= 200)
            await model.start_speech()
            await arrives(lambda: model.sent("conversation.item.truncate"))
            await model.end_response(status="cancelled")
            await model.stop_speech()
            before = len(caller.heard)
            await model.begin_response("resp_2")
            await model.say("Yes?", tone(500, 400), response_id="resp_2", item_id="item_2")
            await model.end_response("resp_2")
            await caller.until(lambda: "Yes?" in [entry["text"] for entry in caller.record.transcript])
            answer = caller.heard[before:]

        assert 400 <= loud_ms(answer) <= 440

    async def test_nothing_to_truncate(self) -> None:
        """A caller who waits for the end interrupts nothing."""
        async with RealtimeServer() as server, talking(server) as (caller, model):
            await model.begin_response()
            await model.say("Hello.", tone(300, 300))
            await model.end_response()
            await caller.until(lambda: bool(caller.record.transcript))
            await model.start_speech()
            await model.transcribe("Hi.")
            await caller.until(lambda: len(caller.record.transcript) == 2)

            assert ["session.update"] == [event["type"] for event in model.events]

    async def test_not_interruptible(self) -> None:
        """A model that is not to be interrupted speaks on; the server is told not to interrupt it either."""
        async with RealtimeServer() as server, talking(server, interruptible=False) as (caller, model):
            await model.begin_response()
            await model.begin_item()
            await model.say_part("one two", tone(300, 2000))
            await caller.until(lambda: loud_ms(caller.heard) >= 500)
            await model.start_speech()
            await caller.until(lambda: loud_ms(caller.heard) >= 2000)

            assert not model.session["audio"]["input"]["turn_detection"]["interrupt_response"]
            assert [] == model.sent("conversation.item.truncate")

    async def test_turns_by_our_own_voice_activity(self) -> None:
        """Without the server's turn detection, ours interrupts, commits the caller's turn and asks for an answer."""
        async with RealtimeServer() as server, talking(server, turn_detection="none") as (caller, model):
            await model.begin_response()
            await model.begin_item()
            await model.say_part("one two three", tone(300, 6000))
            await caller.until(lambda: loud_ms(caller.heard) >= 1000)
            await caller.speak(speech_like(1000))
            await caller.until(lambda: bool(model.sent("response.cancel")))
            await model.end_response(status="cancelled")
            await caller.hear(3000)
            await caller.until(lambda: bool(model.sent("response.create")))
            types = [event["type"] for event in model.events]

        assert [
            "session.update",
            "response.cancel",
            "conversation.item.truncate",
            "input_audio_buffer.commit",
            "response.create",
        ] == types
