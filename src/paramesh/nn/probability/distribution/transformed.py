"""`TransformedDistribution`: the distribution of a bijector's outputs."""

from __future__ import annotations

from paramesh.nn.probability.bijector import base
from paramesh.nn.probability.bijector.base import Bijector
from paramesh.nn.probability.distribution.base import Distribution
from paramesh.tensor.base import Tensor


class TransformedDistribution(Distribution):
    """What a bijector makes of the numbers of a distribution.

    Args:
        bijector: an increasing one, if `cdf` is asked for.
        distribution: of the bijector's inputs.
        seed: of samples; None: that of `distribution`.
        name: of the distribution.

    Raises:
        TypeError: not a Bijector, or not a Distribution.
    """

    def __init__(
        self,
        bijector: Bijector,
        distribution: Distribution,
        seed: int | None = None,
        name: str = "transformed_distribution",
    ) -> None:
        if not isinstance(bijector, Bijector) or not isinstance(distribution, Distribution):
            raise TypeError(
                "TransformedDistribution: expected a Bijector and a Distribution, got "
                f"{bijector!r} and {distribution!r}."
            )
        super().__init__(seed, distribution.dtype, name, {"param_dict": {}})
        self._batch_shape = distribution.batch_shape
        self._scalar = distribution.is_scalar_batch
        self._bijector, self._distribution = bijector, distribution

    @property
    def bijector(self) -> Bijector:
        """The bijector."""
        return self._bijector

    @property
    def distribution(self) -> Distribution:
        """The distribution of the bijector's inputs."""
        return self._distribution

    def _log_prob(self, value: Tensor, *args: object, **kwargs: object) -> Tensor:
        value = self._check_value(value, "value")
        inside = self.distribution.log_prob(self.bijector.inverse(value), *args, **kwargs)
        return inside + self.bijector.inverse_log_jacobian(value)

    def _cdf(self, value: Tensor, *args: object, **kwargs: object) -> Tensor:
        value = self._check_value(value, "value")
        return self.distribution.cdf(self.bijector.inverse(value), *args, **kwargs)

    def _mean(self, *args: object, **kwargs: object) -> Tensor:
        if not self.bijector.is_constant_jacobian:
            raise NotImplementedError(
                f"{self.name}: a mean is known for bijectors with a constant slope only, not for "
                f"'{self.bijector.name}'."
            )
        return self.bijector.forward(self.distribution.mean(*args, **kwargs))

    def _sample(self, *args: object, **kwargs: object) -> Tensor:
        return self.bijector.forward(self.distribution.sample(*args, **kwargs))


base.transformed.append(TransformedDistribution)
