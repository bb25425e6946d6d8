"""Follow a script."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sip_agent.call import Call
from sip_agent.script import ScriptRun, load_script


class ScriptHandler:
    """Follow the dialogue in `file` (YAML); `variables` give other texts to those that it has."""

    def __init__(self, file: str, variables: Mapping[str, Any] | None = None) -> None:
        self._loaded = load_script(Path(file)).with_variables(variables or {})

    async def handle(self, call: Call) -> None:
        """Run the script on the call."""
        await ScriptRun(self._loaded, call).run()
