"""The attacks use the fixtures of the calls."""

from tests.calls.conftest import agent_folders, sipp, start_agent

__all__ = ["agent_folders", "sipp", "start_agent"]
