"""The README says what is there: its tables are written from the code, and this is the proof."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from sip_agent.config import load_settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_current() -> None:
    """Every command, handler, route and setting stands in the README as the code has it."""
    docs = runpy.run_path(str(ROOT / "deploy" / "docs.py"))

    assert README == docs["render"](README)


def test_examples_of_settings_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each settings file that the README shows can be loaded as it stands."""
    (tmp_path / "users").write_text("cekura:secret\n", encoding="utf-8")
    (tmp_path / "users").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    for number, block in enumerate(blocks):
        text = re.sub(r"^ {3}", "", block, flags=re.MULTILINE)
        tomllib.loads(text)
        file = tmp_path / f"{number}.toml"
        file.write_text(text, encoding="utf-8")
        load_settings(file)

    assert len(blocks) >= 2


def test_example_handler_runs() -> None:
    """The handler that the README shows is one, in the twelve lines it promises."""
    [source] = re.findall(r"```python\n(# greeter\.py.*?)```", README, re.DOTALL)
    namespace: dict[str, object] = {}
    exec(compile(source, "greeter.py", "exec"), namespace)  # noqa: S102  (it is our own)

    assert "Greeter" in namespace
    body = source.partition("class Greeter")[2].strip().splitlines()
    assert 12 >= len([line for line in body if line.strip()])


def test_links_within_the_project_exist() -> None:
    """No link of the README leads nowhere."""
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)

    assert [] == [link for link in links if not (ROOT / link).exists()]
