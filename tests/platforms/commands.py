"""Runs commands of `sip-agent` in a process of their own, while the test serves a stand-in."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sip_agent.config import toml_value


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The JSON document on standard output."""
        return json.loads(self.stdout)


def write_settings(folder: Path, settings: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write a settings file, with a store and recordings in its folder."""
    sections = {"store": {"url": "sqlite:///calls.db"}, **settings}
    lines = [
        line
        for name, section in sections.items()
        for line in (f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in section.items()))
    ]
    file = folder / "sip-agent.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


async def sip_agent(*arguments: str, folder: Path, environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command in a folder, to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sip_agent",
        *arguments,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await asyncio.wait_for(process.communicate(), 60)
    return Finished(process.returncode or 0, stdout.decode(), stderr.decode())
