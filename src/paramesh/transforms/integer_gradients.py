"""Gradients by integer and boolean inputs, as MindSpore gives them.

JAX gives integers no gradient. MindSpore differentiates through them: the gradient of `x * y` by an
Int32 `x` is `y`, cast to Int32. A function of raw arrays is traced here, and evaluated with a float
copy beside each integer that comes from an input to differentiate by. Where such an integer is
converted to a float, the gradient goes to its copy, without its fraction, as in MindSpore.

Glossary
    copy      the float array beside an integer array: equal numbers, through which a gradient flows
    opaque    an integer whose operator has no rule here: a gradient that would flow through it is
              an error, never a zero
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp

from paramesh._compat.jax import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
from paramesh.array_types import Array, Tree
from paramesh.dtype import x64_enabled

#: Through whose integer operands a gradient flows; the values are the positions of operands that
#: only choose (indexes, conditions) and take no part.
_WITH_GRADIENT: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        [
            "add",
            "sub",
            "mul",
            "neg",
            "max",
            "min",
            "abs",
            "integer_pow",
            "dot_general",
            "clamp",
            "add_any",
            "reduce_sum",
            "reduce_max",
            "reduce_min",
            "reduce_prod",
            "cumsum",
            "cumprod",
            "cummax",
            "cummin",
            "reshape",
            "transpose",
            "broadcast_in_dim",
            "squeeze",
            "expand_dims",
            "concatenate",
            "slice",
            "rev",
            "pad",
            "copy",
            "copy_p",
            "split",
            "square",
            "tile",
            "sort",
            "conv_general_dilated",
            "sharding_constraint",
        ],
        (),
    ),
    "select_n": (0,),
}
#: The same, where only the operands at these positions take part, and the rest are indexes.
_BY_DATA: dict[str, tuple[int, ...]] = {
    "gather": (0,),
    "dynamic_slice": (0,),
    "dynamic_update_slice": (0, 1),
    "scatter": (0, 2),
    "scatter-add": (0, 2),
    "scatter_add": (0, 2),
    "scatter-max": (0, 2),
    "scatter-min": (0, 2),
}
#: Operators that hold a program for the type of their operands.
_MADE_ANEW: dict[str, Callable[..., Array]] = {
    "scatter-max": jax.lax.scatter_max,
    "scatter-min": jax.lax.scatter_min,
}
#: Constant almost everywhere, or without any gradient: it is zero, as MindSpore's.
_WITHOUT_GRADIENT = frozenset(
    [
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "and",
        "or",
        "xor",
        "not",
        "sign",
        "div",
        "rem",
        "shift_left",
        "shift_right_logical",
        "shift_right_arithmetic",
        "population_count",
        "clz",
        "argmax",
        "argmin",
        "iota",
        "is_finite",
        "stop_gradient",
        "reduce_and",
        "reduce_or",
        "reduce_xor",
        "random_seed",
        "random_wrap",
        "random_fold_in",
        "threefry2x32",
        "pure_callback",
        "io_callback",
        "debug_callback",
        "debug_print",
    ]
)
#: Operators that are their inner program.
_INLINE = frozenset(
    {"jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "custom_jvp_call"}
)


class _Opaque(NamedTuple):
    """The operator that a gradient would have to pass."""

    operator: str


_Copy: TypeAlias = Any  #: a float array, an `_Opaque`, or None


def float_copy(array: Array) -> Array:
    """The float array that stands for an integer array: exact to 2**24, in 64-bit mode to 2**53."""
    return jnp.asarray(array).astype(jnp.float64 if x64_enabled() else jnp.float32)


def to_integers(gradient: Array, like: Array) -> Array:
    """A gradient by a float copy, in the element type of the integers."""
    if jnp.asarray(like).dtype == jnp.bool_:
        return gradient != 0
    return gradient.astype(jnp.asarray(like).dtype)


def with_copies(
    fn: Callable[..., Any], integers: Sequence[Array], copies: Sequence[Array], floats: Tree
) -> tuple[list[Any], Any]:
    """Call `fn(integers, floats)` such that gradients reach the copies of the integers.

    Args:
        fn: returns (list of raw arrays to differentiate, anything else of arrays).
        integers: raw arrays of integer and boolean types.
        copies: `float_copy` of each.
        floats: a pytree of arrays, differentiated as always.

    Returns:
        (arrays to differentiate, the rest). An array of integers that depends on the inputs is
        a pair of itself and its copy; one that does not is itself.

    Raises:
        TypeError: a gradient would pass an operator of integers that has no rule here.
        jax.errors.ConcretizationTypeError: `fn` asks for the value of an array.
    """
    closed, shape = jax.make_jaxpr(fn, return_shape=True)(list(integers), floats)
    leaves = jax.tree.leaves(floats)
    out = _evaluate(
        closed.jaxpr,
        closed.consts,
        [*zip(integers, copies, strict=True), *((leaf, None) for leaf in leaves)],
    )
    main, rest = shape
    flags, tree = jax.tree.flatten(rest)
    wanted = []
    for value, copy in out[: len(main)]:
        if isinstance(copy, _Opaque):
            raise _no_rule(copy.operator)
        wanted.append(value if copy is None else (value, copy))
    others = jax.tree.unflatten(tree, [value for value, _ in out[len(main) :]])
    assert len(flags) == len(out) - len(main)
    return wanted, others


def _evaluate(
    program: Jaxpr, constants: Sequence[Any], inputs: Sequence[tuple[Any, _Copy]]
) -> list[tuple[Any, _Copy]]:
    """(value, copy) of each output of a program for those of its inputs."""
    known: dict[Any, tuple[Any, _Copy]] = {}
    for variable, constant in zip(program.constvars, constants, strict=True):
        known[variable] = (constant, None)
    known.update(zip(program.invars, inputs, strict=True))

    def read(atom: Atom) -> tuple[Any, _Copy]:
        return (atom.val, None) if isinstance(atom, Literal) else known[atom]

    for equation in program.eqns:
        given = [read(atom) for atom in equation.invars]
        known.update(zip(equation.outvars, _apply(program, equation, given), strict=True))
    return [read(atom) for atom in program.outvars]


def _apply(
    program: Jaxpr, equation: JaxprEqn, given: list[tuple[Any, _Copy]]
) -> list[tuple[Any, _Copy]]:
    name = equation.primitive.name
    copies = [copy for _, copy in given]
    inner = _inner(equation) if name in _INLINE else None
    own_rule = name == "custom_jvp_call" and any(_is_float(value) for value, _ in given)
    if inner is not None and not own_rule and any(copy is not None for copy in copies):
        return _evaluate(inner.jaxpr, inner.consts, given)
    values = _run(program, equation, [value for value, _ in given])
    if all(copy is None for copy in copies) or name in _WITHOUT_GRADIENT:
        return [(value, None) for value in values]
    if name == "convert_element_type":
        return [_converted(given[0], values[0])]
    data = _BY_DATA.get(name)
    if name in _WITH_GRADIENT or data is not None:
        skipped = _WITH_GRADIENT.get(name, ())
        takes_part = [(data is None or i in data) and i not in skipped for i in range(len(given))]
        used = [c for c, part in zip(copies, takes_part, strict=True) if part and c is not None]
        if not used or any(_is_float(value) for value in values):
            return [(value, None) for value in values]
        opaque = next((copy for copy in used if isinstance(copy, _Opaque)), None)
        if opaque is not None:
            return [(value, opaque) for value in values]
        of_floats = [
            (float_copy(value) if copy is None else copy) if part else value
            for (value, copy), part in zip(given, takes_part, strict=True)
        ]
        return list(zip(values, _bind_floats(equation, of_floats), strict=True))
    if any(_is_float(value) for value in values) and _converts(equation, copies):
        raise _no_rule(name)
    return [(value, None if _is_float(value) else _Opaque(name)) for value in values]


def _converted(given: tuple[Any, _Copy], value: Array) -> tuple[Any, _Copy]:
    """The outcome of a conversion of integers to another type."""
    before, copy = given
    if isinstance(copy, _Opaque):
        if _is_float(value):
            raise _no_rule(copy.operator)
        return value, copy
    boolean = jnp.asarray(before).dtype == jnp.bool_
    copy = _truth(copy) if boolean else copy if not _is_float(value) else _whole(copy)
    return (_attached(value, copy), None) if _is_float(value) else (value, copy)


@jax.custom_vjp
def _attached(value: Array, copy: Array) -> Array:
    """`value`, whose gradient goes to `copy`."""
    del copy
    return value


def _attached_forward(value: Array, copy: Array) -> tuple[Array, Array]:
    return value, jnp.zeros((), copy.dtype)


def _attached_back(like: Array, gradient: Array) -> tuple[Array, Array]:
    return jnp.zeros_like(gradient), jnp.real(gradient).astype(like.dtype)


_attached.defvjp(_attached_forward, _attached_back)


@jax.custom_vjp
def _whole(copy: Array) -> Array:
    """The copy of an integer, whose gradient is an integer, too."""
    return copy


_whole.defvjp(lambda copy: (copy, None), lambda _, gradient: (jnp.trunc(gradient),))


@jax.custom_vjp
def _truth(copy: Array) -> Array:
    """The copy of a boolean, whose gradient is a boolean, too."""
    return copy


_truth.defvjp(
    lambda copy: (copy, None), lambda _, gradient: ((gradient != 0).astype(gradient.dtype),)
)


def _bind_floats(equation: JaxprEqn, values: list[Any]) -> list[Any]:
    """The operator of an equation for floats in place of integers."""
    params = dict(equation.params)
    anew = _MADE_ANEW.get(equation.primitive.name)
    if anew is not None:
        names = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
        return [anew(*values, **{name: params[name] for name in names})]
    if params.get("preferred_element_type") is not None:
        params["preferred_element_type"] = jnp.float64 if x64_enabled() else jnp.float32
    out = equation.primitive.bind(*values, **params)
    return list(out) if equation.primitive.multiple_results else [out]


def _run(program: Jaxpr, equation: JaxprEqn, values: list[Any]) -> list[Any]:
    """The outputs of one equation, calculated as ever."""
    variables = {}
    for atom, value in zip(equation.invars, values, strict=True):
        if not isinstance(atom, Literal):
            variables[atom] = value
    alone = program.replace(
        constvars=[],
        invars=list(variables),
        outvars=list(equation.outvars),
        eqns=[equation],
        debug_info=program.debug_info.with_unknown_names(),
    )
    return jaxpr_as_fun(ClosedJaxpr(alone, []))(*variables.values())


def _inner(equation: JaxprEqn) -> ClosedJaxpr | None:
    for key in ("jaxpr", "call_jaxpr"):
        inner = equation.params.get(key)
        if inner is not None:
            return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, [])
    return None


def _converts(equation: JaxprEqn, copies: Sequence[_Copy]) -> bool:
    """Whether an operator with programs inside may convert these integers to floats."""
    inner = [
        program
        for param in equation.params.values()
        for program in (param if isinstance(param, tuple | list) else (param,))
        if isinstance(program, ClosedJaxpr | Jaxpr)
    ]
    if not inner:
        return True
    return any(_converts_integers(cast(Any, getattr(p, "jaxpr", p))) for p in inner)


def _converts_integers(program: Jaxpr) -> bool:
    for equation in program.eqns:
        if equation.primitive.name == "convert_element_type":
            before, after = equation.invars[0].aval, equation.outvars[0].aval
            if (
                not _is_float(before)
                and _is_float(after)
                and not isinstance(equation.invars[0], Literal)
            ):
                return True
        elif any(
            _converts_integers(cast(Any, getattr(p, "jaxpr", p)))
            for param in equation.params.values()
            for p in (param if isinstance(param, tuple | list) else (param,))
            if isinstance(p, ClosedJaxpr | Jaxpr)
        ):
            return True
    return False


def _is_float(value: object) -> bool:
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def _no_rule(operator: str) -> TypeError:
    return TypeError(
        f"The gradient by an integer input would pass '{operator}', which has none for integers. "
        "Cast the input to a float type before the call, or leave it out with grad_position."
    )
