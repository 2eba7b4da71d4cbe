"""Tensor: a value or a recipe, with MindSpore's operators and methods.

Glossary
    raw value   the `jax.Array` (or, inside a program, the tracer) behind a Tensor
    recipe      what a Tensor made by `initializer()` holds instead of a value, until it is used

A Tensor is mutable in the sense of MindSpore: `t[0] = 5` gives it another raw value. Raw values
themselves never change. Tensors are pytrees with one leaf, and `jax.numpy` functions, numpy,
DLPack and optax take them as they are. In `jax.numpy` functions called directly, a 64-bit Tensor
follows JAX's own rule for 64-bit data; paramesh's operators and methods keep 64 bits.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.core
import numpy as np

from paramesh import lazy_names
from paramesh._compat.jax import eval_context, to_concrete_value
from paramesh.array_types import Array, HostArray
from paramesh.dtype import DType, DTypeLike, to_dtype, x64_enabled
from paramesh.errors import ParameterStateError
from paramesh.providers import providers
from paramesh.sampling.recipe import Initializer, Recipe, next_key
from paramesh.state import placement, trace_scope
from paramesh.tensor.conversion import DLPackArray, TensorInput, as_value
from paramesh.tensor.hooks import HookMethods
from paramesh.tensor.jax_methods import JaxMethods
from paramesh.tensor.memory_methods import MemoryMethods
from paramesh.tensor.methods import ArrayMethods
from paramesh.tensor.operator_methods import OperatorMethods
from paramesh.tensor.operators import Index
from paramesh.tensor.promotion import cast, scalar_kind
from paramesh.tensor.random_methods import RandomMethods
from paramesh.tensor.table_methods import TableMethods

_GRADIENTS = "grad() or value_and_grad(), which return gradients"
_BACKEND = "Arrays lie on the backend that JAX has; JAX_PLATFORMS chooses it."
#: What other libraries call what is here, for errors.
_INSTEAD = {
    "backward": _GRADIENTS,
    "grad": _GRADIENTS,
    "retain_grad": _GRADIENTS,
    "grad_fn": _GRADIENTS,
    "requires_grad": "a Parameter: Tensors are not trained",
    "requires_grad_": "a Parameter: Tensors are not trained",
    "detach": "ops.stop_gradient(tensor)",
    "clone": "copy()",
    "cuda": _BACKEND,
    "cpu": _BACKEND,
    "device": _BACKEND,
    "at": "item assignment, t[i] = value",
    "block_until_ready": "asnumpy(), which waits",
}

#: (bytes, name of the element type, shape): what `unpickle` takes.
PickledTensor = tuple[bytes, str, tuple[int, ...]]


class Tensor(
    OperatorMethods,
    TableMethods,
    RandomMethods,
    MemoryMethods,
    HookMethods,
    ArrayMethods["Tensor"],
    JaxMethods,
):
    """A multi-dimensional array of one element type.

    Args:
        input_data: ndarray (dtype kept), jax.Array, Tensor, a list or tuple of numbers, or a
            number, or an array of a library that speaks DLPack, such as a torch Tensor. A python
            int is Int64, a float Float32, a complex Complex128; a list of ints is Int64, one that
            holds a float Float32. Data is copied.
        dtype: element type to cast to.
        shape, init: instead of data, a shape and an `Initializer`: the Tensor then holds a recipe.
            A shape and `dtype` alone describe an input, as for `Cell.set_inputs`; an axis of any
            length is None, and the Tensor has no values.

    Raises:
        TypeError: data that is not an array of numbers (None, a string, a ragged list).
        ValueError: `init` without `shape` and `dtype`, or with data.
    """

    # A Recipe, or a raw value: one attribute, so that no thread sees half of a change.
    __slots__ = ("__weakref__", "_contents", "_hooked")
    _contents: Any
    #: What other libraries call what is here, for errors.
    _instead: ClassVar[Mapping[str, str]] = _INSTEAD
    __hash__ = ArrayMethods.__hash__

    def __init__(
        self,
        input_data: TensorInput | None = None,
        dtype: DTypeLike | None = None,
        shape: Sequence[int | None] | int | None = None,
        init: Initializer | None = None,
    ) -> None:
        if init is not None:
            self._contents = _recipe_from(input_data, dtype, shape, init)
            return
        if input_data is None and shape is not None and dtype is not None:
            self._contents = _recipe_from(None, dtype, shape, NoData())
            return
        if input_data is None:
            raise TypeError(
                "Tensor() needs data (an array, a list, a number), "
                "or shape=, dtype= and init= for a recipe; got None."
            )
        if isinstance(input_data, Tensor) and input_data.has_init and dtype is None:
            self._contents = input_data._contents
            return
        self._contents = as_value(input_data, None if dtype is None else to_dtype(dtype))

    @classmethod
    def _from_recipe(cls, recipe: Recipe) -> Tensor:
        tensor = object.__new__(Tensor)
        tensor._contents = recipe
        return tensor

    @staticmethod
    def from_numpy(array: HostArray) -> Tensor:
        """A Tensor of a numpy array's values. They are copied: JAX arrays never change.

        Raises:
            TypeError: `array` is not a numpy array.
        """
        if not isinstance(array, np.ndarray):
            raise TypeError(f"from_numpy needs a numpy array, got {type(array).__name__}.")
        return Tensor(array)

    def __getattr__(self, name: str) -> Any:
        if name[:1] == "_":  # numpy, JAX and pickle ask for such names, and often
            raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'")
        text = lazy_names.missing(f"'{type(self).__name__}'", name, lambda: (), self._instead)
        # With the object, python itself proposes what is near.
        raise AttributeError(text.removesuffix("."), name=name, obj=self)

    # What the mixins build on.

    @property
    def _value(self) -> Array | None:
        contents = self._contents
        return None if isinstance(contents, Recipe) else contents

    @property
    def _recipe(self) -> Recipe | None:
        contents = self._contents
        return contents if isinstance(contents, Recipe) else None

    def _get(self) -> Array:
        contents = self._contents
        return self._materialise(contents) if isinstance(contents, Recipe) else contents

    def _escaping_value(self) -> Array:
        """The value for a caller that may keep it: an escaped buffer."""
        return self._get()

    def _put(self, value: Array) -> None:
        scope = trace_scope.current()
        if scope is not None and isinstance(value, jax.core.Tracer):
            before = self._get()
            if not isinstance(before, jax.core.Tracer):
                scope.tensor(self, before)
        self._contents = value

    @staticmethod
    def _wrap(value: Array) -> Any:
        return wrap(value)

    @staticmethod
    def _operand(value: object) -> Any:
        if isinstance(value, Tensor):
            return value._get()
        if scalar_kind(value) is not None or isinstance(value, jax.Array):
            return value
        if isinstance(value, np.ndarray | list | tuple | DLPackArray):
            return as_value(value)
        return NotImplemented

    def _materialise(self, recipe: Recipe) -> Array:
        if isinstance(recipe.initializer, NoData):
            raise ValueError(
                f"A Tensor of shape {recipe.shape} that was made without data has no values: "
                "Tensor(shape=, dtype=) describes an input. Give data, or init=."
            )
        with eval_context():  # inside a program too, a recipe gives a constant
            value = self._contents = recipe.compute()
        return value

    # Shape and element type.

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        recipe = self._recipe
        return recipe.shape if recipe is not None else tuple(self._get().shape)

    @property
    def dtype(self) -> DType:
        """The element type."""
        recipe = self._recipe
        return recipe.dtype if recipe is not None else to_dtype(self._get().dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements (of a recipe: what they will take)."""
        return self.size * self.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one element to the next along each axis, of the row-major order."""
        strides, step = [], self.itemsize
        for n in reversed(self.shape):
            strides.append(step)
            step *= n
        return tuple(reversed(strides))

    def dim(self) -> int:
        """Number of axes."""
        return self.ndim

    def numel(self) -> int:
        """Number of elements."""
        return self.size

    @property
    def has_init(self) -> bool:
        """True while it holds a recipe and no value."""
        return self._recipe is not None

    @property
    def init(self) -> Initializer | None:
        """The Initializer of its recipe, None once there is a value."""
        recipe = self._recipe
        return None if recipe is None else recipe.initializer

    @property
    def recipe(self) -> Recipe | None:
        """The recipe, None once there is a value."""
        return self._recipe

    def init_data(self) -> Tensor:
        """Run the recipe now, if there is one; returns self."""
        self._get()
        return self

    def flush_from_cache(self) -> None:
        """Nothing: MindSpore writes a Tensor back from the cache of its former servers."""

    # Leaving paramesh.

    def asnumpy(self) -> HostArray:
        """A copy of the values as a numpy array.

        Raises:
            ParameterStateError: they are sharded over several processes.
            TraceError: the Tensor is traced.
        """
        return np.array(self._host())

    def _host(self) -> HostArray:
        """The values in this process's memory, not to be written to."""
        value = self._get()
        if isinstance(value, jax.core.Tracer):
            known = to_concrete_value(value)  # in a gradient that is not compiled
            value = value if known is None else known
        try:
            if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
                # numpy reads the memory, and the process ends where a program had failed to fill it
                value.block_until_ready()
            return np.asarray(value)
        except jax.errors.TracerArrayConversionError:
            raise trace_scope.no_value(
                "The values (asnumpy(), a function of numpy)", value
            ) from None
        except RuntimeError:
            if value.is_fully_addressable:
                raise
        name = getattr(self, "name", "")
        who = f"Parameter '{name}'" if name else "A Tensor"
        raise ParameterStateError(
            f"{who} of shape {self.shape} is sharded over several processes, and this one "
            "holds only its own shards. paramesh.parallel.whole(…), called in all of them, gives "
            "each the full array."
        )

    def numpy(self) -> HostArray:
        """The same as `asnumpy`."""
        return self.asnumpy()

    def value(self) -> Tensor:
        """A Tensor of the present value."""
        return wrap(self._escaping_value())

    def item(self, index: Index | None = None) -> Any:
        """One element as a python number (the only one, or the one at `index`).

        Raises:
            ValueError: several elements and no index.
        """
        if index is None:
            try:
                return self._one_element("item").item()
            except jax.errors.ConcretizationTypeError:
                raise trace_scope.no_value("item()", self._get()) from None
        return self[index].item()

    def tolist(self) -> Any:
        """Nested lists of python numbers (a number for a 0-d Tensor)."""
        return self._host().tolist()

    def copy(self) -> Tensor:
        """A Tensor of its own with these values."""
        return wrap(as_value(self))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> HostArray:
        array = self._host()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __jax_array__(self) -> Array:
        value = self._escaping_value()
        if value.dtype.itemsize >= 8 and not x64_enabled():
            # As JAX does with 64-bit numpy arrays.
            return cast(value, to_dtype(jax.dtypes.canonicalize_dtype(value.dtype)))
        return value

    def __dlpack__(self, **kwargs: object) -> Any:
        return self._escaping_value().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        value: Any = self._get()
        return value.__dlpack_device__()

    # In-place changes.

    def set_dtype(self, dtype: DTypeLike) -> Self:
        """Cast in place; returns self."""
        self._put(cast(self._get(), to_dtype(dtype)))
        return self

    def assign_value(self, value: Tensor) -> Self:
        """Take over the value (and shape and element type) of another Tensor; returns self."""
        if not isinstance(value, Tensor):
            raise TypeError(f"assign_value needs a Tensor, got {type(value).__name__}.")
        self._put(value._get())
        return self

    # Printing, copying, pickling.

    def __str__(self) -> str:
        shown = self._shown()
        if providers.by_operators and shown.dtype.kind == "U":  # it is not known
            scope = trace_scope.current()
            if scope is not None and scope.compiled and placement.current().count == 1:
                raise trace_scope.no_value("str()", self._get())
        return str(shown)

    def __repr__(self) -> str:
        if self._recipe is None and not hasattr(self._value, "dtype"):
            return f"Tensor({self._value!r})"  # jax.tree_util puts anything into a pytree's leaves
        recipe = self._recipe
        if recipe is not None and isinstance(recipe.initializer, NoData):
            return f"Tensor(shape={list(self.shape)}, dtype={self.dtype})"
        shown = self._shown()
        values = (
            _short(shown)
            if shown.ndim == 0
            else np.array2string(shown, separator=", ", prefix="", formatter=_formatter(self.dtype))
        )
        gap = "\n" if self.ndim > 1 else " "
        return f"Tensor(shape={list(self.shape)}, dtype={self.dtype}, value={gap}{values})"

    def _shown(self) -> Any:
        value = self._get()
        if isinstance(value, jax.core.Tracer):
            known = to_concrete_value(value)  # in a gradient that is not compiled
            if known is None:
                return np.array(f"<traced {value.aval.str_short()}>")
            value = known
        shown = np.asarray(value)
        return shown.astype(np.float32) if shown.dtype.name == "bfloat16" else shown

    def _repr_html_(self) -> str:
        return providers.html(self)

    def __treescope_repr__(self, path: str | None, subtree_renderer: object) -> Any:
        return providers.tree(self, path, subtree_renderer)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __copy__(self) -> Tensor:
        return self._duplicate()

    def __deepcopy__(self, memo: dict[int, object]) -> Tensor:
        return self._duplicate()

    def _duplicate(self) -> Tensor:
        contents = self._contents
        return wrap(contents.copy() if isinstance(contents, np.ndarray) else contents)  # pyright: ignore

    def __reduce__(self) -> tuple[Callable[..., Tensor], PickledTensor]:
        # bfloat16 is not a native numpy type: bytes and a name are pickled instead of an array.
        value = self._host()
        return unpickle, (value.tobytes(), self.dtype.long_name, value.shape)


