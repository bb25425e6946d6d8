"""What Cekura tells by itself: which runs it is about to start, and what became of a result.

Source: docs.cekura.ai/documentation/advanced/webhook-format. The secret comes in clear in `X-CEKURA-SECRET`; there is
no signature.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from sip_agent.admission import AnnouncedRuns
from sip_agent.platforms.cekura.model import AnswerError, Result, Run, text_of
from sip_agent.record import format_timestamp
from sip_agent.store import Outbox

log = structlog.get_logger()

KEYS_MAX = 1000
"""Idempotency keys that are remembered: Cekura repeats a request up to three times, soon."""

REASONS_MAX = 20
REASON_LENGTH_MAX = 1000


class CekuraWebhook:
    """Takes the events of Cekura's webhooks.

    `warm_up` is called when runs are announced, and not waited for: Cekura places no call before it is answered.
    """

    def __init__(
        self, secret: str, *, announced: AnnouncedRuns, outbox: Outbox, warm_up: Callable[[], Awaitable[None]]
    ) -> None:
        self._secret = secret.encode()
        self._announced = announced
        self._outbox = outbox
        self._warm_up = warm_up
        self._keys: dict[str, None] = {}
        self._tasks: set[asyncio.Future[None]] = set()

    def admits(self, secret: str) -> bool:
        """Tell whether this is the secret, in the same time whatever it is."""
        return hmac.compare_digest(secret.encode("utf-8", "surrogateescape"), self._secret)

    async def take(self, event: Any, idempotency_key: str = "") -> dict[str, Any]:
        """Take an event and return what it is answered; raises AnswerError if it is none, StoreError if it is lost."""
        data = event.get("data") if isinstance(event, Mapping) else None
        if not isinstance(data, Mapping):
            raise AnswerError("the event has no object `data`")
        kind = text_of(event.get("event_type"))
        if kind == "result.pre_trigger":
            return self._announce(data, idempotency_key)
        if kind == "result.completed":
            return await self._judge(data)
        log.info("cekura.event_ignored", event_type=kind[:100])
        return {"event_type": kind, "ignored": True}

    def _announce(self, data: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        result_id = text_of(data.get("result_id"))
        runs = Result.parse({"id": result_id, "runs": data.get("runs")}).runs
        answer = {"event_type": "result.pre_trigger", "result_id": result_id, "expected_runs": len(runs)}
        if idempotency_key and idempotency_key in self._keys:
            return answer | {"repeated": True}
        self._keys[idempotency_key] = None
        if len(self._keys) > KEYS_MAX:
            del self._keys[next(iter(self._keys))]
        self._announced.announce((str(run.id) for run in runs), time.monotonic())
        log.info("cekura.runs_announced", result_id=result_id, runs=len(runs))
        task = asyncio.ensure_future(self._warm_up())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer

    async def _judge(self, data: Mapping[str, Any]) -> dict[str, Any]:
        # The items of this event have no status of their own; the event says that they are over.
        runs = data.get("runs")
        items = runs.items() if isinstance(runs, Mapping) else enumerate(runs if isinstance(runs, list) else ())
        over = {key: {"status": "completed", **item} for key, item in items if isinstance(item, Mapping)}
        result = Result.parse({**data, "runs": over})
        received_at = format_timestamp(datetime.now(UTC))
        verdicts = {str(run.id): _verdict(run, result.id) | {"received_at": received_at} for run in result.runs}
        passed = sum(run.passed for run in result.runs)
        log.info(
            "cekura.result_completed",
            result_id=result.id,
            status=result.status,
            passed=passed,
            failed=[run.id for run in result.runs if not run.passed],
        )
        await asyncio.to_thread(self._outbox.note_verdicts, verdicts)
        return {"event_type": "result.completed", "result_id": str(result.id), "noted_runs": len(verdicts)}


def _verdict(run: Run, result_id: int) -> dict[str, Any]:
    return {
        "passed": run.passed,
        "reasons": [reason[:REASON_LENGTH_MAX] for reason in run.reasons[:REASONS_MAX]],
        "expected_outcome_score": None if run.expected_outcome is None else run.expected_outcome.score,
        "scenario_name": run.scenario_name,
        "result_id": str(result_id),
    }
