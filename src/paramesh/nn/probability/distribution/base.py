"""`Distribution`: what all distributions can be asked for, and the base of a user's own.

Glossary
    operation   one of the questions: prob, log_prob, cdf, mean, kl_loss, sample, …
    way         a method with a leading underscore (`_log_prob`) that answers one, of which others
                follow: prob is the exponential of log_prob

Source: MindSpore's `nn.probability.distribution`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paramesh.dtype import DType, DTypeLike, to_dtype
from paramesh.nn.cell import Cell
from paramesh.nn.probability import arguments
from paramesh.tensor.base import Tensor

#: operation -> the ways to it, the first that a class has is taken: (method, what is done to it).
_WAYS: dict[str, list[tuple[str, Callable[[Tensor], Tensor]]]] = {
    "prob": [("prob", lambda x: x), ("log_prob", lambda x: x.exp())],
    "log_prob": [("log_prob", lambda x: x), ("prob", lambda x: x.log())],
    "sd": [("sd", lambda x: x), ("var", lambda x: x.sqrt())],
    "var": [("var", lambda x: x), ("sd", lambda x: x * x)],
    "cdf": [
        ("cdf", lambda x: x),
        ("log_cdf", lambda x: x.exp()),
        ("survival_function", lambda x: 1 - x),
        ("log_survival", lambda x: 1 - x.exp()),
    ],
    "survival_function": [
        ("survival_function", lambda x: x),
        ("log_survival", lambda x: x.exp()),
        ("cdf", lambda x: 1 - x),
        ("log_cdf", lambda x: 1 - x.exp()),
    ],
    "log_cdf": [
        ("log_cdf", lambda x: x),
        ("cdf", lambda x: x.log()),
        ("survival_function", lambda x: (1 - x).log()),
        ("log_survival", lambda x: (1 - x.exp()).log()),
    ],
    "log_survival": [
        ("log_survival", lambda x: x),
        ("survival_function", lambda x: x.log()),
        ("cdf", lambda x: (1 - x).log()),
        ("log_cdf", lambda x: (1 - x.exp()).log()),
    ],
}


class Distribution(Cell):
    """A distribution of one number, or of one at each place of the parameters' common shape.

    A class of your own has the ways that it knows (`_prob` or `_log_prob`, `_cdf`, `_mean`,
    `_mode`, `_sd` or `_var`, `_entropy`, `_kl_loss`, `_cross_entropy`, `_sample`); what follows
    from one of them need not be written.

    Args:
        seed: of samples, mixed into the global generator; None: 0.
        dtype: of samples.
        name: of the distribution.
        param: {"param_dict": {name: parameter}}; a parameter that is None is given in each call.

    Raises:
        TypeError: an argument of another type, or parameters of different types.
        ValueError: a negative seed, or parameters whose shapes do not fit together.
    """

    def __init__(
        self, seed: int | None, dtype: DTypeLike, name: str, param: Mapping[str, Any]
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self._name = arguments.check_name(owner, name)
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            raise TypeError(f"{owner}: seed must be an int, got {seed!r}.")
        if seed is not None and seed < 0:
            raise ValueError(f"{owner}: seed must be at least 0, got {seed}.")
        self._seed, self._dtype = seed or 0, to_dtype(dtype)
        self._parameters = {k: v for k, v in param.items() if k != "self" and not k.startswith("_")}
        given = self._parameters.get("param_dict", {})
        self.parameter_type = arguments.common_dtype(given, self._dtype)
        self._batch_shape = arguments.broadcast_shape(owner, given)
        self._scalar = all(v is None or isinstance(v, int | float) for v in given.values())
        self.parameter_names: list[str] = []
        self.default_parameters: list[Tensor | None] = []

    def _add_parameter(self, value: Any, name: str) -> Tensor | None:
        """Keep a parameter: a Tensor of `parameter_type`, or None."""
        kept = value
        if value is not None:
            kept = arguments.as_tensor(type(self).__name__, name, value, self.parameter_type)
        self.parameter_names.append(name)
        self.default_parameters.append(kept)
        return kept

    @property
    def name(self) -> str:
        """The name."""
        return self._name

    @property
    def dtype(self) -> DType:
        """The type of samples."""
        return self._dtype

    @property
    def seed(self) -> int:
        """The seed of samples."""
        return self._seed

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments, as they were given."""
        return self._parameters

    @property
    def is_scalar_batch(self) -> bool:
        """Whether all parameters are numbers."""
        return self._scalar

    @property
    def batch_shape(self) -> tuple[int, ...] | None:
        """The parameters' common shape; None if one is not given."""
        return self._batch_shape

    @property
    def broadcast_shape(self) -> tuple[int, ...] | None:
        """`batch_shape`, under MindSpore's other name."""
        return self._batch_shape

    def _way(self, operation: str) -> Callable[..., Any] | None:
        """The method that answers an operation itself."""
        return getattr(self, f"_{operation}", None)

    def _ask(self, operation: str, *args: object, **kwargs: object) -> Any:
        for method, then in _WAYS.get(operation, [(operation, lambda x: x)]):
            way = self._way(method)
            if way is not None:
                return then(way(*args, **kwargs))
        raise NotImplementedError(
            f"The distribution '{self.name}' ({type(self).__name__}) has no {operation}."
        )

    def _check_value(self, value: object, name: str) -> Tensor:
        return arguments.check_tensor(self.name, name, value)

    def get_dist_args(self, *args: object, **kwargs: object) -> Any:
        """The parameters that a call with these would have."""
        return self._ask("get_dist_args", *args, **kwargs)

    def get_dist_type(self) -> str:
        """The kind of distribution, which `kl_loss` and `cross_entropy` are given."""
        return self._ask("get_dist_type")

    def prob(self, value: Tensor, *args: object, **kwargs: object) -> Any:
        """The density, or of whole numbers the probability, at a Tensor.

        Args:
            value: where.
            *args: parameters in their order, instead of those of the distribution; Tensors.
            **kwargs: parameters by name.
        """
        return self._ask("prob", value, *args, **kwargs)

    def log_prob(self, value: Tensor, *args: object, **kwargs: object) -> Any:
        """The logarithm of `prob`."""
        return self._ask("log_prob", value, *args, **kwargs)

    def cdf(self, value: Tensor, *args: object, **kwargs: object) -> Any:
        """The probability of numbers up to a Tensor."""
        return self._ask("cdf", value, *args, **kwargs)

    def log_cdf(self, value: Tensor, *args: object, **kwargs: object) -> Any:
        """The logarithm of `cdf`."""
        return self._ask("log_cdf", value, *args, **kwargs)

    def survival_function(self, value: Tensor, *args: object, **kwargs: object) -> Any:
        """The probability of numbers above a Tensor."""
        return self._ask("survival_function", value, *args, **kwargs)

    def log_survival(self, value: Tensor, *args: object, **kwargs: object) -> Any:
        """The logarithm of `survival_function`."""
        return self._ask("log_survival", value, *args, **kwargs)

    def mean(self, *args: object, **kwargs: object) -> Any:
        """The mean."""
        return self._ask("mean", *args, **kwargs)

    def mode(self, *args: object, **kwargs: object) -> Any:
        """The number of the greatest `prob`."""
        return self._ask("mode", *args, **kwargs)

    def sd(self, *args: object, **kwargs: object) -> Any:
        """The standard deviation."""
        return self._ask("sd", *args, **kwargs)

    def var(self, *args: object, **kwargs: object) -> Any:
        """The variance."""
        return self._ask("var", *args, **kwargs)

    def entropy(self, *args: object, **kwargs: object) -> Any:
        """The entropy, in nats."""
        return self._ask("entropy", *args, **kwargs)

    def kl_loss(self, dist: str, *args: object, **kwargs: object) -> Any:
        """The Kullback-Leibler divergence of another distribution from this one, KL(this||other).

        Args:
            dist: the kind of the other, the same as `get_dist_type()`.
            *args: the other's parameters in their order, then this one's; Tensors.
            **kwargs: those of the other by name with `_b` behind it, those of this one by name.
        """
        return self._ask("kl_loss", dist, *args, **kwargs)

    def cross_entropy(self, dist: str, *args: object, **kwargs: object) -> Any:
        """`entropy() + kl_loss(…)`, with the arguments of `kl_loss`."""
        return self._ask("cross_entropy", dist, *args, **kwargs)

    def sample(self, *args: object, **kwargs: object) -> Any:
        """Random numbers: `sample(shape=(), *parameters)`, of shape `shape + batch_shape`."""
        return self._ask("sample", *args, **kwargs)

    def construct(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The operation of this name."""
        return getattr(self, name)(*args, **kwargs)
