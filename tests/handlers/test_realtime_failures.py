"""Every way in which a model fails, and what the caller hears and the record says then."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from structlog.testing import capture_logs

from sip_agent.handlers.realtime import RealtimeHandler
from sip_agent.testing import FakeCall, speech_like
from tests.handlers.realtime_calls import KEY, arrives, loud_ms, strongest_hz, talking, tone
from tests.handlers.realtime_server import Connection, RealtimeServer

DELTA = '{"type": "response.output_audio.delta", "response_id": "r", "item_id": "i", "content_index": 0, "delta": "%s"}'


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


async def understood(caller: FakeCall, model: Connection) -> None:
    """Wait until the handler has taken all that the model sent."""
    before = len(caller.record.transcript)
    await model.transcribe("Hm.")
    await arrives(lambda: len(caller.record.transcript) > before)


async def outcome(server: RealtimeServer | None = None, **options: Any) -> FakeCall:
    """Call a model that fails before it can be set up, and return what came of the call."""
    url = server.url if server else "http://127.0.0.1:1/v1"
    async with FakeCall(RealtimeHandler(base_url=url, **options)) as caller:
        await caller.until_ended()
    return caller


async def test_not_there() -> None:
    """A server that is not there: the call is refused with 503, and the record says why."""
    caller = await outcome()

    assert [180, 503] == caller.statuses
    assert "the realtime server ws://127.0.0.1:1/v1/realtime?model=gpt-realtime-2 cannot be reached" in str(
        caller.record.end_reason
    )


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "refused the key (401)"), (404, "check base_url"), (429, "rate limit"), (500, "(500)")],
)
async def test_refused(status: int, hint: str) -> None:
    """A server that refuses the connection: what its status means is in the record, and the key is not."""
    async with RealtimeServer(refuse=status) as server:
        caller = await outcome(server)

    assert 503 == caller.statuses[-1]
    assert hint in str(caller.record.end_reason)
    assert KEY not in str(caller.record.to_dict())


async def test_session_refused() -> None:
    """A session that the server does not take: its own message is in the record."""

    class Refusing(Connection):
        async def take(self, event: dict[str, Any]) -> None:
            del event
            error = {"type": "invalid_request_error", "code": "invalid_value", "message": "no such voice"}
            await self.send("error", error=error)

    async with RealtimeServer(connection=Refusing) as server:
        caller = await outcome(server)

    assert "the realtime server refused the session: invalid_value: no such voice" == caller.record.end_reason


async def test_session_refused_at_length() -> None:
    """What a server says of a refusal is cut."""

    class Refusing(Connection):
        async def take(self, event: dict[str, Any]) -> None:
            del event
            await self.send("error", error={"type": "invalid_request_error", "code": "y", "message": "E" * 1_000_000})

    async with RealtimeServer(connection=Refusing) as server:
        caller = await outcome(server)

    assert f"the realtime server refused the session: y: {'E' * 297}…" == caller.record.end_reason


async def test_session_never_set_up() -> None:
    """A server that says nothing is given up."""

    class Mute(Connection):
        async def run(self) -> None:
            await self._socket.receive()

    async with RealtimeServer(connection=Mute) as server:
        caller = await outcome(server, connect_timeout_s=0.5)

    assert "the realtime server did not set up the session within 0.5 s" == caller.record.end_reason


async def test_fallback_before_the_answer(tmp_path: Path) -> None:
    """With a fallback the call is answered, and the caller hears it."""
    soundfile.write(tmp_path / "sorry.wav", tone(700, 500, 16_000), 16_000)
    caller = await outcome(fallback_file=str(tmp_path / "sorry.wav"))

    assert [180, 200] == caller.statuses
    assert 500 == pytest.approx(loud_ms(caller.heard), abs=20)
    assert "failed" == caller.record.outcome
    assert "cannot be reached" in str(caller.record.error)


async def test_fallback_that_cannot_be_played(tmp_path: Path) -> None:
    """The file was sound when the agent started; the record has what was wrong with the model."""
    path = tmp_path / "sorry.wav"
    soundfile.write(path, tone(700, 500, 16_000), 16_000)
    RealtimeHandler(base_url="http://127.0.0.1:1/v1", fallback_file=str(path))
    path.write_text("no sound")
    caller = await outcome(fallback_file=str(path))

    assert ("failed", "agent") == (caller.record.outcome, caller.record.ended_by)
    assert "cannot be reached" in str(caller.record.error)


async def test_closes_in_the_middle(tmp_path: Path) -> None:
    """A server that goes away: silence at once, the fallback, and its last error in the record."""
    soundfile.write(tmp_path / "sorry.wav", tone(700, 500, 16_000), 16_000)
    fallback = str(tmp_path / "sorry.wav")
    async with RealtimeServer() as server, talking(server, fallback_file=fallback) as (caller, model):
        await model.begin_response()
        await model.begin_item()
        await model.say_part("one two three four", tone(300, 4000))
        await caller.until(lambda: loud_ms(caller.heard) >= 1000)
        before = len(caller.heard)
        await model.send("error", error={"type": "server_error", "code": "session_expired", "message": "an hour"})
        await model.close(1001)
        await arrives(lambda: caller.record.transcript)
        await caller.until_ended()
        rest = caller.heard[before:]

    assert 700 == pytest.approx(strongest_hz(rest[-8000:-1600]), abs=10)
    assert 500 <= loud_ms(rest) <= 540
    reason = "the realtime server closed the connection (code 1001); its last error was: session_expired: an hour"
    assert (reason, reason) == (caller.record.end_reason, caller.record.error)
    assert ("failed", "agent") == (caller.record.outcome, caller.record.ended_by)
    assert ["one"] == [entry["text"] for entry in caller.record.transcript]


@pytest.mark.parametrize(
    "garbage",
    [
        "no JSON",
        "[]",
        "{}",
        '{"type": 5}',
        '{"type": "response.created"}',
        DELTA % "!",
        DELTA % "AA==",
    ],
)
async def test_garbage(garbage: str) -> None:
    """A little garbage is passed over; a server that sends nothing else is given up, and the record says why."""
    async with RealtimeServer() as server, talking(server) as (caller, model):
        for _ in range(5):
            await model.send_text(garbage)
        await understood(caller, model)
        alive = not caller.ended
        await model.send_text(garbage)
        await caller.until_ended()

    assert alive
    assert "the realtime server sends what is no event of the protocol" in str(caller.record.error)


async def test_endless_ids() -> None:
    """Ids without end are no events of the protocol."""
    async with RealtimeServer() as server, talking(server) as (caller, model):
        for _ in range(6):
            await model.begin_response("r" * 1_000_000)
        await caller.until_ended()

    assert "ValueError: id has 1000000 characters" in str(caller.record.error)


async def test_endless_text() -> None:
    """The words of one item, and of what the caller said, are cut."""
    async with RealtimeServer() as server, talking(server) as (caller, model):
        await model.begin_response()
        await model.say("w" * 1_000_000, tone(300, 200))
        await model.end_response()
        await caller.until(lambda: bool(caller.said))
        await model.begin_response("resp_2")
        await model.begin_item("resp_2", "item_2")
        for _ in range(3):
            await model.say_part("w" * 9000, tone(300, 200), response_id="resp_2", item_id="item_2")
        await model.end_response("resp_2")
        await caller.until(lambda: len(caller.said) == 2)
        await model.transcribe("w" * 1_000_000)
        await caller.until(lambda: len(caller.record.transcript) == 3)

    assert [10_000] * 3 == [len(entry["text"]) for entry in caller.record.transcript]


async def test_endless_items() -> None:
    """A server that begins ever more items is given up."""
    async with RealtimeServer() as server, talking(server) as (caller, model):
        await model.begin_response()
        for number in range(101):
            await model.say_part("word", tone(300, 0), item_id=f"item_{number}")
        await caller.until_ended()

    assert "the realtime server says more than 100 things at once" == caller.record.error


async def test_too_far_ahead() -> None:
    """A server that sends hours of speech at once is given up, before the memory is."""
    async with RealtimeServer() as server, talking(server, audio_format="g711_ulaw") as (caller, model):
        await model.begin_response()
        await model.begin_item()
        sound = np.zeros(8000 * 301, np.int16)
        await model.say_part("", sound)
        await caller.until_ended()

    assert "the realtime server is more than 300 s of speech ahead" == caller.record.error


async def test_never_answers() -> None:
    """A model that does not answer in time is given up: no silence without a word in the record."""
    async with RealtimeServer() as server, talking(server, response_timeout_s=0.2) as (caller, model):
        await model.start_speech()
        await model.stop_speech()
        await caller.until_ended()

    assert "the model did not answer within 0.2 s (slow_model)" == caller.record.error


async def test_slow() -> None:
    """A model that takes its time is noted: from when it was to answer to when it did."""
    async with RealtimeServer() as server, talking(server) as (caller, model):
        await caller.hear(500)
        await model.start_speech()
        await model.stop_speech()
        await understood(caller, model)
        asked_ms = caller.call.elapsed_ms()
        await caller.hear(3000)
        answered_ms = caller.call.elapsed_ms()
        await model.begin_response()
        await model.say("Well.", tone(300, 200))
        await model.end_response()
        await arrives(lambda: caller.record.stalls)

    assert [{"cause": "slow_model", "started_ms": asked_ms, "ended_ms": answered_ms}] == caller.record.stalls


async def test_slow_after_speech() -> None:
    """Nobody waits while the model is heard: a wait begins at the end of what it says."""
    async with RealtimeServer() as server, talking(server, interruptible=False) as (caller, model):
        await model.begin_response()
        await model.say("one two three", tone(300, 4000))
        await model.end_response()
        await caller.until(lambda: loud_ms(caller.heard) >= 500)
        await model.start_speech()
        await model.stop_speech()
        await caller.until(lambda: bool(caller.said))
        ended_ms = caller.call.elapsed_ms()
        await caller.hear(3000)
        answered_ms = caller.call.elapsed_ms()
        await model.begin_response("resp_2")
        await model.say("Well.", tone(300, 200), response_id="resp_2", item_id="item_2")
        await arrives(lambda: caller.record.stalls)

    (stall,) = caller.record.stalls
    assert ("slow_model", answered_ms) == (stall["cause"], stall["ended_ms"])
    assert ended_ms == pytest.approx(stall["started_ms"], abs=100)


@pytest.mark.parametrize("whole", [False, True], ids=["in a sentence", "between two"])
async def test_stops_in_the_middle(whole: bool) -> None:
    """A model that does not go on is given up, and its silence is on record."""
    async with RealtimeServer() as server, talking(server, response_timeout_s=0.5) as (caller, model):
        await model.begin_response()
        await model.begin_item()
        await model.say_part("one", tone(300, 1000))
        if whole:
            await model.end_item("one")
        await caller.until(lambda: loud_ms(caller.heard) >= 1000)
        ended_ms = caller.call.elapsed_ms()
        await caller.hear(3000)
        await caller.until_ended()

    assert "the model did not answer within 0.5 s (slow_model)" == caller.record.error
    (stall,) = caller.record.stalls
    assert ("slow_model", True) == (stall["cause"], stall["ended_ms"] - stall["started_ms"] >= 2900)
    assert ended_ms == pytest.approx(stall["started_ms"], abs=100)


async def test_late_end_of_an_interrupted_response() -> None:
    """A response that was interrupted and is over after the caller's turn is no answer to it."""
    async with RealtimeServer() as server, talking(server, response_timeout_s=0.5) as (caller, model):
        await model.begin_response()
        await model.begin_item()
        await model.say_part("one two", tone(300, 2000))
        await caller.until(lambda: loud_ms(caller.heard) >= 500)
        await model.start_speech()
        await model.stop_speech()
        await model.end_response(status="cancelled")
        await caller.until_ended()

    assert "the model did not answer within 0.5 s (slow_model)" == caller.record.error


