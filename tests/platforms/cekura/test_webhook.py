"""What Cekura tells by itself."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sip_agent.admission import AnnouncedRuns
from sip_agent.errors import CallRejected
from sip_agent.platforms.cekura.model import AnswerError
from sip_agent.platforms.cekura.webhook import KEYS_MAX, CekuraWebhook
from sip_agent.store import CallStore


class Listener:
    """A webhook, the runs it announces, and how often it had handlers warmed up."""

    def __init__(self, store: CallStore) -> None:
        self.announced = AnnouncedRuns()
        self.warmed = 0
        self.warm = asyncio.Event()
        self.hook = CekuraWebhook("s3cret", announced=self.announced, outbox=store.outbox, warm_up=self._warm_up)

    async def _warm_up(self) -> None:
        self.warmed += 1
        await self.warm.wait()

    def expects(self, run_id: str) -> bool:
        """Tell whether a call of this run would be admitted."""
        try:
            self.announced.check(run_id, asyncio.get_running_loop().time())
        except CallRejected:
            return False
        return True


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CallStore]:
    """Open a store."""
    opened = CallStore.open("sqlite:///calls.db", base_dir=tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def listener(store: CallStore) -> Listener:
    """Listen to webhooks."""
    return Listener(store)


def announcement(*run_ids: int) -> dict[str, Any]:
    """Return an event as documented."""
    runs = {
        str(run_id): {
            "id": run_id,
            "scenario": {"id": 205, "name": "Booking"},
            "test_profile": {"id": 12, "information": {"main_agent_variables": {"allow": True}}},
            "phone_number": "+14155550123",
        }
        for run_id in run_ids
    }
    data = {"result_id": 95, "label": "My test run", "agent_id": "1", "timestamp": "2025-07-31T11:13:42Z", "runs": runs}
    return {"event_type": "result.pre_trigger", "data": data}


async def test_runs_are_announced(listener: Listener) -> None:
    """The answer does not wait for handlers that make ready."""
    answer = await listener.hook.take(announcement(1, 2), "result_pre_trigger:95")

    assert {"event_type": "result.pre_trigger", "result_id": "95", "expected_runs": 2} == answer
    assert [True, True, False] == [listener.expects(run_id) for run_id in ("1", "2", "3")]
    await asyncio.sleep(0)
    assert 1 == listener.warmed


async def test_a_repeated_announcement(listener: Listener) -> None:
    """The same key does nothing twice, however often it comes; another one does."""
    for key in ("a", "a", "b", "a"):
        answer = await listener.hook.take(announcement(1), f"result_pre_trigger:{key}")
        await asyncio.sleep(0)

    assert (2, True) == (listener.warmed, answer["repeated"])


async def test_keys_are_bounded(listener: Listener) -> None:
    """What is remembered does not grow for ever."""
    for number in range(KEYS_MAX + 5):
        await listener.hook.take(announcement(), f"result_pre_trigger:{number}")

    assert KEYS_MAX == len(listener.hook._keys)


async def test_runs_as_a_list_and_ids_as_text(listener: Listener) -> None:
    """What is read is read leniently."""
    await listener.hook.take({"event_type": "result.pre_trigger", "data": {"result_id": "9", "runs": [{"id": "7"}, 3]}})

    assert listener.expects("7")


async def test_a_result_is_kept_by_run(listener: Listener, store: CallStore) -> None:
    """Each run's verdict with Cekura's reasons, and one log entry for the result."""
    metrics = [
        {"name": "workflow", "type": "binary_workflow_adherence", "score": 0, "explanation": ["It", "failed."]},
        {"name": "tone", "type": "binary_workflow_adherence", "score": 5, "explanation": []},
    ]
    runs = {
        "1": {"id": 301, "success": True, "expected_outcome": {"score": 90}, "evaluation": {"metrics": []}},
        "4": {"id": 4, "success": False, "scenario": {"name": "Activation"}, "evaluation": {"metrics": metrics}},
    }
    with capture_logs() as logs:
        answer = await listener.hook.take(
            {"event_type": "result.completed", "data": {"id": 101, "status": "completed", "runs": runs}}
        )

    with store._engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT run_id, document FROM verdicts").all()
    found = {str(row[0]): str(row[1]) for row in rows}
    assert {"event_type": "result.completed", "result_id": "101", "noted_runs": 2} == answer
    assert ({"301", "4"}, [(101, 1, [4])]) == (
        set(found),
        [(entry["result_id"], entry["passed"], entry["failed"]) for entry in logs],
    )
    assert '"passed":true' in found["301"]
    assert '"expected_outcome_score":90.0' in found["301"]
    assert '"reasons":["workflow: It failed."]' in found["4"]


async def test_other_events_are_none_of_ours(listener: Listener) -> None:
    """They are answered, so that nobody repeats them."""
    answer = await listener.hook.take({"event_type": "call_log.completed", "data": {}})

    assert {"event_type": "call_log.completed", "ignored": True} == answer


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {},
        {"event_type": "result.pre_trigger"},
        {"event_type": "result.pre_trigger", "data": []},
        {"event_type": "result.pre_trigger", "data": {"runs": {"1": {"id": 1}}}},
        {"event_type": "result.completed", "data": {"id": "x", "runs": {}}},
    ],
)
async def test_what_is_no_event(listener: Listener, event: Any) -> None:
    """It is said to be none."""
    with pytest.raises(AnswerError):
        await listener.hook.take(event)


@pytest.mark.parametrize("secret", ["", "s3cre", "S3cret", "s3cret ", "s3crét", "s3cret\udc80"])
async def test_a_wrong_secret(listener: Listener, secret: str) -> None:
    """Nothing but the secret is the secret."""
    assert (False, True) == (listener.hook.admits(secret), listener.hook.admits("s3cret"))
