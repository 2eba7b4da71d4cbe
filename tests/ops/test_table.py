"""The table itself: what is in it, and what calls of any operator have in common."""

from __future__ import annotations

import copy
import importlib
import pickle
import re
from typing import Any

import jax
import numpy as np
import pytest

import operators_page
import paramesh.ops as ops
from operator_cases import arrays, elementwise, networks, reductions
from paramesh.dtype import float32, int32, int64
from paramesh.ops import composite, functional, operations, sparse
from paramesh.ops.lazy import UPPER
from paramesh.ops.table import CLASSES, TABLE, Primitive
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor
from paramesh.transforms import jit
from type_checks import wrong

CASES = [*elementwise.CASES, *reductions.CASES, *arrays.CASES, *networks.CASES]
#: Tested in files of their own.
ELSEWHERE = {
    f"paramesh.ops.{kind}"
    for kind in [
        "random_ops",
        "state",
        "collectives",
        "attention",
        "bessel",
        "blocks",
        "boxes",
        "changed_copies",
        "colours",
        "ctc",
        "diagonals",
        "factorizations",
        "fourier",
        "adaptive_pooling",
        "fractional_pooling",
        "graph_marks",
        "grids",
        "halo_exchange",
        "like_others",
        "linalg",
        "margin_losses",
        "more_random",
        "more_updates",
        "overflow",
        "along_axis",
        "counting",
        "rearranging",
        "recurrent",
        "resizing",
        "scattering",
        "segments",
        "sparse",
        "sparse_indices",
        "special",
        "statistics",
        "unpooling",
        "updates",
        "volumes",
    ]
}

#: Of these files, but tested with the cases.
HERE = {"diag_part"}

#: Public, and no operators: python's, and those that call one.
PLAIN = {
    "HistogramSummary",
    "ImageSummary",
    "ScalarSummary",
    "TensorSummary",
    "add_flags",
    "flash_attention_score",
    "is_tensor",
    "list_len",
    "make_range",
    "make_tuple",
    "mixed_precision_cast",
    "reshard",
    "tuple_getitem",
    "tuple_len",
}

x = Tensor(np.array([[1, 2, 3], [4, 5, 6]], np.float32))


def test_every_operator_has_a_case() -> None:
    needed = {n for n, o in TABLE.items() if o.compute.__module__ not in ELSEWHERE}
    assert needed | HERE == {case.op for case in CASES}


def test_names_of_cases_are_unique() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("name", TABLE)
def test_every_operator_says_what_it_computes(name: str) -> None:
    operator = TABLE[name]
    assert getattr(ops, name).__doc__ == operator.compute.__doc__
    assert len(operator.summary) > 5
    for cls in operator.classes.values():
        assert cls.__doc__
        assert operator.summary in cls.__doc__


def test_public_names_are_those_of_the_table() -> None:
    expected = {*TABLE, *CLASSES, *(a for o in TABLE.values() for a in o.aliases)}
    assert set(ops.__all__) == expected | {
        "Primitive",
        "ReduceOp",
        "composite",
        "functional",
        "operations",
        *composite.__all__,
        *sparse.__all__,
        *PLAIN,
    }
    assert len(ops.__all__) == len(set(ops.__all__))


def test_aliases_are_other_names_for_the_same() -> None:
    for name, operator in TABLE.items():
        for alias in operator.aliases:
            assert getattr(ops, alias) is getattr(ops, name)
    for name, cls in CLASSES.items():
        assert getattr(ops, name) is cls


def test_faces_of_mindspore_1() -> None:
    assert operations.MatMul is ops.MatMul
    assert operations.TensorAdd is ops.Add
    assert operations.Depend is ops.Depend
    assert functional.tensor_add is ops.add
    assert functional.depend is ops.depend
    assert composite.HyperMap is ops.HyperMap
    assert set(dir(operations)) >= {"MatMul", "Print"}
    assert set(dir(functional)) >= {"matmul", "stop_gradient"}
    for face in (operations, functional):
        assert all(hasattr(face, name) for name in face.__all__)


