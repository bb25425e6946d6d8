"""`sip-agent cekura run --via agora`, against a stand-in for Cekura."""

from pathlib import Path
from typing import Any

from tests.platforms.cekura.stand_in import KEY, START_AGORA, CekuraStandIn
from tests.platforms.commands import Finished, sip_agent, write_settings


async def run(cekura: CekuraStandIn, folder: Path, *arguments: str) -> Finished:
    """Run the command."""
    settings: dict[str, Any] = {"cekura": {"api_key": KEY, "base_url": cekura.url, "agent_id": 5}}
    write_settings(folder, settings)
    command = ("cekura", "run", "--via", "agora", "--no-records", "--poll-interval", "0.1s", *arguments)
    return await sip_agent(*command, folder=folder)


async def test_runs_through_agora(cekura: CekuraStandIn, tmp_path: Path) -> None:
    """Started once, at the endpoint for Agora, with nothing of SIP."""
    done = await run(cekura, tmp_path, "--scenarios", "11547", "--concurrency-limit", "1", "--json")

    assert 0 == done.status, done.stderr
    assert 1 == cekura.requests[START_AGORA]
    body = cekura.bodies[-1]
    assert (5, [11547], 1) == (body["agent_id"], body["scenarios"], body["concurrency_limit"])
    assert "sip_endpoint" not in body


async def test_an_agent_without_a_session_endpoint(cekura: CekuraStandIn, tmp_path: Path) -> None:
    """Exit 2, and what to give the agent."""
    cekura.agora_stored = False
    done = await run(cekura, tmp_path, "--scenarios", "11547")

    assert (2, 1) == (done.status, cekura.requests[START_AGORA])
    assert "https://HOST/agora/session" in done.stderr


async def test_a_sip_endpoint_is_wrong_use(cekura: CekuraStandIn, tmp_path: Path) -> None:
    """There is none through Agora."""
    done = await run(cekura, tmp_path, "--scenarios", "11547", "--sip-endpoint", "sip:a@example.com")

    assert (2, 0) == (done.status, cekura.requests[START_AGORA])
