"""How arrays are handed to a compiled program, and the new ones taken in, so that nothing is lost.

JAX deletes the arrays that a program is given to reuse (donated). From its start until the new
arrays are in their places the states hold nothing that can be read. Nothing may come in between:
no signal handler, no exception that another thread sets, no other thread.

    in one instruction   The program's call and the writing of all new contents are one call in C
                         (`storage.hand_in`). CPython runs signal handlers, and raises exceptions
                         set from outside, between instructions of Python code alone. That holds
                         whatever the device is. A step pays for locks that are mostly free.
    or on a thread       JAX runs Python code of its own when a program is called for the first
    of its own           time, or with arguments of another kind, or under other settings. Such a
                         call is made on a thread of paramesh's, which no signal reaches; the caller
                         waits for it. Which calls run no Python code is not assumed: it is looked
                         at (`_Watch`).
    or with copies       Where JAX looks for NaNs in what a program gave, it raises after the
                         arrays were deleted: copies are handed over.
    or not at all        A program that calls back into Python may fail while it runs, and only
                         the new arrays tell. It takes nothing over; when it has ended well its
                         results become the contents.

What no care of the caller's can mend: a device that fails after it has taken the arrays over, for
want of memory, say. The first run therefore asks the host for the memory that the program will
need before anything is given away (`_rehearse`), and `jit(donate=False)` gives nothing away at all.
"""

from __future__ import annotations

import copy
import itertools
import os
import sys
from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

import jax
import numpy as np

from paramesh._compat.jax import check_not_forked, looks_for_nans, native_call, settings_of_calls
from paramesh._compat.unbroken import as_before
from paramesh.dtype import is_64bit, x64_enabled, x64_set
from paramesh.errors import ParameterStateError
from paramesh.parameter import Dissolved, Pool
from paramesh.state import storage, tracing
from paramesh.state.placement import Placement
from paramesh.state.storage import UNREADY, Domain
from paramesh.transforms.relocation import relocate
from paramesh.transforms.uninterrupted import on_thread_of_its_own

_contents = attrgetter("_contents")

T = TypeVar("T")


class Superseded(Exception):
    """The network changed between the choice of a program and its run."""


class _Unsafe(Exception):
    """This call may run Python code of JAX's: it belongs on a thread of its own."""


