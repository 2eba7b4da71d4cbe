"""Buffers of Cells: state that is neither trained nor a Parameter."""

import copy
import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, context, grad, nn, ops
from support.type_checks import present, wrong

ONES = Tensor(np.ones(2, np.float32))


class Statistics(nn.Cell):
    """Adds its input to a buffer, and keeps another that is not persistent."""

    mean: Any
    shift: Any

    def __init__(self) -> None:
        super().__init__()
        self.w = Parameter(Tensor(np.ones(2, np.float32)))
        self.register_buffer("mean", Tensor(np.zeros(2, np.float32)))
        self.register_buffer("shift", Tensor(np.ones(2, np.float32)), persistent=False)
        self.register_buffer("nothing", None)

    def construct(self, x: Any) -> Any:
        self.mean += x
        return x * self.mean * self.w


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.one = Statistics()
        self.more = nn.CellList([Statistics()])

    def construct(self, x: Any) -> Any:
        return self.one(x) + self.more[0](x)


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_a_program_reads_and_writes_buffers(mode: int) -> None:
    context.set_context(mode=mode)
    net = Net()
    assert [net(ONES).tolist() for _ in range(2)] == [[2, 2], [4, 4]]
    assert grad(net)(ONES).tolist() == [8, 8]  # mean + x is x, twice, of two Cells
    assert net.one.mean.tolist() == net.more[0].mean.tolist() == [3, 3]
    net.one.mean = Tensor(np.zeros(2, np.float32))
    assert net(ONES).tolist() == [1 + 4, 1 + 4]
    ops.assign(net.one.mean, Tensor(np.full(2, 5, np.float32)))
    assert net(ONES).tolist() == [6 + 5, 6 + 5]


def test_who_has_buffers() -> None:
    net = Net()
    assert list(net.parameters_dict()) == ["one.w", "more.0.w"]
    assert list(net.state_dict()) == ["one.w", "one.mean", "more.0.w", "more.0.mean"]
    assert list(net.one.state_dict(prefix="a.")) == ["a.w", "a.mean"]
    paths = ["one.mean", "one.shift", "more.0.mean", "more.0.shift"]
    assert [path for path, _ in net.named_buffers()] == paths
    assert [path for path, _ in net.one.named_buffers("p", recurse=False)] == ["p.mean", "p.shift"]
    assert len(list(net.buffers())) == 4
    assert net.get_buffer("more.0.mean") is net.more[0].mean
    assert net.get_buffer("one.nothing") is None
    assert net.get_sub_cell("more.0") is net.more[0]
    assert repr(net.one.mean) == repr(Tensor(np.zeros(2, np.float32)))
    net.one.mean = None
    assert net.one.mean is None
    assert "one.mean" not in net.state_dict()
    del net.one.shift
    assert not hasattr(net.one, "shift")


def test_values_of_buffers_go_with_the_state(tmp_path: Path) -> None:
    net, other = Net(), Net()
    net(ONES)
    state = {path: Tensor(p.asnumpy()) for path, p in net.state_dict().items()}
    other.load_state_dict(state)
    assert other.one.mean.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match=r"missing \['one.mean'\]"):
        other.load_state_dict({p: v for p, v in state.items() if p != "one.mean"})
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.one.mean.tolist() == [1, 1]
        twin(ONES)
        assert twin.one.mean.tolist() == [2, 2]
    assert net.one.mean.tolist() == [1, 1]
    paramesh.save_checkpoint(net, str(tmp_path / "net.ckpt"))  # as MindSpore 2.10: Parameters
    assert set(paramesh.load_checkpoint(str(tmp_path / "net.ckpt"))) == {"one.w", "more.0.w"}


def test_jax_takes_a_buffer_as_its_tensor() -> None:
    mean = Net().one.shift
    assert jax.jit(lambda t: t * 2)(mean).tolist() == [2, 2]
    assert type(jax.tree.map(lambda a: a + 1, mean)) is Tensor
    assert jnp.sin(mean).tolist() == pytest.approx([np.sin(1)] * 2)


def test_training_moves_buffers_and_does_not_train_them() -> None:
    net = Statistics()
    step = nn.TrainOneStepCell(net, nn.SGD(net.trainable_params(), 0.1))
    step.set_train()
    losses = [step(ONES).tolist() for _ in range(2)]
    assert losses[0] == [1, 1]
    assert net.mean.tolist() == [2, 2]
    np.testing.assert_allclose(net.w.asnumpy(), [1 - 0.1 - 0.2] * 2, rtol=1e-6)


def test_errors_of_buffers() -> None:
    net = Net()
    one = net.one
    with pytest.raises(TypeError, match="'x' must be a Tensor or None, got ndarray"):
        one.register_buffer("x", wrong(np.ones(2)))
    with pytest.raises(TypeError, match="name must be a str, got 3"):
        one.register_buffer(wrong(3), None)
    for name in ("", "a.b"):
        with pytest.raises(KeyError, match="without dots"):
            one.register_buffer(name, None)
    with pytest.raises(KeyError, match="Statistics.w exists and is not a buffer"):
        one.register_buffer("w", None)
    with pytest.raises(TypeError, match="mean is a buffer; it takes a Tensor"):
        one.mean = 3
    with pytest.raises(AttributeError, match=r"'one.w' is not a buffer. Buffers: one.mean, "):
        net.get_buffer("one.w")
    with pytest.raises(AttributeError, match="Net has no Cell 'two'. Its Cells: one, more"):
        net.get_sub_cell("two")


def test_to_casts_parameters_and_buffers() -> None:
    net = Net()
    net.one.register_buffer("count", Tensor(np.ones(2, np.int32)))
    assert net.to(paramesh.float16) is net
    types = {path: str(value.dtype) for path, value in net.state_dict().items()}
    assert types.pop("one.count") == "Int32"
    assert set(types.values()) == {"Float16"}
    net.to("cpu", dtype=paramesh.float32)
    assert str(present(net.get_buffer("one.shift")).dtype) == "Float32"
    assert str(net.to(Tensor(np.ones(1, np.float16))).one.w.dtype) == "Float16"
    with pytest.raises(TypeError, match="must be a type of floats or complex numbers, got Int32"):
        net.to(paramesh.int32)
    with pytest.raises(ValueError, match="device must be 'CPU', which JAX runs on here, got 'Asc"):
        net.to("Ascend")
