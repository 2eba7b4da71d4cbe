"""Judging the uses of a script: whether paramesh has each name, by looking it up."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from paramesh import context
from paramesh.parameter import Parameter
from paramesh.scripts import absent, differences, offered
from paramesh.scripts.reader import Use
from paramesh.tensor.base import Tensor

THERE = "there"
DIFFERENT = "different"
MISSING = "missing"
#: Missing, but the script has a fallback.
GUARDED = "guarded"


@dataclass(frozen=True)
class Finding:
    """The result of judging one use.

    Args:
        state: "there", "different", "missing", or "guarded": missing, in a `try` that catches it.
        name: the path in the script; of a keyword "path(keyword=)".
        line: in the file.
        text: the difference, or which MindSpore has it.
        advice: what to use instead of a missing name; of a difference the section of the docs.
    """

    state: str
    name: str
    line: int
    text: str = ""
    advice: str = ""


#: Settings are read by name: no signature lists them.
_SETTERS: Mapping[Any, Callable[[str], Any]] = {
    context.set_context: context.get_context,
    context.set_auto_parallel_context: context.get_auto_parallel_context,
    context.set_ps_context: context.get_ps_context,
}


def judge(uses: Sequence[Use]) -> list[Finding]:
    """The findings of one file, in the order of its lines; each name once per line."""
    found = [(use, finding) for use in uses for finding in _judged(use)]
    # The fallback of a `try` counts only if the guarded name is missing.
    failed = {u.guard for u, f in found if f.state == MISSING}
    out: dict[tuple[int, str], Finding] = {}
    for use, finding in found:
        excused = use.guard is not None or (use.fallback is not None and use.fallback not in failed)
        if finding.state == MISSING and excused:
            finding = replace(finding, state=GUARDED)
        key = finding.line, finding.name
        if key not in out or out[key].state == THERE:
            out[key] = finding
    return sorted(out.values(), key=lambda f: (f.line, f.name))


def _judged(use: Use) -> Iterator[Finding]:
    if use.kind in ("method", "self"):
        yield from _method(use)
        return
    if use.kind == "star":
        if absent.known(use.path) and offered.find(use.path).rest:
            yield _missing(use, use.path)
        return
    found = offered.find(use.path)
    if use.kind == "call":
        if not found.rest:
            yield from _keywords(use, found.value)
        return
    if found.rest:
        yield _missing(use, _shortened(found.path, found.rest))
        return
    difference = differences.of_name(found.value)
    yield (
        _different(use, use.path, difference) if difference else Finding(THERE, use.path, use.line)
    )


def _shortened(path: str, rest: str) -> str:
    """The missing name, without attributes of it."""
    parts = path.split(".")
    for name in rest.split("."):
        parts.append(name)
        if absent.known(".".join(parts)) or name[:1].isupper():
            break
    return ".".join(parts)


def _missing(use: Use, path: str) -> Finding:
    what = absent.about(path)
    return Finding(MISSING, path, use.line, what.origin, what.advice)


def _different(use: Use, name: str, what: differences.Difference) -> Finding:
    return Finding(DIFFERENT, name, use.line, what.text, what.link)


def _method(use: Use) -> Iterator[Finding]:
    owner, _, name = use.path.rpartition(".")
    found = offered.find(owner)
    kind = found.value
    if found.rest or not isinstance(kind, type) or name.startswith("__"):
        return
    if issubclass(kind, Parameter) and name in differences.METHODS:
        yield _different(use, use.path, differences.METHODS[name])
    elif hasattr(kind, name):
        yield Finding(THERE, use.path, use.line)
    elif issubclass(kind, Tensor) or name in absent.METHODS:
        near = _near(name, dir(kind))
        yield Finding(MISSING, use.path, use.line, "", f"Did you mean {near}?" if near else "")


def _near(name: str, names: Sequence[str]) -> str:
    public = [n for n in names if not n.startswith("_")]
    return ", ".join(absent.near(name, public))


def _keywords(use: Use, value: Any) -> Iterator[Finding]:
    accepted = _parameters(value)
    for keyword, given in use.keywords:
        name = f"{use.path}({keyword}=)"
        what = differences.of_keyword(value, keyword, given)
        if what is not None:
            yield _different(use, name, what)
        elif isinstance(value, types.FunctionType) and value in _SETTERS:
            try:
                _SETTERS[value](keyword)
            except ValueError as error:
                yield Finding(MISSING, name, use.line, "", str(error))
        elif accepted is not None and keyword not in accepted:
            near = _near(keyword, accepted)
            text = f"Arguments: {', '.join(accepted)}." if accepted else "It has no arguments."
            yield Finding(MISSING, name, use.line, text, f"Did you mean {near}?" if near else "")


def _parameters(value: Any) -> list[str] | None:
    """The argument names of a callable; None if it takes any, or they are unknown."""
    try:
        listed = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in listed):
        return None
    return [p.name for p in listed if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
