"""Tools of a script, used without one."""

from pathlib import Path

import pytest

from sip_agent.script.tools import ToolFailed, use_tool


@pytest.mark.parametrize(
    "address",
    ["http://a..b/", "http://.../", f"http://{'x' * 80}.invalid/", "http://h:99999/", "http://a b/", "http://[::1"],
)
async def test_an_address_that_is_none(tmp_path: Path, address: str) -> None:
    """Whatever is wrong with an address, the tool has failed, and a script may have steps for that."""
    with pytest.raises(ToolFailed):
        await use_tool(address, {}, timeout_s=5, folder=tmp_path)