class Handoff:
    """The hand-off of one compiled program.

    Args:
        program: of `jax.jit`: (donated, kept, inputs) -> [new contents of `written`, outputs].
        donated: states whose arrays the program takes over.
        kept: states that it reads.
        written: states that it gives new contents.
        waits: whether its results are to be waited for before they become contents: it calls back
            into Python.
        guided: whether the caller sees to it that programs of the network take turns.
    """

    def __init__(
        self,
        program: Any,
        donated: list[Any],
        kept: list[Any],
        written: list[Any],
        waits: bool,
        guided: bool,
    ) -> None:
        self.program = program
        self.donated, self.kept, self.written = donated, kept, written
        self._waits = waits
        self._takes_turns = bool(written) and not guided
        read = {*donated, *kept}
        self._pools = [s for s in written if isinstance(s, Pool)]
        #: Pools that are written and not read: the write ends what their members hold themselves.
        self._refilled = [pool for pool in self._pools if pool not in read]
        self._versions: list[_Version] = []
        self._domains = (Domain(), Domain())
        self._called_before = False

    def compiled_as(self, stage: Any) -> Handoff:
        """The same for a `jax.stages.Compiled` of the program."""
        twin = copy.copy(self)
        twin.program, twin._versions = stage, [_Version(stage, [])]
        return twin

    def start(self) -> None:
        """Make one domain of the states; called before the first run."""
        self._domains = storage.unite([*self.donated, *self.kept, *self.written])
        if self._waits:
            storage.turns(self._domains[1])

    def run(self, place: Placement, leaves: list[Any], current: Callable[[], bool]) -> list[Any]:
        """The outputs for these inputs; the written states have their new contents.

        Args:
            place: where everything lives.
            leaves: the inputs.
            current: whether the program is still right for the network.

        Raises:
            Superseded: nothing was run.
            RuntimeError: this process was forked from one that had computed.
            Exception: what JAX raises; the states have the contents of before.
        """
        check_not_forked()
        turns = self._domains[1].turns if self._takes_turns else None
        with tracing.nothing if turns is None else turns[0]:
            if self._waits:
                return self._waited(place, leaves, current)
            if not self.donated:
                if not self.written and not self._called_before:
                    # It is compiled now, which takes long: training need not wait for it.
                    arrays = self._fetched(place)
                    outputs = _restoring(lambda: self.program(*arrays, leaves))
                    self._called_before = True
                    return outputs
                return self._inside(place, leaves, current, None, self.program)
            if looks_for_nans():
                version = self._version(place, leaves)
                return self._inside(place, leaves, current, None, version.compiled, copies=True)
            return self._donating(place, leaves, current)

    def _donating(
        self, place: Placement, leaves: list[Any], current: Callable[[], bool]
    ) -> list[Any]:
        key = (settings_of_calls(), list(map(_kind, leaves)))
        for version in self._versions:
            if key in version.safe_calls:
                try:
                    return self._inside(place, leaves, current, version, version.call)
                except _Unsafe:
                    break
        version = self._version(place, leaves)
        wide = x64_enabled()
        if any(domain.is_held_here() for domain in self._domains):
            raise self._interrupted()  # the other thread would wait for this one

        def errand() -> list[Any]:
            with tracing.nothing if wide == x64_enabled() else x64_set(wide):
                watch = _Watch(version, leaves)
                return self._inside(place, leaves, current, None, version.call, watch=watch)

        return on_thread_of_its_own(errand)

    def _inside(
        self,
        place: Placement,
        leaves: list[Any],
        current: Callable[[], bool],
        version: _Version | None,
        call: Callable[..., Any],
        copies: bool = False,
        watch: _Watch | None = None,
    ) -> list[Any]:
        """Run with the locks.

        Args:
            place: where everything lives.
            leaves: the inputs.
            current: see `run`.
            version: of which the call has to be known to run no Python code; None: it may.
            call: the program.
            copies: hand over copies.
            watch: looks at what the call does.
        """
        while True:
            apart, own = self._domains
            if own.wanted:
                own.give_way()
            own.wanted = True
            with apart.lock, own.lock:
                own.wanted = False
                if apart.parent is None and own.parent is None:
                    self._check(apart, own, current)
                    with apart.busy, own.busy:
                        arrays = self._at_hand(place)
                        if arrays is not None:
                            donated, kept = arrays
                            if copies:
                                donated[:] = map(_copy, donated)
                            else:
                                _own(self.donated, donated, bool(apart.escaped or own.escaped))
                            self._trust(apart, own, version, donated, kept)
                            own.lent = self.donated
                            with watch.over((*donated, *kept)) if watch else tracing.nothing:
                                outputs = self._called(call, donated, kept, leaves)
                            own.by = apart.by = self
                            return outputs
            self._make_ready(place)

    def _at_hand(self, place: Placement) -> tuple[list[Any], list[Any]] | None:
        """The arrays of the states, where programs want them; None if some are not there yet."""
        donated = list(map(_contents, self.donated))
        kept = list(map(_contents, self.kept))
        if not UNREADY.isdisjoint(map(type, itertools.chain(donated, kept))):
            return None
        if not (place.settled(self.donated, donated) and place.settled(self.kept, kept)):
            return None
        return donated, kept

    def _trust(
        self,
        apart: Domain,
        own: Domain,
        version: _Version | None,
        donated: list[Any],
        kept: list[Any],
    ) -> None:
        if own.by is self and apart.by is self:
            return  # nothing has changed since arrays of this kind were handed over
        if version is not None and list(map(_kind, (*donated, *kept))) not in version.safe_states:
            raise _Unsafe
        own.by = apart.by = None

    def _check(self, apart: Domain, own: Domain, current: Callable[[], bool]) -> None:
        if not current():
            raise Superseded
        if own.busy.locked() or apart.busy.locked():  # by this very thread: it has the lock
            raise self._interrupted()

    def _interrupted(self) -> ParameterStateError:
        state = (*self.written, *self.kept)[0]
        return ParameterStateError(
            f"a program that uses '{state.name}' was called by a signal handler that interrupted "
            "another program of the same network. Have the handler set a flag, and do it after "
            "the step."
        )

    def _called(
        self, call: Callable[..., Any], donated: list[Any], kept: list[Any], leaves: list[Any]
    ) -> list[Any]:
        results = itertools.chain.from_iterable(map(call, (donated,), (kept,), (leaves,)))
        if self._refilled:
            self._refill(results)
        else:
            storage.hand_in(self.written, results)
        for pool in self._pools:
            pool.forget()
        return list(results)

    def _refill(self, results: Any) -> None:
        strays = [param for pool in self._refilled for _, param in pool.strays()]
        new = itertools.islice(results, len(self.written))
        storage.hand_in(
            [*self.written, *strays], itertools.chain(new, itertools.repeat(None, len(strays)))
        )

    def _waited(
        self, place: Placement, leaves: list[Any], current: Callable[[], bool]
    ) -> list[Any]:
        """Run without the locks, and take the results in when they are there."""
        donated, kept = self._fetched(place)
        results = _restoring(lambda: self.program(donated, kept, leaves))
        jax.block_until_ready(results)
        n = len(self.written)

        def replay(*_: Any) -> list[Any]:
            return results

        if n:
            self._inside(place, leaves, current, None, replay)
        return results[n:]

    def _fetched(self, place: Placement) -> tuple[list[Any], list[Any]]:
        """The arrays of the states, settled."""
        while True:
            self._make_ready(place)
            apart, own = self._domains
            with apart.lock, own.lock:
                current = apart.parent is None and own.parent is None
                arrays = self._at_hand(place) if current else None
                if arrays is not None:
                    return arrays

    def _make_ready(self, place: Placement) -> None:
        try:
            for state in itertools.chain(self.donated, self.kept):
                if type(state._contents) in UNREADY:
                    state._concrete()
        except Dissolved:
            raise Superseded from None
        self._domains = storage.unite([*self.donated, *self.kept, *self.written])
        for states in (self.donated, self.kept):
            relocate(place, states)

    def _version(self, place: Placement, leaves: list[Any]) -> _Version:
        """The executable for arguments that lie like these, compiled if there is none."""
        donated, kept = self._fetched(place)
        arguments = [*donated, *kept, *leaves]
        for version in self._versions:
            if version.fits(arguments):
                return version
        compiled = _restoring(lambda: self.program.lower(donated, kept, leaves).compile())
        version = _Version(compiled, arguments)
        _rehearse(version.compiled, getattr(self.program, "__name__", "program"))
        self._versions.append(version)
        return version


