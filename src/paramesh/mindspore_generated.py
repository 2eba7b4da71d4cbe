"""Class forms of mint's operators, which MindSpore generates and scripts import.

`ops.auto_generate` (and `gen_ops_prim` in it) is the inside of MindSpore: `mint.sum` calls
`SumExt`, `mint.max` `MaxDim`. Scripts make these classes in order to give them strategies. Each
takes what the function of mint takes, by position in MindSpore's order. An operator of each is here
too, such as `sum_ext_op`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from paramesh import mint, ops
from paramesh.mint.nn import functional
from paramesh.ops.table import Operator, Primitive
from paramesh.tensor.argument_types import Ints, NumberLike, TensorLike
from paramesh.tensor.base import Tensor

#: Where a class's name has a new word.
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")

#: By name: they are made from a table.
_ACTIVATIONS = vars(functional)

__all__: list[str] = ["add_ext", "sub_ext"]


def _no_settings() -> dict[str, Any]:
    return {}


def _offer(
    names: str,
    fn: Callable[..., Any],
    takes: str,
    init: Callable[..., dict[str, Any]] = _no_settings,
) -> None:
    """Offer classes; they are not in the table of operators, since they are no public ones.

    Args:
        names: of the classes.
        fn: what they call.
        takes: the arguments of `fn`, in the order in which the classes take them.
        init: takes the settings of a class and gives the arguments of `fn` that they mean.
    """
    arguments = takes.split()

    def compute(*args: object, **kwargs: object) -> Any:
        if len(args) > len(arguments):
            raise TypeError(f"expected {', '.join(arguments)}, got {len(args)} arguments.")
        return fn(**dict(zip(arguments, args, strict=False)), **kwargs)

    for name in names.split():
        globals()[name] = type(
            name,
            (Primitive,),
            {
                "__module__": __name__,
                "__doc__": f"Class form of `mint`'s {getattr(fn, '__name__', name)}: ({takes}).",
                "operator": Operator(name, compute, {}),
                "_init": staticmethod(init),
            },
        )
        instance = f"{_WORDS.sub('_', name).lower()}_op"
        globals()[instance] = globals()[name]()
        __all__.extend((name, instance))


def add_ext(input: TensorLike, other: TensorLike, alpha: NumberLike = 1) -> Any:
    """`mint.add`."""
    return mint.add(input, other, alpha=alpha)


def sub_ext(input: TensorLike, other: TensorLike, alpha: NumberLike = 1) -> Any:
    """`mint.sub`."""
    return mint.sub(input, other, alpha=alpha)


def _one_hot_ext(
    tensor: TensorLike,
    num_classes: int,
    on_value: NumberLike,
    off_value: NumberLike,
    axis: int = -1,
) -> Any:
    return ops.one_hot(tensor, num_classes, on_value, off_value, axis)


def _swiglu(input: TensorLike, dim: int = -1) -> Any:
    return ops.swiglu(input, dim)


def _leaky_relu(input: TensorLike, negative_slope: float = 0.01) -> Any:
    return _ACTIVATIONS["leaky_relu"](input, negative_slope)


def _convolution(
    input: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    transposed: bool = False,
    output_padding: Ints = 0,
    groups: int = 1,
) -> Any:
    if transposed:
        return functional.conv_transpose2d(
            input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return functional.conv2d(input, weight, bias, stride, padding, dilation, groups)


def _inplace_copy(input: Tensor, src: TensorLike, non_blocking: bool = False) -> Any:
    """Write a value into a Tensor or a Parameter; returns it. Copies here are never waited for."""
    return input.copy_(src, non_blocking)


def _index(input: Tensor, indices: Sequence[Tensor]) -> Any:
    return input[tuple(indices)]


_offer("SumExt", mint.sum, "input dim keepdim dtype")
_offer("MeanExt", mint.mean, "input dim keepdim dtype")
_offer("Max", mint.max, "input")
_offer("Min", mint.min, "input")
_offer("MaxDim", mint.max, "input dim keepdim")
_offer("MinDim", mint.min, "input dim keepdim")
_offer("ArgMaxExt", mint.argmax, "input dim keepdim")
_offer("SortExt", mint.sort, "input dim descending stable")
_offer("TopkExt", mint.topk, "input k dim largest sorted")
_offer("CumsumExt", mint.cumsum, "input dim dtype")
_offer("RepeatInterleaveInt RepeatInterleaveTensor", mint.repeat_interleave,
       "input repeats dim output_size")  # fmt: skip
_offer("Outer", mint.outer, "input vec2")
_offer("MatMulExt", mint.matmul, "input other")
_offer("BatchMatMulExt", mint.bmm, "input mat2")
_offer("AddExt", mint.add, "input other alpha")
_offer("SubExt", mint.sub, "input other alpha")
_offer("AddcmulExt", ops.addcmul, "input tensor1 tensor2 value")
_offer("Muls", mint.mul, "input other")
_offer("FmodScalar FmodTensor", mint.fmod, "input other")
_offer("RemainderTensorScalar RemainderScalarTensor RemainderTensorTensor", mint.remainder,
       "input other")  # fmt: skip
_offer("Arange", mint.arange, "start end step dtype")
_offer("LinSpaceExt", mint.linspace, "start end steps dtype")
_offer("StackExt", mint.stack, "tensors", lambda dim=0: {"dim": dim})
_offer("SplitTensor SplitWithSize", mint.split, "input split_size_or_sections dim")
_offer("IndexSelect", mint.index_select, "input dim index")
_offer("TrilExt", mint.tril, "input diagonal")
_offer("OneHotExt", _one_hot_ext, "tensor num_classes on_value off_value axis")
_offer("SoftplusExt", _ACTIVATIONS["softplus"], "input beta threshold")
_offer("EluExt", _ACTIVATIONS["elu"], "input alpha")
_offer("LeakyReLUExt", _leaky_relu, "input negative_slope")
_offer("Embedding", functional.embedding,
       "input weight padding_idx max_norm norm_type scale_grad_by_freq")  # fmt: skip
_offer("GroupNorm", functional.group_norm, "input num_groups weight bias eps")
_offer("Swiglu", _swiglu, "input dim")
_offer("Convolution", _convolution,
       "input weight bias stride padding dilation transposed output_padding groups")  # fmt: skip
_offer("Index", _index, "input indices")
_offer("InplaceCopy", _inplace_copy, "input src non_blocking")
