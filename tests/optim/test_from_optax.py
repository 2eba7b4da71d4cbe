"""optax transformations as optimizers: their numbers, and their state by name."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import paramesh
from optimizer_cases import close, gradients, start
from paramesh import context, nn, optim
from paramesh.errors import OptimizerError
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor
from type_checks import named_leaves, wrong

TRANSFORMS = {
    "adam": optax.adam(1e-2),
    "chain": optax.chain(
        optax.clip_by_global_norm(0.5), optax.trace(0.9), optax.trace(0.5), optax.scale(-0.1)
    ),
    "schedule": optax.sgd(optax.cosine_decay_schedule(0.1, 5), momentum=0.9),
    "multi-steps": optax.MultiSteps(optax.adam(1e-2), 2).gradient_transformation(),
    "masked": optax.masked(optax.adam(1e-2), {"w": True, "b": False}),
    "from values": optax.contrib.schedule_free_sgd(0.1),
    "multi": optax.partition({"a": optax.adam(1e-2), "s": optax.sgd(0.1)}, {"w": "a", "b": "s"}),
    "stateless": optax.sgd(0.1),
    "key": optax.chain(optax.add_noise(0.1, 0.5, key=jax.random.key(0)), optax.sgd(0.1)),
    "several of a Parameter": optax.sm3(0.1),
}


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_the_same_as_optax(kind: str) -> None:
    transform, params = TRANSFORMS[kind], start()
    optimizer = optim.from_optax(transform, params)
    names = [q.name for q in optimizer.state]
    assert len(set(names)) == len(names)
    values = {p.name: jnp.asarray(p.asnumpy()) for p in params}
    state = transform.init(values)
    for step in range(3):
        grads = gradients(step, optimizer, params)
        optimizer(grads)
        given = {p.name: jnp.asarray(g.asnumpy()) for p, g in zip(params, grads, strict=True)}
        updates, state = transform.update(given, state, values)
        values = optax.apply_updates(values, updates)
    for param in params:
        close(param.asnumpy(), values[param.name])  # type: ignore[index]
    assert optimizer._compiled is None or optimizer._compiled.traces == 1


NAMES = {
    "adam": ["adam.count", "adam.mu.b", "adam.mu.w", "adam.nu.b", "adam.nu.w"],
    "chain": ["trace.trace.b", "trace.trace.w", "trace_1.trace.b", "trace_1.trace.w"],
    "schedule": ["trace.trace.b", "trace.trace.w", "schedule.count"],
    "stateless": [],
    "key": ["add_noise.count", "add_noise.rng_key"],
    "several of a Parameter": ["sm3.mu.b", "sm3.mu.w.0", "sm3.mu.w.1", "sm3.nu.b", "sm3.nu.w"],
}


@pytest.mark.parametrize("kind", NAMES)
def test_state_is_named_by_its_path(kind: str) -> None:
    optimizer = optim.from_optax(TRANSFORMS[kind], start())
    assert [q.name for q in optimizer.state] == NAMES[kind]
    assert all(q.has_init for q in optimizer.state if "key" not in q.name)
    assert [q.name for q in optimizer.get_parameters()] == ["global_step", "w", "b", *NAMES[kind]]


def test_state_that_starts_from_values() -> None:
    params = start()
    optimizer = optim.from_optax(TRANSFORMS["from values"], params)
    z = {q.name: q for q in optimizer.state}["schedule_free.z.w"]
    assert not z.has_init
    np.testing.assert_array_equal(z.asnumpy(), params[0].asnumpy())


def test_a_rate_and_groups_from_outside() -> None:
    context.set_context(mode=context.PYNATIVE_MODE)
    w, b = start()
    optimizer = optim.from_optax(
        optax.scale_by_sign(),
        [{"params": [w], "lr": optim.WarmUpLR(0.5, 2)}, {"params": [b]}],
        learning_rate=0.25,
    )
    first = b.asnumpy()
    before = w.asnumpy()
    for step in range(2):
        optimizer(gradients(step, optimizer, [w, b]))
        if step == 0:
            np.testing.assert_array_equal(w.asnumpy(), before)
    np.testing.assert_allclose(np.abs(w.asnumpy() - before), 0.25, rtol=1e-6)
    assert (b.asnumpy() != first).all()
    assert optimizer.get_lr_parameter(b).name == "learning_rate"


def test_decay_and_loss_scale() -> None:
    context.set_context(mode=context.PYNATIVE_MODE)
    params = start()
    optimizer = optim.from_optax(
        optax.identity(), params, learning_rate=0.1, weight_decay=0.5, loss_scale=4.0
    )
    optimizer(tuple(Tensor(np.full(p.shape, 4.0, np.float32)) for p in params))
    for param, first in zip(params, start(), strict=True):
        close(param.asnumpy(), first.asnumpy() - 0.1 * (1.0 + 0.5 * first.asnumpy()))


def test_extra_arguments_reach_the_transformation() -> None:
    params = start()
    optimizer = optim.from_optax(
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=1, factor=0.5)), params
    )
    for value in (1.0, 1.0, 1.0, 1.0):
        optimizer(gradients(0, optimizer, params), value=Tensor(value))
    scale = {q.name: q for q in optimizer.state}["reduce_lron_plateau.scale"]
    assert scale.asnumpy() < 1.0


def test_mistakes() -> None:
    with pytest.raises(TypeError, match="from_optax takes an optax transformation"):
        optim.from_optax(wrong(1e-3), start())
    optimizer = optim.from_optax(optax.adam(1e-3), start())
    with pytest.raises(OptimizerError, match="the learning rate is inside the optax transf"):
        optimizer.get_lr()
    with pytest.raises(OptimizerError, match="the learning rate is inside the optax transf"):
        optimizer.get_lr_parameter(optimizer.parameters[0])
    w, b = start()
    with pytest.raises(OptimizerError, match="groups have learning rates, but the optax"):
        optim.from_optax(optax.adam(1e-3), [{"params": [w], "lr": 0.1}, {"params": [b]}])

    def grow(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        assert isinstance(state, tuple)
        return updates, (*state, jnp.zeros(()))

    growing = optax.GradientTransformation(lambda params: (jnp.zeros(()),), grow)
    with pytest.raises(OptimizerError, match="had 1 arrays and came back with 2"):
        optim.from_optax(growing, start())(tuple(Tensor(p.asnumpy()) for p in start()))


def test_rules_are_optax_transformations() -> None:
    """The rules of MindSpore's optimizers take part in optax chains over any pytree."""
    from paramesh.optim import rules

    params = {"a": jnp.ones((2,)), "b": [jnp.ones(())]}
    chain = optax.chain(optax.clip(1.0), rules.adam())
    updates, state = chain.update(
        {"a": jnp.full((2,), 3.0), "b": [jnp.ones(())]},
        chain.init(params),  # type: ignore[arg-type]
        params,
        learning_rate=0.1,
    )
    np.testing.assert_allclose(updates["a"], -0.1, rtol=1e-5)  # type: ignore[index,call-overload]
    np.testing.assert_allclose(state[1].beta1_power, 0.9)  # type: ignore[index,union-attr]


