"""What MindSpore's optimizers have inside, for subclasses whose `construct` is of MindSpore's kind.

Such a `construct` goes over its Parameters with `self.hyper_map` or `self.map_`, counts its steps
with `self.assignadd`, and asks which devices update which Parameters, as MindSpore's own do.
"""

from __future__ import annotations

import numpy as np

from paramesh.array_types import Tree
from paramesh.dtype import int32
from paramesh.nn.inner import Inner
from paramesh.ops.composite import HyperMap, Map
from paramesh.ops.state import AssignAdd
from paramesh.tensor.base import Tensor


class Members:
    """Attributes of an optimizer, each made when it is asked for."""

    map_ = Inner(lambda optimizer: Map())
    map_reverse = Inner(lambda optimizer: Map(None, True))
    hyper_map = Inner(lambda optimizer: HyperMap())
    hyper_map_reverse = Inner(lambda optimizer: HyperMap(None, True))
    assignadd = Inner(lambda optimizer: AssignAdd())
    global_step_increase_tensor = Inner(lambda optimizer: Tensor(np.ones(1, np.int32), int32))
    param_length = Inner(lambda optimizer: len(optimizer.parameters))
    need_scale = Inner(lambda optimizer: optimizer.loss_scale != 1.0)
    exec_weight_decay = Inner(lambda optimizer: any(optimizer.decay_flags))
    #: Every device updates all Parameters: their state is sharded where there are several.
    use_parallel = Inner(lambda optimizer: False)
    optim_filter = Inner(lambda optimizer: (True,) * len(optimizer.parameters))

    def _grad_sparse_indices_deduplicate(self, gradients: Tree) -> Tree:
        """The gradients: rows of sparse ones are added where they are used."""
        return gradients

    def _set_base_target(self, value: str) -> None:
        """What `target` is set to."""
        setattr(self, "target", value)  # noqa: B010
