"""`sip-agent demo`: the whole loop on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

from sip_agent.cli.demo import SLOW_SCENARIO, _went_as_intended


def test_the_whole_loop(tmp_path: Path) -> None:
    """Three scenarios are called, joined to our records and judged; one fails for the reason that it is to have."""
    done = subprocess.run(
        [sys.executable, "-m", "sip_agent", "demo", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    document = json.loads(done.stdout)
    assert document["passed"]
    runs = {run["scenario_name"]: run for run in document["report"]["runs"]}
    assert 3 == len(runs)
    assert [SLOW_SCENARIO] == [name for name, run in runs.items() if not run["passed"]]
    assert all(run["record"]["outcome"] == "answered" for run in runs.values())
    slow = runs[SLOW_SCENARIO]
    assert "within 2000 ms" in slow["reasons"][0]
    assert slow["record"]["metrics"]["response_latency_ms"]["p95"] > 2000
    secret = (tmp_path / "sip-agent-demo" / "cekura.key").read_text().strip()
    assert secret not in done.stdout + done.stderr


def test_a_demonstration_that_goes_wrong(tmp_path: Path) -> None:
    """It is noticed when another scenario fails, when none does, or when a call did not arrive here."""

    def verdict(*runs: tuple[str, bool, str]) -> bool:
        cases = [
            f'<testcase classname="cekura.runs" name="{name} (run 1)">{"" if passed else "<failure/>"}'
            f"<system-out>{call}</system-out></testcase>"
            for name, passed, call in runs
        ]
        file = tmp_path / "report.xml"
        file.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>", encoding="utf-8")
        return _went_as_intended(file)

    here = "call_uuid: 1"
    assert verdict((SLOW_SCENARIO, False, here), ("Books a table", True, here))
    assert not verdict((SLOW_SCENARIO, True, here), ("Books a table", False, here))
    assert not verdict((SLOW_SCENARIO, True, here), ("Books a table", True, here))
    assert not verdict((SLOW_SCENARIO, False, here), ("Books a table", False, here))
    assert not verdict((SLOW_SCENARIO, False, "no call came in"), ("Books a table", True, here))
