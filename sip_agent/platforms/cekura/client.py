"""Cekura's API: one method per endpoint. https://docs.cekura.ai (API reference), https://docs.cekura.ai/openapi.json."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import aiohttp

from sip_agent.errors import SettingsError
from sip_agent.platforms.cekura.model import Agent, AnswerError, Result, Run, Scenario, StartedRun, runs_in
from sip_agent.platforms.errors import BROKEN, PlatformError, Refused, StartUncertain, Unavailable
from sip_agent.platforms.http import PATIENCE_S, Clock, HttpClient, Service, ServiceClient

T = TypeVar("T")
RunKind = Literal["sip", "agora", "pipecat", "voice"]

START_TIMEOUT_S = 120.0
"""The answer to a starting request is waited for longer than others: without it, nobody knows what was started."""

UPLOAD_TIMEOUT_S = 300.0
"""A recording of half an hour has 115 MB."""

PAGE_SIZE = 100
PAGES_MAX = 100
RUNS_AT_ONCE = 100
"""Run ids in one address: it stays below 2000 characters."""

TRANSCRIPT_PATH = "/test_framework/custom-provider-transcript-webhook"

SERVICE_NAME = "Cekura"


class CekuraClient(ServiceClient):
    """Asks Cekura; `async with CekuraClient(base_url, api_key) as client`.

    Every method raises PlatformError: Refused where Cekura said no, Unavailable where it gave no usable answer.
    Only reading (GET) is repeated after a failure.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        clock: Clock | None = None,
        on_retry: Callable[[Unavailable, float], None] | None = None,
    ) -> None:
        if not api_key:
            raise SettingsError(
                "cekura.api_key_file: there is no API key: write it into a file and name that here, "
                "or set SIP_AGENT_CEKURA__API_KEY (keys are made at Cekura under Settings → API Keys)"
            )
        service = Service(
            name=SERVICE_NAME,
            base_url=base_url,
            base_url_setting="cekura.base_url",
            credentials_setting="cekura.api_key_file, or SIP_AGENT_CEKURA__API_KEY",
        )
        headers = {"X-CEKURA-API-KEY": api_key}
        super().__init__(HttpClient(service, headers=headers, secrets=(api_key,), clock=clock, on_retry=on_retry))

    async def start_sip_run(self, body: Mapping[str, Any]) -> StartedRun:
        """Let Cekura call the agent by SIP; see `start_run`."""
        return await self.start_run("sip", body)

    async def start_run(self, kind: RunKind, body: Mapping[str, Any]) -> StartedRun:
        """Start runs. The request is sent once, whatever happens: a second one would place every call twice.

        Raises StartUncertain when it was sent and its answer was lost.
        """
        path = f"/test_framework/v1/scenarios/run_scenarios{'' if kind == 'voice' else f'_{kind}'}/"
        timeout = aiohttp.ClientTimeout(total=START_TIMEOUT_S)
        try:
            return StartedRun.parse(await self.http.post(path, json=dict(body), timeout=timeout))
        except Refused as error:
            raise _start_refused(error, kind) from error
        except Unavailable as error:
            if not error.sent:
                raise
            raise _start_uncertain(error.message, body) from error
        except AnswerError as error:
            raise _start_uncertain(f"{SERVICE_NAME}'s answer cannot be used ({error})", body) from error

    async def runs(
        self, run_ids: Sequence[int], *, result_id: int | None = None, patience_s: float = PATIENCE_S
    ) -> list[Run]:
        """Return what is known of runs; those that Cekura does not know are left out."""
        found: list[Run] = []
        for first in range(0, len(run_ids), RUNS_AT_ONCE):
            chunk = run_ids[first : first + RUNS_AT_ONCE]
            params = {"run_ids": ",".join(map(str, chunk))}
            if result_id is not None:
                params["result_id"] = str(result_id)
            answer = await self.http.get("/test_framework/v2/runs/bulk/", params=params, patience_s=patience_s)
            if isinstance(answer, Mapping):
                answer = answer.get("results")
            found += runs_in(answer)
        return found

    async def result(self, result_id: int, *, patience_s: float = PATIENCE_S) -> Result:
        """Return a result with its runs."""
        path = f"/test_framework/v2/results/{result_id}/"
        return self._parsed(Result.parse, await self.http.get(path, patience_s=patience_s), path)

    async def results(
        self, *, agent_id: int | None = None, name: str = "", patience_s: float = PATIENCE_S
    ) -> list[Result]:
        """Return the newest results, those of an agent or with a name."""
        params = {"page_size": "20"}
        if agent_id:
            params["agent_id"] = str(agent_id)
        if name:
            params["search"] = name
        path = "/test_framework/v2/results/"
        answer = await self.http.get(path, params=params, patience_s=patience_s)
        return [self._parsed(Result.parse, item, path) for item in _items(answer)]

    async def end_calls(self, result_id: int) -> None:
        """End every call of a result that goes on; ending them twice does no harm."""
        await self.http.repeat("POST", f"/test_framework/v2/results/{result_id}/end_calls/", patience_s=PATIENCE_S)

    async def end_call(self, run_id: int) -> None:
        """End the call of a run; ending it twice does no harm."""
        await self.http.repeat("POST", f"/test_framework/v2/runs/{run_id}/end_call/", patience_s=PATIENCE_S)

    async def scenarios(
        self, *, agent_id: int | None = None, tags: Sequence[str] = (), folder_path: str | None = None
    ) -> list[Scenario]:
        """Return the scenarios that meet every condition, from all pages, in Cekura's order."""
        path = "/test_framework/v1/scenarios/"
        params = {"page_size": str(PAGE_SIZE)}
        if agent_id:
            params["agent_id"] = str(agent_id)
        if tags:
            params["tags"] = ",".join(tags)
        if folder_path is not None:
            params["folder_path"] = folder_path
        found: dict[int, Scenario] = {}
        for page in range(1, PAGES_MAX + 1):
            answer = await self.http.get(path, params=params | {"page": str(page)})
            for item in _items(answer):
                scenario = self._parsed(Scenario.parse, item, path)
                found.setdefault(scenario.id, scenario)
            if not isinstance(answer, Mapping) or not answer.get("next"):
                return list(found.values())
        raise PlatformError(
            f"{SERVICE_NAME} lists more than {PAGES_MAX * PAGE_SIZE} scenarios",
            "ask for fewer: by agent, tag or folder",
            exit_status=BROKEN,
        )

    async def agent(self, agent_id: int) -> Agent:
        """Return an agent as Cekura has it set up."""
        path = f"/test_framework/v2/aiagents/{agent_id}/"
        return self._parsed(Agent.parse, await self.http.get(path), path)

    async def send_transcript(self, payload: Mapping[str, Any], *, url: str = TRANSCRIPT_PATH) -> None:
        """Send transcripts of calls, by run id; `url` is a path, or the whole address that Cekura gave.

        What the answer looks like is not documented: its status counts.
        """
        await self.http.send("POST", url, json=dict(payload))

    async def observe(self, fields: Mapping[str, Any], recording: Path | None = None) -> None:
        """Send a production call to Cekura's observability, with its recording if there is one."""
        path = "/observability/v1/observe/"
        if recording is None:
            await self.http.send("POST", path, json=dict(fields))
            return
        form = aiohttp.FormData()
        for name, value in fields.items():
            form.add_field(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        with recording.open("rb") as file:
            form.add_field("voice_recording", file, filename=recording.name, content_type="audio/wav")
            timeout = aiohttp.ClientTimeout(total=UPLOAD_TIMEOUT_S)
            await self.http.send("POST", path, data=form, timeout=timeout)

    def _parsed(self, parse: Callable[[Any], T], document: Any, path: str) -> T:
        try:
            return parse(document)
        except AnswerError as error:
            raise PlatformError(
                f"{SERVICE_NAME}'s answer to {path} cannot be used ({error})",
                f"is cekura.base_url right ({self.http.service.base_url})?",
            ) from error


def _items(answer: Any) -> list[Any]:
    """Return the items of a list: a page of it, or a bare array."""
    items = answer.get("results") if isinstance(answer, Mapping) else answer
    return items if isinstance(items, list) else []


def _start_refused(error: Refused, kind: RunKind) -> Refused:
    """Say what to do about a refused start."""
    said = json.dumps(error.document).lower()
    if error.field("sip_endpoint"):
        hint = "give one: --sip-endpoint sip:agent@HOST:PORT, --serve with sip.public_address, or the agent's settings"
    elif kind == "agora" and error.field("agent"):
        hint = "give the agent at Cekura its session endpoint, https://HOST/agora/session, and agora.secret"
    elif "insufficient balance" in said:
        hint = f"add credits at {SERVICE_NAME}, or run fewer scenarios"
    elif error.field("scenarios"):
        hint = f"check the scenarios' ids, and that they are those of this agent ({kind} runs)"
    else:
        hint = error.hint
    hint = f"{hint}; nothing was started" if hint else "nothing was started"
    return Refused(error.message, hint, status=error.status, document=error.document)


def _start_uncertain(cause: str, body: Mapping[str, Any]) -> StartUncertain:
    name = f" named {body['name']!r}" if body.get("name") else ""
    return StartUncertain(
        f"the runs may have been started: {cause}",
        f"nothing is sent twice; look at {SERVICE_NAME} under Results for a recent one{name}, "
        "then: sip-agent cekura wait RESULT_ID",
    )
