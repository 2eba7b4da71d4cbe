"""An exception wherever CPython may raise one: what signals and other threads do, done on purpose.

CPython runs signal handlers, and raises exceptions set from other threads, when it starts a
function, jumps backwards, and when a call has ended, and at no other instruction; a `with`
statement over a lock relies on it. Something that is called before each instruction can raise at
each of these places:

    Python 3.11   a trace function, with `f_trace_opcodes`
    from 3.12 on  a callback of `sys.monitoring`. Trace functions are built upon that there: a
                  frame that asks for opcodes gets none before the next `sys.settrace`, so the
                  first call of every function would be passed over.
"""

from __future__ import annotations

import dis
import functools
import operator
import sys
import threading
from collections.abc import Callable
from types import CodeType
from typing import Any


class Interrupted(BaseException):
    """Stands for KeyboardInterrupt, and for whatever else comes from outside."""


#: After these CPython looks whether there is something to raise.
_LOOKS = ("CALL", "PRECALL", "RESUME", "JUMP_BACKWARD", "YIELD", "SEND")


class At:
    """Raises at one such place of a call, counted from its beginning.

    Args:
        place: the first is 0; None only counts.
        files: parts of the paths of the files whose places count.
        handler: called there instead, as a signal handler is.

    Attributes:
        seen: how many places there were.
        where: (file, line) of the one at which it raised, None if the call ended before it.
    """

    def __init__(
        self, place: int | None, files: tuple[str, ...], handler: Callable[[], Any] | None = None
    ) -> None:
        self.place = place
        self._handler = handler
        self.files = files
        self.seen = 0
        self.where: tuple[str, int] | None = None

    def call(self, action: Callable[[], Any]) -> Any:
        """`action()`, with the exception."""
        return _watched(action, self)

    def looks(self, file: str, line: int) -> None:
        """CPython is at one of the places."""
        self.seen += 1
        if self.seen - 1 == self.place:
            self.where = (file, line)
            if self._handler is None:
                raise Interrupted
            self._handler()


def _looked(last: str, here: str) -> bool:
    """Whether CPython looks between two instructions."""
    # Python 3.11 has calls in two instructions, and looks after the second.
    return last.startswith(_LOOKS) and (last, here) != ("PRECALL", "CALL")


def _traced(action: Callable[[], Any], at: At) -> Any:
    lasts: dict[Any, str] = {}

    def enter(frame: Any, event: str, argument: Any) -> Any:
        if not any(part in frame.f_code.co_filename for part in at.files):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        lasts[frame] = "RESUME"  # this very instruction, for which there is no other event
        return step

    def step(frame: Any, event: str, argument: Any) -> Any:
        if event == "opcode":
            last = lasts.get(frame, "")
            here = lasts[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if _looked(last, here):
                at.looks(frame.f_code.co_filename, frame.f_lineno)
        elif event == "return":
            lasts.pop(frame, None)
        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        return action()
    finally:
        sys.settrace(before)


class _Monitored:
    """What `sys.monitoring` calls.

    The events are asked for anew in each call, of all code. Asked for once, for each code object,
    some are lost when a thread sets a profile function and takes it away (3.12 and 3.13).
    """

    def __init__(self) -> None:
        # pyright takes this for Python 3.11, which has none of it.
        self._monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
        self._tool = self._monitoring.DEBUGGER_ID
        self._names: dict[int, tuple[CodeType, list[str]]] = {}
        self._at: At | None = None
        self._thread = 0
        self._lasts: dict[int, str] = {}

    def call(self, action: Callable[[], Any], at: At) -> Any:
        monitoring, tool, events = self._monitoring, self._tool, self._monitoring.events
        callbacks = {
            events.PY_START: self._started,
            events.INSTRUCTION: self._about_to,
            events.PY_RETURN: self._returned,
        }
        monitoring.use_tool_id(tool, "interruptions")
        for event, callback in callbacks.items():
            monitoring.register_callback(tool, event, callback)
        self._at, self._thread, self._lasts = at, threading.get_ident(), {}
        monitoring.restart_events()
        monitoring.set_events(tool, functools.reduce(operator.or_, callbacks))
        try:
            return action()
        finally:
            self._at = None
            monitoring.set_events(tool, 0)
            for event in callbacks:
                monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)

    def _concerns(self, code: CodeType) -> At | None:
        at = self._at
        return at if at and any(part in code.co_filename for part in at.files) else None

    def _started(self, code: CodeType, offset: int) -> Any:
        if self._concerns(code) is None:
            return self._monitoring.DISABLE
        if threading.get_ident() == self._thread:
            # This very instruction is one of those after which CPython looks.
            self._lasts[id(sys._getframe(1))] = "RESUME"
        return None

    def _about_to(self, code: CodeType, offset: int) -> Any:
        at = self._concerns(code)
        if at is None:
            return self._monitoring.DISABLE
        if threading.get_ident() != self._thread:
            return None
        frame = sys._getframe(1)
        known = self._names.get(id(code))
        if known is None:
            known = self._names[id(code)] = (code, [dis.opname[op] for op in code.co_code[::2]])
        last, here = self._lasts.get(id(frame), ""), known[1][offset // 2]
        self._lasts[id(frame)] = here
        if _looked(last, here):
            at.looks(code.co_filename, frame.f_lineno)
        return None

    def _returned(self, code: CodeType, offset: int, value: Any) -> Any:
        if self._concerns(code) is None:
            return self._monitoring.DISABLE
        if threading.get_ident() == self._thread:
            self._lasts.pop(id(sys._getframe(1)), None)
        return None


_monitored = _Monitored() if sys.version_info >= (3, 12) else None
_watched: Callable[[Callable[[], Any], At], Any] = (
    _traced if _monitored is None else _monitored.call
)


def places(action: Callable[[], Any], files: tuple[str, ...]) -> int:
    """How many such places a call has."""
    count = At(None, files)
    count.call(action)
    return count.seen
