"""The process that measures the turns of calls that are over, one after the other.

A process, and not a thread: on a machine that is short of processors a thread in the middle of a long
computation keeps the interpreter from the pump for 100 ms and more, and a thread of low priority for even longer.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import structlog

from sip_agent.record import CallRecord, milliseconds_between

log = structlog.get_logger()

WAITING_MAX = 1000
"""Calls that may wait for their metrics; beyond it, calls end without."""

ATTEMPTS = 2
"""How often a call is handed to a process: a second time when the first one died."""

PATIENCE_S = 60.0
"""Nothing that can be recorded takes longer to measure, unless the disk hangs."""

STOP_PATIENCE_S = 2.0
"""What the call in hand gets to be measured when the agent stops."""

REPLY_BYTES_MAX = 16 * 1024 * 1024
"""A thousand times what the turns of a long call need."""

NOT_RECORDED = "there is no recording to measure: media.record is off, or no sound flowed"
NOT_YET = "not measured yet, or the agent stopped before it was"
STOPPED = "the agent stopped before it was measured"
TOO_MANY = "too many calls ended at once to be measured"
TOO_SLOW = f"measuring took longer than {PATIENCE_S:g} s"
DIED = "the process that measures ended (out of memory?)"


class TurnAnalyst:
    """Measures calls that are over; its process starts with the first one."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._in_hand = asyncio.Lock()
        self._waiting = 0
        self._stopped = False

    async def analyse(self, record: CallRecord) -> None:
        """Fill in the turns and metrics of an answered call; where that cannot be, `metrics` says why in `error`.

        Nothing that goes wrong is raised: it says nothing about the call.
        """
        recording = record.recording
        if record.answered_at is None:
            return
        if recording is None:
            record.metrics = {"error": NOT_RECORDED}
        elif recording["state"] != "ok":
            record.metrics = {"error": f"the recording failed: {recording['error']}"}
        elif self._waiting >= WAITING_MAX:
            record.metrics = {"error": TOO_MANY}
        else:
            record.metrics = {"error": NOT_YET}
            await self._measure(record, recording)

    async def stop(self) -> None:
        """Finish the call in hand, if that does not take long, measure no other, and end the process."""
        self._stopped = True
        try:
            await asyncio.wait_for(self._in_hand.acquire(), STOP_PATIENCE_S)
        except TimeoutError:
            self._kill()
            await self._in_hand.acquire()
        await self._end_process()
        self._in_hand.release()

    async def _measure(self, record: CallRecord, recording: Mapping[str, Any]) -> None:
        reply: dict[str, Any]
        self._waiting += 1
        try:
            async with self._in_hand:
                reply = {"error": STOPPED}
                if not self._stopped:
                    reply = await self._ask(_request(record, recording))
        except Exception as error:  # noqa: BLE001  (whatever it is, the record says it, and the call went as it went)
            reply = {"error": f"{type(error).__name__}: {error}"}
        finally:
            self._waiting -= 1
        if "error" in reply:
            record.metrics = {"error": reply["error"]}
            log.warning("call.not_measured", call_uuid=record.call_uuid, error=reply["error"])
        else:
            record.turns, record.metrics = reply["turns"], reply["metrics"]

    async def _ask(self, request: bytes) -> dict[str, Any]:
        """Have one request answered; if the process dies, a new one is asked."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._exchange(request)
            except TimeoutError:
                return {"error": TOO_SLOW}
            except (EOFError, OSError, RuntimeError, ValueError) as error:  # RuntimeError: uvloop's, for a closed pipe
                if attempt == ATTEMPTS or self._stopped:
                    return {"error": f"{DIED}: {error}" if str(error) else DIED}

    async def _exchange(self, request: bytes) -> dict[str, Any]:
        """Have one request answered by the process; one that does not answer is ended."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await _reply(await self._open_process(), request)
        except BaseException:
            # Also when nobody waits any more: its answer would be taken for that of the next call.
            self._kill()
            await self._end_process()
            raise

    async def _open_process(self) -> asyncio.subprocess.Process:
        """Return the process; one that has ended is replaced."""
        if self._process is not None and self._process.returncode is not None:
            await self._end_process()
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "sip_agent.turns"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=REPLY_BYTES_MAX,
                start_new_session=True,
            )
        return self._process

    def _kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            requests, _ = _pipes(process)
            requests.close()  # on which it ends
            await process.communicate()


async def _reply(process: asyncio.subprocess.Process, request: bytes) -> dict[str, Any]:
    """Return what a process says to a request; raises EOFError if it ends instead."""
    requests, replies = _pipes(process)
    requests.write(request + b"\n")
    await requests.drain()
    line = await replies.readline()
    if not line:
        raise EOFError
    reply: dict[str, Any] = json.loads(line)
    return reply


def _request(record: CallRecord, recording: Mapping[str, Any]) -> bytes:
    """Return the line that asks for the turns of a call; see `turns.measure`."""
    request = {
        "path": recording["path"],
        "answer_ms": milliseconds_between(datetime.fromisoformat(recording["started_at"]), record.answered_at),
        "stalls": record.stalls,
        "transcript": [entry for entry in record.transcript if "text" in entry],
    }
    return json.dumps(request).encode()


def _pipes(process: asyncio.subprocess.Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    requests, replies = process.stdin, process.stdout
    assert requests is not None  # noqa: S101  (both are pipes)
    assert replies is not None  # noqa: S101
    return requests, replies