class _Version:
    """One executable of a program, and what is known of its calls.

    Attributes:
        call: how it is called; from the second call on the native call, if there is one.
        safe_calls: (settings, kinds of inputs) under which it was seen to run no Python code.
        safe_states: kinds of the states' arrays, likewise.
    """

    def __init__(self, compiled: Any, arguments: list[Any]) -> None:
        self.compiled = compiled
        self.call: Callable[..., Any] = compiled
        self.safe_calls: list[Any] = []
        self.safe_states: list[Any] = []
        self._made_for = [getattr(value, "sharding", None) for value in arguments]

    def fits(self, arguments: list[Any]) -> bool:
        """Whether it can be called with arguments that lie like these."""
        if not self._made_for:
            return True  # somebody compiled it for others: JAX looks at them
        for value, made_for in zip(arguments, self._made_for, strict=True):
            here = getattr(value, "sharding", None)
            if here is made_for or here is None or made_for is None:
                continue
            if not here.is_equivalent_to(made_for, value.ndim):
                return False
        return True


class _Watch:
    """Sees whether a call runs Python code, on the thread that it is used on."""

    def __init__(self, version: _Version, leaves: list[Any]) -> None:
        self._version = version
        self._key = (settings_of_calls(), list(map(_kind, leaves)))
        self._states: list[Any] = []
        self._frames = 0
        self._before: Any = None

    def over(self, states: tuple[Any, ...]) -> _Watch:
        """To be entered around the call."""
        self._states = list(map(_kind, states))
        return self

    def __enter__(self) -> None:
        self._frames, self._before = 0, sys.getprofile()
        sys.setprofile(self._seen)

    def __exit__(self, *error: Any) -> None:
        sys.setprofile(self._before)
        version = self._version
        native = native_call(version.compiled)
        if not self._frames and version.call is native and error[0] is None:
            if self._key not in version.safe_calls:
                version.safe_calls.append(self._key)
            if self._states not in version.safe_states:
                version.safe_states.append(self._states)
        elif native is not None:
            version.call = native

    def _seen(self, frame: Any, event: str, argument: Any) -> None:
        if event == "call" and not frame.f_code.co_filename.startswith(_OURS):
            self._frames += 1


#: Where the frames around the call come from: the whole package.
_OURS = os.path.dirname(str(sys.modules[__name__.partition(".")[0]].__file__)) + os.sep


def _restoring(call: Callable[[], T]) -> T:
    """`call()`, in which JAX changes settings for a while; an exception leaves none of them."""
    back = as_before()
    try:
        return call()
    except BaseException:
        back()  # one from outside can keep JAX from doing so
        raise


def _kind(value: Any) -> Any:
    """All that JAX looks at in an argument of given shape and element type."""
    if isinstance(value, jax.Array):
        return value.sharding, value.committed, value.weak_type
    return type(value)


def _rehearse(compiled: Any, name: str) -> None:
    """Ask for the memory of a run, and give it back.

    Raises:
        MemoryError: there is not so much.
    """
    if jax.default_backend() != "cpu":
        return  # there memory is allocated before the arrays are taken over
    needed = compiled.memory_analysis()
    if needed is None:
        return
    size = needed.temp_size_in_bytes + needed.output_size_in_bytes - needed.alias_size_in_bytes
    try:
        np.empty(max(size, 0), np.uint8)
    except MemoryError:
        raise MemoryError(
            f"'{name}' needs {size / 2**30:.1f} GiB besides its inputs, which this host does not "
            "give. No Parameter was changed. Use smaller batches, recompute(), or more devices."
        ) from None


class _Slot:
    __slots__ = ("_contents",)


def _references(values: list[Any]) -> list[int]:
    return list(map(sys.getrefcount, values))


def _alone() -> int:
    """The reference count that `_references` sees of an array that only its state holds."""
    slot = _Slot()
    slot._contents = object()
    return _references(list(map(_contents, [slot])))[0]


_ALONE = _alone()


def _own(states: list[Any], values: list[Any], escaped: bool) -> None:
    """Replace in `values` every array that somebody else may hold by a copy."""
    for i, count in enumerate(_references(values)):
        if count > _ALONE or (escaped and storage.has_escaped(states[i])):
            values[i] = _copy(values[i])
            storage.returned(states[i])


def _copy(value: Any) -> Any:
    with x64_set(True) if is_64bit(value) else tracing.nothing:
        return value.copy()
