"""`Bijector`: a function that can be undone, with its slope; the base of a user's own.

Source: MindSpore's `nn.probability.bijector`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paramesh.dtype import DType, DTypeLike, float_type, to_dtype
from paramesh.nn.cell import Cell
from paramesh.nn.probability import arguments
from paramesh.tensor.base import Tensor

#: Makes the distribution of a bijector's outputs; `distribution.transformed` puts itself here.
transformed: list[Callable[..., Any]] = []


class Bijector(Cell):
    """A function of each element that can be undone.

    A class of your own has `_forward`, `_inverse`, `_forward_log_jacobian` and
    `_inverse_log_jacobian`, or those of them that it is asked for.

    Args:
        is_constant_jacobian: whether the slope is the same everywhere.
        is_injective: whether different inputs have different outputs.
        name: of the bijector.
        dtype: of parameters; None: that of the arrays among them, which then have to be of a float
            type, and plain ints are not taken.
        param: {"param_dict": {name: parameter}}.

    Raises:
        TypeError: an argument of another type, or parameters that are missing, not of numbers or of
            different types. ValueError: parameters whose shapes do not fit together.
    """

    def __init__(
        self,
        is_constant_jacobian: bool = False,
        is_injective: bool = True,
        name: str | None = None,
        dtype: DTypeLike | None = None,
        param: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        for key, value in (
            ("is_constant_jacobian", is_constant_jacobian),
            ("is_injective", is_injective),
        ):
            if not isinstance(value, bool):
                raise TypeError(f"{owner}: {key} must be a bool, got {value!r}.")
        self._name = arguments.check_name(owner, name)
        self._constant, self._injective = is_constant_jacobian, is_injective
        self._dtype = None if dtype is None else to_dtype(dtype)
        self._parameters = {
            k: v for k, v in (param or {}).items() if k != "self" and not k.startswith("_")
        }
        given = self._parameters.get("param_dict", {})
        for key, value in given.items():
            if value is None:
                raise TypeError(f"{owner}: {key} must be a number, list, array or Tensor: None.")
        self.common_dtype = arguments.common_dtype(given, self._dtype)
        if self._dtype is not None and given and self.common_dtype != self._dtype:
            raise TypeError(
                f"{owner}: the parameters have dtype {self.common_dtype}, the bijector "
                f"{self._dtype}."
            )
        self._batch_shape = arguments.broadcast_shape(owner, given) if given else ()
        self._scalar = all(isinstance(v, int | float) for v in given.values())
        self.parameter_names: list[str] = []
        self.default_parameters: list[Tensor] = []

    def _add_parameter(self, value: object, name: str) -> Tensor:
        """Keep a parameter, as a Tensor of the common type.

        Raises:
            TypeError: it is not of a float type.
        """
        owner = type(self).__name__
        ints = isinstance(value, int | list | tuple) and Tensor(value).dtype not in float_type
        dtype = getattr(value, "dtype", None)
        if ints or (dtype is not None and to_dtype(dtype) not in float_type):
            raise TypeError(f"{owner}: {name} must be of a float type, got {value!r}.")
        kept = arguments.as_tensor(owner, name, value, self.common_dtype)
        self.parameter_names.append(name)
        self.default_parameters.append(kept)
        return kept

    @property
    def name(self) -> str:
        """The name."""
        return self._name

    @property
    def dtype(self) -> DType | None:
        """The type of parameters, if it was given."""
        return self._dtype

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments, as they were given."""
        return self._parameters

    @property
    def is_constant_jacobian(self) -> bool:
        """Whether the slope is the same everywhere."""
        return self._constant

    @property
    def is_injective(self) -> bool:
        """Whether different inputs have different outputs."""
        return self._injective

    @property
    def is_scalar_batch(self) -> bool:
        """Whether all parameters are numbers."""
        return self._scalar

    @property
    def batch_shape(self) -> tuple[int, ...] | None:
        """The parameters' common shape."""
        return self._batch_shape

    def _check_value(self, value: object, name: str) -> Tensor:
        return arguments.check_tensor(self.name, name, value)

    def _check_value_dtype(self, value: object) -> Tensor:
        """The value, if it is a Tensor of the bijector's type, or without one of a float type."""
        value = self._check_value(value, "value")
        fits = value.dtype in float_type if self._dtype is None else value.dtype == self._dtype
        if not fits:
            raise TypeError(
                f"{self.name}: expected a Tensor of {self._dtype or 'a float type'}, got "
                f"{value.dtype}."
            )
        return value

    def cast_param_by_value(self, value: Tensor, para: Tensor) -> Tensor:
        """A parameter in the type of a value."""
        return para.astype(value.dtype)

    def _ask(self, operation: str, value: object, *args: object, **kwargs: object) -> Tensor:
        way = getattr(self, f"_{operation}", None)
        if way is None:
            raise NotImplementedError(
                f"The bijector '{self.name}' ({type(self).__name__}) has no {operation}."
            )
        return way(value, *args, **kwargs)

    def forward(self, value: Tensor, *args: object, **kwargs: object) -> Tensor:
        """The function of a Tensor."""
        return self._ask("forward", value, *args, **kwargs)

    def inverse(self, value: Tensor, *args: object, **kwargs: object) -> Tensor:
        """What the function makes this Tensor of."""
        return self._ask("inverse", value, *args, **kwargs)

    def forward_log_jacobian(self, value: Tensor, *args: object, **kwargs: object) -> Tensor:
        """The logarithm of the function's slope, without its sign."""
        return self._ask("forward_log_jacobian", value, *args, **kwargs)

    def inverse_log_jacobian(self, value: Tensor, *args: object, **kwargs: object) -> Tensor:
        """The logarithm of the slope of `inverse`, without its sign."""
        return self._ask("inverse_log_jacobian", value, *args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The distribution of this function of a distribution; or the operation of a name."""
        if args and isinstance(args[0], Cell) and hasattr(args[0], "log_prob"):
            return self._of(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def _of(self, distribution: Any, name: str | None = None) -> Any:
        return transformed[0](self, distribution, name=name or f"{self.name}_{distribution.name}")

    def construct(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The operation of this name."""
        return getattr(self, name)(*args, **kwargs)
