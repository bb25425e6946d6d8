"""Reading scripts: what the models cannot see is checked here, and every problem has its line and column."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from media.wav import AudioFileError, open_audio
from sip_agent.errors import SettingsError
from sip_agent.script.language import (
    AnyStep,
    Branch,
    BranchCase,
    Consequence,
    Fail,
    Go,
    Hangup,
    Listen,
    ListenCase,
    Part,
    Play,
    Reject,
    Repeat,
    Script,
    Set,
    Tool,
    Transfer,
    texts_in,
)
from sip_agent.script.matching import compile_regex
from sip_agent.script.problems import Keys, Problem, explain, hint
from sip_agent.script.source import NOWHERE, SourceError, place_of, read
from sip_agent.script.templates import references
from sip_agent.script.tools import ToolFailed, find_function
from sip_agent.script.values import BUILT_IN

FILE_BYTES_MAX = 500_000
"""A script is written by a person."""

_HOLDS_PARTS = frozenset({"listen", "branch", "do", "otherwise", "steps"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedScript:
    """A script that was found right, and the file that it is from."""

    path: Path
    script: Script

    def with_variables(self, variables: Mapping[str, Any]) -> "LoadedScript":
        """Return the script with other texts in its variables; raises SettingsError for one that it does not have."""
        known = self.script.variables
        for name in variables:
            if name not in known:
                advice = hint(name, known) or f"`variables:` has {', '.join(known) or 'none'}"
                raise SettingsError(f"{self.path} has no variable {name!r}; {advice}")
        given = {**known, **{name: str(value) for name, value in variables.items()}}
        return replace(self, script=self.script.model_copy(update={"variables": given}))


@lru_cache(maxsize=256)
def load_script(path: Path) -> LoadedScript:
    """Read a script, once for all its calls.

    Raises SettingsError with a line FILE:LINE:COLUMN: message for each problem.
    """
    script, problems = check_script(path)
    if script is None or problems:
        raise SettingsError("\n".join(describe(path, problem) for problem in problems))
    return LoadedScript(path=path, script=script)


def describe(path: Path, problem: Problem) -> str:
    """Write a problem as compilers do: FILE:LINE:COLUMN: message."""
    return f"{path}:{problem.place.line}:{problem.place.column}: {problem.message}"


def check_script(path: Path) -> tuple[Script | None, list[Problem]]:
    """Read a script and say all that is wrong with it, in the order of its lines; it is None if it is not readable."""
    try:
        document = read(_text_of(path))
    except SourceError as error:
        return None, [Problem(error.place, str(error))]
    try:
        script = Script.model_validate(document)
    except ValidationError as error:
        wrong = {explain(details, document) for details in error.errors(include_url=False)}
        return None, sorted(wrong.union(_dangling(document, path.parent)))
    return script, sorted(set(_Checker(script, document, path.parent).problems()))


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(NOWHERE, f"cannot be read: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise SourceError(NOWHERE, f"is too long for a script: {len(content)} bytes, at most {FILE_BYTES_MAX}")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceError(replace(NOWHERE, line=line), "is not UTF-8 here: save it as UTF-8") from error
    if not text.strip():
        raise SourceError(NOWHERE, "is empty: write `steps:` and, below it, `- say: Hello`")
    return text


def sound_of(step: Play, folder: Path) -> Path:
    """Return the sound file of a step, in a script of this folder."""
    return folder / Path(step.play).expanduser()


def walk(steps: list[AnyStep], keys: Keys) -> Iterator[tuple[Keys, Part]]:
    """Yield every step and every case, with its keys in the document."""
    for index, step in enumerate(steps):
        here = (*keys, index)
        yield here, step
        if isinstance(step, Listen | Branch):
            name = step.kind
            for number, case in enumerate(step.listen if isinstance(step, Listen) else step.branch):
                yield (*here, name, number), case
                yield from walk(case.do or [], (*here, name, number, "do"))
        if isinstance(step, Listen | Branch | Tool):
            yield from walk(step.otherwise or [], (*here, "otherwise"))
        if isinstance(step, Repeat):
            yield from walk(step.steps, (*here, "steps"))


def _dangling(document: Any, folder: Path) -> Iterator[Problem]:
    """Find what leads nowhere in a script that is not right as a whole: scenes and sound files that are not there."""
    if not isinstance(document, dict):
        return
    scenes = document.get("scenes")
    scenes = scenes if isinstance(scenes, dict) else {}
    parts = [*_mappings(document.get("steps"), ("steps",))]
    for name, steps in scenes.items():
        parts += _mappings(steps, ("scenes", name))
    for keys, part in parts:
        label, sound = part.get("go"), part.get("play")
        if isinstance(label, str):
            yield from _check_label(document, keys, label, scenes)
        if sound and isinstance(sound, str):
            yield from _check_file(document, keys, folder / Path(sound).expanduser())


def _mappings(value: Any, keys: Keys) -> Iterator[tuple[Keys, Mapping[str, Any]]]:
    """Yield what may be a step or a case, with its keys in the document."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _mappings(item, (*keys, index))
    elif isinstance(value, dict):
        yield keys, value
        for key in _HOLDS_PARTS & value.keys():
            yield from _mappings(value[key], (*keys, key))


