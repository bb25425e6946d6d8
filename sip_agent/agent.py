"""The composition root: builds the parts from the settings, starts them in order, stops them in reverse."""

import asyncio
import gc
import secrets
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self, TypeVar

import structlog

from sip_agent.admission import AddressAllowList, AdmissionPolicy, AnnouncedRuns, FailureGuard, RefusalLedger
from sip_agent.analyst import TurnAnalyst
from sip_agent.api import ApiParts, ApiServer, CallMetrics
from sip_agent.auth import BasicAuthenticator, DigestAlgorithm, DigestAuthenticator
from sip_agent.call import Offer
from sip_agent.call_flow import CallFlow, FlowParts
from sip_agent.chirp import ChirpEndpoint
from sip_agent.config import Settings, SettingSource
from sip_agent.errors import SettingsError
from sip_agent.faults import refuse_native_faults
from sip_agent.headers import PROFILES, CorrelationProfile, SecretHeaders
from sip_agent.hearing import Hearing
from sip_agent.outgoing import Outgoing
from sip_agent.platforms.agora.channel import AgoraService, load_sdk
from sip_agent.platforms.agora.session import AgoraSessions
from sip_agent.platforms.cekura.client import CekuraClient
from sip_agent.platforms.cekura.evidence import Evidence
from sip_agent.platforms.cekura.outbox import Courier, EvidenceSender
from sip_agent.platforms.cekura.webhook import CekuraWebhook
from sip_agent.record import CallRecord
from sip_agent.recording import RecordingWriter, find_cut_off, mend
from sip_agent.rooms import RoomEndpoint
from sip_agent.routes import Routes
from sip_agent.speech import Speech
from sip_agent.status import Outcome
from sip_agent.store import CallQuery, CallStore
from sip_agent.ua import engine
from sip_agent.ua.endpoint import Binding, Endpoint

log = structlog.get_logger()

T = TypeVar("T")

HOUSEKEEPING_S = 5.0
"""How often expired challenges and refusal summaries are looked for."""

MENDED_MAX = 1000
"""Interrupted calls, the newest, whose recordings are looked after at the start."""

STOP_GRACE_S = 10.0
"""What the handlers get to finish when the agent stops."""

UNMEASURED_GRACE_S = 2.0
"""What is left after that to store the records of calls that nobody measures any more."""

SWITCH_INTERVAL_S = 0.001
"""How long a thread may keep the interpreter lock while the pump waits for it."""

FREE_FAILURES = 100
FAILURES_PER_S = 10.0
"""A source may fail to authenticate so often; the excess is challenged without checking its answers."""


