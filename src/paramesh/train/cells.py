"""Training Cells: a network with its loss, and with its optimizer, as one program.

Glossary
    sens        what the loss's gradient starts from: 1, or the loss scale
    overflow    a gradient that is not finite

Source: MindSpore's Cells of these names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
from jax import Array

from paramesh import context
from paramesh.array_types import Tree
from paramesh.dtype import float32, to_dtype
from paramesh.nn.cell import Cell
from paramesh.ops import AllReduce
from paramesh.optim import Optimizer
from paramesh.optim.optimizer import work
from paramesh.parameter import Parameter, ParameterTuple, state_of
from paramesh.state import placement, tracing
from paramesh.tensor.argument_types import NumberLike, TensorFunction, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.train import one_forward
from paramesh.train.accumulation import accumulated
from paramesh.train.pipeline_cell import OverSteps, PipelineCell
from paramesh.train.step_members import LOSS_SCALE, STEP, LazyAttributes
from paramesh.transforms import GradientFunction, GradOperation

T = TypeVar("T")


def _outputs(network: Cell, data: Tree) -> Tree:
    """What a network returns, before a loss takes it.

    Raises:
        TypeError: it returns nothing.
    """
    outputs = network(data)
    if outputs is None:
        raise TypeError(
            f"{type(network).__name__}.construct returned None, so there is nothing for the loss. "
            "Does it end with `return`?"
        )
    return outputs


class WithLossCell(Cell):
    """`cell(data, label)` is `loss_fn(backbone(data), label)`.

    Raises:
        TypeError: `backbone` is not a Cell.
    """

    def __init__(self, backbone: Cell, loss_fn: TensorFunction) -> None:
        super().__init__(auto_prefix=False)
        _check_cell("WithLossCell", "backbone", backbone)
        self._backbone = backbone
        self._loss_fn = loss_fn

    def construct(self, data: Tree, label: Tree) -> Any:
        """The loss."""
        return self._loss_fn(_outputs(self._backbone, data), label)

    @property
    def backbone_network(self) -> Cell:
        """The network without the loss."""
        return self._backbone


class WithEvalCell(Cell):
    """`cell(data, label)` is (loss, outputs, label), which is what metrics are made from.

    Args:
        network: the network.
        loss_fn: takes (outputs, label).
        add_cast_fp32: outputs and label are cast to Float32 first.

    Raises:
        TypeError: `network` is not a Cell.
    """

    def __init__(self, network: Cell, loss_fn: TensorFunction, add_cast_fp32: bool = False) -> None:
        super().__init__(auto_prefix=False)
        _check_cell("WithEvalCell", "network", network)
        self._network = network
        self._loss_fn = loss_fn
        self.add_cast_fp32 = bool(add_cast_fp32)

    def construct(self, data: Tree, label: Tree) -> tuple[Any, Any, Any]:
        """(loss, outputs, label)."""
        outputs = _outputs(self._network, data)
        if self.add_cast_fp32:
            outputs, label = as_float32(outputs), as_float32(label)
        return self._loss_fn(outputs, label), outputs, label


class WithGradCell(Cell):
    """`cell(*inputs)` is the gradients by the trainable Parameters of a network, in a tuple.

    Args:
        network: the network; without `loss_fn`, it returns the loss.
        loss_fn: takes (outputs, label); the inputs are (data, label) then.
        sens: what the gradients start from; None for 1.

    Raises:
        TypeError: `network` is not a Cell.
    """

    def __init__(
        self,
        network: Cell,
        loss_fn: TensorFunction | None = None,
        sens: TensorLike | float | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        _check_cell("WithGradCell", "network", network)
        self.network = network
        self.loss_fn = loss_fn
        self.weights = ParameterTuple(network.trainable_params())
        self.grad = GradOperation(get_by_list=True, sens_param=sens is not None)
        self.sens = sens
        self.network_with_loss = network if loss_fn is None else WithLossCell(network, loss_fn)

    def construct(self, *inputs: Tree) -> Any:
        """The gradients."""
        sens = () if self.sens is None else (self.sens,)
        return self.grad(self.network_with_loss, self.weights)(*inputs, *sens)


def _check_common(owner: str, network: Cell, optimizer: Optimizer) -> None:
    mine = list(network.get_parameters())
    known = {id(param) for param in mine}
    if mine and not any(id(param) in known for param in optimizer.parameters):
        raise ValueError(
            f"{owner}: a step would change nothing, since no Parameter of the optimizer "
            f"('{optimizer.parameters[0].name}', …) is one of the network ('{mine[0].name}', …); "
            "equal names do not make them the same. Make the optimizer of "
            "net.trainable_params() of this network."
        )


class TrainOneStepCell(LazyAttributes):
    """`cell(*inputs)` makes one step and returns the loss: forward, backward, and the update.

    A subclass with a `construct` of its own has MindSpore's attributes: `network`, `optimizer`,
    `weights`, `sens`, `grad`, `grad_reducer`, `reducer_flag`, `degree`, `mean`, `parallel_mode`.

    Args:
        network: returns the loss.
        optimizer: updates its `parameters` from their gradients.
        sens: what the loss is multiplied by; the optimizer's `loss_scale` has to be the same.
        return_grad: return (loss, {name of the Parameter: its gradient}).

    Raises:
        TypeError: `network` is not a Cell, or `optimizer` is not an Optimizer.
        ValueError: the optimizer has none of the Parameters of the network: a step would change
            nothing.
    """

    lazy_attributes = STEP

    def __init__(
        self, network: Cell, optimizer: Optimizer, sens: float = 1.0, return_grad: bool = False
    ) -> None:
        super().__init__(auto_prefix=False)
        name = type(self).__name__
        _check_cell(name, "network", network)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{name}: optimizer must be an Optimizer, got {type(optimizer).__name__}. "
                "optim.from_optax makes one of an optax transformation."
            )
        _check_common(name, network, optimizer)
        self.network = network
        self.optimizer = optimizer
        self.weights = optimizer.parameters
        self.sens = sens
        self.return_grad = return_grad
        network.set_grad()
        if getattr(type(self).construct, "__module__", None) != __name__:
            one_forward.watch(network)

    def construct(self, *inputs: Tree) -> Any:
        """One step."""
        loss, grads = self.gradients(inputs, self.sens)
        grads = self.grad_reducer(grads)
        self.optimizer(tuple(grads), **self._about_loss(loss, inputs))
        if not self.return_grad:
            return loss
        names = [param.name for param in self.optimizer.parameters]
        return loss, dict(zip(names, grads, strict=True))

    def _about_loss(self, loss: Tensor, inputs: Sequence[Tree]) -> dict[str, object]:
        """What a line search and the like take besides gradients.

        Not where every device has a part of the batch, and so a loss of its own.
        """
        mode = context.get_auto_parallel_context("parallel_mode")
        if not self.optimizer.takes_loss or mode in ("data_parallel", "hybrid_parallel"):
            return {}
        return {"value": loss, "value_fn": lambda: self.network(*inputs)}

    def gradients(self, inputs: Sequence[Any], sens: NumberLike) -> tuple[Any, Sequence[Tensor]]:
        """(loss, gradients by the optimizer's Parameters) of the present inputs.

        With `grad_accumulation_step` both are means over that many micro-batches, which are
        computed one after another (see `accumulation.py`).

        Raises:
            ValueError: the batch does not divide into that many micro-batches, or the loss has
                axes.
        """
        params = list(self.optimizer.parameters)
        count = context.get_auto_parallel_context("grad_accumulation_step")
        if count > 1 and isinstance(self.network, PipelineCell):
            steps = OverSteps(self.network, count)
            return GradientFunction(steps, None, params, with_sens=True)(*inputs, sens)
        derived = GradientFunction(self.network, None, params, with_sens=True)
        if count == 1:
            return derived(*inputs, sens)
        return accumulated(lambda *batch: derived(*batch, sens), inputs, params, count)

    def reduced(self, grads: Sequence[Tensor]) -> list[Tensor]:
        """The gradients added up over all that share the batch."""
        values = [raw(grad) for grad in grads]
        total = placement.current().reduce_gradients(list(self.optimizer.parameters), values)
        return [wrap(value) for value in total]


class TrainOneStepWithLossScaleCell(TrainOneStepCell):
    """A step with a loss scale that may move: returns (loss, overflow, scale).

    A step with an overflow leaves Parameters and optimizer as they were. A subclass with a
    `construct` of its own has MindSpore's `start_overflow_check`, `get_overflow_status`,
    `process_loss_scale`, `scale_sense`, `loss_scaling_manager`, `hyper_map`, `base` and so on
    besides; in a compiled program it updates by `update_unless(overflow, grads)`, since python's
    `if` cannot look at the overflow.

    Args:
        network: returns the loss.
        optimizer: with its `loss_scale` left at 1: the gradients come divided already.
        scale_sense: a `DynamicLossScaleUpdateCell` or `FixedLossScaleUpdateCell`, or a Tensor of
            one element: a scale that stays until `set_sense_scale`.

    Raises:
        TypeError: one of them is of another kind.
        ValueError: a Tensor of several elements.
    """

    lazy_attributes = LOSS_SCALE

    def __init__(self, network: Cell, optimizer: Optimizer, scale_sense: Cell | Tensor) -> None:
        super().__init__(network, optimizer, sens=1.0)
        self.loss_scaling_manager: Cell | None = None
        if isinstance(scale_sense, Cell):
            self.loss_scaling_manager = scale_sense
            start = scale_sense.get_loss_scale()  # type: ignore[attr-defined]
            scale = Tensor(start, float32)
        elif isinstance(scale_sense, Tensor):
            scale = _one_element(scale_sense)
        else:
            raise TypeError(
                "TrainOneStepWithLossScaleCell: scale_sense must be an update Cell or a Tensor, "
                f"got {type(scale_sense).__name__}."
            )
        self.scale_sense = Parameter(scale, name="scale_sense")

    def set_sense_scale(self, sens: Tensor) -> None:
        """Set the scale.

        Raises:
            TypeError: not a Tensor; ValueError: several elements.
        """
        if not isinstance(sens, Tensor):
            raise TypeError(f"set_sense_scale takes a Tensor, got {type(sens).__name__}.")
        self.scale_sense.set_data(_one_element(sens).reshape(self.scale_sense.shape))

    def construct(self, *inputs: Tree) -> Any:
        """One step."""
        scale = raw(self.scale_sense)
        loss, grads = self.gradients(inputs, wrap(scale.reshape(())))
        factor = 1.0 / scale.reshape(())
        grads = [wrap(work(g) * factor) for g in grads]
        grads = self.grad_reducer(grads)
        overflow = self.get_overflow_status(wrap(jnp.asarray(False)), grads)
        self.update_unless(overflow, tuple(grads))
        return loss, self.process_loss_scale(overflow), wrap(scale)

    def start_overflow_check(self, pre_cond: object, compute_input: T) -> tuple[Tensor, T]:
        """(status, `compute_input`): a status without overflow, as a Bool Tensor of shape ().

        Gradients are looked at when they are there, so the order does not matter as it does on
        MindSpore's devices, and `pre_cond` is of no effect.
        """
        return wrap(jnp.asarray(False)), compute_input

    def get_overflow_status(self, status: TensorLike, compute_output: Tree) -> Tensor:
        """Whether a Tensor of a nest of them is not finite, on any device: Bool, of shape ().

        Args:
            status: what `start_overflow_check` gave.
            compute_output: gradients.
        """
        overflow = jnp.asarray(raw(status), jnp.bool_).reshape(())
        overflow = overflow | ~is_finite(compute_output)
        place = placement.current()
        if place.per_device and place.count > 1 and place.meets:
            # Of a layerwise-parallel Parameter each device sees its own gradient.
            return AllReduce()(wrap(overflow.astype(jnp.float32))) > 0
        return wrap(overflow)

    def process_loss_scale(self, overflow: TensorLike) -> Any:
        """Have `loss_scaling_manager` move the scale; `overflow`, as it came."""
        if self.loss_scaling_manager is None:
            return overflow
        return self.loss_scaling_manager(self.scale_sense, overflow)

    def update_unless(self, overflow: TensorLike, grads: Sequence[TensorLike]) -> None:
        """Call the optimizer; with an overflow, its Parameters and state stay as they were.

        Args:
            overflow: Bool, of one element.
            grads: as the optimizer takes them.

        Raises:
            ContextError: a Parameter lives where its update cannot be taken back.
        """
        hit = jnp.asarray(raw(overflow), jnp.bool_).reshape(())
        placement.current().check_conditional(list(self.optimizer.parameters))
        # By pools where there are any: a pool is updated as one array.
        touched = list(dict.fromkeys(map(state_of, self.optimizer.get_parameters())))
        before = [tracing.read(state) for state in touched]
        self.optimizer(tuple(grads))
        for state, old in zip(touched, before, strict=True):
            new = tracing.read(state)
            if new is not old:
                tracing.write(state, jnp.where(hit, old, new))


def _one_element(scale: Tensor) -> Tensor:
    if scale.size != 1:
        raise ValueError(f"A loss scale has one element, got a Tensor of shape {scale.shape}.")
    return scale.astype(float32)


def is_finite(grads: Tree) -> Array:
    """Whether all of a Tensor, or of a nest of Tensors, is finite; raw."""
    if not isinstance(grads, tuple | list):
        return jnp.all(jnp.isfinite(raw(grads)))
    finite = jnp.asarray(True)
    for grad in grads:
        finite = finite & is_finite(grad)
    return finite


def as_float32(value: Tree) -> Any:
    """Float16 and BFloat16 Tensors, alone or in tuples, as Float32; everything else as it is."""
    if isinstance(value, tuple | list):
        return tuple(as_float32(item) for item in value)
    if isinstance(value, Tensor):
        dtype = to_dtype(value.dtype)
        return value.astype(float32) if dtype.is_floating() and dtype.itemsize < 4 else value
    return value


class ParameterUpdate(Cell):
    """`cell(x)` writes x to a Parameter, and returns x.

    Args:
        param: the Parameter.

    Raises:
        TypeError: it is not a Parameter.
    """

    def __init__(self, param: Parameter) -> None:
        super().__init__(auto_prefix=False)
        if not isinstance(param, Parameter):
            raise TypeError(
                f"ParameterUpdate: param must be a Parameter, got {type(param).__name__}."
            )
        self._param = param

    def construct(self, x: TensorLike) -> Any:
        """(...) -> (...), of the Parameter's shape.

        Raises:
            ParameterShapeError, ParameterDtypeError: x does not fit the Parameter.
        """
        self._param.set_data(x if isinstance(x, Tensor) else Tensor(x))
        return x


class Float32Outputs(Cell):
    """A network whose outputs leave it as Float32, for losses after Float16 layers."""

    def __init__(self, network: Cell) -> None:
        super().__init__(auto_prefix=False)
        self._network = network

    def construct(self, *inputs: Tree) -> Any:
        """The network's outputs."""
        return as_float32(self._network(*inputs))


def _check_cell(owner: str, argument: str, value: object) -> None:
    if not isinstance(value, Cell):
        raise TypeError(f"{owner}: {argument} must be a Cell, got {type(value).__name__}.")
