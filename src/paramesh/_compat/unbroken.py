"""Settings of JAX for a while, such that no exception from outside leaves them on.

The exit of JAX's own contexts is Python code. An exception that a signal handler raises in its
first instruction leaves the setting on for the rest of the thread's life: after one Ctrl-C at a bad
moment, programs would compute in 64 bits. CPython looks for signals when a function of Python's
begins and when a call has ended, not in between, so a context whose two ends are each one call in C
has no such moment.

    switched      a context for a setting
    eval_context  a context out of the trace of this thread: what is computed in it is computed now
    as_before     what puts all settings of this thread back, in one call in C
"""

from __future__ import annotations

import io
import operator
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from jax._src import config as _config
from jax._src import core as _core

#: `operator.call`, of which checkers believe that it passes no arguments on.
_call: Any = operator.call


class _Unbroken(io.IOBase):
    """A context that enters and leaves without an instruction of Python's.

    A file asks itself whether it is `closed` when it is entered, and closes itself when it is left,
    both in C. This one has calls in C in these places; it is no file.

    Args:
        begin: called first; has to do nothing from the second time on, and to give None.
        end: likewise.
    """

    closed = property(operator.methodcaller("_begin"))  # type: ignore[assignment]

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin = begin
        self.close = end


def switched(setting: Any, value: Any) -> Any:
    """A context in which a setting of JAX has another value, on this thread.

    To be entered once, and left on the thread on which it was entered.

    Args:
        setting: such as `jax.enable_x64`.
        value: for the time.
    """
    before: list[Any] = []
    # Iterators have one turn: a file closes itself once more when it is collected.
    there = map(setting.swap_local, (value,))
    back = map(setting.set_local, iter(before))
    return _Unbroken(partial(before.extend, there), partial(next, back, None))


_trace = (_core.trace_state_strong_ref, _core.trace_state)
_swap_trace = [one.swap_local for one in _trace]
_set_trace = [one.set_local for one in _trace]
_no_trace = (_core.eval_trace, _core.eval_trace._weakref)


def eval_context() -> Any:
    """As `jax.core.eval_context`: a context out of the trace of this thread."""
    before: list[Any] = []
    there = map(_call, _swap_trace, _no_trace)
    back = map(_call, _set_trace, iter(before))
    return _Unbroken(partial(before.extend, there), partial(deque[Any](maxlen=0).extend, back))


def _settings() -> list[Any]:
    """All settings that JAX's own code changes for a while.

    Those that tell something else of their change (a hook) are users' alone.
    """
    known = _config.config._value_holders.values()  # pyright: ignore
    found = [one for one in known if isinstance(one, _config.State)]
    plain = [one for one in found if one._update_thread_local_hook is None]  # pyright: ignore
    return [*plain, _core.trace_state_strong_ref, _core.trace_state, _core.axis_env_state]


_all = _settings()
_getters = [one.get_local for one in _all]
_setters = [one.set_local for one in _all]


def as_before() -> Callable[[], None]:
    """What puts this thread's settings, and its trace, back to what they are now.

    To be called first in an `except` or a `finally`, on the same thread.
    """
    values = list(map(_call, _getters))
    return partial(deque[Any](maxlen=0).extend, map(_call, _setters, values))
