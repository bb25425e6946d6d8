"""The worker that brings the evidence of calls to Cekura: soon, again if need be, and in time or not at all."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Self

import structlog

from sip_agent.platforms.cekura.client import CekuraClient
from sip_agent.platforms.cekura.evidence import DEADLINES, Endpoint, Evidence
from sip_agent.platforms.errors import PlatformError, Refused, Unavailable
from sip_agent.status import EvidenceState
from sip_agent.store import Letter, Outbox, StoreError

log = structlog.get_logger()

AT_ONCE = 8
"""Letters under way together: Cekura places five calls a second."""

LEASES = {Endpoint.TRANSCRIPT: timedelta(seconds=60), Endpoint.OBSERVE: timedelta(minutes=6)}
"""How long a letter stays with whoever claimed it: longer than the client waits for an answer."""

PAUSES_S = (2.0, 30.0)
"""The first pause after a failure, and the longest that doubling makes of it."""

LOOK_S = 15.0
"""How often the outbox is looked at without a reason: agents that share a server may have died."""

SHORTEST_PAUSE_S = 0.05
"""For what is due, and claimed by another agent at this moment."""

STORE_PAUSE_S = 1.0

STOP_GRACE_S = 5.0
"""What the last letters get when the agent stops; the others are sent after its next start."""


class Courier:
    """Brings the evidence of one call to Cekura; `async with` opens and closes the connections."""

    def __init__(self, client: CekuraClient, evidence: Evidence, *, transcript_url: str) -> None:
        self._client = client
        self._evidence = evidence
        self._transcript_url = transcript_url

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.__aexit__(*error)

    async def send(self, endpoint: str, document: Mapping[str, Any]) -> None:
        """Send the record of a call to an endpoint; raises PlatformError."""
        if endpoint == Endpoint.OBSERVE:
            fields, recording = self._evidence.observation(document)
            there = recording is not None and await asyncio.to_thread(recording.is_file)
            await self._client.observe(fields, recording if there else None)
        else:
            await self._client.send_transcript(self._evidence.transcript(document), url=self._transcript_url)


class EvidenceSender:
    """Sends what is due in the outbox: one call per request, so that a bad one does not take others with it.

    A failure is tried again with growing pauses, or after Retry-After, until the letter's deadline. A refusal is
    final. A wrong API key ends all sending until the agent is started again.
    """

    def __init__(
        self,
        outbox: Outbox,
        courier: Courier,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._outbox = outbox
        self._courier = courier
        self._now = now
        self._awake = asyncio.Event()
        self._under_way: dict[asyncio.Task[None], Letter] = {}
        self._halted: str | None = None
        self._stopping = False
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what was left, and wait for calls to end."""
        await self._courier.__aenter__()
        self._worker = asyncio.create_task(self._work(), name="evidence")

    def wake(self) -> None:
        """Look at the outbox now: a call is over."""
        self._awake.set()

    async def stop(self) -> None:
        """Send what is due, for at most `STOP_GRACE_S`; what is left stays in the outbox."""
        self._stopping = True
        self.wake()
        if self._worker is not None:
            await asyncio.wait({self._worker}, timeout=STOP_GRACE_S)
            left = dict(self._under_way)
            for task in (self._worker, *left):
                task.cancel()
            await asyncio.gather(self._worker, *left, return_exceptions=True)
            for letter in left.values():
                # What cannot be written here is claimed no longer once its lease is over.
                with suppress(StoreError):
                    await asyncio.to_thread(self._postpone, letter)
        await self._courier.__aexit__()

    async def _work(self) -> None:
        await self._insist(self._outbox.release, self._now())
        while True:
            self._awake.clear()
            if free := AT_ONCE - len(self._under_way):
                letters: list[Letter] = await self._insist(self._outbox.claim, self._now(), free, LEASES)
                for letter in letters:
                    task = asyncio.create_task(self._deliver(letter), name=f"evidence of {letter.call_uuid}")
                    self._under_way[task] = letter
                    task.add_done_callback(self._arrived)
            if self._stopping and not self._under_way:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(await self._idle_s()):
                    await self._awake.wait()

    async def _idle_s(self) -> float:
        """Return how long nothing is due, unless somebody wakes us."""
        if len(self._under_way) >= AT_ONCE:
            return LOOK_S
        due_at: datetime | None = await self._insist(self._outbox.next_due)
        left_s = LOOK_S if due_at is None else (due_at - self._now()).total_seconds()
        return min(max(SHORTEST_PAUSE_S, left_s), LOOK_S)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self.wake()

    async def _deliver(self, letter: Letter) -> None:
        own_log = log.bind(call_uuid=letter.call_uuid, run_id=letter.document["run_id"], endpoint=letter.endpoint)
        if letter.deadline_at is not None and self._now() >= letter.deadline_at:
            await self._give_up(letter, letter.reason or "the agent was not there to send it in time", own_log)
            return
        if self._halted is not None:
            await self._settle(letter, EvidenceState.WAITING, due_at=letter.deadline_at, reason=self._halted)
            return
        try:
            await self._courier.send(letter.endpoint, letter.document)
        except Unavailable as error:
            await self._try_again(letter, error, own_log)
        except Refused as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                await self._halt(letter, error)
            else:
                own_log.error("evidence.refused", status=error.status, error=str(error))
                await self._settle(letter, EvidenceState.REFUSED, reason=str(error))
        except Exception as error:  # noqa: BLE001  (whatever it is, the next letter is sent)
            own_log.exception("evidence.failed")
            await self._settle(letter, EvidenceState.REFUSED, reason=f"{type(error).__name__}: {error}")
        else:
            own_log.info("evidence.sent", attempts=letter.attempts)
            await self._settle(letter, EvidenceState.SENT)

    async def _try_again(self, letter: Letter, error: Unavailable, own_log: Any) -> None:
        first_s, longest_s = PAUSES_S
        pause_s = max(min(first_s * 2 ** min(letter.attempts - 1, 10), longest_s), error.retry_after_s or 0.0)
        due_at = self._now() + timedelta(seconds=pause_s)
        if letter.deadline_at is not None and due_at >= letter.deadline_at:
            await self._give_up(letter, str(error), own_log)
            return
        own_log.warning("evidence.delayed", error=str(error), attempts=letter.attempts, retry_s=round(pause_s, 1))
        await self._settle(letter, EvidenceState.WAITING, due_at=due_at, reason=str(error))

    async def _give_up(self, letter: Letter, reason: str, own_log: Any) -> None:
        hint = f"sip-agent cekura push {letter.call_uuid} sends it, if Cekura still takes it"
        own_log.error("evidence.given_up", error=reason, attempts=letter.attempts, hint=hint)
        await self._settle(letter, EvidenceState.GIVEN_UP, reason=reason)

    async def _halt(self, letter: Letter, error: Refused) -> None:
        """Send nothing any more: the next letter would be refused as this one was."""
        if self._halted is None:
            self._halted = str(error)
            log.error("evidence.halted", error=str(error), hint="no evidence is sent until the agent is started again")
        await self._settle(letter, EvidenceState.WAITING, due_at=letter.deadline_at, reason=self._halted)

    async def _settle(
        self, letter: Letter, state: EvidenceState, *, due_at: datetime | None = None, reason: str | None = None
    ) -> None:
        await self._insist(self._outbox.settle, letter.call_uuid, state, self._now(), due_at=due_at, reason=reason)

    def _postpone(self, letter: Letter) -> None:
        now = self._now()
        self._outbox.settle(letter.call_uuid, EvidenceState.WAITING, now, due_at=now, reason=letter.reason)

    async def _insist(self, operation: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Carry out an operation on the outbox, again until the database works."""
        while True:
            try:
                return await asyncio.to_thread(operation, *arguments, **named)
            except StoreError as error:
                log.error("evidence.store_failed", error=str(error), retry_s=STORE_PAUSE_S)  # noqa: TRY400  (no bug)
                await asyncio.sleep(STORE_PAUSE_S)


async def push(document: Mapping[str, Any], outbox: Outbox, courier: Courier, evidence: Evidence) -> None:
    """Send the evidence of one call now, whatever became of it before; the outbox keeps what comes of it.

    Raises PlatformError if it cannot be sent, or is refused.
    """
    endpoint = evidence.endpoint_of(document)
    now = datetime.now(UTC)
    await asyncio.to_thread(outbox.take, document["call_uuid"], endpoint, now, LEASES[endpoint])

    async def settle(state: EvidenceState, **named: Any) -> None:
        await asyncio.to_thread(outbox.settle, document["call_uuid"], state, datetime.now(UTC), **named)

    try:
        await courier.send(endpoint, document)
    except PlatformError as error:
        final = isinstance(error, Refused) and error.status != HTTPStatus.UNAUTHORIZED
        in_time = now < datetime.fromisoformat(document["ended_at"]) + DEADLINES[endpoint]
        if in_time and not final:
            await settle(EvidenceState.WAITING, due_at=datetime.now(UTC), reason=str(error))
        else:
            state = EvidenceState.REFUSED if final else EvidenceState.GIVEN_UP
            await settle(state, reason=str(error))
        raise
    await settle(EvidenceState.SENT)
