"""Tools that a script uses: an HTTP address, or a Python function."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from sip_agent.imports import import_object, look_in
from sip_agent.tools import ANSWER_LENGTH_MAX, AnswerTooLongError, ToolError, call_function, post_json


class ToolFailed(Exception):  # noqa: N818  (a fact that a script may have steps for)
    """The tool was not there, refused, took too long, or said what cannot be understood."""


def find_function(target: str, folder: Path) -> Callable[..., Any]:
    """Return the function `module:function`, looked for beside the script too; raises ToolFailed."""
    look_in(folder)
    try:
        function = import_object(target)
    except Exception as error:  # somebody's module may fail in any way when it is imported
        raise ToolFailed(f"{target} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise ToolFailed(f"{target} is no function")
    return function  # type: ignore[no-any-return]


async def use_tool(target: str, arguments: Mapping[str, Any], *, timeout_s: float, folder: Path) -> Any:
    """Use a tool and return its answer as a JSON value; raises ToolFailed that says what went wrong.

    An HTTP address gets the arguments as a JSON object by POST, and no redirect is followed. A function that is
    no coroutine function runs in a thread.
    """
    try:
        async with asyncio.timeout(timeout_s):
            if target.lower().startswith(("http://", "https://")):
                return await _post(target, arguments)
            return await _call(find_function(target, folder), arguments)
    except TimeoutError as error:
        raise ToolFailed(f"no answer within {timeout_s:g} s") from error


async def _post(address: str, arguments: Mapping[str, Any]) -> Any:
    try:
        status, text = await post_json(address, arguments)
    except AnswerTooLongError as error:
        raise ToolFailed(f"the answer is longer than {ANSWER_LENGTH_MAX} bytes") from error
    except TimeoutError:
        raise
    except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: for an address that is none
        raise ToolFailed(f"{type(error).__name__}: {error}") from error
    if not 200 <= status < 300:
        raise ToolFailed(f"HTTP {status} {text[:200]}".rstrip())
    try:
        return json.loads(text) if text.strip() else None
    except ValueError:
        return text


async def _call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        written = json.dumps(await call_function(function, **arguments))
    except TimeoutError:
        raise
    except ToolError as error:
        raise ToolFailed(str(error)) from error
    except Exception as error:  # it may fail in any way: that is the script's to handle
        raise ToolFailed(f"{type(error).__name__}: {error}") from error
    if len(written) > ANSWER_LENGTH_MAX:
        raise ToolFailed(f"the answer is longer than {ANSWER_LENGTH_MAX} bytes")
    return json.loads(written)
