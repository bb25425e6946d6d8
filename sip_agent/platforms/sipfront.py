"""Sipfront: start a test that stands ready there, follow it, and find the calls that it placed here.

Sources: sipfront.com/docs/api/basics, sipfront.com/docs/api/metrics (what a run's status looks like), and Sipfront's
own GitHub action (github.com/sipfront/action-call-test), which sends JSON and polls every 3 s. Calls of Sipfront carry
no id of their run: they are told by when they came, and whom for.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import quote

from sip_agent.config import BodyFormat
from sip_agent.errors import MessageError, SettingsError
from sip_agent.invite import SipUri
from sip_agent.platforms.cekura.join import Record, is_complete
from sip_agent.platforms.errors import PlatformError, Refused, StartUncertain, Unavailable
from sip_agent.platforms.http import PATIENCE_S, Clock, HttpClient, Service, ServiceClient, said_in
from sip_agent.platforms.records import RecordSource
from sip_agent.status import Direction

SERVICE_NAME = "Sipfront"
POLL_S = 3.0
CALLING_STEP = "1.0"
"""In a basic call test the caller acts in the second step: `step.1.0`."""

CLOCK_SKEW = timedelta(seconds=5)
"""How long before the start, and after the end, a call may have come in: clocks are read at different moments."""

SETTLE_S = 30.0
SETTLE_POLL_S = 1.0
"""The end and the measures of our own calls may come after the run is over."""

_OVERRIDE = re.compile(r"(step\.\d{1,3}\.\d{1,3}\.[A-Za-z_][A-Za-z0-9_.]*)=(.*)", re.DOTALL)
_STEP = re.compile(r"\d{1,3}\.\d{1,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRequest:
    """Which test to start, by name or by id, and what to override: `step.I.J.KEY` to its value."""

    __test__ = False  # for pytest: this is no test

    name: str = ""
    test_id: int | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    kiosk: bool = False

    def fields(self) -> dict[str, str]:
        """Return the fields of the starting request."""
        chosen = {"test.name": self.name} if self.test_id is None else {"test.id": str(self.test_id)}
        return chosen | dict(self.overrides) | ({"report.mode": "kiosk"} if self.kiosk else {})

    @property
    def destination(self) -> str:
        """Whom the calling party is told to dial; empty where the test itself says."""
        dialled = [value for key, value in self.overrides.items() if key.endswith(".dial_destination")]
        return dialled[0] if len(set(dialled)) == 1 else ""


def read_overrides(settings: Sequence[str], *, step: str = CALLING_STEP, **named: str) -> dict[str, str]:
    """Return what is overridden: `step.I.J.KEY=VALUE` texts, and named values of one step (empty ones left out).

    Raises SettingsError for a text of another form, and for a key that is given twice.
    """
    if not _STEP.fullmatch(step):
        raise SettingsError(f"--step: {step!r}: write step and action, like {CALLING_STEP}; both are counted from 0")
    found = {f"step.{step}.{key}": value for key, value in named.items() if value}
    for text in settings:
        match = _OVERRIDE.fullmatch(text)
        if match is None:
            raise SettingsError(f"--set: {text!r}: write step.STEP.ACTION.KEY=VALUE, like step.1.0.max_total_calls=10")
        if match[1] in found:
            raise SettingsError(f"{match[1]} is given twice: keep one")
        found[match[1]] = match[2]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedTest:
    """A run that was started."""

    __test__ = False

    session_id: str
    report_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRun:
    """What Sipfront says of a run; `passed` is None while it goes on, and times are text as Sipfront has them."""

    __test__ = False

    session_id: str
    status: str = ""
    passed: bool | None = None
    description: str = ""
    test_name: str = ""
    project_name: str = ""
    tags: tuple[str, ...] = ()
    started_at: str = ""
    stopped_at: str = ""

    @classmethod
    def parse(cls, document: Any, session_id: str) -> Self:
        """Read a status; raises PlatformError if it is none."""
        run = document.get("run") if isinstance(document, Mapping) else None
        if not isinstance(run, Mapping):
            raise PlatformError(
                f"{SERVICE_NAME}'s answer on run {session_id} has no 'run'", "is sipfront.base_url right?"
            )
        # Sipfront's own action reads `session_status` instead.
        status = _text(run.get("status")) or _text(run.get("session_status"))
        return cls(
            session_id=session_id,
            status=status.lower(),
            passed=_verdict(run, status.lower()),
            description=_text(run.get("result_description")),
            test_name=_text(run.get("test_name")),
            project_name=_text(run.get("project_name")),
            tags=_tags(run.get("tags")),
            started_at=_text(run.get("started_at")),
            stopped_at=_text(run.get("stopped_at")),
        )


def _verdict(run: Mapping[str, Any], status: str) -> bool | None:
    """Return whether a run has passed, by its flags and its status; if they differ, it has not."""
    said = {_flag(run.get("has_passed")), {"passed": True, "failed": False}.get(status)} - {None}
    if _flag(run.get("is_failed")):
        said.add(False)
    finished = _flag(run.get("is_finished"))
    if finished is False or (finished is None and status not in {"passed", "failed"}):
        return None
    return said == {True}


def _flag(value: Any) -> bool | None:
    return {"0": False, "1": True, "False": False, "True": True}.get(str(value))


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _tags(value: Any) -> tuple[str, ...]:
    """Read tags: a list, which is written as JSON in a string."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return ()
    return tuple(tag for tag in value if isinstance(tag, str)) if isinstance(value, list) else ()


