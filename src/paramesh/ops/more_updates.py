"""More steps of optimizers as operators: of all rows of a Parameter, and of some.

Each rule is one function of raw values, which `ops.ApplyFtrl` applies to whole Parameters and
`ops.FusedSparseFtrl` to the rows that `indices` name: gradients of one row add up first, and other
rows stay as they are. Positions outside are left out.

Source: MindSpore's operators of these names; AdaMax and AMSGrad (Kingma and Ba 2015, Reddi et al.
2018), Adadelta (Zeiler 2012), FTRL (McMahan et al. 2013), PowerSign and AddSign (Bello et al.
2017).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.ops.table import Array, function, other_function, primitive, tuple_function
from paramesh.ops.updates import write
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import NumberLike, RawNumber, TensorLike
from paramesh.tensor.base import raw

# fmt: off
__all__ = [
    "apply_ada_max", "ApplyAdaMax", "apply_adadelta", "ApplyAdadelta", "apply_adagrad_v2",
    "ApplyAdagradV2", "apply_adam_with_amsgrad", "ApplyAdamWithAmsgrad", "apply_ftrl", "ApplyFtrl",
    "apply_power_sign", "ApplyPowerSign", "apply_add_sign", "ApplyAddSign",
    "apply_proximal_adagrad", "ApplyProximalAdagrad", "apply_proximal_gradient_descent",
    "ApplyProximalGradientDescent", "apply_centered_rms_prop", "ApplyCenteredRMSProp",
    "sparse_apply_adagrad", "SparseApplyAdagrad", "SparseApplyAdagradV2", "sparse_apply_ftrl",
    "SparseApplyFtrl", "FusedSparseFtrl", "sparse_apply_proximal_adagrad",
    "SparseApplyProximalAdagrad", "FusedSparseProximalAdagrad", "sparse_lazy_adam",
    "FusedSparseLazyAdam", "sparse_adam", "FusedSparseAdam", "sparse_apply_rms_prop",
    "SparseApplyRMSProp",
]
# fmt: on

Raw = jax.Array


def _adagrad(var: Raw, accum: Raw, g: Raw, lr: RawNumber, epsilon: float, grows: bool) -> Any:
    total = accum + g * g if grows else accum
    return var - lr * g / (jnp.sqrt(total) + epsilon), total


def _ftrl(
    var: Raw,
    accum: Raw,
    linear: Raw,
    g: Raw,
    lr: RawNumber,
    l1: RawNumber,
    l2: RawNumber,
    power: RawNumber,
) -> Any:
    total = accum + g * g
    before, after = accum**-power, total**-power
    slope = linear + g - (after - before) / lr * var
    new = (l1 * jnp.sign(slope) - slope) / (after / lr + 2 * l2)
    return jnp.where(jnp.abs(slope) > l1, new, 0), total, slope


def _proximal(moved: Raw, rate: RawNumber, l1: RawNumber, l2: RawNumber) -> Raw:
    return jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - rate * l1, 0) / (1 + rate * l2)


def _proximal_adagrad(
    var: Raw, accum: Raw, g: Raw, lr: RawNumber, l1: RawNumber, l2: RawNumber
) -> Any:
    total = accum + g * g
    rate = lr / jnp.sqrt(total)
    return _proximal(var - rate * g, rate, l1, l2), total


def _moments(m: Raw, v: Raw, g: Raw, beta1: RawNumber, beta2: RawNumber) -> tuple[Raw, Raw]:
    return beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g


@tuple_function
def apply_ada_max(
    var: Parameter, m: Parameter, v: Parameter, beta1_power: NumberLike, lr: NumberLike,
    beta1: NumberLike, beta2: NumberLike, epsilon: NumberLike, grad: TensorLike,
) -> Any:  # fmt: skip
    """A step of AdaMax: v is the largest gradient that decays by beta2.

    Returns:
        (var, m, v).
    """
    g = raw(grad)
    mean = raw(beta1) * raw(m) + (1 - raw(beta1)) * g
    largest = jnp.maximum(raw(beta2) * raw(v), jnp.abs(g))
    rate = raw(lr) / (1 - raw(beta1_power))
    return write((var, raw(var) - rate * mean / (largest + raw(epsilon))), (m, mean), (v, largest))


@tuple_function
def apply_adadelta(
    var: Parameter, accum: Parameter, accum_update: Parameter, lr: NumberLike, rho: NumberLike,
    epsilon: NumberLike, grad: TensorLike,
) -> Any:  # fmt: skip
    """A step of Adadelta.

    Returns:
        (var, accum, accum_update): the means of squares of gradients and of changes.
    """
    g, keep = raw(grad), raw(rho)
    squares = keep * raw(accum) + (1 - keep) * g * g
    change = g * jnp.sqrt(raw(accum_update) + raw(epsilon)) / jnp.sqrt(squares + raw(epsilon))
    changes = keep * raw(accum_update) + (1 - keep) * change * change
    return write((var, raw(var) - raw(lr) * change), (accum, squares), (accum_update, changes))


@tuple_function
def apply_adagrad_v2(
    var: Parameter, accum: Parameter, lr: NumberLike, grad: TensorLike, epsilon: float = 1e-6,
    update_slots: bool = True,
) -> Any:  # fmt: skip
    """A step of Adagrad: var falls by lr * grad / (sqrt(accum) + epsilon).

    Returns:
        (var, accum).
    """
    new = _adagrad(raw(var), raw(accum), raw(grad), raw(lr), epsilon, update_slots)
    return write(*zip((var, accum), new, strict=True))


@tuple_function
def apply_adam_with_amsgrad(
    var: Parameter, m: Parameter, v: Parameter, vhat: Parameter, beta1_power: NumberLike,
    beta2_power: NumberLike, lr: NumberLike, grad: TensorLike, beta1: float = 0.9,
    beta2: float = 0.999, epsilon: float = 1e-8,
) -> Any:  # fmt: skip
    """A step of AMSGrad: Adam, divided by the largest v so far, which is `vhat`.

    Returns:
        (var, m, v, vhat).
    """
    mean, square = _moments(raw(m), raw(v), raw(grad), beta1, beta2)
    largest = jnp.maximum(raw(vhat), square)
    rate = raw(lr) * jnp.sqrt(1 - raw(beta2_power)) / (1 - raw(beta1_power))
    new = raw(var) - rate * mean / (jnp.sqrt(largest) + epsilon)
    return write((var, new), (m, mean), (v, square), (vhat, largest))


@other_function
def apply_ftrl(
    var: Parameter, accum: Parameter, linear: Parameter, grad: TensorLike, lr: NumberLike,
    l1: NumberLike, l2: NumberLike, lr_power: NumberLike,
) -> Any:  # fmt: skip
    """A step of FTRL-proximal; lr_power is -0.5 in the paper. Gives var."""
    settings = raw(lr), raw(l1), raw(l2), raw(lr_power)
    new = _ftrl(raw(var), raw(accum), raw(linear), raw(grad), *settings)
    return write(*zip((var, accum, linear), new, strict=True))[0]


@tuple_function
def apply_power_sign(
    var: Parameter, m: Parameter, lr: NumberLike, logbase: NumberLike, sign_decay: NumberLike,
    beta: NumberLike, grad: TensorLike,
) -> Any:  # fmt: skip
    """A step of PowerSign: larger where the gradient has the sign of its mean.

    Returns:
        (var, m).
    """
    g = raw(grad)
    mean = raw(beta) * raw(m) + (1 - raw(beta)) * g
    power = raw(logbase) * raw(sign_decay) * jnp.sign(g) * jnp.sign(mean)
    return write((var, raw(var) - raw(lr) * jnp.exp(power) * g), (m, mean))


@tuple_function
def apply_add_sign(
    var: Parameter, m: Parameter, lr: NumberLike, alpha: NumberLike, sign_decay: NumberLike,
    beta: NumberLike, grad: TensorLike,
) -> Any:  # fmt: skip
    """A step of AddSign: as PowerSign, with alpha + sign_decay * agreement as its factor.

    Returns:
        (var, m).
    """
    g = raw(grad)
    mean = raw(beta) * raw(m) + (1 - raw(beta)) * g
    factor = raw(alpha) + raw(sign_decay) * jnp.sign(g) * jnp.sign(mean)
    return write((var, raw(var) - raw(lr) * factor * g), (m, mean))


@tuple_function
def apply_proximal_adagrad(
    var: Parameter, accum: Parameter, lr: NumberLike, l1: NumberLike, l2: NumberLike,
    grad: TensorLike,
) -> Any:  # fmt: skip
    """A step of Adagrad with penalties l1 * |var| and l2 * var² / 2 taken in full.

    Returns:
        (var, accum).
    """
    new = _proximal_adagrad(raw(var), raw(accum), raw(grad), raw(lr), raw(l1), raw(l2))
    return write(*zip((var, accum), new, strict=True))


@function
def apply_proximal_gradient_descent(
    var: Parameter, alpha: NumberLike, l1: NumberLike, l2: NumberLike, delta: TensorLike
) -> Any:
    """A step of gradient descent with penalties l1 * |var| and l2 * var² / 2; gives var."""
    rate = raw(alpha)
    return write((var, _proximal(raw(var) - rate * raw(delta), rate, raw(l1), raw(l2))))


@other_function
def apply_centered_rms_prop(
    var: Parameter, mean_gradient: Parameter, mean_square: Parameter, moment: Parameter,
    grad: TensorLike, learning_rate: NumberLike, decay: NumberLike, momentum: NumberLike,
    epsilon: NumberLike,
) -> Any:  # fmt: skip
    """A step of RMSProp that divides by the root of the gradient's variance; gives var."""
    g, keep = raw(grad), raw(decay)
    mean = keep * raw(mean_gradient) + (1 - keep) * g
    square = keep * raw(mean_square) + (1 - keep) * g * g
    spread = jnp.sqrt(square - mean * mean + raw(epsilon))
    change = raw(momentum) * raw(moment) + raw(learning_rate) * g / spread
    new = raw(var) - change
    return write((var, new), (mean_gradient, mean), (mean_square, square), (moment, change))[0]


