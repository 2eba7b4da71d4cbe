"""Activations as Cells, and their names.

Source of the formulas: `paramesh.ops.activations`. Names, arguments and defaults are MindSpore's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from paramesh.dtype import float32
from paramesh.nn import arguments
from paramesh.nn.arguments import Init
from paramesh.nn.cell import Cell
from paramesh.nn.inner import Inner, sharded
from paramesh.ops import activations as ops
from paramesh.ops.math import neg, sub
from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import Tensor


class _Elementwise(Cell):
    """An activation without settings."""

    function: ClassVar[Callable[[Any], Any]]
    #: The attribute that is the operator, if it is one.
    operator: ClassVar[str] = ""

    def construct(self, x: TensorLike) -> Tensor:
        """(...) -> (...), elementwise."""
        name = type(self).operator
        if name and sharded(self, name):
            return getattr(self, name)(x)
        return type(self).function(x)


class ReLU(_Elementwise):
    """max(x, 0)."""

    function = staticmethod(ops.relu)
    operator = "relu"
    relu = Inner(lambda layer: ops.ReLU())


class ReLU6(_Elementwise):
    """x clipped to the interval [0, 6]."""

    function = staticmethod(ops.relu6)
    operator = "relu6"
    relu6 = Inner(lambda layer: ops.ReLU6())


class Sigmoid(_Elementwise):
    """1 / (1 + exp(-x))."""

    function = staticmethod(ops.sigmoid)
    operator = "sigmoid"
    sigmoid = Inner(lambda layer: ops.Sigmoid())


class Tanh(_Elementwise):
    """Hyperbolic tangent."""

    function = staticmethod(ops.tanh)
    operator = "tanh"
    tanh = Inner(lambda layer: ops.Tanh())


class Tanhshrink(_Elementwise):
    """x - tanh(x)."""

    @staticmethod
    def function(x: TensorLike) -> Tensor:
        """X - tanh(x)."""
        return sub(x, ops.tanh(x))


class SiLU(_Elementwise):
    """x * sigmoid(x)."""

    function = staticmethod(ops.silu)
    operator = "silu"
    silu = Inner(lambda layer: ops.SiLU())


class SeLU(_Elementwise):
    """Scaled exponential linear unit (Klambauer et al. 2017)."""

    function = staticmethod(ops.selu)
    operator = "selu"
    selu = Inner(lambda layer: ops.SeLU())


class HSwish(_Elementwise):
    """x * relu6(x + 3) / 6."""

    function = staticmethod(ops.hardswish)
    operator = "hswish"
    hswish = Inner(lambda layer: ops.HSwish())


class HSigmoid(_Elementwise):
    """relu6(x + 3) / 6."""

    function = staticmethod(ops.hardsigmoid)
    operator = "hsigmoid"
    hsigmoid = Inner(lambda layer: ops.HSigmoid())


class Mish(_Elementwise):
    """x * tanh(softplus(x)) (Misra 2019)."""

    function = staticmethod(ops.mish)
    operator = "mish"
    mish = Inner(lambda layer: ops.Mish())


class Softsign(_Elementwise):
    """x / (1 + |x|)."""

    function = staticmethod(ops.softsign)
    operator = "softsign"
    softsign = Inner(lambda layer: ops.Softsign())


class LogSigmoid(_Elementwise):
    """log(sigmoid(x))."""

    function = staticmethod(ops.logsigmoid)


class FastGelu(_Elementwise):
    """x * sigmoid(1.702 x), near to GELU."""

    function = staticmethod(ops.fast_gelu)
    operator = "fast_gelu"
    fast_gelu = Inner(lambda layer: ops.FastGelu())


class GELU(Cell):
    """x * Φ(x), Φ being the normal distribution function (Hendrycks and Gimpel 2016).

    Args:
        approximate: by a tanh (the default, as in MindSpore); False: exactly, by erf.

    Raises:
        TypeError: `approximate` is not a bool.
    """

    def __init__(self, approximate: bool = True) -> None:
        super().__init__()
        self.approximate = arguments.flag("GELU", "approximate", approximate)

    def construct(self, x: TensorLike) -> Tensor:
        """(...) -> (...), elementwise."""
        if self.approximate and sharded(self, "gelu"):
            return self.gelu(x)
        return ops.gelu(x, "tanh" if self.approximate else "none")

    def extend_repr(self) -> str:
        """The settings."""
        return f"approximate={self.approximate}"

    gelu = Inner(lambda layer: ops.GeLU())


class _OneNumber(Cell):
    """An activation with one number as its setting, kept under the name `argument`."""

    argument: ClassVar[str]
    function: ClassVar[Callable[[Any, Any], Any]]

    def __init__(self, value: float) -> None:
        super().__init__()
        name = self.argument
        setattr(self, name, arguments.number(type(self).__name__, name, value))

    def construct(self, x: TensorLike) -> Tensor:
        """(...) -> (...), elementwise."""
        return type(self).function(x, getattr(self, self.argument))

    def extend_repr(self) -> str:
        """The setting."""
        return f"{self.argument}={getattr(self, self.argument)}"


class LeakyReLU(_OneNumber):
    """x above 0, alpha * x below.

    Raises:
        TypeError: `alpha` is not a number.
    """

    argument = "alpha"
    function = staticmethod(ops.leaky_relu)

    def __init__(self, alpha: float = 0.2) -> None:
        super().__init__(alpha)


class ELU(_OneNumber):
    """x above 0, alpha * (exp(x) - 1) below (Clevert et al. 2015).

    Raises:
        TypeError: `alpha` is not a number.
    """

    argument = "alpha"
    function = staticmethod(ops.elu)

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha)


class CELU(_OneNumber):
    """x above 0, alpha * (exp(x / alpha) - 1) below (Barron 2017).

    Raises:
        TypeError: `alpha` is not a number.
        ValueError: `alpha` is 0.
    """

    argument = "alpha"
    function = staticmethod(ops.celu)

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha)
        if alpha == 0:
            raise ValueError("CELU(alpha): expected a number other than 0, which it divides by.")


class HShrink(_OneNumber):
    """x where |x| > lambd, 0 elsewhere.

    Raises:
        TypeError: `lambd` is not a number.
    """

    argument = "lambd"
    function = staticmethod(ops.hardshrink)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd)


class SoftShrink(_OneNumber):
    """x moved towards 0 by lambd, but not beyond.

    Raises:
        TypeError: `lambd` is not a number.
    """

    argument = "lambd"
    function = staticmethod(ops.softshrink)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd)


class Softplus(Cell):
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x is above `threshold`.

    Raises:
        TypeError: a setting is not a number.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = arguments.number("Softplus", "beta", beta)
        self.threshold = arguments.number("Softplus", "threshold", threshold)

    def construct(self, x: TensorLike) -> Tensor:
        """(...) -> (...), elementwise."""
        return ops.softplus(x, self.beta, self.threshold)

    def extend_repr(self) -> str:
        """The settings."""
        return f"beta={self.beta}, threshold={self.threshold}"


class Hardtanh(Cell):
    """x clipped to the interval [min_val, max_val].

    Raises:
        TypeError: a setting is not a number.
        ValueError: min_val > max_val.
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        super().__init__()
        self.min_val = arguments.number("Hardtanh", "min_val", min_val)
        self.max_val = arguments.number("Hardtanh", "max_val", max_val, low=self.min_val)

    def construct(self, x: TensorLike) -> Tensor:
        """(...) -> (...), elementwise."""
        return ops.hardtanh(x, self.min_val, self.max_val)

    def extend_repr(self) -> str:
        """The settings."""
        return f"min_val={self.min_val}, max_val={self.max_val}"


