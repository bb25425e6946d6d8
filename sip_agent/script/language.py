"""The language of scripts: every step, and what it takes. What is written here is the JSON Schema, too."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    Tag,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from sip_agent.audio import BargeIn
from sip_agent.script.source import NOWHERE, Place
from sip_agent.script.templates import references
from sip_agent.script.values import (
    Digits,
    Duration,
    KeyPattern,
    OneOrMore,
    PlainText,
    Reference,
    RegexText,
    Template,
    ToolTarget,
    UriTemplate,
    VariableName,
)

TAG = "step "
"""Begins the tags of the steps in pydantic's locations: no key of a script looks like one."""


class Part(BaseModel):
    """A closed and immutable part of a script that knows where it stands."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    word: ClassVar[str | None] = None
    """What may be written instead of the whole mapping."""

    _place: Place = PrivateAttr(NOWHERE)

    @property
    def place(self) -> Place:
        """Where it stands in its file."""
        return self._place

    @model_validator(mode="wrap")
    @classmethod
    def _note_place(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        part = handler(value)
        part._place = getattr(value, "place", NOWHERE)  # noqa: SLF001  (it is this class's own)
        return part

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Let the bare words be written, too."""
        written = handler(schema)
        words = cls.words()
        if words:
            document = handler.resolve_ref_schema(written)
            whole = dict(document)
            document.clear()
            document["anyOf"] = [whole, {"enum": words}]
        return written

    @classmethod
    def words(cls) -> list[str]:
        """Return what may be written instead of the whole mapping."""
        return [cls.word] if cls.word else []


class Step(Part):
    """One step; the class's `kind` is the key that tells it from others."""

    kind: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, value: Any) -> Any:
        return {value: None} if isinstance(value, str) and value == cls.word else value


class Consequence(Part):
    """What follows when a case is met: `go` to a scene, or `do` some steps and go on."""

    go: str | None = None
    """The scene to go on with."""
    do: "list[AnyStep] | None" = None
    """The steps to take; then the script goes on after this one."""

    @model_validator(mode="after")
    def _check_consequence(self) -> Self:
        if self.go is not None and self.do is not None:
            raise ValueError("write go or do, not both; a go may be the last step of do")
        return self

    def _only_one_of(self, conditions: tuple[str, ...]) -> str:
        given = [name for name in conditions if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"write one of {', '.join(conditions)}{'' if not given else ', not ' + ' and '.join(given)}"
            )
        return given[0]


class ListenCase(Consequence):
    """Something that may be heard."""

    text: OneOrMore[Template] | None = None
    """Words that were said, one of several if this is a list; letter case and punctuation do not matter."""
    regex: RegexText | None = None
    """A regular expression found in what was said; its named groups become variables."""
    dtmf: OneOrMore[KeyPattern] | None = None
    """DTMF keys: 12#, XXXX for four digits, X+# for digits up to #, any for one key."""
    speech: Literal["any"] | None = None
    """Anything that was said, understood or not."""
    silence: Duration | None = None
    """Nothing was heard for so long."""
    hangup: Literal["any"] | None = None
    """The other side hung up: the script ends well."""

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, value: Any) -> Any:
        if isinstance(value, str) and value in cls.words():
            return {value: "any"}
        if isinstance(value, dict):
            return {key: "any" if key in cls.words() and item is None else item for key, item in value.items()}
        return value

    @classmethod
    def words(cls) -> list[str]:
        """See Part."""
        return ["speech", "hangup"]

    @property
    def condition(self) -> str:
        """The key of what is waited for."""
        return self._only_one_of(("text", "regex", "dtmf", "speech", "silence", "hangup"))

    @model_validator(mode="after")
    def _check_condition(self) -> Self:
        if self.condition == "hangup" and (self.go or self.do):
            raise ValueError("nothing follows a hangup: take go and do away")
        return self


class BranchCase(Consequence):
    """Something that may be true of a variable."""

    variable: Reference = Field(alias="if")
    """The variable (or X-Header, or tool.field); alone it asks whether there is anything in it."""
    equals: OneOrMore[Template] | None = Field(None, alias="is")
    """What it is, one of several if this is a list; letter case does not matter."""
    text: OneOrMore[Template] | None = None
    """Words that are in it, one of several if this is a list."""
    regex: RegexText | None = None
    """A regular expression found in it; its named groups become variables."""

    @model_validator(mode="after")
    def _check_condition(self) -> Self:
        if sum(condition is not None for condition in (self.equals, self.text, self.regex)) > 1:
            raise ValueError("write one of is, text, regex")
        return self