def test_names_of_upper_floors() -> None:
    transforms = importlib.import_module("paramesh.transforms")
    for name, module in UPPER.items():
        assert getattr(ops, name) is getattr(importlib.import_module(module), name)
    assert composite.GradOperation is transforms.GradOperation
    assert functional.grad is transforms.grad
    assert operations.GradOperation is transforms.GradOperation


@pytest.mark.parametrize("face", [ops, operations, functional, composite])
def test_a_name_that_there_is_not(face) -> None:
    with pytest.raises(AttributeError, match=f"'{face.__name__}' has no operator 'NoSuch'"):
        face.NoSuch  # noqa: B018
    assert not hasattr(face, "__wrapped__")


def test_a_name_that_is_nearly_one() -> None:
    with pytest.raises(AttributeError, match="Did you mean .*MatMul"):
        _ = getattr(ops, "Matmul")  # noqa: B009 - checkers know that there is none


def test_reference_page_is_complete() -> None:
    page = operators_page.PAGE.read_text(encoding="utf-8")
    assert operators_page.tables() in page, "run python tests/support/operators_page.py"
    names = set(re.findall(r"`(\w+)`", page))
    assert {*ops.__all__, *UPPER} - {"composite", "functional", "operations"} <= names


# Class forms.


def test_settings_are_attributes_and_are_shown() -> None:
    made: Any = ops.Conv2D(6, 3, pad_mode="same")
    assert (made.out_channel, made.kernel_size, made.pad_mode, made.stride) == (6, 3, "same", 1)
    assert repr(ops.MatMul(transpose_b=True)) == "MatMul(transpose_a=False, transpose_b=True)"
    assert isinstance(made, Primitive)


def test_primitives_copy_and_pickle() -> None:
    made: Any = ops.Softmax(axis=0)
    for twin in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert twin.axis == 0
        np.testing.assert_array_equal(twin(x).asnumpy(), made(x).asnumpy())


def test_shard_and_attributes_are_recorded() -> None:
    made = ops.MatMul().shard(((1, 2), (2, 1)), ((1, 1),)).add_prim_attr("forward_unique", True)
    assert made.in_strategy == ((1, 2), (2, 1))
    assert made.out_strategy == ((1, 1),)
    assert made.attrs == {"forward_unique": True}


# Errors.


