"""A WebSocket bot that says back what it hears, in Twilio's form: `python -m tests.bench.echo_bot` prints its port."""

import asyncio
import json

import uvloop
from aiohttp import web


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send every `media` of a connection back."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    async for message in socket:
        document = json.loads(message.data)
        if document["event"] == "media":
            payload = document["media"]["payload"]
            reply = {"event": "media", "streamSid": document["streamSid"], "media": {"payload": payload}}
            await socket.send_str(json.dumps(reply))
    return socket


async def serve() -> None:
    """Serve until the process is ended."""
    application = web.Application()
    application.router.add_get("/", echo)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"port {runner.addresses[0][1]}", flush=True)  # noqa: T201  (the benchmark reads it)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve())
