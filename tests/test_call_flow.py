"""The spine: from an INVITE to its record, whichever way it goes."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from structlog.contextvars import clear_contextvars
from structlog.testing import capture_logs

from media.tones import tone
from sip_agent import call_flow
from sip_agent.admission import AddressAllowList, AdmissionPolicy, FailureGuard, RefusalLedger
from sip_agent.analyst import NOT_RECORDED, NOT_YET, TurnAnalyst
from sip_agent.auth import DigestAlgorithm, DigestAuthenticator, digest_response
from sip_agent.call import Call, ConversationHandler
from sip_agent.call_flow import CHALLENGE_EXPIRES, CallFlow, FlowParts
from sip_agent.config import FaultSettings, RouteMatch, RouteSettings
from sip_agent.errors import CallRejected, StackRefusal, UserAgentError
from sip_agent.headers import PROFILES, CorrelationIds, SecretHeaders
from sip_agent.line import LineFaults
from sip_agent.outgoing import Outgoing
from sip_agent.record import CallRecord
from sip_agent.recording import RecordingWriter
from sip_agent.routes import Route, Routes
from sip_agent.status import EndedBy, Outcome
from sip_agent.store import CallStore
from sip_agent.store.reader import CallQuery
from sip_agent.testing import FakeDialog

HOST = "192.0.2.1"
REALM = "sip-agent"
CALL_IDS = itertools.count(1)

Response = tuple[int, dict[str, str]]


class FakeOffer:
    """An INVITE, undecided; keeps the response that refused it."""

    def __init__(
        self, message: bytes, *, source_host: str = HOST, stack_refuses: bool = False, transport: str = "UDP"
    ) -> None:
        self.message = message
        self.transport = transport
        self.source_host = source_host
        self.source_port = 5060
        self.received_at = datetime.now(UTC)
        self.dialog = FakeDialog()
        self.response: Response | None = None
        self.accepted = False
        self._stack_refuses = stack_refuses

    async def reject(self, status: int, headers: Sequence[tuple[str, str]] = (), *, stateful: bool = True) -> None:
        """Refuse the call; a challenge is answered statelessly."""
        if self.accepted or self.response is not None:
            raise UserAgentError("reject", "the INVITE is decided already")
        assert stateful is (int(status) != 401)
        self.response = int(status), dict(headers)

    async def accept(self, _faults: LineFaults | None = None, /) -> FakeDialog:
        """Open the dialog."""
        if self._stack_refuses:
            raise StackRefusal(488, "no codec in common")
        self.accepted = True
        return self.dialog


class Caller:
    """Sends INVITEs of one call, with a digest when it knows a challenge."""

    def __init__(self, user: str = "echo", headers: Mapping[str, str] | None = None, host: str = HOST) -> None:
        self.call_id = f"{next(CALL_IDS)}@example.com"
        self._user = user
        self._headers = dict(headers or {})
        self._host = host
        self._cseq = 0

    def invite(self, authorization: str = "", *, stack_refuses: bool = False, transport: str = "UDP") -> FakeOffer:
        """Send an INVITE."""
        self._cseq += 1
        lines = [
            f"INVITE sip:{self._user}@example.com SIP/2.0",
            f"Via: SIP/2.0/UDP {HOST}:5060;branch=z9hG4bK{self._cseq}",
            "From: <sip:caller@example.com>;tag=a1",
            f"To: <sip:{self._user}@example.com>",
            f"Call-ID: {self.call_id}",
            f"CSeq: {self._cseq} INVITE",
            *(f"{name}: {value}" for name, value in self._headers.items()),
            *([f"Authorization: {authorization}"] if authorization else []),
        ]
        message = "\r\n".join(lines).encode() + b"\r\n\r\n"
        return FakeOffer(message, source_host=self._host, stack_refuses=stack_refuses, transport=transport)

    def answer(self, response: Response | None, password: str = "secret") -> FakeOffer:
        """Send the INVITE again, with credentials for a challenge."""
        assert response is not None
        found = re.search(r'nonce="([^"]+)"', response[1]["WWW-Authenticate"])
        assert found is not None
        uri = f"sip:{self._user}@example.com"
        digest = digest_response(
            algorithm=DigestAlgorithm.MD5,
            username="cekura",
            password=password,
            realm=REALM,
            nonce=found[1],
            method="INVITE",
            uri=uri,
            cnonce="c",
        )
        return self.invite(
            f'Digest username="cekura", realm="{REALM}", nonce="{found[1]}", uri="{uri}", response="{digest}", '
            'qop=auth, nc=00000001, cnonce="c"'
        )


class Agent:
    """A flow with real parts, a real store, and one caller address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = CallStore.open("sqlite:///calls.db", base_dir=folder)
        self.recordings: RecordingWriter | None = None
        self.analyst = TurnAnalyst()
        self.flow = self.build()

    def build(self, **parts: Any) -> CallFlow:
        """Take other parts into the flow."""
        defaults: dict[str, Any] = {
            "admission": self.admission(),
            "authenticator": None,
            "failures": FailureGuard(100, 10),
            "refusals": RefusalLedger(100),
            "profile": PROFILES["cekura"],
            "require_run_id": False,
            "secret_headers": SecretHeaders(salt=b"salt", exempt=PROFILES["cekura"].header_names),
            "routes": self.routes(["echo"]),
            "store": self.store,
            "recordings": self.recordings,
            "analyst": self.analyst,
            "account_for": lambda *_: None,
            "sample_rate_hz": 16_000,
            "max_duration_s": 60.0,
        }
        self.flow = CallFlow(FlowParts(**(defaults | parts)))
        return self.flow

    def admission(
        self, *, allow: Sequence[str] = (), max_calls: int = 10, calls_per_second: float = 1000
    ) -> AdmissionPolicy:
        """Return an admission policy."""
        return AdmissionPolicy(
            allow=AddressAllowList.parse(allow), max_calls=max_calls, calls_per_second=calls_per_second
        )

    def routes(self, users: Sequence[str], handler: str = "echo", **options: Any) -> Routes:
        """Return routes for users, all to one handler."""
        return Routes(
            [RouteSettings(match=RouteMatch(user=user), handler=handler, options=options) for user in users],
            self.folder,
        )

    def route_to(self, build: Callable[[], ConversationHandler]) -> Routes:
        """Return a route that takes every call to a handler of the test."""
        routes = Routes([], self.folder)
        routes._routes.append(Route(match=RouteMatch(), handler="test", options={}, build=build))
        return routes

    def records(self) -> list[dict[str, Any]]:
        """Return the stored records, oldest first."""
        return self.store.search(CallQuery())[::-1]

    async def serve(self, offer: FakeOffer) -> Response | None:
        """Serve an INVITE to its end; return the response if it was refused."""
        await asyncio.wait_for(asyncio.create_task(self.flow.serve_call(offer)), 5)
        return offer.response

    async def talk(self, offer: FakeOffer, said: int = 1) -> None:
        """Serve an INVITE, say something once it is answered, and hang up."""
        task = asyncio.create_task(self.flow.serve_call(offer))
        await offer.dialog.until_answered()
        await offer.dialog.speak(np.ones(320 * said, np.int16))
        offer.dialog.hang_up()
        await task


