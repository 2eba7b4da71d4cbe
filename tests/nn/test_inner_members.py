"""Subclasses whose `construct` is a copy of MindSpore's: it calls what layers have inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, ParameterTuple, Tensor, nn, ops
from paramesh.nn import LossBase, Optimizer
from paramesh.train import Metric
from type_checks import untyped

FLOATS = np.random.default_rng(0).normal


class Row(nn.Conv1d):
    def construct(self, x):
        assert self.shape(x) == x.shape
        out = self.conv2d(self.expand_dims(x, 2), self.weight)
        return self.squeeze(self.bias_add(out, self.bias) if self.has_bias else out)


class RowTranspose(nn.Conv1dTranspose):
    def construct(self, x):
        n, _, length = self.shape(x)
        x = self.expand_dims(x, 2)
        shape = (n, self.out_channels, 1, (length - 1) * self.stride[1] + self.kernel_size[1])
        return self.squeeze(self.bias_add(self.conv2d_transpose(x, self.weight, shape), self.bias))


class Rows(nn.Dense):
    def construct(self, x):
        shape = self.shape_op(x)
        out = self.bias_add(self.matmul(self.reshape(x, (-1, shape[-1])), self.weight), self.bias)
        out = ops.relu(out) if self.activation_flag else out
        return self.reshape(out, (*shape[:-1], -1))


#: (the layer, its subclass, how both are made, shape of the input).
LAYERS: dict[str, tuple[type, type, Callable[[type], Any], tuple[int, ...]]] = {
    "same": (nn.Conv1d, Row, lambda kind: kind(3, 4, 3, 2, has_bias=True), (2, 3, 9)),
    "pad": (nn.Conv1d, Row, lambda kind: kind(3, 4, 3, 1, "pad", 2, 2), (2, 3, 9)),
    "two sides": (nn.Conv1d, Row, lambda kind: kind(3, 3, 3, 1, "pad", (2, 1), group=3), (2, 3, 9)),
    "transpose": (
        nn.Conv1dTranspose,
        RowTranspose,
        lambda kind: kind(3, 4, 3, 2, "valid", has_bias=True),
        (2, 3, 5),
    ),
    "dense": (nn.Dense, Rows, lambda kind: kind(4, 5, activation="relu"), (2, 3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_construct_of_what_a_layer_has_inside_gives_the_numbers_of_the_layer(name: str) -> None:
    layer, subclass, make, shape = LAYERS[name]
    mine, theirs = make(subclass), make(layer)
    for p, q in zip(mine.get_parameters(), theirs.get_parameters(), strict=True):
        p.set_data(Tensor(FLOATS(size=p.shape).astype(np.float32)))
        q.set_data(p)
    x = Tensor(FLOATS(size=shape).astype(np.float32))
    np.testing.assert_allclose(mine(x).asnumpy(), theirs(x).asnumpy(), rtol=2e-6, atol=2e-6)


class Absolute(LossBase):
    def construct(self, logits, labels):
        assert self.get_axis(logits) == (0, 1)
        x = self.mul(self.cast(ops.abs(logits - labels), paramesh.float32), 2.0)
        if self.reduce and self.average:
            return self.reduce_mean(x, self.get_axis(x))
        return self.reduce_sum(x, self.get_axis(x)) if self.reduce else x


def test_what_a_loss_has_inside() -> None:
    x, y = Tensor([[1.0, 2.0]]), Tensor([[0.0, 4.0]])
    assert [Absolute(r)(x, y).asnumpy().tolist() for r in ("mean", "sum", "none")] == [
        3.0,
        6.0,
        [[2.0, 4.0]],
    ]


class Descent(Optimizer):
    """As MindSpore's own optimizers are written."""

    def __init__(self, params, rate, loss_scale=1.0, weight_decay=0.0):
        super().__init__(rate, params, weight_decay, loss_scale)
        self.moments = self.parameters.clone("moments", "zeros")

    def construct(self, gradients):
        gradients = self.decay_weight(gradients) if self.exec_weight_decay else gradients
        gradients = self._grad_sparse_indices_deduplicate(self.scale_grad(gradients))
        step = ops.partial(_descend, self.get_lr())
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        maps = self.map_reverse if self.use_parallel else self.hyper_map_reverse
        return maps(step, self.parameters, self.moments, gradients, self.optim_filter)


def _descend(rate, param, moment, gradient, filtered):
    assert filtered
    ops.assign(moment, moment * 0.5 + gradient)
    return ops.depend(True, ops.assign_sub(param, rate * moment))


def test_what_an_optimizer_has_inside() -> None:
    params = ParameterTuple(
        [Parameter(Tensor(np.ones(2, np.float32)), name=name) for name in ("a", "b")]
    )
    optimizer = Descent(params, 0.5, loss_scale=2.0, weight_decay=0.25)
    assert (optimizer.param_length, optimizer.need_scale) == (2, True)
    assert not Descent(params, 0.5).exec_weight_decay
    for _ in range(2):
        optimizer((Tensor([2.0, 0.0]), Tensor([4.0, 0.0])))
    # The scale is of the gradients, not of the decay, as in MindSpore.
    weights, moments = np.ones((2, 2)), np.zeros((2, 2))
    for _ in range(2):
        gradients = np.array([[2.0, 0.0], [4.0, 0.0]]) / 2.0 + 0.25 * weights
        moments = 0.5 * moments + gradients
        weights -= 0.5 * moments
    np.testing.assert_allclose([p.asnumpy() for p in params], weights, rtol=1e-6)
    assert optimizer.global_step.asnumpy().tolist() == [2]


class Largest(Metric):
    def clear(self):
        self.found = -1.0

    def update(self, *inputs):
        self.found = max(self.found, *(self._convert_data(untyped(x)).max() for x in inputs))

    def eval(self):
        return self.found


def test_a_metric_of_a_script_converts_its_data() -> None:
    assert Largest()(Tensor([1.0, 3.0]), np.array([2.0]), [4, 1]) == 4
    with pytest.raises(TypeError, match="Largest: expected a Tensor, list or numpy array, got str"):
        Largest()("x")