class Ring(Step):
    """Ring (180), for so long if a duration is given. Before the answer."""

    kind: ClassVar = "ring"
    word: ClassVar = "ring"
    ring: Duration | None


class Progress(Step):
    """Let sound flow before the answer (183, early media)."""

    kind: ClassVar = "progress"
    word: ClassVar = "progress"
    progress: None


class Answer(Step):
    """Answer the call (200). A script that speaks or listens without it answers first."""

    kind: ClassVar = "answer"
    word: ClassVar = "answer"
    answer: None


class Reject(Step):
    """Refuse the call with a SIP status, like 486 for busy. Before the answer."""

    kind: ClassVar = "reject"
    reject: Annotated[int, Field(ge=300, le=699)]


class Say(Step):
    """Say a text; `{name}` puts in a variable."""

    kind: ClassVar = "say"
    say: Annotated[Template, Field(min_length=1)]
    voice: PlainText | None = None
    """The voice, as the synthesizer names it."""
    barge_in: BargeIn = BargeIn.STOP
    """What becomes of it when the other side speaks or presses a key: stop, pause (for a cough), or ignore that."""


class Play(Step):
    """Play a sound file; its path starts where the script is."""

    kind: ClassVar = "play"
    play: Annotated[str, Field(min_length=1)]
    barge_in: BargeIn = BargeIn.STOP
    """What becomes of it when the other side speaks or presses a key: stop, pause (for a cough), or ignore that."""


class Wait(Step):
    """Be silent for so long, whatever is heard meanwhile."""

    kind: ClassVar = "wait"
    wait: Duration


class Listen(Step):
    """Wait until one of these is heard; the first case that fits counts.

    Without `otherwise`, what fits no case is passed over, and the script fails when nothing fits within `timeout`.
    """

    kind: ClassVar = "listen"
    listen: OneOrMore[ListenCase]
    timeout: Duration = timedelta(seconds=10)
    """How long to wait; somebody who is speaking then is heard out."""
    store_as: VariableName | None = Field(None, alias="as")
    """The variable that what was heard goes into: the text, or the DTMF keys."""
    otherwise: "list[AnyStep] | None" = None
    """The steps to take when something else is heard, or nothing within the time."""


class Branch(Step):
    """Go on by what is in the variables: the first case that is true counts."""

    kind: ClassVar = "branch"
    branch: OneOrMore[BranchCase]
    otherwise: "list[AnyStep] | None" = None
    """The steps to take when no case is true."""


class Repeat(Step):
    """Take the steps so many times; `go` leaves them early."""

    kind: ClassVar = "repeat"
    repeat: Annotated[int, Field(ge=1, le=1000)]
    steps: "list[AnyStep]" = Field(min_length=1)


class Set(Step):
    """Put texts into variables."""

    kind: ClassVar = "set"
    set: Annotated[dict[VariableName, Template], Field(min_length=1)]


class Tool(Step):
    """Use a tool: an HTTP address that is POSTed a JSON object, or a Python function `module:function`."""

    kind: ClassVar = "tool"
    tool: ToolTarget
    arguments: dict[str, Any] = Field(default_factory=dict, alias="with")
    """The fields of the JSON object, or the function's keyword arguments; texts are templates."""
    name: PlainText | None = None
    """What the record calls it; else the function, or the last part of the address."""
    store_as: VariableName | None = Field(None, alias="as")
    """The variable that the answer goes into; `{name.field}` is a field of it."""
    timeout: Duration = timedelta(seconds=5)
    otherwise: "list[AnyStep] | None" = None
    """The steps to take when the tool fails; without them the script does."""

    @field_validator("arguments")
    @classmethod
    def _check_arguments(cls, value: dict[str, Any]) -> dict[str, Any]:
        for text in texts_in(value):
            references(text)
        return value

    @property
    def label(self) -> str:
        """What the record calls it."""
        is_address = "//" in self.tool
        short = PurePath(urlsplit(self.tool).path).name if is_address else self.tool.rpartition(":")[2]
        return self.name or short or str(urlsplit(self.tool).hostname)


