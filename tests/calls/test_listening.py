"""A call that we place may be answered before anybody listens to it."""

import json
import os
import subprocess
import sys

from tests.calls.agent_process import REPOSITORY, AgentProcess


def test_listening_after_the_answer(agent: AgentProcess) -> None:
    """Who listens late is told at once what came before: the answer, the media, and the sound that is open."""
    uri = f"sip:echo@127.0.0.1:{agent.udp_port}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.calls.late_listener", str(agent.settings_file), uri],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert 0 == done.returncode, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert [True] == told["audio"]
    assert {"Responded", "MediaChanged", "CallConfirmed"} <= set(told["events"])
