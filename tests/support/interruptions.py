"""An exception wherever CPython may raise one: what signals and other threads do, done on purpose.

CPython runs signal handlers, and raises exceptions set from other threads, when it starts a
function, jumps backwards, and when a call has ended, and at no other instruction; a `with`
statement over a lock relies on it. A trace function can raise at each of these places.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
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
        self._last: dict[Any, str] = {}
        self.files = files
        self.seen = 0
        self.where: tuple[str, int] | None = None

    def call(self, action: Callable[[], Any]) -> Any:
        """`action()`, with the exception."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            return action()
        finally:
            sys.settrace(before)

    def _enter(self, frame: Any, event: str, argument: Any) -> Any:
        if not any(part in frame.f_code.co_filename for part in self.files):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: Any, event: str, argument: Any) -> Any:
        if event == "opcode":
            last = self._last.get(frame, "")
            here = self._last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            # Python 3.11 has calls in two instructions, and looks after the second.
            if last.startswith(_LOOKS) and (last, here) != ("PRECALL", "CALL"):
                self.seen += 1
                if self.seen - 1 == self.place:
                    self.where = (frame.f_code.co_filename, frame.f_lineno)
                    if self._handler is None:
                        raise Interrupted
                    self._handler()
        elif event == "return":
            self._last.pop(frame, None)
        return self._step


def places(action: Callable[[], Any], files: tuple[str, ...]) -> int:
    """How many such places a call has."""
    count = At(None, files)
    count.call(action)
    return count.seen
