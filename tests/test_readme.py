"""README and guides say what is there: tables come from the code, examples work, links lead somewhere."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from sip_agent.config import load_settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "deploy" / "guides").glob("*.md"))]
SECRET_FILES = ("openai.key", "cekura.key", "webhook.secret", "trunk.password")


def test_tables_are_current() -> None:
    """Every command, handler, route and setting stands in the README as the code has it."""
    docs = runpy.run_path(str(ROOT / "deploy" / "docs.py"))

    assert README == docs["render"](README)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_settings_are_valid(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each settings file that a page shows can be loaded as it stands."""
    for name in SECRET_FILES:
        (tmp_path / name).write_text("secret\n", encoding="utf-8")
    (tmp_path / "users").write_text("cekura:secret\n", encoding="utf-8")
    (tmp_path / "users").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for number, block in enumerate(blocks):
        text = re.sub(r"^ {3}", "", block, flags=re.MULTILINE)
        tomllib.loads(text)
        file = tmp_path / f"{number}.toml"
        file.write_text(text, encoding="utf-8")
        load_settings(file)

    assert blocks or page.name != "README.md"


def test_example_handler_runs() -> None:
    """The handler that the README shows is one, in the twelve lines it promises."""
    [source] = re.findall(r"```python\n(# greeter\.py.*?)```", README, re.DOTALL)
    namespace: dict[str, object] = {}
    exec(compile(source, "greeter.py", "exec"), namespace)  # noqa: S102  (it is our own)

    assert "Greeter" in namespace
    body = source.partition("class Greeter")[2].strip().splitlines()
    assert 12 >= len([line for line in body if line.strip()])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_exist(page: Path) -> None:
    """No link of a page leads nowhere."""
    links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8"))

    assert [] == [link for link in links if not (page.parent / link).exists()]


def test_every_guide_is_linked() -> None:
    """Whoever reads the README finds every guide."""
    assert [] == [page.name for page in PAGES[1:] if f"(deploy/guides/{page.name})" not in README]