def test_unknown_setting() -> None:
    with pytest.raises(TypeError, match=r"MatMul\(transpose_a=False.*'tranpose_b'"):
        ops.MatMul(tranpose_b=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wrong(ops.add)(x), r"add\(input, other\): missing a required argument: 'other'"),
        (lambda: wrong(ops.add)(x, x, x), r"add\(input, other\): too many positional arguments"),
        (
            lambda: wrong(ops.add)(x, input=x),
            r"add\(input, other\): multiple values for argument 'input'",
        ),
        (lambda: ops.Add()(x), r"Add\(input, other\): missing a required argument: 'other'"),
        (lambda: wrong(ops.softmax)(x, axes=1), "softmax.*unexpected keyword argument 'axes'"),
        (
            lambda: ops.relu("x"),
            r"ops.relu: input must be a Tensor.*got 'x' \(str\).*\nIt was given input='x'",
        ),
        (
            lambda: ops.concat(x),
            "ops.concat: tensors must be a tuple or list of Tensors, got Float32",
        ),
        (lambda: ops.cast(x, "int7"), "ops.cast: 'int7' is not an element type"),
        (
            lambda: ops.concat((x, ops.cast(x, int32))),
            r"ops.concat: expected one element type, got Float32, Int32",
        ),
        (lambda: ops.matmul(x, ops.cast(x, int32)), "ops.matmul: .*Float32 and Int32"),
        (lambda: ops.gather(x, x, 0), "input_indices must be integers, got Float32"),
        (lambda: ops.masked_fill(x, x, 0.0), "mask must be Bool, got Float32"),
        (
            lambda: ops.normal((2,), "a", 1.0),
            "ops.normal: mean must be a Tensor.*, got 'a' \\(str\\)",
        ),
        (lambda: ops.conv2d(x, ops.cast(x, int32)), None),
    ],
)
def test_wrong_types(call, message) -> None:
    with pytest.raises((TypeError, ValueError), match=message or "expected images"):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ops.add(x, Tensor(np.ones(4, np.float32))),
            r"ops.add: .*\nIt was given input=Float32\[2, 3\], other=Float32\[4\]",
        ),
        (lambda: ops.Add()(x, np.ones(4, np.float32)), r"ops.Add: .*\n.*other=Float32\[4\]"),
        (lambda: ops.matmul(x, x), r"ops.matmul: .*\(2, 3\) and \(2, 3\)"),
        (lambda: ops.reshape(x, (4, 2)), r"ops.reshape: .*\nIt was given input=Float32\[2, 3\]"),
        (
            lambda: ops.concat((x, x[0])),
            r"shapes may differ along axis 0 alone, got \(2, 3\), \(3,\)",
        ),
        (lambda: ops.split(x, (1, 1), 1), r"sizes \(1, 1\) add up to 2, but axis 1 has 3"),
        (lambda: ops.Split(1, 2)(x), "axis 1 has 3, which 2 pieces do not divide"),
        (lambda: ops.unstack(x, num=3), "axis 0 has 2 slices, expected num=3"),
        (lambda: ops.gather(x, Tensor([0]), 2), "axis 2 is outside the 2 axes"),
        (lambda: ops.topk(x, 4), "k=4 is outside the 3 elements of axis 1"),
        (lambda: ops.slice(x, (0, 2), (1, 2)), "elements 2 to 4 of axis 1 do not lie within its 3"),
        (lambda: ops.strided_slice(x, (0,), (1, 1), (1,)), "differ in length"),
        (lambda: ops.pad(x, (1,)), "padding must be pairs"),
        (lambda: ops.pad(x, (1, 1), "odd"), "mode must be one of constant, reflect"),
        (lambda: ops.Pad(((1, 1),))(x), "paddings must be 2 pairs"),
        (lambda: ops.clamp(x), "min and max are both None"),
        (lambda: ops.addn(()), "expected at least one Tensor"),
        (lambda: ops.cumsum(x, 2), "axis 2 is outside the 2 axes"),
        (lambda: ops.gelu(x, "exact"), "approximate must be 'none' or 'tanh'"),
        (lambda: ops.prelu(x, x), r"weight must be of shape \(1,\) or \(3,\)"),
        (lambda: ops.bias_add(x, Tensor([1.0])), r"bias must be of shape \(3,\)"),
        (lambda: ops.conv2d(x, x), "expected images"),
        (lambda: ops.Conv2D(1, 3, mode=0), "mode must be 1"),
        (lambda: ops.max_pool(x, 2), "expected images"),
        (lambda: ops.layer_norm(x, (2,)), r"the input \(2, 3\) does not end in \(2,\)"),
        (
            lambda: ops.mse_loss(x, x, wrong("avg")),
            "reduction must be 'mean', 'sum' or 'none', got 'avg'",
        ),
        (lambda: ops.cross_entropy(x, Tensor([0])), r"target must be of shape \(2,\), got \(1,\)"),
        (lambda: ops.smooth_l1_loss(x, Tensor([0.0])), r"one shape, got input \(2, 3\)"),
        (lambda: ops.range(0, 10, 1, 5), "10 numbers are more than maxlen=5"),
        (lambda: ops.flatten(x, start_dim=1, end_dim=0), "start_dim 1 comes after end_dim 0"),
    ],
)
def test_wrong_values(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("pad_mode", "padding", "message"),
    [
        ("full", 0, "pad_mode must be 'valid', 'same' or 'pad', got 'full'"),
        ("same", 1, "padding=1 needs pad_mode='pad'"),
        ("pad", (1, 2, 3), "padding must be one, 2 or 4 ints"),
    ],
)
def test_wrong_padding(pad_mode, padding, message) -> None:
    images, kernels = (Tensor(np.ones(s, np.float32)) for s in ((1, 2, 5, 5), (3, 2, 3, 3)))
    with pytest.raises(ValueError, match=message):
        ops.conv2d(images, kernels, pad_mode=pad_mode, padding=padding)


def test_channels_that_do_not_fit() -> None:
    images, kernels = (Tensor(np.ones(s, np.float32)) for s in ((1, 2, 5, 5), (3, 4, 3, 3)))
    with pytest.raises(ValueError, match="the input has 2 channels; a weight .* takes 4"):
        ops.conv2d(images, kernels)


