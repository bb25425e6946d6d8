"""How handlers are found, built and described."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sip_agent.errors import SettingsError
from sip_agent.handlers import find_handler, handler_factory, installed_handlers
from sip_agent.handlers.echo import EchoHandler
from sip_agent.handlers.playback import PlaybackHandler
from sip_agent.handlers.ring import RingHandler

BUILT_IN = ["echo", "playback", "record", "reject", "ring", "silence", "tone"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a stranger's module and return its name."""
    name = "a_strangers_handlers"
    (tmp_path / f"{name}.py").write_text(
        "from pathlib import Path\n"
        "class Good:\n"
        "    async def handle(self, call): ...\n"
        "class NoHandler: ...\n"
        "class Fails:\n"
        "    def __init__(self): raise ValueError('no licence')\n"
        "    async def handle(self, call): ...\n"
        "class Reads:\n"
        "    def __init__(self, file, key_file='', profile=''): self.seen = file, key_file, profile\n"
        "    async def handle(self, call): ...\n"
        "class Annotated:\n"
        "    def __init__(self, folder: Path, limit: 'Missing' = 3): self.seen = folder, limit\n"
        "    async def handle(self, call): ...\n"
        "class Plain:\n"
        "    def handle(self, call): ...\n"
    )
    (tmp_path / "a_broken_module.py").write_text("1 / 0\n")
    (tmp_path / "a_misspelt_module.py").write_text("def def\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_built_in() -> None:
    """The built-in handlers are found as a stranger's are: by entry point, each with a line and its options."""
    installed = {info.name: info for info in installed_handlers()}

    assert set(BUILT_IN) <= set(installed)
    assert list(installed) == sorted(installed)
    assert "Say back what the caller says." == installed["echo"].summary
    assert () == installed["echo"].options
    assert ("file", "loop=False") == installed["playback"].options
    assert "sip_agent.handlers.tone:ToneHandler" == installed["tone"].target
    assert all(installed[name].summary.endswith(".") for name in BUILT_IN)


def test_a_strangers_package(module: str, tmp_path: Path) -> None:
    """A package that is installed brings its handlers; one that cannot be imported is shown, with the reason."""
    folder = tmp_path / "stranger-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        f"[sip_agent.handlers]\ngood = {module}:Good\nbroken = a_broken_module:X\n"
    )
    installed = {info.name: info for info in installed_handlers()}

    assert "Good" == find_handler("good").__name__
    assert f"{module}:Good" == installed["good"].target
    assert "cannot be imported: division by zero" in installed["broken"].summary
    with pytest.raises(SettingsError, match="the handler 'broken' cannot be imported: ZeroDivisionError"):
        find_handler("broken")


def test_by_name() -> None:
    """A name is that of an entry point."""
    assert EchoHandler is find_handler("echo")


def test_by_module(module: str) -> None:
    """`module:Class` finds a class that no package offers."""
    assert "Good" == find_handler(f"{module}:Good").__name__


def test_beside_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that lies beside the settings file needs no installation."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_the_settings.py").write_text("class Mine:\n    async def handle(self, call): ...\n")

    assert "Mine" == type(handler_factory("beside_the_settings:Mine", {}, tmp_path)()).__name__


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ehco", "no handler is called 'ehco'; installed: .*echo.*; or write module:Class"),
        ("", "no handler is called ''"),
        ("no_such_module:X", "No module named 'no_such_module'"),
        ("{module}:Missing", "has no attribute 'Missing'"),
        ("{module}:", "cannot be imported"),
        (":Good", "cannot be imported"),
        (".relative:Good", "cannot be imported"),
        ("a_broken_module:X", "ZeroDivisionError"),
        ("a_misspelt_module:X", "SyntaxError"),
        ("{module}:NoHandler", r"has no method `async def handle\(self, call\)`"),
        ("json:dumps", r"has no method `async def handle\(self, call\)`"),
    ],
)
def test_not_found(module: str, name: str, message: str) -> None:
    """What cannot be found or imported, for whatever reason, is a setting that is wrong, by name."""
    with pytest.raises(SettingsError, match=message):
        find_handler(name.format(module=module))


