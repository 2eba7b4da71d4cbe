"""`loss = self.network(*inputs)`, then `self.grad(self.network, …)(*inputs)`: one forward pass.

MindSpore makes one forward pass of both. Run as they are written they are two: moving averages
would move twice, and Dropout would draw another mask for the gradients than for the loss. So what
the first pass wrote is taken back before the gradient makes the same pass again, which then begins
where the first one began, and the compiler makes one of the two.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

from paramesh import random
from paramesh.nn.cell import Cell
from paramesh.state import placement, tracing
from paramesh.state.protocols import State
from paramesh.tensor.base import raw


class _Pass:
    """A forward pass of a network: its inputs, and what it wrote."""

    def __init__(self, network: Cell, inputs: tuple[Any, ...], values: dict[Any, Any]) -> None:
        self.network = weakref.ref(network)
        self.inputs = [raw(value) for value in inputs]
        self.before = values
        frame = tracing.current()
        self.written_before = frozenset() if frame is None else frozenset(frame.written)
        #: {state: its value after the pass} of what the pass wrote; None while it runs.
        self.after: dict[Any, Any] | None = None

    def end(self, values: dict[Any, Any]) -> None:
        frame = tracing.current()
        written = values if frame is None else frame.written
        self.after = {
            state: value
            for state, value in values.items()
            if state in written
            and value is not self.before.get(state)
            # What a placement has programs give out belongs to each pass.
            and not isinstance(state, placement.ImplicitValue)
        }
        self.before = {state: self.before.get(state) for state in self.after}

    def is_of(self, network: object, inputs: tuple[Any, ...]) -> bool:
        given = [raw(value) for value in inputs]
        return (
            self.after is not None
            and self.network() is network
            and len(given) == len(self.inputs)
            and all(a is b for a, b in zip(given, self.inputs, strict=True))
        )


class _Thread(threading.local):
    """The last pass in each frame, which ends with it, or of each network outside of programs."""

    def __init__(self) -> None:
        self.last: weakref.WeakKeyDictionary[Any, _Pass] = weakref.WeakKeyDictionary()


_thread = _Thread()


def watch(network: Cell) -> None:
    """Note the forward passes of a network from now on; a second call does nothing."""
    if _before not in network.__dict__["_forward_pre_hooks"]:
        network.register_forward_pre_hook(_before)
        network.register_forward_hook(_after)


def take_back(network: object, inputs: tuple[Any, ...]) -> None:
    """Take back what the last pass wrote, if it was the same pass and nothing followed.

    Args:
        network: the network whose gradient is about to make the pass again.
        inputs: its inputs.
    """
    frame = tracing.current()
    try:
        last = _thread.last.pop(network if frame is None else frame, None)
    except TypeError:  # without weak references: not a network
        return
    if last is None or not last.is_of(network, inputs):
        return
    now = {state: _value(frame, state) for state in last.after or ()}
    if any(now[state] is not after for state, after in (last.after or {}).items()):
        return
    for state, before in last.before.items():
        if frame is None:
            tracing.write(state, before)
        else:
            frame.restore(state, before, state in last.written_before)


def _value(frame: tracing.Frame | None, state: State) -> Any:
    return tracing.read(state) if frame is None else frame.values.get(state)


def _before(network: Cell, inputs: tuple[Any, ...]) -> None:
    key = tracing.current() or network
    _thread.last[key] = _Pass(network, inputs, _values(network))


def _after(network: Cell, inputs: tuple[Any, ...], output: object) -> None:
    last = _thread.last.get(tracing.current() or network)
    if last is not None and last.network() is network:
        last.end(_values(network))


def _values(network: Cell) -> dict[Any, Any]:
    """What has a value in the running frame; outside of programs, what a pass may write."""
    frame = tracing.current()
    if frame is not None:
        return dict(frame.values)
    states = [param for param in network.get_parameters() if not param.requires_grad]
    return {p: tracing.read(p) for p in (*states, random.default_generator().state)}
