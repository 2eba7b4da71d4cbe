"""The table of operators, and how a function and a class come from one definition.

Glossary
    operator    one computation with MindSpore's name, defined once, over raw JAX values
    function    its functional form (`ops.matmul(x, y)`): takes Tensors, gives Tensors
    primitive   its class form (`ops.MatMul()(x, y)`): some arguments given when it is made
    kind        what the table does with an argument before the computation sees it

An operator is a plain function over raw values whose parameters are annotated with their kinds:

    @function
    def maximum(input: Operand, other: Operand):
        "The larger of two elements. …"
        return jnp.maximum(input, other)

    Maximum = primitive("Maximum", maximum)

`function` gives the functional form and puts the operator into `TABLE`; where an operator gives
several Tensors it is `tuple_function`, and where its arguments decide what it gives,
`other_function`. `primitive` gives the class form, whose second argument says how the class's
arguments become those of the function.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, ParamSpec, Protocol, Self, TypeVar

import jax
import jax.numpy as jnp

from paramesh.array_sizes import check_countable
from paramesh.dtype import x64
from paramesh.errors import TracedValueError
from paramesh.ops import autocast
from paramesh.ops.kinds import CONVERT, TAKEN, Kind, meet
from paramesh.ops.kinds import Array as Array
from paramesh.ops.kinds import Arrays as Arrays
from paramesh.ops.kinds import Dtype as Dtype
from paramesh.ops.kinds import Floating as Floating
from paramesh.ops.kinds import Operand as Operand
from paramesh.ops.operator_errors import BARE, bind, explained, needing_values
from paramesh.state import placement, tracing
from paramesh.tensor import one_call
from paramesh.tensor.argument_types import Ints
from paramesh.tensor.base import Tensor, wrap
from paramesh.tensor.kept_calls import APART, Apart, Arguments, Calls, in_one_call
from paramesh.tensor.promotion import (
    broadcasting,
)

#: Arguments without annotations that are sizes of new arrays.
_SIZES = ("size", "shape", "dims")
_EXPLAINED = (TypeError, ValueError, IndexError, ZeroDivisionError, *BARE)

P = ParamSpec("P")
R = TypeVar("R")

#: For each Tensor a tuple of ints, a `parallel.Layout`, or None.
Strategies = tuple[Any, ...]


@dataclass
class Operator:
    """One row of the table."""

    name: str
    compute: Callable[..., Any]
    kinds: dict[str, Kind]
    classes: dict[str, type[Primitive]] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    #: Whether numbers among its operands are as good as arrays.
    elementwise: bool = False

    def __post_init__(self) -> None:
        self.calls = Calls(self.name)
        code = self.compute.__code__
        self._positional = code.co_varnames[: code.co_argcount]
        after = code.co_argcount + code.co_kwonlyargcount
        self._many = code.co_varnames[after] if code.co_flags & inspect.CO_VARARGS else None
        self._convert_each = [(name, CONVERT[kind]) for name, kind in self.kinds.items()]
        self._operands = [n for n, kind in self.kinds.items() if kind is Kind.OPERAND]
        self._lists = [n for n, kind in self.kinds.items() if kind is Kind.ARRAYS]
        parameters = inspect.signature(self.compute).parameters
        self._needed = frozenset(
            name
            for name, kind in self.kinds.items()
            if kind is not Kind.DTYPE and parameters[name].default is inspect.Parameter.empty
        )
        hints = self.compute.__annotations__
        self._sizes = [
            name
            for name in parameters
            if hints.get(name) in (Ints, Ints | None) or (name in _SIZES and name not in self.kinds)
        ]

    @property
    def doc(self) -> str:
        """The documentation that the function and the classes share."""
        return inspect.getdoc(self.compute) or ""

    @property
    def summary(self) -> str:
        """The first line of the documentation."""
        return self.doc.partition("\n")[0]

    def __call__(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute on what a user gave; `name` is the form that was called, for errors."""
        given = dict(zip(self._positional, args, strict=False))
        rest = args[len(given) :]
        if (rest and self._many is None) or not given.keys().isdisjoint(kwargs):
            bind(name, self.compute, args, kwargs)
        given.update(kwargs)
        if self._many is not None:
            given[self._many] = rest
        try:
            values, arrays = self._convert(given)
            rule = autocast.thread.rule
            if rule is not None:
                values = autocast.inputs(rule, self.name, values, self.kinds)
            with x64(*arrays), broadcasting():
                result = self._in_one_call(values) if one_call.possible() else APART
                if isinstance(result, Apart):
                    apart, result = result, self._compute(values)
                    apart.done()
            if rule is not None:
                result = autocast.outputs(rule, self.name, result)
        except (TracedValueError, jax.errors.ConcretizationTypeError) as error:
            raise needing_values(error, name, given) from error
        except _EXPLAINED as error:
            bind(name, self.compute, args, kwargs)
            if type(error) in _EXPLAINED:
                conversions = {n: (CONVERT[kind], TAKEN[kind]) for n, kind in self.kinds.items()}
                raise explained(error, name, given, self.compute, conversions) from error
            raise
        return wrap(result) if isinstance(result, jax.Array) else _wrapped(result)

    def _in_one_call(self, values: dict[str, Any]) -> Any:
        """The result, or an `Apart`."""
        arguments = Arguments(values, self._lists, self._operands if self.elementwise else ())
        rule = autocast.thread.rule
        return in_one_call(self.calls, rule, self._compute, arguments)

    def _compute(self, values: dict[str, Any]) -> Any:
        if self._many is None:
            return self.compute(**values)
        first = [values.pop(name) for name in self._positional]
        return self.compute(*first, *values.pop(self._many), **values)

    def _convert(self, given: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        values = dict(given)
        for name in self._sizes:
            value = values.get(name)
            if isinstance(value, tuple | list):
                check_countable(value, name)
        for name, convert in self._convert_each:
            value = values.get(name)
            if value is not None:
                values[name] = convert(value)
            elif name in self._needed and name in values:
                raise TypeError(f"{name} must be {TAKEN[self.kinds[name]]}, got None.")
        if len(self._operands) > 1:
            names = [n for n in self._operands if values.get(n) is not None]
            values.update(zip(names, meet([values[n] for n in names]), strict=True))
        arrays = [values.get(name) for name in self.kinds]
        for name in self._lists:
            arrays.extend(values.get(name) or ())
        return values, arrays


#: Every operator by the name of its function.
TABLE: dict[str, Operator] = {}

#: Every class form by its name, aliases included.
CLASSES: dict[str, type[Primitive]] = {}


def function(compute: Callable[P, Any]) -> Callable[P, Tensor]:
    """The functional form of an operator that gives a Tensor; it is put into the table."""
    return _form(compute)


def tuple_function(compute: Callable[P, Any]) -> Callable[P, tuple[Tensor, ...]]:
    """The same of an operator that gives several Tensors, in a tuple."""
    return _form(compute)


def other_function(compute: Callable[P, R]) -> Callable[P, R]:
    """The same of an operator that gives what its arguments decide, or what is no Tensor."""
    return _form(compute)


def _form(compute: Callable[P, Any]) -> Callable[P, Any]:
    if any(isinstance(hint, str) for hint in compute.__annotations__.values()):
        # Their marks would be lost, silently.
        raise RuntimeError(f"{compute.__module__}: annotations are postponed; import no future")
    kinds = {
        name: mark
        for name, hint in compute.__annotations__.items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, Kind)
    }
    if compute.__name__ in TABLE:
        raise RuntimeError(f"two operators are named {compute.__name__}")
    operator = TABLE[compute.__name__] = Operator(compute.__name__, compute, kinds)

    @functools.wraps(compute)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        return operator(compute.__name__, args, kwargs)

    call.__dict__["operator"] = operator
    return call


