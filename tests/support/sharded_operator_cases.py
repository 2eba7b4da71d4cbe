"""A call of every operator that takes Tensors, large enough to shard over eight devices.

`tests/parallel/test_operator_rules.py` runs each under every strategy that its rule allows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import sharded_arguments
from paramesh import Parameter, Tensor, ops
from paramesh.ops.table import CLASSES
from paramesh.parallel.layouts.strategy import AxisRule
from paramesh.parallel.operators.axis_rules import rule_of_call, traced
from paramesh.parallel.operators.operands import operands_of
from sharded_arguments import IMAGE, Given, X, b, c, f, i
from sharded_update_arguments import WRITING


@dataclass(frozen=True)
class Call:
    """One call of a class form.

    Attributes:
        name: of the class.
        args: arrays are operands.
        settings: of the class.
        written: how many of the first operands are Parameters, which the operator writes.
    """

    name: str
    args: tuple[Any, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    written: int = 0

    @property
    def id(self) -> str:
        """A name for the test."""
        said = "".join(f"-{value}" for value in self.settings.values())
        return f"{self.name}{said}".replace(" ", "")

    def operator(self) -> Any:
        """The operator, without a strategy."""
        return getattr(ops, self.name)(**self.settings)


#: What is not one or two arrays of (8, 16): class name -> (arguments, settings).
_OWN: dict[str, list[Given]] = {
    "Acosh": [c(X + 1)],
    "AdaptiveAvgPool2D": [c(IMAGE, output_size=4)],
    "AdaptiveMaxPool2D": [c(IMAGE, output_size=4)],
    "AddN": [c((X, f(8, 16)))],
    "Add": [c(X, f(8, 16)), c(X, f(16)), c(f(8, 1), X)],
    "Addcdiv": [c(X, f(8, 16), f(8, 16))],
    "Addcmul": [c(X, f(8, 16), f(8, 16))],
    "ArgMax": [c(X)],
    "ArgMaxWithValue": [c(X, axis=1)],
    "ArgMin": [c(X)],
    "ArgMinWithValue": [c(X, axis=0)],
    "AvgPool": [c(IMAGE, kernel_size=2, strides=2)],
    "BCEWithLogitsLoss": [c(X, f(8, 16), f(8, 16), f(16))],
    "BatchMatMul": [c(f(4, 8, 16), f(4, 16, 8)), c(f(4, 8, 16), f(4, 8, 16), transpose_b=True)],
    "BatchNorm": [
        c(IMAGE - 0.5, f(8), f(8), f(8), f(8)),
        c(IMAGE - 0.5, f(8), f(8), f(8), f(8), is_training=True),
    ],
    "BiasAdd": [c(X, f(16)), c(IMAGE, f(8))],
    "BinaryCrossEntropy": [c(X, f(8, 16), f(8, 16))],
    "BitwiseAnd": [c(i(9, 8, 16), i(9, 8, 16))],
    "BitwiseOr": [c(i(9, 8, 16), i(9, 8, 16))],
    "BitwiseXor": [c(i(9, 8, 16), i(9, 8, 16))],
    "BroadcastTo": [c(X, shape=(4, 8, 16)), c(f(8, 1), shape=(8, 16))],
    "Cast": [c(X, "float16")],
    "Concat": [c((X, f(8, 8)), axis=1), c((X, f(4, 16)), axis=0)],
    "Conv2D": [
        c(IMAGE, f(16, 8, 3, 3), out_channel=16, kernel_size=3, pad_mode="same"),
        c(IMAGE, f(8, 1, 3, 3), out_channel=8, kernel_size=3, group=8),
    ],
    "Conv2DTranspose": [
        c(IMAGE, f(8, 4, 2, 2), (8, 4, 16, 16), out_channel=8, kernel_size=2, stride=2)
    ],
    "CumProd": [c(X, 1)],
    "CumSum": [c(X, 0)],
    "Dense": [c(X, f(8, 16), f(8))],
    "Diag": [c(f(8))],
    "DiagPart": [c(f(8, 8))],
    "Div": [c(X, f(8, 16))],
    "EmbeddingLookup": [c(X, i(8, 8, 4), 0)],
    "ExpandDims": [c(X, 1)],
    "Flatten": [c(f(8, 4, 4))],
    "Gather": [c(X, i(8, 8, 4), 0), c(X, i(16, 8), 1), c(f(8, 8, 4), i(8, 8, 4), 1, batch_dims=1)],
    "GatherD": [c(X, 1, i(16, 8, 8)), c(X, 0, i(8, 8, 16))],
    "GatherNd": [c(f(8, 8, 4), i(8, 8, 4, 2)), c(X, i(8, 8, 1))],
    "InTopK": [c(X, i(16, 8), k=3)],
    "Invert": [c(i(9, 8, 16))],
    "KLDivLoss": [c(X, f(8, 16))],
    "L2Normalize": [c(X, axis=0), c(X, axis=1)],
    "LayerNorm": [c(X, f(16), f(16)), c(f(8, 4, 8), f(4, 8), f(4, 8))],
    "Lerp": [c(X, f(8, 16), f(8, 16)), c(X, f(8, 16), 0.5)],
    "LogSoftmax": [c(X)],
    "LogicalAnd": [c(b(8, 16), b(8, 16))],
    "LogicalNot": [c(b(8, 16))],
    "LogicalOr": [c(b(8, 16), b(8, 16))],
    "LogicalXor": [c(b(8, 16), b(8, 16))],
    "MaskedFill": [c(X, b(8, 16), 2.0)],
    "MatMul": [
        c(X, f(16, 8)),
        c(X, f(8, 16), transpose_b=True),
        c(X, f(8, 4), transpose_a=True),
    ],
    "MaxPool": [
        c(IMAGE, kernel_size=2, strides=2),
        c(IMAGE, kernel_size=3, strides=2, pad_mode="same"),
    ],
    "Meshgrid": [c(f(8), f(16))],
    "MirrorPad": [c(X, ((0, 0), (1, 2)))],
    "NLLLoss": [c(X, i(16, 8), f(16), reduction="mean")],
    "OneHot": [c(i(8, 8), 8, np.float32(1), np.float32(0)), c(i(8, 8, 4), 8, 1, 0)],
    "PReLU": [c(X - 0.5, f(16)), c(IMAGE - 0.5, f(8))],
    "Pad": [c(X, paddings=((0, 0), (1, 2)))],
    "ReduceAll": [c(b(8, 16), 1)],
    "ReduceAny": [c(b(8, 16), 0)],
    **{
        f"Reduce{how}": [c(X, 0), c(X, 1, keep_dims=True)]
        for how in ("Max", "Mean", "Min", "Prod", "Sum")
    },
    "Reshape": [c(X, (4, 2, 16)), c(X, (128,)), c(f(4, 2, 16), (8, 16))],
    "ReverseV2": [c(X, axis=(1,))],
    "ScatterNd": [c(i(8, 8, 1), f(8, 16), (8, 16))],
    "Select": [c(b(8, 16), X, f(8, 16))],
    "Slice": [c(X, (0, 4), (8, 8))],
    "SmoothL1Loss": [c(X, f(8, 16))],
    "Softmax": [c(X), c(X, axis=0)],
    "Sort": [c(X)],
    "SparseSoftmaxCrossEntropyWithLogits": [c(X, i(16, 8))],
    "Split": [c(X, axis=1, output_num=2)],
    "SplitV": [c(X, size_splits=(4, 12), split_dim=1, num_split=2)],
    "Squeeze": [c(f(8, 1, 16))],
    "SquareSumAll": [c(X, f(8, 16))],
    "Stack": [c((X, f(8, 16)), axis=1)],
    "StridedSlice": [c(X, (0, 0), (8, 16), (1, 2))],
    **{
        f"TensorScatter{how}": [c(X, i(8, 4, 1), f(4, 16))]
        for how in ("Add", "Max", "Min", "Sub", "Update")
    },
    "Tile": [c(X, (1, 4)), c(X, (2, 4, 1))],
    "TopK": [c(X, 4)],
    "Transpose": [c(X, (1, 0)), c(f(8, 4, 2), (2, 0, 1))],
    "Unstack": [c(X, axis=0)],
    **{f"UnsortedSegment{how}": [c(X, i(4, 8), 4)] for how in ("Max", "Min", "Prod", "Sum")},
}
_SQUARES = f(8, 4, 4) + 4 * np.eye(4, dtype=np.float32)
_ROWS = np.arange(0, 8, 2, dtype=np.int32)
#: Those whose modules came later: attention, linear algebra, what moves elements, volumes.
_OWN |= {
    "ApplyRotaryPosEmb": [c(f(4, 8, 16), f(4, 8, 16), f(8, 8), f(8, 8), i(8, 4, 8))],
    "AvgPool3D": [c(f(4, 8, 4, 4, 4), kernel_size=2, strides=2)],
    "Cdist": [c(X, f(4, 16))],
    "Cholesky": [c(_SQUARES @ _SQUARES.transpose(0, 2, 1))],
    "Conv3D": [
        c(f(4, 8, 4, 4, 4), f(8, 8, 3, 3, 3), out_channel=8, kernel_size=3, pad_mode="same")
    ],
    "Conv3DTranspose": [
        c(f(4, 8, 4, 4, 4), f(8, 4, 2, 2, 2), in_channel=8, out_channel=4, kernel_size=2, stride=2)
    ],
    "Cross": [c(f(8, 3), f(8, 3), dim=1)],
    "Cummax": [c(X, axis=1)],
    "Cummin": [c(X, axis=0)],
    "Einsum": [c((X, f(16, 8)), equation="ij,jk->ik")],
    "FlashAttentionScore": [c(f(4, 8, 16), f(4, 8, 16), f(4, 8, 16), head_num=4)],
    "Ger": [c(f(8), f(16))],
    "IndexAdd": [c(X, _ROWS, f(4, 16), axis=0)],
    "IndexFill": [c(X, 0, _ROWS, np.float32(2))],
    "LRN": [c(IMAGE)],
    "LpNorm": [c(X, axis=1)],
    "MatrixBandPart": [c(f(8, 4, 4), 1, 2)],
    "MatrixDeterminant": [c(_SQUARES)],
    "ChannelShuffle": [c(IMAGE, group=2)],
    "CholeskySolve": [c(f(8, 4, 2), _SQUARES)],
    "Col2Im": [c(f(8, 2, 4, 9), (4, 4), kernel_size=2)],
    "Eig": [c(_SQUARES)],
    "Fills": [c(X, 2.0)],
    "LogMatrixDeterminant": [c(_SQUARES)],
    "LuSolve": [c(f(8, 4, 2), _SQUARES, i(1, 8, 4) + 1)],
    "LuUnpack": [c(_SQUARES, i(1, 8, 4) + 1)],
    "MultiMarginLoss": [c(X, i(16, 8))],
    "MultilabelMarginLoss": [c(X, i(16, 8, 16))],
    "Polygamma": [c(1, X + 1)],
    "SoftMarginLoss": [c(X, f(8, 16))],
    "TripletMarginLoss": [c(X, f(8, 16), f(8, 16))],
    "MatrixInverse": [c(_SQUARES)],
    "MaxPool3D": [c(f(4, 8, 4, 4, 4), kernel_size=2, strides=2)],
    "MaxPoolWithArgmax": [c(IMAGE, kernel_size=2, strides=2)],
    "RmsNorm": [c(X, f(16))],
    "Roll": [c(X, shift=3, axis=1)],
    "TensorScatterElements": [c(X, np.repeat(_ROWS[:, None], 16, 1), f(4, 16), axis=0)],
    "Trace": [c(f(8, 8))],
} | sharded_arguments.OWN
_TWO = """
    Atan2 DivNoNan Equal FMod FloorDiv FloorMod Greater GreaterEqual Less LessEqual Maximum
    Minimum Mul NotEqual Pow SigmoidCrossEntropyWithLogits SoftmaxCrossEntropyWithLogits
    SquaredDifference Sub Xlogy
