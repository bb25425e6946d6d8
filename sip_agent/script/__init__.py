"""Scripts: dialogues written in YAML, checked before they run, and run on a call from either end."""

from sip_agent.script.checking import LoadedScript, check_script, describe, load_script
from sip_agent.script.running import ScriptFailed, ScriptRun
from sip_agent.script.schema import SCHEMA_FILE, json_schema

__all__ = [
    "SCHEMA_FILE",
    "LoadedScript",
    "ScriptFailed",
    "ScriptRun",
    "check_script",
    "describe",
    "json_schema",
    "load_script",
]
