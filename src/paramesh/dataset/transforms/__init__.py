"""Transforms of any column, by the names of MindSpore's `dataset.transforms`.

| file | what |
|---|---|
| `operation` | what a transform is: a callable over the columns of one sample, `seeded` |
| `arguments` | checks of arguments, with MindSpore's error classes |
| `columns` | types, labels, padding, selection |
| `combining` | Compose, RandomApply, RandomChoice, RandomOrder |
| `c_transforms`, `py_transforms` | the names and arguments of MindSpore 1.x |
"""

from paramesh import lazy_names
from paramesh.dataset.transforms.columns import (
    Concatenate,
    Duplicate,
    Fill,
    Mask,
    OneHot,
    PadEnd,
    Relational,
    Slice,
    TypeCast,
    Unique,
)
from paramesh.dataset.transforms.combining import Compose, RandomApply, RandomChoice, RandomOrder
from paramesh.dataset.transforms.operation import (
    CompoundOperation,
    Implementation,
    PyTensorOperation,
    TensorOperation,
    not_random,
)

__all__ = [
    "CompoundOperation",
    "Compose",
    "Concatenate",
    "Duplicate",
    "Fill",
    "Implementation",
    "Mask",
    "OneHot",
    "PadEnd",
    "PyTensorOperation",
    "RandomApply",
    "RandomChoice",
    "RandomOrder",
    "Relational",
    "Slice",
    "TensorOperation",
    "TypeCast",
    "Unique",
    "not_random",
]

__getattr__ = lazy_names.opened(__name__, {}, lambda: __all__)