class Threshold(Cell):
    """x where x > threshold, `value` elsewhere.

    Raises:
        TypeError: a setting is not a number.
    """

    def __init__(self, threshold: float, value: float) -> None:
        super().__init__()
        self.threshold = arguments.number("Threshold", "threshold", threshold)
        self.value = arguments.number("Threshold", "value", value)

    def construct(self, x: TensorLike) -> Tensor:
        """(...) -> (...), elementwise."""
        return ops.threshold(x, self.threshold, self.value)

    def extend_repr(self) -> str:
        """The settings."""
        return f"threshold={self.threshold}, value={self.value}"


class _AlongAxis(Cell):
    """An activation that looks along an axis."""

    function: ClassVar[Callable[[Any, Any], Any]]
    #: The attribute that is the operator, if it is one.
    operator: ClassVar[str] = ""

    def __init__(self, axis: int | tuple[int, ...] = -1) -> None:
        super().__init__()
        self.axis = arguments.axes(type(self).__name__, "axis", axis)

    def construct(self, x: TensorLike) -> Tensor:
        """(...) -> (...), along `axis`."""
        name = type(self).operator
        if name and sharded(self, name):
            return getattr(self, name)(x)
        return type(self).function(x, self.axis)

    def extend_repr(self) -> str:
        """The axis."""
        return f"axis={self.axis}"


