"""How synthesizers and recognizers are found and built."""

import sys
from pathlib import Path

import pytest

from sip_agent.errors import SettingsError
from sip_agent.speech.engines import build_recognizer, build_synthesizer
from sip_agent.speech.espeak import EspeakSynthesizer

MODULE = "a_strangers_engines"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a stranger's module and return its folder."""
    (tmp_path / f"{MODULE}.py").write_text(
        "class Voice:\n"
        "    fingerprint = ''\n"
        "    def __init__(self, *, voice, model_file='', size=1): self.seen = voice, model_file, int(size)\n"
        "    def synthesize(self, text, *, voice, sample_rate_hz): ...\n"
        "    async def close(self): ...\n"
        "class Ear:\n"
        "    def __init__(self, size=1): self.seen = size\n"
        "    async def recognize(self, samples, sample_rate_hz): ...\n"
        "class PlainEar:\n"
        "    def recognize(self, samples, sample_rate_hz): ...\n"
        "class Unwilling(Ear):\n"
        "    def __init__(self): raise ValueError('no licence')\n"
    )
    (tmp_path / "a_broken_engine.py").write_text("1 / 0\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return tmp_path


async def test_built_in(tmp_path: Path) -> None:
    """The built-in engines are found as a stranger's are: by entry point."""
    espeak = build_synthesizer("espeak", "de", {"words_per_minute": 200}, tmp_path)

    assert isinstance(espeak, EspeakSynthesizer)
    assert espeak.fingerprint.endswith(" 200")
    await espeak.close()


def test_a_strangers_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is installed brings its engines."""
    package = folder / "stranger-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        f"[sip_agent.synthesizers]\nvoice = {MODULE}:Voice\n[sip_agent.recognizers]\near = {MODULE}:Ear\n"
    )
    monkeypatch.syspath_prepend(folder)

    assert ("fr", "", 1) == build_synthesizer("voice", "fr", {}, folder).seen  # type: ignore[attr-defined]
    assert 3 == build_recognizer("ear", {"size": 3}, folder).seen  # type: ignore[attr-defined]


def test_by_module_beside_the_settings(folder: Path) -> None:
    """`module:Class` is found beside the settings file, and files in its options start there."""
    voice = build_synthesizer(f"{MODULE}:Voice", "", {"model_file": "m.bin"}, folder)

    assert ("", folder / "m.bin", 1) == voice.seen  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nope", {}, r'speech\.recognizer = "nope": there is: .*openai, pocketsphinx; or write module:Class'),
        ("a_broken_engine:X", {}, r'"a_broken_engine:X": it cannot be imported: ZeroDivisionError'),
        (f"{MODULE}:Nope", {}, "it cannot be imported: AttributeError"),
        ("no_such_module:X", {}, "it cannot be imported: ModuleNotFoundError"),
        (f"{MODULE}:PlainEar", {}, r"it has no method `async def recognize\(self, samples, sample_rate_hz\)`"),
        (f"{MODULE}:Ear", {"colour": "red"}, "it cannot be built: .*colour.*; it takes: size"),
        (f"{MODULE}:Unwilling", {}, "it cannot be built: no licence; it takes: no options"),
    ],
)
def test_what_cannot_be_built(folder: Path, name: str, options: dict[str, str], message: str) -> None:
    """Whatever is wrong with an engine, the setting is named and the reason given, when the agent starts."""
    with pytest.raises(SettingsError, match=message):
        build_recognizer(name, options, folder)


def test_a_recognizer_is_no_synthesizer(folder: Path) -> None:
    """An engine of the other kind is refused."""
    with pytest.raises(SettingsError, match=r'speech\.synthesizer = ".*:Ear": it has no method `synthesize'):
        build_synthesizer(f"{MODULE}:Ear", "", {}, folder)
