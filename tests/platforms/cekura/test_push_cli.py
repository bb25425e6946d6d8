"""`sip-agent cekura push`, as a process of its own, beside a store that has records."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sip_agent.config import CekuraSettings
from sip_agent.platforms.cekura.evidence import Evidence
from sip_agent.record import CallRecord
from sip_agent.status import EvidenceState, Outcome
from sip_agent.store import CallStore
from tests.platforms.cekura.evidence_desk import KEY, Answer, EvidenceDesk
from tests.platforms.commands import Finished, sip_agent, write_settings


@pytest.fixture
def desk() -> Iterator[EvidenceDesk]:
    """Open the place where evidence goes."""
    with EvidenceDesk().open() as opened:
        yield opened


@pytest.fixture
async def store(tmp_path: Path, desk: EvidenceDesk) -> AsyncIterator[CallStore]:
    """Open the store of an agent that runs meanwhile."""
    write_settings(tmp_path, {"cekura": {"base_url": desk.url}})
    opened = CallStore.open("sqlite:///calls.db", base_dir=tmp_path)
    yield opened
    await opened.close()


async def end_call(store: CallStore, uuid_start: str, state: EvidenceState | None = None, **fields: Any) -> CallRecord:
    """Store a call that ended a minute ago, and what became of its evidence."""
    ended_at = datetime.now(UTC) - timedelta(minutes=1)
    values: dict[str, Any] = {
        "call_uuid": f"{uuid_start}-0000-4000-8000-000000000000",
        "run_id": "456789",
        "handler": "echo",
        "outcome": Outcome.ANSWERED,
        "invite_received_at": ended_at,
        "answered_at": ended_at,
        "ended_at": ended_at,
    }
    record = CallRecord(**(values | fields))
    evidence = Evidence(CekuraSettings(api_key="k"), joined=True, recordings_dir=Path())
    record.evidence = evidence.decide(record)
    await store.finish(record)
    if state is not None:
        store.outbox.settle(record.call_uuid, state, ended_at, reason="as the test says")
    return record


async def push(folder: Path, *arguments: str, key: str = KEY) -> Finished:
    """Run the command."""
    environment = {"SIP_AGENT_CEKURA__API_KEY": key}
    return await sip_agent("cekura", "push", *arguments, folder=folder, environment=environment)


async def test_what_was_sent_is_listed(store: CallStore, tmp_path: Path) -> None:
    """State, tries and reason of each call, for people and for programs; calls without evidence are not there."""
    gone = await end_call(store, "aaaaaaa1", EvidenceState.GIVEN_UP)
    odd = await end_call(store, "aaaaaaa2", run_id="run-7")
    await end_call(store, "aaaaaaa3", run_id=None)

    table = await push(tmp_path)
    listed = await push(tmp_path, "--json")
    given_up = await push(tmp_path, "--json", "--state", "given_up")

    assert [0, 0, 0] == [done.status for done in (table, listed, given_up)]
    assert {gone.call_uuid, odd.call_uuid} == {item["call_uuid"] for item in listed.document}
    assert [("456789", "given_up", "as the test says")] == [
        (item["run_id"], item["evidence"]["state"], item["evidence"]["reason"]) for item in given_up.document
    ]
    for text in ("aaaaaaa1", "given_up", "as the test says", "not_sent", "is no integer"):
        assert text in table.stdout


async def test_nothing_to_list(store: CallStore, tmp_path: Path) -> None:
    """An empty outbox says what would be in it."""
    await end_call(store, "aaaaaaa1", run_id=None)
    done, as_json = await push(tmp_path), await push(tmp_path, "--json")

    assert (0, "", []) == (done.status, done.stdout, as_json.document)
    assert "calls with a run id" in done.stderr


async def test_a_call_is_sent_again(store: CallStore, tmp_path: Path, desk: EvidenceDesk) -> None:
    """By its run id; what comes of it is kept beside the agent that runs."""
    record = await end_call(store, "aaaaaaa1", EvidenceState.GIVEN_UP)

    done = await push(tmp_path, "run:456789", "--json")

    assert (0, "sent", 1) == (done.status, done.document["evidence"]["state"], done.document["evidence"]["attempts"])
    assert [record.call_uuid] == [call["id"] for call in desk.accepted]
    (document,) = store.find(record.call_uuid)
    assert "sent" == document["evidence"]["state"]


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        ("nobody-has-this", "no call record has the uuid"),
        ("run:456789", "'run:456789' names 2 call records"),
        ("aaaaaaa3", "the run id 'run-7' is no integer"),
        ("aaaaaaa4", "it has no run id: set cekura.observe"),
        ("aaaaaaa5", "it goes on: try again when it is over"),
    ],
)
async def test_wrong_use(store: CallStore, tmp_path: Path, desk: EvidenceDesk, identifier: str, message: str) -> None:
    """One line says what to do; nothing is sent."""
    await end_call(store, "aaaaaaa1")
    await end_call(store, "aaaaaaa2")
    await end_call(store, "aaaaaaa3", run_id="run-7")
    await end_call(store, "aaaaaaa4", run_id=None)
    await store.begin(CallRecord(call_uuid="aaaaaaa5-0000-4000-8000-000000000000", run_id="7"))

    done = await push(tmp_path, identifier)

    assert (2, "", 1) == (done.status, done.stdout, len(done.stderr.splitlines()))
    assert message in done.stderr
    assert [] == desk.seen


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What goes wrong, and what comes of it."""

    key: str = KEY
    answer: Answer | None = None
    status: int
    state: str = "waiting"
    message: str


@pytest.mark.parametrize(
    "failure",
    [
        Failure(answer=Answer(status=503), status=3, message="HTTP 503"),
        Failure(
            answer=Answer(status=400, document={"detail": "Run IDs not found or deleted: [1]"}),
            status=2,
            state="refused",
            message="deleted: [1]",
        ),
        Failure(key="wrong-key", status=2, message="HTTP 401"),
        Failure(key="", status=2, message="there is no API key"),
    ],
)
async def test_what_cekura_says(store: CallStore, tmp_path: Path, desk: EvidenceDesk, failure: Failure) -> None:
    """A refusal is wrong use, a failure is not; what failed is left to the agent; the key is never shown."""
    record = await end_call(store, "aaaaaaa1")
    desk.always = failure.answer

    done = await push(tmp_path, record.call_uuid, key=failure.key)

    (document,) = store.find(record.call_uuid)
    assert (failure.status, failure.state) == (done.status, document["evidence"]["state"])
    assert failure.message in done.stderr
    assert "wrong-key" not in done.stderr


async def test_without_a_store(tmp_path: Path) -> None:
    """Where there are no records, the message says where they would be."""
    write_settings(tmp_path, {})

    for arguments in ((), ("run:1",)):
        done = await push(tmp_path, *arguments)
        assert 2 == done.status
        assert "there are no call records at" in done.stderr