def test_names_of_a_half_precision_parameter_keep_float32_state() -> None:
    h = Parameter(Tensor(np.ones(2, np.float16)), name="h")
    optimizer = optim.from_optax(optax.adam(1e-2), [h])
    assert {q.name: q.dtype.long_name for q in optimizer.state} == {
        "adam.count": "int32",
        "adam.mu.h": "float32",
        "adam.nu.h": "float32",
    }


def squares(params: list[Parameter]) -> Any:
    """A loss that reads Parameters by itself."""

    def loss() -> Any:
        total: Any = 0.0
        for scale, param in enumerate(params, 1):
            total = total + scale * (param**2).sum()
        return total

    return loss


@pytest.mark.parametrize("kind", ["reads", "takes"])
def test_a_line_search_tries_values_of_the_loss(kind: str) -> None:
    params = start()
    loss = squares(params)
    optimizer = optim.from_optax(optax.lbfgs(), params)
    names = [param.name for param in params]

    def by_name(values: Any) -> Any:
        return sum(s * (values[n] ** 2).sum() for s, n in enumerate(names, 1))

    @paramesh.jit
    def step() -> Any:
        value, slopes = paramesh.value_and_grad(loss, None, weights=params)()
        optimizer(slopes, value=value, value_fn=loss if kind == "reads" else by_name)
        return value

    before = values = {p.name: jnp.asarray(p.asnumpy()) for p in params}
    theirs = optax.lbfgs()
    state = theirs.init(values)
    for _ in range(3):
        step()
        value, grads = jax.value_and_grad(by_name)(values)
        updates, state = theirs.update(
            grads, state, values, value=value, grad=grads, value_fn=by_name
        )
        before, values = values, named_leaves(optax.apply_updates(values, updates))
    for param in params:
        # The last step takes most of the values away: what is left has the error of what was there.
        reach = 1e-6 * float(jnp.abs(before[param.name]).max())
        np.testing.assert_allclose(param.asnumpy(), values[param.name], rtol=1e-6, atol=reach)


def test_what_a_line_search_tries_is_not_kept() -> None:
    params = start()
    count = Parameter(Tensor(0.0), name="count", requires_grad=False)
    loss = squares(params)

    def counting() -> Any:
        count.assign(count + 1)
        return loss()

    optimizer = optim.from_optax(optax.lbfgs(), params)
    value, slopes = paramesh.value_and_grad(loss, None, weights=params)()
    optimizer(slopes, value=value, value_fn=counting)
    assert float(count) == 0


