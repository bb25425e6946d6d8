"""Calls a URI, listens to the call only once it is answered, and prints what it was told; a process of its own."""

import asyncio
import json
import sys
from pathlib import Path

from sip_agent.audio import CallAudio
from sip_agent.config import load_settings
from sip_agent.events import CallEvent
from sip_agent.status import EndedBy, SipStatus
from sip_agent.ua.endpoint import Binding, Caller, Endpoint


async def main(settings: Path, uri: str) -> None:
    """Call `uri`, and listen late."""
    endpoint = Endpoint(load_settings(settings), [Binding(transport="UDP", host="127.0.0.1", port=0)], max_calls=1)
    await endpoint.start()
    try:
        dialog = await endpoint.place_call(uri, Caller())
        await dialog.respond(SipStatus.OK)
        events: list[CallEvent] = []
        audios: list[CallAudio] = []
        dialog.listen(events.append, audios.append)
        names = [type(event).__name__ for event in events]
        await dialog.terminate(EndedBy.AGENT)
        sys.stdout.write(json.dumps({"events": names, "audio": [audio is dialog.audio for audio in audios]}))
    finally:
        await endpoint.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