def _check_label(document: Any, keys: Keys, label: str, scenes: Mapping[str, Any]) -> Iterator[Problem]:
    if label not in scenes:
        advice = hint(label, scenes) or (f"there are {', '.join(scenes)}" if scenes else "add it below `scenes:`")
        yield Problem(place_of(document, (*keys, "go")), f"go: there is no scene {label!r}; {advice}")


def _check_file(document: Any, keys: Keys, path: Path) -> Iterator[Problem]:
    place = place_of(document, (*keys, "play"))
    if not path.is_file():
        yield Problem(place, f"play: there is no sound file {path}")
        return
    try:
        open_audio(path, 16_000).close()
    except AudioFileError as error:
        yield Problem(place, f"play: {error}")


class _Checker:
    """Finds what is wrong with a script whose every part is right by itself."""

    def __init__(self, script: Script, document: Any, folder: Path) -> None:
        self._script = script
        self._document = document
        self._folder = folder
        self._parts = [*walk(script.steps, ("steps",))]
        for name, steps in script.scenes.items():
            self._parts += walk(steps, ("scenes", name))
        self._names = {*BUILT_IN, *script.variables}
        for _, part in self._parts:
            self._names |= _names_set_by(part)

    def problems(self) -> Iterator[Problem]:
        for keys, part in self._parts:
            yield from self._check_go(keys, part)
            yield from self._check_variables(keys, part)
            if isinstance(part, Play):
                yield from _check_file(self._document, keys, sound_of(part, self._folder))
            elif isinstance(part, Tool):
                yield from self._check_tool(keys, part)
            elif isinstance(part, Listen):
                yield from self._check_cases(keys, part)
        yield from self._dead_steps(self._script.steps, ("steps",))
        for name, steps in self._script.scenes.items():
            yield from self._dead_steps(steps, ("scenes", name))
        yield from self._dead_scenes()

    def _problem(self, keys: Keys, message: str, *, of_key: bool = False) -> Problem:
        return Problem(place_of(self._document, keys, of_key=of_key), message)

    def _check_go(self, keys: Keys, part: Part) -> Iterator[Problem]:
        label = part.go if isinstance(part, Go | Consequence) else None
        if label is not None:
            yield from _check_label(self._document, keys, label, self._script.scenes)

    def _check_variables(self, keys: Keys, part: Part) -> Iterator[Problem]:
        for field, names in _names_used_by(part):
            for name in names:
                first = name.partition(".")[0]
                if "-" not in first and first not in self._names:
                    advice = hint(first, self._names) or "give it a text below `variables:`"
                    yield self._problem((*keys, field), f"{field}: nothing sets the variable {first!r}; {advice}")

    def _check_tool(self, keys: Keys, step: Tool) -> Iterator[Problem]:
        if "//" not in step.tool:
            try:
                find_function(step.tool, self._folder)
            except ToolFailed as error:
                yield self._problem((*keys, "tool"), f"tool: {error}")

    def _check_cases(self, keys: Keys, step: Listen) -> Iterator[Problem]:
        anything = False
        for number, case in enumerate(step.listen):
            here = (*keys, "listen", number, case.condition)
            if case.silence is not None and case.silence >= step.timeout:
                yield self._problem(here, "silence: never comes, as timeout is not longer; write a longer `timeout:`")
            if anything and case.condition in {"text", "regex", "speech"}:
                yield self._problem(here, f"{case.condition}: never comes, as the speech above it takes everything")
            anything = anything or case.speech is not None

    def _dead_steps(self, steps: list[AnyStep], keys: Keys) -> Iterator[Problem]:
        """Find the steps behind one that never lets the script go on."""
        for index, step in enumerate(steps):
            for name, inner in _inner(step):
                yield from self._dead_steps(inner, (*keys, index, *name))
            if index and not _goes_on(steps[index - 1]):
                message = f"this step is never reached: nothing comes back from the {steps[index - 1].kind} above it"
                yield self._problem((*keys, index), message)
                return

    def _dead_scenes(self) -> Iterator[Problem]:
        reached: set[str] = set()
        waiting = [self._script.steps]
        while waiting:
            for _, part in walk(waiting.pop(), ()):
                label = part.go if isinstance(part, Go | Consequence) else None
                if label in self._script.scenes and label not in reached:
                    reached.add(label)
                    waiting.append(self._script.scenes[label])
        for name in self._script.scenes.keys() - reached:
            message = f"the scene {name!r} is never reached: no `go: {name}` leads to it"
            yield self._problem(("scenes", name), message, of_key=True)


