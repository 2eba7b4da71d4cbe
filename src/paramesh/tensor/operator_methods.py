"""Methods of Tensor that are operators, by the operator's name: `x.top_k(3)` is `ops.top_k(x, 3)`.

Operators are an upper floor; `providers.operator` finds them when a method is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paramesh.array_types import Tree
from paramesh.providers import providers

_SAME = """
    addcdiv addcmul aminmax angle approximate_equal argwhere bernoulli bitwise_left_shift
    bitwise_right_shift cholesky cholesky_inverse copysign cummax cummin diff dsplit fill_diagonal
    float_power fmax fmin fold gather_nd gcd heaviside histc hsplit hypot igamma igammac inner
    invert isneginf isposinf isreal lcm ldexp logaddexp logaddexp2 logcumsumexp logit lstsq
    matrix_power median multinomial mvlgamma norm nanmean nanquantile nextafter orgqr quantile
    random_categorical renorm reverse reverse_sequence searchsorted select_scatter slice_scatter
    slogdet svd tensor_split top_k unfold unique_consecutive unique_with_pad unsorted_segment_max
    unsorted_segment_min unsorted_segment_prod vsplit xdivy xlogy
    cholesky_solve col2im cov diagflat diagonal_scatter eigvals expand_as fills geqrf kthvalue
    log_matrix_determinant logdet lu_solve matrix_determinant move_to msort nanmedian ormqr sgn
    soft_shrink sum_to_size triangular_solve view_as
"""
#: {method: operator}.
OPERATORS = {name: name for name in _SAME.split()} | {
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "scatter_div": "tensor_scatter_div",
    "scatter_max": "tensor_scatter_max",
    "scatter_min": "tensor_scatter_min",
    "scatter_mul": "tensor_scatter_mul",
    "scatter_sub": "tensor_scatter_sub",
    "to_coo": "dense_to_sparse_coo",
    "to_csr": "dense_to_sparse_csr",
}


class OperatorMethods:
    """The methods of the table."""

    __slots__ = ()


def _method(name: str, operator: str) -> Callable[..., Any]:
    def call(self: Tree, *args: object, **kwargs: object) -> Any:
        return providers.operator(operator)(self, *args, **kwargs)

    call.__name__, call.__qualname__ = name, f"Tensor.{name}"
    call.__module__ = __name__
    call.__doc__ = f"`ops.{operator}` of this Tensor and the arguments."
    return call


for _name, _operator in OPERATORS.items():
    setattr(OperatorMethods, _name, _method(_name, _operator))
