"""The API of the stand-in: the documented paths and shapes, and the documented refusals word for word."""

import json
from pathlib import Path
from typing import Any

import pytest

from sip_agent.errors import SettingsError
from sip_agent.platforms.cekura.client import CekuraClient
from sip_agent.platforms.cekura.simulator.server import Simulator
from sip_agent.platforms.cekura.simulator.starting import BAD_SCENARIOS
from sip_agent.platforms.cekura.simulator.world import Setup
from sip_agent.platforms.errors import Refused, Unavailable
from tests.platforms.cekura.simulator.switchboard import (
    KEY,
    Client,
    Switchboard,
    answered_record,
    serving,
    until_over,
    write_setup,
)

SCHEMAS = Path(__file__).with_name("openapi-keys.json")


@pytest.fixture(autouse=True)
def calls_that_go_well(telephone: Switchboard) -> None:
    """Every call is answered, and over at once."""
    telephone.answer = lambda _: answered_record()


async def test_the_answer_to_the_start(client: Client) -> None:
    """It has what the vendor's page shows: a list of runs, each with its scenario and profile."""
    started = await client.start(scenarios=[101], name="Nightly")

    assert ("Nightly", 5, "in_progress") == (started["name"], started["agent"], started["status"])
    (run,) = started["runs"]
    assert (101, "Books a table", "running") == (run["scenario"], run["scenario_name"], run["status"])
    assert "Party of four" == run["test_profile_data"]["name"]


@pytest.mark.parametrize(
    ("body", "scenarios"),
    [
        ({"scenarios": [103, 101]}, [103, 101]),
        ({"scenarios": 2}, [101, 102]),
        ({"scenarios": "all"}, [101, 102, 103]),
        ({"tags": ["smoke"]}, [101, 102]),
        ({"folder_path": "Restaurant"}, [101, 103]),
        ({"scenarios": [101], "frequency": 2}, [101, 101]),
        ({"scenarios": [101], "personality_ids": [7, 8], "test_profile_ids": [12, 13]}, [101] * 4),
        ({"scenarios": [102], "test_profile_id": 13, "personality_id": None}, [102]),
    ],
)
async def test_which_runs_come_of_it(client: Client, body: dict[str, Any], scenarios: list[int]) -> None:
    """Scenarios times frequency times personalities times profiles."""
    started = await client.start(**body)

    assert scenarios == [run["scenario"] for run in started["runs"]]


async def test_ids_alone_name_the_agent(client: Client) -> None:
    """`agent_id` may be left out with a list of scenarios."""
    path = "/test_framework/v2/scenarios/run_scenarios_sip"
    status, started, _ = await client.ask("POST", path, {"scenarios": [101]})

    assert (200, 5) == (status, started["agent"])


async def test_an_endpoint_for_this_run(client: Client, telephone: Switchboard) -> None:
    """`sip_endpoint` overrides the agent's, also of one that has none."""
    await client.start(agent_id=6, scenarios=[201], sip_endpoint="sip:me@127.0.0.1:5099")
    await telephone.until(1)

    assert "sip:me@127.0.0.1:5099" == telephone.calls[0].request.uri


