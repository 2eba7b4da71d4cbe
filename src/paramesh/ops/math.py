"""Arithmetic, comparisons, logic and matrix products."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.dtype import DType, to_dtype, x64
from paramesh.ops.table import (
    Array,
    Arrays,
    Dtype,
    Kind,
    Operand,
    alias,
    binary,
    function,
    primitive,
    unary,
)
from paramesh.state import placement
from paramesh.tensor import borders, division, operators
from paramesh.tensor.promotion import cast, floating, scalar_kind

# fmt: off
__all__ = [
    "abs", "Abs", "neg", "Neg", "square", "Square", "sign", "Sign", "floor", "Floor", "ceil",
    "Ceil", "round", "Round", "trunc", "Trunc", "sqrt", "Sqrt", "rsqrt", "Rsqrt", "reciprocal",
    "Reciprocal", "exp", "Exp", "expm1", "Expm1", "log", "Log", "log1p", "Log1p", "log2", "Log2",
    "sin", "Sin", "cos", "Cos", "tan", "Tan", "asin", "Asin", "acos", "ACos", "atan", "Atan",
    "arcsin", "arccos",
    "arctan", "arcsinh", "arccosh", "arctanh", "arctan2", "floor_divide", "floordiv", "floormod",
    "sinh", "Sinh", "cosh", "Cosh", "asinh", "Asinh", "acosh", "Acosh", "atanh", "Atanh", "erf",
    "Erf", "erfc", "Erfc", "isnan", "IsNan", "isinf", "IsInf", "isfinite", "IsFinite",
    "logical_not", "LogicalNot", "bitwise_not", "Invert", "negative", "absolute", "invert", "Inv",
    "inv", "add", "Add", "sub", "Sub", "mul", "Mul", "div", "Div", "div_no_nan", "DivNoNan",
    "floor_div", "FloorDiv", "floor_mod", "FloorMod", "fmod", "FMod", "pow", "Pow", "maximum",
    "Maximum", "minimum", "Minimum", "atan2", "Atan2", "xlogy", "Xlogy", "squared_difference",
    "SquaredDifference", "equal", "Equal", "not_equal", "NotEqual", "greater", "Greater",
    "greater_equal", "GreaterEqual", "less", "Less", "less_equal", "LessEqual", "logical_and",
    "LogicalAnd", "logical_or", "LogicalOr", "logical_xor", "LogicalXor", "bitwise_and",
    "BitwiseAnd", "bitwise_or", "BitwiseOr", "bitwise_xor", "BitwiseXor", "subtract", "multiply",
    "divide", "true_divide", "remainder", "eq", "ne", "gt", "ge", "lt", "le", "TensorAdd",
    "RealDiv", "Mod", "tensor_add", "tensor_sub", "tensor_mul", "tensor_div", "tensor_floordiv",
    "tensor_mod", "tensor_pow", "tensor_exp", "tensor_gt", "tensor_ge", "tensor_lt", "tensor_le",
    "pows", "clamp", "clip", "lerp", "Lerp", "addcmul", "Addcmul", "addcdiv", "Addcdiv", "isclose",
    "nan_to_num", "NanToNum", "addn", "AddN", "AccumulateNV2", "accumulate_n", "matmul", "MatMul",
    "BatchMatMul", "batch_mat_mul", "bmm", "mm", "dense", "Dense", "outer", "tensor_dot",
    "einsum", "cumsum", "cumprod", "CumSum", "CumProd",
]
# fmt: on


SAME = Kind.ARRAY

# Elementwise on one Tensor.


def _inverse(x: jax.Array) -> jax.Array:
    if jnp.issubdtype(x.dtype, jnp.integer):
        return jax.lax.div(jnp.ones_like(x), x)
    return jnp.reciprocal(x)


abs, Abs = unary("abs", "Abs", borders.absolute, "Absolute value.", SAME)
neg, Neg = unary("neg", "Neg", jnp.negative, "The negative.", SAME)
square, Square = unary("square", "Square", jnp.square, "The square.", SAME)
sign, Sign = unary("sign", "Sign", jnp.sign, "-1, 0 or 1 by the sign.", SAME)
floor, Floor = unary("floor", "Floor", jnp.floor, "The largest integer not above.")
ceil, Ceil = unary("ceil", "Ceil", jnp.ceil, "The smallest integer not below.")
round, Round = unary("round", "Round", jnp.round, "The nearest integer, the even one of two.", SAME)
trunc, Trunc = unary("trunc", "Trunc", jnp.trunc, "The integer part, towards zero.", SAME)
sqrt, Sqrt = unary("sqrt", "Sqrt", jnp.sqrt, "Square root.")
rsqrt, Rsqrt = unary("rsqrt", "Rsqrt", jax.lax.rsqrt, "1 / square root.")
reciprocal, Reciprocal = unary("reciprocal", "Reciprocal", jnp.reciprocal, "1 / x.")
exp, Exp = unary("exp", "Exp", jnp.exp, "e to the power of x.")
expm1, Expm1 = unary("expm1", "Expm1", jnp.expm1, "exp(x) - 1, exact near 0.")
log, Log = unary("log", "Log", jnp.log, "Natural logarithm.")
log1p, Log1p = unary("log1p", "Log1p", jnp.log1p, "log(1 + x), exact near 0.")
log2, Log2 = unary("log2", "Log2", jnp.log2, "Logarithm to base 2.")
sin, Sin = unary("sin", "Sin", jnp.sin, "Sine; x in radians.")
cos, Cos = unary("cos", "Cos", jnp.cos, "Cosine; x in radians.")
tan, Tan = unary("tan", "Tan", jnp.tan, "Tangent; x in radians.")
asin, Asin = unary("asin", "Asin", jnp.arcsin, "Arc sine, in radians.")
acos, ACos = unary("acos", "ACos", jnp.arccos, "Arc cosine, in radians.")
atan, Atan = unary("atan", "Atan", jnp.arctan, "Arc tangent, in radians.")
sinh, Sinh = unary("sinh", "Sinh", jnp.sinh, "Hyperbolic sine.")
cosh, Cosh = unary("cosh", "Cosh", jnp.cosh, "Hyperbolic cosine.")
asinh, Asinh = unary("asinh", "Asinh", jnp.arcsinh, "Inverse hyperbolic sine.")
acosh, Acosh = unary("acosh", "Acosh", jnp.arccosh, "Inverse hyperbolic cosine.")
atanh, Atanh = unary("atanh", "Atanh", jnp.arctanh, "Inverse hyperbolic tangent.")
erf, Erf = unary("erf", "Erf", jax.lax.erf, "Error function.")
erfc, Erfc = unary("erfc", "Erfc", jax.lax.erfc, "1 - the error function.")
isnan, IsNan = unary("isnan", "IsNan", jnp.isnan, "Bool: is not a number.", SAME)
isinf, IsInf = unary("isinf", "IsInf", jnp.isinf, "Bool: is infinite.", SAME)
isfinite, IsFinite = unary(
    "isfinite", "IsFinite", jnp.isfinite, "Bool: is neither infinite nor NaN.", SAME
)
logical_not, LogicalNot = unary("logical_not", "LogicalNot", jnp.logical_not, "Bool: not x.", SAME)
bitwise_not, Invert = unary("bitwise_not", "Invert", jnp.invert, "Every bit turned over.", SAME)

negative = alias("negative", neg)
arcsin, arccos, arctan = alias("arcsin", asin), alias("arccos", acos), alias("arctan", atan)
arcsinh, arccosh = alias("arcsinh", asinh), alias("arccosh", acosh)
arctanh = alias("arctanh", atanh)
absolute = alias("absolute", abs)
invert = alias("invert", bitwise_not)
inv, Inv = unary("inv", "Inv", _inverse, "1 / x, of whole numbers towards 0.", SAME)

# Elementwise on two Tensors.


def _subtract(a: jax.Array | float, b: jax.Array | float) -> jax.Array:
    return operators.binary("-", operators._subtract, a, b)


def _no_nan_divide(a: jax.Array | float, b: jax.Array | float) -> jax.Array:
    a, b = _two_floats(a, b)
    safe = jnp.where(b == 0, jnp.ones_like(b), b)
    return jnp.where(b == 0, jnp.zeros_like(a / safe), a / safe)


def _two_floats(a: jax.Array | float, b: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    like = floating(jnp.asarray(b if scalar_kind(a) else a))
    return jnp.asarray(a, like.dtype), jnp.asarray(b, like.dtype)


def _times_log(a: jax.Array | float, b: jax.Array | float) -> jax.Array:
    a, b = _two_floats(a, b)
    # At (0, 0) MindSpore's gradients are 0, where the limits are not finite.
    nothing = (a == 0) & (b == 0)
    return jax.scipy.special.xlogy(a, jnp.where(nothing, jnp.ones_like(b), b))


def _atan2(a: jax.Array | float, b: jax.Array | float) -> jax.Array:
    return jnp.arctan2(*_two_floats(a, b))


def _squared_difference(a: jax.Array | float, b: jax.Array | float) -> jax.Array:
    return jnp.square(jnp.subtract(a, b))


add, Add = binary("add", "Add", jnp.add, "Sum of two Tensors.")
sub, Sub = binary("sub", "Sub", _subtract, "Difference of two Tensors.")
mul, Mul = binary("mul", "Mul", jnp.multiply, "Product of two Tensors, element by element.")


@function
def div(input: Operand, other: Operand, *, rounding_mode: str | None = None) -> Any:
    """Quotient; integers are divided as Float32.

    Elementwise; shapes broadcast, element types meet by MindSpore's promotion. Either side may be a
    number.

    Args:
        input: (...).
        other: (...).
        rounding_mode: None; "floor" rounds down and "trunc" towards 0, in the common element type.
    """
    if rounding_mode not in _ROUNDED:
        raise ValueError(f"rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r}.")
    return _ROUNDED[rounding_mode](input, other)


_ROUNDED: dict[str | None, Callable[..., Any]] = {
    None: operators.true_divide,
    "floor": division.floor_divide,
    "trunc": division.truncate_divide,
}
Div = primitive("Div", div)
div_no_nan, DivNoNan = binary(
    "div_no_nan", "DivNoNan", _no_nan_divide, "Quotient, and 0 where the divisor is 0."
)
floor_div, FloorDiv = binary(
    "floor_div", "FloorDiv", division.floor_divide, "Quotient, rounded down."
)
floor_mod, FloorMod = binary(
    "floor_mod", "FloorMod", jnp.mod, "Remainder with the sign of the divisor."
)
fmod, FMod = binary("fmod", "FMod", jnp.fmod, "Remainder with the sign of the dividend.")
pow, Pow = binary("pow", "Pow", jnp.power, "input to the power of other.")
maximum, Maximum = binary("maximum", "Maximum", jnp.maximum, "The larger of two elements.")
minimum, Minimum = binary("minimum", "Minimum", jnp.minimum, "The smaller of two elements.")
atan2, Atan2 = binary("atan2", "Atan2", _atan2, "Angle of the point (other, input), in radians.")
xlogy, Xlogy = binary("xlogy", "Xlogy", _times_log, "input * log(other), and 0 where input is 0.")
squared_difference, SquaredDifference = binary(
    "squared_difference", "SquaredDifference", _squared_difference, "(input - other)²."
)
equal, Equal = binary("equal", "Equal", jnp.equal, "Bool: input == other.")
not_equal, NotEqual = binary("not_equal", "NotEqual", jnp.not_equal, "Bool: input != other.")
greater, Greater = binary("greater", "Greater", jnp.greater, "Bool: input > other.")
greater_equal, GreaterEqual = binary(
    "greater_equal", "GreaterEqual", jnp.greater_equal, "Bool: input >= other."
)
less, Less = binary("less", "Less", jnp.less, "Bool: input < other.")
less_equal, LessEqual = binary("less_equal", "LessEqual", jnp.less_equal, "Bool: input <= other.")
logical_and, LogicalAnd = binary(
    "logical_and", "LogicalAnd", jnp.logical_and, "Bool: both are true."
)
logical_or, LogicalOr = binary("logical_or", "LogicalOr", jnp.logical_or, "Bool: one is true.")
logical_xor, LogicalXor = binary(
    "logical_xor", "LogicalXor", jnp.logical_xor, "Bool: exactly one is true."
)
bitwise_and, BitwiseAnd = binary(
    "bitwise_and", "BitwiseAnd", jnp.bitwise_and, "Bits that are set in both."
)
bitwise_or, BitwiseOr = binary(
    "bitwise_or", "BitwiseOr", jnp.bitwise_or, "Bits that are set in one."
)
bitwise_xor, BitwiseXor = binary(
    "bitwise_xor", "BitwiseXor", jnp.bitwise_xor, "Bits that are set in exactly one."
)

subtract = alias("subtract", sub)
multiply = alias("multiply", mul)
divide = alias("divide", div)
true_divide = alias("true_divide", div)
remainder = alias("remainder", floor_mod)
eq = alias("eq", equal)
ne = alias("ne", not_equal)
gt = alias("gt", greater)
ge = alias("ge", greater_equal)
lt = alias("lt", less)
le = alias("le", less_equal)

TensorAdd = alias("TensorAdd", Add)
RealDiv = alias("RealDiv", Div)
Mod = alias("Mod", FloorMod)

# MindSpore 1.x's functional names.
tensor_add = alias("tensor_add", add)
tensor_sub = alias("tensor_sub", sub)
tensor_mul = alias("tensor_mul", mul)
tensor_div = alias("tensor_div", div)
tensor_floordiv = alias("tensor_floordiv", floor_div)
floordiv = alias("floordiv", floor_div)
tensor_mod = alias("tensor_mod", floor_mod)
floormod = alias("floormod", floor_mod)
floor_divide = alias("floor_divide", floor_div)
arctan2 = alias("arctan2", atan2)
tensor_pow = alias("tensor_pow", pow)
pows = alias("pows", pow)
tensor_exp = alias("tensor_exp", exp)
tensor_gt = alias("tensor_gt", greater)
tensor_ge = alias("tensor_ge", greater_equal)
tensor_lt = alias("tensor_lt", less)
tensor_le = alias("tensor_le", less_equal)


@function
def clamp(input: Operand, min: Operand = None, max: Operand = None) -> Any:
    """Elements clipped to the interval [min, max].

    Args:
        input: (...). Its gradient is 1 at both ends.
        min: a number, or a Tensor that broadcasts to `input`; None is open.
        max: a number, or a Tensor that broadcasts to `input`; None is open.

    Raises:
        ValueError: both bounds are None.
    """
    if min is None and max is None:
        raise ValueError("min and max are both None: give at least one.")
    return borders.clipped(input, min, max)


clip = alias("clip", clamp)


@function
def lerp(input: Operand, end: Operand, weight: Operand) -> Any:
    """From input to end, by weight: input + weight * (end - input); the three broadcast."""
    return input + weight * (end - input)


Lerp = primitive("Lerp", lerp)


@function
def addcmul(input: Operand, tensor1: Operand, tensor2: Operand, value: Operand = 1) -> Any:
    """Multiply and add: input + value * tensor1 * tensor2; the four broadcast."""
    return input + value * tensor1 * tensor2


Addcmul = primitive("Addcmul", addcmul)


@function
def addcdiv(input: Operand, tensor1: Operand, tensor2: Operand, value: Operand = 1) -> Any:
    """Divide and add: input + value * tensor1 / tensor2; the four broadcast."""
    return input + value * operators.true_divide(tensor1, tensor2)


Addcdiv = primitive("Addcdiv", addcdiv)


@function
def isclose(
    input: Operand, other: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """Bool: |input - other| <= atol + rtol * |other|; shapes broadcast."""
    return jnp.isclose(input, other, rtol, atol, equal_nan)


@function
def nan_to_num(
    input: Array, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """Finite numbers in place of NaN (0) and infinities (the largest and the lowest number).

    (...) -> (...), of the input's type.
    """
    return jnp.nan_to_num(input, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)


NanToNum = primitive(
    "NanToNum",
    nan_to_num,
    lambda nan=None, posinf=None, neginf=None: {"nan": nan, "posinf": posinf, "neginf": neginf},
)


@function
def addn(x: Arrays) -> Any:
    """Sum of several Tensors of one shape and element type: a tuple of (...) -> (...).

    Raises:
        ValueError: an empty tuple, or the shapes differ.
    """
    if not x or any(term.shape != x[0].shape for term in x):
        raise ValueError("expected at least one Tensor, all of one shape.")
    total = x[0]
    for term in x[1:]:
        total = operators.binary("+", jnp.add, total, term)
    return total


AddN = primitive("AddN", addn)
AccumulateNV2 = alias("AccumulateNV2", AddN)
accumulate_n = alias("accumulate_n", addn)

# Products of matrices and vectors.


def _turned(x: jax.Array, wanted: bool) -> jax.Array:
    return jnp.swapaxes(x, -1, -2) if wanted else x


@function
def matmul(input: Array, other: Array, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    """Matrix product (..., n, k) x (..., k, m) -> (..., n, m); vectors of k as in numpy.

    Both sides must have one element type, as in MindSpore. The leading axes broadcast.

    Args:
        input: the left factor.
        other: the right factor.
        transpose_a: exchange the last two axes of `input` first.
        transpose_b: exchange the last two axes of `other` first.

    Raises:
        TypeError: the element types differ.
        ValueError: the inner sizes differ.
    """
    return operators.matmul(_turned(input, transpose_a), _turned(other, transpose_b))


def _transposes(transpose_a: bool = False, transpose_b: bool = False) -> dict[str, Any]:
    return {"transpose_a": transpose_a, "transpose_b": transpose_b}


MatMul = primitive("MatMul", matmul, _transposes)
BatchMatMul = primitive("BatchMatMul", matmul, _transposes)
batch_mat_mul = alias("batch_mat_mul", matmul)
bmm = alias("bmm", matmul)
mm = alias("mm", matmul)


@function
def dense(input: Array, weight: Array, bias: Array = None) -> Any:
    """Dense layer, input @ weight.T + bias: (..., k) x (m, k) + (m,) -> (..., m).

    Raises:
        TypeError: the element types differ.
        ValueError: the inner sizes differ.
    """
    out = operators.matmul(input, weight.T)
    return out if bias is None else out + cast(bias, to_dtype(out.dtype))


Dense = primitive("Dense", dense)


@function
def outer(input: Operand, vec2: Operand) -> Any:
    """Outer product (n,) x (m,) -> (n, m)."""
    return jnp.outer(input, vec2)


@function
def tensor_dot(
    x1: Operand, x2: Operand, axes: int | Sequence[int] | Sequence[Sequence[int]]
) -> Any:
    """Product of two Tensors summed over axes.

    Args:
        x1: the left factor.
        x2: the right factor.
        axes: how many last axes of `x1` meet the first of `x2`, or a pair of lists of axes.
    """
    return jnp.tensordot(x1, x2, axes)


@function
def einsum(equation: str, *operands: Arrays) -> Any:
    """Products and sums in Einstein's notation: `einsum("bij,bjk->bik", x, y)`."""
    return jnp.einsum(equation, *operands)


