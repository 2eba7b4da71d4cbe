"""Stacked layers compute, learn, move and are saved as the same layers apart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn, ops
from paramesh.errors import CheckpointError, LayoutError, ParameterStateError, TraceError
from paramesh.initializer import Normal, Orthogonal, initializer
from paramesh.initializer.stacked import Stacked, layers_of, stacked
from paramesh.nn.stack import Stack
from paramesh.sampling.recipe import Recipe, next_key

X = Tensor(np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32))


class Block(nn.Cell):
    """A layer with everything that may go wrong: state of its own, and random numbers."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.fc = nn.Dense(4, 4)
        self.drop = nn.Dropout(p=rate)
        self.mean = Parameter(initializer("zeros", ()), requires_grad=False)

    def construct(self, x: Any) -> Any:
        self.mean = 0.5 * self.mean + x.mean()
        return x + self.drop(ops.tanh(self.fc(x)))


class Net(nn.Cell):
    """A network whose layers are given."""

    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.layers = layers

    def construct(self, x: Any) -> Any:
        if isinstance(self.layers, Stack):
            return self.layers(x)
        for layer in self.layers:
            x = layer(x)
        return x


def pair(n: int = 3, make: Callable[[], Any] = Block, **options: Any) -> tuple[Net, Net]:
    """The same network with stacked layers and with layers apart."""
    paramesh.set_seed(5)
    whole = Net(paramesh.stack(make, n, **options))
    paramesh.set_seed(5)
    return whole, Net(nn.CellList([make() for _ in range(n)]))


def same(whole: Net, apart: Net, tolerance: float = 0) -> None:
    """All layers have the same values."""
    layers = {f"layers.{p.name}": p for p in whole.layers.layers().get_parameters()}
    mine = apart.parameters_dict()
    assert list(layers) == list(mine)
    for name, param in mine.items():
        np.testing.assert_allclose(layers[name], param, atol=tolerance, err_msg=name)


def test_layers_are_lazy_and_have_the_numbers_of_separate_layers() -> None:
    whole, apart = pair()
    assert all(param.has_init for param in whole.get_parameters())
    assert whole.layers.layer(1).fc.weight.has_init
    assert repr(whole.layers.cell.fc.weight.shape) == "(4, 4)"
    assert "Stacked(3 x HeUniform" in repr(whole.parameters_dict()["layers.fc.weight"].init)
    same(whole, apart)
    # The keys that come after are the same as well.
    assert next_key() == (5, next_key()[1] - 1)


@pytest.mark.parametrize("mode", [paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE])
@pytest.mark.parametrize("options", [{}, {"remat": True, "unroll": 2}])
def test_a_scan_computes_and_writes_what_separate_layers_do(mode: int, options: Any) -> None:
    paramesh.set_context(mode=mode)
    whole, apart = pair(**options)
    for _ in range(2):
        np.testing.assert_allclose(whole(X), apart(X), atol=1e-6)
    same(whole, apart, 1e-6)
    assert float(whole.layers.layer(2).mean) != 0


def test_training_moves_layers_as_separate_layers_move() -> None:
    whole, apart = pair(make=lambda: Block(0.5))
    for net in (whole, apart):
        paramesh.set_seed(0)
        net.set_train()
        adam = nn.Adam(net.trainable_params(), 0.1)
        gradients = paramesh.value_and_grad(
            lambda x, net=net: (net(x) ** 2).sum(), None, weights=net.trainable_params()
        )

        @paramesh.jit
        def step(x: Any, adam: Any = adam, gradients: Any = gradients) -> Any:
            loss, slopes = gradients(x)
            adam(slopes)
            return loss

        losses = [float(step(X)) for _ in range(3)]
        assert losses[2] != losses[0]
    same(whole, apart, 1e-5)


def test_train_and_eval_programs_are_both_kept() -> None:
    whole, _ = pair(make=lambda: Block(0.5))
    calls: list[int] = []
    whole.layers.cell.register_forward_pre_hook(lambda cell, inputs: calls.append(1))
    for mode in (True, False, True, False):
        whole.set_train(mode)
        assert whole.layers.cell.drop.training is mode
        whole(X)
        counted = len(calls)
    whole.set_train(True)(X)
    assert len(calls) == counted


