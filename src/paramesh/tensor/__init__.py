"""Tensors: values or recipes, with MindSpore's operators and methods."""

from paramesh import lazy_names
from paramesh.tensor.base import Tensor, as_value, raw, tensor, unflatten, unpickle, wrap
from paramesh.tensor.trees import values

__all__ = ["Tensor", "as_value", "raw", "tensor", "unflatten", "unpickle", "values", "wrap"]

lazy_names.callable_module(__name__)
