"""`sip-agent sipfront`: tests at Sipfront, joined to the calls that they place here."""

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from sip_agent.cli.cekura.following import (
    Following,
    MaxP95Latency,
    MaxStopTime,
    parse_duration_option,
    record_source,
    require_records,
    say,
    say_retry,
)
from sip_agent.cli.cekura.tables import print_checks, print_title
from sip_agent.cli.config import ConfigOption
from sip_agent.cli.interrupts import Interrupted, Interrupts, run_loop
from sip_agent.cli.output import ExitStatus, JsonOption, console, plain, print_json
from sip_agent.errors import SettingsError, SipAgentError

if TYPE_CHECKING:
    from sip_agent.platforms.cekura.gate import Check
    from sip_agent.platforms.cekura.join import Record
    from sip_agent.platforms.records import RecordSource
    from sip_agent.platforms.sipfront import SipfrontClient, StartedTest, TestRequest, TestRun

app = typer.Typer(name="sipfront", help="Run tests at Sipfront, and join them to the calls.", no_args_is_help=True)

_RECORD_KEYS = (
    *("call_uuid", "call_id", "source_address", "request_uri", "handler", "outcome", "sip_status", "ended_by"),
    *("end_reason", "invite_received_at", "answered_at", "ended_at", "talk_ms", "codec", "metrics", "faults", "error"),
)


@app.callback()
def sipfront() -> None:
    """Run tests at Sipfront, and join them to the calls."""


