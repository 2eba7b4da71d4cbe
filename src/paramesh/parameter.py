"""Parameter and ParameterTuple: Tensors with a name, a recipe, a value and a place.

Glossary
    declared    holds shape, dtype and a recipe, and no data (`has_init` is True)
    live        holds data; the recipe is gone
    token       what compiled programs bake in of a Parameter: shape, dtype, requires_grad, placement

A Parameter made from an initializer is weightless in every mode until something needs its values:
the first read, `init_data()`, or never, when a checkpoint is loaded first.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

import jax
import jax.core

from paramesh import context, placement, tracing
from paramesh.dtype import DType, float32, int32, to_dtype
from paramesh.errors import (
    ContextError,
    DuplicateNameError,
    ParameterDtypeError,
    ParameterNameError,
    ParameterShapeError,
    ParameterStateError,
)
from paramesh.initializer import initializer
from paramesh.promotion import cast, scalar_kind
from paramesh.recipe import Initializer, Recipe
from paramesh.tensor import Tensor, as_value

#: The name of a Parameter that was given none, as in MindSpore 1.x.
DEFAULT_NAME = "Parameter"

_LONGEST_NAME = 1024
_PREFIX = re.compile(r"[0-9A-Za-z_.]+")


def check_name(name: Any) -> str:
    """A usable parameter name: stripped, `Parameter` for None, '' and blanks.

    Raises:
        ParameterNameError: not a string, or longer than 1024 characters.
    """
    if name is None:
        return DEFAULT_NAME
    if not isinstance(name, str):
        raise ParameterNameError(
            f"The name of a Parameter must be a str or None, got {type(name).__name__} ({name!r})."
        )
    name = name.strip()
    if len(name) > _LONGEST_NAME:
        raise ParameterNameError(
            f"The name of a Parameter may have {_LONGEST_NAME} characters, "
            f"got {len(name)}: {name[:40]}…"
        )
    return name or DEFAULT_NAME


class _Flag:
    """A True-or-False attribute that only takes a real bool, as in MindSpore."""

    def __init__(self, bakes: bool = False) -> None:
        self._bakes = bakes

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._slot = "_" + name

    def __get__(self, param: Any, owner: Any = None) -> Any:
        return self if param is None else getattr(param, self._slot)

    def __set__(self, param: Any, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(
                f"Parameter '{param._name}': {self._name} must be True or False, "
                f"got {type(value).__name__} ({value!r})."
            )
        setattr(param, self._slot, value)
        if self._bakes:
            tracing.moved()


class _Whole:
    """An int attribute; a bool is none."""

    def __init__(self, low: int | None = None) -> None:
        self._low = low

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self._slot = "_" + name

    def __get__(self, param: Any, owner: Any = None) -> Any:
        return self if param is None else getattr(param, self._slot)

    def __set__(self, param: Any, value: int) -> None:
        wrong_bool = isinstance(value, bool) and self._low is not None
        if not isinstance(value, int) or wrong_bool or abs(value) > 2**31 - 1:
            raise TypeError(
                f"Parameter '{param._name}': {self._name} must be a 32-bit int, got {value!r}."
            )
        if self._low is not None and value < self._low:
            raise ValueError(
                f"Parameter '{param._name}': {self._name} must be at least {self._low}, "
                f"got {value}."
            )
        setattr(param, self._slot, int(value))


#: Attributes that `clone` carries over, with their defaults.
_CARRIED: dict[str, Any] = {
    "requires_grad": True,
    "layerwise_parallel": False,
    "parallel_optimizer": True,
    "parallel_optimizer_comm_recompute": False,
    "comm_fusion": 1,
    "requires_aggr": True,
    "cache_enable": False,
    "key": -1,
}


_FIELDS = (
    "_hooks",
    "_inited",
    "_is_init",
    "_name",
    "_ps",
    "cache_shape_",
    "sliced",
    "unique",
    *("_" + slot for slot in _CARRIED),
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

    Raises:
        TypeError: data that is no array of numbers, or a flag that is no bool.
        ValueError: a bool as data, an int outside Int32, or a bad name.
    """

    requires_grad = _Flag(bakes=True)
    layerwise_parallel = _Flag(bakes=True)
    parallel_optimizer = _Flag(bakes=True)
    parallel_optimizer_comm_recompute = _Flag()
    requires_aggr = _Flag()
    cache_enable = _Flag()
    is_init = _Flag()
    comm_fusion = _Whole(low=0)
    key = _Whole()

    def __init__(
        self,
        default_input: Any,
        name: str | None = None,
        requires_grad: bool = True,
        layerwise_parallel: bool = False,
        parallel_optimizer: bool = True,
    ) -> None:
        self._name = check_name(name)
        self._value, self._recipe = _content(default_input, self._name)
        self._hooks: list[Callable[[Any], Any]] = []
        self._ps: dict[str, Any] | None = None
        self._inited = False
        self._is_init = False
        self.sliced: Any = False
        self.unique: Any = False
        self.cache_shape_: list[int] = []
        for slot, value in _CARRIED.items():
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
        self._name = check_name(name)
        tracing.moved()

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
        if self._value is None:
            self._materialise()
        return self._value

    def _materialise(self) -> None:
        recipe = self._recipe
        assert recipe is not None
        with jax.core.eval_context():
            self._value = placement.current().materialise(self, recipe)
        self._recipe = None

    def _store(self, value: Any) -> None:
        changed = self._value is None or (
            value.shape != self._value.shape or value.dtype != self._value.dtype
        )
        self._value = value
        self._recipe = None
        if changed:
            tracing.moved()

    def _token(self) -> Any:
        return (
            self.shape,
            self.dtype,
            self._requires_grad,
            self._layerwise_parallel,
            self._parallel_optimizer,
            self._name,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        recipe, value = self._recipe, self._value
        return recipe.shape if value is None and recipe is not None else tuple(value.shape)

    @property
    def dtype(self) -> DType:
        """The element type."""
        recipe, value = self._recipe, self._value
        return recipe.dtype if value is None and recipe is not None else to_dtype(value.dtype)

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
        return self.cache_shape_

    @cache_shape.setter
    def cache_shape(self, shape: Any) -> None:
        if not isinstance(shape, list | tuple):
            raise TypeError(
                f"Parameter '{self._name}': cache_shape must be a list or tuple of ints, "
                f"got {shape!r}."
            )
        self.cache_shape_ = list(shape)

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
            layout: (device shape, tensor map, slice shape, …): keep the slice of this rank alone,
                as MindSpore's layouts say it; read in the parallel modes that know layouts.
            set_sliced: record that the data held is one shard.

        Raises:
            TypeError: `layout` is not a tuple.
            ValueError: `layout` has fewer than 3 entries.
        """
        declared = self._value is None
        if layout is not None and declared:
            if not isinstance(layout, tuple):
                raise TypeError(
                    f"Parameter '{self._name}': layout must be a tuple, "
                    f"got {type(layout).__name__} ({layout!r})."
                )
            if len(layout) < 3:
                raise ValueError(
                    f"Parameter '{self._name}': layout needs at least (device shape, tensor map, "
                    f"slice shape), got {layout!r}."
                )
        if declared:
            self._inited = True
        self._concrete()
        if set_sliced:
            self.sliced = True
        return self

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
        incoming = self._incoming(data)
        if not slice_shape and incoming.shape != self.shape:
            raise ParameterShapeError(
                f"Parameter '{self._name}' has shape {self.shape}; set_data got "
                f"{incoming.shape}. Give slice_shape=True to change the shape."
            )
        check_storable(self, incoming.dtype, data)
        if incoming.has_init and tracing.current() is None:
            assert incoming.recipe is not None
            dtype = self.dtype
            self._value, self._recipe = None, incoming.recipe.with_dtype(dtype)
            tracing.moved()
        else:
            tracing.write(self, cast(incoming._get(), self.dtype))
        self.sliced = slice_shape
        return self

    def _incoming(self, data: Any) -> Tensor:
        if isinstance(data, Tensor):
            return data
        if isinstance(data, bool | int | float) and scalar_kind(data) is not None:
            return Tensor(data, self.dtype if _number_fits(data, self.dtype) else None)
        raise TypeError(
            f"Parameter '{self._name}': set_data takes a Tensor, an initializer(...), an int or a "
            f"float, got {type(data).__name__}. Wrap arrays and lists: Tensor(data)."
        )

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
        tracing.write(self, value._get())
        return self

    def set_dtype(self, dtype: Any) -> Self:
        """Cast in place (a recipe is asked for other numbers later); returns self."""
        wanted = to_dtype(dtype)
        if self._recipe is not None and self._value is None:
            self._recipe = self._recipe.with_dtype(wanted)
            tracing.moved()
        else:
            tracing.write(self, cast(self._get(), wanted))
        return self

    # Where it leaves: the array handed out must outlive the next step, which may donate it.

    def value(self) -> Tensor:
        """A Tensor of the present value; later steps do not touch it."""
        tracing.lent.add(self)
        return super().value()

    def __jax_array__(self) -> Any:
        tracing.lent.add(self)
        return super().__jax_array__()

    def __dlpack__(self, **kwargs: Any) -> Any:
        tracing.lent.add(self)
        return super().__dlpack__(**kwargs)

    # The parameter server, hooks.

    def set_param_ps(self, init_in_server: bool = False) -> None:
        """Have this Parameter trained by the parameter server.

        Raises:
            ContextError: no parameter-server context: call `set_ps_context(enable_ps=True)` first.
            TypeError: `init_in_server` is no bool.
        """
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
        self._ps = {"init_in_server": init_in_server}
        tracing.moved()

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
        tracing.moved()
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
        twin.cache_shape_ = list(self.cache_shape_)
        if not (isinstance(init, str) and init == "same"):
            fresh = initializer(init, self.shape, self.dtype)
            twin._value, twin._recipe = None, fresh.recipe
            if fresh.recipe is None:
                twin._value = cast(fresh._get(), self.dtype)
        return twin

    def copy(self) -> Parameter:
        """The same as `clone()`."""
        return self.clone()

    def __copy__(self) -> Parameter:
        twin = object.__new__(type(self))
        # What users hang on a Parameter is theirs and is not copied.
        twin.__dict__.update({field: self.__dict__[field] for field in _FIELDS})
        twin._hooks = []
        frame = tracing.current()
        if self._value is None and (frame is None or self not in frame.values):
            twin._value, twin._recipe = None, self._recipe
        else:
            twin._value, twin._recipe = self._concrete(), None
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        twin = copy.copy(self)
        memo[id(self)] = twin
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        data = Tensor.__reduce__(self)[1]
        flags = {slot: getattr(self, "_" + slot) for slot in _CARRIED}
        return _unpickle, (data, self._name, flags)

    def __str__(self) -> str:
        return (
            f"Parameter (name={self._name}, shape={self.shape}, dtype={self.dtype}, "
            f"requires_grad={self._requires_grad})"
        )

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return str(self) if not spec else super().__format__(spec)


class HookHandle:
    """What `register_hook` returns: `remove()` takes the hook away again."""

    def __init__(self, hooks: list[Callable[[Any], Any]], hook: Callable[[Any], Any]) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)
            tracing.moved()


_counter_lock = threading.Lock()

_ORDER = ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")


def check_storable(param: Parameter, dtype: DType, data: Any) -> None:
    """Refuse data whose element type would lose what it says, by MindSpore 1.x's order.

    Raises:
        ParameterDtypeError: the type comes later in the order than the Parameter's, or has no
            place in it.
    """
    here = param.dtype
    if dtype is here:
        return
    rank = {name: i for i, name in enumerate(_ORDER)} | {"bfloat16": 6}
    mine, theirs = rank.get(here.long_name), rank.get(dtype.long_name)
    if mine is None or theirs is None or theirs > mine or (theirs == mine == 6):
        what = f"the number {data!r}" if isinstance(data, int | float) else f"data of type {dtype}"
        raise ParameterDtypeError(
            f"Parameter '{param.name}' is {here}; {what} cannot be stored in it without loss. "
            f"Cast it first, e.g. data.astype(paramesh.{here.long_name}), or set_dtype() the "
            "Parameter."
        )


def _number_fits(number: Any, dtype: DType) -> bool:
    kind = scalar_kind(number)
    if dtype.kind == "bool":
        return kind == "bool"
    if dtype.is_integer():
        if kind not in ("bool", "int"):
            return False
        low = 0 if dtype.kind == "uint" else -(2 ** (8 * dtype.itemsize - 1))
        high = 2 ** (8 * dtype.itemsize - (dtype.kind == "int")) - 1
        if not low <= number <= high:
            raise ParameterDtypeError(f"{number} is outside {dtype}: {low}..{high}.")
    return True


def _content(data: Any, name: str) -> tuple[Any, Recipe | None]:
    """(value, None) or (None, recipe) of a new Parameter."""
    if isinstance(data, Tensor):
        recipe = data._recipe if data._value is None else None
        return (None, recipe) if recipe is not None else (data._get(), None)
    if isinstance(data, bool):
        raise ValueError(
            f"Parameter '{name}': a bool is no data; give Tensor({data}) for a Bool Parameter."
        )
    if isinstance(data, int):
        if not -(2**31) <= data < 2**31:
            raise ValueError(
                f"Parameter '{name}': {data} does not fit Int32, which a python int becomes; "
                "give Tensor(number, paramesh.int64)."
            )
        return as_value(data, int32), None
    if isinstance(data, float):
        return as_value(data, float32), None
    if isinstance(data, Initializer):
        raise TypeError(
            f"Parameter '{name}': an Initializer alone has no shape; "
            f"give initializer({data!r}, shape, dtype)."
        )
    if isinstance(data, list | jax.Array) or type(data).__name__ == "ndarray":
        return as_value(data), None
    raise TypeError(
        f"Parameter '{name}' is made from a Tensor, an initializer(...), an ndarray, a list of "
        f"numbers, an int or a float; got {type(data).__name__} ({data!r})."
    )


def _unpickle(data: Any, name: str, flags: dict[str, Any]) -> Parameter:
    from paramesh.tensor import _unpickle as tensor_of

    param = Parameter(tensor_of(*data), name=name)
    for slot, value in flags.items():
        setattr(param, slot, value)
    return param


class ParameterTuple(tuple[Parameter, ...]):
    """A tuple of Parameters with different names.

    Args:
        iterable: Parameters; the same one may come twice. Several that were given no name are
            numbered `Parameter$1`, `Parameter$2`, ….

    Raises:
        TypeError: not an iterable, or an element is no Parameter.
        DuplicateNameError: two different Parameters have one name.
    """

    def __new__(cls, iterable: Iterable[Parameter]) -> Self:
        if isinstance(iterable, Tensor):
            raise TypeError("ParameterTuple takes an iterable of Parameters, got a single one: (p,)")
        params = tuple(iterable)
        by_name: dict[str, Parameter] = {}
        for i, param in enumerate(params):
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"ParameterTuple takes Parameters; element {i} is {type(param).__name__}."
                )
        unnamed = {id(p): p for p in params if p.name == DEFAULT_NAME}
        if len(unnamed) > 1:
            for i, param in enumerate(unnamed.values(), 1):
                param.name = f"{DEFAULT_NAME}${i}"
        for param in params:
            other = by_name.setdefault(param.name, param)
            if other is not param:
                raise DuplicateNameError(
                    f"ParameterTuple: two different Parameters are named '{param.name}': {other} "
                    f"and {param}. Give one of them another name."
                )
        return super().__new__(cls, params)

    def clone(self, prefix: str, init: Any = "same") -> ParameterTuple:
        """Clones of all, named `prefix.name`, starting from `init` (see `Parameter.clone`).

        Raises:
            TypeError: `prefix` is no str. ValueError: it has characters other than 0-9 A-Z a-z _ .
            DuplicateNameError: one Parameter is in the tuple twice.
        """
        if not isinstance(prefix, str):
            raise TypeError(f"clone: prefix must be a str, got {type(prefix).__name__}.")
        if not _PREFIX.fullmatch(prefix):
            raise ParameterNameError(
                f"clone: prefix {prefix!r} may consist of digits, letters, '_' and '.' only."
            )
        clones = []
        for param in self:
            twin = param.clone(init)
            twin.name = f"{prefix}.{param.name}"
            clones.append(twin)
        return ParameterTuple(clones)

    def __reduce__(self) -> tuple[Any, ...]:
        return ParameterTuple, (list(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> ParameterTuple:
        return ParameterTuple([copy.deepcopy(p, memo) for p in self])

    def __str__(self) -> str:
        return super().__repr__()