class SipfrontClient(ServiceClient):
    """Asks Sipfront; `async with`. Every method raises PlatformError. Only reading is repeated after a failure."""

    def __init__(
        self,
        base_url: str,
        public_key: str,
        secret_key: str,
        *,
        body: BodyFormat = BodyFormat.FORM,
        clock: Clock | None = None,
        on_retry: Callable[[Unavailable, float], None] | None = None,
    ) -> None:
        if not public_key or not secret_key:
            missing = "sipfront.secret_key_file" if public_key else "sipfront.public_key"
            raise SettingsError(
                f"{missing}: not set: write both keys into the settings (a pair is made in Sipfront's web interface, "
                "under API keys), or set SIP_AGENT_SIPFRONT__PUBLIC_KEY and SIP_AGENT_SIPFRONT__SECRET_KEY"
            )
        if ":" in public_key:
            raise SettingsError("sipfront.public_key: it holds a colon, which no user name of Basic authentication may")
        service = Service(
            name=SERVICE_NAME,
            base_url=base_url,
            base_url_setting="sipfront.base_url",
            credentials_setting="sipfront.public_key and sipfront.secret_key_file",
        )
        credentials = base64.b64encode(f"{public_key}:{secret_key}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Accept": "application/json"}
        secrets = (secret_key, credentials)
        super().__init__(HttpClient(service, headers=headers, secrets=secrets, clock=clock, on_retry=on_retry))
        self._body = body

    async def start(self, request: TestRequest) -> StartedTest:
        """Start a test. The request is sent once, whatever becomes of its answer.

        Raises Refused; StartUncertain when it was sent and its answer was lost.
        """
        fields = request.fields()
        content: dict[str, Any] = {"json": fields} if self._body is BodyFormat.JSON else {"data": fields}
        try:
            answer = await self.http.post("/tests/run", **content)
        except Unavailable as error:
            if not error.sent:
                raise
            raise _uncertain(error.message) from error
        data = answer.get("data") if isinstance(answer, Mapping) else None
        session_id = _text(data.get("session_id")) if isinstance(data, Mapping) else ""
        if isinstance(data, Mapping) and session_id:
            return StartedTest(session_id=session_id, report_url=_text(data.get("report_url")))
        status = answer.get("status") if isinstance(answer, Mapping) else None
        if isinstance(status, int) and status >= 400:
            raise Refused(
                f"{SERVICE_NAME} refused to start the test ({status}): {said_in(answer)}",
                "check the test's name or id, and what is overridden",
                status=status,
                document=answer,
            )
        raise _uncertain(f"{SERVICE_NAME}'s answer names no session")

    async def status(self, session_id: str, *, patience_s: float = PATIENCE_S) -> TestRun:
        """Return how a run stands; transient failures are ridden out for `patience_s`."""
        path = f"/runs/{quote(session_id, safe='')}/status"
        return TestRun.parse(await self.http.get(path, patience_s=patience_s), session_id)

    async def until_over(
        self, session_id: str, *, timeout_s: float, poll_s: float = POLL_S, on_change: Callable[[TestRun], None]
    ) -> TestRun:
        """Follow a run to its end, or until `timeout_s` has passed: then its `passed` is None."""
        clock = self.http.clock
        deadline = clock.now() + timeout_s
        last = ""
        while True:
            run = await self.status(session_id, patience_s=max(0.0, deadline - clock.now()))
            if run.status != last:
                last = run.status
                on_change(run)
            if run.passed is not None or clock.now() + poll_s > deadline:
                return run
            await clock.sleep(poll_s)


def _uncertain(cause: str) -> StartUncertain:
    return StartUncertain(
        f"the test may have been started: {cause}", f"nothing is sent twice; look at {SERVICE_NAME} under its test runs"
    )


async def collect_calls(source: RecordSource, *, destination: str, since: datetime, clock: Clock) -> list[Record]:
    """Return the calls of a run that is over, once their records are complete, or have had their time for it.

    Raises SipAgentError if the records cannot be read.
    """
    until = datetime.now(UTC)
    give_up_at = clock.now() + SETTLE_S
    while True:
        calls = calls_of(await source.since(since - CLOCK_SKEW), destination=destination, since=since, until=until)
        if all(map(is_complete, calls)) or clock.now() + SETTLE_POLL_S > give_up_at:
            return calls
        await clock.sleep(SETTLE_POLL_S)


def calls_of(records: Iterable[Record], *, destination: str, since: datetime, until: datetime) -> list[Record]:
    """Return the calls that came in meanwhile for a destination (a SIP URI, a user or number; empty: for anybody)."""
    wanted = _user(destination)
    return [
        record
        for record in records
        if record["direction"] == Direction.INBOUND
        and since - CLOCK_SKEW <= datetime.fromisoformat(record["invite_received_at"]) <= until + CLOCK_SKEW
        and (not wanted or wanted in {_user(record["request_uri"] or ""), _user(record["to_uri"] or "")})
    ]


def _user(text: str) -> str:
    """Return whom a destination names: the user of a URI, or of user@host, or the text itself."""
    try:
        uri = SipUri.parse(text)
    except MessageError:
        return text.partition("@")[0]
    return uri.user or uri.host or text.partition("@")[0]
