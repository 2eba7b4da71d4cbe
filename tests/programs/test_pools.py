"""Pools: many small Parameters in one array are invisible, but for the number of buffers."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, ParameterTuple, Tensor, context, nn
from paramesh.initializer import initializer
from paramesh.optim import flat
from paramesh.parameter import Pool
from programs.networks import Deep, trainer
from type_checks import present, untyped

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    yield
    context.reset()


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "Adam": lambda p: nn.Adam(p, 0.05),
    "Adam with decay": lambda p: nn.Adam(p, 0.05, weight_decay=0.1),
    "AMSGrad": lambda p: nn.Adam(p, 0.05, use_amsgrad=True),
    "AdamWeightDecay": lambda p: nn.AdamWeightDecay(p, 0.05, weight_decay=0.1),
    "AdaMax": lambda p: nn.AdaMax(p, 0.05),
    "SGD": lambda p: nn.SGD(p, 0.05),
    "SGD with momentum": lambda p: nn.SGD(p, 0.05, momentum=0.9),
    "Momentum": lambda p: nn.Momentum(p, 0.05, 0.9, loss_scale=2.0),
    "Adagrad": lambda p: nn.Adagrad(p, learning_rate=0.05),
    "ProximalAdagrad": lambda p: nn.ProximalAdagrad(p, learning_rate=0.05, l1=1e-3),
    "RMSProp": lambda p: nn.RMSProp(p, 0.05),
    "RMSProp, centered": lambda p: nn.RMSProp(p, 0.05, centered=True),
    "Adadelta": lambda p: nn.Adadelta(p, 1.0),
    "FTRL": lambda p: nn.FTRL(p, learning_rate=0.05),
    "Rprop": lambda p: nn.Rprop(p, 0.05),
    "listed rates": lambda p: nn.Adam(p, [0.1, 0.05, 0.02, 0.01, 0.01, 0.01]),
    "groups": lambda p: nn.Momentum(
        [
            {"params": [q for q in p if "weight" in q.name], "lr": 0.1, "weight_decay": 0.01},
            {"params": [q for q in p if "bias" in q.name]},
        ],
        0.01,
        0.9,
    ),
}
#: With these some elements depend on others, so they take each Parameter by itself.
APART: dict[str, Callable[[Any], Any]] = {
    "Lamb": lambda p: nn.Lamb(p, 0.05),
    "LARS": lambda p: nn.LARS(nn.Momentum(p, 0.05, 0.9)),
    "ASGD": lambda p: nn.ASGD(p, 0.05),
    "AdaFactor": lambda p: nn.AdaFactor(p, 0.05, scale_parameter=False, relative_step=False),
}


def values(*cells: nn.Cell) -> dict[str, np.ndarray[Any, Any]]:
    return {name: p.asnumpy() for cell in cells for name, p in cell.parameters_dict().items()}


def pools(step: Any) -> list[Pool]:
    return [s for s in step.trace(Tensor(X)).donated if isinstance(s, Pool)]


@pytest.mark.parametrize("name", [*OPTIMIZERS, *APART])
def test_the_same_numbers_as_without(name: str) -> None:
    make = (OPTIMIZERS | APART)[name]
    results = []
    for setting in ("never", "always"):
        context.set_context(flat_parameters=setting)
        net = Deep(8)
        optimizer = make(net.trainable_params())
        step = trainer(net, optimizer)
        losses = [float(step(Tensor(X))) for _ in range(5)]
        assert step.traces == 1
        expected = setting == "always" and name not in APART and name != "LARS"
        if name != "LARS":  # its inner Momentum is elementwise
            assert bool(pools(step)) == expected
        results.append((losses, values(net, optimizer)))
    (losses, plain), (losses_here, here) = results
    # One kernel for all elements and one for each Parameter may contract a * b + c differently.
    np.testing.assert_allclose(losses_here, losses, rtol=2e-6)
    assert here.keys() == plain.keys()
    for key, value in plain.items():
        np.testing.assert_allclose(here[key], value, rtol=2e-5, atol=1e-7, err_msg=key)


def test_buffers_in_and_out_of_a_step() -> None:
    net = Deep(20)
    adam = nn.Adam(net.trainable_params(), 0.01)
    step = trainer(net, adam)
    step(Tensor(X))
    entry = step.trace(Tensor(X))
    assert step.traces == 1
    names = {s.name for s in entry.donated if not isinstance(s, Pool)}
    assert names == {"global_step", "beta1_power", "beta2_power"}
    assert [len(s.layout.shapes) for s in entry.donated if isinstance(s, Pool)] == [40] * 3
    assert {s.name for s in entry.kept} == {"learning_rate"}
    assert set(entry.written) == set(entry.donated)
    assert all(p.is_init for p in net.get_parameters())


class TestTheRule:
    def kept_flat(self, make: Callable[[], list[Parameter]], **settings: Any) -> int:
        context.set_context(**settings)
        params = make()
        nn.Adam(params, 0.1)
        made = nn.Adam(params, 0.1)
        made.form_pools()
        return sum(p._slot is not None for p in params)

    @staticmethod
    def params(count: int, shape: tuple[int, ...], dtype: Any = np.float32) -> list[Parameter]:
        return [Parameter(Tensor(np.zeros(shape, dtype)), name=f"p{i}") for i in range(count)]

    def test_fewest(self) -> None:
        assert self.kept_flat(lambda: self.params(flat.FEWEST, (2,))) == flat.FEWEST
        assert self.kept_flat(lambda: self.params(flat.FEWEST - 1, (2,))) == 0

    def test_largest(self) -> None:
        most = flat.MOST_BYTES[2] // 4
        assert self.kept_flat(lambda: self.params(9, (most,))) == 9
        assert self.kept_flat(lambda: self.params(9, (most + 1,))) == 0

    def test_less_state_smaller_parameters(self) -> None:
        params = self.params(9, (flat.MOST_BYTES[0] // 4 + 1,))
        sgd = nn.SGD(params, 0.1)
        sgd.form_pools()
        assert params[0]._slot is None

    def test_element_types(self) -> None:
        assert self.kept_flat(lambda: self.params(9, (2,), np.float64)) == 0
        assert self.kept_flat(lambda: self.params(9, (2,), np.float16)) == 9

    def test_turned_off(self) -> None:
        assert self.kept_flat(lambda: self.params(9, (2,)), flat_parameters="never") == 0

    def test_layerwise_parallel_stays_alone(self) -> None:
        def make() -> list[Parameter]:
            params = self.params(10, (2,))
            params[0].layerwise_parallel = True
            return params

        assert self.kept_flat(make) == 9

    def test_arrays_over_several_devices_stay_alone(self) -> None:
        mesh = jax.make_mesh((2,), ("x",), devices=jax.devices()[:2])
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))

        def make() -> list[Parameter]:
            params = self.params(10, (2,))
            params[3].assign_value(Tensor(jax.device_put(jnp.ones(2), sharding)))
            return params

        assert self.kept_flat(make) == 9

    def test_centralized_gradients_stay_alone(self) -> None:
        params = self.params(9, (2, 3, 3))
        adam = nn.Adam([{"params": params, "grad_centralization": True}], 0.1)
        adam.form_pools()
        assert params[0]._slot is None

    def test_unknown_setting(self) -> None:
        with pytest.raises(ValueError, match="flat_parameters='on'"):
            context.set_context(flat_parameters="on")


class Trained:
    """A network after two steps that made its pools."""

    def __init__(self) -> None:
        self.net = Deep()
        self.adam = nn.Adam(self.net.trainable_params(), 0.1)
        self.step = trainer(self.net, self.adam)
        self.run(2)
        assert len(pools(self.step)) == 3

    def run(self, times: int = 1) -> list[float]:
        return [float(self.step(Tensor(X))) for _ in range(times)]

    @property
    def weight(self) -> Parameter:
        return self.net.layers[2].weight


class TestBetweenSteps:
    def test_what_was_taken_out_stays(self) -> None:
        trained = Trained()
        param = trained.weight
        held = [
            param.value(),
            Tensor(param),
            param.clone(),
            jnp.asarray(param),
            param + 0,
            param[0],
            np.asarray(param),
            jnp.from_dlpack(param),
        ]
        before = [np.array(item) for item in held]
        trained.run(3)
        assert not np.array_equal(param.asnumpy(), before[0])
        for item, was in zip(held, before, strict=True):
            np.testing.assert_array_equal(np.asarray(item), was)

    @pytest.mark.parametrize("door", ["set_data", "assign", "item", "assign_value", "recipe"])
    def test_written_from_outside(self, door: str) -> None:
        trained = Trained()
        others = {k: v for k, v in values(trained.net).items() if k != trained.weight.name}
        new = np.full((3, 3), 0.25, np.float32)
        match door:
            case "set_data":
                trained.weight.set_data(Tensor(new))
            case "assign":
                trained.weight.assign(Tensor(new))
            case "item":
                trained.weight[:] = 0.25
            case "assign_value":
                trained.weight.assign_value(Tensor(new))
            case _:
                trained.weight.set_data(initializer(0.25, (3, 3)))
        np.testing.assert_array_equal(trained.weight.asnumpy(), new)
        for name, value in others.items():
            np.testing.assert_array_equal(trained.net.parameters_dict()[name].asnumpy(), value)
        plain = plain_step(trained)
        trained.run()
        assert trained.step.traces == 1
        assert_same(values(trained.net, trained.adam), plain)

    @pytest.mark.parametrize("count", [1, 3, 12])
    def test_several_written_from_outside(self, count: int) -> None:
        trained = Trained()
        for param in trained.net.trainable_params()[:count]:
            param.set_data(param + 1.0)
        plain = plain_step(trained)
        trained.run()
        assert_same(values(trained.net, trained.adam), plain)

    @pytest.mark.parametrize("count", [1, 3, 12])
    def test_written_inside_a_program(self, count: int) -> None:
        trained = Trained()
        params = trained.net.trainable_params()[:count]
        before = [p.asnumpy() for p in params]
        others = [(p, p.asnumpy()) for p in trained.net.trainable_params()[count:]]

        @paramesh.jit
        def shift(by: Any) -> None:
            for param in params:
                param.assign(param + by)

        shift(1.5)
        shift(0.5)
        assert shift.traces == 1
        for param, was in zip(params, before, strict=True):
            np.testing.assert_array_equal(param.asnumpy(), was + 1.5 + 0.5)
        for param, was in others:
            np.testing.assert_array_equal(param.asnumpy(), was)
        plain = plain_step(trained)
        trained.run()
        assert_same(values(trained.net, trained.adam), plain)

    def test_read_and_written_before_and_after_the_update_in_one_program(self) -> None:
        trained = Trained()
        twin = plain_copy(trained.net, trained.adam)
        seen: list[list[Any]] = []
        for net, adam, weight in ((trained.net, trained.adam, trained.weight), twin):
            gradients = paramesh.value_and_grad(
                lambda x, net=net: (net(x) ** 2).mean(), None, adam.parameters
            )

            @paramesh.jit
            def update(x: Any, weight: Any = weight, g: Any = gradients, o: Any = adam) -> Any:
                weight.assign(weight * 0.5)
                first = weight + 0
                _, grads = g(x)
                o(grads)
                second = weight + 0
                weight.assign(weight + 1.0)
                return first, second, weight + 0

            out = update(Tensor(X))
            np.testing.assert_array_equal(out[2].asnumpy(), weight.asnumpy())
            seen.append([*(o.asnumpy() for o in out), *values(net, adam).values()])
        for here, there in zip(*seen, strict=True):
            np.testing.assert_allclose(here, there, rtol=2e-5, atol=2e-6)

    @pytest.mark.parametrize("change", ["dtype", "shape"])
    def test_a_member_that_outgrows_its_place(self, change: str) -> None:
        trained = Trained()
        bias = trained.net.layers[0].bias
        before = values(trained.net, trained.adam)
        if change == "dtype":
            bias.set_dtype(paramesh.float16)
        else:
            bias.set_data(Tensor(np.zeros((1,), np.float32)), slice_shape=True)
        after = values(trained.net, trained.adam)
        assert after.pop(bias.name).dtype == (np.float16 if change == "dtype" else np.float32)
        del before[bias.name]
        assert_same(after, before, exact=True)
        if change == "dtype":
            trained.run(2)
            assert trained.step.traces == 2
            assert bias.dtype is paramesh.float16

    def test_a_member_that_outgrows_its_place_inside_a_program(self) -> None:
        trained = Trained()
        bias = trained.net.layers[0].bias
        others = values(trained.net)
        was = others.pop(bias.name)

        @paramesh.jit
        def narrow() -> None:
            bias.set_dtype(paramesh.float16)

        narrow()
        assert bias.dtype is paramesh.float16
        np.testing.assert_array_equal(bias.asnumpy(), was.astype(np.float16))
        here = values(trained.net)
        del here[bias.name]
        assert_same(here, others, exact=True)
        trained.run()

    def test_an_exception_in_a_program_changes_nothing(self) -> None:
        trained = Trained()
        before = values(trained.net, trained.adam)

        @paramesh.jit
        def fails(x: Any) -> None:
            trained.weight.assign(trained.weight * 2.0)
            trained.adam([p * 0.0 for p in trained.adam.parameters])
            raise KeyError("on purpose")

        with pytest.raises(KeyError, match="on purpose"):
            fails(Tensor(X))
        assert_same(values(trained.net, trained.adam), before, exact=True)
        trained.run()

    def test_copies_and_pickles_are_independent(self) -> None:
        trained = Trained()
        twins = [
            copy.deepcopy((trained.net, trained.adam)),
            pickle.loads(pickle.dumps((trained.net, trained.adam))),
        ]
        before = values(trained.net, trained.adam)
        trained.run(2)
        after = values(trained.net, trained.adam)
        for net, adam in twins:
            assert_same(values(net, adam), before, exact=True)
            step = trainer(net, adam)
            for _ in range(2):
                step(Tensor(X))
            assert len(pools(step)) == 3
            assert_same(values(net, adam), after, exact=True)

    def test_clones_hold_the_values(self) -> None:
        trained = Trained()
        before = values(trained.net)
        clones = ParameterTuple(trained.net.trainable_params()).clone("old")
        trained.run()
        for clone, (name, value) in zip(clones, before.items(), strict=True):
            assert clone.name == f"old.{name}"
            np.testing.assert_array_equal(clone.asnumpy(), value)

    def test_the_optimizer_is_gone(self) -> None:
        trained = Trained()
        before = values(trained.net)
        trained.adam = trained.step = untyped(None)
        gc.collect()
        assert_same(values(trained.net), before, exact=True)
        again = nn.Momentum(trained.net.trainable_params(), 0.1, 0.9)
        step = trainer(trained.net, again)
        step(Tensor(X))
        assert len(pools(step)) == 2

    def test_a_member_is_gone(self) -> None:
        params = [Parameter(Tensor(np.full(2, i, np.float32)), name=f"p{i}") for i in range(9)]
        adam = nn.Adam(params, 0.1)
        adam([Tensor(np.ones(2, np.float32)) for _ in params])
        pool = present(params[0]._slot).pool
        kept = params[4]
        del adam, params
        gc.collect()
        assert [p for _, p in pool.entries()] == [kept]

        @paramesh.jit
        def double() -> None:
            kept.assign(kept * 2.0)

        before = kept.asnumpy()
        double()
        np.testing.assert_array_equal(kept.asnumpy(), before * 2)

    def test_a_second_optimizer_of_some_parameters(self) -> None:
        trained = Trained()
        some = trained.net.trainable_params()[:10]
        momentum = nn.Momentum(some, 0.1, 0.9)
        other = trainer(trained.net, momentum)
        twin_net, twin_adam = plain_copy(trained.net, trained.adam)[:2]
        names = {p.name for p in some}
        twin_some = [p for p in twin_net.trainable_params() if p.name in names]
        context.set_context(flat_parameters="never")
        twin_momentum = nn.Momentum(twin_some, 0.1, 0.9)
        twin_other = trainer(twin_net, twin_momentum)
        twin_step = trainer(twin_net, twin_adam)
        for a, b in [(twin_step, twin_other), (trained.step, other)]:
            for _ in range(3):
                b(Tensor(X))
                a(Tensor(X))
            assert a.traces <= 2
            assert b.traces == 1
            context.set_context(flat_parameters="auto")
        mine = values(trained.net, trained.adam) | values(momentum)
        assert_same(mine, values(twin_net, twin_adam) | values(twin_momentum))

    def test_the_pool_of_an_equal_optimizer_is_used_again(self) -> None:
        trained = Trained()
        pool = present(trained.weight._slot).pool
        adam = nn.Adam(trained.net.trainable_params(), 0.1)
        adam.form_pools()
        assert present(trained.weight._slot).pool is pool
        assert pool.alive

    def test_functional_call_of_the_optimizer(self) -> None:
        trained = Trained()
        before = values(trained.net, trained.adam)
        grads = tuple(Tensor(np.ones(p.shape, np.float32)) for p in trained.adam.parameters)
        given = {name: Tensor(value * 0.5) for name, value in values(trained.net).items()}
        _, new = paramesh.functional_call(trained.adam, given, grads, mutable=True)
        assert_same(values(trained.net, trained.adam), before, exact=True)
        for name, value in given.items():
            trained.net.parameters_dict()[name].set_data(value)
        trained.adam(grads)
        after = values(trained.net, trained.adam)
        assert {n for n in new} >= set(given)
        for name, value in new.items():
            np.testing.assert_allclose(value.asnumpy(), after[name], rtol=2e-5, atol=2e-6)

    def test_steps_in_a_scan(self) -> None:
        trained = Trained()
        net, adam = trained.net, trained.adam
        gradients = paramesh.value_and_grad(
            lambda x: ((net(x) - 1.0) ** 2).mean(), None, adam.parameters
        )

        @paramesh.jit
        def three(x: Any) -> Any:
            def body(carry: Any, _: Any) -> Any:
                loss, grads = gradients(x)
                adam(grads)
                return carry, loss

            return paramesh.transforms.scan(body, x, length=3)[1]

        twin_net, twin_adam = plain_copy(net, adam)[:2]
        losses = three(Tensor(X))
        twin = trainer(twin_net, twin_adam)
        np.testing.assert_allclose(
            losses.asnumpy(), [float(twin(Tensor(X))) for _ in range(3)], rtol=1e-5
        )
        assert_same(values(net, adam), values(twin_net, twin_adam))

    def test_put_on_the_parameter_server(self) -> None:
        trained = Trained()
        before = values(trained.net)
        context.set_ps_context(enable_ps=True)
        trained.weight.set_param_ps()
        assert trained.weight._slot is None
        assert_same(values(trained.net), before, exact=True)
        trained.run()
        assert trained.weight._slot is None
        assert trained.net.layers[0].bias._slot is not None

    def test_checkpoints(self, tmp_path: Any) -> None:
        trained = Trained()
        before = values(trained.net, trained.adam)
        for name, cell in (("net", trained.net), ("adam", trained.adam)):
            paramesh.save_checkpoint(cell, tmp_path / f"{name}.safetensors")
        after = trained.run(2)
        for name, cell in (("net", trained.net), ("adam", trained.adam)):
            paramesh.load_checkpoint(tmp_path / f"{name}.safetensors", cell)
        assert_same(values(trained.net, trained.adam), before, exact=True)
        assert trained.run(2) == after
        assert trained.step.traces == 1

    def test_loaded_before_the_first_step_runs_no_recipe(
        self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained = Trained()
        paramesh.save_checkpoint(trained.net, tmp_path / "net.safetensors")
        net = Deep()
        adam = nn.Adam(net.trainable_params(), 0.1)
        step = trainer(net, adam)
        paramesh.load_checkpoint(tmp_path / "net.safetensors", net)
        computed: list[Any] = []
        monkeypatch.setattr(
            "paramesh.state.placement.Placement.materialise",
            lambda self, params, recipes: (
                computed.extend(params) or [recipe.compute() for recipe in recipes]
            ),
        )
        step(Tensor(X))
        names = {p.name for p in computed}
        assert names.isdisjoint(net.parameters_dict())
        assert "moment1." + trained.weight.name in names

    def test_no_pools_in_pynative_mode(self) -> None:
        context.set_context(mode=context.PYNATIVE_MODE)
        net = Deep()
        adam = nn.Adam(net.trainable_params(), 0.1)
        gradients = paramesh.value_and_grad(lambda x: (net(x) ** 2).mean(), None, adam.parameters)
        adam(gradients(Tensor(X))[1])
        assert net.layers[0].weight._slot is None

    def test_a_pynative_step_after_a_compiled_one(self) -> None:
        trained = Trained()
        plain = plain_step(trained)
        context.set_context(mode=context.PYNATIVE_MODE)
        net, adam = trained.net, trained.adam
        gradients = paramesh.value_and_grad(
            lambda x: ((net(x) - 1.0) ** 2).mean(), None, adam.parameters
        )
        adam(gradients(Tensor(X))[1])
        assert_same(values(net, adam), plain)


def plain_copy(net: nn.Cell, adam: Any) -> tuple[Any, Any, Any]:
    """A copy whose Parameters are in no pool and never will be."""
    twin_net, twin_adam = copy.deepcopy((net, adam))
    paramesh.parameter.waiting.discard(twin_adam)
    return twin_net, twin_adam, twin_net.layers[2].weight


def plain_step(trained: Trained) -> dict[str, Any]:
    """All values after one more step without pools."""
    net, adam = plain_copy(trained.net, trained.adam)[:2]
    step = trainer(net, adam)
    step(Tensor(X))
    assert not pools(step)
    return values(net, adam)


def assert_same(here: dict[str, Any], there: dict[str, Any], exact: bool = False) -> None:
    assert here.keys() == there.keys()
    for name, value in there.items():
        if exact:
            np.testing.assert_array_equal(here[name], value, err_msg=name)
        else:
            np.testing.assert_allclose(here[name], value, rtol=2e-5, atol=2e-6, err_msg=name)
