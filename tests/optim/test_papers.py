"""Update rules against float64 formulas of their papers, where nothing was recorded."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer_cases import ARRAYS, close, follow
from paramesh import context, optim
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor

STARTS = {"w": ARRAYS["w0"].astype(np.float64), "b": ARRAYS["b0"].astype(np.float64)}
GRADS = {"w": ARRAYS["gw"].astype(np.float64), "b": ARRAYS["gb"].astype(np.float64)}


def _compare(expr: str, steps, names=("w", "b")) -> None:
    """`steps(start, gradients, name)` gives the values after each step."""
    run = follow(expr, names)
    for (key, start), name in zip(STARTS.items(), names, strict=True):
        expected = list(steps(start.copy(), GRADS[key], name))
        for actual, value in zip(run.values[key], expected, strict=True):
            close(actual, value)


def _norm(x) -> float:
    return float(np.sqrt((x * x).sum()))


def _lamb(lr, decay, b1=0.9, b2=0.999, eps=1e-6, exempt=()):
    def steps(w, grads, name):
        m = v = np.zeros_like(w)
        for t, g in enumerate(grads, 1):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            r = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
            r = r + (0 if name in exempt else decay) * w
            w = w - lr * _norm(w) / _norm(r) * r
            yield w

    return steps


def test_lamb() -> None:
    _compare("nn.Lamb(p, 0.05)", _lamb(0.05, 0.0))
    _compare("nn.Lamb(p, 0.05, weight_decay=0.1)", _lamb(0.05, 0.1))
    _compare("nn.Lamb(p, 0.05, 0.8, 0.99, 1e-3)", _lamb(0.05, 0.0, 0.8, 0.99, 1e-3))
    names = ("fc.weight", "bn.beta")
    _compare("nn.Lamb(p, 0.05, weight_decay=0.1)", _lamb(0.05, 0.1, exempt=names[1:]), names)


def test_lamb_where_a_norm_is_zero() -> None:
    context.set_context(mode=context.PYNATIVE_MODE)
    w = Parameter(Tensor(np.zeros(2, np.float32)), name="w")
    optimizer = optim.Lamb([w], 0.1)
    optimizer((Tensor(np.array([2.0, -3.0], np.float32)),))
    np.testing.assert_allclose(w.asnumpy(), [-0.1, 0.1], rtol=1e-5)


def _lars(lr, decay, coefficient, clip=False, epsilon=1e-5, skipped=()):
    def steps(w, grads, name):
        moment = np.zeros_like(w)
        for g in grads:
            if name not in skipped:
                ratio = coefficient * _norm(w) / (_norm(g) + decay * _norm(w) + epsilon)
                ratio = min(ratio / lr, 1) if clip else ratio
                g = ratio * (g + decay * w)
            moment = 0.9 * moment + g
            w = w - lr * moment
            yield w

    return steps


def test_lars() -> None:
    _compare(
        "nn.LARS(nn.Momentum(p, 0.1, 0.9), epsilon=1e-5, coefficient=0.02)", _lars(0.1, 0.0, 0.02)
    )
    _compare(
        "nn.LARS(nn.Momentum(p, 0.1, 0.9, weight_decay=0.05), coefficient=0.02, use_clip=True)",
        _lars(0.1, 0.05, 0.02, clip=True),
    )
    # Clipped: the ratio is above the learning rate.
    _compare(
        "nn.LARS(nn.Momentum(p, 0.001, 0.9, weight_decay=0.05), coefficient=0.02, use_clip=True)",
        _lars(0.001, 0.05, 0.02, clip=True),
    )


def test_lars_leaves_biases_alone_and_divides_by_the_loss_scale() -> None:
    names = ("fc.weight", "fc.bias")
    expr = "nn.LARS(nn.Momentum(p, 0.1, 0.9, weight_decay=0.05, loss_scale={}), 1e-5, 0.02)"
    _compare(expr.format(1.0), _lars(0.1, 0.05, 0.02, skipped=names[1:]), names)
    plain, scaled = (follow(expr.format(s), names, s) for s in (1.0, 16.0))
    np.testing.assert_array_equal(plain.values["w"], scaled.values["w"])


def test_lars_arguments() -> None:
    w = Parameter(Tensor(np.ones(2, np.float32)), name="w")
    inner = optim.Momentum([w], 0.1, 0.9)
    with pytest.raises(ValueError, match="coefficient must be at least 0"):
        optim.LARS(inner, coefficient=-1.0)
    with pytest.raises(TypeError, match="use_clip must be True or False"):
        optim.LARS(inner, use_clip=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="lars_filter must be a function"):
        optim.LARS(inner, lars_filter="bias")  # type: ignore[arg-type]
    around = optim.LARS(inner)
    assert around.get_lr() is inner.learning_rate
    assert around.parameters is inner.parameters
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = around.nothing


def test_momentum_nesterov() -> None:
    def steps(w, grads, name, decay=0.0):
        moment = np.zeros_like(w)
        for g in grads:
            g = g + decay * w
            moment = 0.9 * moment + g
            w = w - 0.1 * (g + 0.9 * moment)
            yield w

    _compare("nn.Momentum(p, 0.1, 0.9, use_nesterov=True)", steps)
    _compare(
        "nn.Momentum(p, 0.1, 0.9, weight_decay=0.05, use_nesterov=True)",
        lambda *args: steps(*args, decay=0.05),
    )


def test_adagrad_with_frozen_slots() -> None:
    def steps(w, grads, name):
        for g in grads:
            w = w - 0.1 * g / np.sqrt(0.1)
            yield w

    _compare("nn.Adagrad(p, learning_rate=0.1, update_slots=False)", steps)


@pytest.mark.parametrize("power", [-0.5, -0.7])
def test_ftrl_looks_at_the_sign(power: float) -> None:
    l1, l2, lr = 0.01, 0.02, 0.1

    def steps(w, grads, name):
        accum, z = np.full_like(w, 0.2), np.zeros_like(w)
        for g in grads:
            new = accum + g * g
            z = z + g - (new**-power - accum**-power) / lr * w
            accum = new
            q = accum**-power / lr + 2 * l2
            w = np.where(np.abs(z) > l1, (np.sign(z) * l1 - z) / q, 0.0)
            yield w

    _compare(f"nn.FTRL(p, 0.2, learning_rate=0.1, lr_power={power}, l1={l1}, l2={l2})", steps)


def test_ftrl_makes_zeros() -> None:
    run = follow("nn.FTRL(p, learning_rate=0.1, l1=2.0)")
    zero = run.values["w"][-1] == 0
    assert zero.any()
    assert not zero.all()


def _adafactor(
    lr: float | None = None,
    decay: float = 0.0,
    beta1: float | None = 0.9,
    scale: bool = True,
    warmup: bool = False,
    rate: float = 0.8,
):
    def rms(x):
        return np.sqrt((x * x).mean())

    def steps(w, grads, name):
        row = col = sq = avg = 0.0
        for t, g in enumerate(grads, 1):
            step = lr if lr is not None else min(1e-6 * t if warmup else 1e-2, 1 / np.sqrt(t))
            step = step * max(1e-3, rms(w)) if scale else step
            b2 = 1 - t**-rate
            square = g * g + 1e-30
            if w.ndim > 1:
                row = b2 * row + (1 - b2) * square.mean(-1)
                col = b2 * col + (1 - b2) * square.mean(-2)
                both = row[..., None] / row.mean(-1)[..., None, None] * col[..., None, :]
            else:
                both = sq = b2 * sq + (1 - b2) * square
            u = g / np.sqrt(both)
            u = u / max(1, rms(u)) * step
            if beta1:
                u = avg = beta1 * avg + (1 - beta1) * u
            w = w - step * decay * w - u
            yield w

    return steps


def test_adafactor() -> None:
    _compare("nn.AdaFactor(p, weight_decay=0.1)", _adafactor(decay=0.1))
    _compare("nn.AdaFactor(p, beta1=None, warmup_init=True)", _adafactor(beta1=None, warmup=True))
    _compare(
        "nn.AdaFactor([{'params': [p[0]], 'lr': 0.05}, {'params': [p[1]]}], 0.05, "
        "beta1=0.0, scale_parameter=False, relative_step=False, decay_rate=0.5)",
        _adafactor(0.05, beta1=0, scale=False, rate=0.5),
    )


def test_adafactor_factors_the_last_two_axes() -> None:
    context.set_context(mode=context.PYNATIVE_MODE)
    numbers = np.random.RandomState(0)
    start, grads = numbers.normal(size=(2, 3, 4)), numbers.normal(size=(2, 2, 3, 4))
    w = Parameter(Tensor(start.astype(np.float32)), name="w")
    optimizer = optim.AdaFactor([w], compression=True)
    assert [s[0].shape for s in (optimizer.exp_avg_sq_row, optimizer.exp_avg_sq_col)] == [
        (2, 3),
        (2, 4),
    ]
    for g, expected in zip(grads, _adafactor()(start, grads, "w"), strict=True):
        optimizer((Tensor(g.astype(np.float32)),))
        close(w.asnumpy(), expected)


def test_adafactor_arguments() -> None:
    def make(**arguments):
        w = Parameter(Tensor(np.ones(2, np.float32)), name="w")
        return optim.AdaFactor([w], **arguments)

    with pytest.raises(ValueError, match="not both and not neither; got learning_rate=0.1"):
        make(learning_rate=0.1)
    with pytest.raises(ValueError, match="got learning_rate=None, relative_step=False"):
        make(relative_step=False)
    with pytest.raises(ValueError, match="warmup_init=True needs relative_step=True"):
        make(learning_rate=0.1, relative_step=False, warmup_init=True)
    with pytest.raises(ValueError, match="eps must have 2 elements"):
        make(eps=(1e-30,))
    with pytest.raises(TypeError, match="eps must be a tuple"):
        make(eps=1e-30)
    half = make(compression=True)
    assert half.exp_avg_sq[0].dtype.long_name == "float16"


def test_asgd_averages() -> None:
    """From t0 on, ax_ is the mean of the weights."""
    run = follow("nn.ASGD(p, 0.05, t0=1.0)")
    # mu is 1 at steps 1, 2 and 3, so that the average starts with the weights of step 3.
    close(run.state["ax_.w"], run.values["w"][2:].astype(np.float64).mean(axis=0), 1e-5)


@pytest.mark.parametrize(
    ("expr", "error", "says"),
    [
        ("nn.Rprop(p, etas=(1.5, 0.5))", ValueError, r"etas\[0\] must be in \(0, 1\)"),
        ("nn.Rprop(p, etas=(0.5, 1.0))", ValueError, r"etas\[1\] must be above 1"),
        ("nn.Rprop(p, etas=[0.5, 1.2])", TypeError, "etas must be a tuple"),
        ("nn.Rprop(p, step_sizes=(1.0, 0.5))", ValueError, r"must be \(smallest, largest\)"),
        ("nn.ASGD(p, lambd=1)", TypeError, "lambd must be a float"),
        ("nn.Adadelta(p, rho=1.5)", ValueError, r"rho must be in \[0, 1\], got 1.5"),
        ("nn.AdaMax(p, eps=0.0)", ValueError, "AdaMax: eps must be above 0"),
        ("nn.Adam(p, use_lazy=True, use_offload=True)", ValueError, "exclude each other"),
        ("nn.Adam(p, use_amsgrad=True, use_lazy=True)", ValueError, "exclude each other"),
        ("nn.LazyAdam(p, use_amsgrad=True)", TypeError, "has no argument 'use_amsgrad'"),
        ("nn.ProximalAdagrad(p, l2=-1.0)", ValueError, "l2 must be at least 0"),
        ("nn.FTRL([{'params': p, 'lr': 0.1}])", ValueError, "one number for all steps"),
    ],
)
def test_other_arguments(expr: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        follow(expr, steps=0)


def _lion(lr, decay, b1=0.9, b2=0.99):
    def steps(w, grads, name):
        m = np.zeros_like(w)
        for g in grads:
            w = w - lr * (np.sign(b1 * m + (1 - b1) * g) + decay * w)
            m = b2 * m + (1 - b2) * g
            yield w

    return steps


def test_lion() -> None:
    _compare("nn.Lion(p, 0.05)", _lion(0.05, 0.0))
    _compare("nn.Lion(p, 0.01, 0.7, 0.8, weight_decay=0.1)", _lion(0.01, 0.1, 0.7, 0.8))


def _rowwise_adagrad(lr, accum, eps=1e-8):
    def steps(w, grads, name):
        axes = tuple(range(1, w.ndim))
        total = np.full((len(w), *[1] * (w.ndim - 1)), accum)
        for g in grads:
            total = total + (g * g).mean(axis=axes, keepdims=True)
            w = w - lr * g / (np.sqrt(total) + eps)
            yield w

    return steps


def test_row_wise_adagrad() -> None:
    _compare("nn.RowwiseAdagrad(p, 0.05)", _rowwise_adagrad(0.05, 0.0))
    _compare("nn.RowwiseAdagrad(p, 0.05, 0.3, 0.1)", _rowwise_adagrad(0.05, 0.3, 0.1))
    with pytest.raises(ValueError, match="Parameter 'x' has no axes, and no rows"):
        optim.RowwiseAdagrad([Parameter(1.0, name="x")])


def _rowwise_adam(lr, b1=0.9, b2=0.999, eps=1e-8):
    def steps(w, grads, name):
        axes = tuple(range(1, w.ndim))
        m, v = np.zeros_like(w), np.zeros((len(w), *[1] * (w.ndim - 1)))
        for t, g in enumerate(grads, 1):
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * (g * g).mean(axis=axes, keepdims=True)
            w = w - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)
            yield w

    return steps


def test_row_wise_adam() -> None:
    _compare("nn.RowwiseAdam(p, 0.05)", _rowwise_adam(0.05))
    _compare("nn.RowwiseAdam(p, 0.05, 0.8, 0.9, 0.1)", _rowwise_adam(0.05, 0.8, 0.9, 0.1))
    with pytest.raises(ValueError, match="RowwiseAdam: Parameter 'x' has no axes, and no rows"):
        optim.RowwiseAdam([Parameter(1.0, name="x")])
