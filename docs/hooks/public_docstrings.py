"""A griffe extension: the reference shows docstrings without their `Glossary` sections.

These sections explain words of the source. They are for readers of the source and of the page
`internals/glossary.md`, not for users of the API.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTION = re.compile(r"^Glossary$\n(?:^ +\S.*$\n?|^$\n(?= ))+", re.MULTILINE)


def without_glossary(text: str) -> str:
    """A docstring without its section of words."""
    return _SECTION.sub("", text).rstrip()


class PublicDocstrings(griffe.Extension):
    """Takes the sections out of every docstring that is loaded."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called once for each module, class, function and attribute."""
        if obj.docstring is not None and "Glossary" in obj.docstring.value:
            obj.docstring.value = without_glossary(obj.docstring.value)