NO_ENDPOINT = "Agent does not have a SIP endpoint configured. Please configure sip_endpoint in the agent settings."


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"agent_id": 6, "scenarios": [201]}, {"sip_endpoint": [NO_ENDPOINT]}),
        (
            {"scenarios": [101], "sip_endpoint": "agent@127.0.0.1"},
            {"sip_endpoint": ["Invalid SIP URI format. Expected format: sip:user@host[:port]"]},
        ),
        ({"agent_id": 5, "scenarios": [999]}, {"scenarios": ["Invalid scenario IDs or scenarios not found"]}),
        ({"agent_id": 5, "scenarios": [201]}, {"scenarios": [BAD_SCENARIOS]}),
        ({"scenarios": [101, 201]}, {"scenarios": [BAD_SCENARIOS]}),
        ({"scenarios": []}, {"scenarios": [BAD_SCENARIOS]}),
        ({"scenarios": ["101"]}, {"scenarios": [BAD_SCENARIOS]}),
        ({"agent_id": 5, "scenarios": True}, {"scenarios": [BAD_SCENARIOS]}),
        ({"agent_id": 5, "tags": ["none"]}, {"scenarios": [BAD_SCENARIOS]}),
        ({"agent_id": 5}, {"scenarios": ["This field is required."]}),
        ({"scenarios": "all"}, {"agent_id": ["This field is required."]}),
        ({"agent_id": 99, "scenarios": [101]}, {"agent_id": ['Invalid pk "99" - object does not exist.']}),
        ({"agent_id": "5", "scenarios": [101]}, {"agent_id": ["A valid integer is required."]}),
        (
            {"scenarios": [101], "frequency": 0},
            {"frequency": ["Ensure this value is greater than or equal to 1."]},
        ),
        (
            {"scenarios": [101], "frequency": 10_000},
            {"frequency": ["the stand-in starts at most 1000 runs at once"]},
        ),
        (
            {"scenarios": [101], "test_profile_ids": [99]},
            {"test_profile_ids": ['Invalid pk "99" - object does not exist.']},
        ),
        (
            {"scenarios": [101], "personality_ids": 7},
            {"personality_ids": ['Expected a list of items but got type "int".']},
        ),
        ({"scenarios": [101], "name": 7}, {"name": ["Not a valid string."]}),
    ],
)
async def test_a_start_that_is_refused(
    client: Client, telephone: Switchboard, body: dict[str, Any], answer: dict[str, Any]
) -> None:
    """Nothing is started, and the answer says why: where the vendor documents it, in the vendor's words."""
    assert answer == await client.refused(**body)
    assert 0 == (await client.get("/v2/results/"))["count"]
    assert [] == telephone.calls


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000])
async def test_a_start_that_is_no_json(client: Client, simulator: tuple[Simulator, Client], text: str) -> None:
    """What is no JSON is refused as such."""
    path = f"{simulator[0].url}/test_framework/v1/scenarios/run_scenarios_sip/"
    async with client.session.post(path, data=text, headers={"X-CEKURA-API-KEY": KEY}) as response:
        assert 400 == response.status
        assert (await response.json())["detail"].startswith("JSON parse error")


async def test_a_start_that_is_no_object(client: Client) -> None:
    """A list is no request."""
    status, _, _ = await client.ask("POST", "/test_framework/v1/scenarios/run_scenarios_sip/", [1])

    assert 400 == status


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("alias", ["", "-external"])
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_every_path_has_its_aliases(client: Client, version: str, alias: str, slash: str) -> None:
    """`-external` or not, v1 or v2, with and without a slash at the end."""
    base = f"/test_framework/{version}"
    status, started, _ = await client.ask(
        "POST", f"{base}/scenarios{alias}/run_scenarios_sip{slash}", {"scenarios": [101]}
    )
    assert 200 == status
    run_id, result_id = started["runs"][0]["id"], started["id"]
    bulk = await client.get(f"/{version}/runs{alias}/bulk{slash}", run_ids=str(run_id))
    assert [run_id] == [run["id"] for run in bulk]
    assert run_id == (await client.get(f"/{version}/runs{alias}/{run_id}{slash}"))["id"]
    assert result_id == (await client.get(f"/{version}/results{alias}/{result_id}{slash}"))["id"]
    assert 4 == (await client.get(f"/{version}/scenarios{alias}{slash}"))["count"]
    assert 2 == len(await client.get(f"/{version}/test-profiles{alias}{slash}"))
    assert 5 == (await client.get(f"/{version}/aiagents{alias}/5{slash}"))["id"]
    for path in (f"runs{alias}/{run_id}/end_call", f"results{alias}/{result_id}/end_calls"):
        status, _, _ = await client.ask("POST", f"{base}/{path}{slash}")
        assert 200 == status


