"""An agent that stores calls and says so, until it is killed: `python writing_agent.py URL FOLDER`."""

import asyncio
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from sip_agent.record import CallRecord
from sip_agent.status import Outcome
from sip_agent.store import CallStore

CALLS = 200


async def serve_call(store: CallStore, number: int) -> None:
    """Store a call as the agent does; two of three calls end at once."""
    record = CallRecord(
        call_uuid=str(uuid.uuid4()), invite_received_at=datetime.now(UTC), headers={"X-Number": [str(number)]}
    )
    await store.begin(record)
    print("begun", record.call_uuid, flush=True)  # noqa: T201
    if number % 3:
        record.outcome = Outcome.ANSWERED
        record.ended_at = datetime.now(UTC)
        await store.finish(record)
        print("finished", record.call_uuid, flush=True)  # noqa: T201


async def main() -> None:
    """Store all calls, a few at a time, and wait to be killed."""
    store = CallStore.open(sys.argv[1], base_dir=Path(sys.argv[2]))
    slots = asyncio.Semaphore(8)

    async def serve_one(number: int) -> None:
        async with slots:
            await serve_call(store, number)

    await asyncio.gather(*(serve_one(number) for number in range(CALLS)))
    await asyncio.Event().wait()


asyncio.run(main())
