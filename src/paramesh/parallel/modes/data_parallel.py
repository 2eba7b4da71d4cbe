"""data_parallel and hybrid_parallel: every device runs the program on its shard of the batch.

As in MindSpore, each device computes as if it were alone: batch statistics are those of its shard,
and the devices meet only where gradients are summed (`TrainOneStepCell`, `DistributedGradReducer`)
or where the program says so (the collective operators). A compiled program is one XLA program over
all devices (`jax.shard_map`). Outside of programs devices meet where each process has one
(`meeting.py`); a process of several needs a program for it.

What crosses the border of a program:
    Parameters  are the same on all devices, but for those with `layerwise_parallel=True`
    inputs      arrays with axes are sharded along the first one into a shard for each device of
                this process, or are replicated with `full_batch`; scalars go to all
    outputs     arrays with axes are joined along the first one (those of this process's devices),
                or are those of this process's first device with `full_batch`;
                float scalars, such as a loss, are the mean over all devices; other scalars are
                those of the first device
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh import context
from paramesh._compat.jax import broadcast_one_to_all
from paramesh.array_types import Array
from paramesh.dtype import x64
from paramesh.errors import ContextError, LayoutError, ProgramNeededError
from paramesh.parallel.modes import meeting
from paramesh.parallel.modes.gradient_reduction import Fusion
from paramesh.parallel.modes.meeting import DEVICES
from paramesh.parallel.modes.parallel_optimizer import Divider, SplitState
from paramesh.parallel.modes.per_device import PerDevice
from paramesh.parallel.processes import groups
from paramesh.parameter import Parameter
from paramesh.sampling.recipe import Recipe, compute_many
from paramesh.state.placement import ImplicitValue, Participants, Placement

_REPLICATED = PartitionSpec()
_SHARDED = PartitionSpec(DEVICES)


def differs(state: Any) -> bool:
    """Whether every device has something else of a state."""
    return isinstance(state, PerDevice | SplitState) or (
        isinstance(state, ImplicitValue) and state.per_device
    )


class DataParallel(Placement):
    """Parameters on every device, inputs sharded along the batch.

    Args:
        devices: of all processes, by rank.
        mode: `data_parallel` or `hybrid_parallel`.
    """

    per_device = True
    needs_programs = True

    def __init__(self, devices: Sequence[Any], mode: str) -> None:
        settings = context.get_auto_parallel_context
        strategy = settings("dataset_strategy")
        if isinstance(strategy, tuple):
            raise ContextError(
                f"dataset_strategy={strategy} is for the semi-automatic mode; {mode} shards inputs "
                "along the batch, or gives each device the global batch with full_batch=True."
            )
        self.mesh = Mesh(np.array(devices), (DEVICES,))
        self.mode = mode
        self.key = (mode, tuple(d.id for d in devices))
        self.devices = tuple(devices)
        self.count = len(devices)
        self.local = sum(d.process_index == jax.process_index() for d in devices)
        self._everywhere = NamedSharding(self.mesh, _REPLICATED)
        self._sharded = NamedSharding(self.mesh, _SHARDED)
        self._alone = self.local == self.count
        self._constant: tuple[Any, Any] | None = None
        self._broadcast = settings("parameter_broadcast")
        self._mean = settings("gradients_mean")
        self._fp32 = settings("gradient_fp32_sync")
        self._fusion = Fusion(settings("comm_fusion"))
        #: Parameters that eager code has from process 0.
        self._sent: weakref.WeakSet[Any] = weakref.WeakSet()
        self._full_batch = settings("full_batch") or strategy == "full_batch"
        if settings("enable_parallel_optimizer") and self.count > 1:
            self.division = self.key

    # Where Parameters live.

    def adopt(self, params: Sequence[Any]) -> None:
        """Give layerwise-parallel Parameters an array with a row for each device.

        Raises:
            ContextError: one has values from programs over other devices.
        """
        super().adopt(params)
        for param in params:
            slot = param._slot
            if not param.layerwise_parallel or (slot and isinstance(slot.pool, PerDevice)):
                continue
            if slot is not None:
                slot.pool.dissolve()
            PerDevice(param, self._sharded, self.devices)

    def materialise(self, params: Sequence[Any], recipes: Sequence[Recipe]) -> list[Any]:
        """Every device's own copy, made from the recipe.

        Where another process has a say in the values they stay this process's until the first
        program: a process that reads alone must not wait for the others.
        """
        arrays = compute_many(recipes)
        if self._broadcast and not self._alone:
            return list(arrays)
        return [self._spread(array) for array in arrays]

    def is_placed(self, states: Sequence[Any], arrays: Sequence[Any]) -> bool:
        """Whether all devices have them."""
        everywhere = self._everywhere
        for i, array in enumerate(arrays):
            sharding = array.sharding
            if sharding is not everywhere and sharding != everywhere and not differs(states[i]):
                return False
        return True

    def reshard(self, states: Sequence[Any], arrays: list[Any]) -> None:
        """Copy to all devices what is not there."""
        for i, array in enumerate(arrays):
            if not self.is_placed(states[i : i + 1], (array,)):
                arrays[i] = self._spread(array, states[i].name)

    def _spread(self, array: Array, name: str = "") -> Any:
        if not array.sharding.is_fully_replicated:
            raise ContextError(
                f"Parameter '{name}' is sharded over several devices ({array.sharding}), which "
                f"{self.mode} cannot use. Make the network again under this setting."
            )
        if self._alone:
            return jax.device_put(array, self._everywhere)
        value = np.asarray(array.addressable_data(0))
        if self._broadcast:
            value = broadcast_one_to_all(value)
        return jax.make_array_from_process_local_data(self._everywhere, value, array.shape)

    def shape(self, state: Any) -> tuple[int, ...]:
        """The shape of the array over all devices."""
        if not differs(state):
            return state.shape
        if isinstance(state, ImplicitValue):
            return (self.count * state.shape[0], *state.shape[1:])
        return state.global_shape

    def divide(self, params: Sequence[Any]) -> Divider | None:
        """Over all devices with `enable_parallel_optimizer`, if every Parameter takes part."""
        if self.division is None:
            return None
        if not all(p.parallel_optimizer and not p.layerwise_parallel for p in params):
            return None
        size = sum(p.size for p in params)
        return Divider(size, self._sharded, self.devices)

    # Programs.

    def place_inputs(self, leaves: list[Any]) -> list[Any]:
        """Shard arrays along the first axis, one shard for each device of this process.

        With `full_batch` they are replicated.

        Raises:
            LayoutError: the first axis cannot be sharded evenly.
        """
        placed = list(leaves)
        with_axes = [i for i, leaf in enumerate(leaves) if np.ndim(leaf)]
        if self._full_batch:
            for i in with_axes:
                placed[i] = self.to_all(leaves[i])
            return placed
        for i in with_axes:
            shape = np.shape(leaves[i])
            if shape[0] % self.local:
                raise LayoutError(
                    f"{self.mode}: input {i} has shape {shape}; its first axis, the batch, must be "
                    f"a multiple of the {self.local} devices that share it. Drop the rest of the "
                    "last batch (drop_remainder), or make an array that is not a batch a Parameter."
                )
        if self._alone:
            shards = jax.device_put([_at_hand(leaves[i]) for i in with_axes], self._sharded)
        else:
            shards = [self.joined_shards(leaves[i]) for i in with_axes]
        for i, shard in zip(with_axes, shards, strict=True):
            placed[i] = shard
        return placed

    def constant(self, scalar: object) -> Any:
        """A copy on every device: JAX would make them anew at every call."""
        if not self._alone:
            return scalar
        if self._constant is None or self._constant[0] is not scalar:
            self._constant = (scalar, jax.device_put(scalar, self._everywhere))
        return self._constant[1]

    def to_all(self, leaf: Any) -> Any:
        """The same values on every device; every process gives them."""
        if self._alone:
            return jax.device_put(_at_hand(leaf), self._everywhere)
        shape = np.shape(leaf)
        return jax.make_array_from_process_local_data(self._everywhere, np.asarray(leaf), shape)

    def joined_shards(self, leaf: Any) -> Any:
        """An array over all devices, of the shards of this process's, joined along the first."""
        if self._alone:
            return jax.device_put(leaf, self._sharded)
        shape = np.shape(leaf)
        global_shape = (shape[0] // self.local * self.count, *shape[1:])
        return jax.make_array_from_process_local_data(self._sharded, np.asarray(leaf), global_shape)

    def enclose(
        self,
        body: Callable[..., Any],
        states: Sequence[Any],
        written: Callable[[], Sequence[Any]],
    ) -> Callable[..., Any]:
        """Run the body on every device, with its shard of the inputs."""
        kinds: list[bool] = []

        def of_one(values: list[Any], leaves: list[Any], zero: Array) -> Any:
            arrays, results = body(values, leaves, zero)
            kinds[:] = [bool(a.ndim) for a in arrays]
            shards = [a for a in arrays if a.ndim]
            scalars = [_same_everywhere(a) for a in arrays if not a.ndim]
            own = [differs(state) for state in written()]
            rows = [v for v, mine in zip(results, own, strict=False) if mine]
            shared = [v for v, mine in zip(results, own, strict=False) if not mine]
            return shards, scalars, rows, shared

        def over_all(values: list[Any], leaves: list[Any], zero: Array) -> Any:
            state_specs = [_SHARDED if differs(s) else _REPLICATED for s in states]
            batch_spec = _REPLICATED if self._full_batch else _SHARDED
            batch = [batch_spec if np.ndim(leaf) else _REPLICATED for leaf in leaves]
            # check_vma=False: what is said to be the same on all devices is taken to be so, and a
            # gradient is that of one device's shard of the batch until it is summed.
            program = jax.shard_map(
                of_one,
                mesh=self.mesh,
                in_specs=(state_specs, batch, _REPLICATED),
                out_specs=(batch_spec, _REPLICATED, _SHARDED, _REPLICATED),
                check_vma=False,
            )
            shards, scalars, rows, shared = map(iter, program(values, leaves, zero))
            arrays = [next(shards) if has_axes else next(scalars) for has_axes in kinds]
            own = [differs(state) for state in written()]
            return arrays, [next(rows) if mine else next(shared) for mine in own]

        return over_all

    def participants(self, group: str, operator: str) -> Participants:
        """Who takes part in a collective operator.

        Raises:
            ValueError: there is no group of that name.
            ProgramNeededError: outside of programs, where this process has several devices.
            ContextError: processes do not mean the same group.
        """
        if not self.meets:
            raise self._no_meeting(f"ops.{operator}")
        groups.check_alike(group)
        return Participants(DEVICES, groups.partition(group), self.count)

    @property
    def meets(self) -> bool:
        """Whether a program runs, or each process has one device."""
        return self.local == 1 or meeting.inside()

    def meet(
        self,
        operator: str,
        key: Hashable,
        compute: Callable[..., Sequence[Any]],
        arrays: Sequence[Any],
    ) -> list[Any]:
        """In the running program, or as one of its own: see `meeting.py`."""
        if meeting.inside():
            return list(compute(*arrays))
        if self.local > 1:
            raise self._no_meeting(operator)
        if not all(map(meeting.is_known, arrays)):
            raise ProgramNeededError(
                f"{operator}: devices meet where values are known, and inside of a transform "
                "(jax.jit, vmap, scan, cond, a Cell with recompute()) they are not, outside of "
                "compiled programs. Put it all under paramesh.jit, or use graph mode: "
                "paramesh.set_context(mode=paramesh.GRAPH_MODE).",
                alike=True,
            )
        with x64(*arrays):
            return meeting.run(self.mesh, operator, key, compute, arrays)

    def _no_meeting(self, operator: str) -> ProgramNeededError:
        return ProgramNeededError(
            f"{operator}: outside of compiled programs this process computes with the batch of its "
            f"{self.local} devices together, so there are no values of each that could meet. "
            "Start one process for each device (paramesh launch -n "
            f"{self.count} --devices-per-process 1), or put the step under paramesh.jit, or use "
            "graph mode: paramesh.set_context(mode=paramesh.GRAPH_MODE)."
        )

    def seen(self, array: Array) -> Any:
        """The array of this process's one device, where other processes have others."""
        if self.local == 1 and not array.is_fully_addressable:
            return meeting.own_shard(array)
        return array

    def before_eager(self, params: Callable[[], Iterable[Any]]) -> None:
        """Give this process the values of process 0, once, with `parameter_broadcast`."""
        if not self._broadcast or self._alone or self.local > 1:
            return
        new = [
            p for p in params() if p not in self._sent and not p.layerwise_parallel and not p._slot
        ]
        if new:
            self._sent.update(new)
            values = broadcast_one_to_all([np.asarray(self.seen(p._concrete())) for p in new])
            for param, value in zip(new, values, strict=True):
                param._store(jnp.asarray(np.asarray(value)))

    def outputs(self, arrays: list[Any]) -> list[Any]:
        """This process's slice of every output."""
        return arrays if self._alone else [_local(array) for array in arrays]

    def at_hand(self, array: Array) -> np.ndarray[Any, Any]:
        """This process's slice of an array, in its memory."""
        if self._alone or array.is_fully_replicated:
            return np.asarray(array)
        return np.concatenate([np.asarray(shard.data) for shard in _in_order(array)])

    # Gradients.

    def reduce_gradients(
        self,
        params: Sequence[Parameter],
        grads: Sequence[Any],
        mean: bool | None = None,
        degree: int | None = None,
    ) -> list[Any]:
        """Sums (means with `gradients_mean`) over the devices, but of layerwise Parameters."""
        results = list(grads)
        shared = [i for i, param in enumerate(params) if not param.layerwise_parallel]
        factor = self.factor(mean, degree)
        totals = self.meet(
            "The sum of gradients over devices",
            ("gradients", factor, self._fp32, self._fusion.key),
            lambda *given: self._totals(given, factor, None),
            [grads[i] for i in shared],
        )
        for i, value in zip(shared, totals, strict=True):
            results[i] = value
        return results

    def reduce_here(
        self, grads: Sequence[Any], mean: bool | None = None, degree: int | None = None
    ) -> list[Any]:
        """This process's slice of what `reduce_gradients` gives: that is their sum."""
        mine: list[list[int]] | None = None
        if not self._alone:
            by_process: dict[int, list[int]] = {}
            for i, device in enumerate(self.devices):
                by_process.setdefault(device.process_index, []).append(i)
            mine = list(by_process.values())
        return self._totals(grads, self.factor(mean, degree), mine)

    def factor(self, mean: bool | None = None, degree: int | None = None) -> float | None:
        """What sums over devices are multiplied by; None for nothing.

        Raises:
            ContextError: nobody asked for means of gradients that are all of the same batch.
        """
        if mean is None and not self._mean and self._full_batch and self.count > 1:
            raise ContextError(
                f"set_auto_parallel_context: with full_batch=True each of the {self.count} devices "
                f"of {self.mode} computes the gradients of the whole batch, and with "
                f"gradients_mean=False their sum would be {self.count} times those. Set "
                "gradients_mean=True; or leave full_batch=False, so that the devices share the "
                "batch. nn.DistributedGradReducer(..., mean=False) adds them up all the same."
            )
        averages = self._mean if mean is None else mean
        return 1.0 / (degree or self.count) if averages else None

    def _totals(
        self, grads: Sequence[Any], factor: float | None, among: list[list[int]] | None
    ) -> list[Any]:
        def total(array: Array) -> Any:
            if among is None or self.local > 1:
                array = lax.psum(array, DEVICES, axis_index_groups=among)
            return array if factor is None else array * jnp.asarray(factor, array.dtype)

        totals = self._fusion.summed([self._widened(grad) for grad in grads], total)
        return [value.astype(grad.dtype) for grad, value in zip(grads, totals, strict=True)]

    def _widened(self, grad: Array) -> Any:
        narrow = np.dtype(grad.dtype).itemsize < 4
        return grad.astype(jnp.float32) if narrow and self._fp32 else grad


def _same_everywhere(scalar: Array) -> Any:
    if jnp.issubdtype(scalar.dtype, jnp.floating):
        return lax.pmean(scalar, DEVICES)
    return scalar


def _at_hand(leaf: Any) -> Any:
    """The values of an array on one CPU: JAX splits them faster from numpy than from a device."""
    if not isinstance(leaf, jax.Array) or leaf.dtype == jnp.bfloat16:
        return leaf
    array: Any = leaf
    devices = array.sharding.device_set
    # One that is still being computed is waited for: it is mostly a batch that is being copied.
    cpu = len(devices) == 1 and next(iter(devices)).platform == "cpu"
    return np.asarray(array) if cpu else array


def _local(array: Array) -> Any:
    if array.is_fully_replicated:
        return array.addressable_data(0)
    shards = _in_order(array)
    if len(shards) == 1:
        return shards[0].data
    return jnp.concatenate([jnp.asarray(np.asarray(shard.data)) for shard in shards])


def _in_order(array: Array) -> list[Any]:
    return sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
