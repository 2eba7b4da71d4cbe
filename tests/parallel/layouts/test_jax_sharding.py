"""Places in JAX's words mean what Layouts mean, wherever one of them is taken."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import paramesh
from paramesh import Parameter, Tensor, nn
from paramesh.errors import LayoutError, ParameterStateError
from paramesh.initializer import initializer
from paramesh.parallel import Layout
from type_checks import present, wrong

P = PartitionSpec


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    """Eight devices in two axes."""
    return Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))


def weight(shape: tuple[int, ...] = (8, 4)) -> Parameter:
    """A Parameter without data."""
    return Parameter(initializer("normal", shape), name="w")


LAYOUT = Layout((4, 2), ("a", "b"))


@pytest.mark.parametrize(
    ("spec", "layout"),
    [
        (P("a"), LAYOUT("a", "None")),
        (P(None, "b"), LAYOUT("None", "b")),
        (P(("a", "b")), LAYOUT(("a", "b"), "None")),
        (P("b", "a"), LAYOUT("b", "a")),
        (P(), LAYOUT("None", "None")),
    ],
)
def test_specs_are_layouts(mesh: Mesh, spec: Any, layout: Layout) -> None:
    param = weight()
    assert param.sharding is None
    param.layout = NamedSharding(mesh, spec)
    assert param.layout == layout
    param.layout = None
    with jax.set_mesh(mesh):
        param.layout = spec
    assert param.layout == layout
    wanted = NamedSharding(mesh, spec)
    assert present(param.sharding).is_equivalent_to(wanted, 2)
    numbers = weight()._get()
    for place in (wanted, layout):
        assert paramesh.device_put(Tensor(numbers), place).sharding.is_equivalent_to(wanted, 2)


def test_a_recipe_is_run_where_the_parameter_is_placed(mesh: Mesh) -> None:
    paramesh.set_seed(1)
    whole = weight().asnumpy()
    paramesh.set_seed(1)
    param = weight()
    param.sharding = NamedSharding(mesh, P("a", "b"))
    assert not param.has_init
    assert {shard.data.shape for shard in param._get().addressable_shards} == {(2, 2)}
    np.testing.assert_array_equal(param, whole)
    assert param.to_device(jax.devices()[3]) is param
    assert param.devices() == {jax.devices()[3]}
    param.sharding = jax.devices()[2]
    assert param.sharding == SingleDeviceSharding(jax.devices()[2])
    param.to_device((2, 1))
    assert {shard.data.shape for shard in param._get().addressable_shards} == {(4, 4)}
    np.testing.assert_array_equal(param, whole)


def losses(mesh: Mesh | None) -> tuple[list[float], Any]:
    """Three steps of a network, on one device or on many."""
    paramesh.set_seed(1)
    net = nn.SequentialCell(nn.Dense(8, 16), nn.ReLU(), nn.Dense(16, 8))
    x = Tensor(np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32))
    if mesh is not None:
        net.to_device(
            lambda param: NamedSharding(mesh, P("b", "a")) if param.ndim == 2 else mesh_wide(mesh)
        )
        x = paramesh.device_put(x, NamedSharding(mesh, P("a")))
    adam = nn.Adam(net.trainable_params(), 0.1)
    gradients = paramesh.value_and_grad(
        lambda x: (net(x) ** 2).mean(), None, weights=net.trainable_params()
    )

    @paramesh.jit
    def step(x: Any) -> Any:
        loss, slopes = gradients(x)
        adam(slopes)
        return loss

    found = [float(step(x)) for _ in range(3)]
    assert net.block_until_ready() is net
    return found, net[0].weight.sharding


def mesh_wide(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, P())


def test_programs_run_where_their_parameters_are(mesh: Mesh) -> None:
    one, _ = losses(None)
    many, sharding = losses(mesh)
    np.testing.assert_allclose(many, one, rtol=1e-5)
    assert sharding.is_equivalent_to(NamedSharding(mesh, P("b", "a")), 2)


def test_explicit_axes_are_taken_as_automatic_ones() -> None:
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
    net = nn.Dense(8, 8)
    net.to_device(NamedSharding(mesh, P("x")))
    assert net.weight.sharding.spec == P("x")
    assert net(Tensor(np.ones((2, 8), np.float32))).shape == (2, 8)


def test_the_mode_does_the_rest(mesh: Mesh) -> None:
    paramesh.set_auto_parallel_context(parallel_mode="semi_auto_parallel", device_num=8)
    net = nn.Dense(8, 8)
    net.weight.sharding = NamedSharding(mesh, P("b"))
    assert net.weight.has_init
    assert net.weight.layout == LAYOUT("b", "None")
    net(Tensor(np.ones((2, 8), np.float32)))
    assert net.weight.sharding.is_equivalent_to(NamedSharding(mesh, P("b")), 2)


def test_containers_are_moved_as_they_are(mesh: Mesh) -> None:
    param = weight()
    moved = paramesh.device_put({"w": param, "n": [Tensor([1.0] * 8), 3]}, jax.devices()[1])
    assert type(moved["w"]) is Tensor
    assert moved["w"].devices() == moved["n"][0].devices() == {jax.devices()[1]}
    assert param.devices() == {jax.devices()[0]}


def of_devices(mesh: Mesh) -> list[Any]:
    """(what is given, error, message)."""
    return [
        (P("a"), LayoutError, "a PartitionSpec needs a mesh whose axes it names. Call jax.set_m"),
        (NamedSharding(mesh, P(None, ("a", "b"))), LayoutError, "into 8 equal shards"),
        (NamedSharding(mesh, P(None, None, "a")), LayoutError, "3 entries, but the shape is"),
        ((3, 1), LayoutError, "8 is not divisible by 3|axis 0 .* 3"),
        ("x", TypeError, "got 'x'"),
    ]


@pytest.mark.parametrize("which", range(5))
def test_places_that_do_not_fit(mesh: Mesh, which: int) -> None:
    place, kind, message = of_devices(mesh)[which]
    param = weight()
    with pytest.raises(kind, match=f"Parameter 'w'.*({message})"):
        param.sharding = place
    assert param.has_init
    assert param.layout is None
    with pytest.raises(kind, match=message):
        paramesh.device_put(param, place)


def test_a_layout_has_named_axes(mesh: Mesh) -> None:
    flat = NamedSharding(mesh.abstract_mesh, P("a"))
    with pytest.raises(
        LayoutError, match="'w': .* has no devices. Give a NamedSharding over a jax"
    ):
        weight().layout = flat
    with pytest.raises(LayoutError, match="a SingleDeviceSharding is not a layout; expected a"):
        weight().layout = wrong(SingleDeviceSharding(jax.devices()[0]))


def test_a_program_cannot_move_a_parameter() -> None:
    param = weight()
    with pytest.raises(ParameterStateError, match="'w': a program cannot bring a Parameter to"):
        paramesh.jit(lambda x: x + param.to_device(jax.devices()[1]))(Tensor(1.0))


def test_elements_at_an_index() -> None:
    t = Tensor(np.arange(6))
    assert t.at[1].set(9).asnumpy().tolist() == [0, 9, 2, 3, 4, 5]
    assert t.at[Tensor([0, 2])].add(Tensor([5, 6])).asnumpy().tolist() == [5, 1, 8, 3, 4, 5]
    assert t.at[:2].multiply(3).dtype is paramesh.int64
    assert t.at[9].get(mode="fill", fill_value=-1).asnumpy() == -1
    assert t.asnumpy().tolist() == list(range(6))
    assert paramesh.jit(lambda t: t.block_until_ready().at[0].max(7))(t).asnumpy()[0] == 7
    param = weight((2,))
    assert type(param.at[0].set(0.0)) is Tensor
    with pytest.raises(AttributeError, match=r"tensor.at\[…\] has no 'sett'; it has set, add"):
        _ = t.at[0].sett
