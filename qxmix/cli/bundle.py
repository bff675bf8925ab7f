"""Options that belong together, and reach a command as one value."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any

Decorator = Callable[[Any], Any]


def bundled(name: str, make: Callable[..., object], *options: Decorator) -> Callable[[Callable[..., Any]], Any]:
    """Add options, in the order in which the help lists them, and pass on what is made of their values.

    Args:
        name: By which the command gets it.
        make: Called with all values by the names that click gives them, which are those of its parameters.
        options: Of click.

    """
    names = tuple(signature(make).parameters)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(*args: Any, **given: Any) -> Any:  # noqa: ANN401 - whatever the command has
            values = {each: given.pop(each) for each in names}
            return function(*args, **given, **{name: make(**values)})

        for option in reversed(options):
            command = option(command)
        return command

    return decorate
