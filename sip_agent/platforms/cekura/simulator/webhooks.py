"""The webhooks: `result.pre_trigger` before the first call, `result.completed` after the last.

Documented (docs.cekura.ai, Webhook Format): X-CEKURA-SECRET with the secret in clear, an agent's address and secret
instead of the project's, the bodies; of the first one that it is waited for 30 s, tried up to three times again, and
its X-CEKURA-IDEMPOTENCY-KEY. Our own choice: the calls are placed also when nobody answers, and the second one is
sent once.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Self

import aiohttp
import structlog

from sip_agent.platforms.cekura.simulator.documents import Documents
from sip_agent.platforms.cekura.simulator.runs import Result
from sip_agent.platforms.cekura.simulator.world import Webhook

log = structlog.get_logger()

TIMEOUT_S = 30.0
RETRIES = 3
RETRY_PAUSE_S = 1.0


class Webhooks:
    """Sends the webhooks of one project; `async with` opens and closes its connections."""

    def __init__(self, project: Webhook, documents: Documents) -> None:
        self._project = project
        self._documents = documents
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def pre_trigger(self, result: Result) -> None:
        """Announce a result's runs, if the project wants that, and wait for the answer."""
        url, secret = self._target(result)
        if not url or not self._project.notify_pre_run_webhook:
            return
        document = self._documents.pre_trigger(result)
        key = {"X-CEKURA-IDEMPOTENCY-KEY": f"result_pre_trigger:{result.id}"}
        for attempt in range(1 + RETRIES):
            if attempt:
                await asyncio.sleep(RETRY_PAUSE_S)
            if await self._post(url, secret, document, key):
                return

    async def completed(self, result: Result) -> None:
        """Tell that a result is over."""
        url, secret = self._target(result)
        if url:
            await self._post(url, secret, self._documents.completed(result), {})

    def _target(self, result: Result) -> tuple[str, str]:
        agent = result.agent
        if agent.webhook_url:
            return agent.webhook_url, agent.webhook_secret.get_secret_value()
        return self._project.url, self._project.secret.get_secret_value()

    async def _post(self, url: str, secret: str, document: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
        headers = {"X-CEKURA-SECRET": secret, **headers}
        try:
            async with self._session.post(url, json=document, headers=headers, allow_redirects=False) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.warning("stand_in.webhook_failed", event_type=document["event_type"], error=str(error) or "too late")
            return False
        log.info("stand_in.webhook_sent", event_type=document["event_type"], status=status)
        return 200 <= status < 300
