"""DistributedGradReducer: gradients added up over devices, in training Cells of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paramesh.nn.cell import Cell
from paramesh.parameter import Parameter
from paramesh.state import placement
from paramesh.state.placement import OTHER_WORLD, WORLD
from paramesh.tensor.base import Tensor, raw, wrap


class DistributedGradReducer(Cell):
    """`cell(gradients)` is the sum or mean of every gradient over the devices of data_parallel.

    For training Cells that do not come from `TrainOneStepCell`, which does it by itself. The
    gradients of `layerwise_parallel` Parameters stay as they are. In the other modes gradients are
    of the full batch already, and stay as they are.

    Args:
        parameters: the Parameters, in the order in which their gradients come.
        mean: divide the sums by `degree`; None for the setting `gradients_mean`.
        degree: None for the number of devices.
        fusion_type: MindSpore's; checked, and has no effect: see the setting `comm_fusion`.
        group: only the group of all devices.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a degree below 1, or another group.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        mean: bool | None = None,
        degree: int | None = None,
        fusion_type: int = 1,
        group: str = WORLD,
    ) -> None:
        super().__init__(auto_prefix=False)
        name = "DistributedGradReducer"
        listed = tuple(parameters)
        for param in listed:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"{name}: parameters must be Parameters, got {type(param).__name__}."
                )
        if mean is not None and not isinstance(mean, bool):
            raise TypeError(f"{name}: mean must be True, False or None, got {mean!r}.")
        for what, value in (("degree", degree), ("fusion_type", fusion_type)):
            if (value is not None or what != "degree") and type(value) is not int:
                raise TypeError(f"{name}: {what} must be an int, got {value!r}.")
        if degree is not None and degree < 1:
            raise ValueError(f"{name}: degree={degree} must be at least 1.")
        if group not in (WORLD, OTHER_WORLD):
            raise ValueError(
                f"{name}: group={group!r}, but gradients are added up over all devices; for "
                "others use ops.AllReduce."
            )
        # Not registered: they belong to the network.
        self.__dict__["_reduced"] = listed
        self.mean = mean
        self.degree = degree

    def construct(self, grads: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The gradients of the full batch."""
        params = self._reduced
        if len(grads) != len(params):
            raise ValueError(
                f"DistributedGradReducer: {len(grads)} gradients for {len(params)} Parameters."
            )
        total = placement.current().reduce_gradients(
            params, [raw(grad) for grad in grads], self.mean, self.degree
        )
        return tuple(map(wrap, total))
