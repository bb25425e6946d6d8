"""`sip-agent cekura run` and `wait`, as processes of their own, against the stand-in."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from sip_agent.cli.cekura.run import own_endpoint
from sip_agent.config import Settings
from sip_agent.record import CallRecord
from sip_agent.store import CallStore
from tests.platforms.cekura.calls import record, refused
from tests.platforms.cekura.stand_in import (
    BULK,
    END_CALLS,
    KEY,
    NO_BALANCE,
    NO_ENDPOINT,
    START,
    UNKNOWN_SCENARIOS,
    CekuraStandIn,
    answer,
    hang_up,
)
from tests.platforms.commands import Finished
from tests.ports import free_port, free_rtp_range


class Command:
    """Runs `sip-agent cekura …` in a folder with settings for the stand-in."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.settings = folder / "sip-agent.toml"
        self.environment = {"SIP_AGENT_CEKURA__API_KEY": KEY}
        self.process: asyncio.subprocess.Process
        self.write(f'[cekura]\nbase_url = "{url}"\nagent_id = 5\n')

    def write(self, text: str) -> None:
        """Write the settings."""
        self.settings.write_text(text, encoding="utf-8")

    async def start(self, *arguments: str, stderr: int = asyncio.subprocess.PIPE) -> None:
        """Start a command."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIP_AGENT_")}
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sip_agent", "cekura", *arguments),
            cwd=self.folder,
            env=inherited | self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    async def next_error_line(self) -> bytes:
        """Return the next line that it writes to standard error."""
        assert self.process.stderr is not None
        return await self.process.stderr.readline()

    async def end(self) -> Finished:
        """Wait for it to end."""
        stdout, stderr = await self.process.communicate()
        assert self.process.returncode is not None
        return Finished(self.process.returncode, stdout.decode(), (stderr or b"").decode())

    async def __call__(self, *arguments: str, stderr: int = asyncio.subprocess.PIPE) -> Finished:
        """Run a command to its end."""
        await self.start(*arguments, stderr=stderr)
        return await self.end()

    async def run(self, *arguments: str, stderr: int = asyncio.subprocess.PIPE) -> Finished:
        """Run `cekura run` with scenario 11547, or others; it looks at the runs often."""
        chosen = () if "--scenarios" in arguments else ("--scenarios", "11547")
        return await self("run", *chosen, "--poll-interval", "0.1s", *arguments, stderr=stderr)


@pytest.fixture
async def command(tmp_path: Path, cekura: CekuraStandIn) -> AsyncIterator[Command]:
    """Give a command line whose settings lead to the stand-in."""
    made = Command(tmp_path, cekura.url)
    yield made
    if hasattr(made, "process") and made.process.returncode is None:
        made.process.kill()
        await made.process.communicate()


async def keep(folder: Path, *records: CallRecord) -> None:
    """Store records as the agent does."""
    store = CallStore.open("sqlite:///sip-agent.db", base_dir=folder)
    for item in records:
        await store.finish(item)
    await store.close()


def now_record(**fields: Any) -> CallRecord:
    """Return a call that came in during this test."""
    times: dict[str, Any] = {"invite_received_at": FUTURE, "answered_at": FUTURE, "ended_at": FUTURE}
    return record(**(times | fields))


FUTURE = record().invite_received_at.replace(year=2100)  # type: ignore[union-attr]
"""After any test began; records are looked for from the start on."""


def write_serving(command: Command, cekura: CekuraStandIn) -> tuple[int, int]:
    """Write settings by which the agent can run here; return its SIP port and the first of its eight for RTP."""
    port, first_rtp_port = free_port(socket.SOCK_DGRAM), free_rtp_range(8)[0]
    command.write(
        f"""