class Agent:
    """The agent: `async with Agent(settings) as agent: await agent.stopped.wait()`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.flow: CallFlow
        self.endpoint: Endpoint
        self.chirp: ChirpEndpoint
        self.rooms: RoomEndpoint
        self.store: CallStore
        self.api: ApiServer
        self._analyst = TurnAnalyst()
        self._resources = AsyncExitStack()
        self._calls: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._resources.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def _start(self) -> None:
        settings = self.settings
        info = engine.describe_engine(settings.media.engine)
        if info.name is engine.EngineName.LIGHT:
            refuse_native_faults(settings.routes)
        max_calls = min(settings.admission.max_calls, info.max_calls)
        routes = Routes(settings.routes, settings.base_dir)
        self.store = CallStore.open(settings.store.url, base_dir=settings.base_dir)
        self._resources.push_async_callback(self.store.close)
        find_recording = partial(find_cut_off, settings.media.recordings_dir)
        for record in await self.store.close_interrupted(datetime.now(UTC), find_recording):
            log.warning("call.interrupted", call_uuid=record["call_uuid"], run_id=record["run_id"])
        recordings = None
        if settings.media.record:
            recordings = RecordingWriter(settings.media.recordings_dir, settings.media.sample_rate_hz)
            self._resources.push_async_callback(recordings.stop)
        self.endpoint = Endpoint(settings, bindings_of(settings), accounts=settings.accounts, max_calls=max_calls)
        profile = _profile(settings)
        evidence = Evidence(
            settings.cekura,
            joined=settings.correlation.profile == "cekura",
            recordings_dir=settings.media.recordings_dir,
        )
        sender = await self._start_sender(evidence)
        announced = AnnouncedRuns()
        metrics = CallMetrics()

        def on_finished(record: CallRecord) -> None:
            metrics.observe(record)
            if sender is not None and record.evidence is not None:
                sender.wake()

        hearing = Hearing.from_settings(settings.hearing)
        self._resources.callback(hearing.close)
        speech = await asyncio.to_thread(Speech.from_settings, settings.speech, settings.base_dir)
        self._resources.push_async_callback(speech.close)
        self.flow = CallFlow(
            FlowParts(
                admission=AdmissionPolicy(
                    allow=AddressAllowList.parse(settings.admission.allow),
                    max_calls=max_calls,
                    calls_per_second=settings.admission.calls_per_second,
                ),
                authenticator=_authenticator(settings),
                websocket_authenticator=_websocket_authenticator(settings),
                failures=FailureGuard(FREE_FAILURES, FAILURES_PER_S),
                refusals=RefusalLedger(settings.admission.refusal_records_per_hour),
                profile=profile,
                require_run_id=settings.correlation.required,
                secret_headers=_secret_headers(settings, profile),
                routes=routes,
                store=self.store,
                recordings=recordings,
                analyst=self._analyst,
                account_for=self.endpoint.account_for,
                sample_rate_hz=settings.media.sample_rate_hz,
                max_duration_s=settings.admission.max_duration.total_seconds(),
                hearing=hearing,
                speech=speech,
                announced=announced if settings.cekura.announced_runs_only else None,
                evidence=evidence.decide,
                messages=self.endpoint.messages,
                on_finished=on_finished,
            )
        )
        self._resources.push_async_callback(self._close_flow)
        self.chirp = ChirpEndpoint(
            self._on_offer,
            sample_rate_hz=settings.media.sample_rate_hz,
            cushion_ms=settings.media.playout_cushion_ms,
            protected=bool(settings.auth.users or settings.admission.allow),
        )
        self.rooms = RoomEndpoint(
            self._on_offer,
            sample_rate_hz=settings.media.sample_rate_hz,
            cushion_ms=settings.media.playout_cushion_ms,
        )
        agora = await self._open_agora()
        # Before SIP: the API tells who asks meanwhile that the agent is starting, and outlives the last call.
        self.api = ApiServer(
            ApiParts(
                settings=settings.api,
                store=self.store,
                recordings_dir=settings.media.recordings_dir,
                flow=self.flow,
                endpoint=self.endpoint,
                chirp=self.chirp,
                engine=info,
                max_calls=max_calls,
                metrics=metrics,
                agora=agora,
                cekura=self._cekura_webhook(announced, routes),
            )
        )
        self._resources.push_async_callback(self.api.stop)
        await self._start_api()
        await self.endpoint.start(self._on_offer)
        self._resources.push_async_callback(self.endpoint.stop)
        self._resources.push_async_callback(self._hang_up)
        housekeeping = asyncio.create_task(self._keep_house(), name="housekeeping")
        self._resources.callback(housekeeping.cancel)
        mending = asyncio.create_task(self._mend_recordings(), name="mending")
        self._resources.callback(mending.cancel)
        # The pump waits for the interpreter lock no longer than this; the default of 5 ms is a quarter of a frame.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        # What start-up made stays: the collector need not look at it again, which would stop the pump for 50 ms.
        gc.collect()
        gc.freeze()
        log.info(
            "agent.started",
            engine=info.name,
            engine_version=info.version,
            max_calls=max_calls,
            listening=[f"{item.transport} {item.host}:{item.port}" for item in self.endpoint.bound],
            limits=list(info.limits),
        )
        if max_calls < settings.admission.max_calls:
            log.warning(
                "agent.fewer_calls",
                wanted=settings.admission.max_calls,
                max_calls=max_calls,
                hint="`make setup` builds the engine that carries them",
            )

    async def _start_sender(self, evidence: Evidence) -> EvidenceSender | None:
        """Start what sends evidence to Cekura; without an API key the records say that there is none."""
        cekura = self.settings.cekura
        api_key = cekura.api_key.get_secret_value()
        if not api_key or not (cekura.send_transcripts or cekura.observe):
            return None
        client = CekuraClient(cekura.base_url, api_key)
        sender = EvidenceSender(self.store.outbox, Courier(client, evidence, transcript_url=cekura.transcript_url))
        await sender.start()
        self._resources.push_async_callback(sender.stop)
        return sender

    def _cekura_webhook(self, announced: AnnouncedRuns, routes: Routes) -> CekuraWebhook | None:
        secret = self.settings.cekura.webhook_secret.get_secret_value()
        if not secret:
            return None
        return CekuraWebhook(secret, announced=announced, outbox=self.store.outbox, warm_up=routes.warm_up)

    async def _open_agora(self) -> AgoraSessions | None:
        """Prepare for calls through Agora, if there are any; the SDK is loaded only where the agent joins itself."""
        settings = self.settings.agora
        if not settings.app_id:
            return None
        if not settings.join:
            return AgoraSessions(settings, self.rooms, None)
        log_file = self.settings.path("agora-sdk.log")
        service = await asyncio.to_thread(lambda: AgoraService(load_sdk(), settings.app_id, log_file))
        self._resources.push_async_callback(asyncio.to_thread, service.close)
        return AgoraSessions(settings, self.rooms, service.open_channel)

    async def _start_api(self) -> None:
        """Start the API; if nobody asked for its port, another program on it keeps no call from being answered."""
        try:
            await self.api.start()
        except SettingsError as error:
            if self.settings.source_of("api.bind") is not SettingSource.DEFAULT:
                raise
            log.warning("agent.without_api", error=str(error))

    async def place_call(self, outgoing: Outgoing) -> CallRecord:
        """Place a call, served like one that comes in, and return its record when it is over.

        Whoever stops waiting does not end the call. Raises MessageError if there is nobody at that URI to call.
        """
        dial = partial(self.endpoint.place_call, outgoing.uri, outgoing.caller, outgoing.headers)
        return await asyncio.shield(self._serve(self.flow.place_call(outgoing, dial)))

    def _on_offer(self, offer: Offer) -> None:
        self._serve(self.flow.serve_call(offer))

    def _serve(self, serving: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(serving)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    async def _hang_up(self) -> None:
        """End every call and let each be recorded."""
        self.flow.draining = True
        await self.endpoint.hang_up_all("the agent is shutting down")
        await self.chirp.hang_up_all("the agent is shutting down")
        await self.rooms.hang_up_all("the agent is shutting down")
        if self._calls:
            await asyncio.wait(self._calls, timeout=STOP_GRACE_S)
        await self._analyst.stop()
        if self._calls:
            await asyncio.wait(self._calls, timeout=UNMEASURED_GRACE_S)

    async def _close_flow(self) -> None:
        await self.flow.close()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            try:
                await self.flow.expire(datetime.now(UTC))
            except Exception:
                log.exception("agent.housekeeping_failed")

    async def _mend_recordings(self) -> None:
        """Complete the recordings of interrupted calls; also those that an earlier start did not get to."""
        interrupted = CallQuery(outcome=Outcome.INTERRUPTED, limit=MENDED_MAX)
        try:
            records = await asyncio.to_thread(self.store.search, interrupted)
        except SettingsError as error:
            log.warning("agent.recordings_not_mended", error=str(error))
            return
        for record in records:
            if record["recording"] is not None:
                await asyncio.to_thread(mend, record["recording"]["path"])


def bindings_of(settings: Settings) -> Sequence[Binding]:
    """Return the transports to open: each that has a port, on each address."""
    ports = {"UDP": settings.sip.udp_port, "TCP": settings.sip.tcp_port, "TLS": settings.sip.tls_port}
    return [
        Binding(transport=transport, host=host, port=port)
        for host in settings.sip.bind
        for transport, port in ports.items()
        if port
    ]


def _authenticator(settings: Settings) -> DigestAuthenticator | None:
    auth = settings.auth
    if not auth.users:
        return None
    return DigestAuthenticator(
        realm=auth.realm,
        users={user: password.get_secret_value() for user, password in auth.users.items()},
        algorithms=[DigestAlgorithm(name) for name in auth.algorithms],
        secret=secrets.token_bytes(32),
        nonce_ttl_s=auth.nonce_ttl.total_seconds(),
    )


def _websocket_authenticator(settings: Settings) -> BasicAuthenticator | None:
    users = {user: password.get_secret_value() for user, password in settings.auth.users.items()}
    return BasicAuthenticator(realm=settings.auth.realm, users=users) if users else None


def _profile(settings: Settings) -> CorrelationProfile:
    name = settings.correlation.profile
    custom = settings.correlation.profiles.get(name)
    if custom is None:
        return PROFILES[name]
    return CorrelationProfile(
        name=name,
        run_id=custom.run_id,
        scenario_id=custom.scenario_id or None,
        result_id=custom.result_id or None,
    )


def _secret_headers(settings: Settings, profile: CorrelationProfile) -> SecretHeaders:
    headers = settings.headers
    salt = headers.fingerprint_salt.get_secret_value().encode() or secrets.token_bytes(32)
    return SecretHeaders(patterns=headers.secret if headers.fingerprint else (), salt=salt, exempt=profile.header_names)