def _inner(step: AnyStep) -> Iterator[tuple[Keys, list[AnyStep]]]:
    """Yield the lists of steps within a step."""
    if isinstance(step, Listen | Branch):
        for number, case in enumerate(step.listen if isinstance(step, Listen) else step.branch):
            if case.do:
                yield (step.kind, number, "do"), case.do
    if isinstance(step, Listen | Branch | Tool) and step.otherwise:
        yield ("otherwise",), step.otherwise
    if isinstance(step, Repeat):
        yield ("steps",), step.steps


def _goes_on(step: AnyStep) -> bool:
    """Tell whether the script can come to the step after this one."""
    match step:
        case Go() | Hangup() | Fail() | Reject() | Transfer():
            return False
        case Listen():
            # Without otherwise, what else is heard is passed over, and nothing at all is a failure.
            return any(_leads_on(case) for case in step.listen) or (bool(step.otherwise) and _all_go_on(step.otherwise))
        case Branch():
            return any(_leads_on(case) for case in step.branch) or step.otherwise is None or _all_go_on(step.otherwise)
        case Repeat():
            return _all_go_on(step.steps)
        case _:
            return True


def _leads_on(case: Consequence) -> bool:
    if isinstance(case, ListenCase) and case.hangup is not None:
        return False
    return case.go is None and (case.do is None or _all_go_on(case.do))


def _all_go_on(steps: list[AnyStep] | None) -> bool:
    return all(_goes_on(step) for step in steps or [])


def _names_set_by(part: Part) -> set[str]:
    match part:
        case Set():
            return {*part.set}
        case Listen(store_as=str(name)) | Tool(store_as=str(name)):
            return {name}
        case ListenCase(regex=str(pattern)) | BranchCase(regex=str(pattern)):
            return {*compile_regex(pattern).groupindex}
        case _:
            return set()


def _names_used_by(part: Part) -> Iterator[tuple[str, list[str]]]:
    """Yield the keys of a part that hold templates, with the variables that they ask for."""
    if isinstance(part, BranchCase):
        yield "if", [part.variable]
    fields = {"equals": "is", "arguments": "with"}
    for field in ("say", "voice", "set", "send_dtmf", "arguments", "transfer", "hangup", "fail", "text", "equals"):
        texts = [] if isinstance(part, ListenCase) and field == "hangup" else texts_in(getattr(part, field, None))
        yield fields.get(field, field), [name for text in texts for name in references(text)]
