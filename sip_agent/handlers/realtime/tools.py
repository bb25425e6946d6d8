"""Tools: Python functions and HTTP addresses that a model may call while it talks."""

import asyncio
import inspect
import json
import re
import types
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

import aiohttp

from sip_agent.call import Call
from sip_agent.handlers.realtime.protocol import Event
from sip_agent.imports import import_object
from sip_agent.tools import ANSWER_LENGTH_MAX, AnswerTooLongError, ToolError, call_function, post_json

HANG_UP = "hang_up"
"""The one tool that is built in: the model ends the call, once all that it said has been heard."""

ARGUMENTS_LENGTH_MAX = 64 * 1024
"""What a model hands to a tool goes into the record, as the tool's answer does: it is as small."""

Arguments: TypeAlias = dict[str, Any]
Run: TypeAlias = Callable[[Call, Arguments], Awaitable[Any]]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", list: "array"}
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool as the model sees it (`parameters` is JSON Schema), and what runs when it is called."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Run

    def definition(self) -> Event:
        """Return the tool as a session lists it."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }


def load_tools(entries: Sequence[str | Mapping[str, Any]]) -> dict[str, Tool]:
    """Return the tools that the option `tools` lists, by name; raise ValueError for one that cannot be used.

    An entry is `"module:function"`, `"hang_up"`, or a table: `function` or `url` (with `name`, `description` and
    `parameters`, which a function need not give: its name, docstring and signature say them).
    """
    tools: dict[str, Tool] = {}
    for number, entry in enumerate(entries, start=1):
        try:
            tool = _load(entry)
        except (TypeError, ValueError) as error:
            raise ValueError(f"tools, entry {number}: {error}") from error
        if tool.name in tools:
            raise ValueError(f"tools, entry {number}: there is another tool called {tool.name}")
        tools[tool.name] = tool
    return tools


async def run_tool(tool: Tool, call: Call, arguments_text: str, *, timeout_s: float) -> Any:
    """Run a tool, put it on record, and return its result as plain data; what goes wrong is a result too: `error`."""
    arguments: Arguments = {}
    result: Any = None  # stays so on record if the call ends first
    try:
        arguments = _parse_arguments(arguments_text)
        async with asyncio.timeout(timeout_s):
            result = _plain(await tool.run(call, arguments))
    except TimeoutError:
        result = {"error": f"{tool.name} did not finish within {timeout_s:g} s"}
    except ToolError as error:
        result = {"error": str(error)}
    except Exception as error:
        call.log.exception("realtime.tool_failed", tool=tool.name)
        result = {"error": f"{type(error).__name__}: {error}"}
    finally:
        call.tool_call(tool.name, arguments, result)
    return result


def output_text(result: Any) -> str:
    """Return a result as the text that the model gets."""
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _load(entry: str | Mapping[str, Any]) -> Tool:
    if entry == HANG_UP:
        description = "End the call. Say goodbye first; the call ends when the caller has heard it."
        return Tool(name=HANG_UP, description=description, parameters=_NO_PARAMETERS, run=_hang_up)
    table = {"function": entry} if isinstance(entry, str) else dict(entry)
    wrong = sorted(table.keys() - {"function", "url", "name", "description", "parameters"})
    if wrong:
        raise ValueError(f"{wrong[0]} is no key of a tool: it has function or url, name, description, parameters")
    if ("function" in table) == ("url" in table):
        raise ValueError('a tool is "module:function", "hang_up", or a table with either function or url')
    tool = _function_tool(table) if "function" in table else _http_tool(table)
    if not _NAME.fullmatch(tool.name):
        raise ValueError(f"a tool's name is 1 to 64 letters, digits, _ and -, not {tool.name!r}")
    return tool


async def _hang_up(call: Call, _arguments: Arguments) -> None:
    await call.hangup(reason="the model hung up")


def _function_tool(table: Mapping[str, Any]) -> Tool:
    function = _import(str(table["function"]))
    hints = get_type_hints(function, include_extras=True)
    takes = [parameter for parameter in inspect.signature(function).parameters.values() if parameter.name != "call"]
    return Tool(
        name=str(table.get("name") or function.__name__),
        description=str(table.get("description") or inspect.getdoc(function) or ""),
        parameters=table.get("parameters") or _schema(takes, hints),
        run=partial(_run_function, function),
    )


def _import(name: str) -> Callable[..., Any]:
    module_name, colon, _ = name.partition(":")
    if not colon or not module_name:
        raise ValueError(f"a function is named module:function, not {name!r}")
    try:
        function = import_object(name)
    except Exception as error:  # a stranger's module may fail in any way when it is imported
        raise ValueError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
    if not inspect.isfunction(function):
        raise ValueError(f"{name} is no function")
    return cast("Callable[..., Any]", function)


async def _run_function(function: Callable[..., Any], call: Call, arguments: Arguments) -> Any:
    signature = inspect.signature(function)
    given = {"call": call} if "call" in signature.parameters else {}
    try:
        signature.bind(**arguments, **given)
    except TypeError as error:
        raise ToolError(f"wrong arguments: {error}") from error
    return await call_function(function, **arguments, **given)


def _schema(parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a function's parameters as JSON Schema."""
    properties = {}
    for parameter in parameters:
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise ValueError(f"the parameter {parameter.name} cannot be given by name")
        if parameter.name not in hints:
            raise ValueError(f"the parameter {parameter.name} has no annotation: the model has to know its type")
        properties[parameter.name] = _type_schema(hints[parameter.name], parameter.name)
    required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    return {"type": "object", "properties": properties, "required": required}


