"""Groups of options that several commands have."""

import functools
import inspect
from collections.abc import Callable
from typing import Any


def with_options(**groups: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Put the options of a function in the place of each parameter named; the command receives what it returns."""

    def extend(command: Callable[..., None]) -> Callable[..., None]:
        options = {name: inspect.signature(group).parameters for name, group in groups.items()}
        parameters = [
            parameter
            for name, own in inspect.signature(command).parameters.items()
            for parameter in (options[name].values() if name in options else (own,))
        ]

        @functools.wraps(command)
        def run(**values: Any) -> None:
            made = {name: group(**{key: values.pop(key) for key in options[name]}) for name, group in groups.items()}
            command(**made, **values)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Typer reads it
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return extend