# Of some rows.


def _same_shapes(variables: tuple[Parameter, ...]) -> None:
    shapes = [tuple(each.shape) for each in variables]
    if len(set(shapes)) > 1:
        raise ValueError(f"the variable and its states must have one shape, got {shapes}.")


def _by_rows(
    variables: tuple[Parameter, ...],
    grad: TensorLike,
    indices: Raw,
    rule: Callable[..., tuple[Raw, ...]],
) -> Any:
    """Write what the rule gives for the named rows of each variable."""
    _same_shapes(variables)
    g, places = raw(grad), indices.reshape(-1)
    if g.shape != (*places.shape, *variables[0].shape[1:]):
        raise ValueError(
            f"grad must have a row for each index, {(*places.shape, *variables[0].shape[1:])}, "
            f"got {tuple(g.shape)}."
        )
    count = variables[0].shape[0]
    named, at = jnp.unique(places, return_inverse=True, size=places.size, fill_value=count)
    total = jnp.zeros(g.shape, g.dtype).at[at.reshape(-1)].add(g)
    rows = [raw(each).at[named].get(mode="clip") for each in variables]
    new = rule(*rows, total)
    pairs = zip(variables, new, strict=True)
    return write(*((each, raw(each).at[named].set(value, mode="drop")) for each, value in pairs))


