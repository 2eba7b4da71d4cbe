"""Primitives that a script defines itself, and inner primitives of MindSpore that scripts call.

A subclass of `PrimitiveWithInfer` says for MindSpore's compiler which shapes and element types an
operator has. Here its `__call__` is what it computes, and where it has `get_bprop` that is its
gradient. MindSpore would look for a kernel of its name in addition; there are none here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sized
from typing import Any

from paramesh.array_types import Tree
from paramesh.dtype import DType, to_dtype
from paramesh.nn.cell_bprop import with_bprop
from paramesh.tensor.base import Tensor

__all__ = [
    "IsInstance",
    "IsSubClass",
    "PrimitiveWithCheck",
    "PrimitiveWithInfer",
    "SameTypeShape",
    "core",
    "ms_len",
    "prim_attr_register",
]


#: MindSpore has modules below it (see `compat`).
__path__: list[str] = []


def core(fn: Callable[..., Any] | None = None, **flags: object) -> Any:
    """The function itself, as a decorator with or without flags for MindSpore's compiler."""
    return (lambda given: given) if fn is None else fn


def prim_attr_register(fn: Callable[..., None]) -> Callable[..., None]:
    """A decorator of a primitive's `__init__`, whose arguments become attributes."""
    signature = inspect.signature(fn)

    @functools.wraps(fn)
    def init(self: PrimitiveWithInfer, *args: object, **kwargs: object) -> None:
        if "attrs" not in self.__dict__:
            PrimitiveWithInfer.__init__(self, type(self).__name__)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        for name, value in list(bound.arguments.items())[1:]:
            self.add_prim_attr(name, value)
        fn(self, *args, **kwargs)

    return init


class _Differentiable:
    """A primitive's computation and its gradient, as `with_bprop` takes a Cell.

    Args:
        primitive: has `get_bprop`.
        compute: what it computes.
    """

    def __init__(self, primitive: PrimitiveWithInfer, compute: Callable[..., Any]) -> None:
        self.construct = compute
        self.bprop: Callable[..., Any] = getattr(primitive, "get_bprop")()  # noqa: B009 - of the subclass

    def _reachable_parameters(self) -> list[Any]:
        return []

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a primitive's computation has no attribute {name!r}")


class PrimitiveWithInfer:
    """The base of primitives that a script defines.

    A subclass defines `__call__(*inputs)`, and may define `get_bprop()`, which returns a function
    `bprop(*inputs, out, dout)` that gives a gradient for each input. What it defines besides for
    MindSpore's compiler (`infer_shape`, `infer_dtype`, `__infer__`) is not called.

    Args:
        name: of the primitive.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name or type(self).__name__
        self.attrs: dict[str, Any] = {}

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        given = cls.__dict__.get("__call__")
        if given is None:
            return

        @functools.wraps(given)
        def call(self: PrimitiveWithInfer, *args: Tree, **kwargs: Tree) -> Any:
            compute = functools.partial(given, self)
            if not hasattr(self, "get_bprop"):
                return compute(*args, **kwargs)
            return with_bprop(_Differentiable(self, compute), args, kwargs)

        cls.__call__ = call

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Nothing: the subclass has not said what it computes.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{self.name}: a primitive of the script's own computes what its __call__ says, and "
            "it has none. MindSpore looks for a kernel; write __call__ with operators of ops."
        )

    def add_prim_attr(self, name: str, value: object) -> PrimitiveWithInfer:
        """Keep an attribute, also as a python attribute of this name; returns self."""
        self.attrs[name] = value
        setattr(self, name, value)
        return self

    def init_prim_io_names(self, inputs: object, outputs: object) -> None:
        """Keep the names of inputs and outputs, which change nothing."""
        self.add_prim_attr("input_names", inputs)
        self.add_prim_attr("output_names", outputs)

    def set_device(self, device_target: str) -> PrimitiveWithInfer:
        """Keep where MindSpore would run it; returns self."""
        return self.add_prim_attr("primitive_target", device_target)

    def __repr__(self) -> str:
        return f"{self.name}()"


class PrimitiveWithCheck(PrimitiveWithInfer):
    """The same for primitives that check what they are given (`check_shape`, `check_dtype`)."""


class SameTypeShape(PrimitiveWithInfer):
    """The first of two Tensors, which must have one element type and one shape.

    Raises (when it is called):
        TypeError: not Tensors, or their element types differ. ValueError: their shapes differ.
    """

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Check the two, and return the first."""
        for name, value in (("x", x), ("y", y)):
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"SameTypeShape: {name} must be a Tensor, got {type(value).__name__}."
                )
        if x.dtype != y.dtype:
            raise TypeError(f"SameTypeShape: the element types differ: {x.dtype} and {y.dtype}.")
        if x.shape != y.shape:
            raise ValueError(f"SameTypeShape: the shapes differ: {x.shape} and {y.shape}.")
        return x


class IsSubClass(PrimitiveWithInfer):
    """Whether an element type is of a kind: `IsSubClass()(float32, mstype.number)`.

    Raises (when it is called):
        TypeError: an argument is not a type.
    """

    def __call__(self, sub_type: object, type_: object) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Whether `sub_type` is `type_`, or one of them."""
        kinds = type_ if isinstance(type_, tuple) else (type_,)
        given = sub_type if isinstance(sub_type, tuple) else (sub_type,)
        for name, values in (("sub_type", given), ("type_", kinds)):
            for value in values:
                if not isinstance(value, DType):
                    raise TypeError(f"IsSubClass: {name} must be an element type, got {value!r}.")
        return all(each in kinds for each in given)


class IsInstance(PrimitiveWithInfer):
    """Whether a value is of a type, a python class or an element type.

    Raises (when it is called):
        TypeError: the second argument is not a type.
    """

    def __call__(self, inst: Tree, type_: object) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Whether `inst` is of the type."""
        if isinstance(type_, type):
            return isinstance(inst, type_)
        if not isinstance(type_, DType):
            raise TypeError(f"IsInstance: expected a type, got {type_!r}.")
        if isinstance(inst, bool):
            return False
        if isinstance(inst, int | float):
            return type_.kind == ("int" if isinstance(inst, int) else "float")
        return hasattr(inst, "dtype") and to_dtype(inst.dtype) == type_


def ms_len(data: Sized) -> int:
    """How many elements a value has: `len` as MindSpore's graphs call it."""
    return len(data)
