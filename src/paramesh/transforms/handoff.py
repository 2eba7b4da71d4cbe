"""The hand-off: donating arrays to a compiled program, and storing the new ones, without any loss.

JAX deletes the arrays that are donated to a program. From its start until the new arrays are stored
the states hold nothing that can be read. Nothing may come in between: no signal handler, no
exception that another thread sets, no other thread.

    in one instruction   The program's call and the writing of all new contents are one call in C
                         (`storage.hand_in`). CPython runs signal handlers, and raises exceptions
                         set from outside, between instructions of Python code alone. That holds
                         on every device. A step only pays for locks that are mostly free.
    or on another        JAX runs Python code of its own when a program is called for the first
    thread               time, or with arguments of another kind, or under other settings. Such a
                         call is made on a thread of paramesh, which no signal reaches; the caller
                         waits for it. Which calls run no Python code is not assumed but measured
                         (`CallWatch`).
    or with copies       Where JAX checks the results for NaNs, it raises after the arrays were
                         deleted: copies are donated.
    or not at all        A program that calls back into Python may fail while it runs, and only
                         the new arrays tell. Nothing is donated to it; its results become the
                         contents when it has succeeded.

What no care of the caller's can mend: a device that fails after it has taken the arrays over, for
want of memory, say. The first run therefore asks the host for the memory that the program will
need before anything is given away (`reserve_memory`), and `jit(donate=False)` gives nothing away at
all.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any, TypeVar, cast

import jax

from paramesh._compat.jax import (
    check_not_forked,
    looks_for_nans,
    outside_of_transforms,
    settings_of_calls,
)
from paramesh._compat.unbroken import as_before
from paramesh.array_types import Array, ArrayLike
from paramesh.dtype import x64_enabled, x64_set
from paramesh.errors import ParameterStateError, TraceError
from paramesh.parameter import Dissolved, Parameter, Pool
from paramesh.state import storage
from paramesh.state.frames import UNSEEN_TRANSFORM
from paramesh.state.placement import Placement
from paramesh.state.storage import UNREADY, Domain
from paramesh.transforms.compiled_versions import (
    CallWatch,
    CompiledVersion,
    call_kind,
    reserve_memory,
)
from paramesh.transforms.escaped_buffers import contents_of, copied, copy_shared
from paramesh.transforms.relocation import relocate
from paramesh.transforms.several_programs import SeveralPrograms
from paramesh.transforms.uninterrupted import run_on_own_thread

State = Parameter | Pool

#: In all of JAX's messages about an array that a donation, or `delete()`, took away.
_DELETED = "deleted"


T = TypeVar("T")


class Superseded(Exception):
    """The network changed between the choice of a program and its run."""


class _Unsafe(Exception):
    """This call may run Python code of JAX, so it has to be made on another thread."""


class Handoff:
    """The hand-off of one compiled program.

    Args:
        program: of `jax.jit`: (donated, kept, inputs) -> [new contents of `written`, outputs].
        donated: states whose arrays are donated.
        kept: states that it only reads.
        written: states that it gives new contents.
        waits: whether to wait for its results before they become contents, because it calls back
            into Python.
        in_turns: whether the caller already makes programs of the network take turns.
    """

    def __init__(
        self,
        program: Callable[..., list[Array]],
        donated: list[State],
        kept: list[State],
        written: list[State],
        waits: bool,
        in_turns: bool,
    ) -> None:
        self.program = program
        self.donated, self.kept, self.written = donated, kept, written
        self._waits = waits
        self._takes_turns = bool(written) and not in_turns
        read = {*donated, *kept}
        self._pools = [s for s in written if isinstance(s, Pool)]
        #: Pools that are written and not read: the write replaces what their entries hold
        #: themselves.
        self._refilled = [pool for pool in self._pools if pool not in read]
        self._versions: list[CompiledVersion] = []
        self._domains = (Domain(), Domain())
        self._called_before = False

    def compiled_as(self, stage: jax.stages.Compiled) -> Handoff:
        """The same for a `jax.stages.Compiled` of the program."""
        twin = copy.copy(self)
        twin.program, twin._versions = stage, [CompiledVersion(stage, [])]
        return twin

    def start(self) -> None:
        """Make one domain of the states; called before the first run."""
        self._domains = storage.unite([*self.donated, *self.kept, *self.written])
        if self._waits:
            storage.turns(self._domains[1])

    def run(
        self, place: Placement, leaves: list[ArrayLike], current: Callable[[], bool]
    ) -> list[Array]:
        """The outputs for these inputs; the written states have their new contents.

        Args:
            place: the current placement.
            leaves: the inputs.
            current: whether the program is still valid for the network.

        Raises:
            Superseded: nothing was run.
            RuntimeError: this process was forked from one that had computed.
            ParameterStateError: somebody has deleted the array of a state.
            TraceError: it writes, and the function of a transform of JAX called it, with inputs
                that the transform knows nothing of: it would run once, while that is traced.
            Exception: what JAX raises; the states keep their contents.
        """
        check_not_forked()
        if self.written and not outside_of_transforms():
            raise TraceError(UNSEEN_TRANSFORM.format(name=_name_of(self.written[0])))
        turns = self._domains[1].turns if self._takes_turns else None
        try:
            if turns is None:
                return self._in_turn(place, leaves, current)
            with turns[0]:
                return self._in_turn(place, leaves, current)
        except (RuntimeError, ValueError) as error:
            if _DELETED in str(error):
                self._name_deleted()
            raise

    def _name_deleted(self) -> None:
        """Raise the error that names the Parameters whose arrays are gone, if there are any."""
        states = [s for s in (*self.donated, *self.kept) if isinstance(s._contents, jax.Array)]
        storage.check_held(states, *(s._contents for s in states))

    def _in_turn(
        self, place: Placement, leaves: list[ArrayLike], current: Callable[[], bool]
    ) -> list[Array]:
        if self._waits:
            return self._waited(place, leaves, current)
        if not self.donated:
            if not self.written and not self._called_before:
                # It is compiled now, which takes long: training does not wait for it.
                arrays = self._fetched(place)
                outputs = _restoring(lambda: self.program(*arrays, leaves))
                self._called_before = True
                return outputs
            return self._inside(place, leaves, current, None, self.program)
        if isinstance(self.program, SeveralPrograms):
            return self._several(place, leaves, current)
        if looks_for_nans():
            version = self._version(place, leaves)
            return self._inside(place, leaves, current, None, version.compiled, copies=True)
        return self._donating(place, leaves, current)

    def _several(
        self, place: Placement, leaves: list[ArrayLike], current: Callable[[], bool]
    ) -> list[Array]:
        """Several programs, of which the last use up what is donated: on another thread."""
        copies = looks_for_nans()
        return run_on_own_thread(
            lambda: self._inside(place, leaves, current, None, self.program, copies=copies)
        )

    def _donating(
        self, place: Placement, leaves: list[ArrayLike], current: Callable[[], bool]
    ) -> list[Array]:
        key = (settings_of_calls(), list(map(call_kind, leaves)))
        for version in self._versions:
            if key in version.safe_calls:
                with suppress(_Unsafe):
                    return self._inside(place, leaves, current, version, version.call)
        version = self._version(place, leaves)
        use_64bit = x64_enabled()
        if any(domain.is_held_here() for domain in self._domains):
            raise self._interrupted()  # the other thread would wait for this one

        def task() -> list[Array]:
            same = use_64bit == x64_enabled()
            with nullcontext() if same else x64_set(use_64bit):
                watch = CallWatch(version, leaves)
                return self._inside(place, leaves, current, None, version.call, watch=watch)

        return run_on_own_thread(task)

    def _inside(
        self,
        place: Placement,
        leaves: list[ArrayLike],
        current: Callable[[], bool],
        version: CompiledVersion | None,
        call: Callable[..., Any],
        copies: bool = False,
        watch: CallWatch | None = None,
    ) -> list[Array]:
        """Run with the locks.

        Args:
            place: the current placement.
            leaves: the inputs.
            current: see `run`.
            version: its call has to be known to run no Python code; None: it may.
            call: the program.
            copies: donate copies.
            watch: measures whether the call runs Python code.
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
                                donated[:] = map(copied, donated)
                            else:
                                copy_shared(
                                    self.donated, donated, bool(apart.escaped or own.escaped)
                                )
                            self._trust(apart, own, version, donated, kept)
                            own.lent = self.donated
                            if watch is None:
                                outputs = self._called(call, donated, kept, leaves)
                            else:
                                with watch.over((*donated, *kept)):
                                    outputs = self._called(call, donated, kept, leaves)
                            if watch is not None:
                                watch.look_at(map(contents_of, self.donated))
                            own.written_by = apart.written_by = _wrote(version, watch)
                            return outputs
            self._make_ready(place)

    def _at_hand(self, place: Placement) -> tuple[list[Array], list[Array]] | None:
        """The arrays of the states in the shardings of programs; None if a state has no
        array yet.
        """
        donated = list(map(contents_of, self.donated))
        kept = list(map(contents_of, self.kept))
        if not UNREADY.isdisjoint(map(type, itertools.chain(donated, kept))):
            return None
        if not (place.is_placed(self.donated, donated) and place.is_placed(self.kept, kept)):
            return None
        return donated, kept

    def _trust(
        self,
        apart: Domain,
        own: Domain,
        version: CompiledVersion | None,
        donated: list[Array],
        kept: list[Array],
    ) -> None:
        if version is not None and own.written_by is version and apart.written_by is version:
            return  # nothing has changed since arrays of this kind were donated
        if (
            version is not None
            and list(map(call_kind, (*donated, *kept))) not in version.safe_states
        ):
            raise _Unsafe
        own.written_by = apart.written_by = None

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
        self,
        call: Callable[..., Any],
        donated: list[Array],
        kept: list[Array],
        leaves: list[ArrayLike],
    ) -> list[Array]:
        results = itertools.chain.from_iterable(map(call, (donated,), (kept,), (leaves,)))
        if self._refilled:
            self._refill(results)
        else:
            storage.hand_in(self.written, results)
        for pool in self._pools:
            pool.forget()
        return list(results)

    def _refill(self, results: Iterator[Array]) -> None:
        detached = [param for pool in self._refilled for _, param in pool.detached()]
        new = itertools.islice(results, len(self.written))
        storage.hand_in(
            [*self.written, *detached], itertools.chain(new, itertools.repeat(None, len(detached)))
        )

    def _waited(
        self, place: Placement, leaves: list[ArrayLike], current: Callable[[], bool]
    ) -> list[Array]:
        """Run without the locks, and store the results when they are ready."""
        donated, kept = self._fetched(place)
        results = _restoring(lambda: self.program(donated, kept, leaves))
        jax.block_until_ready(results)
        n = len(self.written)

        def replay(*_: object) -> list[Array]:
            return results

        if n:
            self._inside(place, leaves, current, None, replay)
        return results[n:]

    def _fetched(self, place: Placement) -> tuple[list[Array], list[Array]]:
        """The arrays of the states, resharded."""
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

    def _version(self, place: Placement, leaves: list[ArrayLike]) -> CompiledVersion:
        """The version for arguments with these shardings, compiled if there is none."""
        donated, kept = self._fetched(place)
        arguments = [*donated, *kept, *leaves]
        for version in self._versions:
            if version.fits(arguments):
                return version
        compiled = _restoring(
            lambda: cast(Any, self.program).lower(donated, kept, leaves).compile()
        )
        version = CompiledVersion(compiled, arguments)
        reserve_memory(version.compiled, getattr(self.program, "__name__", "program"))
        self._versions.append(version)
        return version


def _wrote(version: CompiledVersion | None, watch: CallWatch | None) -> CompiledVersion | None:
    """The version whose results may be its next arguments; None if it gives arrays of other kinds.

    It does under `jax.set_mesh`: arrays of one device go in, and arrays over the mesh come out.
    """
    version = watch.version if watch is not None else version
    return version if version is not None and version.keeps_kinds else None


def _name_of(state: State) -> str:
    return state.entries()[0][1].name if isinstance(state, Pool) else state.name


def _restoring(call: Callable[[], T]) -> T:
    """`call()`, during which JAX changes settings; an exception leaves none of them changed."""
    back = as_before()
    try:
        return call()
    except BaseException:
        back()  # one from outside can keep JAX from doing so
        raise