"""
_PAIRS = frozenset((_TWO + sharded_arguments.PAIRS).split())
#: Of no Tensor, of numbers that nobody can repeat, or of results whose shape hangs on values; and
#: collectives, which a program over the global view has none of.
_OTHERS = """
    AllGather AllReduce AlltoAll Broadcast DType Dropout DynamicShape Eye Fill InvertPermutation
    LinSpace MaskedSelect Multinomial NeighborExchange NeighborExchangeV2 Ones RandomCategorical
    Range Rank ReduceScatter ScalarCast ScalarToArray ScalarToTensor Shape Size StandardNormal
    TensorShape TupleToArray UniformInt UniformReal Unique UniqueConsecutive Zeros
"""
LEFT_OUT = frozenset(_OTHERS.split()) | frozenset(sharded_arguments.WITHOUT_STRATEGY)


def _calls() -> list[Call]:
    found: list[Call] = []
    seen: set[Any] = set()
    for name, form in sorted(CLASSES.items()):
        own = name in _OWN or name in WRITING
        if name in LEFT_OUT or (not own and (form in seen or _has_own(form))):
            continue
        seen.add(form)
        if name in WRITING:
            count, args, settings = WRITING[name]
            found.append(Call(name, args, settings, written=count))
        else:
            pair = (X, f(8, 16)) if name in _PAIRS else (X,)
            found += [Call(name, *given) for given in _OWN.get(name, [(pair, {})])]
    return found


def _has_own(form: Any) -> bool:
    """Whether a class has a case under another of its names, or those of its operator."""
    others = form.operator.classes
    return any(name in _OWN or name in WRITING or name in LEFT_OUT for name in others)


CALLS = _calls()


def strategies(rule: AxisRule, shapes: list[tuple[int, ...]], count: int = 8) -> Iterator[Any]:
    """Every strategy that a rule allows, except the one that shards nothing."""
    sizes: dict[str, int] = {}
    for labels, shape in zip(rule.inputs, shapes, strict=True):
        for label, size in zip(labels, shape, strict=True):
            if label and size > 1:
                sizes[label] = math.gcd(sizes.get(label, size), size)
    free = [label for label in sizes if label not in rule.unsharded]
    choices = [[n for n in (1, 2, 4, 8) if sizes[label] % n == 0] for label in free]
    for numbers in itertools.product(*choices):
        if 1 < math.prod(numbers) <= count:
            parts = dict(zip(free, numbers, strict=True))
            yield tuple(
                tuple(
                    parts.get(label, 1) if size > 1 else 1
                    for label, size in zip(labels, shape, strict=True)
                )
                for labels, shape in zip(rule.inputs, shapes, strict=True)
            )


def given(call: Call) -> tuple[Any, ...]:
    """The arguments: Tensors for arrays, Parameters for what is written."""

    def tensor(value: Any) -> Any:
        if isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
            return tuple(map(tensor, value))
        return Tensor(value) if isinstance(value, np.ndarray | np.number | np.bool_) else value

    args = tuple(map(tensor, call.args))
    state = [Parameter(value, name=f"state{n}") for n, value in enumerate(args[: call.written])]
    return (*state, *args[call.written :])


def shapes_of(args: tuple[Any, ...]) -> list[tuple[int, ...]]:
    """Of the operands."""
    return [tuple(operand.value.shape) for operand in operands_of(args)]


def rule_for(call: Call, args: tuple[Any, ...], numbers: Any = None) -> AxisRule:
    """The axis rule of a call."""
    operator = call.operator()
    shapes = shapes_of(args)
    found, _ = traced(args, operands_of(args), lambda a: operator(*a))
    numbers = numbers or [(1,) * len(shape) for shape in shapes]
    return rule_of_call(call.name, found, shapes, numbers, operator.settings)


def allowed(call: Call) -> list[Any]:
    """Every strategy that the rule of a call allows."""
    args = given(call)
    return list(strategies(rule_for(call, args), shapes_of(args)))