[cekura]
base_url = "{cekura.url}"
agent_id = 5
[sip]
udp_port = {port}
tcp_port = 0
[media]
rtp_ports = [{first_rtp_port}, {first_rtp_port + 7}]
[admission]
max_calls = 2
[api]
bind = ""
"""
    )
    return port, first_rtp_port


def begin_unanswered(cekura: CekuraStandIn, meanwhile: Callable[[], Awaitable[Any]] | None = None) -> None:
    """Let the next start begin its runs and lose its answer."""

    async def lost(request: Any) -> Any:
        cekura.begin(await request.json())
        cekura.result["created_at"] = FUTURE.isoformat()
        if meanwhile is not None:
            await meanwhile()
        return await hang_up(request)

    cekura.faults[START] = [lost]


class TestRun:
    """Starting, waiting, joining, judging."""

    async def test_success(self, command: Command, cekura: CekuraStandIn) -> None:
        """Status 0, one start, and the call beside the run."""
        await keep(command.folder, now_record())

        ended = await command.run("--json", "--name", "nightly", "--max-p95-latency", "2000")

        assert 0 == ended.status, ended.stderr
        document = ended.document
        assert (True, 16870, "nightly") == (document["passed"], document["result_id"], document["name"])
        assert [("completed", True, "ended")] == [
            (run["status"], run["passed"], run["call_state"]) for run in document["runs"]
        ]
        assert 1 == cekura.requests[START]
        assert [{"agent_id": 5, "scenarios": [11547], "frequency": 1, "name": "nightly"}] == cekura.bodies

    async def test_failure(self, command: Command, cekura: CekuraStandIn) -> None:
        """Status 1 though the result is completed; both sides' words stand side by side, in every form."""
        cekura.verdicts[34626] = {
            "success": False,
            "expected_outcome": {"score": 20, "explanation": ["❌ no date was agreed"], "outcome_alignments": []},
        }
        await keep(command.folder, now_record(), now_record(number=2, run_id="34626", end_reason="BYE"))

        ended = await command.run("--scenarios", "11547,11548", "--junit", "j.xml", "--markdown", "m.md")

        assert 1 == ended.status, ended.stderr
        assert "❌ no date was agreed" in ended.stdout
        assert "answered, 30.0 s, ended by the caller; BYE" in ended.stdout
        assert "1 of 2 runs successful" in ended.stdout
        assert "run 34626 Booking: evaluating; our call: ended" in ended.stderr
        root = ET.parse(command.folder / "j.xml").getroot()  # noqa: S314  (our own file)
        assert "2" == root.get("failures")
        assert "❌ no date was agreed" in (command.folder / "m.md").read_text(encoding="utf-8")

    async def test_commands_to_type_next(self, command: Command, cekura: CekuraStandIn) -> None:
        """They find the records that the report is about: by the settings file that was named."""
        cekura.verdicts[34625] = {"success": False}
        await keep(command.folder, now_record())

        by_default = await command.run()
        command.settings.rename(command.folder / "other.toml")
        cekura.lives = {}
        named = await command.run("--config", "other.toml")

        assert "          sip-agent calls show 00000001\n" in by_default.stdout
        assert "          sip-agent calls show 00000001 --config other.toml\n" in named.stdout

    async def test_a_live_table(self, command: Command) -> None:
        """On a terminal: each run, how it stands there, and how its call stands here."""
        ours, theirs = os.openpty()
        output: list[bytes] = []
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, lambda: output.append(os.read(ours, 65_536)))
        try:
            ended = await command.run("--no-records", stderr=theirs)
            os.set_blocking(ours, False)
            with suppress(BlockingIOError):
                output.append(os.read(ours, 65_536))
        finally:
            loop.remove_reader(ours)
            os.close(ours)
            os.close(theirs)

        shown = b"".join(output).decode()
        assert 0 == ended.status
        assert "Customer Support" in shown
        assert all(status in shown for status in ("in_queue", "evaluating", "passed"))

    async def test_a_call_that_never_arrived(self, command: Command, cekura: CekuraStandIn) -> None:
        """What to look at is said, and who was refused meanwhile."""
        cekura.lives[34625] = ["running", "failed"]
        cekura.verdicts[34625] = {"success": False, "error_message": "sip-call-failed"}
        stranger = refused(run_id=None, result_id=None, invite_received_at=FUTURE, ended_at=FUTURE)
        await keep(command.folder, stranger)

        ended = await command.run("--sip-endpoint", "sip:agent@192.0.2.1:5060")

        assert 1 == ended.status
        assert "never arrived" in ended.stdout
        assert "sip-call-failed" in ended.stdout
        assert "(sip:agent@192.0.2.1:5060)" in ended.stdout
        assert "refused meanwhile: 192.0.2.7" in ended.stdout
        assert "sip:agent@192.0.2.1:5060" == cekura.bodies[0]["sip_endpoint"]

    async def test_without_a_store(self, command: Command) -> None:
        """The runs are judged all the same; that nothing can be joined is said before and after."""
        ended = await command.run("--json")

        assert 0 == ended.status, ended.stderr
        assert "warning: the runs cannot be joined" in ended.stderr
        assert "there are no call records" in ended.document["records_problem"]
        assert ["unknown"] == [run["call_state"] for run in ended.document["runs"]]

    async def test_required_calls_that_cannot_be_looked_up(self, command: Command, cekura: CekuraStandIn) -> None:
        """Status 3: nothing is known against the agent; status 1 as soon as something is."""
        arguments = ("--json", "--require-calls", "--agent-url", "http://127.0.0.1:1")

        ended = await command.run(*arguments)
        cekura.life, cekura.lives = ["failed"], {}
        failed = await command.run(*arguments)

        assert (3, 1) == (ended.status, failed.status), ended.stderr
        assert [None] == [check["value"] for check in ended.document["checks"] if not check["passed"]]

    async def test_the_deadline(self, command: Command, cekura: CekuraStandIn) -> None:
        """Status 3, with what is known and how to go on."""
        cekura.life = ["in_queue"]

        ended = await command.run("--json", "--timeout", "1s")

        assert 3 == ended.status
        assert ended.document["timed_out"]
        assert any("sip-agent cekura wait 16870" in line for line in ended.document["advice"])

    async def test_everything_that_can_be_asked(self, command: Command, cekura: CekuraStandIn) -> None:
        """Goes into the request by its documented name; all and first become ids."""
        arguments = ("--frequency", "2", "--test-profiles", "20,21", "--personalities", "3", "--concurrency-limit", "4")

        ended = await command("run", "--all", "--first", "2", "--agent-id", "5", "--poll-interval", "0.1s", *arguments)

        assert 0 == ended.status, ended.stderr
        body = cekura.bodies[0]
        assert body.pop("name").startswith("sip-agent 2")
        assert {
            "agent_id": 5,
            "scenarios": [11547, 11548],
            "frequency": 2,
            "test_profile_ids": [20, 21],
            "personality_ids": [3],
            "concurrency_limit": 4,
        } == body


