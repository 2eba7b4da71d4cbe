"""What scripts import of the inside of MindSpore, and what each is here.

None of it is MindSpore's interface; scripts of public repositories use it all the same. `compat`
has the paths.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np

from paramesh import context, ops
from paramesh.array_types import Tree
from paramesh.nn.cell import Cell
from paramesh.nn.losses import LossBase
from paramesh.optim import Optimizer
from paramesh.parameter import Parameter
from paramesh.sampling.seed import get_seed
from paramesh.state import placement
from paramesh.tensor.base import Tensor
from paramesh.train import TrainOneStepCell
from paramesh.train.callbacks import Facts, first_loss
from paramesh.train.model import Model
from paramesh.train.pipeline_cell import micro_batches_of
from paramesh.transforms import cond

__all__ = [
    "ConvertModelUtils",
    "check_dense_input_shape",
    "GradientAccumulation",
    "InternalCallbackParam",
    "VirtualDatasetCellTriple",
    "_InternalCallbackParam",
    "_Loss",
    "_MicroBatch",
    "_TrainGradAccuStepCell",
    "_VirtualDataset",
    "_VirtualDatasetCell",
    "_function_forbid_reuse",
    "_get_cache_prim",
    "_get_graph_seed",
    "_get_mode",
    "_grad_scale",
    "_handle_loss",
    "_load_dismatch_prefix_params",
    "_pynative_executor",
    "_update_param",
    "cell_attr_register",
    "gradient_accumulation_op",
    "grad_scale",
    "gradient_clear_op",
    "opt_init_args_register",
    "shard_grad_scale",
]

#: MindSpore has modules below it (see `compat`).
__path__: list[str] = []

_logger = logging.getLogger("paramesh")

#: `cb_params` under MindSpore's name of their class.
InternalCallbackParam = _InternalCallbackParam = Facts
_Loss = LossBase


def cell_attr_register(fn: Any = None, attrs: Any = None) -> Any:
    """The `__init__` itself, as a decorator: graphs are not shared by a Cell's attributes here."""
    return (lambda given: given) if fn is None else fn


