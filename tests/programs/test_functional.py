"""JAX transforms over Cells, and pure calls."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import (
    Parameter,
    Tensor,
    functional_call,
    jit,
    nn,
    ops,
    remat,
    scan,
    value_and_grad,
    vmap,
)
from paramesh.errors import DuplicateNameError, TraceError
from programs.networks import Affine, X, same, values
from type_checks import untyped


class TestFunctionalCall:
    def test_other_values(self) -> None:
        net = Affine()
        before = values(net)
        out = functional_call(net, {"w": np.ones((3, 4), np.float32)}, Tensor(X))
        np.testing.assert_allclose(out.asnumpy(), X.sum(1, keepdims=True).repeat(4, 1), atol=1e-6)
        assert same(before, values(net))

    def test_what_was_written_is_handed_out(self) -> None:
        net = Affine().set_train()
        out, written = functional_call(net, {}, Tensor(X), mutable=True)
        assert list(written) == ["mean"]
        np.testing.assert_allclose(written["mean"].asnumpy(), out.asnumpy().mean(0) / 2, rtol=1e-5)
        assert not net.mean.asnumpy().any()

    def test_pure_under_jax(self) -> None:
        net = Affine()
        start = {name: jnp.asarray(p) for name, p in net.parameters_dict().items()}

        @jax.jit
        def loss(params: dict[str, Any], x: Any) -> Any:
            return (functional_call(net, params, Tensor(x)) ** 2).sum()._get()

        by_jax = jax.grad(loss)(start, X)
        _, by_us = value_and_grad(lambda x: (net(x) ** 2).sum(), None, [net.w, net.b])(Tensor(X))
        np.testing.assert_allclose(by_jax["w"], by_us[0].asnumpy(), rtol=1e-5)
        np.testing.assert_allclose(by_jax["b"], by_us[1].asnumpy(), rtol=1e-5)

    def test_unknown_name(self) -> None:
        with pytest.raises(KeyError, match="there is no Parameter 'v'. Names: b, mean, w"):
            functional_call(Affine(), {"v": X}, Tensor(X))

    def test_wrong_shape(self) -> None:
        with pytest.raises(ValueError, match=r"'w' has shape \(3, 4\), got \(5, 3\)"):
            functional_call(Affine(), {"w": X}, Tensor(X))

    def test_two_of_one_name(self) -> None:
        a, b = Parameter(1.0, name="same"), Parameter(2.0, name="same")
        with pytest.raises(DuplicateNameError, match="named 'same'"):
            functional_call(lambda: a + b, {})


class TestTransforms:
    def test_vmap_reads(self) -> None:
        net = Affine()
        out = vmap(net)(Tensor(X))
        np.testing.assert_allclose(out.asnumpy(), net(Tensor(X)).asnumpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(jax.vmap(net)(X)._get(), out.asnumpy(), rtol=1e-6)

    def test_vmap_does_not_write(self) -> None:
        net = Affine().set_train()
        with pytest.raises(TraceError, match="writes 'mean'.*one value for each example"):
            vmap(lambda x: net(x.reshape(1, 3)))(Tensor(X))
        assert not net.mean.asnumpy().any()

    @pytest.mark.parametrize("compiled", [False, True])
    def test_vmap_cuts_parameters_that_are_arguments(self, compiled: bool) -> None:
        w = Parameter(X.T.copy(), "w")
        step = vmap(ops.ApplyGradientDescent(), in_axes=(1, None, 0), out_axes=1)
        call = jit(lambda dy: step(w, 0.5, dy)) if compiled else (lambda dy: step(w, 0.5, dy))
        out = call(Tensor(np.ones_like(X)))
        np.testing.assert_allclose(w.asnumpy(), X.T - 0.5)
        np.testing.assert_allclose(out.asnumpy(), X.T - 0.5)

    def test_vmap_reads_a_part_and_leaves_it(self) -> None:
        w = Parameter(X.copy(), "w")
        out = vmap(lambda p, x: p * x)(w, Tensor(X))
        np.testing.assert_allclose(out.asnumpy(), X * X)
        np.testing.assert_allclose(w.asnumpy(), X)

    def test_vmap_without_such_an_axis(self) -> None:
        with pytest.raises(ValueError, match=r"'w' of shape \(\) has no axis 0"):
            vmap(lambda p: p)(Parameter(1.0, "w"))

    def test_vmap_draws_other_numbers_for_each_example(self) -> None:
        draw = vmap(lambda x: ops.standard_normal((2,)) + 0 * x)
        first, second = (draw(Tensor(np.zeros(3, np.float32))).asnumpy() for _ in range(2))
        assert len(np.unique([first, second])) == first.size + second.size

    @pytest.mark.parametrize("compiled", [False, True])
    def test_remat_writes(self, compiled: bool) -> None:
        net, twin = Affine().set_train(), Affine().set_train()
        twin.w.set_data(net.w)
        plain = value_and_grad(lambda x: (net(x) ** 2).sum(), None, [net.w])
        again = value_and_grad(lambda x: (remat(twin)(x) ** 2).sum(), None, [twin.w])
        if not compiled:
            paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
        (a, (by_a,)), (b, (by_b,)) = plain(Tensor(X)), again(Tensor(X))
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-6)
        np.testing.assert_allclose(by_a.asnumpy(), by_b.asnumpy(), rtol=1e-6)
        np.testing.assert_allclose(net.mean.asnumpy(), twin.mean.asnumpy(), rtol=1e-6)

    @pytest.mark.parametrize("compiled", [False, True])
    def test_scan_carries_parameters(self, compiled: bool) -> None:
        net = Affine().set_train()
        xs = Tensor(np.stack([X, 2 * X, -X]))

        def body(total: Any, x: Any) -> Any:
            out = net(x)
            return total + out.sum(), out.mean()

        def run(xs: Any) -> Any:
            return scan(body, Tensor(np.float32(0)), xs)

        total, means = (paramesh.jit(run) if compiled else run)(xs)
        reference = np.zeros(4, np.float32)
        outs = [x @ net.w.asnumpy() + net.b.asnumpy() for x in xs.asnumpy()]
        for out in outs:
            reference = reference * 0.5 + out.mean(0) * 0.5
        np.testing.assert_allclose(net.mean.asnumpy(), reference, rtol=1e-4, atol=1e-6)
        assert float(total) == pytest.approx(sum(o.sum() for o in outs), abs=1e-4)
        assert means.shape == (3,)

    def test_scan_of_jax_reads(self) -> None:
        layer = nn.Dense(4, 4)
        x = Tensor(np.ones((2, 4), np.float32))
        out, _ = jax.lax.scan(lambda c, _: (layer(c), None), x, None, length=3)
        np.testing.assert_allclose(
            out.asnumpy(), layer(layer(layer(x))).asnumpy(), rtol=1e-5, atol=1e-6
        )

    def test_per_example_gradients(self) -> None:
        net = Affine()
        start = {"w": jnp.asarray(net.w)}

        def loss(params: Any, x: Any) -> Any:
            return (functional_call(net, params, Tensor(x[None])) ** 2).sum()._get()

        each = jax.vmap(jax.grad(loss), in_axes=(None, 0))(start, X)["w"]
        _, (total,) = value_and_grad(lambda x: (net(x) ** 2).sum(), None, [net.w])(Tensor(X))
        np.testing.assert_allclose(each.sum(0), total.asnumpy(), rtol=1e-4, atol=1e-5)


def test_jax_functions_take_parameters() -> None:
    param = Parameter(Tensor(X), name="p")
    assert float(jnp.sum(untyped(param))) == pytest.approx(0, abs=1e-5)
    doubled = jax.jit(lambda p: p * 2)(param)
    assert type(doubled) is Tensor
    np.testing.assert_array_equal(
        jax.tree_util.tree_map(lambda a: a * 2, [param])[0].asnumpy(), 2 * X
    )
