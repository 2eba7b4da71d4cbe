"""Parameter: a Tensor with a name, a recipe, a value and a place.

Its value, and the stages of its life, are in `value.py`; here is the interface that MindSpore gives
it.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
from jax.sharding import NamedSharding, PartitionSpec

from paramesh import context
from paramesh._compat.jax import eval_context
from paramesh.dtype import DTypeLike, to_dtype
from paramesh.errors import ContextError, ParameterShapeError
from paramesh.initializer.factory import InitLike, initializer
from paramesh.parameter.attributes import Flag, IntAttribute, TrainedFlag, attribute, attributes_of
from paramesh.parameter.data import ParameterInput, check_storable, first_contents, next_contents
from paramesh.parameter.hooks import GradientHook, HookHandle
from paramesh.parameter.names import DEFAULT_NAME, check_name, renamed
from paramesh.parameter.server_settings import ServerSettings, server_settings
from paramesh.parameter.slicing import (
    LayoutLike,
    LayoutTuple,
    check_layout,
    check_strategy,
    rank_slice,
)
from paramesh.parameter.value import ParameterValue
from paramesh.providers import providers
from paramesh.sampling.recipe import Recipe
from paramesh.state import storage, trace_scope, tracing
from paramesh.tensor.base import PickledTensor, Tensor, as_value, unflatten, unpickle
from paramesh.tensor.promotion import cast


class Parameter(ParameterValue):
    """A Tensor that belongs to a network: named, lazy, updated by training.

    Args:
        default_input: a Tensor, an `initializer(...)`, an int (Int32), a float (Float32), an
            ndarray (dtype kept), or a list of numbers. Data is copied; an initializer's recipe is
            taken over and not run.
        name: at most 1024 characters; stripped. Leave it out for an attribute of a Cell: the Cell
            gives the attribute's name. Without either it is `Parameter`.
        requires_grad: whether training updates it.
        layerwise_parallel: one value per device: neither broadcast nor are gradients aggregated.
        parallel_optimizer: whether its optimizer state may be split over devices.
        storage_format: '' only: XLA chooses the memory layout of arrays.
        device: None, or the name of the backend that JAX runs on ("CPU", "GPU", "TPU").

    Raises:
        TypeError: data that is not an array of numbers, or a flag that is not a bool.
        ValueError: a bool as data, an int outside Int32, a bad name, or another device.
    """

    _instead: ClassVar[Mapping[str, str]] = {
        **Tensor._instead,
        "requires_grad_": "param.requires_grad = False, and make the optimizer of "
        "net.trainable_params()",
    }

    # The slots of flags that `_cache_key` reads without the descriptors.
    _requires_grad: bool
    _layerwise_parallel: bool
    _parallel_optimizer: bool

    # Every attribute, once: what is set at the start, copied, cloned and pickled follows from this.

    requires_grad = TrainedFlag(True, trace_static=True)
    layerwise_parallel = Flag(False, trace_static=True)
    parallel_optimizer = Flag(True, trace_static=True)
    parallel_optimizer_comm_recompute = Flag(False)
    comm_fusion = IntAttribute(1, low=0)
    requires_aggr = Flag(True)
    cache_enable = Flag(False)
    key = IntAttribute(-1)
    #: Whether the data has been handed to a compiled program.
    is_init = Flag(False, state=True)
    #: Whether the data is one shard.
    sliced: bool = attribute(lambda: False, cloned=False)
    unique: bool = attribute(lambda: False, cloned=False)  # type: ignore[assignment]
    #: Whether programs look up rows of it, and never read all of it.
    only_rows: bool = attribute(lambda: False)
    _name: str = attribute(lambda: DEFAULT_NAME)
    _hooks: list[GradientHook] = attribute(list, copied=False)
    #: Its settings on the parameter server.
    _ps: ServerSettings | None = attribute(lambda: None)
    #: The version counter when `requires_grad` became True again (see `state/trained.py`).
    _unfrozen_at: int = attribute(lambda: 0, copied=False)
    _inited: bool = attribute(lambda: False, cloned=False)
    _cache_shape: list[int] = attribute(list)
    #: The layout that the user set, and the one that programs have found.
    _strategy: LayoutLike | tuple[int, ...] | None = attribute(lambda: None)
    _found: Any = attribute(lambda: None, copied=False)
    #: Of optimizer state: the Parameter that it was cloned from.
    _original: weakref.ref[Parameter] | None = attribute(lambda: None)

    def __init__(
        self,
        default_input: ParameterInput,
        name: str | None = None,
        requires_grad: bool = True,
        layerwise_parallel: bool = False,
        parallel_optimizer: bool = True,
        storage_format: str = "",
        device: str | None = None,
    ) -> None:
        _check_place(storage_format, device)
        trace_scope.created(self)
        for slot, declared in attributes_of(type(self)).items():
            self.__dict__[slot] = declared.default()
        self._name = check_name(name)
        value, recipe = first_contents(default_input, self._name)
        self._contents = value if recipe is None else recipe
        self._domain = storage.Domain()
        self.requires_grad = requires_grad
        self.layerwise_parallel = layerwise_parallel
        self.parallel_optimizer = parallel_optimizer

    # Identity.

    @property
    def name(self) -> str:
        """The full name, by which checkpoints and servers know this Parameter."""
        return self._name

    @name.setter
    def name(self, name: str | None) -> None:
        before, self._name = self._name, check_name(name)
        if before not in (DEFAULT_NAME, self._name):  # a Cell names Parameters without a name
            renamed.count += 1
        tracing.bump_version()

    def __eq__(self, other: object) -> Any:
        """Two Parameters are equal if they are the same one; against anything else, elementwise."""
        if isinstance(other, Parameter):
            return self is other
        return super().__eq__(other)

    def __ne__(self, other: object) -> Any:
        if isinstance(other, Parameter):
            return self is not other
        return super().__ne__(other)

    __hash__ = Tensor.__hash__

    def _cache_key(self) -> Hashable:
        return (
            self.shape,
            self.dtype,
            self._requires_grad,
            self._layerwise_parallel,
            self._parallel_optimizer,
            self._name,
            tuple(self._hooks),
            None if self._slot is None else id(self._slot.pool),
            self._strategy,
            self._found,
        )

    def _materialise_slice(self, layout: LayoutTuple) -> None:
        recipe = self._recipe
        assert recipe is not None
        rank = context.get_auto_parallel_context("global_rank")
        index = rank_slice(layout, recipe.shape, rank, self._name)
        with eval_context():
            self._store(recipe.compute(index))

    @property
    def data(self) -> Self:
        """This Parameter itself; to assign to it is `set_data`.

        In MindSpore 2.10 it is a Tensor that shares the Parameter's memory.
        """
        return self

    @data.setter
    def data(self, value: Tensor | float) -> None:
        self.set_data(value)

    @property
    def inited_param(self) -> Parameter | None:
        """The Parameter with data once `init_data()` has run a recipe; None before."""
        return self if self._inited else None

    @property
    def cache_shape(self) -> list[int]:
        """Shape of the device cache of a Parameter on the parameter server."""
        return self._cache_shape

    @cache_shape.setter
    def cache_shape(self, shape: Sequence[int]) -> None:
        if not isinstance(shape, list | tuple):
            raise TypeError(
                f"Parameter '{self._name}': cache_shape must be a list or tuple of ints, "
                f"got {shape!r}."
            )
        self._cache_shape = list(shape)

    @property
    def layout(self) -> LayoutLike | tuple[int, ...] | None:
        """How the Parameter is sharded over devices in the semi-automatic parallel mode.

        Set it to a tuple of ints, the number of shards along each axis, to a `parallel.Layout`, or
        to a NamedSharding or PartitionSpec of JAX's, which become Layouts; None leaves it to the
        operators that use the Parameter. If it was not set, it is the `Layout` that the programs
        compiled so far have found, None before the first.

        Raises:
            TypeError: neither a tuple of ints nor a Layout.
            LayoutError: it does not fit the shape.
        """
        if self._strategy is not None:
            return self._strategy
        return None if self._found is None else self._found.layout

    @layout.setter
    def layout(
        self, layout: LayoutLike | tuple[int, ...] | NamedSharding | PartitionSpec | None
    ) -> None:
        if layout is not None:
            given: LayoutLike | tuple[int, ...] = providers.as_layout(
                layout, self.shape, self._name
            )
            check_strategy(given, self.shape, self._name)
            layout = given
        self._strategy, self._found = layout, None
        tracing.bump_version()

    @property
    def sharding(self) -> Any:
        """Where the array lies; can be set, see `Tensor.sharding`.

        Raises:
            TypeError: set to what says nothing of the kind.
            LayoutError: set to what does not fit the shape or the devices.
        """
        return providers.sharding_of(self)

    @sharding.setter
    def sharding(self, place: Any) -> None:
        providers.set_place(self, place)

    def to_device(self, place: Any) -> Self:
        """Bring the Parameter to a device, or over several; returns self.

        A Parameter that has no data yet computes its recipe there: each device its part.

        Args:
            place: a device, a `jax.sharding.Sharding`, a PartitionSpec (of the mesh of
                `jax.set_mesh`), a `parallel.Layout`, or a tuple of ints: into how many parts each
                axis is sharded.

        Raises:
            TypeError: none of these. LayoutError: it does not fit the shape or the devices.
            ParameterStateError: in a program.
        """
        providers.move(self, place)
        return self

    @property
    def is_param_ps(self) -> bool:
        """True once `set_param_ps` has put it on the parameter server."""
        return self._ps is not None

    @property
    def init_in_server(self) -> bool:
        """True if its values are created on the server."""
        return self._ps is not None and self._ps["init_in_server"]

    def init_data(self, layout: LayoutTuple | None = None, set_sliced: bool = False) -> Parameter:
        """Run the recipe now, where the Parameter lives, and return the Parameter.

        Args:
            layout: (device matrix, tensor map, slice shape, …) as in MindSpore: compute only
                the slice of this rank (`global_rank` of the parallel context), and take its shape.
                A Parameter that has data is not changed.
            set_sliced: record that the data is one shard.

        Raises:
            TypeError: `layout` is not a tuple.
            ValueError: `layout` has fewer than 3 entries or does not fit the shape.
        """
        declared = self._recipe is not None
        if layout is not None and declared:
            check_layout(layout, self._name)
            self._materialise_slice(layout)
        self._concrete()
        if declared:
            self.mark_inited()
        if set_sliced:
            self.sliced = True
        return self

    def mark_inited(self) -> None:
        """Record that `init_data` has run the recipe."""
        self._inited = True

    # Writing.

    def set_data(self, data: Tensor | float, slice_shape: bool = False) -> Self:
        """Give the Parameter other data and return it.

        The element type stays: data whose type comes earlier in the order bool, int8, uint8,
        int16, int32, int64, float16, float32, float64 is cast, a later one is rejected (MindSpore
        1.x). Nothing is shared with `data` afterwards.

        Args:
            data: a Tensor, an `initializer(...)` (its recipe replaces the value), an int or a
                float (for a Parameter of shape ()).
            slice_shape: allow another shape, and record the Parameter as `sliced`.

        Raises:
            TypeError: `data` is of another kind; ParameterDtypeError: its type is rejected.
            ParameterShapeError: another shape, without `slice_shape`.
        """
        incoming = next_contents(data, self._name, self.dtype)
        if not slice_shape and incoming.shape != self.shape:
            raise ParameterShapeError(
                f"Parameter '{self._name}': set_data was given shape {incoming.shape}, but the "
                f"Parameter has shape {self.shape}. Pass slice_shape=True if the data is one shard."
            )
        check_storable(self._name, self.dtype, incoming.dtype, data)
        if incoming.has_init and tracing.current() is None:
            assert incoming.recipe is not None
            self._declare(incoming.recipe.with_dtype(self.dtype))
        else:
            tracing.write(self, cast(incoming._get(), self.dtype))
        self.sliced = slice_shape
        return self

    def assign_value(self, value: Tensor) -> Self:
        """Take over value, shape and element type of another Tensor; returns self."""
        if not isinstance(value, Tensor):
            raise TypeError(
                f"Parameter '{self._name}': assign_value needs a Tensor, "
                f"got {type(value).__name__}."
            )
        tracing.write(self, as_value(value))
        return self

    def set_dtype(self, dtype: DTypeLike) -> Self:
        """Cast in place (a recipe is asked for other numbers later); returns self."""
        wanted = to_dtype(dtype)
        recipe = self._recipe
        if recipe is not None:
            self._declare(recipe.with_dtype(wanted))
        else:
            tracing.write(self, cast(self._get(), wanted))
        return self

    # The parameter server, hooks.

    @property
    def row_life(self) -> dict[str, int | float]:
        """Which rows of a table on the parameter server exist, as its spec says; no defaults."""
        given = self._ps
        if given is None:
            return {}
        found = {
            "admit": (given["admit_after"], 1),
            "admit_probability": (given["admit_probability"], 1.0),
            "expire": (given["expire_after"], 0),
            "max_rows": (given["max_rows"], 0),
        }
        return {key: value for key, (value, default) in found.items() if value != default}

    def set_param_ps(
        self,
        init_in_server: bool = False,
        *,
        admit_after: int = 1,
        expire_after: int = 0,
        admit_probability: float = 1.0,
        max_rows: int = 0,
    ) -> None:
        """Let the parameter server train this Parameter.

        Args:
            init_in_server: make it a table there, if it belongs to an `EmbeddingLookup`: no worker
                holds it, and its rows are created when they are trained.
            admit_after: of a table: a row is created by the n-th update that uses it. Until then it
                is read as its initial value, and its gradients are dropped.
            expire_after: of a table: after every n updates, the rows that none of them used are
                removed, with their state and their count for `admit_after`. 0: never.
            admit_probability: of a table: an update that may create a row does so with this
                probability, drawn from the id and the number of the update; otherwise the row's
                gradient is dropped.
            max_rows: of a table: when more rows exist after an update, those that were used longest
                ago are removed, down to 15/16 of the number. Each server does it with its part of
                the ids and of the number. 0: any number of rows.

        Raises:
            ContextError: no parameter-server context: call `set_ps_context(enable_ps=True)` first.
            TypeError: `init_in_server` is not a bool, or a number not one.
            ValueError: a number out of range, or given without `init_in_server`.
        """
        settings = server_settings(
            self._name, init_in_server, admit_after, admit_probability, expire_after, max_rows
        )
        if not context.get_ps_context("enable_ps"):
            raise ContextError(
                f"Parameter '{self._name}': set_param_ps needs the parameter-server mode: call "
                "paramesh.context.set_ps_context(enable_ps=True) before it."
            )
        if self._slot is not None:
            self._slot.pool.dissolve()
        self._ps = settings
        tracing.bump_version()

    def register_hook(self, hook: GradientHook) -> HookHandle[GradientHook]:
        """Call `hook(gradient) -> gradient or None` with every gradient of this Parameter.

        The hook is part of compiled programs: it is traced, and takes and returns Tensors.

        Raises:
            TypeError: `hook` is not callable.
        """
        if not callable(hook):
            raise TypeError(
                f"Parameter '{self._name}': a hook must be callable, got {type(hook).__name__}."
            )
        self._hooks.append(hook)
        tracing.bump_version()
        return HookHandle(self._hooks, hook)

    # Copies.

    def clone(self, init: InitLike = "same") -> Parameter:
        """A Parameter of its own with the same name and flags.

        Args:
            init: `"same"` for these values (or this recipe), otherwise what the clone starts from:
                an initializer's alias, an Initializer, a number, or a Tensor of this shape.

        Raises:
            TypeError, ValueError: as `initializer()`.
        """
        twin = copy.copy(self)
        for slot, declared in attributes_of(type(self)).items():
            if not declared.cloned:
                twin.__dict__[slot] = declared.default()
        if not (isinstance(init, str) and init == "same"):
            fresh = initializer(init, self.shape, self.dtype)
            recipe = fresh.recipe
            twin._contents = cast(fresh._get(), self.dtype) if recipe is None else recipe
        return twin

    def copy(self) -> Parameter:
        """The same as `clone()`."""
        return self.clone()

    def __copy__(self) -> Parameter:
        twin = object.__new__(type(self))
        trace_scope.created(twin)
        # Attributes that users add are theirs and are not copied.
        for slot, declared in attributes_of(type(self)).items():
            value = self.__dict__[slot] if declared.copied else declared.default()
            twin.__dict__[slot] = list(value) if isinstance(value, list) else value
        twin._domain = storage.Domain()
        frame, recipe = tracing.current(), self._recipe
        declared = recipe is not None and (frame is None or self not in frame.values)
        twin._contents = recipe if declared else self._concrete()
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        twin = copy.copy(self)
        memo[id(self)] = twin
        original = None if self._original is None else self._original()
        if original is not None and id(original) in memo:  # copied together
            twin._original = weakref.ref(memo[id(original)])
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        # A recipe is pickled as a recipe: its array may be larger than this machine.
        recipe = self._recipe
        data = Tensor.__reduce__(self)[1] if recipe is None else recipe
        flags = {
            slot[1:]: self.__dict__[slot]
            for slot, declared in attributes_of(type(self)).items()
            if declared.pickled
        }
        return _unpickle, (data, self._name, flags)

    def __str__(self) -> str:
        return (
            f"Parameter (name={self._name}, shape={self.shape}, dtype={self.dtype}, "
            f"requires_grad={self._requires_grad})"
        )

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return str(self) if not spec else super().__format__(spec)


def _unpickle(data: Recipe | PickledTensor, name: str, flags: dict[str, bool | int]) -> Parameter:
    start = Tensor._from_recipe(data) if isinstance(data, Recipe) else unpickle(*data)
    param = Parameter(start, name=name)
    for slot, value in flags.items():
        setattr(param, slot, value)
    return param


def _check_place(storage_format: str, device: str | None) -> None:
    if storage_format != "":
        raise ValueError(
            f"Parameter: storage_format must be '', got {storage_format!r}: XLA chooses the "
            "memory layout of arrays."
        )
    if device is not None and device != jax.default_backend().upper():
        raise ValueError(
            f"Parameter: device must be None or {jax.default_backend().upper()!r}, which JAX runs "
            f"on here, got {device!r}. JAX_PLATFORMS chooses the backend."
        )


def _flatten(param: Parameter) -> tuple[tuple[jax.Array], None]:
    return (param._get(),), None


# In JAX's own functions a Parameter is the Tensor of its value; programs of paramesh see it as
# the Parameter that it is (they flatten with `is_leaf`).
# Nodes of two classes never meet: JAX looks registrations up by exact class. As a leaf, a Parameter
# would meet Tensors of later trees only, jitted functions would get bare tracers, and optax would
# make bare arrays as state, which do not meet the Tensors of gradients.
jax.tree_util.register_pytree_node(Parameter, _flatten, unflatten)