class TestServe:
    """The agent for the length of the run."""

    async def test_a_real_call(self, command: Command, cekura: CekuraStandIn) -> None:
        """Cekura is told our address, calls, and the call is joined to its run; afterwards the port is free."""
        port, first_rtp_port = write_serving(command, cekura)
        calling: list[asyncio.Task[Any]] = []

        async def call(run_id: int) -> None:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sip_agent", "call", cekura.bodies[0]["sip_endpoint"], "--tone", "440"),
                *("--duration", "1", "-H", f"X-Run-Id: {run_id}", "-H", "X-Result-Id: 16870"),
                stdout=asyncio.subprocess.DEVNULL,
            )
            assert 0 == await process.wait()

        async def look(request: Any) -> Any:
            """Answer once the call is over."""
            await asyncio.gather(*calling)
            return await cekura._bulk(request)

        cekura.on_start = lambda run_ids: calling.extend(asyncio.ensure_future(call(number)) for number in run_ids)
        cekura.life = ["completed"]
        cekura.faults[BULK] = [look]

        ended = await command.run("--serve", "--json", "--require-calls", "--max-interruptions", "9")

        assert 0 == ended.status, ended.stderr
        assert f"sip:agent@127.0.0.1:{port}" == cekura.bodies[0]["sip_endpoint"]
        assert f"open in the firewall: UDP {port}, UDP {first_rtp_port}-{first_rtp_port + 7}" in ended.stderr
        (run,) = ended.document["runs"]
        assert ("ended", "answered", "caller") == (
            run["call_state"],
            run["record"]["outcome"],
            run["record"]["ended_by"],
        )
        assert "response_latency_ms" in run["record"]["metrics"]
        assert [] == ended.document["strangers"]

    async def test_an_agent_that_cannot_start(self, command: Command, cekura: CekuraStandIn) -> None:
        """Then nothing is started at Cekura."""
        with socket.socket(type=socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            command.write(
                f'[cekura]\nbase_url = "{cekura.url}"\nagent_id = 5\n[sip]\nudp_port = {port}\ntcp_port = 0\n'
            )

            ended = await command.run("--serve")

        assert (0, "") == (cekura.requests[START], ended.stdout)
        assert ended.status in {2, 3}
        assert str(port) in ended.stderr


@pytest.mark.parametrize(
    ("settings", "endpoint"),
    [
        ({"sip": {"public_address": "agent.example.com", "udp_port": 5070}}, "sip:agent@agent.example.com:5070"),
        ({"sip": {"public_address": "2001:db8::5"}}, "sip:agent@[2001:db8::5]:5060"),
        (
            {"sip": {"public_address": "h.example.com"}, "routes": [{"match": {"user": "shop"}, "handler": "echo"}]},
            "sip:shop@h.example.com:5060",
        ),
        ({}, ""),
        ({"cekura": {"base_url": "http://127.0.0.1:9000"}}, "sip:agent@127.0.0.1:5060"),
        ({"sip": {"public_address": "h.example.com", "udp_port": 0}}, ""),
    ],
)
def test_our_own_endpoint(settings: dict[str, Any], endpoint: str) -> None:
    """What Cekura can reach by the settings; where they do not tell, what it has stored holds."""
    assert endpoint == own_endpoint(Settings.model_validate(settings))


class TestNothingIsStartedTwice:
    """Whatever goes wrong."""

    async def test_the_answer_is_lost(self, command: Command, cekura: CekuraStandIn) -> None:
        """The connection closes after the request was read: status 3, one request, and what to look for."""
        cekura.faults[START] = [hang_up]

        ended = await command.run("--name", "nightly")

        assert (3, 1) == (ended.status, cekura.requests[START])
        assert "may have been started" in ended.stderr
        assert "named 'nightly', then: sip-agent cekura wait RESULT_ID" in ended.stderr
        assert 1 == len(ended.stderr.splitlines()[-1:])

    @pytest.mark.parametrize("arguments", [(), ("--serve",)])
    async def test_the_answer_is_lost_and_the_result_found(
        self, command: Command, cekura: CekuraStandIn, arguments: tuple[str, ...]
    ) -> None:
        """A name that only this start has tells that it is ours: it is followed as if the answer had come."""
        write_serving(command, cekura)
        begin_unanswered(cekura)

        ended = await command.run("--json", *arguments)

        assert (0, 1) == (ended.status, cekura.requests[START]), ended.stderr
        assert "going on with result 16870, named 'sip-agent 2" in ended.stderr
        assert (True, 16870, 1) == (
            ended.document["passed"],
            ended.document["result_id"],
            ended.document["counts"]["total"],
        )
        assert 0 == cekura.requests[END_CALLS]

    @pytest.mark.parametrize("arguments", [(), ("--serve",)])
    async def test_a_result_under_a_given_name(
        self, command: Command, cekura: CekuraStandIn, arguments: tuple[str, ...]
    ) -> None:
        """May be another's: it is named, and left alone."""
        write_serving(command, cekura)
        begin_unanswered(cekura)

        ended = await command.run("--name", "nightly", *arguments)
        waited = await command("wait", "16870", "--poll-interval", "0.1s", "--no-records", "--json")

        assert (3, 1) == (ended.status, cekura.requests[START]), ended.stderr
        assert 0 == cekura.requests[END_CALLS]
        assert "sip-agent cekura wait 16870" in ended.stderr
        assert ["completed"] == [run["status"] for run in waited.document["runs"]]

    @pytest.mark.parametrize(
        ("status", "document", "exit_status", "words"),
        [
            (400, {"sip_endpoint": [NO_ENDPOINT]}, 2, NO_ENDPOINT),
            (400, {"scenarios": [UNKNOWN_SCENARIOS]}, 2, UNKNOWN_SCENARIOS),
            (402, {"detail": NO_BALANCE}, 2, "add credits"),
            (429, {"detail": "Request was throttled."}, 3, "rate limit"),
            (500, {}, 3, "may have been started"),
        ],
    )
    async def test_refusals(  # noqa: PLR0917
        self, command: Command, cekura: CekuraStandIn, status: int, document: Any, exit_status: int, words: str
    ) -> None:
        """One line that says what to do."""
        cekura.faults[START] = [answer(status, document)]

        ended = await command.run("--no-records")

        assert (exit_status, 1) == (ended.status, cekura.requests[START])
        assert words in ended.stderr
        assert 1 == sum(line.startswith("error: ") for line in ended.stderr.splitlines())
        assert "" == ended.stdout

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("run",), "no scenarios are chosen"),
            (("run", "--tag", "smoek"), "lists no scenario of agent 5 with the tag 'smoek'"),
            (("run", "--all", "--sip-endpoint", "agent"), "Invalid SIP URI format"),
            (("run", "--all", "--junit", "no/such/folder/j.xml"), "--junit: cannot write"),
            (("run", "--all", "--serve", "--agent-url", "http://h"), "keep one of the two"),
            (("run", "--all", "--agent-url", "h:8080"), "--agent-url: write http://"),
            (("run", "--all", "--no-records", "--require-calls"), "--no-records: only our own records tell"),
            (("run", "--all", "--no-records", "--max-p95-latency", "9"), "--no-records: only our own records tell"),
            (("run", "--scenarios", "a"), "write ids"),
            (("run", "--scenarios", "11547", "--all"), "--scenarios and --all: keep"),
            (("outbound", "--scenarios", "11547", "--tag", "smoke"), "--scenarios and --tag: keep"),
            (("pipecat", "--scenarios", "11547", "--folder", "", "--first", "1"), "--scenarios and --folder: keep"),
            (("run", "--all", "--min-success", "90"), "write 0.9 or 90%"),
            (("wait", "99"), "check the ids"),
        ],
    )
    async def test_wrong_use(
        self, command: Command, cekura: CekuraStandIn, arguments: tuple[str, ...], words: str
    ) -> None:
        """Status 2 before anything is started."""
        ended = await command(*arguments)

        assert (2, 0) == (ended.status, cekura.requests[START])
        assert words in " ".join(ended.stderr.replace("│", " ").split())

    async def test_no_key(self, command: Command) -> None:
        """The setting is named."""
        command.environment = {}

        ended = await command.run()

        assert 2 == ended.status
        assert ended.stderr.startswith("error: cekura.api_key_file: there is no API key")

    async def test_a_wrong_key(self, command: Command, cekura: CekuraStandIn) -> None:
        """The setting is named, and the key not shown."""
        command.environment = {"SIP_AGENT_CEKURA__API_KEY": "wrong-key-0815"}

        ended = await command.run("--no-records")

        assert (2, 0) == (ended.status, len(cekura.bodies))
        assert "correct cekura.api_key_file" in ended.stderr
        assert "0815" not in ended.stderr

    async def test_no_agent(self, command: Command, cekura: CekuraStandIn) -> None:
        """The setting is named."""
        command.write(f'[cekura]\nbase_url = "{cekura.url}"\n')

        ended = await command.run()

        assert 2 == ended.status
        assert "cekura.agent_id: not set" in ended.stderr

    async def test_the_network_is_down(self, command: Command) -> None:
        """Nothing was sent."""
        command.write('[cekura]\nbase_url = "http://127.0.0.1:1"\nagent_id = 5\n')

        ended = await command.run("--no-records")

        assert 3 == ended.status
        assert "cannot reach Cekura at http://127.0.0.1:1" in ended.stderr
        assert "may have been started" not in ended.stderr

    async def test_the_key_is_revoked_meanwhile(self, command: Command, cekura: CekuraStandIn) -> None:
        """The wait ends at once, and can be taken up; status 3, as status 2 says that nothing was started."""
        cekura.faults[BULK] = [answer(401, {"detail": "Invalid API key."})]

        ended = await command.run("--no-records", "--config", "sip-agent.toml")

        assert (3, 1) == (ended.status, cekura.requests[START])
        assert "take it up again: sip-agent cekura wait 16870 --config sip-agent.toml" in ended.stderr


