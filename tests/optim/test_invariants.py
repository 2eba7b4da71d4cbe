"""What is true of every optimizer, from the table in `optimizer_cases.EVERY`."""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optimizer_cases import EVERY, close, follow, gradients, make, start, states
from paramesh import context, optim
from paramesh.errors import DuplicateNameError
from paramesh.initializer import initializer
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor
from paramesh.transforms import jit, value_and_grad
from type_checks import untyped

every = pytest.mark.parametrize("kind", EVERY)


def _pynative() -> None:
    context.set_context(mode=context.PYNATIVE_MODE)


def _run(optimizer: Any, params: Any, first: int, last: int) -> None:
    for step in range(first, last):
        optimizer(gradients(step, optimizer, params))


def _values(optimizer: Any, params: Any) -> dict[str, np.ndarray]:
    found = {p.name: p.asnumpy() for p in params}
    return found | {q.name: q.asnumpy() for q in states(optimizer, params).values()}


def _same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert list(one) == list(other)
    for name, value in one.items():
        assert value.dtype == other[name].dtype
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@every
def test_alone_and_eagerly_it_does_the_same(kind: str) -> None:
    alone = follow(EVERY[kind], steps=3)
    assert alone.optimizer._compiled.traces == 1
    _pynative()
    eager = follow(EVERY[kind], steps=3)
    close(eager.values["w"], alone.values["w"])
    close(eager.values["b"], alone.values["b"])
    for name, value in alone.state.items():
        close(eager.state[name], value)


#: Those that reach their numbers in ways of their own.
INSIDE = ["SGD", "Adam", "FTRL", "AdaFactor", "Lamb", "LARS", "groups", "schedules", "from_optax"]


@pytest.mark.parametrize("kind", INSIDE)
def test_inside_a_program_it_does_the_same(kind: str) -> None:
    params = start()
    inside = make(EVERY[kind], params)

    @jit
    def step(grads):
        assert all(inside(grads))

    for i in range(3):
        step(gradients(i, inside, params))
    assert step.traces == 1
    _pynative()
    eager = follow(EVERY[kind], steps=3)
    close(params[0].asnumpy(), eager.values["w"][-1])
    for name, value in eager.state.items():
        close(_values(inside, params)[name], value)


@every
def test_state_is_named_after_the_parameters(kind: str) -> None:
    params = start(("net.fc.weight", "net.fc.bias"))
    optimizer = make(EVERY[kind], params)
    names = [q.name for q in optimizer.get_parameters()]
    assert len(set(names)) == len(names)
    assert names.count("net.fc.weight") == 1
    big = [q for q in states(optimizer, params).values() if q.shape == (3, 4)]
    assert all(q.name.endswith(".net.fc.weight") for q in big)
    assert all(q.has_init for q in big)


@every
def test_a_copy_goes_on_alone(kind: str) -> None:
    _pynative()
    params = start()
    optimizer = make(EVERY[kind], params)
    _run(optimizer, params, 0, 1)
    twin, twin_params = copy.deepcopy((optimizer, params))
    before = _values(optimizer, params)
    _run(twin, twin_params, 1, 3)
    _same(before, _values(optimizer, params))
    _run(optimizer, params, 1, 3)
    _same(_values(twin, twin_params), _values(optimizer, params))


@every
def test_a_fresh_one_with_loaded_state_goes_on(kind: str) -> None:
    _pynative()
    params = start()
    optimizer = make(EVERY[kind], params)
    _run(optimizer, params, 0, 2)
    saved = {name: p.asnumpy() for name, p in optimizer.parameters_dict().items()}

    again = start()
    fresh = make(EVERY[kind], again)
    found = fresh.parameters_dict()
    assert set(found) == set(saved)
    for name, param in found.items():
        param.set_data(Tensor(saved[name]))
    _run(optimizer, params, 2, 4)
    _run(fresh, again, 2, 4)
    _same(_values(optimizer, params), _values(fresh, again))


