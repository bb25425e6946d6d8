"""The scenarios file: what is right, and what is said about what is wrong."""

from pathlib import Path

import pytest

from sip_agent.errors import SettingsError
from sip_agent.platforms.cekura.simulator.world import EXAMPLE, is_sip_endpoint, load
from tests.platforms.cekura.simulator.switchboard import write_setup

REPOSITORY = Path(__file__).parents[4]
LINK = REPOSITORY / "deploy" / "examples" / "cekura-scenarios.yaml"


@pytest.mark.parametrize("path", [EXAMPLE, LINK])
def test_the_example_is_right(path: Path) -> None:
    """The example can be read where it is shipped, and where it is shown."""
    setup = load(path)

    assert [101, 102, 103] == [*setup.scenarios]
    assert {101, 102, 103} == setup.scripts.keys()


def test_keys_with_x_become_headers(tmp_path: Path) -> None:
    """Of `main_agent_variables`, those with X- are headers; the reserved ones cannot be overridden."""
    setup = write_setup(tmp_path)

    assert (("X-Tier", "premium"), ("X-Count", "3")) == setup.test_profiles[12].headers


def test_the_profile_fills_the_script(tmp_path: Path) -> None:
    """`testing_agent_variables` go into the variables that the script has, and nowhere else."""
    setup = write_setup(tmp_path)

    script = setup.script(setup.scenarios[101], setup.test_profiles[12])
    assert script is not None
    assert {"people": "four"} == script.script.variables


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("colour: red", ":29:1: colour: there is no such key here"),
        ("concurrency_limit: none", "concurrency_limit: Input should be a valid integer"),
        ("sip_address: here", "sip_address: write an IP address"),
        ("faults: {rate_limit_every: 1}", "rate_limit_every: Input should be greater than or equal to 2"),
        ("faults: [", "this is not YAML"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, line: str, complaint: str) -> None:
    """A problem has its file, line, column and key."""
    with pytest.raises(SettingsError) as error:
        write_setup(tmp_path, line)

    assert complaint in str(error.value)
    assert str(tmp_path / "scenarios.yaml") in str(error.value)


@pytest.mark.parametrize(
    ("scenario", "complaint"),
    [
        ("{id: 101, name: n, agent: 9, testing_agent: {script: guest.yaml}}", "agent: there is no 9 below `agents:`"),
        ("{id: 101, name: n, agent: 5, testing_agent: {}}", "testing_agent: write either script or audio"),
        ("{id: 101, name: n, agent: 5, testing_agent: {audio: no.wav}}", "audio: "),
        ("{id: 101, name: n, agent: 5, testing_agent: {script: no.yaml}}", "no.yaml:1:1: cannot be read"),
        ("{id: 101, name: n, agent: 5, testing_agent: {script: guest.yaml, stay: 5s}}", "stay: a script says itself"),
        (
            "{id: 101, name: n, agent: 5, testing_agent: {script: guest.yaml}, expect: {dtmf: 1e}}",
            "dtmf: write DTMF digits",
        ),
        ("{id: 101, name: n, agent: 5}", "scenarios.0.testing_agent: is missing: add it"),
    ],
)
def test_says_what_is_wrong_with_a_scenario(tmp_path: Path, scenario: str, complaint: str) -> None:
    """What a scenario names has to be there."""
    (tmp_path / "guest.yaml").write_text("steps: [hangup]", encoding="utf-8")
    file = tmp_path / "scenarios.yaml"
    file.write_text(f"api_key: k\nagents: [{{id: 5, name: a}}]\nscenarios:\n  - {scenario}\n", encoding="utf-8")

    with pytest.raises(SettingsError) as error:
        load(file)

    assert complaint in str(error.value)


def test_ids_are_there_once(tmp_path: Path) -> None:
    """Two agents with the same id cannot be told from each other."""
    file = tmp_path / "scenarios.yaml"
    file.write_text("api_key: k\nagents: [{id: 5, name: a}, {id: 5, name: b}]\nscenarios: []", encoding="utf-8")

    with pytest.raises(SettingsError, match="scenarios"):
        load(file)
    file.write_text(
        file.read_text().replace("scenarios: []", "scenarios: [{id: 1, name: n, agent: 5, testing_agent: {}}]")
    )
    with pytest.raises(SettingsError, match="id: 5 is here twice"):
        load(file)


def test_headers_are_one_line_of_text(tmp_path: Path) -> None:
    """A profile cannot smuggle a second header field into the INVITE."""
    file = tmp_path / "scenarios.yaml"
    text = 'test_profiles: [{id: 1, name: p, information: {main_agent_variables: {X-A: "a\\r\\nEvil: 1", "X-B c": d}}}]'
    file.write_text(
        f"api_key: k\nagents: [{{id: 5, name: a}}]\n{text}\n"
        "scenarios: [{id: 1, name: n, agent: 5, testing_agent: {}}]",
        encoding="utf-8",
    )

    with pytest.raises(SettingsError) as error:
        load(file)

    assert "X-A: a header field has one line of printable text" in str(error.value)
    assert "X-B c: this is no name of a header field" in str(error.value)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Neither the key nor a password is in the text of what was read."""
    setup = write_setup(tmp_path)

    assert "the-key" not in repr(setup.world)
    assert "'pw'" not in repr(setup.world)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("sip:agent@example.com", True),
        ("sip:192.168.1.100:5060", True),
        ("sip:agent@[::1]:5060", True),
        ("agent@example.com", False),
        ("sip:agent@", False),
        ("sip:a@b:port", False),
        ("sip:agent@example.com\r\nX: 1", False),
    ],
)
def test_sip_endpoints(text: str, right: bool) -> None:
    """The forms that the vendor's page shows are taken."""
    assert right == is_sip_endpoint(text)
