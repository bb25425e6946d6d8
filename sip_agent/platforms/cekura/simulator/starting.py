"""The request that starts SIP runs: what is refused, and which runs come of the rest.

Documented (openapi.json, SchemaPostRunScenariosSip; S-SIP): the fields, `scenarios` as a list, as the first so many
or as "all", the number of runs, and the texts of `sip_endpoint` and `scenarios` errors. The other texts are those
that Django REST framework has for such mistakes, or our own. Fields that are not known are passed over.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any, TypeGuard, TypeVar

from sip_agent.platforms.cekura.simulator.runs import Ledger, Result, Run
from sip_agent.platforms.cekura.simulator.world import Agent, Scenario, Setup, is_sip_endpoint

T = TypeVar("T")

RUNS_MAX = 1000
"""Runs of one request: our own bound."""

NO_ENDPOINT = "Agent does not have a SIP endpoint configured. Please configure sip_endpoint in the agent settings."
BAD_ENDPOINT = "Invalid SIP URI format. Expected format: sip:user@host[:port]"
BAD_SCENARIOS = "Invalid scenario IDs or scenarios not found"
BALANCE = "Insufficient balance for this operation"


class BadRequest(Exception):  # noqa: N818  (an answer: 400 with a document)
    """The request is refused; `document` is what the API answers."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(str(document))
        self.document = document


def wrong(field: str, *texts: str) -> BadRequest:
    """Return the refusal of one field."""
    return BadRequest({field: list(texts)})


def new_result(body: Any, setup: Setup, ledger: Ledger) -> Result:
    """Return the result that a starting request asks for, with its runs, and keep it. Raises BadRequest."""
    if not isinstance(body, Mapping):
        raise wrong("non_field_errors", "Invalid data. Expected a dictionary.")
    scenarios = _scenarios(body, setup)
    agent = setup.agents[scenarios[0].agent]
    if any(scenario.agent != agent.id for scenario in scenarios):
        raise wrong("scenarios", BAD_SCENARIOS)
    endpoint = _text(body, "sip_endpoint") or agent.sip_endpoint
    if not endpoint:
        raise wrong("sip_endpoint", NO_ENDPOINT)
    if not is_sip_endpoint(endpoint):
        raise wrong("sip_endpoint", BAD_ENDPOINT)
    personalities = _chosen(body, "personality_ids", "personality_id", setup.personalities)
    profiles = _chosen(body, "test_profile_ids", "test_profile_id", setup.test_profiles)
    frequency = _number(body, "frequency") or 1
    if len(scenarios) * len(personalities) * len(profiles) * frequency > RUNS_MAX:
        raise wrong("frequency", f"the stand-in starts at most {RUNS_MAX} runs at once")
    if setup.world.faults.insufficient_balance:
        raise BadRequest({"detail": BALANCE})
    now = datetime.now(UTC)
    result = Result(
        id=ledger.new_id(),
        name=_text(body, "name") or "SIP Test Run",
        agent=agent,
        concurrency_limit=_number(body, "concurrency_limit"),
        created_at=now,
        updated_at=now,
    )
    for scenario, _, personality, profile in product(scenarios, range(frequency), personalities, profiles):
        run = Run(
            id=ledger.new_id(),
            result=result,
            scenario=scenario,
            personality=personality or setup.personalities.get(scenario.personality or 0),
            test_profile=profile or setup.test_profiles.get(scenario.test_profile or 0),
            sip_endpoint=endpoint,
            created_at=now,
        )
        result.runs.append(run)
    ledger.add(result)
    return result


def folder_has(folder: str, scenario: Scenario) -> bool:
    """Tell whether a scenario is in a folder or below it; that those below count is our own choice."""
    return scenario.folder_path == folder or scenario.folder_path.startswith(f"{folder}.")


def _scenarios(body: Mapping[str, Any], setup: Setup) -> Sequence[Scenario]:
    agent = _agent(body, setup)
    asked = body.get("scenarios")
    tags, folder = body.get("tags"), _text(body, "folder_path")
    own = [scenario for scenario in setup.world.scenarios if agent is None or scenario.agent == agent.id]
    if isinstance(asked, list):
        by_id = {scenario.id: scenario for scenario in own}
        if not asked or not all(_is_int(number) and number in by_id for number in asked):
            raise wrong("scenarios", BAD_SCENARIOS)
        return [by_id[number] for number in asked]
    if agent is None:
        raise wrong("agent_id", "This field is required.")
    if _is_int(asked) and asked > 0:
        own = own[:asked]
    elif isinstance(tags, list) and tags:
        own = [scenario for scenario in own if not set(map(str, tags)).isdisjoint(scenario.tags)]
    elif folder:
        own = [scenario for scenario in own if folder_has(folder, scenario)]
    elif asked != "all":
        raise wrong("scenarios", "This field is required." if asked is None else BAD_SCENARIOS)
    if not own:
        raise wrong("scenarios", BAD_SCENARIOS)
    return own


def _agent(body: Mapping[str, Any], setup: Setup) -> Agent | None:
    number = _number(body, "agent_id")
    if number is not None and number not in setup.agents:
        raise wrong("agent_id", f'Invalid pk "{number}" - object does not exist.')
    return None if number is None else setup.agents[number]


def _chosen(body: Mapping[str, Any], many: str, one: str, known: Mapping[int, T]) -> Sequence[T | None]:
    """Return what overrides a scenario's own personality or profile; `[None]` if nothing does."""
    numbers = body.get(many)
    if numbers is None:
        number = _number(body, one)
        numbers = [] if number is None else [number]
    if not isinstance(numbers, list):
        raise wrong(many, f'Expected a list of items but got type "{type(numbers).__name__}".')
    for number in numbers:
        if not _is_int(number) or number not in known:
            raise wrong(many, f'Invalid pk "{number}" - object does not exist.')
    return [known[number] for number in numbers] or [None]


def _number(body: Mapping[str, Any], field: str) -> int | None:
    value = body.get(field)
    if value is None:
        return None
    if not _is_int(value):
        raise wrong(field, "A valid integer is required.")
    if value < 1:
        raise wrong(field, "Ensure this value is greater than or equal to 1.")
    return value


def _text(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if value is not None and not isinstance(value, str):
        raise wrong(field, "Not a valid string.")
    return value or ""


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
