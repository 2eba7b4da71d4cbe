"""Parameter: a Tensor with a name, a recipe, a value and a place.

Glossary
    declared    holds shape, dtype and a recipe, and no data (`has_init` is True)
    live        holds data; the recipe is gone. `storage.py` has the stages and how they change
    token       what compiled programs bake in of a Parameter: its name, shape, dtype and flags
    slot        its place in a pool (see `pool.py`); a Parameter without contents of its own is in
                the pool's array

A Parameter made from an initializer is weightless in every mode until something needs its values:
the first read, `init_data()`, or never, when a checkpoint is loaded first.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Self

import jax

from paramesh import context
from paramesh._compat.jax import eval_context
from paramesh.dtype import DType, to_dtype
from paramesh.errors import ContextError, ParameterShapeError
from paramesh.initializer.factory import initializer
from paramesh.parameter.data import check_storable, first_contents, next_contents
from paramesh.parameter.flags import CARRIED, Flag, IntAttribute
from paramesh.parameter.names import DEFAULT_NAME, check_name, renamed
from paramesh.parameter.pool import Pool, Slot
from paramesh.parameter.slicing import check_layout, check_strategy, rank_slice
from paramesh.sampling.recipe import Recipe
from paramesh.state import placement, storage, trace_scope, tracing
from paramesh.tensor.base import Tensor, as_value, unflatten, unpickle
from paramesh.tensor.promotion import cast

_FIELDS = (
    "_hooks",
    "_inited",
    "_is_init",
    "_name",
    "_ps",
    "_cache_shape",
    "_strategy",
    "_original",
    "sliced",
    "unique",
    "only_rows",
    *("_" + flag for flag in CARRIED),
)


class Parameter(Tensor):
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
        storage_format: '' only: XLA chooses how arrays lie in memory.
        device: None, or the name of the backend that JAX runs on ("CPU", "GPU", "TPU").

    Raises:
        TypeError: data that is no array of numbers, or a flag that is no bool.
        ValueError: a bool as data, an int outside Int32, a bad name, or another device.
    """

    _requires_grad: bool
    _layerwise_parallel: bool
    _parallel_optimizer: bool
    _slot: Slot | None = None

    requires_grad = Flag(trace_static=True)
    layerwise_parallel = Flag(trace_static=True)
    parallel_optimizer = Flag(trace_static=True)
    parallel_optimizer_comm_recompute = Flag()
    requires_aggr = Flag()
    cache_enable = Flag()
    is_init = Flag()
    comm_fusion = IntAttribute(low=0)
    key = IntAttribute()

    def __init__(
        self,
        default_input: Any,
        name: str | None = None,
        requires_grad: bool = True,
        layerwise_parallel: bool = False,
        parallel_optimizer: bool = True,
        storage_format: str = "",
        device: str | None = None,
    ) -> None:
        _check_place(storage_format, device)
        trace_scope.created(self)
        self._name = check_name(name)
        value, recipe = first_contents(default_input, self._name)
        self._contents = value if recipe is None else recipe
        self._domain = storage.Domain()
        self._hooks: list[Callable[[Any], Any]] = []
        self._ps: dict[str, Any] | None = None
        self._inited = False
        self._is_init = False
        self.sliced: Any = False
        self.unique: Any = False
        #: Whether programs look rows of it up, and never read it as a whole.
        self.only_rows = False
        self._cache_shape: list[int] = []
        self._strategy: Any = None
        self._found: Any = None
        self._original: weakref.ref[Parameter] | None = None
        for slot, value in CARRIED.items():
            setattr(self, "_" + slot, value)
        self.requires_grad = requires_grad
        self.layerwise_parallel = layerwise_parallel
        self.parallel_optimizer = parallel_optimizer

    # Identity.

    @property
    def name(self) -> str:
        """The full name, by which everything at rest knows this Parameter."""
        return self._name

    @name.setter
    def name(self, name: str | None) -> None:
        before, self._name = self._name, check_name(name)
        if before not in (DEFAULT_NAME, self._name):  # a Cell names what comes without a name
            renamed.count += 1
        tracing.bump_version()

    def __eq__(self, other: Any) -> Any:
        """Two Parameters are equal if they are the same one; against anything else, elementwise."""
        if isinstance(other, Parameter):
            return self is other
        return super().__eq__(other)

    def __ne__(self, other: Any) -> Any:
        if isinstance(other, Parameter):
            return self is not other
        return super().__ne__(other)

    __hash__ = Tensor.__hash__

    # Life: declared or live.

    def _get(self) -> Any:
        return tracing.read(self)

    def _put(self, value: Any) -> None:
        self.assign(value)

    def _concrete(self) -> Any:
        while True:
            value = storage.inside(self, self._own)
            if value is not None:
                return value
            materialise([self])

    def _own(self) -> Any:
        """The value, None while there is a recipe; with the lock held."""
        contents = self._contents
        if contents is None:
            slot = self._slot
            assert slot is not None, "a Parameter without contents is in a pool"
            return slot.pool.take(slot.at)
        return None if isinstance(contents, Recipe) else storage.out(self, contents)

    def _materialise(self, recipe: Recipe) -> Any:
        return self._concrete()

    def _materialise_slice(self, layout: tuple[Any, ...]) -> None:
        recipe = self._recipe
        assert recipe is not None
        rank = context.get_auto_parallel_context("global_rank")
        index = rank_slice(layout, recipe.shape, rank, self._name)
        with eval_context():
            self._store(recipe.compute(index))

    def _store(self, value: Any) -> None:
        storage.inside(self, self._replace, value)

    def _declare(self, recipe: Recipe) -> None:
        """Start again from a recipe."""
        storage.inside(self, self._replace, recipe)

    def _replace(self, contents: Any) -> None:
        storage.check_free(self)
        self._prepare(contents)
        storage.commit(self._changes(contents))

    def _prepare(self, contents: Any) -> None:
        """Leave a pool that has no place for these contents."""
        slot = self._slot
        if slot is not None and not slot.pool.accepts(slot.at, contents):
            slot.pool.dissolve()

    def _changes(self, contents: Any) -> list[storage.Change]:
        """What a write changes; with the lock held."""
        changes: list[storage.Change] = []
        declared = isinstance(self._contents, Recipe) or isinstance(contents, Recipe)
        kind = (tuple(contents.shape), to_dtype(contents.dtype))
        if declared or kind != (self.shape, self.dtype):
            changes.append(tracing.version_bump())
        if self._slot is not None:
            changes += self._slot.pool.detaching()
        changes.append((self, "_contents", contents))
        return changes

    def _materialised(self, recipe: Recipe, array: Any) -> None:
        """The recipe was run; with the lock held."""
        if self._contents is recipe:  # else another thread was faster, or wrote something else
            storage.commit([(self, "_contents", array)])

    def _cache_key(self) -> Any:
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

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return tuple(self._about().shape)

    @property
    def dtype(self) -> DType:
        """The element type."""
        return to_dtype(self._about().dtype)

    def _about(self) -> Any:
        while True:
            contents, slot = self._contents, self._slot
            if contents is not None:
                return contents
            if slot is not None:  # else its pool was dissolved in between
                return _About(slot.pool.layout.shapes[slot.at], slot.pool.dtype)

    @property
    def data(self) -> Self:
        """This Parameter itself, as in MindSpore."""
        return self

    @property
    def inited_param(self) -> Parameter | None:
        """The Parameter with data once `init_data()` has run a recipe; None before."""
        return self if self._inited else None

    @property
    def cache_shape(self) -> list[int]:
        """Shape of the device cache of a Parameter on the parameter server."""
        return self._cache_shape

    @cache_shape.setter
    def cache_shape(self, shape: Any) -> None:
        if not isinstance(shape, list | tuple):
            raise TypeError(
                f"Parameter '{self._name}': cache_shape must be a list or tuple of ints, "
                f"got {shape!r}."
            )
        self._cache_shape = list(shape)

    @property
    def layout(self) -> Any:
        """How the Parameter is cut over devices in the semi-automatic parallel mode.

        Set it to a tuple of ints, into how many parts each axis is cut, or to a `parallel.Layout`;
        None leaves it to the operators that use the Parameter. Without a value of its own it gives
        the `Layout` that the programs compiled so far have found, None before the first.

        Raises:
            TypeError: neither a tuple of ints nor a Layout.
            LayoutError: it does not fit the shape.
        """
        if self._strategy is not None:
            return self._strategy
        return None if self._found is None else self._found.layout

    @layout.setter
    def layout(self, layout: Any) -> None:
        if layout is not None:
            check_strategy(layout, self.shape, self._name)
        self._strategy, self._found = layout, None
        tracing.bump_version()

    @property
    def is_param_ps(self) -> bool:
        """True once `set_param_ps` has put it on the parameter server."""
        return self._ps is not None

    @property
    def init_in_server(self) -> bool:
        """True if its values are created on the server."""
        return self._ps is not None and self._ps["init_in_server"]

    def init_data(self, layout: Any = None, set_sliced: bool = False) -> Parameter:
        """Run the recipe now, where the Parameter lives, and return the Parameter.

        Args:
            layout: (device matrix, tensor map, slice shape, …) as in MindSpore: compute the slice
                of this rank (`global_rank` of the parallel context) alone, and take its shape.
                Nothing happens to a Parameter that has data.
            set_sliced: record that the data held is one shard.

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
        """Record that `init_data` ran the recipe."""
        self._inited = True

    # Changing the value.

    def set_data(self, data: Any, slice_shape: bool = False) -> Self:
        """Give the Parameter other data and return it.

        The element type stays: data whose type comes earlier in the order bool, int8, uint8,
        int16, int32, int64, float16, float32, float64 is cast, a later one is refused (MindSpore
        1.x). Nothing is shared with `data` afterwards.

        Args:
            data: a Tensor, an `initializer(...)` (its recipe replaces the value), an int or a
                float (for a Parameter of shape ()).
            slice_shape: allow another shape, and record the Parameter as `sliced`.

        Raises:
            TypeError: `data` is of another kind; ParameterDtypeError: its type is refused.
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

    def assign(self, value: Any) -> Self:
        """Write a new value of the same shape, here or in the running program; returns self.

        The value is cast to the Parameter's element type without the checks of `set_data`; this is
        the call for moving averages and optimizer state, and needs no copy.

        Raises:
            ParameterShapeError: the value has another shape.
        """
        value = value._get() if isinstance(value, Tensor) else value
        if not hasattr(value, "dtype") or not isinstance(value, jax.Array):
            value = as_value(value)
        if tuple(value.shape) != self.shape:
            raise ParameterShapeError(
                f"Parameter '{self._name}' has shape {self.shape}, "
                f"cannot be assigned a value of shape {tuple(value.shape)}."
            )
        tracing.write(self, cast(value, self.dtype))
        return self

    def assign_value(self, value: Any) -> Self:
        """Take over value, shape and element type of another Tensor; returns self."""
        if not isinstance(value, Tensor):
            raise TypeError(
                f"Parameter '{self._name}': assign_value needs a Tensor, "
                f"got {type(value).__name__}."
            )
        tracing.write(self, as_value(value))
        return self

    def set_dtype(self, dtype: Any) -> Self:
        """Cast in place (a recipe is asked for other numbers later); returns self."""
        wanted = to_dtype(dtype)
        recipe = self._recipe
        if recipe is not None:
            self._declare(recipe.with_dtype(wanted))
        else:
            tracing.write(self, cast(self._get(), wanted))
        return self

    # Where it leaves: the array handed out must outlive the next step, which may donate it.

    def _escaping_value(self) -> Any:
        if tracing.current() is not None or tracing.is_pending(self):
            return self._get()
        self._concrete()  # a recipe is run first
        return storage.inside(self, self._escape)

    def _escape(self) -> Any:
        if self._contents is not None:  # else a copy of the pool's part goes out
            storage.escape(self)
        value = self._own()
        return self._concrete() if value is None else value

    # The parameter server, hooks.

    @property
    def row_life(self) -> tuple[int, int]:
        """(admit_after, expire_after) of the rows of a table on the parameter server."""
        found = self._ps or {}
        return found.get("admit_after", 1), found.get("expire_after", 0)

    def set_param_ps(
        self, init_in_server: bool = False, *, admit_after: int = 1, expire_after: int = 0
    ) -> None:
        """Have this Parameter trained by the parameter server.

        Args:
            init_in_server: make it a table there, if it is of an `EmbeddingLookup`: it is on no
                worker, and its rows come into being when they are trained.
            admit_after: of a table: a row comes into being with the update that is the so-many-th
                to meet it. Until then it is read as what the table starts from, and its gradients
                are dropped.
            expire_after: of a table: every so many updates, the rows that none of them met end,
                with their state and what was counted for `admit_after`. 0: never.

        Raises:
            ContextError: no parameter-server context: call `set_ps_context(enable_ps=True)` first.
            TypeError: `init_in_server` is no bool, or a number no int.
            ValueError: a number out of range, or for what is not created in the server.
        """
        for name, value, least in (
            ("admit_after", admit_after, 1),
            ("expire_after", expire_after, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"Parameter '{self._name}': {name} must be an int, got {value!r}.")
            if not least <= value < 2**31:
                raise ValueError(
                    f"Parameter '{self._name}': {name} must be from {least} to {2**31 - 1}, "
                    f"got {value}."
                )
        if (admit_after, expire_after) != (1, 0) and init_in_server is False:
            raise ValueError(
                f"Parameter '{self._name}': admit_after and expire_after are about tables: give "
                "init_in_server=True with them."
            )
        if not isinstance(init_in_server, bool):
            raise TypeError(
                f"Parameter '{self._name}': init_in_server must be True or False, "
                f"got {init_in_server!r}."
            )
        if not context.get_ps_context("enable_ps"):
            raise ContextError(
                f"Parameter '{self._name}': set_param_ps needs the parameter-server mode: call "
                "paramesh.context.set_ps_context(enable_ps=True) before it."
            )
        if self._slot is not None:
            self._slot.pool.dissolve()
        self._ps = {
            "init_in_server": init_in_server,
            "admit_after": admit_after,
            "expire_after": expire_after,
        }
        tracing.bump_version()

    def register_hook(self, hook: Callable[[Any], Any]) -> HookHandle:
        """Have `hook(gradient) -> gradient or None` see every gradient of this Parameter.

        The hook is part of compiled programs: it is traced, and gets and gives Tensors.

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

    def clone(self, init: Any = "same") -> Parameter:
        """A Parameter of its own with the same name and flags.

        Args:
            init: `"same"` for these values (or this recipe), otherwise what the clone starts from:
                an initializer's alias, an Initializer, a number, or a Tensor of this shape.

        Raises:
            TypeError, ValueError: as `initializer()`.
        """
        twin = copy.copy(self)
        twin._hooks = []
        twin.sliced = twin.unique = False
        twin._is_init = twin._inited = False
        twin._cache_shape = list(self._cache_shape)
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
        # What users hang on a Parameter is theirs and is not copied.
        twin.__dict__.update({field: self.__dict__[field] for field in _FIELDS})
        twin._hooks, twin._found = [], None
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
        # A recipe travels as a recipe: what it makes may be larger than this machine.
        recipe = self._recipe
        data = Tensor.__reduce__(self)[1] if recipe is None else recipe
        flags = {slot: getattr(self, "_" + slot) for slot in CARRIED}
        return _unpickle, (data, self._name, flags)

    def __str__(self) -> str:
        return (
            f"Parameter (name={self._name}, shape={self.shape}, dtype={self.dtype}, "
            f"requires_grad={self._requires_grad})"
        )

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return str(self) if not spec else super().__format__(spec)


class _About(NamedTuple):
    shape: tuple[int, ...]
    dtype: DType


def materialise(states: Iterable[Parameter | Pool]) -> None:
    """Run the recipes of those that are still declared, all kinds and shapes together."""
    params: list[Parameter] = []
    for state in states:
        params += state.declared() if isinstance(state, Pool) else [state]
    waiting = [(p, recipe) for p in params if (recipe := p._recipe) is not None]
    if not waiting:
        return
    with eval_context():
        arrays = placement.current().materialise(
            [p for p, _ in waiting], [recipe for _, recipe in waiting]
        )
    for (param, recipe), array in zip(waiting, arrays, strict=True):
        storage.inside(param, param._materialised, recipe, array)


class HookHandle:
    """What `register_hook` returns: `remove()` takes the hook away again."""

    def __init__(self, hooks: list[Callable[[Any], Any]], hook: Callable[[Any], Any]) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)
            tracing.bump_version()


def _unpickle(data: Any, name: str, flags: dict[str, Any]) -> Parameter:
    start = Tensor._from_recipe(data) if isinstance(data, Recipe) else unpickle(*data)
    param = Parameter(start, name=name)
    for slot, value in flags.items():
        setattr(param, slot, value)
    return param


def _check_place(storage_format: Any, device: Any) -> None:
    if storage_format != "":
        raise ValueError(
            f"Parameter: storage_format must be '', got {storage_format!r}: XLA chooses how arrays "
            "lie in memory."
        )
    if device is not None and device != jax.default_backend().upper():
        raise ValueError(
            f"Parameter: device must be None or {jax.default_backend().upper()!r}, which JAX runs "
            f"on here, got {device!r}. JAX_PLATFORMS chooses the backend."
        )


def _flatten(param: Parameter) -> tuple[tuple[Any], None]:
    return (param._get(),), None


# In JAX's own functions a Parameter is the Tensor of its value; programs of paramesh see it as
# the Parameter that it is (they flatten with `is_leaf`).
# Nodes of two classes never meet: JAX looks registrations up by exact class. As a leaf, a Parameter
# would meet Tensors of later trees only, jitted functions would get bare tracers, and optax would
# make bare arrays as state, which do not meet the Tensors of gradients.
jax.tree_util.register_pytree_node(Parameter, _flatten, unflatten)
