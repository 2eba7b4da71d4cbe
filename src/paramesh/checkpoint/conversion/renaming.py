"""Rules that rename arrays.

A rule is `OLD=NEW`. OLD is a prefix that ends at a dot (`backbone` matches `backbone.fc.weight`,
but not `backbone2.fc.weight`), or the full name; NEW replaces it, and may be empty. With `*` in it,
OLD is a pattern of the full name, each `*` matches any text, and NEW may have as many `*`, which
insert the same texts. The first rule that matches a name is the only one that applies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable


class Renaming:
    """Renames by rules; a name that no rule matches is unchanged.

    Args:
        rules: each of the form `OLD=NEW`.

    Raises:
        ValueError: a rule is not of that form, or NEW has more `*` than OLD.
    """

    def __init__(self, rules: Iterable[str]) -> None:
        self.rules = tuple(rules)
        self._rules = [_rule(rule) for rule in self.rules]

    def __call__(self, name: str) -> str:
        """The name after the first rule that matches it."""
        for rule in self._rules:
            found = rule(name)
            if found is not None:
                return found
        return name

    def __repr__(self) -> str:
        return f"Renaming({list(self.rules)})"


def _rule(rule: str) -> Callable[[str], str | None]:
    old, equals, new = rule.partition("=")
    if not equals or not old:
        raise ValueError(f"The rule {rule!r} is not of the form OLD=NEW.")
    if new.count("*") > old.count("*"):
        raise ValueError(f"The rule {rule!r} has more * in its new name than in its old one.")
    if "*" in old:
        return _pattern(old, new)
    return _prefix(old.removesuffix("."), new.removesuffix("."))


def _prefix(old: str, new: str) -> Callable[[str], str | None]:
    def apply(name: str) -> str | None:
        if name == old:
            return new
        if not name.startswith(old + "."):
            return None
        rest = name[len(old) + 1 :]
        return f"{new}.{rest}" if new else rest

    return apply


def _pattern(old: str, new: str) -> Callable[[str], str | None]:
    pattern = re.compile("(.*)".join(re.escape(part) for part in old.split("*")), re.DOTALL)
    first, *others = new.split("*")

    def apply(name: str) -> str | None:
        found = pattern.fullmatch(name)
        if found is None:
            return None
        texts = found.groups()[: len(others)]
        return first + "".join(text + part for text, part in zip(texts, others, strict=True))

    return apply
