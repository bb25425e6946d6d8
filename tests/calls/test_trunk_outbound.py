"""`sip-agent cekura outbound`, whole: a stand-in for Cekura, a trunk at Asterisk, our handlers and records."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sip_agent.store import CallQuery, reading
from tests.calls.agent_process import ENGINE, REPOSITORY, eventually, to_toml
from tests.calls.kamailio import PASSWORD
from tests.calls.trunks import CALLER_ID, NUMBER, Asterisk
from tests.platforms.cekura.stand_in import END_CALLS, KEY, START_VOICE, CekuraStandIn, hang_up
from tests.ports import free_port, free_rtp_range, give_back

pytestmark = pytest.mark.asterisk

STORE_URL = "sqlite:///calls.db"
BUSY_NUMBER = "+14155550199"


class OutboundStandIn(CekuraStandIn):
    """A Cekura whose runs wait for the agent's call: one that never came is a `timeout`."""

    def __init__(self) -> None:
        super().__init__()
        self.agent["telephony"] = {"inbound": False, "phone_number": CALLER_ID}
        self.numbers = {11547: NUMBER, 11548: NUMBER, 11549: BUSY_NUMBER}
        for scenario in self.scenarios:
            scenario["phone_number"] = self.numbers[scenario["id"]]  # type: ignore[index]

    def begin(self, body: dict[str, Any]) -> None:
        """Make the runs, each with its number and its window of five minutes."""
        super().begin(body)
        now = datetime.now(UTC)
        for run in self.runs.values():
            run["outbound_number"] = self.numbers[run["scenario"]]
            run["outbound_dial_window_opens_at"] = now.isoformat()
            run["outbound_dial_window_seconds"] = 300
            run["outbound_dial_window_closes_at"] = (now + timedelta(minutes=5)).isoformat()
            self.lives[run["id"]] = ["in_queue", "pending", "in_progress", "in_progress", "evaluating", "completed"]


class Outbound:
    """`sip-agent cekura outbound` with settings of its own in a folder of its own."""

    def __init__(self, folder: Path, cekura: OutboundStandIn, asterisk: Asterisk) -> None:
        self.folder = folder
        self.rtp_ports = free_rtp_range(40)
        self.settings: dict[str, Any] = {
            "sip": {"udp_port": free_port(socket.SOCK_DGRAM), "tcp_port": 0},
            "media": {"engine": ENGINE, "rtp_ports": list(self.rtp_ports)},
            "accounts": [
                {
                    "name": "trunk",
                    "registrar": f"sip:127.0.0.1:{asterisk.port}",
                    "username": "1001",
                    "password": PASSWORD,
                    "caller_id": CALLER_ID,
                }
            ],
            "outbound": {"allow": ["+1415555"]},
            "routes": [{"match": {"account": "trunk"}, "handler": "tests.calls.handlers:GreetOnce"}],
            "store": {"url": STORE_URL},
            "api": {"bind": ""},
            "cekura": {"base_url": cekura.url, "api_key": KEY, "agent_id": 5, "send_transcripts": False},
            "log": {"level": "warning"},
        }

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start the command."""
        file = self.folder / "sip-agent.toml"
        text = "".join(f"{name} = {to_toml(value)}\n" for name, value in self.settings.items())
        file.write_text(text, encoding="utf-8")
        command = ["-m", "sip_agent", "cekura", "outbound", "--config", str(file), "--poll-interval", "0.3s"]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    async def run(self, *arguments: str) -> tuple[int | None, str, str]:
        """Run the command; return its exit status and what it printed."""
        process = await self.start(*arguments)
        async with asyncio.timeout(100):
            output, errors = await process.communicate()
        return process.returncode, output.decode(), errors.decode()

    def records(self) -> list[dict[str, Any]]:
        """Return the stored records, oldest first."""
        with reading(STORE_URL, base_dir=self.folder) as store:
            return store.search(CallQuery())[::-1]


@pytest.fixture(scope="module")
def asterisk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asterisk]:
    """Run Asterisk."""
    with Asterisk(tmp_path_factory.mktemp("pbx") / "asterisk") as process:
        yield process


@pytest.fixture
async def cekura() -> AsyncIterator[OutboundStandIn]:
    """Serve a stand-in for Cekura."""
    stand_in = OutboundStandIn()
    async with stand_in.serving():
        yield stand_in


@pytest.fixture
def outbound(tmp_path: Path, cekura: OutboundStandIn, asterisk: Asterisk) -> Iterator[Outbound]:
    """Run the command by settings in a folder of the test."""
    command = Outbound(tmp_path, cekura, asterisk)
    yield command
    give_back(command.rtp_ports)


async def test_runs_are_dialled_and_joined(outbound: Outbound, cekura: OutboundStandIn, asterisk: Asterisk) -> None:
    """Each run is dialled once, the route's handler speaks, and records and results are joined."""
    before = len(asterisk.taken)
    status, output, errors = await outbound.run("--scenarios", "11547,11548", "--json")

    assert (0, 1) == (status, cekura.requests[START_VOICE]), errors
    assert {"agent_id": 5, "scenarios": [11547, 11548], "frequency": 1, "concurrency_limit": 2} == {
        key: value for key, value in cekura.bodies[0].items() if key != "name"
    }
    assert [NUMBER, NUMBER] == [number for number, *_ in asterisk.taken[before:]]
    report = json.loads(output)
    assert [34625, 34626] == [item["run_id"] for item in report["runs"]]
    assert ["answered"] * 2 == [item["record"]["outcome"] for item in report["runs"]]
    for record in outbound.records():
        told = {key: record[key] for key in ("direction", "account", "result_id", "handler", "outcome", "ended_by")}
        assert {
            "direction": "outbound",
            "account": "trunk",
            "result_id": "16870",
            "handler": "tests.calls.handlers:GreetOnce",
            "outcome": "answered",
            "ended_by": "agent",
        } == told
        assert record["call_id"]
        assert record["scenario_id"] in {"11547", "11548"}
        assert "ok" == record["recording"]["state"]
        assert [("agent", "Good morning.")] == [(item["speaker"], item["text"]) for item in record["transcript"]]
        assert "response_latency_ms" in record["metrics"]
    assert KEY not in output + errors
    assert PASSWORD not in output + errors


