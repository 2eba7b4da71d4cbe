"""Bijectors: Exp, Softplus, ScalarAffine, PowerTransform, GumbelCDF, Invert.

Names and parameters are MindSpore's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from paramesh.nn.probability.arguments import ParameterLike
from paramesh.nn.probability.bijector.base import Bijector
from paramesh.tensor.base import Tensor, raw, wrap


class PowerTransform(Bijector):
    """(1 + c x) to the power of 1 / c, and e to the power of x for c = 0.

    Args:
        power: c, at least 0.
        name: of the bijector.

    Raises:
        TypeError: `power` is not a float, list, array or Tensor of them. ValueError: it is below 0.
    """

    def __init__(self, power: ParameterLike = 0.0, name: str = "PowerTransform") -> None:
        super().__init__(name=name, param={"param_dict": {"power": power}})
        self._power = self._add_parameter(power, "power")
        if not (self._power.asnumpy() >= 0).all():
            raise ValueError(f"{type(self).__name__}: power must be at least 0, got {power!r}.")

    @property
    def power(self) -> Tensor:
        """C."""
        return self._power

    def _arrays(self, value: Tensor) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The value, the power, and the power with 1 for 0, which is not divided by then."""
        x = raw(self._check_value_dtype(value))
        power = raw(self._power).astype(x.dtype)
        return x, power, jnp.where(power == 0, 1, power)

    def _forward(self, value: Tensor) -> Tensor:
        x, power, safe = self._arrays(value)
        root = jnp.exp(jnp.log1p(jnp.where(power == 0, 0, x * power)) / safe)
        return wrap(jnp.where(power == 0, jnp.exp(x), root))

    def _inverse(self, value: Tensor) -> Tensor:
        y, power, safe = self._arrays(value)
        return wrap(jnp.where(power == 0, jnp.log(y), jnp.expm1(jnp.log(y) * power) / safe))

    def _forward_log_jacobian(self, value: Tensor) -> Tensor:
        x, power, safe = self._arrays(value)
        inner = jnp.log1p(jnp.where(power == 0, 0, x * power))
        return wrap(jnp.where(power == 0, x, (1 / safe - 1) * inner))

    def _inverse_log_jacobian(self, value: Tensor) -> Tensor:
        y, power, _ = self._arrays(value)
        return wrap((power - 1) * jnp.log(y))


class Exp(PowerTransform):
    """e to the power of x.

    Args:
        name: of the bijector.

    Raises:
        TypeError: `name` is not a str.
    """

    def __init__(self, name: str = "Exp") -> None:
        super().__init__(0.0, name)


class ScalarAffine(Bijector):
    """scale x + shift.

    Args:
        scale: the slope, not 0.
        shift: what is added.
        name: of the bijector.

    Raises:
        TypeError: parameters that are not floats, or of different types.
        ValueError: `scale` is 0, or the shapes do not fit together.
    """

    def __init__(
        self, scale: ParameterLike = 1.0, shift: ParameterLike = 0.0, name: str = "ScalarAffine"
    ) -> None:
        super().__init__(
            is_constant_jacobian=True,
            name=name,
            param={"param_dict": {"scale": scale, "shift": shift}},
        )
        self._scale = self._add_parameter(scale, "scale")
        self._shift = self._add_parameter(shift, "shift")
        if not self._scale.asnumpy().all():
            raise ValueError(f"{type(self).__name__}: scale must not be 0, got {scale!r}.")

    @property
    def scale(self) -> Tensor:
        """The slope."""
        return self._scale

    @property
    def shift(self) -> Tensor:
        """What is added."""
        return self._shift

    def _forward(self, value: Tensor) -> Tensor:
        x = self._check_value_dtype(value)
        return self.cast_param_by_value(x, self._scale) * x + self.cast_param_by_value(
            x, self._shift
        )

    def _inverse(self, value: Tensor) -> Tensor:
        y = self._check_value_dtype(value)
        moved = y - self.cast_param_by_value(y, self._shift)
        return moved / self.cast_param_by_value(y, self._scale)

    def _forward_log_jacobian(self, value: Tensor) -> Tensor:
        x = self._check_value_dtype(value)
        return self.cast_param_by_value(x, self._scale).abs().log()

    def _inverse_log_jacobian(self, value: Tensor) -> Tensor:
        return -self._forward_log_jacobian(value)