@tuple_function
def sparse_apply_adagrad(
    var: Parameter, accum: Parameter, grad: TensorLike, indices: Array, lr: float,
    epsilon: float = 0.0, update_slots: bool = True,
) -> Any:  # fmt: skip
    """A step of Adagrad for some rows: grad (k, ...), indices (k,).

    Returns:
        (var, accum).
    """

    def rule(var: Raw, accum: Raw, g: Raw) -> Any:
        return _adagrad(var, accum, g, lr, epsilon, update_slots)

    return _by_rows((var, accum), grad, indices, rule)


@tuple_function
def sparse_apply_ftrl(
    var: Parameter, accum: Parameter, linear: Parameter, grad: TensorLike, indices: Array,
    lr: float, l1: float, l2: float, lr_power: float,
) -> Any:  # fmt: skip
    """A step of FTRL for some rows: grad (k, ...), indices (k,).

    Returns:
        (var, accum, linear).
    """

    def rule(var: Raw, accum: Raw, linear: Raw, g: Raw) -> Any:
        return _ftrl(var, accum, linear, g, lr, l1, l2, lr_power)

    return _by_rows((var, accum, linear), grad, indices, rule)


@tuple_function
def sparse_apply_proximal_adagrad(
    var: Parameter, accum: Parameter, lr: NumberLike, l1: NumberLike, l2: NumberLike,
    grad: TensorLike, indices: Array,
) -> Any:  # fmt: skip
    """A step of Adagrad with penalties for some rows: grad (k, ...), indices (k,).

    Returns:
        (var, accum).
    """

    def rule(var: Raw, accum: Raw, g: Raw) -> Any:
        return _proximal_adagrad(var, accum, g, raw(lr), raw(l1), raw(l2))

    return _by_rows((var, accum), grad, indices, rule)


