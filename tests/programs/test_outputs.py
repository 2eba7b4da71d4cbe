"""What every transform gives: Tensors with plain arrays in them, fit for every operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn, ops
from paramesh.errors import TraceError
from type_checks import named_leaves

IMAGE = np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 2, 4, 4)


class Net(nn.Cell):
    """A convolution that keeps its shape, and a mean that is written."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3)
        self.mean = Parameter(Tensor(np.float32(0)), requires_grad=False)

    def construct(self, x: Any) -> Any:
        out = self.conv(x)
        self.mean.assign(out.mean())
        return out


@paramesh.custom_vjp
def clipped(x: Any) -> Any:
    return x * 1.0


clipped.defvjp(lambda x: (x * 1.0, None), lambda kept, dout: (dout.clip(-1, 1),))


def _loss(net: Net) -> Callable[[Any], Any]:
    return lambda x: (net(x) ** 2).sum()


def _with_aux(net: Net) -> Callable[[Any], Any]:
    def loss(x: Any) -> Any:
        out = net(x)
        return out.mean(), out, {"twice": out * 2}

    return loss


#: What gives Tensors, by the transform that it is of: (network, image) -> a nest of images.
GIVING: dict[str, Callable[[Net, Any], Any]] = {
    "jit": lambda net, x: paramesh.jit(net)(x),
    "grad": lambda net, x: paramesh.grad(_loss(net))(x),
    "value_and_grad": lambda net, x: paramesh.value_and_grad(net)(x),
    "by both": lambda net, x: paramesh.value_and_grad(net, 0, net.trainable_params())(x)[1][0],
    "has_aux": lambda net, x: paramesh.value_and_grad(_with_aux(net), 0, has_aux=True)(x)[0][1:],
    "grad has_aux": lambda net, x: paramesh.grad(_with_aux(net), 0, has_aux=True)(x),
    "of a dict": lambda net, x: paramesh.grad(lambda d: net(d["x"]).sum())({"x": x}),
    "second": lambda net, x: paramesh.grad(lambda x: paramesh.grad(_loss(net))(x).sum())(x),
    "GradOperation": lambda net, x: paramesh.GradOperation(get_all=True)(net)(x),
    "vjp": lambda net, x: _through_vjp(net, x),
    "jvp": lambda net, x: paramesh.jvp(net, x, x),
    "jacrev": lambda net, x: paramesh.jacrev(_loss(net))(x),
    "jacfwd": lambda net, x: paramesh.jacfwd(lambda s: s * x)(x.sum()),
    "hessian": lambda net, x: paramesh.hessian(lambda s: (s**2) * x)(x.sum()),
    "vmap": lambda net, x: paramesh.vmap(lambda row: clipped(row) * 2)(x),
    "remat": lambda net, x: paramesh.remat(net)(x),
    "custom_vjp": lambda net, x: (clipped(x), paramesh.grad(lambda x: clipped(x * 9).sum())(x)),
    "functional_call": lambda net, x: paramesh.functional_call(net, {}, x),
    "cond": lambda net, x: paramesh.cond(x.sum() > 0, net, lambda x: x, x),
    "switch": lambda net, x: paramesh.switch(1, [lambda x: x, net], x),
    "while_loop": lambda net, x: paramesh.while_loop(lambda v: v.sum() > 1e9, net, x),
    "fori_loop": lambda net, x: paramesh.fori_loop(0, 2, lambda i, v: net(v), x),
    "scan": lambda net, x: paramesh.scan(lambda c, _: (net(c), None), x, length=2),
    "bprop": lambda net, x: _WithBprop()(x),
}


class _WithBprop(nn.Cell):
    def construct(self, x: Any) -> Any:
        return x, x * 2

    def bprop(self, x: Any, out: Any, dout: Any) -> Any:
        return (use(out[0])[0].sum() + dout[0] + dout[1],)


def _through_vjp(net: Net, x: Any) -> Any:
    out, back = paramesh.vjp(net, x, weights=net.trainable_params())
    return out, back(out)[0]


def use(t: Any) -> Any:
    """Operators of many kinds on an image."""
    return (
        ops.max_pool2d(t, 2, 2),
        ops.conv2d(t, Tensor(np.ones((2, 2, 1, 1), np.float32))),
        ops.reshape(t, (-1,)),
        ops.flatten(t),
        ops.erf(t) + ops.concat([t, t])[0],
        t[0] @ t[0],
        jnp.sum(jnp.asarray(t)),
        jnp.tanh(t),
    )


