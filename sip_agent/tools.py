"""What the tools of scripts and of models share: how a function is called, and how an HTTP address is asked."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

ANSWER_LENGTH_MAX = 64 * 1024
"""A tool's answer goes into the record, and into what is said or before a model: it is small.

Bytes of an HTTP address, characters of a function.
"""


class AnswerTooLongError(Exception):
    """An HTTP address answers with more than ANSWER_LENGTH_MAX."""


async def call_function(function: Callable[..., Any], /, **arguments: Any) -> Any:
    """Return what a function returns; one that is no coroutine function runs in a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(**arguments)
    return await asyncio.to_thread(function, **arguments)


async def post_json(
    url: str, arguments: Mapping[str, Any], *, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """POST the arguments as a JSON object, without following redirects; return the HTTP status and the text.

    Raises AnswerTooLongError, and aiohttp.ClientError.
    """
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=arguments, headers=headers, allow_redirects=False) as response,
    ):
        body = bytearray()
        async for block in response.content.iter_any():
            body += block
            if len(body) > ANSWER_LENGTH_MAX:
                raise AnswerTooLongError
        return response.status, body.decode(errors="replace")
