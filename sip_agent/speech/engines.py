"""What a synthesizer and a recognizer have to be, and how they are found.

Each is named by an entry point of the group `sip_agent.synthesizers` or `sip_agent.recognizers`, or by
`module:Class`. The built-in ones are found in the same way as a stranger's.
"""

import inspect
import json
from collections.abc import AsyncGenerator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast

from media.frames import Samples
from sip_agent.errors import SettingsError
from sip_agent.imports import import_object, look_in

SYNTHESIZERS = "sip_agent.synthesizers"
RECOGNIZERS = "sip_agent.recognizers"


class Synthesizer(Protocol):
    """Makes speech of text, for all calls at once and without keeping the event loop waiting.

    It is built once, with `voice` (the setting `speech.voice`, "" for its own default) and its options as keyword
    arguments, and raises SettingsError, ValueError or TypeError there for what it cannot work with.
    """

    fingerprint: str
    """What else its sound depends on: version, model, speed. Sound is kept under it, the voice and the text."""

    def synthesize(self, text: str, *, voice: str | None, sample_rate_hz: int) -> AsyncGenerator[Samples, None]:
        """Yield the speech of a text piece by piece as it is made: int16 mono at `sample_rate_hz`.

        `voice` None is the one it was built with. Raises SpeechError.
        """

    async def close(self) -> None:
        """Let go of connections, threads and processes."""


class Recognizer(Protocol):
    """Makes text of speech, for all calls at once and without keeping the event loop waiting.

    It is built once, with its options as keyword arguments, as a synthesizer is.
    """

    async def recognize(self, samples: Samples, sample_rate_hz: int) -> str:
        """Return what was said in one utterance (int16 mono), "" where nothing was. Raises SpeechError."""

    async def close(self) -> None:
        """Let go of connections, threads and processes."""


def build_synthesizer(name: str, voice: str, options: Mapping[str, Any], base_dir: Path) -> Synthesizer:
    """Find the synthesizer `name` and build it; raises SettingsError naming the setting.

    `base_dir` is where relative paths in options (`file`, `…_file`) start, and where `module:Class` is looked for
    when it is not installed.
    """
    found = _find(SYNTHESIZERS, "synthesizer", name, base_dir)
    if not inspect.isfunction(getattr(found, "synthesize", None)):
        raise _wrong("synthesizer", name, "it has no method `synthesize(self, text, *, voice, sample_rate_hz)`")
    return cast("Synthesizer", _build(found, "synthesizer", name, {"voice": voice, **_resolved(options, base_dir)}))


def build_recognizer(name: str, options: Mapping[str, Any], base_dir: Path) -> Recognizer:
    """Find the recognizer `name` and build it, as `build_synthesizer` does."""
    found = _find(RECOGNIZERS, "recognizer", name, base_dir)
    if not inspect.iscoroutinefunction(getattr(found, "recognize", None)):
        raise _wrong("recognizer", name, "it has no method `async def recognize(self, samples, sample_rate_hz)`")
    return cast("Recognizer", _build(found, "recognizer", name, _resolved(options, base_dir)))


def _find(group: str, kind: str, name: str, base_dir: Path) -> Any:
    points = entry_points(group=group)
    if ":" not in name and name not in points.names:
        raise _wrong(kind, name, f"there is: {', '.join(sorted(points.names))}; or write module:Class")
    try:
        if ":" not in name:
            return points[name].load()
        look_in(base_dir)
        return import_object(name)
    except Exception as error:  # a stranger's module may fail in any way when it is imported
        raise _wrong(kind, name, f"it cannot be imported: {type(error).__name__}: {error}") from error


def _build(found: Any, kind: str, name: str, options: Mapping[str, Any]) -> Any:
    try:
        return found(**options)
    except (TypeError, ValueError) as error:
        taken = ", ".join(inspect.signature(found).parameters)
        raise _wrong(kind, name, f"it cannot be built: {error}; it takes: {taken or 'no options'}") from error


def _resolved(options: Mapping[str, Any], base_dir: Path) -> dict[str, Any]:
    return {
        key: base_dir / Path(value).expanduser()
        if (key == "file" or key.endswith("_file")) and isinstance(value, str)
        else value
        for key, value in options.items()
    }


def _wrong(kind: str, name: str, problem: str) -> SettingsError:
    return SettingsError(f"speech.{kind} = {json.dumps(name, ensure_ascii=False)}: {problem}")
