"""Serves WebSockets of an ASGI application, as uvicorn does, on aiohttp: so that a FastAPI bot runs as it is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMsgType, web

Application = Callable[
    [dict[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]


async def serve(application: Application) -> None:
    """Serve on a free port, print it, and go on until cancelled."""
    server = web.Application()
    server.router.add_get("/{path:.*}", lambda request: _serve_socket(application, request))
    runner = web.AppRunner(server, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"port {runner.addresses[0][1]}", flush=True)  # noqa: T201  (the test reads it)
    await asyncio.Event().wait()


async def _serve_socket(application: Application, request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    connected = False

    async def receive() -> dict[str, Any]:
        nonlocal connected
        if not connected:
            connected = True
            return {"type": "websocket.connect"}
        message = await socket.receive()
        if message.type is WSMsgType.TEXT:
            return {"type": "websocket.receive", "text": message.data}
        if message.type is WSMsgType.BINARY:
            return {"type": "websocket.receive", "bytes": message.data}
        return {"type": "websocket.disconnect", "code": socket.close_code or 1006}

    async def send(message: dict[str, Any]) -> None:
        match message["type"]:
            case "websocket.accept":
                await socket.prepare(request)
            case "websocket.send" if message.get("text") is not None:
                await socket.send_str(message["text"])
            case "websocket.send":
                await socket.send_bytes(message["bytes"])
            case "websocket.close":
                await socket.close(code=message.get("code", 1000))

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": request.path,
        "raw_path": request.path.encode(),
        "root_path": "",
        "query_string": request.query_string.encode(),
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "subprotocols": [],
        "state": {},
        "extensions": {},
    }
    await application(scope, receive, send)
    return socket
