"""Attributes of MindSpore's training Cells that the `construct` of a subclass uses.

Model scripts write `class Step(nn.TrainOneStepCell)` with a `construct` of their own over
`self.grad`, `self.grad_reducer`, `self.reducer_flag` and so on. They are made when they are read,
from the settings as they are then; an attribute that the script sets takes precedence.

Source: `TrainOneStepCell` and `TrainOneStepWithLossScaleCell` of MindSpore 1.x and 2.x.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax

from paramesh import context, ops
from paramesh.array_types import Tree
from paramesh.dtype import float32, int32
from paramesh.nn.cell import Cell
from paramesh.parameter import Parameter
from paramesh.state import placement
from paramesh.tensor.argument_types import NumberLike
from paramesh.tensor.base import Tensor
from paramesh.train import one_forward
from paramesh.train.accumulation import accumulated
from paramesh.transforms import GradientFunction, GradOperation
from paramesh.transforms.gradients import Weights

_BY_DEVICE = (context.ParallelMode.DATA_PARALLEL, context.ParallelMode.HYBRID_PARALLEL)


class StepGradient(GradOperation):
    """`GradOperation` by list that keeps to `grad_accumulation_step`.

    A sensitivity of one element fits a loss of shape (), and a forward pass that the loss came from
    is not made a second time (see `one_forward.py`).
    """

    def __call__(self, fn: Callable[..., Any], weights: Weights = None) -> Any:
        """The gradient function of a network that returns the loss."""
        derived = super().__call__(fn, weights)
        count = context.get_auto_parallel_context("grad_accumulation_step")
        if isinstance(weights, Parameter):
            weights = (weights,)
        params = list(fn.trainable_params() if weights is None else weights)  # type: ignore[attr-defined]
        of_batch = GradientFunction(fn, None, params, with_sens=self.sens_param)

        def gradients(*inputs: Tree) -> Any:
            sens = ()
            if self.sens_param and inputs:
                inputs, sens = inputs[:-1], (_scalar(inputs[-1]),)
            one_forward.take_back(fn, inputs)
            if count == 1:
                return derived(*inputs, *sens)
            compute = lambda *batch: of_batch(*batch, *sens)  # noqa: E731
            return tuple(accumulated(compute, inputs, params, count)[1])

        return gradients


def _scalar(sens: NumberLike) -> NumberLike:
    return sens.reshape(()) if isinstance(sens, Tensor) and sens.size == 1 else sens


def _mode(cell: Cell) -> str:
    return context.get_auto_parallel_context("parallel_mode")


#: Attributes of every training Cell.
STEP: dict[str, Callable[[Any], Any]] = {
    "grad": lambda cell: StepGradient(get_by_list=True, sens_param=True),
    "grad_no_sens": lambda cell: StepGradient(get_by_list=True),
    "grad_reducer": lambda cell: cell.reduced,
    "sense_flag": lambda cell: cell.sens != 1,
    "weights_name": lambda cell: [param.name for param in cell.weights],
    "parallel_mode": _mode,
    "reducer_flag": lambda cell: _mode(cell) in _BY_DEVICE,
    "mean": lambda cell: context.get_auto_parallel_context("gradients_mean"),
    "degree": lambda cell: placement.current().count,
}

#: Further attributes of those with a loss scale.
LOSS_SCALE: dict[str, Callable[[Any], Any]] = STEP | {
    "hyper_map": lambda cell: ops.HyperMap(),
    "base": lambda cell: Tensor(1, float32),
    "base0": lambda cell: Tensor(0, int32),
    "reduce_sum": lambda cell: ops.ReduceSum(),
    "reduce_all": lambda cell: ops.ReduceAll(),
    "less_equal": lambda cell: ops.LessEqual(),
    "equal": lambda cell: ops.Equal(),
    "logic_not": lambda cell: ops.LogicalNot(),
    "cast": lambda cell: ops.Cast(),
    "allreduce": lambda cell: ops.AllReduce(),
    "is_distributed": lambda cell: _mode(cell) != context.ParallelMode.STAND_ALONE,
    "gpu_target": lambda cell: jax.default_backend() == "gpu",
}


class LazyAttributes(Cell):
    """A Cell with attributes that are made when they are first read."""

    #: {name: makes the attribute of a Cell}.
    lazy_attributes: Mapping[str, Callable[[Any], Any]] = MappingProxyType({})

    def __getattr__(self, name: str) -> Any:
        make = type(self).lazy_attributes.get(name)
        if make is None or name in self.__dict__.get("_cells", {}):
            return super().__getattr__(name)
        return make(self)