class SendDtmf(Step):
    """Press DTMF keys."""

    kind: ClassVar = "send_dtmf"
    send_dtmf: Digits
    method: Literal["rfc4733", "info"] = "rfc4733"
    """How they are sent: as RFC 4733 events in the sound, or by SIP INFO."""


class Transfer(Step):
    """Ask the other side to call somebody else (REFER); the script ends."""

    kind: ClassVar = "transfer"
    transfer: UriTemplate


class Hangup(Step):
    """Hang up: the script ends well."""

    kind: ClassVar = "hangup"
    word: ClassVar = "hangup"
    hangup: Template | None
    """Why, for the record."""


class Fail(Step):
    """Hang up: the script has failed, for this reason."""

    kind: ClassVar = "fail"
    fail: Template


class Go(Step):
    """Go on with a scene."""

    kind: ClassVar = "go"
    go: str


STEP_TYPES: tuple[type[Step], ...] = (
    *(Ring, Progress, Answer, Reject, Say, Play, Wait, Listen, Branch, Repeat, Set, Tool),
    *(SendDtmf, Transfer, Hangup, Fail, Go),
)
STEPS = {each.kind: each for each in STEP_TYPES}


def _kind_of(value: Any) -> str | None:
    """Return the tag of a step: of its first key that names one, or of the bare word."""
    if isinstance(value, Step):
        return TAG + value.kind
    if isinstance(value, str):
        return TAG + value if any(value == each.word for each in STEP_TYPES) else None
    if isinstance(value, dict):
        return next((TAG + key for key in value if key in STEPS), None)
    return None


AnyStep = Annotated[
    Annotated[Ring, Tag(TAG + "ring")]
    | Annotated[Progress, Tag(TAG + "progress")]
    | Annotated[Answer, Tag(TAG + "answer")]
    | Annotated[Reject, Tag(TAG + "reject")]
    | Annotated[Say, Tag(TAG + "say")]
    | Annotated[Play, Tag(TAG + "play")]
    | Annotated[Wait, Tag(TAG + "wait")]
    | Annotated[Listen, Tag(TAG + "listen")]
    | Annotated[Branch, Tag(TAG + "branch")]
    | Annotated[Repeat, Tag(TAG + "repeat")]
    | Annotated[Set, Tag(TAG + "set")]
    | Annotated[Tool, Tag(TAG + "tool")]
    | Annotated[SendDtmf, Tag(TAG + "send_dtmf")]
    | Annotated[Transfer, Tag(TAG + "transfer")]
    | Annotated[Hangup, Tag(TAG + "hangup")]
    | Annotated[Fail, Tag(TAG + "fail")]
    | Annotated[Go, Tag(TAG + "go")],
    Discriminator(_kind_of),
]


class Limits(Part):
    """What ends a script that would go on for ever; it has failed then."""

    duration: Duration = timedelta(minutes=10)
    """How long the script may take."""
    turns: Annotated[int, Field(ge=1, le=10_000)] = 100
    """How often it may have listened."""
    steps: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """How many steps it may take."""


class Script(Part):
    """A dialogue: what to say, what to listen for, and what follows from it."""

    description: PlainText = ""
    """What the script is for, in a line."""
    variables: dict[VariableName, PlainText] = Field(default_factory=dict)
    """Texts by name; who uses the script can give others."""
    limits: Limits = Field(default_factory=Limits)
    steps: list[AnyStep] = Field(min_length=1)
    """The script begins here; at the end of these steps, or of the scene it went on with, it hangs up."""
    scenes: dict[str, Annotated[list[AnyStep], Field(min_length=1)]] = Field(default_factory=dict)
    """Further steps by name, for `go`."""


_PARTS: tuple[type[Part], ...] = (ListenCase, BranchCase, *STEP_TYPES, Script)
for _part in _PARTS:
    _part.model_rebuild()


def texts_in(value: Any) -> list[str]:
    """Return every text within a JSON value."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in texts_in(item)]


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: map_texts(item, change) for key, item in value.items()}
    return [map_texts(item, change) for item in value] if isinstance(value, list) else value
