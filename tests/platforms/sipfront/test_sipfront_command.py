"""`sip-agent sipfront run`, as a person or a CI job runs it."""

import asyncio
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sip_agent.record import CallRecord
from sip_agent.status import Outcome
from sip_agent.store import CallStore
from tests.platforms.commands import Finished, sip_agent, write_settings
from tests.platforms.sipfront.stand_in import PUBLIC_KEY, SECRET_KEY, SESSION, SipfrontStandIn, failed


class Runs:
    """Runs the command against a stand-in; `call` has a call come in when the test is started."""

    def __init__(self, sipfront: SipfrontStandIn, folder: Path) -> None:
        self._folder = folder
        self._sipfront = sipfront
        self.store = CallStore.open("sqlite:///calls.db", base_dir=folder)
        write_settings(
            folder, {"sipfront": {"public_key": PUBLIC_KEY, "secret_key": SECRET_KEY, "base_url": sipfront.url}}
        )

    def call(self, user: str) -> None:
        """Have a call to a user come in with the start."""
        self._sipfront.on_start = lambda _: asyncio.ensure_future(self._store(user))

    async def __call__(self, *arguments: str, **environment: str) -> Finished:
        """Run `sip-agent sipfront run`."""
        return await sip_agent("sipfront", "run", *arguments, folder=self._folder, environment=environment)

    async def _store(self, user: str) -> None:
        now = datetime.now(UTC)
        await self.store.finish(
            CallRecord(
                call_uuid=str(uuid.uuid4()),
                request_uri=f"sip:{user}@127.0.0.1",
                to_uri=f"sip:{user}@127.0.0.1",
                invite_received_at=now,
                ended_at=now,
                outcome=Outcome.REJECTED,
                sip_status=486,
            )
        )


@pytest.fixture
async def run(sipfront: SipfrontStandIn, tmp_path: Path) -> Any:
    """Run the command with a store and the right keys."""
    runs = Runs(sipfront, tmp_path)
    yield runs
    await runs.store.close()


async def test_a_passed_test_with_its_call(run: Runs, sipfront: SipfrontStandIn) -> None:
    """Exit 0; the document has the call that came in for the destination."""
    run.call("agent")
    done = await run("basic-call-a-b", "--dial", "sip:agent@127.0.0.1:5060", "--require-call", "--kiosk", "--json")

    assert 0 == done.status, done.stderr
    document = done.document
    assert (True, False, SESSION) == (document["passed"], document["timed_out"], document["session_id"])
    assert ["sip:agent@127.0.0.1"] == [call["request_uri"] for call in document["calls"]]
    assert (["media", "prod", "validation"], []) == (document["tags"], document["advice"])
    assert ("kiosk", "sip:agent@127.0.0.1:5060") == (
        sipfront.fields["report.mode"],
        sipfront.fields["step.1.0.dial_destination"],
    )
    assert SESSION in done.stderr


async def test_a_failed_test(run: Runs, sipfront: SipfrontStandIn) -> None:
    """Exit 1, with Sipfront's reason and the report's address."""
    sipfront.life = [failed()]
    run.call("agent")
    done = await run("basic-call-a-b")

    assert 1 == done.status
    assert "failed (No CALL_ESTABLISHED on the caller)" in done.stdout
    assert f"https://app.sipfront.com/report/{SESSION}" in done.stdout
    assert "rejected with SIP 486" in done.stdout


async def test_a_call_that_never_came_fails_if_it_is_required(run: Runs) -> None:
    """The call of another destination is none of the test's."""
    run.call("other")
    done = await run("basic-call-a-b", "--dial", "agent", "--require-call", "--json")

    assert 1 == done.status
    assert [] == done.document["calls"]
    assert "no call came in meanwhile" in done.document["advice"][0]


async def test_limits_on_what_was_not_measured_fail(run: Runs) -> None:
    """What was not measured is not known to be good."""
    done = await run("basic-call-a-b", "--max-p95-latency", "1500", "--json")

    assert 1 == done.status
    assert ["sipfront", "p95_latency_ms"] == [check["name"] for check in done.document["checks"]]


async def test_a_test_that_is_not_over_in_time(run: Runs, sipfront: SipfrontStandIn) -> None:
    """Exit 3: nobody knows whether it passes."""
    sipfront.life = [{"status": "running"}]
    done = await run("media", "--timeout", "1s", "--json")

    assert (3, True) == (done.status, done.document["timed_out"])


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ((), {}, "which test?"),
        (("media", "--id", "3"), {}, "which test?"),
        (("nothing",), {}, "Test not found"),
        (("media", "--set", "x=1"), {}, "--set: 'x=1'"),
        (("media", "--step", "one"), {}, "--step: 'one'"),
        (("media", "--serve", "--agent-url", "http://a"), {}, "--serve and --agent-url"),
        (("media", "--no-records", "--require-call"), {}, "--no-records: only our own records tell"),
        (("media",), {"SIP_AGENT_SIPFRONT__SECRET_KEY": "wrong"}, "correct sipfront.public_key"),
        (("media",), {"SIP_AGENT_SIPFRONT__BASE_URL": "app.sipfront.com"}, "sipfront.base_url"),
        (("media",), {"SIP_AGENT_SIPFRONT__BODY": "xml"}, "sipfront.body"),
    ],
)
async def test_wrong_use(run: Runs, arguments: tuple[str, ...], environment: dict[str, str], said: str) -> None:
    """Exit 2, and one line that says what to do."""
    done = await run(*arguments, **environment)

    assert (2, "") == (done.status, done.stdout)
    assert said in done.stderr
    assert 1 == done.stderr.count("error: ")


async def test_missing_keys(tmp_path: Path) -> None:
    """Exit 2, before anything is sent."""
    done = await sip_agent("sipfront", "run", "media", folder=tmp_path)

    assert 2 == done.status
    assert "sipfront.public_key: not set" in done.stderr


async def test_a_lost_answer_starts_nothing_twice(run: Runs, sipfront: SipfrontStandIn) -> None:
    """Exit 3, and where to look."""
    sipfront.start_answer = lambda: web.Response(status=502)
    done = await run("media")

    assert (3, 1) == (done.status, sipfront.starts)
    assert "nothing is sent twice" in done.stderr


async def test_no_network(run: Runs) -> None:
    """Exit 3."""
    done = await run("media", SIP_AGENT_SIPFRONT__BASE_URL="http://127.0.0.1:9")

    assert 3 == done.status
    assert "cannot reach Sipfront" in done.stderr