def opt_init_args_register(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator of an optimizer's `__init__`, which keeps its arguments in `init_args`."""

    @functools.wraps(fn)
    def made(self: Any, *args: object, **kwargs: object) -> None:
        object.__setattr__(self, "init_args", {"args": args, **kwargs})
        fn(self, *args, **kwargs)

    return made


def _function_forbid_reuse(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, as a decorator."""
    return fn


def _get_cache_prim(cls: type[Any]) -> type[Any]:
    """The class of an operator itself: making one costs nothing here, so that none are kept."""
    return cls


def _get_mode() -> int:
    """GRAPH_MODE or PYNATIVE_MODE, as it is set."""
    return context.get_context("mode")


class _Executor:
    """MindSpore's queue of operators, of which scripts wait for the end."""

    def sync(self) -> None:
        """Wait for what the devices are doing."""
        jax.effects_barrier()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"_pynative_executor is the inside of MindSpore: of it there is sync() here, not "
            f"{name!r}."
        )


_pynative_executor = _Executor()


def _handle_loss(loss: Tree) -> float:
    """The loss among what a training Cell returned, as a number."""
    return float(np.mean(np.asarray(first_loss(loss)), dtype=np.float64))


def _update_param(param: Parameter, new_param: Tree, strict_load: bool = False) -> None:
    """Give a Parameter the value of another one, by the rules of `set_data`.

    Raises:
        ParameterShapeError, ParameterDtypeError: it does not fit.
    """
    param.set_data(new_param if isinstance(new_param, Tensor) else Tensor(new_param))


def _load_dismatch_prefix_params(
    net: Cell,
    parameter_dict: Mapping[str, Any],
    param_not_load: list[str],
    strict_load: bool = False,
) -> None:
    """Load Parameters whose names differ from those of the file by one prefix.

    Args:
        net: the network.
        parameter_dict: {name: Parameter}.
        param_not_load: names of the network that were not loaded; those loaded are taken out.
        strict_load: MindSpore's, without effect: values have to fit in any case.
    """
    if not param_not_load or not parameter_dict:
        return
    longest = max(parameter_dict, key=len)
    mine = {param.name: param for param in net.get_parameters()}
    for name in list(param_not_load):
        if name.endswith(longest):
            prefix = name.removesuffix(longest)
            break
    else:
        return
    for name in list(param_not_load):
        found = parameter_dict.get(name.removeprefix(prefix))
        if name.startswith(prefix) and found is not None and name in mine:
            _update_param(mine[name], found)
            param_not_load.remove(name)


class _VirtualDatasetCell(Cell):
    """A network that is given the batch as its data: here each program is."""

    def __init__(self, backbone: Cell) -> None:
        super().__init__(auto_prefix=False)
        self._backbone = backbone
        self._virtual_dataset = _VirtualDataset()

    def construct(self, *inputs: Tree) -> Any:
        """What the network gives."""
        given = self._virtual_dataset(*inputs)
        return self._backbone(*(given if len(inputs) > 1 else (given,)))


class VirtualDatasetCellTriple(_VirtualDatasetCell):
    """A network of three inputs that is given the batch as its data: here each program is."""


class _MicroBatch(Cell):
    """`cell(i, *inputs)` is the rows of micro-batch i of every input, in a tuple.

    Args:
        micro_size: how many micro-batches; it divides the first axes.
    """

    def __init__(self, micro_size: int) -> None:
        super().__init__()
        self.micro_size = micro_size

    def construct(self, i: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The rows."""
        rows = [x.shape[0] // self.micro_size for x in inputs]
        return tuple(x[i * n : (i + 1) * n] for x, n in zip(inputs, rows, strict=True))


class _TrainGradAccuStepCell(TrainOneStepCell):
    """TrainOneStepCell that divides gradients by the micro-batches, unless it is given a `sens`."""

    def __init__(self, network: Cell, optimizer: Optimizer, sens: float | None = None) -> None:
        share = 1.0 / micro_batches_of(network) if sens is None else sens
        super().__init__(network, optimizer, share)


class _VirtualDataset:
    """Gives the batch, as it comes: MindSpore's compiler finds the data of a program by it."""

    def __init__(self) -> None:
        self._strategies: tuple[Any, ...] | None = None

    def shard(self, in_strategy: tuple[Any, ...]) -> Self:
        """Say how the batch is sharded, as `Cell.shard` does; returns self.

        Args:
            in_strategy: for each input a tuple of ints, or a Layout.
        """
        self._strategies = in_strategy
        return self

    def add_prim_attr(self, name: str, value: object) -> Self:
        """Nothing; returns self."""
        return self

    def __call__(self, *inputs: Tree) -> Any:
        """The inputs; the input itself if there is one.

        Raises:
            LayoutError: the strategy does not fit them.
        """
        if self._strategies is not None:
            name = "in_strategy of _VirtualDataset"
            inputs = placement.current().constrain(inputs, self._strategies, name)
        return inputs[0] if len(inputs) == 1 else inputs


def check_dense_input_shape(x: Sequence[int], prim_name: str | None = None) -> None:
    """Refuse the input of a dense layer that has no axis for its rows, as MindSpore 1.x does.

    Args:
        x: the shape of the input.
        prim_name: who asks, for the error.

    Raises:
        ValueError: fewer than two axes.
    """
    if len(x) < 2:
        raise ValueError(
            f"{prim_name or 'Dense'}: the input must have at least two axes, got the shape "
            f"{tuple(x)}."
        )


class ConvertModelUtils:
    """What MindSpore prepares for its second-order optimizer `thor`."""

    @staticmethod
    def convert_to_thor_model(
        model: Model,
        network: Cell,
        loss_fn: object = None,
        optimizer: object = None,
        metrics: object = None,
        amp_level: str = "O0",
        loss_scale_manager: object = None,
        keep_batchnorm_fp32: bool = False,
    ) -> Model:
        """The model; an optimizer `thor` makes its inverses every `frequency` steps from now on.

        Scripts call it without asking which optimizer they have.

        Args:
            model: the model.
            network: a training cell, whose optimizer counts; otherwise without effect.
            loss_fn: MindSpore's, as the others; without effect.
            optimizer: the one that counts otherwise.
            metrics: see `loss_fn`.
            amp_level: see `loss_fn`.
            loss_scale_manager: see `loss_fn`.
            keep_batchnorm_fp32: see `loss_fn`.
        """
        use = getattr(getattr(network, "optimizer", optimizer), "use_frequency", None)
        if use is not None:
            use()
        return model


# Gradients of several batches, as MindSpore's `boost` adds them up.

gradient_accumulation_op = ops.MultitypeFuncGraph("gradient_accumulation_op")
gradient_clear_op = ops.MultitypeFuncGraph("gradient_clear_op")


@gradient_accumulation_op.register("Number", "Tensor", "Tensor")
def _accumulate(accumulation_step: Any, cumulative_grad: Parameter, grad: Tree) -> Any:
    """Add a part of a gradient to a Parameter."""
    return ops.assign_add(cumulative_grad, grad / accumulation_step)


@gradient_clear_op.register("Tensor")
def _clear(cumulative_grad: Parameter) -> Any:
    """Set a Parameter to zeros."""
    return ops.assign(cumulative_grad, ops.zeros_like(cumulative_grad))


# Gradients of a scaled loss, as MindSpore's training Cells divide them.

_grad_scale = ops.MultitypeFuncGraph("grad_scale")
grad_scale = ops.MultitypeFuncGraph("grad_scale")
shard_grad_scale = ops.MultitypeFuncGraph("shard_grad_scale")


@_grad_scale.register("Tensor", "Tensor")
def _unscaled(scale: Tree, grad: Tree) -> Any:
    """A gradient by the scale, of the gradient's type."""
    return grad * ops.cast(1 / scale, grad.dtype)


@grad_scale.register("Tensor", "Tensor", "Tensor")
def _unscaled_sum(scale: Tree, grad: Tree, accu_grad: Parameter) -> Any:
    """What was added up by the scale; the sum begins anew."""
    return _taken(accu_grad * (1 / scale), accu_grad)


@shard_grad_scale.register("Tensor", "Tensor", "Tensor")
def _unscaled_shard(scale: Tree, grad: Tree, accu_grad: Parameter) -> Any:
    """A gradient by the scale; the sum begins anew."""
    return _taken(grad * (1 / scale), accu_grad)


def _taken(grad: Tree, accu_grad: Parameter) -> Any:
    _clear(accu_grad)
    return grad


def _get_graph_seed(op_seed: int, kernel_name: str) -> tuple[int, int]:
    """The two seeds of an operator of chance, as scripts ask for them: (of all, its own)."""
    return get_seed() or 0, op_seed


class GradientAccumulation(Cell):
    """Adds gradients up, and calls the optimizer with their mean after so many.

    Args:
        max_accumulation_step: how many.
        optimizer: is called with the mean.
    """

    def __init__(self, max_accumulation_step: int, optimizer: Any) -> None:
        super().__init__()
        if not isinstance(max_accumulation_step, int) or max_accumulation_step < 1:
            raise ValueError(
                "GradientAccumulation: max_accumulation_step must be an int from 1, got "
                f"{max_accumulation_step!r}."
            )
        self._max_accumulation_step = max_accumulation_step
        self.optimizer = optimizer
        self._grad_accumulation = optimizer.parameters.clone(
            prefix="grad_accumulation", init="zeros"
        )
        self._accumulation_step = Parameter(Tensor(0), name="accumulation_step")

    def construct(self, loss: Tree, grads: Tree) -> Any:
        """The loss, as it came."""
        step = ops.assign_add(self._accumulation_step, 1)
        for total, grad in zip(self._grad_accumulation, grads, strict=True):
            ops.assign_add(total, grad / self._max_accumulation_step)
        cond(step == self._max_accumulation_step, self._update, lambda: None)
        return loss

    def _update(self) -> None:
        self.optimizer(tuple(Tensor(total) for total in self._grad_accumulation))
        for total in self._grad_accumulation:
            ops.assign(total, ops.zeros_like(total))
        ops.assign(self._accumulation_step, 0)