def with_users(*, ttl_s: float = 60) -> DigestAuthenticator:
    """Return an authenticator that knows `cekura`."""
    return DigestAuthenticator(
        realm=REALM,
        users={"cekura": "secret"},
        algorithms=[DigestAlgorithm.MD5],
        secret=b"drawn",
        nonce_ttl_s=ttl_s,
    )


def hold_up(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Let whoever finishes a record wait; returns what is set once it is stored, and what lets them go on."""
    stored, go_on = asyncio.Event(), asyncio.Event()
    finish = agent.store.finish

    async def finish_and_wait(record: CallRecord) -> None:
        await finish(record)
        stored.set()
        await go_on.wait()

    monkeypatch.setattr(agent.store, "finish", finish_and_wait)
    return stored, go_on


async def call_meanwhile(
    agent: Agent, caller: Caller, wrong: FakeOffer, reached: asyncio.Event, go_on: asyncio.Event
) -> None:
    """Serve a wrong password up to a point, a whole call with the right one, and then the rest of the refusal."""
    refusing = asyncio.create_task(agent.flow.serve_call(wrong))
    await reached.wait()
    right = caller.answer(wrong.response)
    serving = asyncio.create_task(agent.flow.serve_call(right))
    await right.dialog.until_answered()
    go_on.set()
    await refusing
    right.dialog.hang_up()
    await serving


def in_short(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return how a record says that its call ended."""
    return record["outcome"], record["sip_status"], record["ended_by"], record["end_reason"]


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    """Start an agent that echoes calls to `echo`."""
    agent = Agent(tmp_path)
    yield agent
    await agent.flow.close()
    await agent.analyst.stop()
    await agent.store.close()
    clear_contextvars()


class TestAnswered:
    """A call that goes well."""

    async def test_record(self, agent: Agent) -> None:
        """One record, with who called, which run it was, and how it went."""
        headers = {"X-Run-Id": "007", "X-Scenario-Id": "s 1", "X-Result-Id": "r", "User-Agent": "phone"}
        caller = Caller(headers=headers)
        offer = caller.invite()
        await agent.talk(offer)
        [record] = agent.records()

        assert [200] == offer.dialog.statuses
        assert ("answered", 200, "caller", "the caller hung up") == in_short(record)
        assert {
            "call_id": caller.call_id,
            "direction": "inbound",
            "transport": "UDP",
            "source_address": "192.0.2.1:5060",
            "from_uri": "sip:caller@example.com",
            "request_uri": "sip:echo@example.com",
            "user_agent": "phone",
            "run_id": "007",
            "scenario_id": "s 1",
            "result_id": "r",
            "handler": "echo",
            "codec": "PCMU",
            "error": None,
            "auth_user": None,
            "account": None,
        }.items() <= record.items()
        assert 0 <= record["answer_delay_ms"] <= record["setup_ms"]
        assert 0 <= record["rx_first_audio_ms"]

    async def test_begun_before_it_is_answered(self, agent: Agent) -> None:
        """The record is in the store before the caller hears of the call, and again with the answer."""
        agent.build(routes=agent.routes(["echo"], "ring", seconds=20))
        offer = Caller().invite()
        task = asyncio.create_task(agent.flow.serve_call(offer))
        await offer.dialog.until(lambda: offer.dialog.statuses == [180])
        [record] = agent.records()
        active = list(agent.flow.active)
        offer.dialog.hang_up()
        await task

        assert (None, None) == (record["outcome"], record["ended_at"])
        assert [record["call_uuid"]] == active
        assert {} == agent.flow.active

    async def test_one_canonical_line(self, agent: Agent) -> None:
        """The log has one `call.ended` line with the whole record."""
        with capture_logs() as logs:
            await agent.talk(Caller().invite())
        [record] = agent.records()
        [ended] = [entry for entry in logs if entry["event"] == "call.ended"]

        assert record.keys() - {"run_id"} <= ended.keys()
        assert record["call_uuid"] == ended["call_uuid"]

    async def test_recording(self, agent: Agent, tmp_path: Path) -> None:
        """Both sides are recorded, and the record says where."""
        agent.recordings = RecordingWriter(tmp_path / "recordings", 16_000)
        agent.build()
        await agent.talk(Caller().invite(), said=20)
        await agent.recordings.stop()
        [record] = agent.records()
        sound, rate_hz = soundfile.read(record["recording"]["path"], dtype="int16")

        assert ("ok", len(sound) // 16) == (record["recording"]["state"], record["recording"]["duration_ms"])
        assert 16_000 == rate_hz
        assert [20 * 320, 19 * 320] == np.count_nonzero(sound, axis=0).tolist()

    async def test_failed_recording(self, agent: Agent, tmp_path: Path) -> None:
        """A recording that fails is named in the record, and the call goes on."""
        (tmp_path / "recordings").write_text("no folder")
        agent.recordings = RecordingWriter(tmp_path / "recordings", 16_000)
        agent.build()
        await agent.talk(Caller().invite(), said=20)
        await agent.recordings.stop()
        [record] = agent.records()

        assert ("answered", "failed") == (record["outcome"], record["recording"]["state"])
        assert "recordings" in record["recording"]["error"]

    async def test_turns_and_metrics(self, agent: Agent, tmp_path: Path) -> None:
        """What was measured of the recording is in the stored record, and in the line of the log."""
        agent.recordings = RecordingWriter(tmp_path / "recordings", 16_000)
        agent.build()
        offer = Caller().invite()
        with capture_logs() as logs:
            task = asyncio.create_task(agent.flow.serve_call(offer))
            await offer.dialog.until_answered()
            await offer.dialog.hear(500)
            await offer.dialog.speak(tone(440, 1000, 16_000))
            await offer.dialog.hear(500)
            offer.dialog.hang_up()
            await task
        await agent.recordings.stop()
        [record] = agent.records()
        [ended] = [entry for entry in logs if entry["event"] == "call.ended"]

        assert ["caller", "agent"] == [turn["speaker"] for turn in record["turns"]]
        assert 500 == pytest.approx(record["turns"][0]["started_ms"], abs=40)
        assert {"by_caller": 0, "by_agent": 0} == record["metrics"]["interruptions"]  # an echo begins with its caller
        assert (record["turns"], record["metrics"]) == (ended["turns"], ended["metrics"])

    async def test_not_recorded(self, agent: Agent) -> None:
        """Without a recording the record says why it has no metrics."""
        await agent.talk(Caller().invite())

        assert [{"error": NOT_RECORDED}] == [record["metrics"] for record in agent.records()]

    async def test_measured_late(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        """A record that waits long is stored without metrics, keeps no place, and is completed when they are there."""
        go_on, stored = asyncio.Event(), asyncio.Event()
        finish = agent.store.finish

        async def finish_and_tell(record: CallRecord) -> None:
            await finish(record)
            stored.set()

        class Busy(TurnAnalyst):
            async def analyse(self, record: CallRecord) -> None:
                record.metrics = {"error": NOT_YET}
                await go_on.wait()
                record.metrics = {"talk_ratio": 1.0}

        monkeypatch.setattr(call_flow, "MEASURING_PATIENCE_S", 0.01)
        monkeypatch.setattr(agent.store, "finish", finish_and_tell)
        finished: list[CallRecord] = []
        agent.build(analyst=Busy(), admission=agent.admission(max_calls=1), on_finished=finished.append)
        waiting = asyncio.create_task(agent.talk(Caller().invite()))
        await stored.wait()
        [meanwhile] = agent.records()
        unfinished = list(finished)
        next_call = Caller().invite()
        serving = asyncio.create_task(agent.flow.serve_call(next_call))
        await next_call.dialog.until_answered()
        next_call.dialog.hang_up()
        go_on.set()
        await asyncio.gather(waiting, serving)

        assert ("answered", {"error": NOT_YET}) == (meanwhile["outcome"], meanwhile["metrics"])
        assert [] == unfinished
        assert [{"talk_ratio": 1.0}] * 2 == [record["metrics"] for record in agent.records()]

    async def test_early_media(self, agent: Agent) -> None:
        """Sound before the answer counts as sound at once: no delay is negative."""

        class Prelude:
            async def handle(self, call: Call) -> None:
                await call.progress()
                await call.play(np.ones(640, np.int16))
                await call.answer()
                await call.disconnected

        agent.build(routes=agent.route_to(Prelude))
        offer = Caller().invite()
        task = asyncio.create_task(agent.flow.serve_call(offer))
        await offer.dialog.until(lambda: offer.dialog.statuses == [183])
        await offer.dialog.speak(np.ones(640, np.int16))
        await offer.dialog.until_answered()
        offer.dialog.hang_up()
        await task
        [record] = agent.records()

        assert (0, 0) == (record["tx_first_audio_ms"], record["rx_first_audio_ms"])
        assert 0 <= record["ringing_delay_ms"] <= record["answer_delay_ms"]


class TestHeaders:
    """What the X- headers become."""

    async def test_secrets(self, agent: Agent) -> None:
        """A secret header reaches the handler in clear, the record and the log as a fingerprint."""
        seen: list[dict[str, list[str]]] = []

        class Reader:
            async def handle(self, call: Call) -> None:
                seen.append(call.headers)
                raise CallRejected(486)

        agent.build(routes=agent.route_to(Reader))
        with capture_logs() as logs:
            await agent.serve(Caller(headers={"X-Auth-Token": "s3cret", "X-Other": "plain"}).invite())
        [record] = agent.records()

        assert [{"X-Auth-Token": ["s3cret"], "X-Other": ["plain"]}] == seen
        assert ["plain"] == record["headers"]["X-Other"]
        assert record["headers"]["X-Auth-Token"][0].startswith("fingerprint:")
        assert "s3cret" not in repr(logs)

    async def test_required_run_id(self, agent: Agent) -> None:
        """Where a run id is required, a call without one is refused with 400, and one with it is not."""
        agent.build(require_run_id=True)
        refused = await agent.serve(Caller().invite())
        empty = await agent.serve(Caller(headers={"X-Run-Id": ""}).invite())
        await agent.talk(Caller(headers={"x-run-id": "0"}).invite())

        assert ((400, {}), (400, {})) == (refused, empty)
        assert [(None, "rejected"), ("", "rejected"), ("0", "answered")] == [
            (record["run_id"], record["outcome"]) for record in agent.records()
        ]
        assert "X-Run-Id" in agent.records()[0]["end_reason"]


class TestRefused:
    """A call that is not taken, each with its record."""

    async def test_source(self, agent: Agent) -> None:
        """A source that is not allowed gets 403."""
        agent.build(admission=agent.admission(allow=["10.0.0.0/8"]))

        assert (403, {}) == await agent.serve(Caller().invite())
        assert [("rejected", 403, "agent", "source not allowed")] == [in_short(item) for item in agent.records()]

    async def test_capacity(self, agent: Agent) -> None:
        """A call beyond the last place gets 503 with Retry-After; when a place is free, the next is taken."""
        agent.build(admission=agent.admission(max_calls=1))
        first = Caller().invite()
        task = asyncio.create_task(agent.flow.serve_call(first))
        await first.dialog.until_answered()
        refused = await agent.serve(Caller().invite())
        first.dialog.hang_up()
        await task
        await agent.talk(Caller().invite())

        assert (503, {"Retry-After": "10"}) == refused
        assert ["answered", "rejected", "answered"] == [record["outcome"] for record in agent.records()]

    async def test_rate(self, agent: Agent) -> None:
        """More calls a second than allowed get 503 with Retry-After."""
        agent.build(admission=agent.admission(calls_per_second=1))
        await agent.talk(Caller().invite())

        assert (503, {"Retry-After": "1"}) == await agent.serve(Caller().invite())

    async def test_draining(self, agent: Agent) -> None:
        """An agent that shuts down takes no call any more."""
        agent.flow.draining = True

        assert (503, {"Retry-After": "30"}) == await agent.serve(Caller().invite())
        assert ["the agent is shutting down"] == [record["end_reason"] for record in agent.records()]

    async def test_draining_meanwhile(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        """An agent that shuts down while the record is begun does not take the call, nor place one."""
        begin = agent.store.begin

        async def begin_and_drain(record: CallRecord) -> None:
            await begin(record)
            agent.flow.draining = True

        async def dial() -> PlacedDialog:
            raise AssertionError("it was dialled")

        monkeypatch.setattr(agent.store, "begin", begin_and_drain)
        offer = Caller().invite()
        refused = await agent.serve(offer)
        agent.flow.draining = False
        await agent.flow.place_call(Outgoing(uri="sip:echo@example.com"), dial)

        assert ((503, {"Retry-After": "30"}), False) == (refused, offer.accepted)
        assert [("rejected", 503, "agent", "the agent is shutting down")] * 2 == [
            in_short(record) for record in agent.records()
        ]

    async def test_no_route(self, agent: Agent) -> None:
        """A user that no route serves gets 404."""
        assert (404, {}) == await agent.serve(Caller(user="nobody").invite())
        assert [("rejected", 404, "agent", "no route matches the user 'nobody'")] == [
            in_short(record) for record in agent.records()
        ]

    @pytest.mark.parametrize("message", [b"", b"INVITE sip:x SIP/2.0\r\n\r\n", b"\x00\xff" * 500])
    async def test_malformed(self, agent: Agent, message: bytes) -> None:
        """What cannot be read gets 400, and its record has at least the source."""
        assert (400, {}) == await agent.serve(FakeOffer(message, source_host="2001:db8::1"))
        [record] = agent.records()
        assert ("rejected", 400, "[2001:db8::1]:5060") == (
            record["outcome"],
            record["sip_status"],
            record["source_address"],
        )

    async def test_stack_refusal(self, agent: Agent) -> None:
        """What the SIP stack has refused is recorded, and not answered a second time."""
        offer = Caller().invite(stack_refuses=True)

        assert None is await agent.serve(offer)
        assert [("rejected", 488, "agent", "no codec in common")] == [in_short(item) for item in agent.records()]

    async def test_by_the_handler(self, agent: Agent) -> None:
        """A handler's refusal goes to the caller through the dialog."""
        agent.build(routes=agent.routes(["echo"], "reject", status=603, reason="closed"))
        offer = Caller().invite()
        await agent.serve(offer)

        assert (None, [603]) == (offer.response, offer.dialog.statuses)
        assert [("rejected", 603, "agent", "closed")] == [in_short(record) for record in agent.records()]

    async def test_response_cannot_be_sent(self, agent: Agent) -> None:
        """A caller that is gone is recorded all the same."""
        offer = Caller(user="nobody").invite()
        offer.accepted = True
        with capture_logs() as logs:
            await agent.serve(offer)

        assert [404] == [record["sip_status"] for record in agent.records()]
        assert "call.refusal_not_sent" in [entry["event"] for entry in logs]

    async def test_cancelled(self, agent: Agent) -> None:
        """A caller that gives up before the answer leaves a cancelled call."""
        agent.build(routes=agent.routes(["echo"], "ring", seconds=20))
        offer = Caller().invite()
        task = asyncio.create_task(agent.flow.serve_call(offer))
        await offer.dialog.until(lambda: offer.dialog.statuses == [180])
        offer.dialog.hang_up()
        await task

        assert [("cancelled", 487, "caller", "the caller hung up")] == [in_short(item) for item in agent.records()]

    async def test_scanner(self, agent: Agent) -> None:
        """Beyond its share a source's refusals are counted in one record, at the end of the hour."""
        agent.build(refusals=RefusalLedger(2))
        with capture_logs() as logs:
            for _ in range(10):
                await agent.serve(Caller(user="nobody").invite())
        single = len(agent.records())
        await agent.flow.expire(datetime.now(UTC))
        before_the_hour = len(agent.records())
        await agent.flow.expire(datetime.now(UTC) + timedelta(hours=1))
        summaries = [record for record in agent.records() if record["sip_status"] is None]

        assert (2, 2) == (single, before_the_hour)
        assert [("rejected", None, "agent", "8 further INVITEs of this source were refused")] == [
            in_short(record) for record in summaries
        ]
        assert [HOST] == [record["source_address"] for record in summaries]
        assert 1 == [entry["event"] for entry in logs].count("call.refusals_summarised")

    async def test_summary_at_the_end(self, agent: Agent) -> None:
        """An agent that stops records what it has only counted."""
        agent.build(refusals=RefusalLedger(0))
        await agent.serve(Caller(user="nobody").invite())
        await agent.flow.close()

        assert ["1 further INVITEs of this source were refused"] == [record["end_reason"] for record in agent.records()]


class TestFaultsWithoutSip:
    """Routes with faults, called by WebSocket or in a room."""

    @pytest.mark.parametrize("transport", ["WS", "DAILY"])
    @pytest.mark.parametrize(
        ("fault", "value"),
        [("loss_percent", 5), ("noise_dbov", -40), ("one_way", "agent_unheard"), ("vanish_after", "1s")],
    )
    async def test_what_needs_packets_is_refused(self, agent: Agent, transport: str, fault: str, value: Any) -> None:
        """The refusal names the fault, and the record claims none."""
        route = RouteSettings(
            handler="echo", faults=FaultSettings.model_validate({"hang_up_after": "5s", fault: value})
        )
        agent.build(routes=Routes([route], agent.folder))
        offer = Caller().invite(transport=transport)
        assert (488, {}) == await agent.serve(offer)
        [record] = agent.records()

        assert not offer.accepted
        assert ("rejected", 488, "agent", f"fault: {fault} needs a call by SIP, not {transport}") == in_short(record)
        assert [] == (record["faults"] or [])

    async def test_the_others_happen(self, agent: Agent) -> None:
        """What concerns time and silence needs no packets."""
        route = RouteSettings(handler="silence", faults=FaultSettings.model_validate({"hang_up_after": "10ms"}))
        agent.build(routes=Routes([route], agent.folder))
        assert await agent.serve(Caller().invite(transport="WS")) is None
        [record] = agent.records()

        assert ("answered", 200, "agent", "fault: hang_up_after") == in_short(record)
        assert ["hang_up_after=10ms"] == record["faults"]


class TestAuthentication:
    """The challenge and its answer are one call."""

    async def test_one_record(self, agent: Agent) -> None:
        """The challenge leaves no record; its answer is the call, timed from the first INVITE."""
        agent.build(authenticator=with_users())
        caller = Caller()
        first = caller.invite()
        challenge = await agent.serve(first)
        before = agent.records()
        await agent.talk(caller.answer(challenge))
        [record] = agent.records()

        assert [] == before
        assert ("answered", "cekura") == (record["outcome"], record["auth_user"])
        assert first.received_at.isoformat(timespec="milliseconds")[:-6] == record["invite_received_at"][:-1]

    async def test_wrong_then_right(self, agent: Agent) -> None:
        """A wrong password is a refusal, until the right one makes it a call: one record."""
        agent.build(authenticator=with_users())
        caller = Caller()
        challenge = await agent.serve(caller.invite())
        again = await agent.serve(caller.answer(challenge, password="guess"))
        refused = agent.records()
        await agent.talk(caller.answer(again))
        [record] = agent.records()

        assert [("rejected", 401, "agent", "authentication: wrong_credentials")] == [in_short(r) for r in refused]
        assert ("answered", 200, "caller", "the caller hung up") == in_short(record)
        assert refused[0]["call_uuid"] == record["call_uuid"]

    async def test_right_while_the_refusal_is_stored(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever is told of the refusal meanwhile is told of a refusal."""
        outcomes: list[Outcome | None] = []
        agent.build(authenticator=with_users(), on_finished=lambda record: outcomes.append(record.outcome))
        stored, go_on = hold_up(agent, monkeypatch)
        caller = Caller()
        wrong = caller.answer(await agent.serve(caller.invite()), password="guess")
        with capture_logs() as logs:
            await call_meanwhile(agent, caller, wrong, stored, go_on)

        assert [Outcome.REJECTED, Outcome.ANSWERED] == outcomes
        assert outcomes == [entry["outcome"] for entry in logs if entry["event"] == "call.ended"]
        assert [("answered", 200, "caller", "the caller hung up")] == [in_short(item) for item in agent.records()]

    async def test_right_while_the_refusal_is_sent(self, agent: Agent) -> None:
        """A call that goes on by then is not refused any more."""
        sent, go_on = asyncio.Event(), asyncio.Event()

        class SlowOffer(FakeOffer):
            async def reject(
                self, status: int, headers: Sequence[tuple[str, str]] = (), *, stateful: bool = True
            ) -> None:
                await super().reject(status, headers, stateful=stateful)
                sent.set()
                await go_on.wait()

        outcomes: list[Outcome | None] = []
        agent.build(authenticator=with_users(), on_finished=lambda record: outcomes.append(record.outcome))
        caller = Caller()
        wrong = SlowOffer(caller.answer(await agent.serve(caller.invite()), password="guess").message)
        await call_meanwhile(agent, caller, wrong, sent, go_on)

        assert [Outcome.ANSWERED] == outcomes

    async def test_wrong_for_ever(self, agent: Agent) -> None:
        """Whoever tries several passwords in one call has one record."""
        agent.build(authenticator=with_users())
        caller = Caller()
        challenge = await agent.serve(caller.invite())
        for attempt in range(5):
            challenge = await agent.serve(caller.answer(challenge, password=f"guess {attempt}"))
        await agent.flow.close()

        assert [("rejected", 401, "agent", "authentication: wrong_credentials")] == [
            in_short(record) for record in agent.records()
        ]

    async def test_unanswered_challenge(self, agent: Agent) -> None:
        """A challenge that nobody answers is a refusal after 32 s, and not before."""
        agent.build(authenticator=with_users())
        await agent.serve(Caller().invite())
        now = datetime.now(UTC)
        await agent.flow.expire(now + CHALLENGE_EXPIRES / 2)
        early = agent.records()
        await agent.flow.expire(now + CHALLENGE_EXPIRES + timedelta(seconds=1))
        await agent.flow.expire(now + CHALLENGE_EXPIRES + timedelta(seconds=2))

        assert [] == early
        assert [("rejected", 401, "agent", "the challenge was not answered")] == [
            in_short(record) for record in agent.records()
        ]

    async def test_answered_while_others_expire(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        """An answer that comes while another challenge is recorded as unanswered is a call."""
        agent.build(authenticator=with_users())
        silent, late = Caller(), Caller()
        await agent.serve(silent.invite())
        challenge = await agent.serve(late.invite())
        stored, go_on = hold_up(agent, monkeypatch)
        expiring = asyncio.create_task(agent.flow.expire(datetime.now(UTC) + 2 * CHALLENGE_EXPIRES))
        await stored.wait()
        answer = late.answer(challenge)
        serving = asyncio.create_task(agent.flow.serve_call(answer))
        await answer.dialog.until_answered()
        go_on.set()
        await expiring
        answer.dialog.hang_up()
        await serving

        assert {(silent.call_id, "rejected"), (late.call_id, "answered")} == {
            (record["call_id"], record["outcome"]) for record in agent.records()
        }

    async def test_unanswered_at_the_end(self, agent: Agent) -> None:
        """An agent that stops records the challenges that are open."""
        agent.build(authenticator=with_users())
        await agent.serve(Caller().invite())
        await agent.flow.close()

        assert [401] == [record["sip_status"] for record in agent.records()]

    async def test_stale(self, agent: Agent) -> None:
        """A nonce that is too old is no failure: the caller is told so, and its next answer is the call."""
        agent.build(authenticator=with_users(ttl_s=-1))
        caller = Caller()
        challenge = await agent.serve(caller.invite())
        again = await agent.serve(caller.answer(challenge))

        assert again is not None
        assert "stale=true" in again[1]["WWW-Authenticate"]
        assert [] == agent.records()

    async def test_retransmitted_invite(self, agent: Agent) -> None:
        """An INVITE that comes twice, because the 401 was lost, is one call from the first on."""
        agent.build(authenticator=with_users())
        caller = Caller()
        first = caller.invite()
        await agent.serve(first)
        await agent.serve(caller.invite())
        await agent.flow.close()
        [record] = agent.records()

        assert first.received_at.isoformat(timespec="milliseconds")[:-6] == record["invite_received_at"][:-1]

    async def test_retry_is_no_second_call(self, agent: Agent) -> None:
        """The answer to a challenge is not counted again by the rate of calls."""
        agent.build(authenticator=with_users(), admission=agent.admission(calls_per_second=1))
        caller = Caller()
        await agent.talk(caller.answer(await agent.serve(caller.invite())))

        assert ["answered"] == [record["outcome"] for record in agent.records()]

    async def test_strangers_take_no_part_of_the_rate(self, agent: Agent) -> None:
        """Who does not authenticate can repeat himself without locking those out who do."""
        agent.build(authenticator=with_users(), admission=agent.admission(calls_per_second=1))
        caller = Caller()
        first = await agent.serve(caller.invite())
        second = await agent.serve(caller.invite())
        await agent.talk(caller.answer(second))

        assert [401, 401] == [response and response[0] for response in (first, second)]
        assert ["answered"] == [record["outcome"] for record in agent.records()]

    async def test_flood(self, agent: Agent) -> None:
        """A source that fails too often is challenged without a look at its answer, the right one too."""
        agent.build(authenticator=with_users(), failures=FailureGuard(2, 0.001))
        caller = Caller()
        challenge = await agent.serve(caller.invite())
        for _ in range(3):
            challenge = await agent.serve(caller.answer(challenge, password="guess"))
        locked_out = await agent.serve(caller.answer(challenge))

        assert locked_out is not None
        assert 401 == locked_out[0]
        assert {"rejected"} == {record["outcome"] for record in agent.records()}

    async def test_account(self, agent: Agent) -> None:
        """A call by an account is neither challenged nor held to the allow-list, and names the account."""
        agent.build(
            authenticator=with_users(),
            admission=agent.admission(allow=["10.0.0.0/8"]),
            account_for=lambda host, user: "trunk" if (host, user) == (HOST, "echo") else None,
        )
        await agent.talk(Caller().invite())

        assert [("answered", "trunk", None)] == [
            (record["outcome"], record["account"], record["auth_user"]) for record in agent.records()
        ]

    async def test_account_beyond_capacity(self, agent: Agent) -> None:
        """The last place is the last one for the calls of an account too."""
        agent.build(admission=agent.admission(max_calls=0), account_for=lambda *_: "trunk")

        assert (503, {"Retry-After": "10"}) == await agent.serve(Caller().invite())

    async def test_memory_is_bounded(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of too many open challenges the oldest counts as refused."""
        monkeypatch.setattr(call_flow, "CHALLENGES_MAX", 2)
        agent.build(authenticator=with_users())
        callers = [Caller() for _ in range(3)]
        for caller in callers:
            await agent.serve(caller.invite())

        assert [callers[0].call_id] == [record["call_id"] for record in agent.records()]

    async def test_ipv6_source_is_one_source(self, agent: Agent) -> None:
        """Unanswered challenges and refusals of an IPv6 source are counted together."""
        agent.build(authenticator=with_users(), refusals=RefusalLedger(0))
        caller = Caller(host="2001:db8::1")
        await agent.serve(caller.answer(await agent.serve(caller.invite()), password="guess"))
        await agent.serve(Caller(host="2001:db8::1").invite())
        await agent.flow.close()

        assert [("2001:db8::1", "2 further INVITEs of this source were refused")] == [
            (record["source_address"], record["end_reason"]) for record in agent.records()
        ]


class TestFailures:
    """What breaks inside the agent."""

    async def test_store(self, agent: Agent) -> None:
        """A store that is gone does not stop a call; the log has its record."""
        await agent.store.close()
        offer = Caller().invite()
        with capture_logs() as logs:
            await agent.talk(offer)
        events = [entry["event"] for entry in logs]

        assert [200] == offer.dialog.statuses
        assert "call.record_delayed" in events
        assert "answered" == next(entry["outcome"] for entry in logs if entry["event"] == "call.ended")

    async def test_bug(self, agent: Agent) -> None:
        """A bug in the flow is a 500, a failed record and a traceback; the next call is served."""

        def broken(*_: str) -> str | None:
            raise KeyError("echo")

        agent.build(account_for=broken)
        with capture_logs() as logs:
            response = await agent.serve(Caller().invite())
        agent.build()
        await agent.talk(Caller().invite())

        assert (500, {}) == response
        assert [("failed", 500, "system", "the agent failed"), ("answered", 200, "caller", "the caller hung up")] == [
            in_short(record) for record in agent.records()
        ]
        assert "KeyError: 'echo'" == agent.records()[0]["error"]
        assert "call.flow_failed" in [entry["event"] for entry in logs]

    async def test_bug_on_a_call_that_cannot_be_ended(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        """The record has the bug, and not that the call could not be ended because of it."""

        async def broken(*_: Any, **__: Any) -> None:
            raise KeyError("echo")

        monkeypatch.setattr(call_flow, "hold_conversation", broken)
        offer = Caller().invite()
        offer.dialog.refuse.add("hangup")
        with capture_logs() as logs:
            await agent.serve(offer)

        assert ["KeyError: 'echo'"] == [record["error"] for record in agent.records()]
        assert "call.terminate_failed" in [entry["event"] for entry in logs]

    async def test_handler_cannot_be_built(self, agent: Agent, tmp_path: Path) -> None:
        """A handler that cannot be built any more fails its call: 500, and the dialog is over."""
        soundfile.write(tmp_path / "hello.wav", np.ones(100, np.int16), 8000)
        agent.build(routes=agent.routes(["echo"], "playback", file="hello.wav"))
        (tmp_path / "hello.wav").unlink()
        offer = Caller().invite()
        await agent.serve(offer)
        [record] = agent.records()

        assert [500] == offer.dialog.statuses
        assert offer.dialog.ended
        assert ("failed", 500, "system", "the handler failed") == in_short(record)
        assert "hello.wav" in record["error"]

    async def test_bye_without_answer(self, agent: Agent) -> None:
        """A call whose BYE is not answered is recorded as ended by the system."""
        agent.build(routes=agent.routes(["echo"], "tone", seconds=0.02))
        offer = Caller().invite()
        offer.dialog.refuse.add("hangup")
        task = asyncio.create_task(agent.flow.serve_call(offer))
        await offer.dialog.until(task.done)

        assert [("answered", 200, "system", "the BYE was not answered")] == [
            in_short(record) for record in agent.records()
        ]

    async def test_unanswered_by_the_stack(self, agent: Agent) -> None:
        """A refusal by the stack inside the dialog, such as 488, is a rejected call."""

        class Rejected(FakeDialog):
            async def respond(
                self, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False
            ) -> None:
                del status, headers, early_media
                self._respond(488)
                self._disconnect(EndedBy.SYSTEM, "Not Acceptable Here")
                await self._consider("answer")

        offer = Caller().invite()
        offer.dialog = Rejected()
        await agent.serve(offer)

        assert [("rejected", 488, "system", "Not Acceptable Here")] == [in_short(item) for item in agent.records()]


async def test_calls_do_not_mix(agent: Agent) -> None:
    """Twenty calls at once are twenty records, each with its own ids."""
    agent.build(admission=agent.admission(max_calls=20))
    await asyncio.gather(*(agent.talk(Caller(headers={"X-Run-Id": f"run {n}"}).invite()) for n in range(20)))

    assert {f"run {n}" for n in range(20)} == {record["run_id"] for record in agent.records()}
    assert 20 == len(agent.records())


class PlacedDialog(FakeDialog):
    """The dialog of a call that we placed: the peer answers it of its own accord."""

    call_id = "placed@example.com"

    async def respond(self, status: int, headers: Sequence[tuple[str, str]] = (), *, early_media: bool = False) -> None:
        """Answer, if that is still to be done."""
        if not self.answered:
            await super().respond(status, headers, early_media=early_media)


class TestPlaced:
    """A call that we place."""

    OUTGOING = Outgoing(uri="sip:echo@example.com", account="trunk", ids=CorrelationIds(run_id="1", result_id="2"))

    async def test_record(self, agent: Agent) -> None:
        """The route's handler speaks, and the record says which way the call went, and for which run."""
        dialog = PlacedDialog()

        async def dial() -> PlacedDialog:
            return dialog

        task = asyncio.create_task(agent.flow.place_call(self.OUTGOING, dial))
        await dialog.until_answered()
        await dialog.speak(np.ones(320, np.int16))
        dialog.hang_up()
        await task
        [record] = agent.records()

        assert ("answered", 200, "caller", "the caller hung up") == in_short(record)
        assert {
            "call_id": "placed@example.com",
            "direction": "outbound",
            "account": "trunk",
            "request_uri": "sip:echo@example.com",
            "run_id": "1",
            "result_id": "2",
            "handler": "echo",
            "error": None,
        }.items() <= record.items()

    @pytest.mark.parametrize(
        ("users", "error", "ending"),
        [
            (["echo"], UserAgentError("call", "no transport"), ("failed", 500, "system", "the agent failed")),
            (["other"], None, ("rejected", 404, "agent", "no route matches the user 'echo'")),
        ],
    )
    async def test_not_placed(
        self, agent: Agent, users: list[str], error: Exception | None, ending: tuple[Any, ...]
    ) -> None:
        """A call that cannot be placed, or that no handler would take, has a record that says why."""
        agent.build(routes=agent.routes(users))

        async def dial() -> PlacedDialog:
            if error is not None:
                raise error
            raise AssertionError("it was dialled")

        await agent.flow.place_call(self.OUTGOING, dial)
        [record] = agent.records()

        assert ending == in_short(record)
        assert {} == agent.flow.active
