"""Accounts: the agent registers with Kamailio, stays registered, and takes the calls that come through it."""

import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from tests.calls.agent_process import AgentProcess, eventually
from tests.calls.conftest import StartAgent
from tests.calls.kamailio import PASSWORD, Kamailio
from tests.calls.messages import Message
from tests.calls.peer import Peer
from tests.calls.sipp import Sipp

pytestmark = [pytest.mark.kamailio, pytest.mark.sipp]


@pytest.fixture
def kamailio(tmp_path: Path) -> Iterator[Kamailio]:
    """Run a registrar."""
    with Kamailio(tmp_path / "kamailio") as process:
        yield process


def account(kamailio: Kamailio, name: str = "trunk", username: str = "1001", **more: Any) -> dict[str, Any]:
    """Return the settings of an account at this registrar."""
    settings = {"registrar": f"sip:127.0.0.1:{kamailio.port}", "password": PASSWORD, "expires": "60s", **more}
    return {"name": name, "username": username, **settings}


def registrations(agent: AgentProcess, *, registered: bool, name: str = "trunk") -> list[dict[str, Any]]:
    """Return the log entries that say that an account is, or is not, registered."""
    return agent.entries("account.registration", account=name, registered=registered)


def test_a_call_through_the_registrar(start_agent: StartAgent, sipp: Sipp, kamailio: Kamailio) -> None:
    """A call that comes through an account carries its name, is routed by it, and is not challenged."""
    agent = start_agent(
        auth={"users": {"cekura": "secret"}},
        accounts=[account(kamailio)],
        routes=[
            {"match": {"account": "trunk"}, "handler": "silence"},
            {"match": {}, "handler": "reject"},
        ],
    )
    eventually(lambda: registrations(agent, registered=True), "registration")
    assert kamailio.count("CHALLENGED") == 1
    run = sipp("call", agent, port=kamailio.port, user="1001", headers="X-Run-Id: 12")
    assert run.exit_status == 0, run.output
    finals = [message.status for message in run.messages if message.status >= 200]
    assert finals == [200, 200]
    record = agent.record(run.call_id)
    told = {key: record[key] for key in ("account", "handler", "auth_user", "outcome", "run_id", "ended_by")}
    assert told == {
        "account": "trunk",
        "handler": "silence",
        "auth_user": None,
        "outcome": "answered",
        "run_id": "12",
        "ended_by": "caller",
    }


def test_who_only_knows_the_number_is_challenged(start_agent: StartAgent, kamailio: Kamailio, sipp: Sipp) -> None:
    """A call that is not for the account's user comes through no account."""
    agent = start_agent(auth={"users": {"cekura": "secret"}}, accounts=[account(kamailio)])
    eventually(lambda: registrations(agent, registered=True), "registration")
    run = sipp("refused", agent, user="1002", status="401")
    assert [step for step in run.ladder if step != "100"] == ["INVITE", "401", "ACK"]


def test_two_accounts(start_agent: StartAgent, sipp: Sipp, kamailio: Kamailio) -> None:
    """Each account is registered, and each call carries the name of its own."""
    accounts = [account(kamailio), account(kamailio, "second", "1002")]
    agent = start_agent(accounts=accounts)
    for name in ("trunk", "second"):
        eventually(partial(registrations, agent, registered=True, name=name), f"registration of {name}")
    names = []
    for user in ("1002", "1001"):
        run = sipp("call", agent, port=kamailio.port, user=user)
        assert run.exit_status == 0, run.output
        names.append(agent.record(run.call_id)["account"])
    assert names == ["second", "trunk"]


def test_a_direct_call_has_no_account(start_agent: StartAgent, sipp: Sipp, kamailio: Kamailio) -> None:
    """A call that came to the agent's own address has no account."""
    agent = start_agent(accounts=[account(kamailio)])
    eventually(lambda: registrations(agent, registered=True), "registration")
    run = sipp("call", agent)
    assert agent.record(run.call_id)["account"] is None


def test_registrations_are_refreshed(start_agent: StartAgent, sipp: Sipp, tmp_path: Path) -> None:
    """A registration that the registrar keeps for seven seconds only is renewed in time."""
    with Kamailio(tmp_path / "kamailio", max_expires=7) as kamailio:
        agent = start_agent(accounts=[account(kamailio)])
        eventually(lambda: kamailio.count("REGISTERED") >= 3, "renewals", timeout_s=20)
        run = sipp("call", agent, port=kamailio.port, user="1001")
        assert run.exit_status == 0, run.output
        assert agent.record(run.call_id)["account"] == "trunk"
        assert registrations(agent, registered=False) == []


def test_a_wrong_password(start_agent: StartAgent, sipp: Sipp, kamailio: Kamailio) -> None:
    """A registration that is refused is reported, and the agent serves direct calls all the same."""
    agent = start_agent(accounts=[account(kamailio, password="guess")])
    (refused, *_) = eventually(lambda: registrations(agent, registered=False), "refusal")
    assert refused["status"] in {401, 403}
    assert sipp("call", agent).exit_status == 0
    assert "guess" not in agent.log_file.read_text(encoding="utf-8")


def test_a_registrar_that_comes_back(start_agent: StartAgent, sipp: Sipp, tmp_path: Path) -> None:
    """A registrar out of service is tried again after a pause; when it is back, the account is registered."""
    kamailio = Kamailio(tmp_path / "kamailio")
    with OutOfService(kamailio.port) as registrar:
        agent = start_agent(accounts=[account(kamailio, retry_interval="1s")])
        attempts = [registrar.refuse() for _ in range(2)]
        assert attempts[1] - attempts[0] > 0.5
        refusals = eventually(lambda: registrations(agent, registered=False), "refusal")
        assert refusals[0]["status"] == 503
    with kamailio:
        eventually(lambda: registrations(agent, registered=True), "registration", timeout_s=30)
        run = sipp("call", agent, port=kamailio.port, user="1001")
        assert run.exit_status == 0, run.output
        assert agent.record(run.call_id)["account"] == "trunk"


class OutOfService:
    """What stands in for a registrar that is overloaded: it answers 503."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(15)
        self._socket.bind(("127.0.0.1", port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def refuse(self) -> float:
        """Answer one REGISTER, and return when that was."""
        data, source = self._socket.recvfrom(65_535)
        request = Message(sent=False, raw=data)
        copied = [f"{name}: {request.header(name)}" for name in ("Via", "From", "To", "Call-ID", "CSeq")]
        lines = ["SIP/2.0 503 Service Unavailable", *copied, "Content-Length: 0", "", ""]
        self._socket.sendto("\r\n".join(lines).encode(), source)
        return time.monotonic()


def test_unregistration(start_agent: StartAgent, kamailio: Kamailio) -> None:
    """An agent that stops takes its registration back."""
    agent = start_agent(accounts=[account(kamailio)])
    eventually(lambda: registrations(agent, registered=True), "registration")
    agent.stop()
    with Peer(agent, port=kamailio.port) as peer:
        assert peer.invite("1001").status == 404
