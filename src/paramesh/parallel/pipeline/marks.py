"""Marks: operators that change no value and say where a stage begins and ends.

A Cell with a stage marks its inputs (`enter`) and its outputs (`leave`). The transposed marks stand
in the backward pass, where values go the other way: the gradients of the outputs enter a stage
(`leave_back`), those of the inputs leave it (`enter_back`). `back` marks where the backward pass of
a loss begins, and `value` what a PipelineCell gives.

A trace sees every mark, wherever gradients are taken, so its equations can be told apart by stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramesh._compat.jax import JaxprEqn, Primitive, ad, batching, mlir
from paramesh.array_types import Array

ENTER, LEAVE, BACK, VALUE = "enter", "leave", "back", "value"
ENTER_BACK, LEAVE_BACK = "enter_back", "leave_back"
_TRANSPOSED = {ENTER: ENTER_BACK, LEAVE: LEAVE_BACK, ENTER_BACK: ENTER, LEAVE_BACK: LEAVE}

_mark = Primitive("pipeline_mark")


def mark(value: Array, kind: str, stage: int, name: str) -> Any:
    """The same value, marked.

    Args:
        value: raw.
        kind: `ENTER`, `LEAVE`, `BACK` or `VALUE`.
        stage: of the Cell; without meaning for `BACK` and `VALUE`.
        name: the Cell, for messages; for `VALUE`, what tells PipelineCells apart.
    """
    return _mark.bind(value, kind=kind, stage=stage, name=name)


def is_mark(eqn: JaxprEqn) -> bool:
    """Whether an equation is a mark."""
    return eqn.primitive.name == _mark.name


def _transposed(
    cotangent: object, value: object, *, kind: str, stage: int, name: str
) -> Sequence[Any]:
    if isinstance(cotangent, ad.Zero):
        return [cotangent]
    return [_mark.bind(cotangent, kind=_TRANSPOSED.get(kind, kind), stage=stage, name=name)]


_mark.def_impl(lambda value, **_: value)
_mark.def_abstract_eval(lambda aval, **_: aval)
ad.deflinear2(_mark, _transposed)
batching.defvectorized(_mark)
mlir.register_lowering(_mark, lambda _, value, **__: [value])