def test_the_slow_parameters_of_a_lookahead_are_state() -> None:
    params = start()
    optimizer = optim.from_optax(optax.lookahead(optax.sgd(0.1), 2, 0.5), params)
    names = [state.name for state in optimizer.state]
    assert names[:2] == ["slow.weights.b", "slow.weights.w"]
    values = {p.name: jnp.asarray(p.asnumpy()) for p in params}
    theirs = optax.lookahead(optax.sgd(0.1), 2, 0.5)
    both = optax.LookaheadParams.init_synced(values)
    state = theirs.init(both)
    for step in range(5):
        grads = gradients(step, optimizer, params)
        optimizer(grads)
        given = {p.name: jnp.asarray(g.asnumpy()) for p, g in zip(params, grads, strict=True)}
        updates, state = theirs.update(given, state, both)
        both = optax.apply_updates(both, updates)
        assert isinstance(both, optax.LookaheadParams)
    fast, weights = named_leaves(both.fast), named_leaves(both.slow)
    for param in params:
        close(param.asnumpy(), fast[param.name])
    slow = {state.name: state.asnumpy() for state in optimizer.state}
    close(slow["slow.weights.w"], weights["w"])


def test_labels_by_name_and_a_schedule() -> None:
    params = start()
    chosen = optax.multi_transform(
        {"moves": optax.sgd(optax.linear_schedule(1.0, 0.0, 2)), "stays": optax.set_to_zero()},
        lambda values: {name: "moves" if name == "w" else "stays" for name in values},
    )
    optimizer = optim.from_optax(chosen, params)
    before = {p.name: p.asnumpy() for p in params}
    grads = tuple(Tensor(np.ones(p.shape, np.float32)) for p in params)
    for _ in range(3):
        optimizer(grads)
    moved = {p.name: before[p.name] - p.asnumpy() for p in params}
    close(moved["w"], np.full_like(moved["w"], 1.5))
    assert not moved["b"].any()
    with pytest.raises(OptimizerError, match="the learning rate is inside"):
        optimizer.get_lr()


def test_a_model_takes_a_transformation() -> None:
    paramesh.set_seed(0)
    net = nn.Dense(2, 1)
    x = np.ones((4, 2), np.float32)
    model = paramesh.Model(net, nn.MSELoss(), optax.sgd(optax.constant_schedule(0.1)))
    before = net.weight.asnumpy()
    model.train(1, [(x, x[:, :1])], progress=False)
    assert not np.array_equal(net.weight, before)
    with pytest.raises(TypeError, match="optimizer must be an Optimizer or an optax transf.*float"):
        paramesh.Model(net, nn.MSELoss(), wrong(0.1))


class TestTrainingCells:
    """What takes the loss gets it of a training Cell."""

    def step(self, rule: Any) -> tuple[nn.Cell, nn.TrainOneStepCell]:
        net = nn.Dense(3, 1, weight_init="ones")
        optimizer = optim.from_optax(rule, net.trainable_params())
        return net, nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), optimizer)

    def test_the_loss(self) -> None:
        seen: list[Any] = []

        def update(updates: Any, state: Any, params: Any = None, **given: Any) -> Any:
            seen.append(given["value_fn"](params) - given["value"])
            return jax.tree.map(lambda g: -0.1 * g - given["value"], updates), state

        rule = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
        net, step = self.step(rule)
        before = net.trainable_params()[1].asnumpy()
        x, y = np.ones((2, 3), np.float32), np.zeros((2, 1), np.float32)
        loss = float(step(Tensor(x), Tensor(y)))
        slope = 2 * np.sqrt(loss)
        close(net.trainable_params()[1].asnumpy(), before - 0.1 * slope - loss)
        assert len(seen) == 1

    @pytest.mark.slow
    def test_a_line_search(self) -> None:
        net, step = self.step(optax.lbfgs())
        x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
        y = x @ np.array([[1.0], [-2.0], [3.0]], np.float32) + 1
        losses = [float(step(Tensor(x), Tensor(y))) for _ in range(12)]
        assert losses[-1] < 1e-6
        close(net.trainable_params()[0].asnumpy(), np.array([[1.0, -2.0, 3.0]]), 1e-3)

    def test_what_is_missing_is_named(self) -> None:
        params = start()
        optimizer = optim.from_optax(optax.lbfgs(), params)
        slopes = tuple(Tensor(np.ones(p.shape, np.float32)) for p in params)
        with pytest.raises(TypeError, match=r"needs 'value', 'grad', and 'value_fn' besides"):
            optimizer(slopes)
        context.set_auto_parallel_context(parallel_mode="data_parallel")
        _, step = self.step(optax.lbfgs())
        with pytest.raises(TypeError, match="but not in data or hybrid parallel"):
            step(Tensor(np.ones((8, 3), np.float32)), Tensor(np.ones((8, 1), np.float32)))
