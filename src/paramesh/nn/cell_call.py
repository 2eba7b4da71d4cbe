"""How one Cell runs inside a program: hooks, casts and recomputation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import jax
from jax import Array

from paramesh import tracebacks
from paramesh.array_types import Tree
from paramesh.dtype import DType, to_dtype
from paramesh.nn.cell_bprop import with_bprop
from paramesh.nn.pipeline_stage import through
from paramesh.ops import autocast
from paramesh.state import tracing
from paramesh.state.protocols import State, VisitedCell
from paramesh.tensor.base import raw, wrap
from paramesh.tensor.promotion import cast
from paramesh.tensor.trees import unpack
from paramesh.transforms.bodies import lifted


class RunnableCell(VisitedCell, Protocol):
    """What a call needs to know of a Cell; the rest is among its attributes."""

    def construct(self, *args: Any, **kwargs: Any) -> Any:
        """What the Cell computes."""
        ...

    def __getattr__(self, name: str) -> Any: ...


class _Thread(threading.local):
    #: Is told of every Cell that has run: (cell, inputs, named inputs, what it returned).
    watcher: Callable[[Any, tuple[Any, ...], dict[str, Any], Any], None] | None = None


#: Who watches the Cells of this thread.
thread = _Thread()


class CastFrame(tracing.Frame):
    """Float Parameters are read in another float type; writes go through unchanged."""

    def __init__(self, dtype: DType, parent: tracing.Frame | None) -> None:
        while isinstance(parent, CastFrame):  # the innermost to_float decides
            parent = parent.parent
        super().__init__({}, parent)
        self._dtype = dtype

    def get(self, state: State) -> Array:
        """The value, in this frame's type if it is a float."""
        value = self._elsewhere(state)
        return cast(value, self._dtype) if _is_float(value) else value

    def put(self, state: State, value: Array) -> None:
        """Written where it would be written without the cast."""
        if self.parent is None:
            tracing.write_outside(state, value)
        else:
            self.parent.put(state, value)


def run(cell: RunnableCell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`construct` with everything that is set on the Cell around it."""
    try:
        return _run(cell, args, kwargs)
    except Exception as error:
        tracebacks.came_through(error, cell, args, kwargs)
        raise


def _run(cell: RunnableCell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    frame = tracing.current()
    if frame is not None:
        frame.visit(cell)
    fields = cell.__dict__
    stage = fields.get("_pipeline_stage")
    if stage is not None and frame is not None:
        name = type(cell).__name__
        args, kwargs = through(name, cell.get_parameters(), stage, (args, kwargs), True)
        out = _mixed(cell, args, kwargs, frame)
        return through(name, cell.get_parameters(), stage, out, False)
    return _mixed(cell, args, kwargs, frame)


def _mixed(cell: RunnableCell, args: tuple[Any, ...], kwargs: dict[str, Any], frame: object) -> Any:
    mixed = cell.__dict__.get("_mixed_precision")
    if mixed is not None:
        with autocast.entered(mixed.rule):
            return mixed.leaving(_hooked(cell, args, kwargs, frame))
    return _hooked(cell, args, kwargs, frame)


def _hooked(cell: RunnableCell, args: tuple[Any, ...], kwargs: dict[str, Any], frame: Any) -> Any:
    fields = cell.__dict__
    for hook in fields["_forward_pre_hooks"]:
        changed = hook(cell, args)
        if changed is not None:
            args = changed if isinstance(changed, tuple) else (changed,)
    inputs = args
    if fields["_to_float"] is not None:
        args = tuple(_cast_floats(a, fields["_to_float"]) for a in args)
        with tracing.entered(CastFrame(fields["_to_float"], frame)):
            out = _body(cell, args, kwargs)
    else:
        out = _body(cell, args, kwargs)
    for hook in fields["_forward_hooks"]:
        changed = hook(cell, inputs, out)
        if changed is not None:
            out = changed
    if thread.watcher is not None:
        thread.watcher(cell, inputs, kwargs, out)
    return out


def _body(cell: RunnableCell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    fields = cell.__dict__
    if fields["_backward_hooks"]:
        return _with_backward_hooks(cell, args, kwargs)
    if fields["_recompute"] is not None and tracing.current() is not None:
        return _recomputed(cell, args, kwargs)
    return _construct(cell, args, kwargs)


def _construct(cell: RunnableCell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if hasattr(type(cell), "bprop"):
        own: Any = cell
        return with_bprop(own, args, kwargs)
    return cell.construct(*args, **kwargs)


def _recomputed(cell: RunnableCell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    options = cell.__dict__["_recompute"]

    def body(*args: object, **kwargs: object) -> Any:
        return _construct(cell, args, kwargs)

    body.__name__ = type(cell).__name__
    return lifted(lambda pure: jax.checkpoint(pure, **options), body)(*args, **kwargs)


def _with_backward_hooks(cell: RunnableCell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    seen: list[Any] = []

    @jax.custom_vjp
    def inputs_pass(values: list[Array]) -> list[Array]:
        return values

    def inputs_back(_: None, grads: list[Array]) -> tuple[list[Array]]:
        grad_inputs = tuple(wrap(g) for g in grads)
        for hook in cell.__dict__["_backward_hooks"]:
            changed = hook(cell, grad_inputs, seen[-1] if seen else ())
            if changed is not None:
                grad_inputs = changed if isinstance(changed, tuple) else (changed,)
        return ([raw(g) for g in grad_inputs],)

    inputs_pass.defvjp(lambda values: (values, None), inputs_back)

    @jax.custom_vjp
    def outputs_pass(values: list[Array]) -> list[Array]:
        return values

    def outputs_back(_: None, grads: list[Array]) -> tuple[list[Array]]:
        seen.append(tuple(wrap(g) for g in grads))
        return (grads,)

    outputs_pass.defvjp(lambda values: (values, None), outputs_back)

    args, kwargs = _through(inputs_pass, (args, kwargs))
    return _through(outputs_pass, _construct(cell, args, kwargs))


def _through(identity: Callable[[list[Array]], list[Array]], tree: Tree) -> Any:
    leaves, nest = unpack(tree)
    chosen = [i for i, leaf in enumerate(leaves) if _is_float(leaf)]
    passed = identity([leaves[i] for i in chosen])
    for i, value in zip(chosen, passed, strict=True):
        leaves[i] = value
    return nest.build(leaves)


def _is_float(value: Array) -> bool:
    return to_dtype(value.dtype).is_floating()


def _cast_floats(tree: Tree, dtype: DType) -> Any:
    leaves, nest = unpack(tree)
    return nest.build([cast(v, dtype) if _is_float(v) else v for v in leaves])