class TestInterrupting:
    """Ctrl-C."""

    async def test_ends_the_calls(self, command: Command, cekura: CekuraStandIn) -> None:
        """The first one ends the remote calls; status 130."""
        cekura.life = ["running"]
        looked = self._when(cekura, BULK)
        options = ("--poll-interval", "0.1s", "--no-records", "--config", "sip-agent.toml")
        await command.start("run", "--scenarios", "11547", *options)
        await looked.wait()

        command.interrupt()
        ended = await command.end()

        assert (130, 1) == (ended.status, cekura.requests[END_CALLS])
        assert "sip-agent cekura wait 16870 --config sip-agent.toml" in ended.stderr

    async def test_while_the_start_is_not_answered(self, command: Command, cekura: CekuraStandIn) -> None:
        """Its answer is waited for: it says which calls there are to end."""
        answered, asked = asyncio.Event(), asyncio.Event()

        async def late(request: Any) -> Any:
            asked.set()
            await answered.wait()
            return await cekura._start(request)

        cekura.faults[START] = [late]
        await command.start("run", "--scenarios", "11547", "--no-records")
        await asked.wait()

        command.interrupt()
        assert b"interrupted; once more leaves at once\n" == await command.next_error_line()
        answered.set()
        ended = await command.end()

        assert (130, 1, 1) == (ended.status, cekura.requests[START], cekura.requests[END_CALLS])

    async def test_while_the_start_is_not_answered_at_all(self, command: Command, cekura: CekuraStandIn) -> None:
        """The calls of what has been started all the same are ended."""
        answered, asked = asyncio.Event(), asyncio.Event()

        async def late() -> None:
            asked.set()
            await answered.wait()

        begin_unanswered(cekura, late)
        await command.start("run", "--scenarios", "11547", "--no-records")
        await asked.wait()

        command.interrupt()
        assert b"interrupted; once more leaves at once\n" == await command.next_error_line()
        answered.set()
        ended = await command.end()

        assert (130, 1, 1) == (ended.status, cekura.requests[START], cekura.requests[END_CALLS])
        assert "ending the calls of result 16870" in ended.stderr

    async def test_twice_leaves_at_once(self, command: Command, cekura: CekuraStandIn) -> None:
        """Even if Cekura does not answer."""
        over, ending = asyncio.Event(), asyncio.Event()

        async def never(request: Any) -> Any:
            ending.set()
            await over.wait()
            return await cekura._end_calls(request)

        cekura.life = ["running"]
        cekura.faults[END_CALLS] = [never]
        looked = self._when(cekura, BULK)
        await command.start("run", "--scenarios", "11547", "--poll-interval", "0.1s", "--no-records")
        await looked.wait()
        command.interrupt()
        await ending.wait()
        command.interrupt()
        ended = await command.end()
        over.set()

        assert 130 == ended.status

    async def test_a_wait_leaves_the_calls_alone(self, command: Command, cekura: CekuraStandIn) -> None:
        """Who only watches does not end what others started."""
        cekura.begin({"agent_id": 5, "scenarios": [11547]})
        cekura.life = ["running"]
        looked = self._when(cekura, BULK)
        await command.start("wait", "16870", "--poll-interval", "0.1s", "--no-records")
        await looked.wait()
        command.interrupt()
        ended = await command.end()

        assert (130, 0) == (ended.status, cekura.requests[END_CALLS])
        assert "the runs go on" in ended.stderr

    @staticmethod
    def _when(cekura: CekuraStandIn, endpoint: str) -> asyncio.Event:
        """Return what is set once an endpoint is asked."""
        asked = asyncio.Event()

        async def note(request: Any) -> Any:
            asked.set()
            return await cekura._bulk(request)

        cekura.faults[endpoint] = [note]
        return asked