async def test_caller_gives_up() -> None:
    """A silence in the middle of an answer is on record, too, when the caller ends it."""
    async with RealtimeServer() as server, talking(server) as (caller, model):
        await model.begin_response()
        await model.begin_item()
        await model.say_part("one", tone(300, 1000))
        await caller.until(lambda: loud_ms(caller.heard) >= 1000)
        await caller.hear(3000)
        caller.hang_up()

    assert ["slow_model"] == [stall["cause"] for stall in caller.record.stalls]
    assert ("answered", None) == (caller.record.outcome, caller.record.error)


async def test_breaks_off() -> None:
    """A response that breaks off after some words was an answer: it is the caller's turn."""
    async with RealtimeServer() as server, talking(server) as (caller, model):
        await model.begin_response()
        await model.begin_item()
        await model.say_part("one two", tone(300, 500))
        details = {"type": "incomplete", "reason": "max_output_tokens"}
        await model.end_response(status="incomplete", details=details)
        await caller.until(lambda: bool(caller.said))
        await caller.hear(5000)

    assert [] == caller.record.stalls


async def test_never_hears() -> None:
    """A server that takes no notice of a caller who has spoken is given up as one that does not answer."""
    async with RealtimeServer() as server, talking(server, response_timeout_s=0.5) as (caller, _):
        await caller.hear(500)
        await caller.speak(speech_like(1000))
        spoken_ms = caller.call.elapsed_ms()
        await caller.hear(4000)
        await caller.until_ended()

    assert "the model did not answer within 0.5 s (slow_model)" == caller.record.error
    (stall,) = caller.record.stalls
    assert ("slow_model", True) == (stall["cause"], stall["ended_ms"] - stall["started_ms"] >= 3000)
    assert spoken_ms == pytest.approx(stall["started_ms"], abs=700)