def test_handle_is_no_coroutine(module: str) -> None:
    """A handler that would fail every call, because it is not asynchronous, is not taken."""
    with pytest.raises(SettingsError, match="async def handle"):
        find_handler(f"{module}:Plain")


def test_options(tmp_path: Path) -> None:
    """Options are arguments; every call builds its handler anew."""
    build = handler_factory("ring", {"seconds": 3}, tmp_path)
    first, second = build(), build()

    assert isinstance(first, RingHandler)
    assert first is not second


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("echo", {"volume": 3}, r"'echo' does not take the options {'volume': 3}: .*; it takes: none"),
        ("ring", {"second": 3}, "it takes: seconds=30, status="),
        ("reject", {"status": 200}, "status is from 300 to 699, not 200"),
        ("reject", {"status": "486"}, "does not take"),
        ("ring", {"seconds": -1}, "seconds is not negative: -1"),
        ("ring", {"status": 200}, "status is from 300 to 699, not 200"),
        ("record", {"seconds": -1}, "seconds is not negative: -1"),
        ("tone", {"hz": 5}, "hz is from 20 to 20000, not 5"),
        ("tone", {"seconds": -1}, "seconds is not negative: -1"),
        ("tone", {"level_dbov": 0}, "level_dbov"),
        ("playback", {}, "file"),
        ("playback", {"file": "words.txt"}, r"file: there is no sound file .*words\.txt: cannot be read as audio"),
        ("playback", {"file": 5}, "file is a text, not 5"),
        ("playback", {"file": "a.wav", "loop": "yes"}, "loop is true or false, not 'yes'"),
        ("ring", {"status": 480.5}, "status is a whole number, not 480.5"),
        ("script", {"file": "a.yaml", "variables": ["x"]}, "variables is a table, not"),
        ("openai-realtime", {"tool_timeout_s": "x"}, "tool_timeout_s is a number, not 'x'"),
        ("openai-realtime", {"turn_detection": 5}, "turn_detection is a text or a table, not 5"),
        ("openai-realtime", {"tools": "hang_up"}, "tools is a list, not 'hang_up'"),
        ("playback", {"file": "missing.wav"}, r"there is no sound file .*missing\.wav"),
    ],
)
def test_wrong_options(tmp_path: Path, name: str, options: dict[str, object], message: str) -> None:
    """Options that a handler does not take are found at the start, with those that it takes."""
    (tmp_path / "words.txt").write_text("no sound")
    with pytest.raises(SettingsError, match=message):
        handler_factory(name, options, tmp_path)


def test_reason_of_the_handler(module: str, tmp_path: Path) -> None:
    """What a handler has against its options is said in its own words."""
    with pytest.raises(SettingsError, match="no licence"):
        handler_factory(f"{module}:Fails", {}, tmp_path)


def test_other_types_are_for_the_handler(module: str, tmp_path: Path) -> None:
    """What settings do not have, or what only a type checker knows, says nothing about an option."""
    build = handler_factory(f"{module}:Annotated", {"folder": "x", "limit": "y"}, tmp_path)

    assert ("x", "y") == build().seen  # type: ignore[attr-defined]


def test_paths(module: str, tmp_path: Path) -> None:
    """`file` and `…_file` start at the folder of the settings; absolute paths and other words stay."""
    build = handler_factory(f"{module}:Reads", {"file": "a.wav", "key_file": "/etc/key", "profile": "plain"}, tmp_path)

    assert (str(tmp_path / "a.wav"), "/etc/key", "plain") == build().seen  # type: ignore[attr-defined]


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    soundfile.write(tmp_path / "a.wav", np.zeros(80, np.int16), 8000)
    build = handler_factory("playback", {"file": "~/a.wav"}, Path("/nowhere"))

    assert isinstance(build(), PlaybackHandler)
