"""`check_script`: every problem has its line, its column, and what to write instead."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sip_agent.errors import SettingsError
from sip_agent.script import SCHEMA_FILE, check_script, json_schema, load_script
from sip_agent.script.language import STEP_TYPES, STEPS


def problems(folder: Path, text: str) -> list[str]:
    """Return what is wrong with a script, each as LINE:COLUMN: message."""
    file = folder / "script.yaml"
    file.write_text(text)
    return [f"{item.place.line}:{item.place.column}: {item.message}" for item in check_script(file)[1]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stops: []", "1:1: stops: there is no such key here; did you mean steps?"),
        ("limits: {turn: 1}\nsteps: [hangup]", "1:10: turn: there is no such key here; did you mean turns?"),
        ("limits: {steps: 0}\nsteps: [hangup]", "1:17: steps: write a number from 1 on"),
        ("variables: {heard: x}\nsteps: [hangup]", "1:13: heard: is built in (what was heard last, as text)"),
        ("variables: {a-b: x}\nsteps: [hangup]", "1:13: a-b: write a name of letters, digits and _"),
        ("steps:\n  - anwser", "2:5: anwser: there is no such step; did you mean answer?"),
        ("steps:\n  - sayy: hi", "2:5: sayy: there is no such step; did you mean say?"),
        ("steps:\n  - Hello there", "2:5: a step begins with what it does, like `- say: …`"),
        ("steps:\n  -\n  - hangup", "2:4: there is no step behind this dash; the steps are"),
        ("steps:\n  - wait", "2:5: wait: say what; write `- wait: …`"),
        ("steps:\n  - say:", "2:5: say: write a text"),
        ("steps:\n  - say: hi\n    barge-in: stop", "3:5: barge-in: there is no such key here; did you mean barge_in?"),
        ("steps:\n  - say: hi\n    barge_in: halt", "3:15: barge_in: write 'stop', 'pause' or 'ignore'"),
        ("steps:\n  - say: hi\n    listen: speech", "3:5: listen: a step does one thing; begin the next step with"),
        ("steps:\n  - say: {caller}", "2:10: write a text; one that begins with { goes in quotes"),
        ('steps:\n  - say: "{a b}"', "2:10: say: {a b} is no variable: write {name}"),
        ("steps:\n  - say: lone } brace", "2:10: say: a lone }: write }} for a brace"),
        ("steps:\n  - say: Hello {calller}", "2:10: say: nothing sets the variable 'calller'; did you mean caller?"),
        ("steps:\n  - listen:\n      - texts: yes", "3:9: texts: there is no such key here; did you mean text?"),
        ("steps:\n  - listen:\n      - go: x", "3:9: write one of text, regex, dtmf, speech, silence, hangup"),
        (
            "steps:\n  - listen: {text: a, dtmf: 1}",
            "2:13: write one of text, regex, dtmf, speech, silence, hangup, not",
        ),
        ("steps:\n  - listen: {regex: '('}", "2:21: regex: this is no regular expression: missing )"),
        (
            f"steps:\n  - listen: {{regex: '{'(' * 2400}{')' * 2400}'}}",
            "2:21: regex: this regular expression is too large, or nested too deeply",
        ),
        ("steps:\n  - listen: {regex: 'a{99999999999999}'}", "2:21: regex: this "),
        ("steps:\n  - listen: {dtmf: 1E}", "2:20: dtmf: write keys (0-9 * # A-D), X for any digit"),
        ("steps:\n  - listen: speech\n    timeout: soon", '3:14: timeout: write a duration like "30m"'),
        ("steps:\n  - listen: {hangup: any, go: a}", "2:13: nothing follows a hangup"),
        ("steps:\n  - listen: {silence: 10s}", "2:23: silence: never comes, as timeout is not longer"),
        ("steps:\n  - listen: [speech, {text: a}]", "2:29: text: never comes, as the speech above it takes everything"),
        ("steps:\n  - send_dtmf: 12Z", "2:16: send_dtmf: write DTMF digits: 0-9 * # A-D"),
        ("steps:\n  - reject: 200", "2:13: reject: write a number from 300 on"),
        ("steps:\n  - transfer: bob", "2:15: transfer: write a URI, like sip:support@example.com"),
        ("steps:\n  - play: none.wav", "2:11: play: there is no sound file"),
        ("steps:\n  - play: script.yaml", "2:11: play: "),
        (
            "steps:\n  - tool: foo",
            "2:11: tool: write an address that begins with http:// or https://, or module:function",
        ),
        ("steps:\n  - tool: http://a:b@c/d", "2:11: tool: take the password out of the address"),
        *(
            (f"steps:\n  - tool: {address}", "2:11: tool: write a whole address, like https://example.com/book")
            for address in (
                *("http://", "http://a b/c", "http://a..b/", "http://.../", f"http://{'x' * 80}.invalid/"),
                *("http://h:99999/", "http://h:0/", "http://h:x/", "'http://[::1'"),
            )
        ),
        ("steps:\n  - tool: nowhere:book", "2:11: tool: nowhere:book cannot be imported: ModuleNotFoundError"),
        ("steps:\n  - branch: {is: 3}", "2:13: if: is missing: add it"),
        ("steps:\n  - repeat: 3", "2:5: steps: is missing: add it"),
        (
            "steps:\n  - go: mneu\nscenes:\n  menu:\n    - hangup",
            "2:9: go: there is no scene 'mneu'; did you mean menu?",
        ),
        (
            "steps:\n  - hangup\n  - say: a",
            "3:5: this step is never reached: nothing comes back from the hangup above it",
        ),
        ("steps:\n  - hangup\nscenes:\n  lost:\n    - hangup", "4:3: the scene 'lost' is never reached"),
        ("steps:\n  - say: a: b", "2:11: this is not YAML: mapping values are not allowed here; is the indentation"),
        ("steps:\n\t- hangup", "2:1: this is not YAML: found character '\\t'"),
        ("steps: [hangup]\nsteps: [hangup]", "2:1: steps is here twice: take one away"),
        ("steps: &a [hangup, *a]", "1:8: this is repeated by an alias"),
        ("steps: [!x hangup]", "1:9: scripts have no tags: take !x away"),
        ("steps:\n  - {[a]: b}", "2:6: a key is a word"),
        ("a: b\n---\nc: d", "2:1: this is not YAML: but found another document; one file is one script"),
        ("[" * 5000, "1:1: lists and mappings are nested too deeply"),
        ("[" * 60 + "]" * 60, "1:42: this is nested too deeply; 40 levels are enough"),
        ("", "1:1: is empty: write `steps:`"),
        ("hello", "1:1: write a mapping"),
        ("steps: \x00", "1:1: this is not YAML"),
    ],
)
def test_a_problem(tmp_path: Path, text: str, problem: str) -> None:
    """What is wrong is told where it stands, with the next step."""
    found = problems(tmp_path, text)

    assert any(item.startswith(problem) for item in found), found


def test_all_problems_in_the_order_of_lines(tmp_path: Path) -> None:
    """Nobody has to run it once for each mistake."""
    found = problems(tmp_path, "steps:\n  - sayy: a\n  - listen: {dtmf: z}\n  - play: 1\n    lop: x\n")

    assert ["2", "3", "5"] == sorted({item.partition(":")[0] for item in found} - {"4"})


def test_a_wrong_step_hides_nothing_that_leads_nowhere(tmp_path: Path) -> None:
    """Scenes and sound files are looked for in whatever can be read, and in steps within steps."""
    found = problems(
        tmp_path,
        "steps:\n  - lisen: 5\n  - listen:\n      - {dtmf: 1, go: huors}\n    otherwise:\n      - play: none.wav\n"
        "  - set: {go: text, play: text}\nscenes:\n  hours:\n    - go: hours\n    - go: ours\n    - play: ''\n",
    )

    assert [
        "2:5: lisen: there is no such step; did you mean listen?",
        "4:23: go: there is no scene 'huors'; did you mean hours?",
        f"6:15: play: there is no sound file {tmp_path / 'none.wav'}",
        "11:11: go: there is no scene 'ours'; did you mean hours?",
    ] == [item for item in found if not item.startswith("12:")]


@pytest.mark.parametrize("text", ["steps: {go: 5}", "steps: 1\nscenes: []", "steps: [[{go: a}]]\nscenes: {b: [lisen]}"])
def test_whatever_is_there_is_looked_through(tmp_path: Path, text: str) -> None:
    """A document of any form is told what is wrong with it."""
    assert problems(tmp_path, text)


@pytest.mark.parametrize(
    "steps",
    [
        "  - listen: {text: yes, go: a}\n  - hangup\n",
        "  - branch: {if: caller, go: a}\n    otherwise: [hangup]\n  - hangup\n",
        "  - repeat: 2\n    steps:\n      - go: a\n  - hangup\n",
        "  - listen: hangup\n  - hangup\n",
        "  - fail: a\n  - go: a\n",
    ],
)
def test_steps_that_nothing_leads_to(tmp_path: Path, steps: str) -> None:
    """A step is dead when every way before it leads elsewhere."""
    found = problems(tmp_path, f"steps:\n{steps}scenes:\n  a:\n    - hangup\n")

    assert any("this step is never reached" in item for item in found), found


@pytest.mark.parametrize(
    "steps",
    [
        "  - listen: {text: yes, go: a}\n    otherwise: [{say: b}]\n  - hangup\n",
        "  - branch: {if: caller, go: a}\n  - hangup\n",
        "  - listen: [{text: yes, go: a}, speech]\n  - hangup\n",
        "  - tool: json:dumps\n    otherwise: [hangup]\n  - go: a\n",
    ],
)
def test_steps_that_something_leads_to(tmp_path: Path, steps: str) -> None:
    """A step is alive when one way leads to it."""
    assert [] == problems(tmp_path, f"steps:\n{steps}scenes:\n  a:\n    - hangup\n")


def test_texts_are_kept_as_they_are_written(tmp_path: Path) -> None:
    """Digits keep their zeros, and yes is a word: this is YAML 1.2, and texts are texts."""
    file = tmp_path / "script.yaml"
    file.write_text("variables: {a: 007, b: 1.50, c: 12, d: true, e: yes}\nsteps:\n  - send_dtmf: 0123\n")

    script, found = check_script(file)

    assert [] == found
    assert script is not None
    assert {"a": "007", "b": "1.50", "c": "12", "d": "true", "e": "yes"} == script.variables


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing, foreign or huge file is a problem like others."""
    (tmp_path / "latin.yaml").write_bytes("steps:\n  - say: Grüße".encode("latin-1"))
    (tmp_path / "huge.yaml").write_bytes(b"#" * 600_000)

    assert ["cannot be read: No such file or directory"] == [item.message for item in check_script(tmp_path / "x")[1]]
    assert [2] == [item.place.line for item in check_script(tmp_path / "latin.yaml")[1]]
    assert "too long" in check_script(tmp_path / "huge.yaml")[1][0].message


