"""What the tests of Agora share: folders for agents."""

from tests.calls.conftest import agent_folders

__all__ = ["agent_folders"]
