"""Calls of a server's actor, answers and errors as the text and the arrays of a frame.

Only what a step sends is here: `step`, `push`, `pull`, `pull_tables`, `pull_items`, `settle`. What
a run says at its beginning and its end goes through Ray, whatever carries the steps.

Every field is checked for its type when it comes in; what it means is checked by who gets it, as
for a call that Ray has brought (`packing.unpack_updates`, `update_check.check_update`,
`Server.push`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np

from paramesh import errors
from paramesh.array_types import Json
from paramesh.ps.client.exchange import Call
from paramesh.ps.client.peer import Reply
from paramesh.ps.deployment.frames import BadFrame, Unfit
from paramesh.ps.durability.log import Fenced
from paramesh.ps.processes.shortage import Shortage
from paramesh.ps.server.refresh import News, Watch
from paramesh.ps.specification.packing import PackedIds, PackedRows, PackedUpdates
from paramesh.ps.specification.protocol import (
    Moving,
    NotServing,
    PushesMissing,
    Replaced,
    VersionGone,
)

Array = np.ndarray[Any, Any]

#: Integers of messages: steps, versions, numbers of workers and ids.
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


class Text(NamedTuple):
    """What a frame is made of: what JSON says, and the arrays that it refers to, in order."""

    said: Json
    arrays: list[Array]


class _Taking:
    """Reads the fields of a message; what is left over at the end is an error."""

    def __init__(self, said: Json, arrays: Sequence[Array], fields: int) -> None:
        if type(said) is not list or len(said) != fields:
            self.wrong(f"{fields} fields were expected, got {type(said).__name__}")
        self._fields: Iterator[Json] = iter(said)
        self._arrays = iter(arrays)

    def wrong(self, what: str) -> NoReturn:
        raise BadFrame(f"the message is not valid: {what}.")

    def end(self) -> None:
        if next(self._arrays, None) is not None:
            self.wrong("there are more arrays than it names")

    def any(self) -> Any:
        return next(self._fields)

    def whole(self) -> int:
        number = next(self._fields)
        if type(number) is not int or not _LEAST <= number <= _MOST:
            self.wrong("a field must be a whole number of 64 bits")
        return number

    def flag(self) -> bool:
        flag = next(self._fields)
        if type(flag) is not bool:
            self.wrong("a field must be true or false")
        return flag

    def text(self) -> str:
        text = next(self._fields)
        if type(text) is not str:
            self.wrong("a field must be a text")
        return text

    def names(self) -> list[str]:
        names = next(self._fields)
        if type(names) is not list or not all(type(name) is str for name in names):
            self.wrong("a field must be a list of names")
        return names

    def numbers(self) -> dict[str, float]:
        numbers = next(self._fields)
        if type(numbers) is not dict or not all(
            type(n) is float or (type(n) is int and _LEAST <= n <= _MOST) for n in numbers.values()
        ):
            self.wrong("a field must be numbers by name")
        return numbers

    def wholes(self) -> tuple[int, ...]:
        wholes = next(self._fields)
        if type(wholes) is not list or not all(type(n) is int for n in wholes):
            self.wrong("a field must be a list of whole numbers")
        return tuple(wholes)

    def pairs(self) -> tuple[tuple[int, int], ...]:
        pairs = next(self._fields)
        if type(pairs) is not list:
            self.wrong("a field must be a list of pairs")
        for pair in pairs:
            if type(pair) is not list or [type(n) for n in pair] != [int, int]:
                self.wrong("a field must be a list of pairs of whole numbers")
        return tuple((first, second) for first, second in pairs)

    def array(self) -> Array:
        array = next(self._arrays, None)
        if array is None:
            self.wrong("there are fewer arrays than it names")
        return array

    def ids(self) -> Array:
        array = self.array()
        if array.dtype != np.int64 or array.ndim != 1:
            self.wrong(f"ids must be a 1-D array of int64, got {array.dtype}{list(array.shape)}")
        return array

    def by_name(self) -> dict[str, Array]:
        names = self.names()
        found = {name: self.array() for name in names}
        if len(found) != len(names):
            self.wrong("it names an array twice")
        return found

    def packed_ids(self) -> PackedIds:
        return PackedIds(tuple(self.names()), self.ids(), self.ids())

    def packed_rows(self) -> PackedRows:
        groups, count = self.wholes(), self.whole()
        if not 0 <= count <= len(groups):
            self.wrong(f"{len(groups)} tables make {count} groups")
        return PackedRows(groups, tuple(self.array() for _ in range(count)))

    def packed_rows_or_none(self) -> PackedRows | None:
        groups = next(self._fields)
        if groups is None:
            self.whole()
            return None
        self._fields = itertools.chain([groups], self._fields)
        return self.packed_rows()

    def packed_updates(self) -> PackedUpdates:
        dense = self.by_name()
        return PackedUpdates(dense, self.packed_ids(), self.packed_rows())


def _packed_ids(ids: PackedIds) -> Text:
    return Text([list(ids.names)], [ids.counts, ids.ids])


def _packed_rows(rows: PackedRows) -> Text:
    return Text([list(rows.groups), len(rows.rows)], list(rows.rows))


def _by_name(arrays: Mapping[str, Array]) -> Text:
    return Text([list(arrays)], list(arrays.values()))


def _joined(*parts: Text | Any) -> Text:
    said: list[Any] = []
    arrays: list[Array] = []
    for part in parts:
        if isinstance(part, Text):
            said += part.said
            arrays += part.arrays
        else:
            said.append(part)
    return Text(said, arrays)


# Calls.


def _push(
    worker: int, life: int, step: int, packed: PackedUpdates, hyper: Json, of: int, divides: bool
) -> Text:
    update = (_by_name(packed.dense), _packed_ids(packed.ids), _packed_rows(packed.grads))
    return _joined(worker, life, step, *update, dict(hyper), of, divides)


_PUSH_FIELDS = 10


def _taken_push(taking: _Taking) -> tuple[Any, ...]:
    worker, life, step = taking.whole(), taking.whole(), taking.whole()
    update, hyper = taking.packed_updates(), taking.numbers()
    return worker, life, step, update, hyper, taking.whole(), taking.flag()


def _step(*asked: Any) -> Text:
    *push, names, reader, watches, last_seen = asked
    tables = None if watches is None else list(watches)
    arrays = [] if watches is None else [a for watch in watches.values() for a in watch]
    return _joined(_push(*push), list(names), reader, Text([tables], arrays), last_seen)


def _taken_step(taking: _Taking) -> tuple[Any, ...]:
    push = _taken_push(taking)
    names, reader = taking.names(), taking.whole()
    tables = taking.any()
    watches = None
    if tables is not None:
        if type(tables) is not list or not all(type(name) is str for name in tables):
            taking.wrong("a field must be a list of names, or nothing")
        watches = {name: Watch(taking.ids(), taking.ids()) for name in tables}
    return (*push, names, reader, watches, taking.whole())


def _pull(step: int, names: Sequence[str]) -> Text:
    return Text([step, list(names)], [])


def _pull_tables(step: int, wanted: PackedIds) -> Text:
    return _joined(step, _packed_ids(wanted))


def _plain(*arguments: object) -> Text:
    return Text(list(arguments), [])


class _Method(NamedTuple):
    """How the arguments of a method travel."""

    said: Callable[..., Text]
    fields: int
    taken: Callable[[_Taking], tuple[Any, ...]]


_METHODS: dict[str, _Method] = {
    "step": _Method(_step, _PUSH_FIELDS + 4, _taken_step),
    "push": _Method(_push, _PUSH_FIELDS, _taken_push),
    "pull": _Method(_pull, 2, lambda t: (t.whole(), t.names())),
    "pull_tables": _Method(_pull_tables, 2, lambda t: (t.whole(), t.packed_ids())),
    "pull_items": _Method(_plain, 3, lambda t: (t.text(), t.whole(), t.whole())),
    "settle": _Method(_plain, 2, lambda t: (t.whole(), t.whole())),
}

#: The methods that frames carry.
CARRIED = frozenset(_METHODS)


def call_text(call: Call) -> Text:
    """A call, for a frame.

    Raises:
        Unfit: it goes through Ray.
    """
    method, arguments = call
    known = _METHODS.get(method)
    if known is None:
        raise Unfit(method)
    said, arrays = known.said(*arguments)
    return Text([method, *said], arrays)


def taken_call(said: Json, arrays: Sequence[Array]) -> Call:
    """The call of a frame, with the arguments that the actor's method takes.

    Raises:
        BadFrame: it is none.
    """
    if type(said) is not list or not said or type(said[0]) is not str or said[0] not in CARRIED:
        raise BadFrame("the message is not valid: it is no call.")
    method = _METHODS[said[0]]
    taking = _Taking(said[1:], arrays, method.fields)
    arguments = method.taken(taking)
    taking.end()
    return said[0], arguments


# Answers.


def answer_text(reply: Reply) -> Text:
    """An answer, for a frame."""
    tables: list[list[Any]] = []
    arrays: list[Array] = []
    for name, news in reply.news.items():
        tables.append([name, news.moved is not None])
        arrays += [a for a in news if a is not None]
    rows = Text([None, 0], []) if reply.rows is None else _packed_rows(reply.rows)
    values = _by_name(reply.values)
    return _joined(
        reply.pid,
        reply.incarnation,
        reply.version,
        values,
        Text([tables], arrays),
        rows,
        [list(entry) for entry in reply.sets],
    )


def taken_answer(said: Json, arrays: Sequence[Array]) -> Reply:
    """The answer of a frame.

    Raises:
        BadFrame: it is none.
    """
    taking = _Taking(said, arrays, 8)
    pid, incarnation, version = taking.whole(), taking.whole(), taking.whole()
    values = taking.by_name()
    news = dict(_taken_news(taking))
    rows = taking.packed_rows_or_none()
    sets = taking.pairs()
    taking.end()
    return Reply(pid, incarnation, version, values, news, rows, sets)


def _taken_news(taking: _Taking) -> Iterator[tuple[str, News]]:
    tables = taking.any()
    if type(tables) is not list:
        taking.wrong("the news of tables must be a list")
    for table in tables:
        if type(table) is not list or len(table) != 2 or type(table[0]) is not str:
            taking.wrong("the news of a table must have its name")
        moved = taking.ids() if table[1] else None
        yield table[0], News(moved, taking.ids(), taking.array())


# Errors.

#: The most characters of what an error says.
_LONGEST = 100_000
#: Those that name the incarnation, or the generation, that serves instead.
_WITH_LATEST: dict[str, type[NotServing] | type[Fenced] | type[Moving]] = {
    "NotServing": NotServing,
    "Fenced": Fenced,
    "Moving": Moving,
}
_KNOWN: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        *(PushesMissing, Replaced, VersionGone, Shortage, BadFrame),
        *(kind for kind in vars(errors).values() if isinstance(kind, type)),
        *(ValueError, TypeError, KeyError, IndexError, RuntimeError, MemoryError),
    )
    if issubclass(kind, Exception)
}


def error_text(error: BaseException) -> Text:
    """An error, for a frame: its class, if it is one of ours or Python's own, and what it says."""
    kind, latest = type(error).__name__, getattr(error, "latest", 0)
    if isinstance(error, OSError) and error.errno is not None:
        file = "" if error.filename is None else str(error.filename)
        return Text(["OSError", error.errno, (error.strerror or "")[:_LONGEST], file], [])
    kind = "OSError" if isinstance(error, OSError) else kind
    return Text([kind, latest if kind in _WITH_LATEST else 0, str(error)[:_LONGEST], ""], [])


def taken_error(said: Json, arrays: Sequence[Array]) -> Exception:
    """The error of a frame.

    Raises:
        BadFrame: it is none.
    """
    taking = _Taking(said, arrays, 4)
    kind, number, message, file = taking.text(), taking.any(), taking.text(), taking.text()
    taking.end()
    whole = number if type(number) is int and _LEAST <= number <= _MOST else 0
    if kind in _WITH_LATEST:
        return _WITH_LATEST[kind](message, whole)
    if kind == "OSError":
        return OSError(whole, message, *([file] if file else [])) if whole else OSError(message)
    found = _KNOWN.get(kind)
    if found is None:
        return RuntimeError(f"{kind}: {message}")
    return found(message)
