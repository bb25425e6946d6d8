"""A conversation between a caller and a model: sound and events both ways, who has the floor, what goes on record."""

import asyncio
import base64
import itertools
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from media.live_resample import LiveResampler
from sip_agent.call import Call, SpeechStarted
from sip_agent.errors import CallEnded
from sip_agent.handlers.realtime import protocol
from sip_agent.handlers.realtime.link import RealtimeError, RealtimeLink, describe_error
from sip_agent.handlers.realtime.patience import SLOW_MS, Patience
from sip_agent.handlers.realtime.playout import TEXT_LENGTH_MAX, Heard, Playout
from sip_agent.handlers.realtime.protocol import NAME_LENGTH_MAX, AudioCodec, Event, name_in
from sip_agent.handlers.realtime.tools import HANG_UP, Tool, output_text, run_tool
from sip_agent.handlers.realtime.unheard import Unheard

GAP_MS = 40
"""A gap of two frames in the middle of a sentence is heard, and noted as a stall."""

TOOLS_AT_ONCE_MAX = 8
"""A model that calls more tools than this at the same time gets an error for the rest."""

ERRORS_LOGGED_MAX = 5
"""Errors of one call that the log has; the others are counted there when the call is over."""

RESPONSES_MAX = 16
"""Of so many responses, the latest ones, sound that comes after an interruption is known to be late."""

TURNS_MAX = 32
"""Turns of the caller whose text may still come: recognition runs beside the conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How the two take turns.

    The server may hear when the caller starts and stops (`server_turns`, otherwise the call's own voice activity
    decides), may answer by itself, and may cancel by itself what it says when it is interrupted.
    """

    server_turns: bool = True
    server_answers: bool = True
    server_cancels: bool = True
    interruptible: bool = True
    greeting: str = ""
    response_timeout_s: float = 15.0
    tool_timeout_s: float = 10.0


