"""The whole way round, with the stand-in for Cekura: announced, called, sent, judged, and all of it in one record."""

import json
import socket
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from sip_agent.platforms.cekura.simulator.world import EXAMPLE
from tests.calls.agent_process import AgentProcess, eventually
from tests.platforms.cekura.simulator.processes import API_KEY, PASSWORD, stand_in
from tests.ports import free_port

SECRET = "a-shared-secret"


def ask(url: str, path: str, body: Any = None) -> Any:
    """Return what the stand-in answers."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"X-CEKURA-API-KEY": API_KEY, "Content-Type": "application/json"}
    with urlopen(Request(f"{url}{path}", data, headers), timeout=10) as response:  # noqa: S310  (our own address)
        return json.load(response)


def test_one_run(tmp_path: Path) -> None:
    """An agent that takes announced runs alone is called, sends its transcript, and learns the verdict."""
    api_port, cekura_port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
    script = EXAMPLE.with_name("restaurant.yaml")
    settings = {
        "auth": {"users": {"cekura": PASSWORD}},
        "routes": [{"match": {}, "handler": "script", "options": {"file": str(script)}}],
        "api": {"bind": f"127.0.0.1:{api_port}"},
        "cekura": {
            "base_url": f"http://127.0.0.1:{cekura_port}",
            "api_key": API_KEY,
            "webhook_secret": SECRET,
            "announced_runs_only": True,
        },
    }
    webhook = {
        "url": f"http://127.0.0.1:{api_port}/cekura/webhook",
        "secret": SECRET,
        "notify_pre_run_webhook": True,
    }
    with (
        AgentProcess(tmp_path / "agent", settings) as agent,
        stand_in(tmp_path, agent, bind=f"127.0.0.1:{cekura_port}", webhook=webhook) as url,
    ):
        started = ask(url, "/test_framework/v1/scenarios/run_scenarios_sip/", {"agent_id": 5, "scenarios": [102]})
        run_id = started["runs"][0]["id"]

        def judged() -> dict[str, Any] | None:
            records = [record for record in agent.records(f"run:{run_id}") if record["verdict"] and record["evidence"]]
            return next((record for record in records if record["evidence"]["state"] == "sent"), None)

        record = eventually(judged, f"verdict of the run, and its evidence sent, see {agent.log_file}", 60)

        assert ("answered", None) == (record["outcome"], record["evidence"]["reason"])
        assert (True, [], str(started["id"])) == (
            record["verdict"]["passed"],
            record["verdict"]["reasons"],
            record["verdict"]["result_id"],
        )
        announced = agent.entries("cekura.runs_announced", runs=1)
        assert announced[0]["timestamp"] < agent.entries("call.received")[0]["timestamp"]