Form = TypeVar("Form", bound=Callable[..., Any])


def alias(name: str, form: Form) -> Form:
    """Another name for a function or a class."""
    made: Any = form
    if isinstance(made, type):
        made.__dict__["operator"].classes[name] = CLASSES[name] = made
    else:
        operator_of(form).aliases.append(name)
    return form


def operator_of(fn: Callable[..., Any]) -> Operator:
    """The operator that a function is a form of."""
    return fn.__dict__["operator"]


class _Signature:
    """What `inspect` and `help` say that a primitive's class takes: its settings."""

    def __get__(self, primitive: object, cls: type) -> inspect.Signature:
        return inspect.signature(getattr(cls, "_init", _no_settings))


def _no_settings() -> dict[str, Any]:
    return {}


class Primitive:
    """The class form of an operator: made with its settings, called with Tensors.

    The settings are attributes under their names. A subclass of it stands for one operator.
    """

    __signature__: ClassVar[Any] = _Signature()
    operator: ClassVar[Operator]
    _init: ClassVar[Callable[..., dict[str, Any]]]

    def __init__(self, *args: object, **kwargs: object) -> None:
        name = type(self).__name__
        bound = bind(name, self._init, args, kwargs)
        bound.apply_defaults()
        self.name = name
        self.settings = dict(bound.arguments)
        self.__dict__.update(self.settings)
        self.in_strategy: Strategies | None = None
        self.out_strategy: Strategies | None = None
        self.sharded = False
        self._called = False
        self.attrs: dict[str, Any] = {}
        try:
            self._options = type(self)._init(**self.settings)
        except BARE as error:
            raise explained(error, name, self.settings, type(self)._init, {}) from error

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute on Tensors, with the settings that were given."""
        self._called = True
        options = self._options | kwargs
        if not self.sharded:
            return self.operator(self.name, args, options)
        compute = functools.partial(self.operator, self.name, kwargs=options)
        return placement.current().operate(self, args, compute)

    def shard(
        self,
        in_strategy: Strategies | None = None,
        out_strategy: Strategies | None = None,
        *,
        strategy: Strategies | None = None,
    ) -> Self:
        """Set how inputs and outputs are sharded over devices in the semi-automatic parallel mode.

        Args:
            in_strategy: for each Tensor among the inputs a tuple of ints (the number of shards of
                each axis) or a `parallel.Layout`; None leaves them to the compiler.
            out_strategy: the same for each output.
            strategy: what MindSpore 1.x calls `in_strategy`.

        Returns:
            The operator itself. Errors are raised where it is used, when shapes are known.

        Raises:
            TypeError: neither a tuple nor None, or a strategy under both of its names.
        """
        in_strategy = named_once(f"{self.name}.shard", in_strategy, strategy)
        for what, given in (("in_strategy", in_strategy), ("out_strategy", out_strategy)):
            if given is not None and not isinstance(given, tuple):
                raise TypeError(
                    f"{self.name}.shard: {what} must be a tuple with an entry for each Tensor, "
                    f"such as ((2, 1), (1, 4)), got {type(given).__name__} ({given!r})."
                )
        changed = (in_strategy, out_strategy) != (self.in_strategy, self.out_strategy)
        if changed and self._called and tracing.current() is None:
            placement.strategies_moved()
        self.in_strategy, self.out_strategy = in_strategy, out_strategy
        self.sharded = in_strategy is not None or out_strategy is not None
        return self

    def set_device(self, device_target: str) -> Self:
        """Record where MindSpore would run the operator: a program is on one device here.

        Args:
            device_target: "CPU", "GPU" or "Ascend"; "" for none.

        Returns:
            The operator itself.

        Raises:
            TypeError: not a str; ValueError: an unknown name.
        """
        if not isinstance(device_target, str):
            raise TypeError(
                f"{self.name}.set_device: expected a str, got {type(device_target).__name__}."
            )
        if device_target and device_target not in TARGETS:
            raise ValueError(
                f"{self.name}.set_device: {device_target!r} is not one of {', '.join(TARGETS)}."
            )
        return self.add_prim_attr("primitive_target", device_target)

    def add_prim_attr(self, name: str, value: object) -> Self:
        """Record an attribute for MindSpore's graph compiler: it changes nothing; returns self."""
        self.attrs[name] = value
        return self

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in self.settings.items())
        return f"{self.name}({settings})"