class Softplus(Bijector):
    """log(1 + exp(c x)) / c.

    Args:
        sharpness: c, not 0.
        name: of the bijector.

    Raises:
        TypeError: `sharpness` is not a float, list, array or Tensor of them.
        ValueError: it is 0.
    """

    def __init__(self, sharpness: ParameterLike = 1.0, name: str = "Softplus") -> None:
        super().__init__(name=name, param={"param_dict": {"sharpness": sharpness}})
        self._sharpness = self._add_parameter(sharpness, "sharpness")
        if not self._sharpness.asnumpy().all():
            raise ValueError(f"Softplus: sharpness must not be 0, got {sharpness!r}.")

    @property
    def sharpness(self) -> Tensor:
        """C."""
        return self._sharpness

    def _arrays(self, value: Tensor) -> tuple[jax.Array, jax.Array]:
        x = raw(self._check_value_dtype(value))
        return x, raw(self._sharpness).astype(x.dtype)

    def _forward(self, value: Tensor) -> Tensor:
        x, c = self._arrays(value)
        return wrap(jax.nn.softplus(c * x) / c)

    def _inverse(self, value: Tensor) -> Tensor:
        y, c = self._arrays(value)
        return wrap(y + jnp.log(-jnp.expm1(-c * y)) / c)

    def _forward_log_jacobian(self, value: Tensor) -> Tensor:
        x, c = self._arrays(value)
        return wrap(jax.nn.log_sigmoid(c * x))

    def _inverse_log_jacobian(self, value: Tensor) -> Tensor:
        y, c = self._arrays(value)
        return wrap(-jnp.log(-jnp.expm1(-c * y)))


class GumbelCDF(Bijector):
    """The cumulative distribution of Gumbel's distribution: exp(-exp((loc - x) / scale)).

    Args:
        loc: of the distribution.
        scale: of the distribution, above 0.
        name: of the bijector.

    Raises:
        TypeError: parameters that are not floats, or of different types.
        ValueError: `scale` is not above 0, or the shapes do not fit together.
    """

    def __init__(
        self, loc: ParameterLike = 0.0, scale: ParameterLike = 1.0, name: str = "GumbelCDF"
    ) -> None:
        super().__init__(name=name, param={"param_dict": {"loc": loc, "scale": scale}})
        self._loc = self._add_parameter(loc, "loc")
        self._scale = self._add_parameter(scale, "scale")
        if not (self._scale.asnumpy() > 0).all():
            raise ValueError(f"GumbelCDF: scale must be above 0, got {scale!r}.")

    @property
    def loc(self) -> Tensor:
        """The location."""
        return self._loc

    @property
    def scale(self) -> Tensor:
        """The scale."""
        return self._scale

    def _arrays(self, value: Tensor) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = raw(self._check_value_dtype(value))
        return x, raw(self._loc).astype(x.dtype), raw(self._scale).astype(x.dtype)

    def _forward(self, value: Tensor) -> Tensor:
        x, loc, scale = self._arrays(value)
        return wrap(jnp.exp(-jnp.exp((loc - x) / scale)))

    def _inverse(self, value: Tensor) -> Tensor:
        y, loc, scale = self._arrays(value)
        return wrap(loc - scale * jnp.log(-jnp.log(y)))

    def _forward_log_jacobian(self, value: Tensor) -> Tensor:
        x, loc, scale = self._arrays(value)
        z = (x - loc) / scale
        return wrap(-z - jnp.exp(-z) - jnp.log(scale))

    def _inverse_log_jacobian(self, value: Tensor) -> Tensor:
        y, _, scale = self._arrays(value)
        return wrap(jnp.log(scale / (-y * jnp.log(y))))


class Invert(Bijector):
    """The inverse of another bijector.

    Args:
        bijector: the other.
        name: of this one; empty: "Invert" and the other's.

    Raises:
        TypeError: not a Bijector, or `name` is not a str.
    """

    def __init__(self, bijector: Bijector, name: str = "") -> None:
        if not isinstance(bijector, Bijector):
            raise TypeError(f"Invert: expected a Bijector, got {bijector!r}.")
        super().__init__(
            is_constant_jacobian=bijector.is_constant_jacobian,
            is_injective=bijector.is_injective,
            name=f"Invert{bijector.name}" if name == "" else name,
            dtype=bijector.dtype,
        )
        self._bijector = bijector
        self._batch_shape, self._scalar = bijector.batch_shape, bijector.is_scalar_batch

    @property
    def bijector(self) -> Bijector:
        """The other."""
        return self._bijector

    def _forward(self, value: Tensor) -> Tensor:
        return self._bijector.inverse(value)

    def _inverse(self, value: Tensor) -> Tensor:
        return self._bijector.forward(value)

    def _forward_log_jacobian(self, value: Tensor) -> Tensor:
        return self._bijector.inverse_log_jacobian(value)

    def _inverse_log_jacobian(self, value: Tensor) -> Tensor:
        return self._bijector.forward_log_jacobian(value)