def _rate(beta1_power: NumberLike, beta2_power: NumberLike, lr: NumberLike) -> Any:
    return raw(lr) * jnp.sqrt(1 - raw(beta2_power)) / (1 - raw(beta1_power))


@tuple_function
def sparse_lazy_adam(
    var: Parameter, m: Parameter, v: Parameter, beta1_power: NumberLike, beta2_power: NumberLike,
    lr: NumberLike, beta1: NumberLike, beta2: NumberLike, epsilon: NumberLike, gradient: TensorLike,
    indices: Array, use_nesterov: bool = False,
) -> Any:  # fmt: skip
    """A step of Adam for some rows, (k, ...) and (k,): other rows and their moments stay.

    Returns:
        (var, m, v).
    """
    b1 = raw(beta1)

    def rule(var: Raw, m: Raw, v: Raw, g: Raw) -> Any:
        mean, square = _moments(m, v, g, b1, raw(beta2))
        ahead = b1 * mean + (1 - b1) * g if use_nesterov else mean
        change = _rate(beta1_power, beta2_power, lr) * ahead / (jnp.sqrt(square) + raw(epsilon))
        return var - change, mean, square

    return _by_rows((var, m, v), gradient, indices, rule)


@tuple_function
def sparse_adam(
    var: Parameter, m: Parameter, v: Parameter, beta1_power: NumberLike, beta2_power: NumberLike,
    lr: NumberLike, beta1: NumberLike, beta2: NumberLike, epsilon: NumberLike, gradient: TensorLike,
    indices: Array, use_nesterov: bool = False,
) -> Any:  # fmt: skip
    """A step of Adam with a gradient that is zero but for some rows, (k, ...) and (k,).

    Returns:
        (var, m, v).
    """
    _same_shapes((var, m, v))
    g = jnp.zeros(var.shape, raw(gradient).dtype).at[indices].add(raw(gradient), mode="drop")
    b1 = raw(beta1)
    mean, square = _moments(raw(m), raw(v), g, b1, raw(beta2))
    ahead = b1 * mean + (1 - b1) * g if use_nesterov else mean
    change = _rate(beta1_power, beta2_power, lr) * ahead / (jnp.sqrt(square) + raw(epsilon))
    return write((var, raw(var) - change), (m, mean), (v, square))


def _no_locking(use_locking: bool = False) -> dict[str, Any]:
    return {}


def _nesterov(use_locking: bool = False, use_nesterov: bool = False) -> dict[str, Any]:
    return {"use_nesterov": use_nesterov}