async def test_the_documents_have_documented_keys_alone(client: Client) -> None:
    """A run, a result and a profile have no key that openapi.json does not know."""
    known = json.loads(SCHEMAS.read_text())
    started = await client.start(scenarios=[101])
    result = await until_over(client, started["id"])

    (run,) = result["runs"].values()
    assert set() == run.keys() - set(known["Run"])
    assert set() == result.keys() - set(known["ResultDetailV2"])
    assert set() == run["evaluation"]["metrics"][0].keys() ^ set(known["CallLogListSerializerMetricsWithExplanation"])
    assert set() == run["expected_outcome"].keys() ^ set(known["ExpectedOutcome"])
    (profile, _) = await client.get("/v1/test-profiles/")
    assert set() == profile.keys() - set(known["AIAgentTestProfileList"])


async def test_the_result(client: Client) -> None:
    """Runs by their ids as text, counts as numbers, the rate of success in percent; as a share in a list."""
    started = await client.start(scenarios=[101, 102])
    result = await until_over(client, started["id"])

    assert {str(run["id"]) for run in started["runs"]} == result["runs"].keys()
    assert (2, 2, 0, 100.0) == (
        result["total_runs_count"],
        result["success_runs_count"],
        result["failed_runs_count"],
        result["success_rate"],
    )
    assert {"Average Ringing Duration": 1.5} == result["overall_evaluation"]["extra_metrics"]
    (listed,) = (await client.get("/v2/results/", agent_id="5"))["results"]
    assert (1.0, result["id"]) == (listed["success_rate"], listed["id"])
    assert "runs" not in listed


async def test_the_transcript_is_the_testing_agents(client: Client) -> None:
    """It has what was said and what was understood, by Cekura's names."""
    started = await client.start(scenarios=[101])
    (run,) = (await until_over(client, started["id"]))["runs"].values()

    said, heard = run["transcript_object"]
    assert ("Testing Agent", "A table, please.", "00:02") == (said["role"], said["content"], said["time"])
    assert ("Main Agent", "It is booked.", 5.5) == (heard["role"], heard["content"], heard["start_time"])


async def test_runs_by_ids(client: Client) -> None:
    """Unknown ones are left out; the ids are plain text."""
    started = await client.start(scenarios=[101, 102])
    first, second = (str(run["id"]) for run in started["runs"])

    assert [int(second), int(first)] == [
        run["id"] for run in await client.get("/v2/runs/bulk/", run_ids=f"{second},7,{first}")
    ]
    assert [] == await client.get("/v2/runs/bulk/", run_ids=first, result_id="7")
    for wrong in (f"[{first}]", "", "a"):
        status, _, _ = await client.ask("GET", "/test_framework/v2/runs/bulk/", params={"run_ids": wrong})
        assert 400 == status


@pytest.mark.parametrize(
    ("params", "ids"),
    [
        ({"agent_id": "5"}, [101, 102, 103]),
        ({"tags": "smoke"}, [101, 102]),
        ({"tags": "smoke,slow", "tag_filter_type": "and"}, [102]),
        ({"tags": "slow", "tag_filter_type": "not"}, [101, 103, 201]),
        ({"folder_path": "Restaurant.Bookings"}, [101]),
    ],
)
async def test_scenarios_by_filters(client: Client, params: dict[str, str], ids: list[int]) -> None:
    """By agent, tags and folder."""
    assert ids == [item["id"] for item in (await client.get("/v1/scenarios/", **params))["results"]]


async def test_lists_have_pages(client: Client) -> None:
    """`next` leads from page to page; behind the last one there is nothing."""
    first = await client.get("/v1/scenarios/", page_size="3")
    status, last, _ = await client.ask("GET", first["next"][first["next"].index("/test_framework") :])

    assert (4, 3, 200, 1, None) == (first["count"], len(first["results"]), status, len(last["results"]), last["next"])
    status, document, _ = await client.ask("GET", "/test_framework/v1/scenarios/?page=9")
    assert (404, {"detail": "Invalid page."}) == (status, document)