@app.command("run")
def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the test, which has to exist there.")] = "",
    *,
    test_id: Annotated[int | None, typer.Option("--id", min=1, help="Its id, instead of its name.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STEP.KEY=VALUE", help="Override, like step.1.0.dial_destination=42."),
    ] = None,
    step: Annotated[str, typer.Option(metavar="I.J", help="The step that calls: of --dial and the pools.")] = "1.0",
    dial: Annotated[str, typer.Option(metavar="DESTINATION", help="Whom it dials: this agent.")] = "",
    target_pool: Annotated[str, typer.Option(metavar="NAME", help="The pool of targets it calls.")] = "",
    credential_pool: Annotated[str, typer.Option(metavar="NAME", help="The pool of credentials it calls with.")] = "",
    kiosk: Annotated[bool, typer.Option("--kiosk", help="Have a report that is read without logging in.")] = False,
    timeout: Annotated[
        Any, typer.Option(parser=parse_duration_option, metavar="TIME", help="Wait for the test no longer than this.")
    ] = "15m",
    require_call: Annotated[bool, typer.Option("--require-call", help="Fail if no call came in meanwhile.")] = False,
    max_p95_latency: MaxP95Latency = None,
    max_stop_time: MaxStopTime = None,
    serve: Annotated[bool, typer.Option("--serve", help="Run the agent meanwhile, by the same settings.")] = False,
    agent_url: Annotated[str, typer.Option(metavar="URL", help="HTTP API of the agent, if it runs elsewhere.")] = "",
    records: Annotated[bool, typer.Option(help="Look for the calls in our own records.")] = True,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Start a test at Sipfront, wait for it, find the calls it placed here, and judge both.

    The request that starts it is never sent twice. Exit status: 0 passed, 1 failed, 2 wrong use or settings,
    3 something else broke, or the test was not over in time.

    Example:
        sip-agent sipfront run basic-call-a-b --dial sip:agent@agent.example.com --kiosk

        sip-agent sipfront run --id 123 --set step.1.0.max_total_calls=10 --serve
    """
    from sip_agent.config import load_settings
    from sip_agent.platforms.cekura.gate import Limits
    from sip_agent.platforms.sipfront import TestRequest, read_overrides

    if bool(name) == (test_id is not None):
        raise SettingsError("which test? write its name, or --id and its number (one of the two)")
    if serve and agent_url:
        raise SettingsError("--serve and --agent-url: keep one of the two: the agent runs here, or elsewhere")
    named = {"dial_destination": dial, "target_pool": target_pool, "credential_pool": credential_pool}
    request = TestRequest(
        name=name, test_id=test_id, overrides=read_overrides(overrides or (), step=step, **named), kiosk=kiosk
    )
    limits = Limits(max_p95_latency_ms=max_p95_latency, max_stop_time_ms=max_stop_time, require_calls=require_call)
    require_records(limits, records=records)
    following = Following(
        settings=load_settings(config),
        config=config,
        timeout_s=timeout,
        poll_s=0,
        limits=limits,
        agent_url=agent_url,
        use_records=records,
        as_json=as_json,
        junit=None,
        markdown=None,
    )
    raise typer.Exit(run_loop(_run(request, following, serve=serve)))


async def _run(request: "TestRequest", following: Following, *, serve: bool) -> int:
    from sip_agent.agent import Agent
    from sip_agent.platforms.sipfront import SipfrontClient

    settings, keys = following.settings, following.settings.sipfront
    new_client = SipfrontClient(
        keys.base_url, keys.public_key, keys.secret_key.get_secret_value(), body=keys.body, on_retry=say_retry
    )
    async with AsyncExitStack() as resources:
        client = await resources.enter_async_context(new_client)
        source = await record_source(following, resources)
        if serve:
            await resources.enter_async_context(Agent(settings))
        interrupts = resources.enter_context(Interrupts())
        since = datetime.now(UTC)
        # Not to be interrupted: only its answer tells which run it is.
        started = await client.start(request)
        say(f"started session {started.session_id}" + (f": {started.report_url}" if started.report_url else ""))
        try:
            return await interrupts.during(_follow(client, request, following, source, started, since))
        except Interrupted:
            say(f"the test goes on at Sipfront (session {started.session_id})")
            raise


async def _follow(
    client: "SipfrontClient",
    request: "TestRequest",
    following: Following,
    source: "RecordSource | None",
    started: "StartedTest",
    since: datetime,
) -> int:
    from sip_agent.platforms.sipfront import collect_calls

    run = await client.until_over(
        started.session_id,
        timeout_s=following.timeout_s,
        on_change=lambda run: say(f"{datetime.now(UTC):%H:%M:%S} {run.status or 'no status'}"),
    )
    calls: list[Record] = []
    problem = ""
    if source is not None:
        try:
            calls = await collect_calls(source, destination=request.destination, since=since, clock=client.http.clock)
        except SipAgentError as error:
            problem = str(error)
    outcome = _Outcome(
        run=run,
        started=started,
        calls=calls,
        checks=tuple(_judge(run, calls, following)),
        problem=problem,
        looked=source is not None,
    )
    if following.as_json:
        print_json(outcome.to_dict())
    else:
        _print(outcome)
    return outcome.exit_status


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What a test came to; `looked` says whether our own calls were looked for, `problem` why they were not found."""

    run: "TestRun"
    started: "StartedTest"
    calls: "list[Record]"
    checks: "tuple[Check, ...]"
    problem: str
    looked: bool

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def exit_status(self) -> ExitStatus:
        if self.run.passed is None:
            return ExitStatus.BROKEN
        return ExitStatus.DONE if self.passed else ExitStatus.TESTED_THING_FAILED

    @property
    def title(self) -> str:
        word = "unfinished" if self.run.passed is None else "passed" if self.passed else "failed"
        name = self.run.test_name or f"session {self.run.session_id}"
        return f"{name}: {word}" + (f" ({self.run.description})" if self.run.description else "")

    def to_dict(self) -> dict[str, Any]:
        run = self.run
        return {
            "passed": self.passed,
            "timed_out": run.passed is None,
            "session_id": run.session_id,
            "report_url": self.started.report_url or None,
            "test_name": run.test_name or None,
            "project_name": run.project_name or None,
            "status": run.status or None,
            "result_description": run.description or None,
            "tags": list(run.tags),
            "started_at": run.started_at or None,
            "stopped_at": run.stopped_at or None,
            "checks": [asdict(check) for check in self.checks],
            "calls": [{key: record[key] for key in _RECORD_KEYS} for record in self.calls],
            "records_problem": self.problem or None,
            "advice": list(self.advice()),
        }

    def advice(self) -> Iterator[str]:
        if self.run.passed is None:
            yield "the test is not over: Sipfront goes on with it"
        if self.problem:
            yield f"our own records could not be read: {self.problem}"
        elif self.looked and not self.calls:
            yield "no call came in meanwhile: does the test dial this agent (--dial), and may Sipfront call it?"


def _judge(run: "TestRun", calls: "list[Record]", following: Following) -> "Iterator[Check]":
    from sip_agent.platforms.cekura.gate import Check, measurements

    passed = run.passed is True
    yield Check(name="sipfront", value=int(passed), limit="1", passed=passed, note=run.status)
    if following.limits.require_calls:
        yield Check(name="calls", value=len(calls), limit="≥ 1", passed=bool(calls))
    yield from measurements(calls, following.limits)


def _print(outcome: _Outcome) -> None:
    from sip_agent.platforms.cekura.report import latency_text, our_words

    if outcome.calls:
        table = Table(box=box.SIMPLE_HEAD)
        for title in ("our call", "to", "what became of it", "latency p50 / p95"):
            table.add_column(title, overflow="fold")
        for record in outcome.calls:
            cells = (record["call_uuid"][:8], record["request_uri"] or "", our_words(record), latency_text(record))
            table.add_row(*map(plain, cells))
        console.print(table)
    print_checks(outcome.checks[1:])
    for line in outcome.advice():
        console.print(plain(line), soft_wrap=True)
    if outcome.started.report_url:
        console.print(plain(outcome.started.report_url), soft_wrap=True)
    print_title(outcome.title, passed=outcome.passed)
