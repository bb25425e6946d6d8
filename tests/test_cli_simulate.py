"""`sip-agent cekura simulate`: what it says about wrong use."""

from pathlib import Path

import pytest

from tests.platforms.cekura.simulator.processes import simulate


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--bind", "8090"], "error: --bind: write HOST:PORT, like 127.0.0.1:8090, not '8090'"),
        (["--bind", "127.0.0.1:99999"], "error: --bind: write HOST:PORT"),
        (["--scenarios", "no.yaml"], "error: no.yaml:1:1: cannot be read: No such file or directory"),
    ],
)
def test_wrong_use(arguments: list[str], complaint: str) -> None:
    """One line on standard error, exit status 2."""
    process = simulate(arguments)
    output, error = process.communicate(timeout=60)

    assert (2, "") == (process.returncode, output)
    assert error.startswith(complaint)


def test_words_need_a_recognizer(tmp_path: Path) -> None:
    """What the agent says can be checked only if somebody understands it."""
    (tmp_path / "s.yaml").write_text("steps: [hangup]", encoding="utf-8")
    file = tmp_path / "scenarios.yaml"
    file.write_text(
        "api_key: k\nagents: [{id: 5, name: a}]\n"
        "scenarios: [{id: 1, name: n, agent: 5, testing_agent: {script: s.yaml}, expect: {says: [bye]}}]\n",
        encoding="utf-8",
    )
    process = simulate(["--scenarios", str(file)])
    _, error = process.communicate(timeout=60)

    assert 2 == process.returncode
    assert "set speech.recognizer in --config" in error
