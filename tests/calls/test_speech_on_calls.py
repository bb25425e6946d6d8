"""Speech on real calls: one side says a text, the other understands it and answers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sip_agent.call import Call
from tests.calls.agent_process import REPOSITORY
from tests.calls.conftest import StartAgent

pytest.importorskip("pocketsphinx")

GRAMMAR = """#JSGF V1.0;
grammar order;
public <order> = yes please | no thank you | a table for two people tonight | i would like to cancel ;
"""
ASKED = "a table for two people tonight"
ANSWER = "Very well. I have written that down for you. See you tonight!"


class TakeOrder:
    """Listen to one utterance, answer, hang up."""

    async def handle(self, call: Call) -> None:
        """See `ConversationHandler`."""
        await call.answer()
        async for _ in call.utterances():
            await call.say(ANSWER)
            return


def test_a_conversation(start_agent: StartAgent, tmp_path: Path) -> None:
    """What `sip-agent call --say` says is understood by the agent, and what that answers is heard in full."""
    (tmp_path / "order.gram").write_text(GRAMMAR)
    agent = start_agent(
        routes=[{"handler": "tests.calls.test_speech_on_calls:TakeOrder"}],
        speech={"recognizer": "pocketsphinx", "pocketsphinx": {"grammar_file": str(tmp_path / "order.gram")}},
    )
    uri = f"sip:order@127.0.0.1:{agent.udp_port}"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sip_agent", "call", uri, "--json", "--duration", "30"),
            *("--say", f"{ASKED}.", "--voice", "en-us+f2"),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "" == done.stderr
    theirs = json.loads(done.stdout)
    (ours,) = agent.all_records()

    assert [("caller", ASKED), ("agent", ANSWER)] == [(item["speaker"], item["text"]) for item in ours["transcript"]]
    assert [("agent", f"{ASKED}.")] == [(item["speaker"], item["text"]) for item in theirs["transcript"]]
    assert ("answered", "agent", 0) == (ours["outcome"], ours["ended_by"], ours["audio"]["underruns"])
    assert 2 == len(list((agent.folder / "speech-cache").iterdir()))
