"""`Cell.pipeline_stage`: which group of devices a Cell belongs to, with `pipeline_stages`.

What enters and leaves a Cell that has a stage is told to the current placement, which marks it. A
placement without stages returns it unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

from paramesh.array_types import Tree
from paramesh.parameter import Parameter
from paramesh.state import placement
from paramesh.tensor.base import Tensor, raw, wrap


class PipelineStage:
    """The attribute `pipeline_stage`; see Cell."""

    @property
    def pipeline_stage(self) -> int | None:
        """The pipeline stage that the Cell, with all Cells inside, belongs to; None: not set.

        It has an effect with `set_auto_parallel_context(pipeline_stages=…)` alone.

        Raises:
            TypeError: it is set to something that is not an int; ValueError: to a negative one.
        """
        return self.__dict__.get("_pipeline_stage")

    @pipeline_stage.setter
    def pipeline_stage(self, value: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{type(self).__name__}.pipeline_stage must be an int, got {value!r}.")
        if value < 0:
            raise ValueError(f"{type(self).__name__}.pipeline_stage={value} must be at least 0.")
        self.__dict__["_pipeline_stage"] = value


def through(cell: str, params: Iterable[Parameter], stage: int, values: Tree, begins: bool) -> Any:
    """The inputs or outputs of a Cell that has a stage, told to the placement.

    Parameters among them stay what they are, since operators ask for their layouts.

    Args:
        cell: its class, for messages.
        params: its Parameters, for messages.
        stage: its stage.
        values: Tensors, in any containers.
        begins: whether they are inputs.
    """
    leaves, tree = jax.tree_util.tree_flatten(values, is_leaf=lambda v: isinstance(v, Tensor))
    chosen = [
        i
        for i, leaf in enumerate(leaves)
        if isinstance(leaf, Tensor | jax.Array) and not isinstance(leaf, Parameter)
    ]
    arrays = [raw(leaves[i]) for i in chosen]
    told = placement.current().in_stage(stage, _name_of(cell, params), arrays, begins)
    for i, array in zip(chosen, told, strict=True):
        leaves[i] = wrap(array) if isinstance(leaves[i], Tensor) else array
    return jax.tree_util.tree_unflatten(tree, leaves)


def _name_of(cell: str, params: Iterable[Parameter]) -> str:
    """What a message calls a Cell: where its first Parameter is, and its class."""
    first = next(iter(params), None)
    path = "" if first is None else first.name.rpartition(".")[0]
    return f"{path} ({cell})" if path else cell
