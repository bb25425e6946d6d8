"""The JSON Schema of scripts, for editors; `script.schema.json` beside this module is what it says."""

from pathlib import Path
from typing import Any

from sip_agent.script.language import Script

SCHEMA_FILE = Path(__file__).with_name("script.schema.json")


def json_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema 2020-12), as the models have it."""
    schema = Script.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "sip-agent script"}