class Softmax(_AlongAxis):
    """exp(x) / sum(exp(x)) along an axis, the last by default.

    Raises:
        TypeError: `axis` is neither an int nor a tuple of ints.
    """

    function = staticmethod(ops.softmax)
    operator = "softmax"
    softmax = Inner(lambda layer: ops.Softmax(layer.axis))


class LogSoftmax(_AlongAxis):
    """Logarithm of softmax along an axis, the last by default, without underflow.

    Raises:
        TypeError: `axis` is not an int.
    """

    function = staticmethod(ops.log_softmax)
    operator = "log_softmax"
    log_softmax = Inner(lambda layer: ops.LogSoftmax(layer.axis))

    def __init__(self, axis: int = -1) -> None:
        super().__init__(arguments.integer("LogSoftmax", "axis", axis, -(2**31)))


class Softmin(_AlongAxis):
    """Softmax of -x along an axis, the last by default.

    Raises:
        TypeError: `axis` is neither an int nor a tuple of ints.
    """

    @staticmethod
    def function(x: TensorLike, axis: int | tuple[int, ...]) -> Tensor:
        """Softmax of -x."""
        return ops.softmax(neg(x), axis)


class Softmax2d(Cell):
    """Softmax over the channels of images (n, c, h, w) or (c, h, w)."""

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, h, w) -> (n, c, h, w)."""
        x = arguments.tensor("Softmax2d", x)
        if x.ndim not in (3, 4):
            raise ValueError(f"Softmax2d: expected (n, c, h, w) or (c, h, w), got {x.shape}.")
        return ops.softmax(x, -3)


class GLU(_AlongAxis):
    """a * sigmoid(b), a and b being the halves of x along an axis: (..., 2n) -> (..., n).

    Raises:
        TypeError: `axis` is not an int.
    """

    function = staticmethod(ops.glu)

    def __init__(self, axis: int = -1) -> None:
        super().__init__(arguments.integer("GLU", "axis", axis, -(2**31)))


class PReLU(Cell):
    """x above 0, w * x below, with trained slopes (He et al. 2015).

    Args:
        channel: number of slopes: 1, or one for each channel (axis 1).
        w: their initial value: a number, or anything that `initializer` takes.

    Weights:
        w (named `a` on its own): (channel,).

    Raises:
        TypeError, ValueError: `channel` is not an int of at least 1; `w` is not an initial value
            for (channel,).
    """

    def __init__(self, channel: int = 1, w: Init | Sequence[float] = 0.25) -> None:
        super().__init__()
        size = arguments.integer("PReLU", "channel", channel)
        start = Tensor(w, float32) if isinstance(w, Sequence) and not isinstance(w, str) else w
        self.w = arguments.weight("PReLU", "w", start, (size,), float32, name="a")

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, ...) -> (n, c, ...)."""
        return self.prelu(x, self.w) if sharded(self, "prelu") else ops.prelu(x, self.w)

    prelu = Inner(lambda layer: ops.PReLU())


_BY_NAME: dict[str, type[Cell]] = {
    "softmin": Softmin,
    "softmax": Softmax,
    "softmax2d": Softmax2d,
    "logsoftmax": LogSoftmax,
    "relu": ReLU,
    "relu6": ReLU6,
    "silu": SiLU,
    "tanh": Tanh,
    "tanhshrink": Tanhshrink,
    "gelu": GELU,
    "fast_gelu": FastGelu,
    "fastgelu": FastGelu,
    "elu": ELU,
    "celu": CELU,
    "selu": SeLU,
    "glu": GLU,
    "sigmoid": Sigmoid,
    "softsign": Softsign,
    "softplus": Softplus,
    "prelu": PReLU,
    "leakyrelu": LeakyReLU,
    "hswish": HSwish,
    "hsigmoid": HSigmoid,
    "hardtanh": Hardtanh,
    "logsigmoid": LogSigmoid,
    "softshrink": SoftShrink,
    "hshrink": HShrink,
    "mish": Mish,
}


def get_activation(name: str | None, prim_name: str | None = None) -> Cell | None:
    """A new activation by its name, such as `"relu"`; None for None or `""`.

    Args:
        name: the name, in lower case.
        prim_name: who asks, for the message.

    Raises:
        KeyError: there is no activation of that name.
    """
    if not name:
        return None
    found = _BY_NAME.get(name)
    if found is None:
        raise KeyError(
            f"{prim_name or 'get_activation'}: {name!r} is not an activation. Expected one of "
            f"{', '.join(_BY_NAME)}."
        )
    return found()