async def test_a_busy_number(outbound: Outbound, cekura: OutboundStandIn) -> None:
    """A number that is busy is recorded as such, and not tried again; Cekura's verdict makes the build red."""
    cekura.verdicts[34625] = {"success": False, "error_message": "no call came"}
    status, output, errors = await outbound.run("--scenarios", "11549")

    assert 1 == status, errors
    (record,) = outbound.records()
    assert ("rejected", 486, "34625") == (record["outcome"], record["sip_status"], record["run_id"])
    assert "the far end refused the call (486" in output
    assert f"run 34625: {BUSY_NUMBER} was not reached: 486" in errors


async def test_killed_in_between(outbound: Outbound, cekura: OutboundStandIn, asterisk: Asterisk) -> None:
    """Who is killed while its calls go on, and takes the result up again, dials nobody twice; its call is joined."""
    cekura.life = ["pending"]
    before = len(asterisk.taken)
    original = cekura.begin

    def begin(body: dict[str, Any]) -> None:
        original(body)
        cekura.lives |= {number: ["pending"] for number in cekura.runs}

    cekura.begin = begin  # type: ignore[method-assign]
    process = await outbound.start("--scenarios", "11547")
    await asyncio.to_thread(eventually, lambda: len(asterisk.taken) > before, "a call", 60)
    process.kill()
    await process.communicate()

    status, output, errors = await outbound.run("--result", "16870", "--timeout", "3s", "--json")
    assert 3 == status, errors
    report = json.loads(output)
    assert ["interrupted"] == [item["record"] and item["record"]["outcome"] for item in report["runs"]]
    assert 0 == report["counts"]["never_arrived"]
    assert "run 34625: not dialled: it was dialled before, and no run is dialled twice" in errors
    assert 1 == len(asterisk.taken) - before
    assert 1 == cekura.requests[START_VOICE]


