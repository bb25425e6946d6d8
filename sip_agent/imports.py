"""What settings and scripts name as `module:name`: of an installed package, or of a module in their own folder."""

import importlib
import sys
from pathlib import Path
from typing import Any


def look_in(folder: Path) -> None:
    """Let modules be imported from a folder too, after all other places."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def import_object(name: str) -> Any:
    """Return what `module:name` names; a stranger's module may fail in any way when it is imported."""
    module_name, _, object_name = name.partition(":")
    return getattr(importlib.import_module(module_name), object_name)
