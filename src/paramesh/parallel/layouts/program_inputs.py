"""How the inputs of a program over the global view are laid out over the devices.

By the settings `full_batch` and `dataset_strategy`:

    "data_parallel"     axis 0 is sharded over all devices; an array whose axis 0 they do not divide
                        is replicated
    "full_batch"        replicated
    (strategy, …)       by the strategy or Layout of its place among the inputs that have axes

In several processes each process gives what its own devices hold of an input: under
"data_parallel" its slice of the batch, under "full_batch" the global batch, which must be the same
in all.
Strategies put replicas first, as in MindSpore: with (2, 1) on 8 devices the first half is on
ranks 0, 2, 4 and 6, so two processes of four devices each give the global batch. Arrays that lie
on these devices already, such as outputs of another program, stay where they are. Scalars go where
XLA wants them, but for those that lie over a mesh of the user's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh.array_types import Array
from paramesh.errors import LayoutError
from paramesh.parallel.layouts.own_mesh import is_over, over
from paramesh.parallel.layouts.strategy import layout_of

_logger = logging.getLogger("paramesh")


class ProgramInputs:
    """Lays out inputs over a mesh.

    Args:
        mesh: of all devices.
        strategy: "data_parallel", "full_batch", or a tuple with a strategy or Layout for each
            input.
    """

    def __init__(self, mesh: Mesh, strategy: Any) -> None:
        devices = mesh.devices.ravel().tolist()
        self._mesh = mesh
        self._strategy = strategy
        self._count = len(devices)
        self._local = sum(d.process_index == jax.process_index() for d in devices)
        self._alone = self._local == self._count
        self._device_set = set(devices)
        self._noted: set[int] = set()
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._batch = NamedSharding(mesh, PartitionSpec(mesh.axis_names))

    def place(self, leaves: Sequence[Any], first: int = 0) -> list[Any]:
        """Raw inputs, laid out.

        Args:
            leaves: the inputs.
            first: how many inputs with axes are before these.

        Raises:
            LayoutError: a strategy does not fit its input, there are more inputs than strategies,
                or a process's slice of a batch cannot be sharded over its devices.
        """
        placed: list[Any] = []
        seen = first
        for leaf in leaves:
            if isinstance(leaf, jax.Array) and leaf.sharding.device_set == self._device_set:
                placed.append(over(leaf, self._mesh))
            elif np.ndim(leaf):
                placed.append(self._placed(leaf, seen))
            else:
                placed.append(self._scalar(leaf))
            seen += np.ndim(leaf) > 0
        return placed

    def _scalar(self, leaf: object) -> object:
        if not isinstance(leaf, jax.Array) or is_over(leaf, self._mesh) or not self._alone:
            return leaf
        return jax.device_put(leaf, self._everywhere)

    def _placed(self, leaf: Array, at: int) -> Any:
        sharding = self._sharding(np.shape(leaf), at)
        if self._alone:
            return jax.device_put(leaf, sharding)
        value = np.asarray(leaf)
        if sharding.is_fully_replicated:
            return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])
        return jax.make_array_from_process_local_data(sharding, value)

    def of_global(self, shapes: Sequence[tuple[int, ...]]) -> list[NamedSharding | None]:
        """The shardings of inputs of these global shapes; None for scalars.

        Raises:
            LayoutError: as `place`.
        """
        found: list[NamedSharding | None] = []
        seen = 0
        for shape in shapes:
            if not shape:
                found.append(None)
                continue
            if self._strategy == "data_parallel":
                divides = shape[0] % self._count == 0
                found.append(self._batch if divides else self._everywhere)
            elif self._strategy == "full_batch":
                found.append(self._everywhere)
            else:
                found.append(self._by_strategy(shape, shape, seen))
            seen += 1
        return found

    def sharding_of(self, shape: tuple[int, ...], at: int) -> NamedSharding:
        """The sharding of one input of this global shape, which has axes.

        Args:
            shape: of the input.
            at: its place among the inputs that have axes.

        Raises:
            LayoutError: as `place`.
        """
        if self._strategy in ("data_parallel", "full_batch"):
            found = self.of_global([shape])[0]
            assert found is not None
            return found
        return self._by_strategy(shape, shape, at)

    def _note(self, shape: tuple[int, ...], at: int) -> None:
        """Say once for each size that a batch is replicated."""
        if shape[0] == 1 or shape[0] in self._noted:
            return
        self._noted.add(shape[0])
        shards = math.gcd(shape[0], self._count)
        others = ", 1" * (len(shape) - 1) or ","
        other = f", or shard it with dataset_strategy=(({shards}{others}), …)" if shards > 1 else ""
        _logger.warning(
            "Input %d has shape %s, and the %d devices do not divide its first axis: all %d rows "
            "go to each device, so the work on them is done %d times. Drop the rest of the last "
            "batch (drop_remainder), choose a batch that is a multiple of %d%s.",
            at,
            shape,
            self._count,
            shape[0],
            self._count,
            self._count,
            other,
        )

    def _sharding(self, shape: tuple[int, ...], at: int) -> NamedSharding:
        if self._strategy == "full_batch":
            return self._everywhere
        if self._strategy == "data_parallel":
            if self._alone and shape[0] % self._count:
                self._note(shape, at)
                return self._everywhere
            if shape[0] % self._local:
                raise LayoutError(
                    f"This process's slice of input {at} has shape {shape}; its first axis, the "
                    f"batch, must be a multiple of the {self._local} devices here. Drop the rest "
                    "of the last batch (drop_remainder), or set full_batch=True."
                )
            return self._batch
        # In several processes only slices are known; the global shape comes from them.
        global_shape = shape if self._alone else tuple(n * self._count for n in shape)
        return self._by_strategy(shape, global_shape, at)

    def _by_strategy(
        self, shape: tuple[int, ...], global_shape: tuple[int, ...], at: int
    ) -> NamedSharding:
        if at >= len(self._strategy):
            raise LayoutError(
                f"dataset_strategy {self._strategy} has {len(self._strategy)} entries, but input "
                f"{at} of shape {shape} is an array too; give an entry for each input that has "
                "axes."
            )
        try:
            layout = layout_of(self._strategy[at], global_shape, self._count, replicas="first")
        except (LayoutError, TypeError) as error:
            raise type(error)(f"dataset_strategy of input {at}: {error}") from None
        return layout.sharding(self._mesh)
