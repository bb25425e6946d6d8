"""Call records and recordings over HTTP."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sip_agent.record import CallRecord
from sip_agent.status import Outcome
from tests.api.conftest import NOW, Api

NewRecord = Callable[..., CallRecord]

SOUND = b"RIFF....WAVE" + bytes(range(256))


async def _keep(api: Api, *records: CallRecord) -> list[str]:
    """Store records and return their uuids."""
    for record in records:
        await api.store.finish(record)
    return [record.call_uuid for record in records]


async def _uuids(api: Api, parameters: Any = None) -> list[str]:
    document = await api.get("/calls", parameters)
    return [call["call_uuid"] for call in document["calls"]]


async def test_a_record_is_given_as_it_is_stored(api: Api, new_record: NewRecord) -> None:
    """The record over HTTP is the record itself: the same keys, the same values."""
    record = new_record(run_id="4711", headers={"X-Run-Id": ["4711"]}, transcript=[{"text": "Grüß Gott"}])
    await _keep(api, record)

    assert record.to_dict() == await api.get(f"/calls/{record.call_uuid}")
    assert {"calls": [record.to_dict()]} == await api.get("/calls")


async def test_no_calls_yet(api: Api) -> None:
    """An empty store is an empty list, and no error."""
    assert {"calls": []} == await api.get("/calls")


async def test_the_newest_come_first_and_limit_counts(api: Api, new_record: NewRecord) -> None:
    """Records come newest first, as many as `limit` says."""
    first, second, third = await _keep(api, new_record(), new_record(), new_record())

    assert [third, second, first] == await _uuids(api)
    assert [third, second] == await _uuids(api, {"limit": "2"})


async def test_a_response_is_bounded(api: Api, new_record: NewRecord) -> None:
    """Without `limit` a response has 100 records."""
    await _keep(api, *(new_record() for _ in range(101)))

    assert 100 == len(await _uuids(api))


async def test_filters(api: Api, new_record: NewRecord) -> None:
    """Each filter finds what it names, and several together what meets them all."""
    one = new_record(run_id="1", scenario_id="7", result_id="9", headers={"X-Tenant": ["acme: 1"], "X-Two": ["b"]})
    two = new_record(run_id="2", scenario_id="7", outcome=Outcome.FAILED, sip_status=500)
    first, second = await _keep(api, one, two)

    assert [first] == await _uuids(api, {"run_id": "1"})
    assert [second, first] == await _uuids(api, {"scenario_id": "7"})
    assert [first] == await _uuids(api, {"result_id": "9"})
    assert [first] == await _uuids(api, [("header", "x-tenant:acme: 1"), ("header", "X-Two: b")])
    assert [] == await _uuids(api, [("header", "X-Tenant:acme: 1"), ("header", "X-Two:c")])
    assert [second] == await _uuids(api, {"outcome": "failed"})
    assert [] == await _uuids(api, {"outcome": "failed", "run_id": "1"})


async def test_times(api: Api, new_record: NewRecord) -> None:
    """`since` is included and `until` is not; a time may be a moment, or how long ago it was."""
    recent = new_record(invite_received_at=datetime.now(UTC) - timedelta(minutes=5))
    old, older = new_record(), new_record(invite_received_at=NOW - timedelta(days=1))
    first, second, third = await _keep(api, recent, old, older)
    moment = (old.invite_received_at or NOW).isoformat()

    assert [first, second] == await _uuids(api, {"since": moment})
    assert [third] == await _uuids(api, {"until": moment})
    assert [first] == await _uuids(api, {"since": "10m"})
    assert [second, third] == await _uuids(api, {"until": "10m"})


async def test_a_call_that_goes_on_has_a_record(api: Api, new_record: NewRecord) -> None:
    """A call is found while it goes on: without outcome and end."""
    record = new_record(outcome=None, ended_at=None)
    await api.store.begin(record)

    found = await api.get(f"/calls/{record.call_uuid}")

    assert (None, None) == (found["outcome"], found["ended_at"])


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"limit": "1001"}, "limit"),
        ({"limit": "0"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"outcome": "splendid"}, "outcome"),
        ({"since": "yesterday"}, "since"),
        ({"until": "0001-01-01T00:00:00+23:59"}, "until"),
        ({"header": "X-Tenant"}, "header"),
        ({"header": ":acme"}, "header"),
        ([("header", f"X-{number}:1") for number in range(11)], "header"),
        ([("run_id", "1"), ("run_id", "2")], "run_id"),
        ({"runid": "1"}, "runid"),
    ],
)
async def test_a_wrong_parameter_is_named(api: Api, parameters: Any, named: str) -> None:
    """A parameter that is wrong or unknown is answered 400, with its name and what to write instead."""
    document = await api.get("/calls", parameters, status=400)

    assert ["error", "hint"] == list(document)
    assert named in document["error"]
    assert document["hint"]


async def test_every_kind_of_id(api: Api, new_record: NewRecord) -> None:
    """A call is found by its uuid or the start of it, its Call-ID, and the ids of its test run."""
    record = new_record(call_id="a/b?c%2F@caller.example.com", run_id="4711", scenario_id="7", result_id="9/1")
    await _keep(api, record, new_record())
    call_id = "a%2Fb%3Fc%252F@caller.example.com"
    uuid = record.call_uuid

    for identifier in (uuid, uuid[:8], call_id, "run:4711", "scenario:7", "result:9%2F1"):
        async with api.client.get(f"{api.server.url}/calls/{identifier}") as response:
            assert 200 == response.status, identifier
        found = await api.get(_encoded(f"{api.server.url}/calls/{identifier}"))
        assert uuid == found["call_uuid"]


def _encoded(url: str) -> Any:
    from yarl import URL  # noqa: PLC0415

    return URL(url, encoded=True)


async def test_an_unknown_call(api: Api) -> None:
    """An id that nobody has is answered 404, with a word on what to do."""
    document = await api.get("/calls/run:1", status=404)

    assert "'run:1'" in document["error"]
    assert "GET /calls" in document["hint"]


async def test_an_ambiguous_id(api: Api, new_record: NewRecord) -> None:
    """An id that several calls have is answered 300 with the choice, newest first."""
    first, second = await _keep(api, new_record(run_id="4711"), new_record(run_id="4711"))

    document = await api.get("/calls/run:4711", status=300)

    assert "'run:4711' names 2 call records" == document["error"]
    assert [second, first] == [call["call_uuid"] for call in document["calls"]]


async def test_an_id_that_very_many_have(api: Api, new_record: NewRecord) -> None:
    """The choice that an ambiguous id gives is bounded."""
    await _keep(api, *(new_record(run_id="4711") for _ in range(30)))

    document = await api.get("/calls/run:4711", status=300)

    assert 20 == len(document["calls"])
    assert "names 20 or more" in document["error"]


def _recorded(new_record: NewRecord, path: Path, **more: Any) -> CallRecord:
    return new_record(recording={"path": str(path), "state": "ok", "error": None} | more)


async def test_a_recording(api: Api, new_record: NewRecord) -> None:
    """A recording is given as the file is, and a part of it where a part is asked for."""
    path = api.recordings_dir / "2026-03-01" / "a.wav"
    path.parent.mkdir(parents=True)
    path.write_bytes(SOUND)
    (uuid,) = await _keep(api, _recorded(new_record, path))

    async with api.client.get(f"/calls/{uuid}/recording") as response:
        assert (200, "audio/wav") == (response.status, response.content_type)
        assert f'inline; filename="{uuid}.wav"' == response.headers["Content-Disposition"]
        assert SOUND == await response.read()
    async with api.client.get(f"/calls/{uuid}/recording", headers={"Range": "bytes=12-15"}) as response:
        assert (206, SOUND[12:16]) == (response.status, await response.read())


@pytest.mark.parametrize("path", ["../calls.db", "/etc/passwd", "link.wav", "."])
async def test_no_file_outside_of_the_recordings(api: Api, new_record: NewRecord, path: str) -> None:
    """A record cannot make the API give out a file that is no recording: not by .., nor by a link."""
    api.recordings_dir.mkdir()
    (api.recordings_dir / "link.wav").symlink_to("/etc/passwd")
    (uuid,) = await _keep(api, _recorded(new_record, api.recordings_dir / path))

    document = await api.get(f"/calls/{uuid}/recording", status=404)

    assert ["error", "hint"] == list(document)


@pytest.mark.parametrize(
    ("fields", "error", "hint"),
    [
        ({"recording": None}, "has no recording", "media.record"),
        ({"recording": None, "ended_at": None, "outcome": None}, "goes on", "when it is over"),
        ({"recording": {"path": "a.wav", "state": "failed", "error": "disk full"}}, "is not there", "disk full"),
        ({"recording": {"path": "a.wav", "state": "ok", "error": None}}, "is not there", "removed"),
        ({"recording": {"path": "/elsewhere/a.wav", "state": "ok", "error": None}}, "elsewhere", "recordings_dir"),
    ],
)
async def test_no_recording(api: Api, new_record: NewRecord, fields: dict[str, Any], error: str, hint: str) -> None:
    """Where there is no recording, the 404 says why."""
    if recording := fields["recording"]:
        recording = recording | {"path": str(api.recordings_dir / recording["path"])}
    record = new_record(**(fields | {"recording": recording}))
    await (api.store.finish(record) if record.outcome else api.store.begin(record))

    document = await api.get(f"/calls/{record.call_uuid}/recording", status=404)

    assert error in document["error"]
    assert hint in document["hint"]


async def test_text_that_is_no_unicode(api: Api, new_record: NewRecord) -> None:
    """Bytes that a caller sent and that are no text do not break the response."""
    await _keep(api, new_record(headers={"X-Odd": ["\udcff\0"]}))

    document = await api.get("/calls")

    assert 1 == len(document["calls"])