async def test_hears() -> None:
    """A server that has taken notice of the caller decides by itself what is worth an answer."""
    async with RealtimeServer() as server, talking(server) as (caller, model):
        await caller.hear(500)
        await model.start_speech()
        await model.stop_speech()
        await model.begin_response()
        await model.say("Yes?", tone(300, 200))
        await model.end_response()
        await caller.until(lambda: bool(caller.said))
        await caller.speak(speech_like(1000))
        await caller.hear(5000)

    assert [] == caller.record.stalls


async def test_gap_in_a_sentence() -> None:
    """A server that is slower than speech leaves a gap, and the gap is noted."""
    async with RealtimeServer() as server, talking(server) as (caller, model):
        await model.begin_response()
        await model.begin_item()
        await model.say_part("one", tone(300, 400))
        await caller.until(lambda: loud_ms(caller.heard) >= 400)
        ended_ms = caller.call.elapsed_ms()
        await caller.hear(600)
        await model.say_part(" two", tone(300, 400))
        await arrives(lambda: caller.call.queued_ms)
        await model.end_item("one two")
        await model.end_response()
        await caller.until(lambda: bool(caller.record.transcript))

    (stall,) = caller.record.stalls
    assert "slow_model" == stall["cause"]
    assert ended_ms == pytest.approx(stall["started_ms"], abs=60)
    assert 600 <= stall["ended_ms"] - stall["started_ms"] <= 640