#: Where MindSpore can be told to run an operator or an optimizer.
TARGETS = ("CPU", "GPU", "Ascend")


def named_once(call: str, in_strategy: object, strategy: object) -> Any:
    """The strategy that was given under one of its two names.

    Raises:
        TypeError: under both.
    """
    if strategy is None:
        return in_strategy
    if in_strategy is not None:
        raise TypeError(f"{call}: in_strategy and strategy say the same thing; give one.")
    return strategy


def primitive(
    name: str,
    fn: Callable[..., Any],
    init: Callable[..., dict[str, Any]] = _no_settings,
) -> type[Primitive]:
    """A class form of the operator of `fn`.

    Args:
        name: the class's name.
        fn: the functional form.
        init: takes the class's settings and gives the keyword arguments of `fn` that they mean.
    """
    operator = operator_of(fn)
    attributes = {
        "__module__": fn.__module__,
        "__qualname__": name,
        "__doc__": f"Class form of `{operator.name}`. {operator.doc}",
        "operator": operator,
        "_init": staticmethod(init),
    }
    cls = type(name, (Primitive,), attributes)
    if name in CLASSES:
        raise RuntimeError(f"two classes are named {name}")
    operator.classes[name] = CLASSES[name] = cls
    return cls


class OfOne(Protocol):
    """An elementwise operator on one Tensor."""

    __name__: str

    def __call__(self, input: Array) -> Tensor:
        """Compute it."""
        ...


