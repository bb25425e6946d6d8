"""The names of settings, as keys in the file and as variables in the environment."""

import difflib
import re
from collections.abc import Sequence
from itertools import chain

from sip_agent.config.describe import describe_settings
from sip_agent.config.settings import Settings

# Below this ratio a hint would puzzle more than it helps.
_ALIKE = 0.7

Keys = tuple[str | int, ...]


def dotted(keys: Keys) -> str:
    """Write keys as users do: `accounts[0].name`."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def hint_at_key(keys: Keys) -> str:
    """Return a hint at the setting that an unknown key was probably meant to be."""
    nearest = _nearest(re.sub(r"\[\d+\]", "[]", dotted(keys)))
    return f"; did you mean {nearest}?" if nearest else ""


def hint_at_variable(segments: Sequence[str]) -> str:
    """Return a hint at the variable that an unknown one was probably meant to be, given its parts."""
    variables = {description.key: description.environment for description in describe_settings()}
    nearest = _nearest(".".join(segments).lower())
    return f"; did you mean {variables[nearest]}?" if nearest in variables else ""


def _nearest(wanted: str) -> str | None:
    """Return the known key that has the same last part, or goes on like it, or is spelt alike."""
    known = [description.key for description in describe_settings()]
    known += [name for name in Settings.model_fields if name not in known]
    last = wanted.rpartition(".")[2]
    return next(
        chain(
            (key for key in known if key.rpartition(".")[2] == last),
            (key for key in known if key.startswith(wanted)),
            difflib.get_close_matches(wanted, known, n=1, cutoff=_ALIKE),
        ),
        None,
    )
