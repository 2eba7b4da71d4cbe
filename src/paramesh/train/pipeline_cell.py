"""PipelineCell: a batch in micro-batches, which go through the stages of a network one by one.

The value is the sum of what the network gives for each micro-batch, and gradients are those of this
sum, as in MindSpore: with a loss that is a mean over rows, `micro_size` times those of the batch.
`TrainOneStepCell(…, sens=1 / micro_size)`, or a learning rate divided by it, make up for that.

Without stages (`pipeline_stages` is 1) the numbers are the same, with the micro-batches one after
another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paramesh import context
from paramesh.array_types import Tree
from paramesh.errors import ContextError
from paramesh.nn.cell import Cell
from paramesh.parameter import Parameter
from paramesh.state import placement
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.trees import unpack
from paramesh.train.accumulation import in_rows, summed
from paramesh.transforms import scan
from paramesh.transforms.loop_values import runs_eagerly


class PipelineCell(Cell):
    """`cell(*inputs)` is the sum of what a network gives for each micro-batch.

    Micro-batch i of m has the rows i n/m to (i + 1) n/m of every input.

    Args:
        network: returns a Tensor, such as the loss.
        micro_size: how many micro-batches; at least as many as stages.
        stage_config: {name of a Cell in `network`, as `cells_and_names()` has it: its stage}.
        segment_config: MindSpore's, for interleaved schedules; only None.

    Raises:
        TypeError: `network` is not a Cell, or `micro_size` is no int.
        ValueError: `micro_size` is not positive, or a `segment_config`.
        KeyError: `stage_config` names a Cell that is not there.
    """

    def __init__(
        self,
        network: Cell,
        micro_size: int,
        stage_config: Mapping[str, int] | None = None,
        segment_config: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        name = type(self).__name__
        if not isinstance(network, Cell):
            raise TypeError(f"{name}: network must be a Cell, got {type(network).__name__}.")
        if isinstance(micro_size, bool) or not isinstance(micro_size, int):
            raise TypeError(f"{name}: micro_size must be an int, got {micro_size!r}.")
        if micro_size < 1:
            raise ValueError(f"{name}: micro_size must be at least 1, got {micro_size}.")
        if segment_config:
            raise ValueError(
                f"{name}: segment_config is for MindSpore's interleaved schedules, which are not "
                "supported. Leave it out, and give each stage Cells that follow one another."
            )
        self.network = network
        self.micro_size = micro_size
        if stage_config:
            _assign(name, network, stage_config)

    def construct(self, *inputs: Tree) -> Any:
        """The sum over the micro-batches.

        Args:
            *inputs: Tensors with axes are split along the first one; all else goes to every
                micro-batch.

        Raises:
            ValueError: `micro_size` does not divide a first axis or is below the stages, or a
                stage has no Cells.
            ContextError: stages in PyNative mode.
            TypeError: an input is a container of Tensors.
        """
        split, micro_batches = self._micro_batches(inputs)

        def of_micro_batch(total: None, micro_batch: list[Tensor]) -> tuple[None, Any]:
            return None, self.network(*_filled(inputs, split, micro_batch))

        _, parts = scan(of_micro_batch, None, micro_batches, self.micro_size)
        return self._value(parts)

    def _value(self, parts: object) -> Any:
        """The sum of what the network gave for the micro-batches."""
        cells = tuple(cell._cache_key() for _, cell in self.cells_and_names())
        kind = f"{id(self)} {hash(cells)}"
        return wrap(placement.current().value_of(kind, raw(_sum_of(parts))))

    def gradients_in_parts(
        self,
        compute: Callable[..., tuple[Any, Sequence[Any]]],
        inputs: Sequence[Any],
        params: Sequence[Parameter],
        sens: Tree,
        steps: int = 1,
    ) -> tuple[Any, list[Any]]:
        """(the value, raw gradients by Parameters), one micro-batch at a time.

        It is what `transforms.gradients` calls instead of differentiating `construct`.

        Args:
            compute: (network, inputs, sens) -> (its value, raw gradients by `params`).
            inputs: of the batch.
            params: whose gradients there are.
            sens: what the gradients of each micro-batch start from; None for ones.
            steps: over how many such batches, one after another, value and gradients are averaged.

        Raises:
            ValueError: as `construct`.
        """
        count = steps * self.micro_size
        split, micro_batches = self._micro_batches(inputs, steps)
        start = wrap(placement.current().sensitivity(raw(Tensor(1.0) if sens is None else sens)))

        def of_micro_batch(*micro_batch: Tensor) -> tuple[Any, list[Any]]:
            values = _filled(inputs, split, list(micro_batch))
            value, grads = compute(self.network, values, start)
            return value, [wrap(grad) for grad in grads]

        values, grads = summed(of_micro_batch, micro_batches, params, count, steps)
        value = self._value(values)
        return value if steps == 1 else value / steps, [raw(grad) for grad in grads]

    def _micro_batches(
        self, inputs: Sequence[Any], steps: int = 1
    ) -> tuple[list[int], list[Tensor]]:
        """(which inputs are split, those as (micro-batches, rows, …))."""
        stages = context.get_auto_parallel_context("pipeline_stages")
        if self.micro_size < stages:
            raise ValueError(
                f"{type(self).__name__}: micro_size={self.micro_size} is below pipeline_stages="
                f"{stages}, so some stages would never work. Give at least {stages} micro-batches."
            )
        if stages > 1 and runs_eagerly():
            raise ContextError(
                f"{type(self).__name__}: pipeline_stages={stages} needs programs, and in PyNative "
                "mode operators run one by one. Use set_context(mode=GRAPH_MODE), or paramesh.jit."
            )
        given = {cell.pipeline_stage for _, cell in self.network.cells_and_names()}
        empty = [stage for stage in range(stages) if stages > 1 and stage not in given]
        if empty:
            raise ValueError(
                f"{type(self).__name__}: no Cell of {type(self.network).__name__} has "
                f"pipeline_stage={empty[0]}, but pipeline_stages={stages}. Set pipeline_stage of "
                "its Cells, so that every stage has some, or give a stage_config: "
                "paramesh.balanced_stages finds one."
            )
        for i, value in enumerate(inputs):
            if not isinstance(value, Tensor) and unpack(value)[0]:
                raise TypeError(
                    f"{type(self).__name__}: input {i} is a {type(value).__name__} with Tensors, "
                    "which cannot be split into micro-batches. Pass each Tensor by itself."
                )
        placement.current().follow_data(_around_stages(self.network))
        split = [i for i, value in enumerate(inputs) if isinstance(value, Tensor) and value.ndim]
        what = f"{type(self).__name__}: micro_size={self.micro_size}"
        if steps > 1:
            what += f" with grad_accumulation_step={steps}"
        count = steps * self.micro_size
        return split, [wrap(in_rows(raw(inputs[i]), count, i, what)) for i in split]


class OverSteps:
    """A PipelineCell with gradient accumulation: the mean over some batches, as one batch.

    Args:
        cell: the PipelineCell.
        steps: how many batches a batch has.
    """

    def __init__(self, cell: PipelineCell, steps: int) -> None:
        self._cell, self._steps = cell, steps

    def __call__(self, *inputs: Tree) -> Any:
        """The mean."""
        return self._cell(*inputs) / self._steps

    def gradients_in_parts(
        self,
        compute: Callable[..., tuple[Any, Sequence[Any]]],
        inputs: Sequence[Any],
        params: Sequence[Parameter],
        sens: Tree,
    ) -> tuple[Any, list[Any]]:
        """As that of PipelineCell."""
        return self._cell.gradients_in_parts(compute, inputs, params, sens, self._steps)


class Pipeline(PipelineCell):
    """PipelineCell under the name that it has in `mindspore.parallel.nn`."""


class GradAccumulationCell(PipelineCell):
    """PipelineCell without stages of its own: micro-batches one after another.

    `Model.train` of it divides gradients by `micro_size`, as of a PipelineCell.

    Args:
        network: returns a Tensor, such as the loss.
        micro_size: how many micro-batches.

    Raises:
        TypeError: `network` is not a Cell, or `micro_size` is no int.
        ValueError: `micro_size` is not positive.
    """

    def __init__(self, network: Cell, micro_size: int) -> None:
        super().__init__(network, micro_size)


class GradAccumulation(GradAccumulationCell):
    """GradAccumulationCell under the name that it has in `mindspore.parallel.nn`."""


class PipelineGradReducer(Cell):
    """`cell(gradients)` is the gradients divided by a scale.

    In MindSpore it adds up what the micro-batches gave; here gradients are sums already.

    Args:
        parameters: whose gradients they are; checked, and not used.
        scale_sense: what gradients are divided by.
        opt_shard: MindSpore's, of no effect: the setting `enable_parallel_optimizer` decides.
    """

    def __init__(
        self, parameters: Sequence[Parameter], scale_sense: float = 1.0, opt_shard: object = None
    ) -> None:
        super().__init__(auto_prefix=False)
        for param in parameters:
            if not isinstance(param, Parameter):
                raise TypeError(
                    "PipelineGradReducer: parameters must be Parameters, got "
                    f"{type(param).__name__}."
                )
        self.scale_sense = Parameter(Tensor(scale_sense), name="scale_sense", requires_grad=False)

    def construct(self, grads: Sequence[Tensor]) -> tuple[Any, ...]:
        """The gradients, divided."""
        return tuple((grad / self.scale_sense).astype(grad.dtype) for grad in grads)


def micro_batches_of(network: Cell) -> int:
    """Over how many micro-batches a network adds up its loss; 1 without a PipelineCell.

    Args:
        network: a Cell; the first PipelineCell in it counts.
    """
    cells = (cell for _, cell in network.cells_and_names())
    return next((cell.micro_size for cell in cells if isinstance(cell, PipelineCell)), 1)


def _assign(owner: str, network: Cell, stage_config: Mapping[str, int]) -> None:
    cells = dict(network.cells_and_names())
    cells.setdefault(type(network).__name__, network)
    unknown = [name for name in stage_config if not name or name not in cells]
    if unknown:
        known = ", ".join(name for name in cells if name)
        raise KeyError(
            f"{owner}: stage_config names {unknown}, which {type(network).__name__} does not have. "
            f"Its Cells: {known}."
        )
    for name, stage in stage_config.items():
        cells[name].pipeline_stage = stage


def _around_stages(network: Cell) -> list[Parameter]:
    """The Parameters of Cells without a stage that have Cells with one inside."""
    found: list[Parameter] = []
    for _, cell in network.cells_and_names():
        inside = [other for _, other in cell.cells_and_names() if other is not cell]
        staged = any(other.pipeline_stage is not None for other in inside)
        if cell.pipeline_stage is None and staged:
            found += cell.get_parameters(expand=False)
    return found


def _filled(inputs: Sequence[Any], split: Sequence[int], parts: Sequence[Any]) -> list[Any]:
    values = list(inputs)
    for i, part in zip(split, parts, strict=True):
        values[i] = part
    return values


def _sum_of(parts: object) -> Any:
    if not isinstance(parts, Tensor):
        raise TypeError(
            "PipelineCell adds up what its network returns, which has to be one Tensor, such as "
            f"the loss; got {type(parts).__name__}."
        )
    return parts.sum(axis=0)