def _leaves(nest: Any) -> list[Any]:
    return jax.tree_util.tree_leaves(nest, is_leaf=lambda t: isinstance(t, Tensor))


@pytest.mark.parametrize(
    ("mode", "compiled"),
    [
        pytest.param(paramesh.GRAPH_MODE, True, id="in jit"),
        pytest.param(paramesh.PYNATIVE_MODE, False, id="pynative"),
        pytest.param(paramesh.GRAPH_MODE, False, id="graph", marks=pytest.mark.slow),
        pytest.param(paramesh.PYNATIVE_MODE, True, id="pynative jit", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", GIVING)
def test_every_output_is_a_tensor_of_a_plain_array(name: str, compiled: bool, mode: int) -> None:
    paramesh.set_context(mode=mode)
    net = Net()

    def run(x: Any) -> Any:
        leaves = _leaves(GIVING[name](net, x))
        assert leaves
        for leaf in leaves:
            assert type(leaf) is Tensor
            assert isinstance(leaf._get(), jax.Array)
            if leaf.ndim == 4:
                use(leaf)
        return leaves

    out = (paramesh.jit(run) if compiled else run)(Tensor(IMAGE))
    for leaf in out:
        assert type(leaf) is Tensor
        assert isinstance(leaf._get(), jax.Array)
        assert leaf.asnumpy().dtype == np.float32


def test_a_tensor_is_never_around_a_tensor() -> None:
    t = Tensor([1.0, 2.0])
    for mapped in (
        jax.tree.map(lambda leaf: Tensor(leaf), {"t": t})["t"],
        jax.tree.map(lambda leaf: t, [Parameter(t)])[0],
        jax.jacrev(lambda x: x * 2)(t),
    ):
        assert type(mapped) is Tensor
        assert type(mapped._get()) is not Tensor


class TestValues:
    def test_vjp_and_jvp(self) -> None:
        scale = Parameter(Tensor(np.float32(3)), name="scale")
        count = Parameter(Tensor(np.float32(0)), name="count", requires_grad=False)

        def fn(x: Any, n: Any) -> Any:
            count.assign(count + 1.0)
            return x**2 * scale, x.sum()

        x, n = Tensor([1.0, 2.0]), Tensor(np.arange(2))
        (first, second), back = paramesh.vjp(fn, x, n, weights=scale)
        assert first.asnumpy().tolist() == [3, 12]
        assert float(second) == 3
        (by_x, by_n), by_scale = back(Tensor([1.0, 1.0]), Tensor(10.0))
        assert by_x.asnumpy().tolist() == [16, 22]
        assert by_n.dtype is paramesh.int64
        assert not by_n.asnumpy().any()
        assert float(by_scale) == 5
        _, along = paramesh.jvp(lambda x: fn(x, n)[0], x, Tensor([1.0, 0.0]))
        assert along.asnumpy().tolist() == [6, 0]
        _, along, aux = paramesh.jvp(lambda x: fn(x, n), (x,), (x,), has_aux=True)
        assert along.asnumpy().tolist() == [6, 24]
        assert float(aux) == 3
        assert float(count) == 3
        with pytest.raises(ValueError, match=r"inputs have shapes \[\(2,\)\], v has \[\(\)\]"):
            paramesh.jvp(lambda x: x, x, 1.0)
        with pytest.raises(ValueError, match="1 values, the function returned 2"):
            back(x)

    def test_jacobians(self) -> None:
        x, y = Tensor([1.0, 2.0]), Tensor([3.0])
        fn = lambda x, y: ((x**3).sum() * y, x * y)  # noqa: E731
        for mode in (paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE):
            paramesh.set_context(mode=mode)
            for jacobian in (paramesh.jacrev, paramesh.jacfwd):
                (ax, ay), (bx, by) = jacobian(fn, (0, 1))(x, y)
                theirs = jax.jacrev(fn, (0, 1))(x._get(), y._get())
                for a, b in zip((ax, ay, bx, by), _leaves(theirs), strict=True):
                    np.testing.assert_allclose(a.asnumpy(), b, rtol=1e-6)
            second = paramesh.hessian(lambda x: (x**3).sum())(x)
            assert second.asnumpy().tolist() == [[6, 0], [0, 12]]
            second, aux = paramesh.hessian(lambda x: ((x**3).sum(), x), has_aux=True)(x)
            assert second.shape == (2, 2)
            assert aux.asnumpy().tolist() == [1, 2]
        with pytest.raises(ValueError, match="grad_position 2 but the function was called with 2"):
            paramesh.jacrev(fn, 2)(x, y)
        with pytest.raises(TypeError, match="argument 0 is Int64: only floats"):
            paramesh.jacfwd(fn)(Tensor(np.arange(2)), y)

    @pytest.mark.parametrize("mode", [paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE])
    def test_custom_vjp(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        w = Parameter(Tensor([2.0, 3.0]), name="w")
        count = Parameter(Tensor(np.float32(0)), name="count", requires_grad=False)

        @paramesh.custom_vjp
        def scaled(x: Any, n: Any) -> Any:
            return x * w * n["by"]

        def forward(x: Any, n: Any) -> Any:
            count.assign(count + 1.0)
            return scaled.fun(x, n), (x, "kept")

        scaled.defvjp(forward, lambda kept, dout: (dout * w * 100.0 + kept[0], None))
        loss = lambda x: scaled(x, {"by": 2}).sum() + w.sum()  # noqa: E731
        by_x, by_w = paramesh.grad(loss, 0, w)(Tensor([1.0, 1.0]))
        assert by_x.asnumpy().tolist() == [201, 301]
        assert by_w.asnumpy().tolist() == [1, 1]
        assert float(count) == 1
        assert scaled(Tensor([1.0, 1.0]), {"by": 2}).asnumpy().tolist() == [4, 6]
        scaled.defvjp(forward, lambda kept, dout: dout)
        with pytest.raises(TypeError, match="returned 1 gradients for 2 arguments"):
            paramesh.grad(loss)(Tensor([1.0, 1.0]))
        with pytest.raises(TypeError, match=r"call scaled.defvjp\(fwd, bwd\) first"):
            paramesh.custom_vjp(scaled.fun)(Tensor([1.0]), 1)

    def test_custom_vjp_with_constants(self) -> None:
        def scale(how: str, x: Any) -> Any:
            return x * len(how)

        fn = paramesh.custom_vjp(scale, nondiff_argnums=(0,))
        fn.defvjp(
            lambda how, x: (scale(how, x), None), lambda how, _, dout: (dout * (how == "abc"),)
        )
        by_x = paramesh.grad(lambda x: fn("abc", x).sum())(Tensor([1.0]))
        assert by_x.asnumpy().tolist() == [1]


class TestTrees:
    """Parameters and Tensors in JAX's own functions."""

    def test_values_meet_gradients(self) -> None:
        net, x = nn.Dense(4, 2), Tensor(np.ones((3, 4), np.float32))
        grads = paramesh.grad(lambda x: (net(x) ** 2).sum(), None, net.trainable_params())(x)
        by_name = {p.name: g for p, g in zip(net.trainable_params(), grads, strict=True)}
        values = paramesh.values(dict(net.state_dict()))
        new = jax.tree.map(lambda p, g: p - 0.1 * g, values, by_name)
        np.testing.assert_allclose(
            new["weight"].asnumpy(), net.weight.asnumpy() - 0.1 * grads[0].asnumpy()
        )
        tx = optax.adamw(1e-2)
        updates, _ = tx.update(by_name, tx.init(values), values)
        stepped = named_leaves(optax.apply_updates(values, updates))
        weight = stepped["weight"]
        assert type(weight) is Tensor
        net.load_state_dict(stepped)
        np.testing.assert_array_equal(net.weight.asnumpy(), weight.asnumpy())

    def test_values_outlive_a_step(self) -> None:
        net = nn.Dense(2, 2)
        values = paramesh.values([net.weight, "text", 3])
        before = values[0].asnumpy()
        optimizer = nn.SGD(net.trainable_params(), 0.1)
        paramesh.jit(lambda x: optimizer((x, x[0])))(Tensor(np.ones((2, 2), np.float32)))
        np.testing.assert_array_equal(values[0].asnumpy(), before)
        assert values[1:] == ["text", 3]

    def test_written_under_vmap(self) -> None:
        net = Net()
        with pytest.raises(TraceError, match="writes 'mean'"):
            paramesh.vmap(lambda x: net(x.reshape(1, 2, 4, 4)))(Tensor(IMAGE))