async def test_an_agent_in_both_versions(client: Client) -> None:
    """`sip_endpoint` in v1, `telephony.sip_uri` in v2; never its password."""
    first, second = await client.get("/v1/aiagents/5/"), await client.get("/v2/aiagents/5/")

    assert ("sip:agent@127.0.0.1:5060", True) == (first["sip_endpoint"], first["inbound"])
    assert "sip:agent@127.0.0.1:5060" == second["telephony"]["sip_uri"]
    assert {"username": "cekura"} == first["sip_auth"] == second["telephony"]["sip_auth"]


@pytest.mark.parametrize("path", ["/v2/results/7/", "/v1/runs/7/", "/v2/aiagents/7/", "/v1/scenarios/7", "/v1/no/"])
async def test_what_is_not_there(client: Client, path: str) -> None:
    """404 with a detail."""
    status, document, _ = await client.ask("GET", f"/test_framework{path}")

    assert (404, {"detail": "Not found."}) == (status, document)


@pytest.mark.parametrize("key", ["", "another-key", "th\u00e9-key"])
async def test_without_the_key(client: Client, telephone: Switchboard, key: str) -> None:
    """401, and nothing is started."""
    path = "/test_framework/v1/scenarios/run_scenarios_sip/"
    status, document, _ = await client.ask("POST", path, {"scenarios": [101]}, key=key)

    assert (401, ["detail"]) == (status, [*document])
    assert [] == telephone.calls


async def test_it_says_what_it_is(client: Client) -> None:
    """Nobody takes it for Cekura."""
    status, document, headers = await client.ask("GET", "/", key="")

    assert 200 == status
    assert "stand-in" in document["detail"]
    assert "stand-in" in headers["Server"]


async def test_faults(tmp_path: Path, telephone: Switchboard) -> None:
    """Every so many requests one is refused for its rate, and says when to come again."""
    setup = write_setup(tmp_path, "faults: {rate_limit_every: 2, retry_after: 1500ms}\n")
    async with serving(setup, telephone, tmp_path) as (_, client):
        answers = [await client.ask("GET", "/test_framework/v2/aiagents/5/") for _ in range(4)]

    assert [200, 429, 200, 429] == [status for status, _, _ in answers]
    assert "2" == answers[1][2]["Retry-After"]


async def test_want_of_credits(tmp_path: Path, telephone: Switchboard) -> None:
    """The vendor's words."""
    setup = write_setup(tmp_path, "faults: {insufficient_balance: true}\n")
    async with serving(setup, telephone, tmp_path) as (_, client):
        assert {"detail": "Insufficient balance for this operation"} == await client.refused(scenarios=[101])


async def test_an_address_that_is_taken(setup: Setup, simulator: tuple[Simulator, Client], tmp_path: Path) -> None:
    """It says which, and what to do."""
    port = int(simulator[0].url.rpartition(":")[2])
    with pytest.raises(SettingsError, match=f"--bind: 127.0.0.1:{port} cannot be opened"):
        async with Simulator(setup, Switchboard(), tmp_path, host="127.0.0.1", port=port):
            pass


async def test_our_own_client_understands_it(simulator: tuple[Simulator, Client]) -> None:
    """What the client of `sip-agent cekura run` asks for is there."""
    url = simulator[0].url
    async with CekuraClient(url, KEY) as own:
        scenarios = await own.scenarios(agent_id=5, tags=["smoke"])
        started = await own.start_sip_run({"agent_id": 5, "scenarios": [scenarios[0].id]})
        await until_over(simulator[1], started.result_id)
        result = await own.result(started.result_id)
        (run,) = await own.runs([run.id for run in started.runs])
        agent = await own.agent(5)
        with pytest.raises(Refused, match="give one: --sip-endpoint"):
            await own.start_sip_run({"agent_id": 6, "scenarios": [201]})
    assert (True, 100.0, 1) == (run.passed, run.expected_outcome and run.expected_outcome.score, result.successful_runs)
    assert "sip:agent@127.0.0.1:5060" == agent.sip_endpoint
    async with CekuraClient(url, "wrong") as own:
        with pytest.raises((Refused, Unavailable), match="api_key"):
            await own.agent(5)