@function
def cumsum(
    x: Array, axis: int, dtype: Dtype = None, *, exclusive: bool = False, reverse: bool = False
) -> Any:
    """Running sum along an axis: (...) -> (...), of the input's type unless `dtype` is given.

    Args:
        x: the summands.
        axis: along which.
        dtype: element type to sum in.
        exclusive: element i is the sum before element i, not including it.
        reverse: sum from the end.
    """
    return _running(jax.lax.cumsum, 0, x, axis, dtype, exclusive, reverse)


@function
def cumprod(
    input: Array, dim: int, dtype: Dtype = None, *, exclusive: bool = False, reverse: bool = False
) -> Any:
    """Running product along an axis: (...) -> (...), of the input's type unless `dtype` is given.

    Args:
        input: the factors.
        dim: the axis.
        dtype: element type to multiply in.
        exclusive: element i is the product before element i, not including it.
        reverse: multiply from the end.
    """

    def compute(input: jax.Array) -> jax.Array:
        return _running(jax.lax.cumprod, 1, input, dim, dtype, exclusive, reverse)

    return placement.current().undivided(compute, input)


def _running(
    fn: Callable[..., jax.Array],
    start: int,
    x: jax.Array,
    axis: int,
    dtype: DType | None,
    exclusive: bool,
    reverse: bool,
) -> jax.Array:
    value = x if dtype is None else cast(x, dtype)
    if not -value.ndim <= axis < value.ndim:
        raise ValueError(f"axis {axis} is outside the {value.ndim} axes of the input.")
    axis %= value.ndim
    with x64(value):
        # XLA adds from the front, also in reverse: in Float16 that is another number than
        # MindSpore's, which adds from the end.
        out = jnp.flip(fn(jnp.flip(value, axis), axis=axis), axis) if reverse else fn(value, axis)
        if not exclusive:
            return out
        n = value.shape[axis]
        kept = jax.lax.slice_in_dim(out, int(reverse), n - 1 + int(reverse), axis=axis)
        edge = jnp.full_like(jax.lax.slice_in_dim(out, 0, 1, axis=axis), start)
        return jnp.concatenate([kept, edge] if reverse else [edge, kept], axis)


def _exclusive_reverse(exclusive: bool = False, reverse: bool = False) -> dict[str, Any]:
    return {"exclusive": exclusive, "reverse": reverse}


CumSum = primitive("CumSum", cumsum, _exclusive_reverse)
CumProd = primitive("CumProd", cumprod, _exclusive_reverse)
