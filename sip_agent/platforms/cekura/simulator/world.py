"""The scenarios file: what is set up at Cekura by hand, and what the testing agents of the stand-in do.

Field names are those of Cekura's API (openapi.json: AIAgent, ScenarioList, AIAgentTestProfile). The stand-in's own are
`sip_address`, `faults`, and what a scenario has below `testing_agent` and `expect`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from media.wav import AudioFileError, open_audio
from sip_agent.digits import DTMF_DIGITS
from sip_agent.errors import SettingsError
from sip_agent.extra_headers import FIELD_NAME
from sip_agent.script import LoadedScript, load_script
from sip_agent.script.source import NOWHERE, Place, SourceError, place_of, read
from sip_agent.script.values import Duration, PlainText

FILE_BYTES_MAX = 1_000_000
"""A person writes the file."""

RESERVED_HEADERS = frozenset({"x-run-id", "x-scenario-id", "x-result-id"})
"""Always sent, and not to be overridden by a test profile (openapi.json, AIAgentTestProfile)."""

EXAMPLE = Path(__file__).with_name("example") / "cekura-scenarios.yaml"
"""The file that is read when none is named."""

_SIP_ENDPOINT = re.compile(r"sip:(?:[^\s@:;/]+@)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_HEADER_NAME = re.compile(f"X-{FIELD_NAME}")

Keys = tuple[str | int, ...]
Id = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Part(BaseModel):
    """A closed and immutable part of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SipAuth(Part):
    """Credentials for the agent's digest authentication (`sip_auth` of an agent)."""

    username: PlainText
    password: SecretStr


class Agent(Part):
    """An agent under test; its webhook overrides the project's."""

    id: Id
    name: PlainText
    sip_endpoint: str | None = None
    sip_auth: SipAuth | None = None
    webhook_url: str = ""
    webhook_secret: SecretStr = SecretStr("")


class Information(Part):
    """The variables of a test profile: those for the agent under test, and those for the testing agent's script."""

    main_agent_variables: dict[str, Any] = Field(default_factory=dict)
    testing_agent_variables: dict[str, Any] = Field(default_factory=dict)


class TestProfile(Part):
    """A test profile: the keys with X- of its `main_agent_variables` become headers of the INVITE."""

    __test__ = False  # no test of pytest's

    id: Id
    name: PlainText
    agent: Id | None = None
    information: Information = Field(default_factory=Information)

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Header fields for the INVITE. How a value that is no text is written is our own choice."""
        variables = self.information.main_agent_variables
        return tuple(
            (name, _header_text(value))
            for name, value in variables.items()
            if name.startswith("X-") and name.lower() not in RESERVED_HEADERS
        )


class Personality(Part):
    """A personality; here it is a name, and changes nothing in the call."""

    id: Id
    name: PlainText


class TestingAgent(Part):
    """Who calls: a script in the language of the handler `script`, or a sound file. Our own choice."""

    __test__ = False

    script: Path | None = None
    audio: Path | None = None
    stay: Duration | None = None
    """With a sound file: hang up so long after the answer; without it, once the file was played."""
    ring_timeout: Duration = timedelta(seconds=60)
    max_duration: Duration = timedelta(minutes=10)
    """How long a call may take, from its INVITE; then it is ended and its run is a `timeout`."""


class Expect(Part):
    """What is checked besides the answer and the script's end: see `evaluation`. Our own choice."""

    says: list[PlainText] = Field(default_factory=list)
    """Words that the agent has to say; a recognizer has to be set up (speech.recognizer)."""
    dtmf: PlainText = ""
    """Keys that the agent has to press, one after the other."""
    ends_call: bool | None = None
    """Whether it is the agent that hangs up, or the testing agent."""
    latency: Duration | None = None
    """The agent's answers begin at most so long after the caller's words: the 95th percentile."""


class Scenario(Part):
    """A scenario (Cekura also says evaluator)."""

    id: Id
    name: Annotated[PlainText, Field(max_length=80)]
    agent: Id
    testing_agent: TestingAgent
    expect: Expect = Field(default_factory=Expect)
    expected_outcome_prompt: PlainText = ""
    """For people: nothing here reads it."""
    instructions: PlainText = ""
    personality: Id | None = None
    test_profile: Id | None = None
    tags: list[PlainText] = Field(default_factory=list)
    folder_path: PlainText = ""