def _type_schema(hint: Any, name: str) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        text = next((extra for extra in arguments[1:] if isinstance(extra, str)), "")
        return {**_type_schema(arguments[0], name), **({"description": text} if text else {})}
    if origin is Literal:
        return {"type": _TYPES[type(arguments[0])], "enum": list(arguments)}
    if origin in {Union, types.UnionType}:
        some = [argument for argument in arguments if argument is not types.NoneType]
        if len(some) == 1:
            return _type_schema(some[0], name)
    if origin is list:
        return {"type": "array", "items": _type_schema(arguments[0], name)}
    if (origin or hint) in _TYPES:
        return {"type": _TYPES[origin or hint]}
    kinds = "str, int, float, bool, dict, list, Literal, Annotated and T | None"
    raise ValueError(f"the parameter {name} is {hint}: a tool takes {kinds}; or give its parameters as JSON Schema")


def _http_tool(table: Mapping[str, Any]) -> Tool:
    url = str(table["url"])
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"url begins with http:// or https://, not {url!r}")
    return Tool(
        name=str(table.get("name", "")),
        description=str(table.get("description", "")),
        parameters=table.get("parameters") or _NO_PARAMETERS,
        run=partial(_run_http, url),
    )


async def _run_http(url: str, call: Call, arguments: Arguments) -> Any:
    """POST the arguments; the headers say for which call."""
    headers = {"X-Call-Uuid": call.call_uuid, **({"X-Run-Id": call.ids.run_id} if call.ids.run_id else {})}
    try:
        status, text = await post_json(url, arguments, headers=headers)
    except AnswerTooLongError as error:
        raise ToolError(f"the tool's answer is longer than {ANSWER_LENGTH_MAX} bytes") from error
    except aiohttp.ClientError as error:
        raise ToolError(f"the tool's server cannot be reached: {type(error).__name__}") from error
    if status >= 300:
        raise ToolError(f"the tool's server answered {status}: {text[:200]}")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _parse_arguments(text: str) -> Arguments:
    if len(text) > ARGUMENTS_LENGTH_MAX:
        raise ToolError(f"the arguments are longer than {ARGUMENTS_LENGTH_MAX} characters")
    try:
        arguments = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise ToolError(f"the arguments are no JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise ToolError("the arguments are no JSON object")
    return arguments


def _plain(result: Any) -> Any:
    """Return a result as data that a record and a message can hold."""
    text = json.dumps(result, default=str, ensure_ascii=False)
    if len(text) > ANSWER_LENGTH_MAX:
        raise ToolError(f"the tool's answer is longer than {ANSWER_LENGTH_MAX} characters")
    return json.loads(text)
