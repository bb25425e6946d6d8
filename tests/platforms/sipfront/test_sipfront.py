"""The client of Sipfront, against a stand-in; and which of our calls belong to a run."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from sip_agent.config import BodyFormat
from sip_agent.errors import SettingsError
from sip_agent.platforms.errors import PlatformError, Refused, StartUncertain, Unavailable
from sip_agent.platforms.sipfront import (
    SipfrontClient,
    TestRequest,
    TestRun,
    calls_of,
    read_overrides,
)
from tests.platforms.clock import FakeClock
from tests.platforms.sipfront.stand_in import PUBLIC_KEY, SECRET_KEY, SESSION, SipfrontStandIn, failed, finished

SINCE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def client_of(sipfront: SipfrontStandIn, clock: FakeClock | None = None, **given: Any) -> SipfrontClient:
    """Return a client with the right keys."""
    keys: dict[str, Any] = {"public_key": PUBLIC_KEY, "secret_key": SECRET_KEY} | given
    return SipfrontClient(sipfront.url, clock=(clock or FakeClock()).clock, **keys)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(BodyFormat.FORM, "application/x-www-form-urlencoded"), (BodyFormat.JSON, "application/json")],
)
async def test_a_test_is_started(sipfront: SipfrontStandIn, body: BodyFormat, content_type: str) -> None:
    """By name, with what is overridden step by step, as a form or as JSON."""
    overrides = read_overrides(["step.0.0.regexpire=3600"], dial_destination="sip:agent@example.com", target_pool="")
    async with client_of(sipfront, body=body) as client:
        started = await client.start(TestRequest(name="basic-call-a-b", overrides=overrides, kiosk=True))

    expected = {
        "test.name": "basic-call-a-b",
        "step.0.0.regexpire": "3600",
        "step.1.0.dial_destination": "sip:agent@example.com",
        "report.mode": "kiosk",
    }
    assert expected == sipfront.fields
    assert content_type == sipfront.content_type
    assert (SESSION, f"https://app.sipfront.com/report/{SESSION}") == (started.session_id, started.report_url)


async def test_a_test_is_started_by_its_id(sipfront: SipfrontStandIn) -> None:
    """Then its name is not sent."""
    async with client_of(sipfront) as client:
        await client.start(TestRequest(test_id=123))

    assert {"test.id": "123"} == sipfront.fields


@pytest.mark.parametrize(
    ("keys", "named"), [({"secret_key": "wrong"}, "secret_key_file"), ({"public_key": "x"}, "401")]
)
async def test_wrong_keys_are_refused(sipfront: SipfrontStandIn, keys: dict[str, Any], named: str) -> None:
    """The settings to correct are named, and the key is not shown."""
    async with client_of(sipfront, **keys) as client:
        with pytest.raises(Refused, match=named) as refused:
            await client.start(TestRequest(name="media"))

    assert 2 == refused.value.exit_status
    assert not any(key in str(refused.value) for key in ("wrong", SECRET_KEY))


def _keys(**changed: str) -> dict[str, Any]:
    return {"public_key": "a", "secret_key": "b"} | changed


@pytest.mark.parametrize("missing", ["public_key", "secret_key"])
def test_missing_keys_are_named(missing: str) -> None:
    """Before anything is sent."""
    with pytest.raises(SettingsError, match=f"sipfront.{missing}"):
        SipfrontClient("http://127.0.0.1:1", **_keys(**{missing: ""}))


async def test_an_unknown_test_is_refused(sipfront: SipfrontStandIn) -> None:
    """With what Sipfront says."""
    async with client_of(sipfront) as client:
        with pytest.raises(Refused, match="Test not found"):
            await client.start(TestRequest(name="nothing"))

    assert 1 == sipfront.starts


def _refusal_inside() -> web.Response:
    return web.json_response({"status": 422, "error": "step.9.0: no such step"})


async def test_a_refusal_inside_of_a_success_is_one(sipfront: SipfrontStandIn) -> None:
    """HTTP 200, whose document has an error status and no session."""
    sipfront.start_answer = _refusal_inside
    async with client_of(sipfront) as client:
        with pytest.raises(Refused, match="no such step"):
            await client.start(TestRequest(name="media"))


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(text="{"),
        lambda: web.json_response({"status": 200}),
        lambda: web.json_response(["session"]),
        lambda: web.json_response({}, status=502),
    ],
)
async def test_nothing_is_started_twice(sipfront: SipfrontStandIn, answer: Callable[[], web.Response]) -> None:
    """When the answer is lost, or cannot be used, people are told where to look."""
    sipfront.start_answer = answer
    async with client_of(sipfront) as client:
        with pytest.raises(StartUncertain, match="may have been started"):
            await client.start(TestRequest(name="media"))

    assert 1 == sipfront.starts


async def test_no_network_starts_nothing() -> None:
    """And it is certain that nothing was."""
    async with SipfrontClient("http://127.0.0.1:1", "a", "b") as client:
        with pytest.raises(Unavailable) as unavailable:
            await client.start(TestRequest(name="media"))

    assert not unavailable.value.sent
    assert 3 == unavailable.value.exit_status


async def test_a_run_is_followed_to_its_end(sipfront: SipfrontStandIn) -> None:
    """Every change is told; failures meanwhile are ridden out."""
    sipfront.life = [{"status": "running"}, {"status": "running"}, finished()]
    sipfront.looks_to_fail = 2
    clock, seen = FakeClock(), []
    async with client_of(sipfront, clock) as client:
        run = await client.until_over(SESSION, timeout_s=60, on_change=lambda run: seen.append(run.status))

    assert ["running", "passed"] == seen
    assert (True, "basic-call-a-b", ("media", "prod", "validation")) == (run.passed, run.test_name, run.tags)
    assert 2 == clock.waits.count(3.0)


async def test_a_run_that_does_not_end_is_given_up(sipfront: SipfrontStandIn) -> None:
    """At the deadline its verdict is open."""
    sipfront.life = [{"status": "running"}]
    async with client_of(sipfront) as client:
        run = await client.until_over(SESSION, timeout_s=60, on_change=lambda _: None)

    assert run.passed is None


@pytest.mark.parametrize(
    ("document", "passed"),
    [
        ({"status": "running"}, None),
        ({}, None),
        ({"status": "something new"}, None),
        ({"status": "something new", "is_finished": 1}, False),
        ({"session_status": "passed"}, True),
        ({"session_status": "failed"}, False),
        ({"status": "PASSED"}, True),
        (finished(is_finished=0), None),
        (finished(has_passed="1", is_finished="1", is_failed="0"), True),
        (finished(is_failed=1), False),
        (finished(has_passed=0), False),
        (finished(tags="no JSON", result_description=None), True),
        (failed(), False),
    ],
)
def test_verdicts(document: dict[str, Any], passed: bool | None) -> None:
    """A run has passed if nothing says that it has not; an unknown status is none until it is finished."""
    assert passed is TestRun.parse({"run": document}, SESSION).passed


@pytest.mark.parametrize("answer", [None, [], {"run": None}, {"status": 200}])
def test_an_answer_without_a_run_is_an_error(answer: object) -> None:
    """And never taken for a status."""
    with pytest.raises(PlatformError, match="has no 'run'"):
        TestRun.parse(answer, SESSION)


@pytest.mark.parametrize("text", ["dial_destination=1", "step.1.dial_destination=1", "step.a.0.x=1", "step.1.0.x", "="])
def test_overrides_of_another_form_are_wrong_use(text: str) -> None:
    """The message has an example."""
    with pytest.raises(SettingsError, match=r"step\.1\.0\.max_total_calls=10"):
        read_overrides([text])


def test_an_override_that_is_given_twice_is_wrong_use() -> None:
    """Also if one of the two is an option of its own."""
    with pytest.raises(SettingsError, match="given twice"):
        read_overrides(["step.2.1.target_pool=a"], step="2.1", target_pool="b")


def test_a_value_may_hold_anything() -> None:
    """The first equals sign ends the key."""
    assert {"step.1.1.dial_destination": "sip:a@b;x=y"} == read_overrides(["step.1.1.dial_destination=sip:a@b;x=y"])


def record(after_s: float, uri: str = "sip:agent@192.0.2.1:5060", direction: str = "inbound") -> dict[str, Any]:
    """Return what is read of a call record."""
    received_at = (SINCE + timedelta(seconds=after_s)).isoformat()
    return {"direction": direction, "invite_received_at": received_at, "request_uri": uri, "to_uri": uri}


@pytest.mark.parametrize(
    ("destination", "uri", "found"),
    [
        ("", "sip:anybody@192.0.2.1", True),
        ("sip:agent@agent.example.com:5060", "sip:agent@192.0.2.1:5060", True),
        ("agent@agent.example.com", "sip:agent@192.0.2.1", True),
        ("439992002", "sip:439992002@192.0.2.1", True),
        ("tel:439992002", "sip:439992002@192.0.2.1", True),
        ("sip:other@agent.example.com", "sip:agent@192.0.2.1", False),
    ],
)
def test_a_call_is_told_by_its_destination(destination: str, uri: str, found: bool) -> None:
    """The user or number that is dialled; the host may be another one on the way."""
    calls = calls_of([record(1, uri)], destination=destination, since=SINCE, until=SINCE + timedelta(seconds=10))
    assert found is bool(calls)


@pytest.mark.parametrize(("after_s", "found"), [(-6, False), (-4, True), (0, True), (14, True), (16, False)])
def test_a_call_is_told_by_its_time(after_s: float, found: bool) -> None:
    """From the start to the end, and a little around."""
    calls = calls_of([record(after_s)], destination="", since=SINCE, until=SINCE + timedelta(seconds=10))
    assert found is bool(calls)


def test_calls_of_our_own_are_none_of_a_test() -> None:
    """Sipfront calls us."""
    calls = calls_of([record(1, direction="outbound")], destination="", since=SINCE, until=SINCE)
    assert [] == calls