def _formatter(dtype: DType) -> Any:
    if dtype.kind == "float" and dtype.long_name != "bfloat16":
        return {"float_kind": lambda v: f"{v: .8e}"}
    return None


def _short(value: np.ndarray[Any, np.dtype[Any]]) -> str:
    """A number of an array without axes, with six digits at most, as MindSpore writes it."""
    kind = value.dtype.kind
    return f"{value[()]:g}" if kind in "fc" else str(value)


def unpickle(data: bytes, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """A Tensor from the bytes, type name and shape that pickles hold."""
    return Tensor(np.frombuffer(data, to_dtype(dtype).np_dtype).reshape(shape))


def wrap(value: Tensor | Array | jax.ShapeDtypeStruct) -> Tensor:
    """A Tensor around a raw value, uncopied; around that of a Tensor if it is one."""
    if isinstance(value, Tensor):
        value = value._get()
    tensor = object.__new__(Tensor)
    tensor._contents = value
    return tensor


def raw(value: object) -> Any:
    """The raw value behind a Tensor or Parameter (read through the running program); other
    arrays, also those that speak DLPack, as JAX arrays, python numbers as they are.

    Raises:
        TypeError: it is neither an array nor a number.
    """
    if isinstance(value, Tensor):
        return value._get()
    if isinstance(value, jax.Array) or scalar_kind(value) is not None:
        return value
    if isinstance(value, np.ndarray | list | tuple | DLPackArray):
        return as_value(value)
    raise TypeError(
        f"Expected a Tensor, an array or a number, got {type(value).__name__} ({value!r})."
    )


class NoData(Initializer):
    """Of a Tensor that says a shape and element type only."""

    def check(self, shape: tuple[int, ...]) -> None:
        """Any shape; -1 is an axis of any length."""


def _recipe_from(
    data: TensorInput | None,
    dtype: DTypeLike | None,
    shape: Sequence[int | None] | int | None,
    init: Initializer,
) -> Recipe:
    if data is not None:
        raise ValueError("Tensor(): give data or init=, not both.")
    if shape is None or dtype is None:
        raise ValueError("Tensor(init=...) needs shape= and dtype= too: a recipe needs both.")
    if not isinstance(init, Initializer):
        raise TypeError(
            f"Tensor(init=...) needs an Initializer, e.g. Normal(0.01), got {type(init).__name__}. "
            "Names such as 'normal' go to initializer()."
        )
    listed = (shape,) if isinstance(shape, int) else tuple(shape)
    if not isinstance(init, NoData) and None in listed:
        raise ValueError(f"Tensor(init=...) needs a shape of ints, got {listed}.")
    sizes = tuple(-1 if size is None else operator.index(size) for size in listed)
    # A description draws no number: those of what follows would be others.
    key = (0, 0) if isinstance(init, NoData) else next_key()
    return Recipe(init, key, sizes, to_dtype(dtype))


def _flatten(tensor: Tensor) -> tuple[tuple[Array], None]:
    return (tensor._get(),), None


def unflatten(_: None, leaves: Sequence[Any]) -> Any:
    """What JAX's tree functions put in the place of a Tensor.

    A Tensor around what they give; but Tensors, and containers of Tensors (`jax.hessian` of a tree
    makes such), stay as they are.
    """
    leaf = leaves[0]
    if isinstance(leaf, jax.Array):
        return wrap(leaf)
    inner = jax.tree_util.tree_leaves(leaf, is_leaf=_is_tensor)
    return leaf if any(map(_is_tensor, inner)) else wrap(leaf)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


jax.tree_util.register_pytree_node(Tensor, _flatten, unflatten)


def tensor(
    input_data: TensorInput | None = None,
    dtype: DTypeLike | None = None,
    shape: Sequence[int] | int | None = None,
    init: Initializer | None = None,
) -> Tensor:
    """`Tensor(…)`, as a function; `paramesh.tensor(…)` is this one."""
    return Tensor(input_data, dtype, shape, init)
