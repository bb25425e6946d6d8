"""The spine: what happens to an INVITE, in this order, until its record is stored.

    INVITE -> admission -> auth -> headers -> route -> record begun -> handler -> record finished

Whoever decides to refuse raises `CallRejected`; the refusal is sent and recorded here.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars

from sip_agent.admission import AdmissionPolicy, AnnouncedRuns, FailureGuard, RefusalLedger, RefusalSummary
from sip_agent.analyst import TurnAnalyst
from sip_agent.audio import CallAudio
from sip_agent.auth import Authenticated, BasicAuthenticator, DigestAuthenticator, RefusalReason
from sip_agent.call import Call, Dialog, Offer
from sip_agent.conversation import complete, hold_conversation
from sip_agent.errors import CallRejected, MessageError, SipAgentError, StackRefusal
from sip_agent.events import CallEvent
from sip_agent.faults import brought_about, refuse_without_sip, spoil
from sip_agent.headers import CorrelationIds, CorrelationProfile, SecretHeaders, correlate
from sip_agent.hearing import Hearing
from sip_agent.invite import ROOMS, WEBSOCKET, Invite, bracketed
from sip_agent.outgoing import Answered, Outgoing, PlacedDialog
from sip_agent.record import CallRecord
from sip_agent.recording import Recording, RecordingWriter
from sip_agent.routes import Route, Routes
from sip_agent.speaking import SpeechServices
from sip_agent.status import EndedBy, Outcome, SipStatus
from sip_agent.store import CallStore, StoreError

log = structlog.get_logger()

CHALLENGE_EXPIRES = timedelta(seconds=32)
"""A challenge unanswered for 64*T1 (RFC 3261 §17.1.1.2) will not be answered: the INVITE was refused."""

MEASURING_PATIENCE_S = 2.0
"""How long the record of a call that is over waits for its turns and metrics before it is stored without."""

CHALLENGES_MAX = 10_000
"""Challenged INVITEs that are remembered; beyond it the oldest counts as refused."""


class Challenged(CallRejected):
    """The caller is asked to authenticate, or, if its credentials were wrong, to do so again."""

    def __init__(self, headers: tuple[tuple[str, str], ...], reason: str, *, failed: bool = False) -> None:
        super().__init__(SipStatus.UNAUTHORIZED, f"authentication: {reason}", headers=headers)
        self.failed = failed


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowParts:
    """What the flow works with; the agent builds it from the settings."""

    admission: AdmissionPolicy
    authenticator: DigestAuthenticator | None
    websocket_authenticator: BasicAuthenticator | None = None
    failures: FailureGuard
    refusals: RefusalLedger
    profile: CorrelationProfile
    require_run_id: bool
    secret_headers: SecretHeaders
    routes: Routes
    store: CallStore
    recordings: RecordingWriter | None
    analyst: TurnAnalyst
    account_for: Callable[[str, str], str | None]
    sample_rate_hz: int
    max_duration_s: float
    hearing: Hearing | None = None
    speech: SpeechServices | None = None
    announced: AnnouncedRuns | None = None
    """The only runs that are admitted, unless it is None."""
    evidence: Callable[[CallRecord], dict[str, Any] | None] = lambda _record: None
    """Says what of a call that is over is to be sent to a platform; its record's `evidence`."""
    messages: Callable[[str], list[dict[str, Any]]] = lambda _call_id: []
    """Gives the SIP messages of the call with a Call-ID, once; its record's `messages`."""
    on_finished: Callable[[CallRecord], None] = lambda _record: None
    """Told of each INVITE that is over, also of those that only a summary records."""


