"""What the call tests share: agents as processes of their own, and SIPp."""

import itertools
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.calls.agent_process import AgentProcess
from tests.calls.rtp import encode_pcma, tone
from tests.calls.sipp import Sipp


class StartAgent(Protocol):
    """Starts an agent with these settings, section by section; it is stopped and checked after the test."""

    def __call__(self, *, host: str = "127.0.0.1", **settings: Any) -> AgentProcess:
        """Start an agent."""


@pytest.fixture(scope="session")
def agent_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give each agent a folder of its own."""
    base = tmp_path_factory.mktemp("agents")
    return (base / str(number) for number in itertools.count(1))


@pytest.fixture
def start_agent(agent_folders: Iterator[Path]) -> Iterator[StartAgent]:
    """Start agents that only this test uses."""
    with ExitStack() as running:

        def start(*, host: str = "127.0.0.1", **settings: Any) -> AgentProcess:
            return running.enter_context(AgentProcess(next(agent_folders), settings, host=host))

        yield start


@pytest.fixture(scope="module")
def agent(agent_folders: Iterator[Path]) -> Iterator[AgentProcess]:
    """Run an agent that the tests of a module share: every handler can be dialled by its name."""
    with AgentProcess(next(agent_folders), {"routes": ROUTES}) as process:
        yield process


@pytest.fixture(scope="session")
def sipp(tmp_path_factory: pytest.TempPathFactory) -> Sipp:
    """Run SIPp; a machine without it cannot prove anything, so its absence is a failure."""
    assert shutil.which("sipp"), "SIPp is not installed: apt-get install sip-tester"
    folder = tmp_path_factory.mktemp("sipp")
    audio_file = folder / "tone-1000.pcma"
    audio_file.write_bytes(encode_pcma(tone(1000, 2.0)))
    return Sipp(folder=folder, audio_file=audio_file)


def dial(user: str, handler: str | None = None, **options: Any) -> dict[str, Any]:
    """Return a route from a dialled user to a handler."""
    return {"match": {"user": user}, "handler": handler or user, "options": options}


ROUTES = [
    dial("echo"),
    dial("silence"),
    dial("record"),
    dial("tone", hz=1000),
    dial("two_seconds", "tests.calls.handlers:PlayTwoSeconds"),
    dial("digits", "tests.calls.handlers:SendDigits"),
    dial("busy", "reject", status=486),
    dial("ring", seconds=30),
    dial("early", "tests.calls.handlers:EarlyMedia"),
    dial("rings", "tests.calls.handlers:RingThenEcho"),
    dial("raise_before", "tests.calls.handlers:RaiseBeforeAnswer"),
    dial("raise_after", "tests.calls.handlers:RaiseAfterAnswer"),
    dial("unanswered", "tests.calls.handlers:ReturnUnanswered"),
    dial("hang", "tests.calls.handlers:HangAfterBye"),
    dial("undying", "tests.calls.handlers:IgnoreCancellation"),
    dial("twice", "tests.calls.handlers:AnswerTwice"),
    dial("flood", "tests.calls.handlers:Flood"),
    dial("headers", "tests.calls.handlers:TellHeaders"),
    dial("hang_up", "tests.calls.handlers:HangUp"),
    dial("collect", "tests.calls.handlers:CollectDigits"),
]


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make a self-signed certificate, as the settings name it."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, private_key = folder / "server.pem", folder / "server.key"
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(private_key), "-out", str(certificate)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return {"certificate": str(certificate), "private_key": str(private_key)}
