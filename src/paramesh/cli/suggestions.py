"""What the command line proposes: completions of values, and names that are near a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

#: How alike two words have to be (of `difflib`).
_ALIKE = 0.6


def among(*values: str) -> Callable[[str], list[str]]:
    """Completes an option that has one of these values."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


def with_suggestion(error: Any) -> None:
    """Have an error of click about an option or a command that there is not say what there is.

    Click's classes are those of whatever release typer brings, so they are told by their fields.
    """
    context = getattr(error, "ctx", None)
    if context is None:
        return
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        known = [name for param in context.command.params for name in param.opts]
        taken = [param.name for param in context.command.params]
        told = _asked(near(option, known)) + _after(option, taken)
        error.message = f"No such option: {option}{told}"
        error.possibilities = None
    elif str(error.message).startswith("No such command") and "mean" not in str(error.message):
        names = context.command.list_commands(context)
        error.message = f"{error.message} There are {', '.join(names)}."


def _after(option: str, taken: list[str]) -> str:
    """What to do with an option that is meant for the program that a command runs."""
    if "arguments" not in taken:
        return ""
    return f" One of the program comes after its name and --, as in: train.py -- {option}."


def near(word: str, known: list[str]) -> list[str]:
    """The known words that one is the beginning of, or that are most like it; at most three."""
    begun = [name for name in known if len(word) > 3 and name.startswith(word)]
    return begun[:3] or difflib.get_close_matches(word, known, 3, _ALIKE)


def _asked(names: list[str]) -> str:
    return f". Did you mean {' or '.join(names)}?" if names else ". Options are listed by -h."