#: Move without a gradient: by decay, by their own averages, or as FTRL's weights follow from z.
MOVES = {
    "SGD momentum",
    "AdamWeightDecay",
    "ProximalAdagrad",
    "FTRL",
    "ASGD",
    "Lion",
    "RowwiseAdagrad",
    "RowwiseAdam",
    "Lamb",
    "LARS",
    "groups",
    "schedules",
    "mint.Adam",
    "mint.AdamW groups",
    "mint.SGD",
    "from_optax",
    "from_optax rate",
}


@every
def test_without_gradient_nothing_moves_but_by_decay(kind: str) -> None:
    _pynative()
    params = start()
    optimizer = make(EVERY[kind], params)
    for _ in range(2):
        optimizer(tuple(Tensor(np.zeros(p.shape, np.float32)) for p in optimizer.parameters))
    still = all((p.asnumpy() == q.asnumpy()).all() for p, q in zip(params, start(), strict=True))
    assert still == (kind not in MOVES)
    assert all(np.isfinite(v).all() for v in _values(optimizer, params).values())
    assert all(np.abs(p.asnumpy()).max() <= 1 for p in params)  # and then towards 0


@every
def test_gradients_that_do_not_fit_are_refused(kind: str) -> None:
    _pynative()
    params = start()
    optimizer = make(EVERY[kind], params)
    w, b = gradients(0, optimizer, params) if optimizer.parameters[0] is params[0] else (None, None)
    if w is None:
        b, w = gradients(0, optimizer, params)
    before = _values(optimizer, params)
    with pytest.raises(ValueError, match=r"trains 2 Parameters, but got 1 gradients; .* is 'b'"):
        optimizer((w,))
    with pytest.raises(ValueError, match="but got 3 gradients"):
        optimizer((w, b, b))
    with pytest.raises(ValueError, match="the gradient of Parameter 'b' is None"):
        optimizer((w, None))
    with pytest.raises(ValueError, match=r"Parameter 'w' has shape \(3, 4\), its gradient \(4,\)"):
        optimizer((b, w))
    with pytest.raises(TypeError, match="as one tuple of 2"):
        optimizer(w)
    with pytest.raises(TypeError, match="gradient of Parameter 'b' must be a float Tensor"):
        optimizer((w, Tensor(np.ones(4, np.int32))))
    _same(before, _values(optimizer, params))


def test_errors_are_the_same_in_graph_mode() -> None:
    optimizer = optim.Adam(start())
    with pytest.raises(ValueError, match="the gradient of Parameter 'b' is None"):
        optimizer((Tensor(np.ones((3, 4), np.float32)), None))
    assert optimizer.moment1[0].has_init  # nothing has run


@every
def test_half_precision_is_computed_in_single(kind: str) -> None:
    _pynative()
    values = (np.linspace(-1, 1, 12).reshape(3, 4), np.linspace(0.5, 1, 4))
    params = [
        Parameter(Tensor(v.astype(np.float16)), name=n) for v, n in zip(values, "wb", strict=True)
    ]
    twins = [
        Parameter(Tensor(v.astype(np.float16).astype(np.float32)), name=n)
        for v, n in zip(values, "wb", strict=True)
    ]
    optimizer, twin = make(EVERY[kind], params), make(EVERY[kind], twins)
    grads = [Tensor(np.full(p.shape, 0.25, np.float16)) for p in optimizer.parameters]
    for one in (optimizer, twin):
        one(tuple(grads))
    for param, other in zip(params, twins, strict=True):
        assert param.dtype.long_name == "float16"
        # One step from equal states differs by the last rounding alone.
        close(param.asnumpy().astype(np.float32), other.asnumpy(), 1e-3)
    for state in states(optimizer, params).values():
        assert np.isfinite(state.asnumpy()).all()