class Conversation:
    """One call with one model, in a session that is set up already."""

    def __init__(
        self, call: Call, link: RealtimeLink, codec: AudioCodec, manners: Manners, tools: Mapping[str, Tool]
    ) -> None:
        self._call = call
        self._link = link
        self._codec = codec
        self._manners = manners
        self._tools = tools
        self._playout = Playout(call, codec, self._note_heard)
        self._patience = Patience(call, self._playout)
        self._group = asyncio.TaskGroup()
        self._unheard = Unheard() if manners.server_turns else None
        self._caller_speaks = False
        self._turn_began_ms = 0
        self._turns: dict[str, int] = {}
        self._interrupted: dict[str, bool] = {}
        self._response_id: str | None = None
        self._response_heard = False
        self._response_over = asyncio.Event()
        self._response_over.set()
        self._request_ids = (f"response-{number}" for number in itertools.count(1))
        self._request_id = ""
        self._requested = False
        self._wants_response = False
        self._tools_running = 0
        self._last_error = ""
        self._errors = 0
        self._reactions: dict[str, Callable[[Event], Coroutine[Any, Any, None]]] = {
            "error": self._on_error,
            "input_audio_buffer.speech_started": self._on_speech_started,
            "input_audio_buffer.speech_stopped": self._on_speech_stopped,
            "input_audio_buffer.committed": self._on_committed,
            "conversation.item.input_audio_transcription.completed": self._on_caller_text,
            "response.created": self._on_response_created,
            "response.done": self._on_response_done,
            "response.output_item.done": self._on_item_done,
            "response.output_audio.delta": self._on_sound,
            "response.output_audio_transcript.delta": self._on_text,
            "response.audio.delta": self._on_sound,
            "response.audio_transcript.delta": self._on_text,
        }

    async def run(self) -> None:
        """Hold the conversation until the call ends; raise RealtimeError when the model cannot go on with it."""
        try:
            async with self._patience.limit, self._group:
                self._group.create_task(self._hear())
                self._group.create_task(self._react())
                self._group.create_task(self._playout.run())
                if not self._manners.server_turns:
                    self._group.create_task(self._take_turns())
                if self._manners.greeting:
                    await self._request_response(self._manners.greeting)
        except TimeoutError as error:
            why = self._last_error or self._patience.cause
            limit_s = self._manners.response_timeout_s
            raise RealtimeError(f"the model did not answer within {limit_s:g} s ({why})") from error
        except ExceptionGroup as group:
            failure = _failure(group)
            if failure is not None and not (self._call.ended and isinstance(failure, RealtimeError)):
                raise failure from None
        finally:
            self._patience.note()
            for item in self._playout.stop():
                self._note_heard(item)
            if self._errors > ERRORS_LOGGED_MAX:
                self._call.log.warning("realtime.more_errors", count=self._errors - ERRORS_LOGGED_MAX)

    # What the caller says

    async def _hear(self) -> None:
        resampler = LiveResampler(self._call.sample_rate_hz, self._codec.sample_rate_hz)
        async for frame in self._call.frames():
            if self._unheard is not None and self._unheard.hear(frame) and not self._patience.waiting:
                self._await_answer()
            await self._link.send(protocol.append_audio(self._codec.encode(resampler.process(frame))))
        raise CallEnded("the call is over")

    async def _take_turns(self) -> None:
        """Decide on the caller's turns by the call's own voice activity (turn detection `none`)."""
        async for event in self._call.speech():
            if isinstance(event, SpeechStarted):
                self._turn_began_ms = event.at_ms
                await self._caller_starts()
            else:
                self._caller_speaks = False
                await self._link.send(protocol.commit_audio())
                await self._request_response()

    async def _on_speech_started(self, _event: Event) -> None:
        self._unheard = None
        self._turn_began_ms = self._call.elapsed_ms()
        await self._caller_starts()

    async def _on_speech_stopped(self, _event: Event) -> None:
        self._unheard = None
        self._caller_speaks = False
        if self._manners.server_answers:
            self._await_answer()
        else:
            await self._request_response()

    async def _on_committed(self, event: Event) -> None:
        self._turns[name_in(event, "item_id")] = self._turn_began_ms
        if len(self._turns) > TURNS_MAX:
            del self._turns[next(iter(self._turns))]

    async def _on_caller_text(self, event: Event) -> None:
        if text := str(event["transcript"]).strip()[:TEXT_LENGTH_MAX]:
            began_ms = self._turns.pop(event["item_id"], self._turn_began_ms)
            self._call.transcript.add("caller", text, at_ms=began_ms)

    async def _caller_starts(self) -> None:
        """Give the floor to the caller: silence at once, then tell the model what was heard of it."""
        self._caller_speaks = True
        self._answered()
        if not self._manners.interruptible:
            return
        cut = self._playout.stop()
        self._interrupted = dict.fromkeys(self._interrupted, True)
        self._response_heard = False
        if self._response_id is not None and not self._manners.server_cancels:
            await self._link.send(protocol.cancel_response(self._response_id))
        for item in cut:
            self._note_heard(item)
            await self._link.send(protocol.truncate_item(item.item_id, item.content_index, item.heard_ms))
            self._call.log.info("realtime.interrupted", item_id=item.item_id, heard_ms=item.heard_ms)

    # What the model says

    async def _react(self) -> None:
        async for event in self._link.events():
            reaction = self._reactions.get(event["type"])
            if reaction is None:
                continue
            try:
                await reaction(event)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self._link.bad_event(f"{event['type']}: {type(error).__name__}: {error}")

    async def _on_response_created(self, event: Event) -> None:
        if not self._requested:
            self._unheard = None
        self._response_id = name_in(event["response"], "id")
        self._response_heard = False
        self._response_over.clear()
        self._requested = self._wants_response = False
        # Where the caller speaks, it was asked for before.
        self._interrupted[self._response_id] = interrupted = self._caller_speaks and self._manners.interruptible
        if len(self._interrupted) > RESPONSES_MAX:
            del self._interrupted[next(iter(self._interrupted))]
        if interrupted:
            await self._link.send(protocol.cancel_response(self._response_id))
        else:
            self._await_answer()

    async def _on_sound(self, event: Event) -> None:
        response_id = event["response_id"]
        if self._interrupted.get(response_id):
            return
        item_id, sound = name_in(event, "item_id"), base64.b64decode(event["delta"], validate=True)
        self._patience.note(GAP_MS if self._playout.is_saying(item_id) else SLOW_MS)
        self._playout.add(item_id, int(event["content_index"]), sound)
        self._answered()
        if response_id == self._response_id:
            self._response_heard = True
            self._await_answer()

    async def _on_text(self, event: Event) -> None:
        if not self._interrupted.get(event["response_id"]):
            self._playout.add_text(name_in(event, "item_id"), int(event["content_index"]), str(event["delta"]))

    async def _on_item_done(self, event: Event) -> None:
        item = event["item"]
        if item["type"] == "function_call" and item.get("status") != "incomplete":
            await self._call_tool(name_in(item, "name"), name_in(item, "call_id"), str(item["arguments"]))
        elif item["type"] == "message":
            spoken = "".join(str(part.get("transcript") or "") for part in item.get("content") or ())
            self._playout.complete(str(item["id"]), spoken)

    async def _on_response_done(self, event: Event) -> None:
        response = event["response"]
        status, usage = response.get("status"), response.get("usage") or {}
        self._call.log.info(
            "realtime.response",
            status=str(status)[:NAME_LENGTH_MAX],
            input_tokens=_number(usage.get("input_tokens")),
            output_tokens=_number(usage.get("output_tokens")),
        )
        if self._response_id not in {None, response.get("id", self._response_id)}:
            return  # an earlier one, which another has taken the place of
        self._response_id = None
        self._response_over.set()
        self._playout.complete_all()
        details = response.get("status_details") or {}
        if status == "failed":
            self._note_failure(details.get("error"))
        elif status == "incomplete":
            self._note_failure({"code": details.get("reason"), "message": "the response is incomplete"})
        if self._tools_running:
            self._patience.cause = "slow_tool"
        elif self._wants_response:
            await self._request_response()
        elif status == "completed" or self._response_heard:
            self._answered()

    # Errors

    async def _on_error(self, event: Event) -> None:
        """Note an error: most are recoverable, and after the others the server closes the connection."""
        error = event["error"]
        if not self._request_id or error.get("event_id") != self._request_id:
            self._note_error(error)
        elif error.get("code") == "conversation_already_has_active_response":
            # The server began to answer by itself while our request was on its way.
            self._requested, self._wants_response = False, True
        else:
            self._requested = False
            self._note_failure(error)

    def _note_failure(self, error: Any) -> None:
        """Note why there is no answer."""
        self._note_error(error)
        self._patience.cause = f"model_error: {describe_error(error).partition(':')[0]}"

    def _note_error(self, error: Any) -> None:
        self._last_error = describe_error(error)
        self._errors += 1
        if self._errors <= ERRORS_LOGGED_MAX:
            self._call.log.warning("realtime.error", error=self._last_error)

    # Asking for an answer, and waiting for it

    async def _request_response(self, instructions: str = "") -> None:
        """Ask the model to speak, once it and the caller are silent and its tools are done."""
        if self._response_id or self._requested or self._caller_speaks or self._tools_running:
            self._wants_response = True
            return
        self._wants_response = False
        self._requested, self._request_id = True, next(self._request_ids)
        await self._link.send(protocol.create_response(self._request_id, instructions))
        self._await_answer()

    def _await_answer(self) -> None:
        manners = self._manners
        self._patience.begin(manners.response_timeout_s + (manners.tool_timeout_s if self._tools_running else 0.0))

    def _answered(self) -> None:
        self._last_error = ""
        self._patience.end()

    # Tools

    async def _call_tool(self, name: str, call_id: str, arguments: str) -> None:
        tool = self._tools.get(name)
        if tool is None:
            await self._refuse_tool(name, call_id, f"there is no tool called {name}")
        elif self._tools_running >= TOOLS_AT_ONCE_MAX:
            await self._refuse_tool(name, call_id, f"more than {TOOLS_AT_ONCE_MAX} tools at once")
        else:
            self._tools_running += 1
            if name != HANG_UP:  # which waits for the model's own goodbye
                self._await_answer()
                self._patience.cause = "slow_tool"
            self._group.create_task(self._use_tool(tool, call_id, arguments))

    async def _refuse_tool(self, name: str, call_id: str, problem: str) -> None:
        result = {"error": problem}
        self._call.tool_call(name, {}, result)
        await self._link.send(protocol.tool_output(call_id, output_text(result)))
        await self._request_response()

    async def _use_tool(self, tool: Tool, call_id: str, arguments: str) -> None:
        if tool.name == HANG_UP:
            await self._response_over.wait()
            await self._playout.idle()
        result = await run_tool(tool, self._call, arguments, timeout_s=self._manners.tool_timeout_s)
        await self._link.send(protocol.tool_output(call_id, output_text(result)))
        self._tools_running -= 1
        await self._request_response()

    def _note_heard(self, item: Heard) -> None:
        if item.text.strip():
            self._call.transcript.add("agent", item.text.strip(), at_ms=item.began_ms)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _failure(group: ExceptionGroup) -> Exception | None:
    """Return what went wrong in a group of tasks; that the call is over is nothing wrong."""
    return next((error for error in group.exceptions if not isinstance(error, CallEnded)), None)