def _ftrl_settings(
    lr: float, l1: float, l2: float, lr_power: float, use_locking: bool = False
) -> dict[str, Any]:
    if lr <= 0 or l1 < 0 or l2 < 0 or lr_power > 0:
        raise ValueError(
            f"lr must be above 0, l1 and l2 from 0 on and lr_power up to 0, got lr={lr}, l1={l1}, "
            f"l2={l2}, lr_power={lr_power}."
        )
    return {"lr": lr, "l1": l1, "l2": l2, "lr_power": lr_power}


ApplyAdaMax = primitive("ApplyAdaMax", apply_ada_max)
ApplyAdadelta = primitive("ApplyAdadelta", apply_adadelta)
ApplyAdagradV2 = primitive(
    "ApplyAdagradV2",
    apply_adagrad_v2,
    lambda epsilon, update_slots=True: {"epsilon": epsilon, "update_slots": update_slots},
)
ApplyAdamWithAmsgrad = primitive(
    "ApplyAdamWithAmsgrad",
    apply_adam_with_amsgrad,
    lambda beta1=0.9, beta2=0.999, epsilon=1e-8, use_locking=False: dict(
        beta1=beta1, beta2=beta2, epsilon=epsilon
    ),
)
ApplyFtrl = primitive("ApplyFtrl", apply_ftrl, _no_locking)
ApplyPowerSign = primitive("ApplyPowerSign", apply_power_sign)
ApplyAddSign = primitive("ApplyAddSign", apply_add_sign)
ApplyProximalAdagrad = primitive("ApplyProximalAdagrad", apply_proximal_adagrad, _no_locking)
ApplyProximalGradientDescent = primitive(
    "ApplyProximalGradientDescent", apply_proximal_gradient_descent
)
ApplyCenteredRMSProp = primitive("ApplyCenteredRMSProp", apply_centered_rms_prop, _no_locking)
SparseApplyAdagrad = primitive(
    "SparseApplyAdagrad",
    sparse_apply_adagrad,
    lambda lr, update_slots=True, use_locking=False: {"lr": lr, "update_slots": update_slots},
)
SparseApplyAdagradV2 = primitive(
    "SparseApplyAdagradV2",
    sparse_apply_adagrad,
    lambda lr, epsilon, use_locking=False, update_slots=True: dict(
        lr=lr, epsilon=epsilon, update_slots=update_slots
    ),
)
SparseApplyFtrl = primitive("SparseApplyFtrl", sparse_apply_ftrl, _ftrl_settings)
FusedSparseFtrl = primitive("FusedSparseFtrl", sparse_apply_ftrl, _ftrl_settings)
SparseApplyProximalAdagrad = primitive(
    "SparseApplyProximalAdagrad", sparse_apply_proximal_adagrad, _no_locking
)
FusedSparseProximalAdagrad = primitive(
    "FusedSparseProximalAdagrad", sparse_apply_proximal_adagrad, _no_locking
)
FusedSparseLazyAdam = primitive("FusedSparseLazyAdam", sparse_lazy_adam, _nesterov)
FusedSparseAdam = primitive("FusedSparseAdam", sparse_adam, _nesterov)


@tuple_function
def sparse_apply_rms_prop(
    var: Parameter, ms: Parameter, mom: Parameter, lr: NumberLike, grad: TensorLike,
    indices: Array, rho: float, momentum: float, epsilon: float,
) -> Any:  # fmt: skip
    """A step of RMSProp for some rows: grad (k, ...), indices (k,).

    Returns:
        (var, ms, mom): the means of squares of gradients, and the running sums of changes.
    """

    def rule(var: Raw, ms: Raw, mom: Raw, g: Raw) -> Any:
        # As in MindSpore, a gradient of 0 is none for the means.
        square = jnp.where(g == 0, ms, rho * ms + (1 - rho) * g * g)
        change = momentum * mom + raw(lr) * g / jnp.sqrt(square + epsilon)
        return var - change, square, change

    return _by_rows((var, ms, mom), grad, indices, rule)


SparseApplyRMSProp = primitive(
    "SparseApplyRMSProp",
    sparse_apply_rms_prop,
    lambda rho, momentum, epsilon, use_locking=False: dict(
        rho=rho, momentum=momentum, epsilon=epsilon
    ),
)