async def test_failed_response() -> None:
    """A response that failed, as for a rate limit, is the cause of the silence after it, on record."""
    error = {"type": "tokens", "code": "rate_limit_exceeded", "message": "slow down"}
    async with RealtimeServer() as server, talking(server, response_timeout_s=0.5) as (caller, model):
        await model.start_speech()
        await model.stop_speech()
        await model.begin_response()
        await model.end_response(status="failed", details={"type": "failed", "error": error})
        await understood(caller, model)
        await caller.hear(3000)
        await caller.until_ended()

    assert "the model did not answer within 0.5 s (rate_limit_exceeded: slow down)" == caller.record.error
    assert ["model_error: rate_limit_exceeded"] == [stall["cause"] for stall in caller.record.stalls]


async def test_refused_request() -> None:
    """A response that was refused because of another one is asked for again after it."""
    tools = ["tests.handlers.realtime_tools:find_table"]
    async with RealtimeServer() as server, talking(server, tools=tools) as (caller, model):
        await model.begin_response()
        await model.call_tool("find_table", '{"guests": 2}')
        await model.end_response()
        await caller.until(lambda: bool(model.sent("response.create")))
        (request,) = model.sent("response.create")
        await model.begin_response("resp_2")
        code = "conversation_already_has_active_response"
        error = {"type": "invalid_request_error", "code": code, "message": "", "event_id": request["event_id"]}
        await model.send("error", error=error)
        await model.end_response("resp_2")
        await caller.until(lambda: len(model.sent("response.create")) == 2)
        requests = model.sent("response.create")

    assert 2 == len(requests)
    assert requests[0]["event_id"] != requests[1]["event_id"]


async def test_an_error_is_not_the_end() -> None:
    """Most errors are recoverable: the conversation goes on."""
    async with RealtimeServer() as server, talking(server) as (caller, model):
        await model.send("error", error={"type": "invalid_request_error", "code": None, "message": "too short"})
        await model.begin_response()
        await model.say("Hello.", tone(300, 200))
        await model.end_response()
        await caller.until(lambda: bool(caller.record.transcript))

    assert ("answered", None) == (caller.record.outcome, caller.record.error)


async def test_many_errors() -> None:
    """The log has the first errors of a call, cut, and how many there were."""
    with capture_logs() as logs:
        async with RealtimeServer() as server, talking(server) as (caller, model):
            for _ in range(200):
                await model.send("error", error={"type": "server_error", "code": "x", "message": "M" * 100_000})
            await understood(caller, model)

    errors = [entry for entry in logs if entry["event"] == "realtime.error"]
    assert [f"x: {'M' * 297}…"] * 5 == [entry["error"] for entry in errors]
    assert [195] == [entry["count"] for entry in logs if entry["event"] == "realtime.more_errors"]


async def test_long_last_error() -> None:
    """An error without end is cut in the record."""
    async with RealtimeServer() as server, talking(server) as (caller, model):
        await model.send("error", error={"type": "server_error", "code": "x", "message": "M" * 1_000_000})
        await model.close(1011)
        await caller.until_ended()

    assert str(caller.record.error).endswith(f"its last error was: x: {'M' * 297}…")
