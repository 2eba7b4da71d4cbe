"""Names of MindSpore that a script imports and paramesh does not have: an error when they are used.

Large scripts import what only some of their settings use. So an import of such a name gives an
object that raises the error of the missing name where it is called, subclassed or asked for an
attribute, and a line says so. An import in a `try` that catches the error raises it at once, since
such a script has something to use instead.
"""

from __future__ import annotations

import ast
import linecache
import types
from typing import Any, NoReturn

from paramesh.scripts import absent

#: Packages that call a script's modules: what they catch is a report of the error, not another way.
_CALLERS = frozenset({"paramesh", "_pytest", "pluggy", "unittest"})

_CATCHES = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


class Deferred(types.ModuleType):
    """A name that is missing. As a module, its names are missing too."""

    def __init__(self, path: str, *of_class: object) -> None:
        if of_class:  # it is the base of a class
            bases = of_class[0] if isinstance(of_class[0], tuple) else ()
            path = next(b.__name__ for b in bases if isinstance(b, Deferred))
            raise absent.error(path)
        super().__init__(path, str(absent.about(path)))
        self.__path__ = []

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise absent.error(self.__name__)

    __call__ = __bool__ = __iter__ = __getitem__ = __len__ = __or__ = __ror__ = _refuse

    def __instancecheck__(self, instance: object) -> bool:
        """False: there can be no instance of it."""
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(str(absent.about(f"{self.__name__}.{name}")), name=name)

    def __repr__(self) -> str:
        return f"<{self.__name__}, which paramesh does not have>"


def may_be(path: str, frame: types.FrameType | None) -> bool:
    """Whether the import of a missing name may be deferred.

    Args:
        path: MindSpore has, or had, this name; others are mistakes of the script.
        frame: of the importing code or of a function that it called.
    """
    return absent.recorded(path) and not caught(frame)


def caught(frame: types.FrameType | None) -> bool:
    """Whether the script would catch an ImportError that is raised in this frame."""
    while frame is not None:
        code = frame.f_code
        # What called the script is no part of it.
        if frame.f_globals.get("__name__", "").partition(".")[0] in _CALLERS:
            break
        if not code.co_filename.startswith("<frozen importlib"):
            lines = linecache.getlines(code.co_filename, frame.f_globals)
            if _catches_at("".join(lines), frame.f_lineno):
                return True
        frame = frame.f_back
    return False


def _catches_at(text: str, line: int) -> bool:
    """Whether a line of a program is in a `try` that catches an ImportError."""
    if "try" not in text and "suppress" not in text:
        return False
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Try | ast.TryStar):
            catches = any(_names(handler.type) for handler in node.handlers)
        elif isinstance(node, ast.With):
            catches = any("suppress" in ast.unparse(each.context_expr) for each in node.items)
        else:
            continue
        if catches and node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0):
            return True
    return False


def _names(handled: ast.expr | None) -> bool:
    """Whether a handler's expression names an error that an import raises; None: it takes all."""
    if handled is None:
        return True
    kinds = handled.elts if isinstance(handled, ast.Tuple) else [handled]
    return any(isinstance(kind, ast.Name) and kind.id in _CATCHES for kind in kinds)