def test_loading_says_all(tmp_path: Path) -> None:
    """Whoever uses a script that is not right gets the same lines."""
    file = tmp_path / "script.yaml"
    file.write_text("steps:\n  - sayy: a\n  - anwser\n")

    with pytest.raises(SettingsError) as caught:
        load_script(file)

    assert [f"{file}:2:5", f"{file}:3:5"] == [line.split(": ")[0] for line in str(caught.value).splitlines()]


def test_variables_that_the_script_does_not_have(tmp_path: Path) -> None:
    """A misspelt variable is not passed over."""
    file = tmp_path / "script.yaml"
    file.write_text("variables: {guest: Ada}\nsteps:\n  - say: '{guest}'\n")

    with pytest.raises(SettingsError, match=r"no variable 'gest'; did you mean guest\?"):
        load_script(file).with_variables({"gest": "Bob"})
    assert {"guest": "7"} == load_script(file).with_variables({"guest": 7}).script.variables


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([*STEPS, "hangup", "speech"]),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from([*STEPS, "steps", "do", "if", "is", "otherwise", "as"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_no_text_breaks_the_checker(tmp_path: Path, document: object) -> None:
    """Whatever stands in the file, the answer is a script or problems, each in its place."""
    found = problems(tmp_path, json.dumps({"steps": document}))

    assert all(item.partition(":")[0].isdigit() for item in found)


def test_the_schema_is_current() -> None:
    """The file that editors read is what the models say; `sip-agent script schema` makes it."""
    assert json_schema() == json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


def test_every_step_is_described() -> None:
    """What an editor shows beside a step is written at its class."""
    definitions = json_schema()["$defs"]
    described = [definitions[each.__name__] for each in STEP_TYPES]

    assert all((item.get("description") or item["anyOf"][0]["description"]) for item in described)