@pytest.mark.parametrize("kind", ["SGD momentum", "Adam", "AdaFactor", "Lamb", "LARS", "Rprop"])
def test_double_precision_beside_single(kind: str) -> None:
    """A program with 64-bit data leaves 32-bit state 32-bit, and computes each in its own type."""
    params = start()
    wide = [Parameter(Tensor(params[0].asnumpy().astype(np.float64)), name="w"), params[1]]
    optimizer = make(EVERY[kind], wide)
    dtypes = {q.name: str(q.dtype) for q in states(optimizer, wide).values()}
    for step in range(2):
        optimizer(gradients(step, optimizer, wide))
    assert wide[0].dtype.long_name == "float64"
    assert wide[1].dtype.long_name == "float32"
    assert dtypes == {q.name: str(q.dtype) for q in states(optimizer, wide).values()}
    narrow = follow(EVERY[kind], steps=2)
    close(wide[0].asnumpy(), narrow.values["w"][-1], 1e-5)
    close(wide[1].asnumpy(), narrow.values["b"][-1])
    assert (wide[0].asnumpy() != wide[0].asnumpy().astype(np.float32)).any()


@pytest.mark.parametrize("kind", ["Adam", "AdaFactor", "ASGD", "schedules", "from_optax"])
def test_under_the_users_64_bit_mode(kind: str) -> None:
    narrow = follow(EVERY[kind], steps=2)
    with jax.enable_x64(True):
        wide = follow(EVERY[kind], steps=2)
    # optax corrects its bias in 64 bits there.
    close(wide.values["w"], narrow.values["w"], 1e-5 if kind == "from_optax" else 1e-6)
    assert {k: v.dtype for k, v in wide.state.items()} == {
        k: v.dtype for k, v in narrow.state.items()
    }


def test_weightless_until_used() -> None:
    huge = Parameter(initializer("normal", [1_000_000, 4096]), name="table")
    for kind in ("Adam", "SGD momentum", "FTRL", "AdaFactor", "Lamb", "Rprop", "from_optax rate"):
        optimizer = make(EVERY[kind], [huge])
        assert all(q.has_init for q in states(optimizer, [huge]).values() if q.size > 10)
    assert huge.has_init


def test_plain_sgd_never_uses_its_state() -> None:
    params = start()
    optimizer = optim.SGD(params, 0.1)
    _run(optimizer, params, 0, 2)
    assert all(q.has_init for q in (*optimizer.accum, *optimizer.stat))


def test_a_step_leaves_what_a_user_holds() -> None:
    params = start()
    optimizer = optim.Adam(params)
    _run(optimizer, params, 0, 1)
    held = [params[0].value(), optimizer.moment1[0].value()]
    numbers = [h.asnumpy() for h in held]
    _run(optimizer, params, 1, 3)
    for value, number in zip(held, numbers, strict=True):
        np.testing.assert_array_equal(value.asnumpy(), number)
    assert (params[0].asnumpy() != numbers[0]).any()


def test_many_parameters_cost_one_call_each() -> None:
    """The traced program has one equation for a Parameter's rule and one for its addition."""
    params = [
        Parameter(initializer("ones", s), name=f"layer{i}.{n}")
        for i in range(50)
        for n, s in (("weight", [4, 4]), ("bias", [4]))
    ]
    optimizer = optim.Adam(params)
    grads = tuple(Tensor(np.ones(p.shape, np.float32)) for p in params)

    def rule(grads: Any, state: Any, weights: Any) -> Any:
        extended = optax.with_extra_args_support(optimizer.rule())
        return extended.update(grads, state, weights, learning_rate=jnp.float32(1e-3))

    raws = [g.value()._get() for g in grads]
    state = optimizer.rule().init(raws)
    jaxpr = jax.make_jaxpr(rule)(raws, state, raws).jaxpr
    calls = [e for e in jaxpr.eqns if "jaxpr" in e.params]
    assert len([e for e in calls if len(e.outvars) == 3]) == len(params)
    assert len(jaxpr.eqns) <= len(params) + 10
    # Leaves of one shape share one traced function.
    assert len({id(e.params["jaxpr"]) for e in calls if len(e.outvars) == 3}) == 2
    optimizer(grads)
    assert optimizer._compiled.traces == 1


