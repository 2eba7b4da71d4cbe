"""Tracing until two traces agree, and an error where they never do.

A function is traced again when its trace met something new: a Parameter that was not an input,
64-bit data, or an attribute that it changes itself. What was new is recorded each time, for the
error message.
"""

from __future__ import annotations

from collections.abc import Iterable

from paramesh.errors import TraceError
from paramesh.state.frames import AnyState
from paramesh.state.trace_scope import Attribute, TraceScope

#: A function that meets something new in this many traces does so in all of them.
MOST = 12
#: How many names a message lists.
_SHOWN = 5


class Retracing:
    """The traces of one program so far.

    Args:
        name: of the function.

    Attributes:
        stable: whether the last trace met nothing new and changed no attribute.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stable = False
        self._changes: list[str] = []
        self._last: set[tuple[int, str]] = set()
        self._first: dict[tuple[int, str], Attribute] = {}
        self._scopes: list[TraceScope] = []

    def restore(self) -> None:
        """Restore what attributes, and containers in them, held before the first trace."""
        for scope in reversed(self._scopes):
            scope.restore_containers()
        for attribute in self._first.values():
            attribute.restore()

    def trace(
        self, scope: TraceScope, missing: Iterable[AnyState], use_64bit: bool, done: bool
    ) -> None:
        """Record a trace that has ended.

        Args:
            scope: what it changed outside.
            missing: Parameters and pools that it met for the first time.
            use_64bit: whether it met 64-bit data for the first time.
            done: whether it resulted in a program.

        Raises:
            TraceError: an attribute has another value after each trace, or there were too many
                traces.
        """
        self._scopes.append(scope)
        changed = scope.changed_attributes()
        for attribute in changed:
            self._first.setdefault(attribute.key, attribute)
            if attribute.key in self._last:
                raise TraceError(
                    f"'{self.name}' changes the attribute {attribute.path} each time (from "
                    f"{_short(attribute.before)} to {_short(attribute.now)}), but a "
                    "compiled function runs in python only while it is traced: the attribute "
                    "would not change afterwards. Make it a Parameter (requires_grad=False) and "
                    "assign to that, change it outside, or run without compiling: "
                    "paramesh.set_context(mode=paramesh.PYNATIVE_MODE)." + attribute.where
                )
        self._last = {attribute.key for attribute in changed}
        self.stable = done and not changed
        if self.stable:
            return
        what = [f"attribute {a.path}" for a in changed]
        what += [f"'{state.name}'" for state in missing]
        what += ["64-bit data"] if use_64bit else []
        more = f" and {len(what) - _SHOWN} more" if len(what) > _SHOWN else ""
        self._changes.append((", ".join(what[:_SHOWN]) or "a pool of Parameters") + more)
        if len(self._changes) == MOST:
            listed = "".join(f"\n  trace {i + 1}: {text}" for i, text in enumerate(self._changes))
            raise TraceError(
                f"'{self.name}' was traced {MOST} times, and each trace used something that the "
                "ones before it did not, so tracing does not converge. New were:"
                f"{listed}\nA function that is compiled must use the same Parameters and "
                "attributes whenever it runs with the same arguments."
            )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
