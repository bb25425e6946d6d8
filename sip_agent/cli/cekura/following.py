"""What `run` and `wait` share: following runs before people's eyes, being interrupted, judging, reporting."""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from sip_agent.cli.cekura.tables import print_report, runs_table
from sip_agent.cli.config import ConfigOption
from sip_agent.cli.interrupts import Interrupted
from sip_agent.cli.output import ExitStatus, JsonOption, plain, print_json, stderr
from sip_agent.errors import SettingsError, SipAgentError

if TYPE_CHECKING:
    from sip_agent.config import Settings
    from sip_agent.platforms.cekura.client import CekuraClient
    from sip_agent.platforms.cekura.gate import Limits
    from sip_agent.platforms.cekura.model import Result
    from sip_agent.platforms.cekura.report import Report
    from sip_agent.platforms.cekura.runs import Followed
    from sip_agent.platforms.errors import Unavailable
    from sip_agent.platforms.records import RecordSource

MaxP95Latency = Annotated[
    int | None, typer.Option(min=0, metavar="MS", help="Highest p95 of the response latency, as measured here.")
]
MaxStopTime = Annotated[
    int | None, typer.Option(min=0, metavar="MS", help="Longest that the agent may go on when interrupted.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """How to follow runs, what to ask of them, and where to report; `config` is the settings file if one was named."""

    settings: "Settings"
    config: Path | None
    timeout_s: float
    poll_s: float
    limits: "Limits"
    agent_url: str
    use_records: bool
    as_json: bool
    junit: Path | None
    markdown: Path | None

    @property
    def challenges(self) -> bool:
        """Whether the agent asks callers for digest credentials; one that runs elsewhere may."""
        return bool(self.settings.auth.users or self.agent_url)

    def wait_command(self, result_id: int) -> str:
        """Return what to type to take up the wait for a result."""
        from sip_agent.platforms.cekura.report import typed

        return typed(f"cekura wait {result_id}", config=self.config, agent_url=self.agent_url)


def parse_duration_option(text: str) -> float:
    """Read a duration, as seconds."""
    from sip_agent.config import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}") from None


def parse_share(text: str) -> float:
    """Read a share: 0.9, or 90%."""
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if rest or not 0 <= share <= 1:
        raise typer.BadParameter(f"{text!r} is no share of the runs; write 0.9 or 90%")
    return share


def follow_options(
    *,
    timeout: Annotated[
        Any, typer.Option(parser=parse_duration_option, metavar="TIME", help="Wait for the runs no longer than this.")
    ] = "30m",
    poll_interval: Annotated[
        Any, typer.Option(parser=parse_duration_option, metavar="TIME", help="How often to look at the runs.")
    ] = "3s",
    min_success: Annotated[
        Any, typer.Option(parser=parse_share, metavar="SHARE", help="Fewer successful runs fail: 0.9 or 90%; else all.")
    ] = None,
    max_p95_latency: MaxP95Latency = None,
    max_stop_time: MaxStopTime = None,
    max_interruptions: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="How often the agent may interrupt in any one call.")
    ] = None,
    max_silence: Annotated[
        int | None, typer.Option(min=0, metavar="MS", help="Longest silence of both in any one call.")
    ] = None,
    require_calls: Annotated[
        bool, typer.Option("--require-calls", help="Fail if the call of a run never arrived here.")
    ] = False,
    agent_url: Annotated[
        str, typer.Option(metavar="URL", help="HTTP API of the agent, if it runs elsewhere; its token is api.token.")
    ] = "",
    records: Annotated[bool, typer.Option(help="Join the runs to our own call records.")] = True,
    as_json: JsonOption = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append Markdown, as to $GITHUB_STEP_SUMMARY.")
    ] = None,
    config: ConfigOption = None,
) -> Following:
    """Read the options of a command that follows runs."""
    from sip_agent.config import load_settings
    from sip_agent.platforms.cekura.gate import Limits

    _check_writable("--junit", junit)
    _check_writable("--markdown", markdown)
    limits = Limits(
        min_success=min_success,
        max_p95_latency_ms=max_p95_latency,
        max_stop_time_ms=max_stop_time,
        max_interruptions=max_interruptions,
        max_silence_ms=max_silence,
        require_calls=require_calls,
    )
    require_records(limits, records=records)
    return Following(
        settings=load_settings(config),
        config=config,
        timeout_s=timeout,
        poll_s=max(poll_interval, 0.1),
        limits=limits,
        agent_url=agent_url,
        use_records=records,
        as_json=as_json,
        junit=junit,
        markdown=markdown,
    )


def require_records(limits: "Limits", *, records: bool) -> None:
    """Raise SettingsError if a limit asks what our own records would tell, and they are not to be read."""
    if limits.need_records and not records:
        raise SettingsError("--no-records: only our own records tell what --require-… and --max-… ask; leave it out")


def _check_writable(option: str, file: Path | None) -> None:
    """Find out now, and not after an hour of calls."""
    if file is not None and not os.access(file if file.exists() else file.parent, os.W_OK):
        raise SettingsError(f"{option}: cannot write {file}: is there such a folder, and may you write there?")


def say(text: str) -> None:
    """Tell people what goes on, beside the answer."""
    stderr.print(plain(text), soft_wrap=True)


def say_retry(error: "Unavailable", wait_s: float) -> None:
    """Tell that a failure is ridden out."""
    say(f"{error.message}; again in {wait_s:.1f} s")


def new_client(settings: "Settings") -> "CekuraClient":
    """Return a client by the settings; raises SettingsError if there is no API key."""
    from sip_agent.platforms.cekura.client import CekuraClient

    cekura = settings.cekura
    return CekuraClient(cekura.base_url, cekura.api_key.get_secret_value(), on_retry=say_retry)


async def record_source(following: Following, resources: AsyncExitStack) -> "RecordSource | None":
    """Return where our own records are read, None if they are not wanted."""
    from sip_agent.platforms.http import HttpClient, Service
    from sip_agent.platforms.records import AgentRecords, StoredRecords

    settings = following.settings
    if not following.use_records:
        return None
    if not following.agent_url:
        return StoredRecords(settings.store.url, settings.base_dir)
    if not following.agent_url.startswith(("http://", "https://")):
        raise SettingsError(f"--agent-url: write http://host:8080, not {following.agent_url}")
    token = settings.api.token.get_secret_value()
    service = Service(
        name="the agent",
        base_url=following.agent_url,
        base_url_setting="--agent-url",
        credentials_setting="api.token_file, or SIP_AGENT_API__TOKEN",
    )
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    client = HttpClient(service, headers=headers, secrets=(token,) if token else ())
    return AgentRecords(await resources.enter_async_context(client))


async def follow(
    client: "CekuraClient",
    result: "Result",
    following: Following,
    records: "RecordSource | None",
    since: datetime,
    *,
    watch: "Callable[[Followed], None]" = lambda _: None,
) -> "Followed":
    """Follow runs to their end, and show how they go: a live table on a terminal, else a line for each change.

    `watch` is called whenever something was read. Whatever Cekura refuses now, it is too late for the exit status of
    wrong use, which says that nothing was started.
    """
    from sip_agent.platforms.cekura.runs import Follower
    from sip_agent.platforms.errors import PlatformError

    def progress(seen: "Followed") -> None:
        watch(seen)
        show(seen)

    with _shown() as show:
        follower = Follower(
            client,
            result,
            since=since,
            records=records,
            timeout_s=following.timeout_s,
            poll_s=following.poll_s,
            on_progress=progress,
            challenges=following.challenges,
            on_missing=lambda most_s: say(
                f"a failed run has no call here: a caller without digest credentials is recorded only when its time to "
                f"answer is over; waiting for that, {most_s:.0f} s at most"
            ),
        )
        try:
            return await follower.follow()
        except PlatformError as error:
            raise PlatformError(
                error.message,
                "; ".join(filter(None, (error.hint, f"take it up again: {following.wait_command(result.id)}"))),
            ) from error


async def follow_or_end(
    client: "CekuraClient",
    result_id: int,
    work: "Awaitable[Followed]",
    *,
    wait_command: str,
    held_here: bool = True,
) -> "Followed":
    """Return what `work` has followed; end the calls of the result if it is interrupted.

    Calls that are held here have nobody left when this command is: they are ended also if `work` fails or times out.
    """
    try:
        followed = await work
    except BaseException as error:
        if held_here or isinstance(error, Interrupted):
            await _end_calls(client, result_id, wait_command)
        raise
    if held_here and followed.timed_out:
        await _end_calls(client, result_id, wait_command)
    return followed


async def _end_calls(client: "CekuraClient", result_id: int, wait_command: str) -> None:
    """End the calls of a result, and say so."""
    from sip_agent.platforms.errors import PlatformError

    say(f"ending the calls of result {result_id}")
    try:
        await client.end_calls(result_id)
    except PlatformError as error:
        say(f"they may go on: {error}")
    say(f"what became of the runs: {wait_command}")


@contextmanager
def _shown() -> Iterator[Callable[["Followed"], None]]:
    if stderr.is_terminal:
        with Live(console=stderr, transient=True, auto_refresh=False) as live:
            yield lambda seen: live.update(runs_table(seen), refresh=True)
    else:
        yield _Lines().show


class _Lines:
    """One line for each change: what a CI log keeps."""

    def __init__(self) -> None:
        self._last: dict[int, str] = {}

    def show(self, seen: "Followed") -> None:
        from sip_agent.platforms.cekura.report import call_state, scenario_text

        for joined in seen.joined.runs:
            state = call_state(joined, joinable=seen.joinable)
            text = f"run {joined.run.id} {scenario_text(joined.run)}: {joined.run.status}; our call: {state}"
            if self._last.get(joined.run.id) != text:
                self._last[joined.run.id] = text
                say(f"{datetime.now(UTC):%H:%M:%S} {text}")


def conclude(followed: "Followed", following: Following, started_at: datetime, **circumstances: Any) -> ExitStatus:
    """Judge, report everywhere that was asked for, and return the exit status."""
    from sip_agent.platforms.cekura.gate import judge
    from sip_agent.platforms.cekura.junit import junit
    from sip_agent.platforms.cekura.markdown import markdown
    from sip_agent.platforms.cekura.report import Report

    report = Report(
        followed=followed,
        checks=tuple(judge(followed, following.limits)),
        started_at=started_at,
        ended_at=datetime.now(UTC),
        challenges=following.challenges,
        config=following.config,
        agent_url=following.agent_url,
        **circumstances,
    )
    if following.as_json:
        print_json(report.to_dict())
    else:
        print_report(report)
    if following.junit is not None:
        _write(following.junit, "w", junit(report))
    if following.markdown is not None:
        _write(following.markdown, "a", markdown(report))
    return exit_status_of(report)


def exit_status_of(report: "Report") -> ExitStatus:
    """Return what the verdict is as an exit status; what could not be found out does not tell against the agent."""
    if report.passed:
        return ExitStatus.DONE
    unknown = report.followed.problem and all(check.passed or check.value is None for check in report.checks)
    return ExitStatus.BROKEN if report.followed.timed_out or unknown else ExitStatus.TESTED_THING_FAILED


def _write(file: Path, mode: str, text: str) -> None:
    try:
        with file.open(mode, encoding="utf-8", errors="backslashreplace") as output:
            output.write(text)
    except OSError as error:
        raise SipAgentError(f"cannot write {file}: {error.strerror}") from error
