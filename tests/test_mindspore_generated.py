"""The classes that MindSpore generates for mint are mint's functions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
import paramesh.mindspore_generated as generated
from paramesh import Tensor, compat, context, mint, ops
from paramesh.mint.nn import functional
from type_checks import untyped

X = np.random.default_rng(0).permutation(128).reshape(8, 16).astype(np.float32) / 64 - 1
N = np.array([0, 3, 1], np.int32)
IMAGE, KERNELS = X.reshape(2, 1, 8, 8), X.reshape(-1)[:18].reshape(2, 1, 3, 3)

#: Class name -> settings, arguments, and the same by mint.
CASES: dict[str, tuple[dict[str, Any], tuple[Any, ...], Any]] = {
    "SumExt": ({}, (X, 1, True, paramesh.float16), None),
    "MeanExt": ({}, (X, (0,), False), lambda x, dim, keep: mint.mean(x, dim, keep)),
    "Max": ({}, (X,), mint.max),
    "Min": ({}, (X,), mint.min),
    "MaxDim": ({}, (X, 1, True), mint.max),
    "MinDim": ({}, (X, 0), mint.min),
    "ArgMaxExt": ({}, (X, 1, True), mint.argmax),
    "SortExt": ({}, (X, 0, True), lambda x, dim, down: mint.sort(x, dim=dim, descending=down)),
    "TopkExt": ({}, (X, 3, 1, False), mint.topk),
    "CumsumExt": ({}, (X, 1), mint.cumsum),
    "RepeatInterleaveInt": ({}, (X, 2, 1), mint.repeat_interleave),
    "Outer": ({}, (X[0], X[1]), mint.outer),
    "MatMulExt": ({}, (X, X.T), mint.matmul),
    "AddExt": ({}, (X, X, 2), generated.add_ext),
    "SubExt": ({}, (X, X, 2), generated.sub_ext),
    "FmodScalar": ({}, (X, 0.3), mint.fmod),
    "RemainderScalarTensor": ({}, (0.3, X), mint.remainder),
    "Arange": ({}, (1, 7, 2), mint.arange),
    "LinSpaceExt": ({}, (0, 1, 5), mint.linspace),
    "StackExt": ({"dim": 1}, ((X, X),), lambda xs: mint.stack(xs, 1)),
    "SplitTensor": ({}, (X, 4, 1), mint.split),
    "SplitWithSize": ({}, (X, (4, 12), 1), mint.split),
    "IndexSelect": ({}, (X, 1, N), mint.index_select),
    "OneHotExt": ({}, (N, 4, 1.0, 0.0, -1), lambda n, *rest: ops.one_hot(n, 4, 1.0, 0.0)),
    "SoftplusExt": ({}, (X, 2, 10), untyped(functional).softplus),
    "EluExt": ({}, (X, 0.5), untyped(functional).elu),
    "LeakyReLUExt": ({}, (X,), untyped(functional).leaky_relu),
    "Embedding": ({}, (N, X), functional.embedding),
    "GroupNorm": ({}, (X, 4), functional.group_norm),
    "Convolution": (
        {},
        (IMAGE, KERNELS, None, 2, 1, 1, False, 0, 1),
        lambda x, w, *rest: functional.conv2d(x, w, None, 2, 1),
    ),
    "Index": ({}, (X, (N, N)), lambda x, at: x[at]),
    "InplaceCopy": ({}, (X * 0, X), lambda _, src: src),
    "Swiglu": ({}, (X, 1), ops.swiglu),
}


def tensors(args: tuple[Any, ...]) -> list[Any]:
    given: list[Any] = []
    for arg in args:
        many = isinstance(arg, tuple) and isinstance(arg[0], np.ndarray)
        given.append(tuple(map(Tensor, arg)) if many else arg)
        if isinstance(arg, np.ndarray):
            given[-1] = Tensor(arg)
    return given


@pytest.mark.parametrize("name", CASES)
def test_classes(name: str) -> None:
    settings, args, function = CASES[name]
    if function is None:
        expected: Any = mint.sum(Tensor(X), 1, True, dtype=paramesh.float16)
    else:
        expected = function(*tensors(args))
    found = getattr(generated, name)(**settings)(*tensors(args))
    pairs = zip(leaves(found), leaves(expected), strict=True)
    for mine, wanted in pairs:
        assert mine.dtype == wanted.dtype
        np.testing.assert_array_equal(mine.asnumpy(), wanted.asnumpy())


def leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=lambda value: isinstance(value, Tensor))


def test_too_many_arguments() -> None:
    with pytest.raises(TypeError, match=r"expected input, got 2 arguments"):
        untyped(generated).Max()(Tensor(X), 1)


def test_they_have_strategies_and_are_no_public_operators() -> None:
    assert "SumExt" not in ops.__all__
    assert isinstance(untyped(generated).sum_ext_op, untyped(generated).SumExt)
    path = "ops.auto_generate.gen_ops_prim"
    assert "paramesh.mindspore_generated" in compat.PATHS[path]
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    total = untyped(generated).SumExt().shard(((8, 1),))
    out = paramesh.jit(lambda x: total(x, 1))(Tensor(X))
    np.testing.assert_allclose(out.asnumpy(), X.sum(1), 1e-5, 1e-6)
    assert jnp.asarray(out).addressable_data(0).shape == (1,)