class Webhook(Part):
    """The project's webhook; `notify_pre_run_webhook` asks for `result.pre_trigger` before the calls."""

    url: str = ""
    secret: SecretStr = SecretStr("")
    notify_pre_run_webhook: bool = False


class Faults(Part):
    """What the API does wrong on purpose."""

    rate_limit_every: Annotated[int, Field(ge=2)] | None = None
    """Every so many requests, one is answered 429 with Retry-After."""
    retry_after: Duration = timedelta(seconds=1)
    insufficient_balance: bool = False
    """Runs are not started, for want of credits."""


class World(Part):
    """Everything that the stand-in knows.

    `concurrency_limit` is the organisation's parallel call limit (10 on the Developer plan), `calls_per_second` how
    fast calls are placed (5): docs.cekura.ai, Load Testing. `sip_address` is where the calls come from: 0.0.0.0 lets
    them leave the machine.
    """

    api_key: SecretStr
    sip_address: str = "127.0.0.1"
    concurrency_limit: Annotated[int, Field(ge=1, le=500)] = 10
    calls_per_second: Annotated[float, Field(gt=0, le=100)] = 5
    webhook: Webhook = Field(default_factory=Webhook)
    faults: Faults = Field(default_factory=Faults)
    agents: Annotated[list[Agent], Field(min_length=1)]
    personalities: list[Personality] = Field(default_factory=list)
    test_profiles: list[TestProfile] = Field(default_factory=list)
    scenarios: Annotated[list[Scenario], Field(min_length=1)]


class Setup:
    """A scenarios file that was found right: its world, by ids, and the scripts of its testing agents."""

    def __init__(self, world: World, scripts: Mapping[int, LoadedScript], folder: Path) -> None:
        self.world = world
        self.scripts = scripts
        self.folder = folder
        self.agents = {agent.id: agent for agent in world.agents}
        self.personalities = {personality.id: personality for personality in world.personalities}
        self.test_profiles = {profile.id: profile for profile in world.test_profiles}
        self.scenarios = {scenario.id: scenario for scenario in world.scenarios}

    def script(self, scenario: Scenario, profile: TestProfile | None) -> LoadedScript | None:
        """Return a scenario's script with the profile's `testing_agent_variables` that it has a use for."""
        loaded = self.scripts.get(scenario.id)
        if loaded is None or profile is None:
            return loaded
        given = profile.information.testing_agent_variables
        return loaded.with_variables({name: given[name] for name in loaded.script.variables if name in given})


def is_sip_endpoint(text: str) -> bool:
    """Tell whether a text has one of the forms that S-SIP shows: sip:user@host[:port], sip:host:port."""
    return _SIP_ENDPOINT.fullmatch(text) is not None