def test_a_member_of_an_ensemble_is_the_cell_by_itself() -> None:
    whole, apart = pair(run="vmap")
    out = whole(X)
    assert out.shape == (3, 2, 4)
    for i, layer in enumerate(apart.layers):
        np.testing.assert_allclose(out[i], layer(X), atol=1e-6)
    same(whole, apart, 1e-6)


def test_members_draw_numbers_of_their_own_and_others_at_every_run() -> None:
    ensemble = paramesh.stack(lambda: nn.Dropout(p=0.5), 3, run="vmap").set_train()
    ones = Tensor(np.ones(64, np.float32))
    before = paramesh.get_rng_state().asnumpy()
    first, second = ensemble(ones).asnumpy(), ensemble(ones).asnumpy()
    rows = {row.tobytes() for row in (*first, *second)}
    assert len(rows) == 6
    # The stream moves by one for all members together.
    assert paramesh.get_rng_state().asnumpy()[3] == before[3] + 2


def test_arguments_of_members() -> None:
    class Scale(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.by = Parameter(initializer(Normal(1.0), ()))

        def construct(self, x: Any, shift: Any, *, sign: Any) -> Any:
            return {"y": x * self.by * sign + shift}

    ensemble = paramesh.stack(Scale, 3, run="vmap", in_axes=(0, None))
    x, shift = Tensor(np.arange(6.0).reshape(3, 2)), Tensor([10.0, 20.0])
    out = ensemble(x, shift, sign=Tensor(-1.0))["y"]
    by = next(ensemble.get_parameters()).asnumpy()[:, None]
    np.testing.assert_allclose(out, -x.asnumpy() * by + shift.asnumpy(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"in_axes=\(0, None\) is for 2 arguments, got 1"):
        ensemble(x, sign=1.0)
    with pytest.raises(ValueError, match=r"argument 0 of shape \(2,\) has size 2 on axis 0;"):
        ensemble(shift, shift, sign=1.0)


def test_rows_for_each_layer() -> None:
    class Layer(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Dense(4, 4)

        def construct(self, x: Any, row: Any, mask: Any) -> Any:
            y = self.fc(x) * row * mask
            return y, y.sum()

    whole = paramesh.stack(Layer, 2)
    rows = Tensor([2.0, 3.0])
    out, sums = whole.scan(X, Tensor(1.0), xs=rows)
    y, wanted = X, []
    for i, layer in enumerate(whole):
        y, total = layer(y, rows[i], Tensor(1.0))
        wanted.append(float(total))
    np.testing.assert_allclose(out, y, rtol=1e-5)
    np.testing.assert_allclose(sums, wanted, rtol=1e-5)
    with pytest.raises(TypeError, match=r"'Block' must give a pair \(carry, y\), got Tensor"):
        paramesh.stack(Block, 2).scan(X)
    with pytest.raises(TypeError, match="needs an argument, which goes from layer to layer"):
        whole()


def test_each_writes_for_every_layer() -> None:
    whole, _ = pair()
    whole(X)
    before = [float(layer.mean) for layer in whole.layers]
    seen = whole.layers.each(lambda cell: cell.mean.value())
    np.testing.assert_array_equal(seen, np.array(before, np.float32))
    whole.layers.each(lambda cell: cell.mean.assign(cell.mean * 0))
    assert [float(layer.mean) for layer in whole.layers] == [0, 0, 0]


def test_copies_are_independent_of_what_they_were_copied_from() -> None:
    whole, _ = pair()
    twin = copy.deepcopy(whole)
    layer = whole.layers.layer(0)
    before = whole(X).asnumpy()
    for param in (*twin.get_parameters(), *layer.get_parameters()):
        param.set_data(initializer("zeros", param.shape, param.dtype))
    np.testing.assert_array_equal(whole(X), before)
    np.testing.assert_array_equal(twin(X), X)


def test_a_shared_cell_stays_one() -> None:
    shared = nn.Dense(4, 4)

    class Layer(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.own, self.shared = nn.Dense(4, 4), shared

        def construct(self, x: Any) -> Any:
            return self.shared(self.own(x))

    whole = paramesh.stack(Layer, 3)
    shapes = {param.name: param.shape for param in whole.get_parameters()}
    assert shapes["own.weight"] == (3, 4, 4)
    assert [s for n, s in shapes.items() if "shared" in n] == [(4, 4), (4,)]
    y = X
    for layer in whole:
        y = shared(layer.own(y))
    np.testing.assert_allclose(whole(X), y, atol=1e-6)


def test_stacks_of_stacks() -> None:
    paramesh.set_seed(2)
    whole = paramesh.stack(lambda: paramesh.stack(lambda: nn.Dense(4, 4), 2), 3)
    paramesh.set_seed(2)
    y = X
    for _ in range(6):
        y = nn.Dense(4, 4)(y)
    np.testing.assert_allclose(whole(X), y, atol=1e-6)
    assert next(whole.get_parameters()).shape == (3, 2, 4, 4)


def test_checkpoints_layer_by_layer_and_stacked(tmp_path: Any) -> None:
    whole, apart = pair(2)
    adam = nn.Adam(whole.trainable_params())
    lazy = paramesh.by_layer(whole)
    assert lazy["layers.1.fc.weight"].has_init
    both = paramesh.by_layer(adam)
    assert both["moment1.layers.1.fc.weight"].shape == (4, 4)

    path = paramesh.save_checkpoint(lazy, tmp_path / "apart")
    other = pair(2)[1]
    for param in other.get_parameters():
        param.set_data(initializer("zeros", param.shape, param.dtype))
    paramesh.load_checkpoint(path, other)
    same(whole, other)

    whole.layers.each(lambda cell: cell.fc.bias.assign(cell.fc.bias + 1))
    path = paramesh.save_checkpoint(paramesh.by_layer(whole), tmp_path / "apart")
    fresh = pair(2)[0]
    assert paramesh.load_param_into_net(fresh, paramesh.load_checkpoint(path)) == ([], [])
    paramesh.load_checkpoint(path, apart)
    same(fresh, apart)
    paramesh.load_checkpoint(paramesh.save_checkpoint(whole, tmp_path / "stacked"), fresh)

    half = {n: v for n, v in paramesh.load_checkpoint(path).items() if ".1.fc.weight" not in n}
    with pytest.raises(CheckpointError, match=r"missing: layers.fc.weight Float32\[2, 4, 4\]"):
        paramesh.load_param_into_net(fresh, half)


def test_a_layer_name_that_is_taken_is_refused() -> None:
    whole, _ = pair(2)
    whole.extra = Parameter(Tensor(1.0), name="layers.0.fc.weight")
    with pytest.raises(ValueError, match=r"would be named 'layers.0.fc.weight', which is another"):
        paramesh.by_layer(whole)


def test_slices_of_stacked_recipes_have_the_numbers_of_the_full_array() -> None:
    kinds, dtype = (Normal(1.0), Orthogonal()), paramesh.float32
    recipes = [Recipe(kind, next_key(), (4, 6), dtype) for kind in kinds]
    whole = stacked(recipes)
    assert whole.sliceable
    assert layers_of(whole) == recipes
    numbers = np.stack([np.asarray(recipe.compute()) for recipe in recipes])
    np.testing.assert_array_equal(whole.compute(), numbers)
    part = (slice(1, 2), slice(1, 3), slice(2, 5))
    np.testing.assert_array_equal(whole.compute(part), numbers[part])
    assert whole.compute((slice(0, 0),)).shape == (0, 4, 6)
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spec = jax.sharding.PartitionSpec("a", None, "b")
    cut = whole.compute_sharded(jax.sharding.NamedSharding(mesh, spec))
    np.testing.assert_array_equal(cut, numbers)
    with pytest.raises(ValueError, match=r"has the shape \(2, 4, 6\), got \(3, 4, 6\)"):
        whole.with_shape((3, 4, 6))
    with pytest.raises(ValueError, match="all of one shape, got the shapes"):
        Stacked([recipes[0], Recipe(Normal(1.0), next_key(), (4,), dtype)])
    with pytest.raises(TypeError, match="is no initializer of stacked layers"):
        layers_of(recipes[0])


def test_layers_are_sharded_over_devices() -> None:
    class Layer(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Dense(4, 4, has_bias=False)
            self.fc.weight.layout = (2, 1)

        def construct(self, x: Any) -> Any:
            return ops.tanh(self.fc(x))

    paramesh.set_seed(1)
    wanted = paramesh.stack(Layer, 4)(X).asnumpy()
    paramesh.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    paramesh.set_seed(1)
    whole = paramesh.stack(Layer, 4, parts=4)
    weight = next(whole.get_parameters())
    assert weight.layout == (4, 2, 1)
    np.testing.assert_allclose(whole(X), wanted, atol=1e-6)
    shards = weight._get().addressable_shards
    assert {shard.data.shape for shard in shards} == {(1, 2, 4)}
    with pytest.raises(LayoutError, match="4 is not divisible by 3"):
        paramesh.stack(Layer, 4, parts=3)


def of_two(*cells: Any) -> Callable[[], Any]:
    """Makes these, one after the other."""
    rest = iter(cells)
    return lambda: next(rest)


def wrong() -> list[Any]:
    """(arguments, error, message) of stacks that cannot be."""
    served = nn.Dense(2, 2)
    served.weight.layerwise_parallel = True
    one = nn.ReLU()
    return [
        ((nn.Dense(2, 2), 2), TypeError, r"must be a function that makes a Cell, got Dense"),
        ((lambda: 3, 2), TypeError, "make_cell must make a Cell, got int"),
        ((nn.ReLU, 2.0), TypeError, "n must be an int, got 2.0"),
        ((nn.ReLU, 0), ValueError, "n must be at least 1, got 0"),
        ((nn.ReLU, 2, "loop"), ValueError, "run must be 'scan' or 'vmap', got 'loop'"),
        ((lambda: one, 2), ValueError, "gave the same ReLU twice"),
        ((of_two(nn.ReLU(), nn.Tanh()), 2), ValueError, "a ReLU in layer 0 and a Tanh in layer 1"),
        (
            (of_two(nn.Dense(2, 2), nn.Dense(2, 3)), 2),
            ValueError,
            r"Dense.out_channels \(the layer\) is 2 in layer 0 and 3 in layer 1",
        ),
        (
            (of_two(nn.SequentialCell(nn.ReLU()), nn.SequentialCell()), 2),
            ValueError,
            "layer 1 has other Cells inside than layer 0: '0'",
        ),
        (
            (of_two(nn.Dense(2, 2), nn.Dense(2, 2, has_bias=False)), 2),
            ValueError,
            "has_bias",
        ),
        ((lambda: served, 1), ParameterStateError, "'weight' has a value for each device"),
    ]


@pytest.mark.parametrize(("arguments", "kind", "message"), wrong())
def test_what_cannot_be_stacked(arguments: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        paramesh.stack(*arguments)


def test_options_that_belong_to_the_other_run() -> None:
    with pytest.raises(ValueError, match="in_axes is for run='vmap'"):
        paramesh.stack(nn.ReLU, 2, in_axes=0)
    with pytest.raises(ValueError, match="remat is for run='scan'"):
        paramesh.stack(nn.ReLU, 2, run="vmap", remat=True)
    with pytest.raises(TypeError, match="remat must be a bool or a dict"):
        paramesh.stack(nn.ReLU, 2, remat="yes")  # type: ignore[arg-type]
    with pytest.raises(IndexError, match="layer 2, but it has 2 layers"):
        paramesh.stack(nn.ReLU, 2).layer(2)


def test_members_cannot_write_what_they_share() -> None:
    shared = Parameter(Tensor(0.0), name="count", requires_grad=False)

    class Layer(nn.Cell):
        def construct(self, x: Any) -> Any:
            shared.assign(shared + 1)
            return x

    assert paramesh.stack(Layer, 3)(X).shape == X.shape
    assert float(shared) == 3
    with pytest.raises(TraceError, match="'Layer' writes 'count', which all layers share"):
        paramesh.stack(Layer, 3, run="vmap")(X)