def test_a_rate_can_be_changed_between_steps() -> None:
    params = start()
    optimizer = optim.SGD(params, 0.1)
    ones = tuple(Tensor(np.ones(p.shape, np.float32)) for p in params)
    optimizer(ones)
    before = params[1].asnumpy()
    optimizer.learning_rate.set_data(Tensor(0.5))
    optimizer(ones)
    close(params[1].asnumpy(), before - 0.5)
    optimizer.learning_rate = Tensor(0.25)
    optimizer(ones)
    close(params[1].asnumpy(), before - 0.75)
    assert optimizer._compiled.traces == 1


def test_it_trains_inside_a_program_with_gradients() -> None:
    w, b = start()
    optimizer = optim.Momentum([w, b], 0.05, 0.9)
    x = Tensor(np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3))

    def loss(x):
        return ((x @ w + b) ** 2).mean()

    with_gradients = value_and_grad(loss, None, optimizer.parameters)

    @jit
    def step(x):
        value, grads = with_gradients(x)
        optimizer(grads)
        return value

    losses = [float(step(x)) for _ in range(30)]
    assert losses[-1] < 0.05 * losses[0]
    assert step.traces == 1
    assert int(optimizer.global_step.asnumpy()[0]) == 30


def test_the_state_may_not_have_a_parameters_name() -> None:
    w = Parameter(Tensor(np.ones(2, np.float32)), name="moments.b")
    b = Parameter(Tensor(np.ones(2, np.float32)), name="b")
    with pytest.raises(DuplicateNameError, match=r"trained Parameter are both named 'moments.b'"):
        optim.Momentum([w, b], 0.1, 0.9)
    step = Parameter(Tensor(np.ones(2, np.float32)), name="global_step")
    with pytest.raises(DuplicateNameError, match="both named 'global_step'"):
        optim.SGD([step], 0.1)


def test_parameters_may_be_named_like_attributes() -> None:
    _pynative()
    names = ("loss_scale", "construct")
    optimizer = optim.Adam(start(names))
    optimizer(tuple(Tensor(np.ones(p.shape, np.float32)) for p in optimizer.parameters))
    assert optimizer.loss_scale == 1.0
    assert set(names) < set(optimizer.parameters_dict())


def test_names_stay_when_it_becomes_an_attribute() -> None:
    from paramesh import nn

    class Step(nn.Cell):
        def __init__(self, optimizer):
            super().__init__()
            self.optimizer = optimizer

    params = start()
    step = Step(optim.Momentum(params, 0.1, 0.9))
    names = [p.name for p in step.get_parameters()]
    assert names == ["global_step", "learning_rate", "w", "b", "momentum", "moments.w", "moments.b"]


def test_an_optimizer_of_ones_own() -> None:
    class SignDescent(optim.Optimizer):
        def construct(self, gradients):
            gradients = self.flatten_gradients(gradients)
            gradients = self.decay_weight(gradients)
            gradients = self.gradients_centralization(gradients)
            gradients = self.scale_grad(gradients)
            for param, gradient in zip(self.parameters, gradients, strict=True):
                param.assign(param - self.get_lr() * Tensor(jnp.sign(untyped(gradient))))
            self.global_step.assign(self.global_step + 1)

    params = start()
    optimizer = SignDescent(0.25, params, weight_decay=0.5, loss_scale=4.0)
    zeros = tuple(Tensor(np.zeros(p.shape, np.float32)) for p in params)
    optimizer(zeros)
    for param, first in zip(params, start(), strict=True):
        first = first.asnumpy()
        close(param.asnumpy(), first - 0.25 * np.sign(first))
    assert optimizer.global_step.asnumpy().tolist() == [1]
    with pytest.raises(NotImplementedError, match=r"Optimizer has no construct\(self, gradients\)"):
        optim.Optimizer(0.1, start())(zeros)
