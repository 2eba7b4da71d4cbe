"""One step of an optimizer as an operator that writes its Parameters: `ops.Adam` and its like.

Optimizers are made of optax (`paramesh.optim`); these are for scripts whose optimizers are their
own, over MindSpore's fused operators. Each writes the variable and its state, and gives what it
wrote.

Source: MindSpore's operators of these names, and the papers that they name.
"""

from typing import Any

import jax.numpy as jnp

from paramesh.ops.table import other_function, primitive
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import NumberLike, TensorLike
from paramesh.tensor.base import raw

# fmt: off
__all__ = [
    "apply_adam", "Adam", "apply_adam_weight_decay", "AdamWeightDecay", "apply_momentum",
    "ApplyMomentum", "apply_adagrad", "ApplyAdagrad", "apply_gradient_descent",
    "ApplyGradientDescent", "apply_rms_prop", "ApplyRMSProp",
]
# fmt: on


def write(*pairs: tuple[Any, Any]) -> Any:
    """Each new value into its Parameter, in its element type; the values."""
    out = []
    for variable, value in pairs:
        if not isinstance(variable, Parameter):
            raise TypeError(
                f"the operator writes its variables: give Parameters, got "
                f"{type(variable).__name__}."
            )
        variable.assign(jnp.asarray(value, variable.dtype.np_dtype))
        out.append(raw(variable))
    return out[0] if len(out) == 1 else tuple(out)


@other_function
def apply_adam(
    var: Parameter,
    m: Parameter,
    v: Parameter,
    beta1_power: NumberLike,
    beta2_power: NumberLike,
    lr: NumberLike,
    beta1: NumberLike,
    beta2: NumberLike,
    epsilon: NumberLike,
    gradient: TensorLike,
    use_nesterov: bool = False,
) -> Any:
    """A step of Adam (Kingma and Ba 2015).

    Args:
        var: the Parameter.
        m: the mean of gradients, a Parameter of its shape.
        v: the mean of their squares, likewise.
        beta1_power: beta1 to the power of the number of steps.
        beta2_power: beta2 to that power.
        lr: the learning rate.
        beta1: how much of m is kept.
        beta2: how much of v is kept.
        epsilon: added to the root of v.
        gradient: of the shape of `var`.
        use_nesterov: Nesterov's look ahead.

    Returns:
        (var, m, v).
    """
    g, b1, b2 = raw(gradient), raw(beta1), raw(beta2)
    mean = b1 * raw(m) + (1 - b1) * g
    square = b2 * raw(v) + (1 - b2) * g * g
    rate = raw(lr) * jnp.sqrt(1 - raw(beta2_power)) / (1 - raw(beta1_power))
    ahead = b1 * mean + (1 - b1) * g if use_nesterov else mean
    return write(
        (var, raw(var) - rate * ahead / (jnp.sqrt(square) + raw(epsilon))), (m, mean), (v, square)
    )


@other_function
def apply_adam_weight_decay(
    var: Parameter,
    m: Parameter,
    v: Parameter,
    lr: NumberLike,
    beta1: NumberLike,
    beta2: NumberLike,
    epsilon: NumberLike,
    decay: NumberLike,
    gradient: TensorLike,
) -> Any:
    """A step of Adam without correction of the means, with decoupled weight decay.

    Args:
        var: the Parameter.
        m: the mean of gradients, a Parameter of its shape.
        v: the mean of their squares, likewise.
        lr: the learning rate.
        beta1: how much of m is kept.
        beta2: how much of v is kept.
        epsilon: added to the root of v.
        decay: the weight decay.
        gradient: of the shape of `var`.

    Returns:
        (var, m, v).
    """
    g, b1, b2 = raw(gradient), raw(beta1), raw(beta2)
    mean = b1 * raw(m) + (1 - b1) * g
    square = b2 * raw(v) + (1 - b2) * g * g
    change = mean / (jnp.sqrt(square) + raw(epsilon)) + raw(decay) * raw(var)
    return write((var, raw(var) - raw(lr) * change), (m, mean), (v, square))


@other_function
def apply_momentum(
    variable: Parameter,
    accumulation: Parameter,
    learning_rate: NumberLike,
    gradient: TensorLike,
    momentum: NumberLike,
    use_nesterov: bool = False,
    gradient_scale: float = 1.0,
) -> Any:
    """A step of gradient descent with momentum.

    Args:
        variable: the Parameter.
        accumulation: the running sum of gradients, a Parameter of its shape.
        learning_rate: the learning rate.
        gradient: of the shape of `variable`.
        momentum: how much of the sum is kept.
        use_nesterov: Nesterov's look ahead.
        gradient_scale: what the gradient is multiplied by.

    Returns:
        The variable's new value.
    """
    g, rate = raw(gradient) * gradient_scale, raw(learning_rate)
    total = raw(momentum) * raw(accumulation) + g
    change = g + raw(momentum) * total if use_nesterov else total
    return write((variable, raw(variable) - rate * change), (accumulation, total))[0]


@other_function
def apply_adagrad(
    var: Parameter, accum: Parameter, lr: NumberLike, grad: TensorLike, update_slots: bool = True
) -> Any:
    """A step of Adagrad: `accum` grows by grad², var falls by lr * grad / sqrt(accum).

    Returns:
        (var, accum).
    """
    total = raw(accum) + raw(grad) ** 2 if update_slots else raw(accum)
    return write((var, raw(var) - raw(lr) * raw(grad) / jnp.sqrt(total)), (accum, total))


@other_function
def apply_gradient_descent(var: Parameter, alpha: NumberLike, delta: NumberLike) -> Any:
    """A step of gradient descent: var falls by alpha * delta; gives var."""
    return write((var, raw(var) - raw(alpha) * raw(delta)))


@other_function
def apply_rms_prop(
    var: Parameter, mean_square: Parameter, moment: Parameter, learning_rate: NumberLike,
    grad: TensorLike, decay: NumberLike,
    momentum: NumberLike, epsilon: NumberLike,
) -> Any:  # fmt: skip
    """A step of RMSProp.

    Args:
        var: the Parameter.
        mean_square: the mean of squares of gradients, a Parameter of its shape.
        moment: the running sum of changes, likewise.
        learning_rate: the learning rate.
        grad: of the shape of `var`.
        decay: how much of `mean_square` is kept.
        momentum: how much of `moment` is kept.
        epsilon: added to `mean_square`.

    Returns:
        var.
    """
    g = raw(grad)
    square = raw(decay) * raw(mean_square) + (1 - raw(decay)) * g * g
    change = raw(momentum) * raw(moment) + raw(learning_rate) * g / jnp.sqrt(square + raw(epsilon))
    return write((var, raw(var) - change), (mean_square, square), (moment, change))[0]


Adam = primitive(
    "Adam", apply_adam, lambda use_locking=False, use_nesterov=False: {"use_nesterov": use_nesterov}
)
AdamWeightDecay = primitive(
    "AdamWeightDecay", apply_adam_weight_decay, lambda use_locking=False: {}
)
ApplyMomentum = primitive(
    "ApplyMomentum",
    apply_momentum,
    lambda use_nesterov=False, use_locking=False, gradient_scale=1.0: dict(
        use_nesterov=use_nesterov, gradient_scale=gradient_scale
    ),
)
ApplyAdagrad = primitive(
    "ApplyAdagrad", apply_adagrad, lambda update_slots=True: {"update_slots": update_slots}
)
ApplyGradientDescent = primitive("ApplyGradientDescent", apply_gradient_descent)
ApplyRMSProp = primitive("ApplyRMSProp", apply_rms_prop, lambda use_locking=False: {})