class OfTwo(Protocol):
    """An elementwise operator on two Tensors."""

    __name__: str

    def __call__(self, input: Operand, other: Operand) -> Tensor:
        """Compute it."""
        ...


def unary(
    name: str,
    class_name: str,
    fn: Callable[[Any], Any],
    summary: str,
    kind: Kind = Kind.FLOATING,
) -> tuple[OfOne, type[Primitive]]:
    """Both forms of an elementwise operator on one Tensor.

    Args:
        name: of the function.
        class_name: of the class.
        fn: the computation on a raw value.
        summary: what it computes.
        kind: FLOATING if it yields fractions, ARRAY if it keeps the element type.
    """

    def compute(input: jax.Array) -> jax.Array:
        return fn(input)

    result = "integers and bool as Float32" if kind is Kind.FLOATING else "of the input's type"
    compute.__doc__ = f"{summary}\n\nElementwise, (...) -> (...), {result} unless it gives Bool."
    call = _named(name, compute, {"input": kind})
    return call, primitive(class_name, call)


def binary(
    name: str,
    class_name: str,
    fn: Callable[[Any, Any], Any],
    summary: str,
) -> tuple[OfTwo, type[Primitive]]:
    """Both forms of an elementwise operator on two Tensors, which meet by promotion.

    Args:
        name: of the function.
        class_name: of the class.
        fn: the computation on two raw values of one element type.
        summary: what it computes.
    """

    def compute(input: Any, other: Any) -> Any:
        return fn(input, other)

    compute.__doc__ = (
        f"{summary}\n\nElementwise; shapes broadcast, element types meet by MindSpore's promotion. "
        "Either side may be a number."
    )
    call = _named(name, compute, {"input": Kind.OPERAND, "other": Kind.OPERAND})
    operator_of(call).elementwise = fn is not jnp.power
    return call, primitive(class_name, call)


def _named(name: str, compute: Callable[P, Any], kinds: dict[str, Kind]) -> Callable[P, Tensor]:
    compute.__name__ = compute.__qualname__ = name
    compute.__module__ = sys._getframe(2).f_globals["__name__"]
    compute.__annotations__ = {n: Annotated[Any, kind] for n, kind in kinds.items()}
    return function(compute)


# Results on their way out.


def _wrapped(result: Any) -> Any:
    if isinstance(result, jax.Array):
        return wrap(result)
    if type(result) in (tuple, list):
        return type(result)(_wrapped(item) for item in result)
    return result
