"""Tools of the model: what it may call, what they get and what becomes of what they return."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sip_agent.handlers import handler_factory
from tests.handlers.realtime_calls import KEY, loud_ms, talking, tone
from tests.handlers.realtime_server import RealtimeServer
from tests.serving import serving_application


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


async def test_function() -> None:
    """A function is called, its result goes back, and the model is asked to go on once its response is over."""
    tools = ["tests.handlers.realtime_tools:find_table"]
    async with RealtimeServer() as server, talking(server, tools=tools) as (caller, model):
        await model.begin_response()
        await model.call_tool("find_table", '{"guests": 2, "when": "evening"}')
        await caller.until(lambda: bool(model.sent("conversation.item.create")))
        before = list(model.sent("response.create"))
        await model.end_response()
        await caller.until(lambda: bool(model.sent("response.create")))
        (output,) = model.sent("conversation.item.create")
        (definition,) = model.session["tools"]

    assert [] == before
    assert {"type": "function_call_output", "call_id": "call_1"}.items() <= output["item"].items()
    assert {"table": 7, "guests": 2, "when": "evening"} == json.loads(output["item"]["output"])
    assert ("function", "find_table", "Find a free table.") == (
        definition["type"],
        definition["name"],
        definition["description"],
    )
    (entry,) = caller.record.transcript
    assert ("find_table", {"guests": 2, "when": "evening"}) == (entry["tool"], entry["arguments"])
    assert {"table": 7, "guests": 2, "when": "evening"} == entry["result"]


async def test_http() -> None:
    """An HTTP tool gets the arguments as JSON and says for which call; its answer goes back."""
    asked: list[tuple[Any, str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((await request.json(), request.headers["X-Run-Id"], request.headers["X-Call-Uuid"]))
        return web.json_response({"price": 12})

    app = web.Application()
    app.router.add_post("/price", answer)
    tool = {
        "name": "price",
        "description": "Look up a price.",
        "parameters": {"type": "object", "properties": {"dish": {"type": "string"}}},
    }
    async with (
        serving_application(app) as address,
        RealtimeServer() as server,
        talking(server, tools=[tool | {"url": f"{address}/price"}]) as (caller, model),
    ):
        await model.begin_response()
        await model.call_tool("price", '{"dish": "soup"}')
        await model.end_response()
        await caller.until(lambda: bool(model.sent("response.create")))
        (output,) = model.sent("conversation.item.create")

    assert [({"dish": "soup"}, "run-7", caller.record.call_uuid)] == asked
    assert {"price": 12} == json.loads(output["item"]["output"])


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("find_table", '{"when": "evening"}', "wrong arguments: missing a required argument: 'guests'"),
        (
            "find_table",
            '{"guests": 2, "colour": 1}',
            "wrong arguments: got an unexpected keyword argument 'colour'",
        ),
        ("find_table", "{guests", "the arguments are no JSON"),
        ("find_table", "[]", "the arguments are no JSON object"),
        ("break_down", "{}", "RuntimeError: the kitchen is on fire"),
        ("find_table", '{"guests": "' + "9" * 70_000 + '"}', "the arguments are longer than 65536 characters"),
        ("dawdle", "{}", "dawdle did not finish within 0.05 s"),
        ("leave", "{}", "the tool called sys.exit()"),
        ("leave_from_a_thread", "{}", "the tool called sys.exit()"),
        ("give_up", "{}", "the tool was cancelled from within"),
        ("nothing", "{}", "there is no tool called nothing"),
    ],
)
async def test_what_goes_wrong(name: str, arguments: str, problem: str) -> None:
    """What goes wrong with a tool is told to the model, which goes on, and is on record."""
    functions = ("find_table", "break_down", "dawdle", "leave", "leave_from_a_thread", "give_up")
    tools = [f"tests.handlers.realtime_tools:{function}" for function in functions]
    async with RealtimeServer() as server, talking(server, tools=tools, tool_timeout_s=0.05) as (caller, model):
        await model.begin_response()
        await model.call_tool(name, arguments)
        await model.end_response()
        await caller.until(lambda: bool(model.sent("response.create")))
        (output,) = model.sent("conversation.item.create")

    assert json.loads(output["item"]["output"])["error"].startswith(problem)
    assert caller.record.transcript[0]["result"]["error"].startswith(problem)
    assert "answered" == caller.record.outcome


async def test_several_at_once() -> None:
    """The results of several tools go back before the model is asked to go on, once."""
    tools = ["tests.handlers.realtime_tools:find_table"]
    async with RealtimeServer() as server, talking(server, tools=tools) as (caller, model):
        await model.begin_response()
        await model.call_tool("find_table", '{"guests": 2}', call_id="call_1")
        await model.call_tool("find_table", '{"guests": 9}', call_id="call_2")
        await model.end_response()
        await caller.until(lambda: bool(model.sent("response.create")))
        await caller.hear(200)
        types = [event["type"] for event in model.events]

    assert ["conversation.item.create", "conversation.item.create", "response.create"] == types[1:]


async def test_hang_up() -> None:
    """The model ends the call once its goodbye has been heard."""
    async with RealtimeServer() as server, talking(server, tools=["hang_up"]) as (caller, model):
        await model.begin_response()
        await model.say("Goodbye.", tone(300, 1500))
        await model.call_tool("hang_up", "{}")
        await model.end_response()
        await caller.until_ended()
        heard = caller.heard

    assert 1500 <= loud_ms(heard) <= 1520
    assert ("agent", "the model hung up") == (caller.record.ended_by, caller.record.end_reason)
    assert ("answered", None) == (caller.record.outcome, caller.record.error)


async def test_hang_up_after_a_long_goodbye() -> None:
    """A goodbye may be longer than the model may take to answer."""
    options: dict[str, Any] = {"tools": ["hang_up"], "response_timeout_s": 0.1, "tool_timeout_s": 0.1}
    async with RealtimeServer() as server, talking(server, **options) as (caller, model):
        await model.begin_response()
        await model.say("Goodbye.", tone(300, 12_000))
        await model.call_tool("hang_up", "{}")
        await model.end_response()
        await caller.until_ended()
        heard = caller.heard

    assert 12_000 == pytest.approx(loud_ms(heard), abs=20)
    assert ("answered", None, []) == (caller.record.outcome, caller.record.error, caller.record.stalls)


async def test_during_speech() -> None:
    """A tool that is done before the caller has heard all that was said meanwhile holds nobody up."""
    tools = ["tests.handlers.realtime_tools:look_up"]
    async with RealtimeServer() as server, talking(server, tools=tools) as (caller, model):
        await model.begin_response()
        await model.say("Let me see.", tone(300, 6000))
        await model.call_tool("look_up", "{}")
        await model.end_response()
        await caller.until(lambda: bool(model.sent("response.create")))
        await model.begin_response("resp_2")
        await model.say("Yes.", tone(300, 200), response_id="resp_2", item_id="item_2")
        await model.end_response("resp_2")
        await caller.until(lambda: "Yes." in caller.said)

    assert [] == caller.record.stalls


async def test_call() -> None:
    """A function that has a parameter `call` gets the call, and the model does not see it."""
    tools = ["tests.handlers.realtime_tools:transfer"]
    async with RealtimeServer() as server, talking(server, tools=tools) as (caller, model):
        await model.begin_response()
        await model.call_tool("transfer", '{"to": "sip:desk@example.com"}')
        await model.end_response()
        await caller.until(lambda: bool(model.sent("response.create")))
        (definition,) = model.session["tools"]

    assert ["sip:desk@example.com"] == caller.transfers
    assert {"to"} == definition["parameters"]["properties"].keys()


def test_beside_the_settings(tmp_path: Path) -> None:
    """A function is found in a module that lies beside the settings."""
    (tmp_path / "kitchen_of_the_test.py").write_text(
        "def order(dish: str) -> str:\n    return dish\n", encoding="utf-8"
    )
    options = {"tools": ["kitchen_of_the_test:order"]}

    assert handler_factory("openai-realtime", options, tmp_path)()
