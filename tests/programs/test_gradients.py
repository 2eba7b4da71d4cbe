"""grad, value_and_grad and GradOperation: arrangement, values, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import paramesh
from paramesh import GradOperation, Parameter, Tensor, context, grad, nn, value_and_grad
from programs.networks import Affine, X, values
from type_checks import wrong

MODES = pytest.mark.parametrize("mode", [paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE])


def loss_of(net: Affine) -> Callable[[Any], Any]:
    return lambda x: (net(x) ** 2).sum()


def expected(net: Affine) -> dict[str, np.ndarray]:
    """By hand, in float64."""
    w, b = (net.parameters_dict()[n].asnumpy().astype(np.float64) for n in ("w", "b"))
    out = X @ w + b
    return {"w": 2 * X.T @ out, "b": 2 * out.sum(0), "x": 2 * out @ w.T, "loss": (out**2).sum()}


@MODES
class TestValues:
    def test_by_weights(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        net = Affine()
        loss, (by_w, by_b) = value_and_grad(loss_of(net), None, [net.w, net.b])(Tensor(X))
        for got, name in ((by_w, "w"), (by_b, "b"), (loss, "loss")):
            np.testing.assert_allclose(got.asnumpy(), expected(net)[name], rtol=1e-5)

    def test_by_input(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        net = Affine()
        by_x = grad(loss_of(net))(Tensor(X))
        np.testing.assert_allclose(by_x.asnumpy(), expected(net)["x"], rtol=1e-5, atol=1e-6)

    def test_by_both(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        net = Affine()
        _, (by_x, (by_w,)) = value_and_grad(loss_of(net), 0, [net.w])(Tensor(X))
        np.testing.assert_allclose(by_x.asnumpy(), expected(net)["x"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(by_w.asnumpy(), expected(net)["w"], rtol=1e-5)

    def test_moving_average_is_written_once(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        net = Affine().set_train()
        value_and_grad(loss_of(net), None, [net.w])(Tensor(X))
        once = net.mean.asnumpy()
        out = X @ net.w.asnumpy() + net.b.asnumpy()
        np.testing.assert_allclose(once, out.mean(0) * 0.5, rtol=1e-5, atol=1e-6)

    def test_used_twice_is_one_summed_gradient(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        net = Affine()
        single = grad(loss_of(net), None, [net.w])(Tensor(X))[0].asnumpy()
        twice = grad(lambda x: loss_of(net)(x) + loss_of(net)(x), None, [net.w])(Tensor(X))[0]
        np.testing.assert_allclose(twice.asnumpy(), 2 * single, rtol=1e-6)

    def test_unused_is_zero(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        net, other = Affine(), Parameter(Tensor(X), name="other")
        assert not grad(loss_of(net), None, [other])(Tensor(X))[0].asnumpy().any()

    def test_hook(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        net = Affine()
        handle = net.w.register_hook(lambda g: g * 3)
        derive = grad(loss_of(net), None, [net.w])
        np.testing.assert_allclose(
            derive(Tensor(X))[0].asnumpy(), 3 * expected(net)["w"], rtol=1e-5
        )
        handle.remove()
        np.testing.assert_allclose(derive(Tensor(X))[0].asnumpy(), expected(net)["w"], rtol=1e-5)

    def test_aux(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        net = Affine()

        def with_more(x: Any) -> Any:
            out = net(x)
            return (out**2).sum(), out, "note", 3

        (loss, out, note, three), _ = value_and_grad(with_more, None, [net.w], has_aux=True)(
            Tensor(X)
        )
        assert (note, three) == ("note", 3)
        np.testing.assert_allclose(out.asnumpy(), net(Tensor(X)).asnumpy(), rtol=1e-6)
        assert float(loss) == pytest.approx(expected(net)["loss"], rel=1e-5)

    def test_second_derivative(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        second = grad(grad(lambda x: (x**3).sum()))(Tensor(X))
        np.testing.assert_allclose(second.asnumpy(), 6 * X, rtol=1e-6)

    def test_float64(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        param = Parameter(Tensor(np.array([1 / 3])), name="p")
        loss, (by_p,) = value_and_grad(lambda: (param**2).sum(), None, [param])()
        assert loss.asnumpy() == 1 / 9
        assert by_p.asnumpy() == 2 / 3

    def test_labels_of_64_bits(self, mode: int) -> None:
        paramesh.set_context(mode=mode)
        net = Affine()
        labels = Tensor(np.array([0, 1, 2, 3, 0]))
        loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
        _, grads = value_and_grad(lambda x, y: loss(net(x), y), None, [net.w])(
            Tensor(X), labels.astype(paramesh.int32)
        )
        assert grads[0].dtype is paramesh.float32


class TestArrangement:
    @pytest.mark.parametrize(
        ("position", "weights", "shape"),
        [
            (0, None, "x"),
            ((0,), None, "x"),
            ((0,), ["w"], ("x", ("w",))),
            ((0, 1), None, ("x", "y")),
            (1, None, "y"),
            (None, "w", "w"),
            (None, ["w"], ("w",)),
            (None, ["w", "b"], ("w", "b")),
            (0, "w", ("x", "w")),
            ((0, 1), ["w"], (("x", "y"), ("w",))),
            (-1, None, "y"),
        ],
    )
    def test_as_mindspore(self, position: Any, weights: Any, shape: Any) -> None:
        net = Affine()
        params = {"w": net.w, "b": net.b}
        chosen = [params[n] for n in weights] if isinstance(weights, list) else params.get(weights)
        got = grad(lambda x, y: (net(x) * y).sum(), position, chosen)(
            Tensor(X), Tensor(np.ones((5, 4), np.float32))
        )
        sizes = {"x": (5, 3), "y": (5, 4), "w": (3, 4), "b": (4,)}

        def check(got: Any, shape: Any) -> None:
            if isinstance(shape, tuple):
                assert isinstance(got, tuple)
                for g, s in zip(got, shape, strict=True):
                    check(g, s)
            else:
                assert got.shape == sizes[shape]

        check(got, shape)

    def test_grad_operation(self) -> None:
        net = Affine()
        x, sens = Tensor(X), Tensor(np.full((5, 4), 2.0, np.float32))
        plain = GradOperation()(net)(x)
        (of_all,) = GradOperation(get_all=True)(net)(x)
        np.testing.assert_array_equal(plain.asnumpy(), of_all.asnumpy())
        by_w, by_b = GradOperation(get_by_list=True)(net, [net.w, net.b])(x)
        assert by_b.asnumpy().tolist() == [5, 5, 5, 5]
        inputs, weights = GradOperation(get_all=True, get_by_list=True)(net, [net.w])(x)
        np.testing.assert_array_equal(weights[0].asnumpy(), by_w.asnumpy())
        assert len(inputs) == 1
        scaled = GradOperation(sens_param=True)(net)(x, sens)
        np.testing.assert_allclose(scaled.asnumpy(), 2 * plain.asnumpy(), rtol=1e-6)


class TestRefusals:
    def test_nothing_to_derive_by(self) -> None:
        with pytest.raises(ValueError, match="nothing to differentiate by"):
            grad(lambda x: x, None)

    def test_integer_parameter(self) -> None:
        count = Parameter(Tensor(np.arange(3)), name="steps.count")
        with pytest.raises(TypeError, match=r"'steps.count' is Int64 and has no gradient"):
            grad(lambda: count.sum(), None, [count])

    def test_integer_output(self) -> None:
        with pytest.raises(TypeError, match="returned int32.*has_aux=True"):
            grad(lambda x: x.astype(paramesh.int32))(Tensor(X))

    def test_position_out_of_range(self) -> None:
        with pytest.raises(ValueError, match="grad_position 2 but the function was called with 1"):
            grad(lambda x: x.sum(), 2)(Tensor(X))

    def test_position_of_a_wrong_type(self) -> None:
        with pytest.raises(TypeError, match="grad_position must be"):
            grad(lambda x: x, "x")  # type: ignore[arg-type]

    def test_weights_that_are_none(self) -> None:
        with pytest.raises(TypeError, match=r"weights\[1\] is not a Parameter but a Tensor"):
            grad(lambda x: x, None, wrong([Parameter(1.0), Tensor(1.0)]))

    def test_aux_missing(self) -> None:
        with pytest.raises(TypeError, match="must return \\(loss, aux"):
            grad(lambda x: x.sum(), has_aux=True)(Tensor(X))

    def test_sensitivity_of_a_wrong_shape(self) -> None:
        with pytest.raises(ValueError, match=r"sensitivity of output 0 has shape \(2,\)"):
            GradOperation(sens_param=True)(lambda x: x)(Tensor(X), Tensor([1.0, 2.0]))

    def test_hook_of_a_wrong_shape(self) -> None:
        net = Affine()
        net.w.register_hook(lambda g: g.sum())
        with pytest.raises(ValueError, match=r"'w': a gradient hook returned shape \(\)"):
            grad(loss_of(net), None, [net.w])(Tensor(X))

    def test_flags_of_grad_operation(self) -> None:
        with pytest.raises(TypeError, match="get_all must be True or False, got 1"):
            GradOperation(1)  # type: ignore[arg-type]

    def test_failure_leaves_parameters_as_they_were(self) -> None:
        net = Affine().set_train()
        net(Tensor(X))
        before = values(net)

        def fails(x: Any) -> Any:
            net(x)
            raise ZeroDivisionError

        for mode in (paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE):
            paramesh.set_context(mode=mode)
            with pytest.raises(ZeroDivisionError):
                grad(fails)(Tensor(X))
        for name, value in values(net).items():
            np.testing.assert_array_equal(value, before[name])


@given(scale=st.floats(-2, 2, width=32), power=st.sampled_from([1, 2, 3]), both=st.booleans())
def test_the_same_as_jax(scale: float, power: int, both: bool) -> None:
    x = X * np.float32(scale)
    ours = grad(lambda a, b: (a**power * b).sum(), (0, 1) if both else 0)(Tensor(x), Tensor(X))
    theirs = jax.grad(lambda a, b: (a**power * b).sum(), (0, 1) if both else 0)(x, X)
    for a, b in zip(
        jax.tree_util.tree_leaves(ours), jax.tree_util.tree_leaves(theirs), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_the_sensitivity_may_be_a_keyword(mode: int) -> None:
    def fn(x, *more, **named):
        return x * more[0] * named["v"]

    context.set_context(mode=mode)
    x, y, sens = (Tensor(np.array([n], np.float32)) for n in (2.0, 3.0, 10.0))
    grad = GradOperation(get_all=True, sens_param=True)(fn)
    assert [g.item() for g in grad(x, y, v=y, sens=sens)] == [90.0, 60.0]


def test_a_single_aux_is_itself_and_operators_have_jacobians() -> None:
    x = Tensor(np.array([1, 2], np.float32))

    def fn(x: Any) -> Any:
        return x * x, x * 3

    def more(x: Any) -> Any:
        return x * x, x * 3, x

    out, along, aux = paramesh.ops.jvp(fn, x, x, has_aux=True)
    assert (out.tolist(), along.tolist(), aux.tolist()) == ([1, 4], [2, 8], [3, 6])
    assert [a.tolist() for a in paramesh.ops.jvp(more, x, x, has_aux=True)[2]] == [[3, 6], [1, 2]]
    out, back, aux = paramesh.ops.vjp(fn, x, has_aux=True)
    assert (back(x)[0].tolist(), aux.tolist()) == ([2, 8], [3, 6])
    for jacobian in (paramesh.jacfwd, paramesh.jacrev, paramesh.hessian):
        found = [jacobian(f, has_aux=True)(x)[1] for f in (fn, more)]
        assert (found[0].tolist(), [a.tolist() for a in found[1]]) == ([3, 6], [[3, 6], [1, 2]])
    for jacobian in (paramesh.ops.jacfwd, paramesh.ops.jacrev):
        assert jacobian(lambda x: x * x)(x).tolist() == [[2, 0], [0, 4]]
    assert paramesh.ops.functional.make_tuple(x, 1) == (x, 1)
    assert paramesh.ops.tuple_getitem((1, 2), 1) == 2


def test_gradients_flow_through_what_is_written() -> None:
    """Where MindSpore cuts them, see the page of differences; `stop_gradient` cuts them here."""

    class Net(nn.Cell):
        def __init__(self, cut: bool) -> None:
            super().__init__()
            self.p = Parameter(Tensor(np.array([5], np.float32)))
            self.cut = cut

        def construct(self, x: Any) -> Any:
            new = 3 * x
            paramesh.ops.assign(self.p, paramesh.ops.stop_gradient(new) if self.cut else new)
            return self.p * x

    x = Tensor(np.array([2], np.float32))
    assert grad(Net(cut=False))(x).tolist() == [12]
    assert grad(Net(cut=True))(x).tolist() == [6]


def test_two_arguments_that_are_one_tensor() -> None:
    x = Tensor(np.array([3], np.float32))
    by_both = grad(lambda a, b: a * b * b, (0, 1))(x, x)
    assert [g.tolist() for g in by_both] == [[9], [18]]