@pytest.mark.parametrize(
    "fn", [ops.unique, ops.nonzero, lambda v: ops.masked_select(v, v > 0), ops.sequence_mask]
)
def test_shapes_that_depend_on_values_are_refused_in_programs(fn) -> None:
    with pytest.raises(TypeError, match="which a compiled program cannot have"):
        jax.jit(lambda v: fn(v)._get())(np.arange(3, dtype=np.int32))


# What else calls have in common.


def test_numbers_keep_the_tensors_type() -> None:
    assert ops.add(Tensor([1, 2]), 1).dtype is int64
    assert ops.add(ops.cast(x, int32), 1.5).dtype is float32
    assert ops.maximum(0, ops.cast(x, int32)).dtype is int32
    assert ops.add(1, 2).asnumpy() == 3


def test_indices_outside_are_seen() -> None:
    far = Tensor(np.array([7], np.int32))
    assert np.isnan(ops.gather(x, far, 0).asnumpy()).all()
    assert np.isnan(ops.embedding(far, x).asnumpy()).all()
    assert np.isnan(ops.cross_entropy(x, Tensor([0, 7])).asnumpy())


def test_padding_row_gets_no_gradient() -> None:
    ids = np.array([0, 1, 1], np.int32)
    gradient = jax.grad(lambda w: ops.sum(ops.embedding(ids, w, 1))._get())(np.ones((2, 3)))
    np.testing.assert_array_equal(gradient, [[1, 1, 1], [0, 0, 0]])


def test_max_pool_gives_its_gradient_to_one_element() -> None:
    gradient = jax.grad(lambda v: ops.sum(ops.MaxPool(2, 2)(v))._get())(
        np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    )
    assert gradient.sum() == 4


@pytest.mark.parametrize(
    "fn", [ops.identity, lambda p: ops.cast(p, float32), lambda p: ops.concat((p,)), ops.squeeze]
)
def test_result_that_is_a_parameters_own_array_outlives_the_next_step(fn) -> None:
    param = Parameter(Tensor(np.ones(3, np.float32)), name="w")
    step = jit(lambda: ops.assign_add(param, 1.0))
    step()
    result = fn(param)
    step()
    assert result.asnumpy().tolist() == [2, 2, 2]
    assert param.asnumpy().tolist() == [3, 3, 3]


def test_identity_gives_a_nest_of_gradients_as_it_is() -> None:
    tensors = (Tensor(np.ones(2, np.float32)), (Tensor(1.0), None))
    for same in (ops.identity(tensors), ops.Identity()(tensors)):
        assert [same[0] is tensors[0], same[1][0] is tensors[1][0], same[1][1]] == [
            True,
            True,
            None,
        ]
    step = jit(lambda *given: ops.identity(given))
    assert [each.shape for each in step(Tensor(1.0), tensors[0])] == [(), (2,)]


def test_half_precision_statistics_are_taken_in_float32() -> None:
    values = np.full((1, 2048), 40, np.float16)  # squares add up to more than Float16 holds
    out = ops.layer_norm(Tensor(values), (2048,))
    assert out.dtype.long_name == "float16"
    np.testing.assert_array_equal(out.asnumpy(), np.zeros_like(values))


def test_batch_norm_moves_the_statistics_that_are_parameters() -> None:
    images = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    mean = Parameter(Tensor(np.zeros(3, np.float32)), name="mean")
    var = Parameter(Tensor(np.ones(3, np.float32)), name="var")
    ops.batch_norm(images, mean, var, training=False)
    assert mean.asnumpy().tolist() == [0, 0, 0]
    ops.batch_norm(images, mean, var, training=True, momentum=0.25)
    by_channel = images.transpose(1, 0, 2).reshape(3, 8)
    np.testing.assert_allclose(mean.asnumpy(), 0.25 * by_channel.mean(1), rtol=1e-6)
    expected = 0.75 + 0.25 * by_channel.var(1, ddof=1)
    np.testing.assert_allclose(var.asnumpy(), expected, rtol=1e-6)