class CallFlow:
    """Serves INVITEs; one coroutine each."""

    def __init__(self, parts: FlowParts) -> None:
        self.active: dict[str, Call] = {}
        self.draining = False
        self._parts = parts
        self._admitted: set[str] = set()
        self._challenged: dict[tuple[str, str], CallRecord] = {}

    async def serve_call(self, offer: Offer) -> None:
        """Serve one INVITE, from its arrival to its record."""
        record = _new_record(offer)
        bind_contextvars(call_uuid=record.call_uuid)
        try:
            invite = self._read(offer)
            record = self._identify(invite, record)
            self._admit_source(invite)
            record.auth_user = self._authenticate(invite)
            ids = self._require_ids(record)
            route = self._parts.routes.find(invite)
            self._admit_call(invite)
            self._admitted.add(record.call_uuid)
            record.handler = route.handler
            refuse_without_sip(route.faults, invite.transport)
            record.faults = list(route.faults.named)
            record.outcome = record.sip_status = record.ended_by = record.end_reason = record.ended_at = None
            await self._begin(record)
            self._refuse_if_draining()
            dialog = spoil(await offer.accept(route.faults.line), route.faults)
            await self._converse(dialog, invite, ids, route, record)
        except Challenged as challenge:
            await self._challenge(offer, invite, record, challenge)
        except CallRejected as rejection:
            await self._refuse(offer, record, rejection)
        except Exception as error:
            log.exception("call.flow_failed")
            await self._fail(offer, record, error)
        finally:
            self._admitted.discard(record.call_uuid)

    async def place_call(self, outgoing: Outgoing, dial: Callable[[], Awaitable[PlacedDialog]]) -> CallRecord:
        """Place one call and see it through to its record; its handler is found as if it had come in.

        What a route does to spoil calls is for those that come in.
        """
        invite = outgoing.invite(datetime.now(UTC))
        record = outgoing.record(invite)
        bind_contextvars(call_uuid=record.call_uuid, run_id=record.run_id)
        try:
            route = self._parts.routes.find(invite)
            self._admit_call(invite)
            self._admitted.add(record.call_uuid)
            record.handler = route.handler
            await self._begin(record)
            self._refuse_if_draining()
            dialog = await dial()
            record.call_id = dialog.call_id
            route = replace(route, build=partial(Answered, route.build, outgoing.ring_timeout_s))
            await self._converse(dialog, invite, outgoing.ids, route, record)
        except CallRejected as rejection:
            _refuse(record, rejection.status, rejection.reason)
            await self._finish(record)
        except Exception as error:
            log.exception("call.flow_failed")
            await self._record_failure(record, error)
        finally:
            self._admitted.discard(record.call_uuid)
        return record

    async def expire(self, now: datetime) -> None:
        """Record what is over without anybody's doing: unanswered challenges, and the hour's refusals."""
        expired = [
            key
            for key, record in self._challenged.items()
            if record.invite_received_at is not None and now - record.invite_received_at > CHALLENGE_EXPIRES
        ]
        for key in expired:
            if (record := self._challenged.pop(key, None)) is not None:  # it may have been answered meanwhile
                await self._record_unanswered(record)
        await self._record_summaries(self._parts.refusals.summaries_due(now))

    async def close(self) -> None:
        """Record what is still open when the agent stops."""
        while self._challenged:
            await self._record_unanswered(self._challenged.pop(next(iter(self._challenged))))
        await self._record_summaries(self._parts.refusals.flush())

    # The stations, in order

    def _read(self, offer: Offer) -> Invite:
        try:
            invite = Invite.parse(
                offer.message,
                transport=offer.transport,
                source_host=offer.source_host,
                source_port=offer.source_port,
                received_at=offer.received_at,
            )
        except MessageError as error:
            raise CallRejected(SipStatus.BAD_REQUEST, str(error)) from error
        if invite.transport == WEBSOCKET or invite.transport in ROOMS:
            return invite  # a registrar calls by SIP, whatever else has its address
        return replace(invite, account=self._parts.account_for(invite.source_host, invite.user))

    def _identify(self, invite: Invite, record: CallRecord) -> CallRecord:
        """Describe the call in its record; one that was challenged before goes on with the record it has."""
        challenged = self._challenged.pop((invite.call_id, invite.from_tag), None)
        if challenged is not None:
            record = challenged
            bind_contextvars(call_uuid=record.call_uuid)
        record.call_id = invite.call_id
        record.from_uri = invite.from_uri
        record.to_uri = invite.to_uri
        record.request_uri = invite.request_uri
        record.user_agent = invite.user_agent
        record.account = invite.account
        record.headers = self._parts.secret_headers.redact(invite.headers.extensions())
        ids = correlate(invite.headers, self._parts.profile)
        record.run_id, record.scenario_id, record.result_id = ids.run_id, ids.scenario_id, ids.result_id
        bind_contextvars(run_id=ids.run_id)
        return record

    def _admit_source(self, invite: Invite) -> None:
        """Refuse whoever may not call at all; a registrar that we have registered with may, and who opened a room."""
        if invite.account is None and invite.transport not in ROOMS:
            self._parts.admission.check_source(invite.source_host)

    def _admit_call(self, invite: Invite) -> None:
        """Refuse a call that is one too many; only callers who may call count, so that others cannot lock them out."""
        self._refuse_if_draining()
        self._parts.admission.check_capacity(len(self._admitted))
        if invite.account is None:
            self._parts.admission.check_rate(time.monotonic())

    def _refuse_if_draining(self) -> None:
        """Refuse every call once the agent stops; asked again after each wait: a stop ends only dialogs that exist."""
        if self.draining:
            raise CallRejected(
                SipStatus.SERVICE_UNAVAILABLE, "the agent is shutting down", headers=(("Retry-After", "30"),)
            )

    def _authenticate(self, invite: Invite) -> str | None:
        """Return the user that the caller proved to be; None where nobody is asked.

        A registrar that passes on calls for our account cannot know our users: it is known by its address.
        """
        by_websocket, failures = invite.transport == WEBSOCKET, self._parts.failures
        authenticator = self._parts.websocket_authenticator if by_websocket else self._parts.authenticator
        if authenticator is None or invite.account is not None or invite.transport in ROOMS:
            return None
        now = time.monotonic()
        if failures.is_flooding(invite.source_host, now):
            raise Challenged(authenticator.challenge(now), "too many failures of this source", failed=True)
        result = authenticator.verify(
            invite.headers.all("Authorization"),
            method="INVITE",
            request_uri=invite.request_uri,
            now=now,
            body=invite.body,
        )
        if isinstance(result, Authenticated):
            return result.user
        failed = result.reason is not RefusalReason.NO_CREDENTIALS and not result.stale
        if failed:
            failures.failed(invite.source_host, now)
        raise Challenged(authenticator.challenge(now, stale=result.stale), result.reason, failed=failed)

    def _require_ids(self, record: CallRecord) -> CorrelationIds:
        if self._parts.require_run_id and not record.run_id:
            raise CallRejected(
                SipStatus.BAD_REQUEST,
                f"the INVITE has no {self._parts.profile.run_id} header (correlation.required asks for it)",
            )
        if self._parts.announced is not None:
            self._parts.announced.check(record.run_id, time.monotonic())
        log.info(
            "call.received",
            from_uri=record.from_uri,
            request_uri=record.request_uri,
            source_address=record.source_address,
            transport=record.transport,
        )
        return CorrelationIds(run_id=record.run_id, scenario_id=record.scenario_id, result_id=record.result_id)

    async def _begin(self, record: CallRecord) -> None:
        try:
            await self._parts.store.begin(record)
        except StoreError as error:
            log.warning("call.record_delayed", error=str(error), kept=error.kept)

    async def _converse(
        self, dialog: Dialog, invite: Invite, ids: CorrelationIds, route: Route, record: CallRecord
    ) -> None:
        call = Call(
            invite=invite,
            dialog=dialog,
            record=record,
            ids=ids,
            sample_rate_hz=self._parts.sample_rate_hz,
            options=route.options,
            hearing=self._parts.hearing,
            speech=self._parts.speech,
        )
        recording: Recording | None = None

        def on_audio(audio: CallAudio) -> None:
            nonlocal recording
            if self._parts.recordings is not None:
                recording = self._parts.recordings.open(record.call_uuid, audio)

        def on_event(event: CallEvent) -> None:
            unanswered = not call.answered
            call.note(event)
            if unanswered and call.answered:
                # Again, so that a call that is cut off by the agent's death has its talk time.
                writes.append(asyncio.create_task(self._begin(record)))

        writes: list[asyncio.Task[None]] = []
        self.active[record.call_uuid] = call
        try:
            dialog.listen(on_event, on_audio)
            verdict = await hold_conversation(route.build, call, dialog, max_duration_s=self._parts.max_duration_s)
            if recording is not None:
                record.recording = await recording.close()
        except BaseException:
            try:
                await dialog.terminate(EndedBy.SYSTEM, SipStatus.SERVER_INTERNAL_ERROR, (), "the agent failed")
            except SipAgentError as error:
                log.warning("call.terminate_failed", error=str(error))
            raise
        finally:
            del self.active[record.call_uuid]
        await asyncio.gather(*writes)
        complete(record, call, dialog.audio, verdict)
        record.faults = brought_about(record.faults, record.codec)
        # The call is over: whoever calls next does not wait until this one is measured.
        self._admitted.discard(record.call_uuid)
        await self._measure(record)
        await self._finish(record)

    async def _measure(self, record: CallRecord) -> None:
        """Have turns and metrics computed; a record that has to wait for them is stored as it is meanwhile."""
        measuring = asyncio.create_task(self._parts.analyst.analyse(record))
        await asyncio.wait({measuring}, timeout=MEASURING_PATIENCE_S)
        if not measuring.done():
            await self._store(record)
        await measuring

    # The ends

    async def _refuse(self, offer: Offer, record: CallRecord, rejection: CallRejected) -> None:
        """Send a refusal, and record it."""
        if not isinstance(rejection, StackRefusal):
            await self._reply(offer, rejection, stateful=True)
        await self._record_refusal(record, offer.source_host, rejection)

    async def _record_refusal(self, record: CallRecord, source: str, rejection: CallRejected) -> None:
        """Record a refusal: singly, or, beyond the source's share of this hour, in its summary."""
        treatment = self._parts.refusals.note(source, datetime.now(UTC))
        _refuse(record, rejection.status, rejection.reason)
        record = replace(record)  # who was only challenged may come back meanwhile, and goes on with the original
        begun = record.call_uuid in self._admitted
        if treatment.record or begun:
            await self._finish(record)
            return
        self._parts.on_finished(record)
        if treatment.log:
            log.warning(
                "call.refusals_summarised",
                source=source,
                hint="further refusals of this source are counted in one record for the hour",
            )

    async def _fail(self, offer: Offer, record: CallRecord, error: Exception) -> None:
        await self._reply(offer, CallRejected(SipStatus.SERVER_INTERNAL_ERROR), stateful=True)
        await self._record_failure(record, error)

    async def _record_failure(self, record: CallRecord, error: Exception) -> None:
        record.outcome = Outcome.FAILED
        record.sip_status = record.sip_status or SipStatus.SERVER_INTERNAL_ERROR
        record.ended_by = EndedBy.SYSTEM
        record.end_reason = "the agent failed"
        record.error = f"{type(error).__name__}: {error}"
        record.ended_at = datetime.now(UTC)
        await self._finish(record)

    async def _reply(self, offer: Offer, rejection: CallRejected, *, stateful: bool) -> None:
        try:
            await offer.reject(rejection.status, rejection.headers, stateful=stateful)
        except SipAgentError as error:
            log.warning("call.refusal_not_sent", status=rejection.status, error=str(error))

    async def _challenge(self, offer: Offer, invite: Invite, record: CallRecord, challenge: Challenged) -> None:
        """Send a challenge and keep the record for its answer; with wrong credentials it is a refusal too.

        Whoever tries several passwords in one call has one record.
        """
        key = invite.call_id, invite.from_tag
        self._challenged[key] = record
        await self._reply(offer, challenge, stateful=False)
        if challenge.failed and record.outcome is None and key in self._challenged:
            await self._record_refusal(record, offer.source_host, challenge)
        if len(self._challenged) > CHALLENGES_MAX:
            await self._record_unanswered(self._challenged.pop(next(iter(self._challenged))))

    async def _record_unanswered(self, record: CallRecord) -> None:
        if record.outcome is None:
            unanswered = CallRejected(SipStatus.UNAUTHORIZED, "the challenge was not answered")
            await self._record_refusal(record, _host(record.source_address), unanswered)

    async def _record_summaries(self, summaries: list[RefusalSummary]) -> None:
        for summary in summaries:
            await self._keep(_summary_record(summary))

    async def _finish(self, record: CallRecord) -> None:
        record.messages += self._parts.messages(record.call_id)
        await self._keep(record)
        self._parts.on_finished(record)

    async def _keep(self, record: CallRecord) -> None:
        await self._store(record)
        log.info("call.ended", **{key: value for key, value in record.to_dict().items() if key != "run_id"})

    async def _store(self, record: CallRecord) -> None:
        if record.evidence is None:
            record.evidence = self._parts.evidence(record)
        try:
            await self._parts.store.finish(record)
        except StoreError as error:
            log.warning("call.record_delayed", error=str(error), kept=error.kept)


def _new_record(offer: Offer) -> CallRecord:
    return CallRecord(
        call_uuid=str(uuid.uuid4()),
        transport=offer.transport,
        source_address=f"{bracketed(offer.source_host)}:{offer.source_port}",
        invite_received_at=offer.received_at,
    )


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _refuse(record: CallRecord, status: int, reason: str) -> None:
    record.outcome = Outcome.REJECTED
    record.sip_status = int(status)
    record.ended_by = EndedBy.AGENT
    record.end_reason = reason
    record.ended_at = datetime.now(UTC)


def _summary_record(summary: RefusalSummary) -> CallRecord:
    return CallRecord(
        call_uuid=str(uuid.uuid4()),
        source_address=summary.source,
        outcome=Outcome.REJECTED,
        ended_by=EndedBy.AGENT,
        end_reason=f"{summary.count} further INVITEs of this source were refused",
        invite_received_at=summary.first_at,
        ended_at=summary.last_at,
    )
