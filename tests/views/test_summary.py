"""`net.summary`: what it says of a network, that it computes nothing, and how it looks."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn, ops
from paramesh.views import places
from paramesh.views.costs import flops_in
from paramesh.views.summary import counted


class Block(nn.Cell):
    """Uses one Cell twice, another never, and returns two values."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Dense(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(p=0.5)
        self.idle = nn.Dense(4, 2)

    def construct(self, x: Tensor, scale: float = 1.0, shift: Tensor | None = None):
        x = self.fc(self.drop(self.norm(self.fc(x)))) * scale
        return x if shift is None else (x, x + shift)


@pytest.fixture
def net() -> Block:
    block = Block()
    assert block.idle.bias is not None
    block.idle.bias.requires_grad = False
    return block.set_train()


X = np.ones((3, 4), np.float32)


def by_path(found: paramesh.views.Summary) -> dict[str, paramesh.views.CellRow]:
    return {row.path: row for row in found.rows}


def test_rows(net: Block) -> None:
    found = by_path(net.summary(X, compiled=False))
    assert list(found) == ["", "fc", "norm", "drop", "idle"]
    assert [str(o) for o in found[""].outputs] == ["(3, 4)"]
    assert found[""].outputs[0].dtype == "Float32"
    assert [row.calls for row in found.values()] == [1, 2, 1, 1, 0]
    assert (found["fc"].elements, found["fc"].bytes, found["fc"].trainable) == (20, 80, 20)
    assert (found["norm"].elements, found["norm"].trainable) == (16, 8)
    assert (found["idle"].elements, found["idle"].trainable, found["idle"].flops) == (10, 8, None)
    assert (found[""].parameters, found[""].elements) == (8, 46)
    one = net.fc.summary(X, compiled=False).total.flops
    assert one is not None
    assert one >= 2 * 3 * 4 * 4
    assert found["fc"].flops == 2 * one


def test_nothing_is_computed_and_nothing_is_written(net: Block) -> None:
    state = paramesh.get_rng_state().asnumpy()
    shape = jax.ShapeDtypeStruct((3, 4), np.float32)
    text = str(net.summary(shape, shift=shape))
    assert "(3, 4), (3, 4)" in text
    assert all(p.has_init for p in net.get_parameters())
    np.testing.assert_array_equal(paramesh.get_rng_state().asnumpy(), state)
    net(X)
    before = net.norm.moving_mean.asnumpy()
    net.summary(10 * X)
    np.testing.assert_array_equal(net.norm.moving_mean.asnumpy(), before)


def test_the_program_is_compiled(net: Block) -> None:
    found = net.summary(X)
    assert found.compiled_flops is not None
    assert found.compiled_flops > 0
    assert "The compiled program makes" in str(found)
    assert "compiled program" not in str(net.summary(X, compiled=False))


def test_without_inputs_there_are_no_shapes(net: Block) -> None:
    found = net.summary()
    assert found.total.calls is None
    assert "output shape" not in str(found)
    assert "8 Parameters of 46 elements, 36 trainable and 10 not; 184 B." in str(found)


def test_depth(net: Block) -> None:
    text = str(net.summary(X, depth=0, compiled=False))
    assert "Block" in text
    assert "Dense" not in text
    assert len(net.summary(depth=0).rows) == 5
    with pytest.raises(ValueError, match="summary: depth must be at least 0, got -1"):
        net.summary(depth=-1)
    with pytest.raises(TypeError, match="summary: depth must be an int or None, got True"):
        net.summary(depth=True)


def test_json(net: Block) -> None:
    found = json.loads(net.summary(X).to_json())
    assert found["cells"][1]["path"] == "fc"
    assert found["cells"][1]["outputs"] == [{"shape": [3, 4], "dtype": "Float32"}]
    assert found["cells"][0]["places"] == ["recipe"]
    assert found["compiled_flops"] > 0


def test_where_parameters_are(net: Block) -> None:
    net.fc.weight.init_data()
    found = by_path(net.summary())
    assert set(found["fc"].places) == {f"{jax.devices()[0].platform}:0", "recipe"}
    assert found["drop"].places == ()
    two = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("a",))
    for spec, text in (("a", "sharded over 2 devices"), (None, "replicated on 2 devices")):
        sharding = jax.sharding.NamedSharding(two, jax.sharding.PartitionSpec(spec))
        param = Parameter(Tensor(jax.device_put(np.ones(4, np.float32), sharding)), name="w")
        assert places.place_of(param) == text


def test_a_training_step_has_its_gradients_and_its_update() -> None:
    net = nn.Dense(3, 2)
    forward = nn.WithLossCell(net, nn.CrossEntropyLoss())
    step = nn.TrainOneStepCell(forward, nn.Adam(net.trainable_params(), 1e-3))
    inputs = np.ones((4, 3), np.float32), np.zeros(4, np.int32)
    found = by_path(step.summary(*inputs, compiled=False))
    one, both = found["network"].flops, found[""].flops
    assert one is not None
    assert both is not None
    assert both > 1.5 * one
    assert found["optimizer"].flops
    assert net.weight.has_init


def test_attributes_that_a_network_assigns_stay_as_they_were() -> None:
    class Keeps(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.last = None

        def construct(self, x: Tensor) -> Tensor:
            self.last = ops.relu(x)
            return self.last

    net = Keeps()
    assert net.summary(X, compiled=False).total.outputs[0].shape == (3, 4)
    assert net.last is None


def test_64_bit_data_keeps_its_type() -> None:
    found = nn.ReLU().summary(np.ones((2, 2), np.int64), compiled=False)
    assert found.total.outputs[0].dtype == "Int64"


def test_a_mistake_in_the_shapes_is_the_one_of_a_call(net: Block) -> None:
    with pytest.raises(Exception, match="4") as error:
        net.summary(np.ones((3, 5), np.float32))
    with pytest.raises(type(error.value)):
        net(np.ones((3, 5), np.float32))
    assert nn.cell_call.thread.watcher is None


def test_numbers_for_people() -> None:
    assert [counted(n) for n in (0, 999, 1000, 2.5e9)] == ["0", "999", "1.0 K", "2.5 G"]
    assert flops_in([{"flops": 3.0}]) == 3.0
    assert flops_in({"bytes accessed": 3.0}) == 0.0
    assert flops_in({"flops": -1.0}) is None
    assert flops_in(None) is None
