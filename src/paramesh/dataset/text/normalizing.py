"""Strings in one form: case, Unicode's normal forms, replacements."""

from __future__ import annotations

import functools
import html
import importlib.util
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import Values
from paramesh.dataset.text.modes import NormalizeForm
from paramesh.dataset.text.strings import TextTensorOperation, mapped
from paramesh.dataset.transforms import arguments as check

__all__ = ["CaseFold", "FilterWikipediaXML", "NormalizeUTF8", "RegexReplace"]

#: Unicode's characters without an effect on sight, which case folding drops.
_IGNORED = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def case_folded(text: str) -> str:
    """Unicode's NFKC_Casefold."""
    text = _IGNORED.sub("", unicodedata.normalize("NFKC", text))
    return unicodedata.normalize("NFKC", text.casefold())


def normalized(text: str, form: NormalizeForm) -> str:
    """A normal form of Unicode."""
    if form == NormalizeForm.NONE:
        return text
    return unicodedata.normalize(form.name, text)  # type: ignore[arg-type]


class CaseFold(TextTensorOperation):
    """Strings without differences of case, in Unicode's NFKC_Casefold."""

    def __call__(self, column: Values) -> np.ndarray:
        """Fold each string.

        Raises:
            RuntimeError: no strings.
        """
        return mapped(column, case_folded, "CaseFold")


class NormalizeUTF8(TextTensorOperation):
    """Strings in a normal form of Unicode.

    Args:
        normalize_form: the form.

    Raises:
        TypeError: it is no `NormalizeForm`.
    """

    def __init__(self, normalize_form: NormalizeForm = NormalizeForm.NFKC) -> None:
        check.of_type(normalize_form, NormalizeForm, "NormalizeUTF8.normalize_form")
        self.normalize_form = normalize_form

    def __call__(self, column: Values) -> np.ndarray:
        """Normalize each string.

        Raises:
            RuntimeError: no strings.
        """
        return mapped(column, lambda text: normalized(text, self.normalize_form), "NormalizeUTF8")


@functools.lru_cache(maxsize=256)
def compiled(pattern: str, name: str) -> Any:
    r"""A regular expression, in the syntax of ICU as far as python has it.

    Classes of Unicode such as `\p{Lu}` need the package `regex`.

    Raises:
        ImportError: the pattern has one, and `regex` is not installed.
        ValueError: the pattern is none.
    """
    engine: Any = re
    if re.search(r"\\[pP]|&&|\[:", pattern):
        if importlib.util.find_spec("regex") is None:
            raise ImportError(
                f"{name}: the pattern {pattern!r} has a class of Unicode, which needs the package "
                "`regex`. Install it: pip install regex."
            )
        engine = importlib.import_module("regex")
    try:
        return engine.compile(pattern)
    except engine.error as error:
        raise ValueError(f"{name}: {pattern!r} is no regular expression: {error}.") from None


class RegexReplace(TextTensorOperation):
    """Strings with the matches of a regular expression replaced.

    Args:
        pattern: the expression.
        replace: what comes instead; `$1` is the first group.
        replace_all: True: all matches; False: the first one.

    Raises:
        TypeError: one is of another kind.
        ValueError: `pattern` is no expression.
    """

    def __init__(self, pattern: str, replace: str, replace_all: bool = True) -> None:
        check.of_type(pattern, str, "RegexReplace.pattern")
        check.of_type(replace, str, "RegexReplace.replace")
        check.flag(replace_all, "RegexReplace.replace_all")
        self.pattern = pattern
        self.replace = replace
        self.replace_all = replace_all
        compiled(pattern, "RegexReplace.pattern")

    def __call__(self, column: Values) -> np.ndarray:
        """Replace in each string.

        Raises:
            RuntimeError: no strings.
        """
        expression = compiled(self.pattern, "RegexReplace.pattern")
        count = 0 if self.replace_all else 1
        template = self.replace
        make: Callable[[Any], str] | str = lambda match: re.sub(  # noqa: E731
            r"\\(.)|\$(\d)",
            lambda m: m[1] if m[1] is not None else (match[int(m[2])] or ""),
            template,
        )
        return mapped(column, lambda text: expression.sub(make, text, count=count), "RegexReplace")


#: Steps from the text of a page of Wikipedia's XML to words, after Mahoney's wikifil.
_STEPS = (
    (r"<.*>", ""),
    (r"&amp;", "&"),
    (r"&lt;", "<"),
    (r"&gt;", ">"),
    (r"<ref[^<]*<\/ref>", ""),
    (r"<[^>]*>", ""),
    (r"\[http:[^] ]*", "["),
    (r"\|thumb", ""),
    (r"\|left", ""),
    (r"\|right", ""),
    (r"\|\d+px", ""),
    (r"\[\[image:[^\[\]]*\|", ""),
    (r"\[\[category:([^|\]]*)[^]]*\]\]", r"[[\1]]"),
    (r"\[\[[a-z\-]*:[^\]]*\]\]", ""),
    (r"\[\[[^\|\]]*\|", "[["),
    (r"\{\{[^\}]*\}\}", ""),
    (r"\{[^\}]*\}", ""),
    (r"\[", ""),
    (r"\]", ""),
    (r"&[^;]*;", " "),
)


class FilterWikipediaXML(TextTensorOperation):
    """The words of a line of Wikipedia's XML: markup is dropped, letters become small.

    Source: Mahoney's `wikifil.pl`.
    """

    def __call__(self, column: Values) -> np.ndarray:
        """Filter each string.

        Raises:
            RuntimeError: no strings.
        """
        return mapped(column, self._filtered, "FilterWikipediaXML")

    @staticmethod
    def _filtered(text: str) -> str:
        if re.match(r"#redirect", text, re.IGNORECASE):
            return ""
        for pattern, replacement in _STEPS:
            text = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
        return html.unescape(text).strip() and text.lower()