def load(path: Path) -> Setup:
    """Read a scenarios file and the scripts that it names, which are looked for where it really is.

    Raises SettingsError with a line FILE:LINE:COLUMN: message for each problem.
    """
    try:
        document = read(_text_of(path))
        world = World.model_validate(document)
    except SourceError as error:
        raise SettingsError(_describe(path, error.place, str(error))) from error
    except ValidationError as error:
        found = ((details["loc"], details["type"], details["msg"]) for details in error.errors(include_url=False))
        raise SettingsError("\n".join(_explain(path, document, *details) for details in found)) from None
    folder = path.resolve().parent
    problems = [_describe(path, place_of(document, keys), message) for keys, message in _problems(world, folder)]
    scripts: dict[int, LoadedScript] = {}
    for scenario in world.scenarios:
        if scenario.testing_agent.script is not None:
            try:
                scripts[scenario.id] = load_script(folder / scenario.testing_agent.script)
            except SettingsError as error:
                problems += str(error).splitlines()
    if problems:
        raise SettingsError("\n".join(dict.fromkeys(problems)))
    return Setup(world, scripts, folder)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        text = content.decode()
    except OSError as error:
        raise SourceError(NOWHERE, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SourceError(NOWHERE, "is not UTF-8: save it as UTF-8") from error
    if len(content) > FILE_BYTES_MAX:
        raise SourceError(NOWHERE, f"is too long: at most {FILE_BYTES_MAX} bytes")
    return text


_MESSAGES = {
    "extra_forbidden": "there is no such key here",
    "missing": "is missing: add it",
    "model_type": "write a mapping, like `key: value`",
    "list_type": "write a list: each item on a line of its own that begins with a dash",
    "string_type": "write a text",
}


def _explain(path: Path, document: Any, keys: Keys, kind: str, message: str) -> str:
    place = place_of(document, keys[:-1] if kind == "missing" else keys, of_key=kind == "extra_forbidden")
    name = ".".join(map(str, keys))
    text = _MESSAGES.get(kind, message.removeprefix("Value error, "))
    return _describe(path, place, f"{name}: {text}" if name else text)


def _describe(path: Path, place: Place, message: str) -> str:
    return f"{path}:{place.line}:{place.column}: {message}"


def _problems(world: World, folder: Path) -> Iterator[tuple[Keys, str]]:
    """Yield what is wrong with a file whose every part is right by itself."""
    if not world.api_key.get_secret_value().strip():
        yield ("api_key",), "api_key: must not be empty"
    try:
        ip_address(world.sip_address)
    except ValueError:
        yield ("sip_address",), "sip_address: write an IP address, like 127.0.0.1 or 0.0.0.0"
    lists: Mapping[str, Sequence[Agent | Personality | TestProfile | Scenario]] = {
        "agents": world.agents,
        "personalities": world.personalities,
        "test_profiles": world.test_profiles,
        "scenarios": world.scenarios,
    }
    ids: dict[str, set[int]] = {}
    for name, items in lists.items():
        known = ids.setdefault(name, set())
        for number, item in enumerate(items):
            if item.id in known:
                yield (name, number, "id"), f"id: {item.id} is here twice"
            known.add(item.id)
    for number, agent in enumerate(world.agents):
        if agent.sip_endpoint is not None and not is_sip_endpoint(agent.sip_endpoint):
            yield ("agents", number, "sip_endpoint"), "sip_endpoint: write sip:user@host[:port]"
    for number, profile in enumerate(world.test_profiles):
        yield from _profile_problems(profile, ("test_profiles", number), ids["agents"])
    for number, scenario in enumerate(world.scenarios):
        yield from _scenario_problems(scenario, ("scenarios", number), ids, folder)


def _profile_problems(profile: TestProfile, keys: Keys, agents: set[int]) -> Iterator[tuple[Keys, str]]:
    if profile.agent is not None and profile.agent not in agents:
        yield (*keys, "agent"), f"agent: there is no agent {profile.agent}"
    here: Keys = (*keys, "information", "main_agent_variables")
    for name, value in profile.headers:
        if not _HEADER_NAME.fullmatch(name):
            yield (*here, name), f"{name}: this is no name of a header field"
        if not value.isprintable():
            yield (*here, name), f"{name}: a header field has one line of printable text"


def _scenario_problems(
    scenario: Scenario, keys: Keys, ids: Mapping[str, set[int]], folder: Path
) -> Iterator[tuple[Keys, str]]:
    references = {
        "agent": (scenario.agent, "agents"),
        "personality": (scenario.personality, "personalities"),
        "test_profile": (scenario.test_profile, "test_profiles"),
    }
    for name, (reference, of) in references.items():
        if reference is not None and reference not in ids[of]:
            yield (*keys, name), f"{name}: there is no {reference} below `{of}:`"
    tester = scenario.testing_agent
    if (tester.script is None) == (tester.audio is None):
        yield (*keys, "testing_agent"), "testing_agent: write either script or audio"
    if tester.audio is not None:
        try:
            open_audio(folder / tester.audio, 16_000).close()
        except (OSError, AudioFileError) as error:
            yield (*keys, "testing_agent", "audio"), f"audio: {error}"
    if tester.script is not None and tester.stay is not None:
        yield (*keys, "testing_agent", "stay"), "stay: a script says itself when it hangs up"
    if set(scenario.expect.dtmf.upper()) - DTMF_DIGITS:
        yield (*keys, "expect", "dtmf"), "dtmf: write DTMF digits: 0-9 * # A-D"


def _header_text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: ""}[value]
    return str(value)
