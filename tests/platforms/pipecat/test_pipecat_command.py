"""`sip-agent cekura pipecat`, as a CI job runs it, against stand-ins for Cekura and Pipecat."""

import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.calls.agent_process import REPOSITORY
from tests.platforms.cekura.stand_in import KEY, START_PIPECAT, CekuraStandIn
from tests.platforms.commands import Finished, sip_agent, write_settings
from tests.platforms.pipecat.daily_double import GUEST_VARIABLE
from tests.platforms.pipecat.stand_in import DAILY_KEY, PRIVATE_KEY, PUBLIC_KEY, PipecatStandIn
from tests.ports import free_port

SITE = """
import sys
from tests.platforms.pipecat import daily_double
sys.modules["pipecat.transports.daily.transport"] = daily_double
"""


class Runs:
    """Runs the command."""

    def __init__(self, cekura: CekuraStandIn, pipecat: PipecatStandIn, folder: Path) -> None:
        self._folder = folder
        self._settings: dict[str, dict[str, Any]] = {
            "cekura": {"api_key": KEY, "base_url": cekura.url, "agent_id": 5},
            "pipecat": {"start_url": pipecat.cloud_url, "public_key": PUBLIC_KEY, "private_key": PRIVATE_KEY},
        }

    async def __call__(self, *arguments: str, environment: dict[str, str] | None = None, **pipecat: Any) -> Finished:
        """Run `sip-agent cekura pipecat`."""
        write_settings(self._folder, self._settings | {"pipecat": self._settings["pipecat"] | pipecat})
        command = ("cekura", "pipecat", "--poll-interval", "0.1s", *arguments)
        return await sip_agent(*command, folder=self._folder, environment=environment)

    async def joining(self, *arguments: str, **pipecat: Any) -> Finished:
        """Run it with --join, and the double of Pipecat's transport, into whose rooms a guest comes."""
        (self._folder / "sitecustomize.py").write_text(SITE, encoding="utf-8")
        port = str(free_port(socket.SOCK_DGRAM))
        environment = {
            "PYTHONPATH": f"{self._folder}:{REPOSITORY}",
            GUEST_VARIABLE: "1",
            "SIP_AGENT_SIP__UDP_PORT": port,
            "SIP_AGENT_SIP__TCP_PORT": "0",
            "SIP_AGENT_API__BIND": "",
        }
        return await self("--join", *arguments, environment=environment, **pipecat)


@pytest.fixture
def run(cekura: CekuraStandIn, pipecat: PipecatStandIn, tmp_path: Path) -> Runs:
    """Run the command with the right settings."""
    return Runs(cekura, pipecat, tmp_path)


async def test_runs_in_sessions_of_their_own(run: Runs, cekura: CekuraStandIn, pipecat: PipecatStandIn) -> None:
    """One session for each run, handed to Cekura, and stopped when the runs are over."""
    done = await run("--scenarios", "11547,11548", "--json")

    assert 0 == done.status, done.stderr
    assert (1, 2) == (cekura.requests[START_PIPECAT], pipecat.starts)
    expected = [
        {"scenario": 11547, "pipecat_room_url": "https://x.daily.co/session-1", "pipecat_token": "token-session-1"},
        {"scenario": 11548, "pipecat_room_url": "https://x.daily.co/session-2", "pipecat_token": "token-session-2"},
    ]
    assert expected == cekura.bodies[-1]["scenarios"]
    assert (set(), ["session-2", "session-1"]) == (pipecat.open, pipecat.closed)
    assert (True, 2) == (done.document["passed"], done.document["counts"]["total"])
    assert "token-session-1" not in done.stdout + done.stderr


async def test_the_agent_joins_by_itself(run: Runs, cekura: CekuraStandIn, pipecat: PipecatStandIn) -> None:
    """In a room of its own for each run, with the handler of its routes; its calls are joined to the runs."""
    cekura.life = ["running"] * 60 + ["completed"]
    given = {"daily_api_key": DAILY_KEY, "daily_api_url": pipecat.daily_url}
    done = await run.joining("--scenarios", "11547,11548", "--require-calls", "--json", **given)

    assert 0 == done.status, done.stderr
    assert ["guest-room-1", "guest-room-2"] == [item["pipecat_token"] for item in cekura.bodies[-1]["scenarios"]]
    assert (set(), ["room-2", "room-1"]) == (pipecat.open, pipecat.closed)
    records = [found["record"] for found in done.document["runs"]]
    assert [("answered", "caller", "echo")] * 2 == [
        (record["outcome"], record["ended_by"], record["handler"]) for record in records
    ]
    assert all(900 < record["talk_ms"] < 3000 for record in records)
    assert DAILY_KEY not in done.stdout + done.stderr


async def test_what_was_opened_is_closed_when_pipecat_fails(
    run: Runs, cekura: CekuraStandIn, pipecat: PipecatStandIn
) -> None:
    """And nothing is started at Cekura."""
    pipecat.fail_from = 2
    pipecat.failure = lambda: web.json_response({"error": "agent at capacity"}, status=429)
    done = await run("--scenarios", "11547,11548")

    assert 3 == done.status
    assert (0, ["session-1"]) == (cekura.requests[START_PIPECAT], pipecat.closed)
    assert "agent at capacity" in done.stderr


async def test_what_was_opened_is_closed_when_cekura_refuses(run: Runs, pipecat: PipecatStandIn) -> None:
    """The refusal is what people see."""
    done = await run("--scenarios", "999")

    assert 2 == done.status
    assert "Invalid scenario IDs" in done.stderr
    assert ["session-1"] == pipecat.closed


@pytest.mark.parametrize(
    ("arguments", "pipecat_settings", "said"),
    [
        (("--all",), {"start_url": ""}, "pipecat.start_url: not set"),
        (("--all",), {"public_key": ""}, "pipecat.public_key_file: not set"),
        (("--all",), {"start_url": "https://pipecat.example.com"}, "pipecat.start_url"),
        (("--all",), {"public_key": "pk_wrong"}, "correct pipecat.public_key_file"),
        ((), {}, "no scenarios are chosen"),
        (("--all", "--join"), {}, "pipecat.daily_api_key_file: not set"),
        (("--all", "--frequency", "50"), {}, "choose fewer"),
        (("--all", "--join", "--agent-url", "http://a"), {}, "--join and --agent-url"),
    ],
)
async def test_wrong_use(
    run: Runs, cekura: CekuraStandIn, arguments: tuple[str, ...], pipecat_settings: dict[str, Any], said: str
) -> None:
    """Exit 2, one line that says what to do, and nothing started."""
    done = await run(*arguments, **pipecat_settings)

    assert (2, 0) == (done.status, cekura.requests[START_PIPECAT])
    assert said in done.stderr