@pytest.mark.parametrize(("name", "status", "calls"), [((), 0, 1), (("--name", "nightly"), 3, 0)])
async def test_the_answer_to_the_start_is_lost(  # noqa: PLR0917
    outbound: Outbound,
    cekura: OutboundStandIn,
    asterisk: Asterisk,
    name: tuple[str, ...],
    status: int,
    calls: int,
) -> None:
    """Runs under a name that only this start has are dialled; those that may be another's are left alone."""
    before = len(asterisk.taken)

    async def lost(request: web.Request) -> web.StreamResponse:
        cekura.begin(await request.json())
        cekura.result["created_at"] = datetime.now(UTC).isoformat()
        return await hang_up(request)

    cekura.faults[START_VOICE] = [lost]
    ended, _, errors = await outbound.run("--scenarios", "11547", *name)

    assert (status, 1) == (ended, cekura.requests[START_VOICE]), errors
    assert (calls, 0) == (len(asterisk.taken) - before, cekura.requests[END_CALLS])


async def test_interrupted(outbound: Outbound, cekura: OutboundStandIn, asterisk: Asterisk) -> None:
    """Ctrl-C ends the calls on both sides, and ours is recorded."""
    before = len(asterisk.taken)
    outbound.settings["routes"] = [{"match": {}, "handler": "silence"}]
    process = await outbound.start("--scenarios", "11547")
    await asyncio.to_thread(eventually, lambda: len(asterisk.taken) > before, "a call", 60)
    process.terminate()
    async with asyncio.timeout(60):
        _, errors = await process.communicate()

    assert 130 == process.returncode, errors.decode()
    assert 1 == cekura.requests[END_CALLS]
    (record,) = outbound.records()
    assert ("34625", "system") == (record["run_id"], record["ended_by"])


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("outbound", {"allow": []}, "outbound.allow: it is empty, so no number may be dialled"),
        ("outbound", {"max_calls_per_day": 1}, "max_calls_per_day: 2 calls are wanted, and 1 of 1 are left"),
        ("outbound", {"account": "other"}, 'outbound.account = "other": no such account (there is: trunk)'),
        ("accounts", {"caller_id": "+14155550111"}, "and the account 'trunk' calls as +14155550111: such calls are"),
        ("accounts", {"caller_id": ""}, "accounts: none has a caller_id, so no call can be placed"),
        ("accounts", {"registrar": "sip:192.0.2.9"}, "sip.bind: 127.0.0.1 cannot reach the account 'trunk'"),
    ],
)
async def test_wrong_settings(
    outbound: Outbound, cekura: OutboundStandIn, section: str, values: dict[str, Any], said: str
) -> None:
    """What cannot go well is said in one line before anything is started, and the exit status is 2."""
    target = outbound.settings[section]
    (target[0] if isinstance(target, list) else target).update(values)
    status, _, errors = await outbound.run("--scenarios", "11547,11548")

    assert 2 == status, errors
    assert said in errors
    assert 0 == cekura.requests[START_VOICE]


async def test_an_agent_that_is_called(outbound: Outbound, cekura: OutboundStandIn) -> None:
    """An agent that is set to inbound at Cekura is not called for."""
    cekura.agent["telephony"]["inbound"] = True
    status, _, errors = await outbound.run("--scenarios", "11547")

    assert 2 == status
    assert "agent 5 is set to inbound" in errors
    assert 0 == cekura.requests[START_VOICE]


async def test_dry_run(outbound: Outbound, cekura: OutboundStandIn, asterisk: Asterisk) -> None:
    """A dry run shows what would be dialled: it starts nothing and dials nothing."""
    before = len(asterisk.taken)
    outbound.settings["outbound"]["allow"] = ["+14155550123"]
    status, output, errors = await outbound.run("--all", "--dry-run", "--json")

    assert 2 == status, errors
    document = json.loads(output)
    assert (CALLER_ID, "trunk") == (document["caller_id"], document["account"])
    assert [NUMBER, NUMBER, BUSY_NUMBER] == [item["number"] for item in document["calls"]]
    assert [True, True, False] == [item["refusal"] is None for item in document["calls"]]
    assert f"sip:{NUMBER}@127.0.0.1:{asterisk.port};user=phone" == document["calls"][0]["uri"]
    assert 0 == cekura.requests[START_VOICE]
    assert before == len(asterisk.taken)
