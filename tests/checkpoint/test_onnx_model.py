"""ONNX models: onnxruntime computes what the network does; what cannot be written is said."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn, ops
from type_checks import wrong

RNG = np.random.default_rng(0)


def test_arguments_that_go_with_other_formats() -> None:
    net, x = nn.Dense(2, 3), Tensor([[1.0, 2.0]])
    told = "leave out platforms and values"
    with pytest.raises(ValueError, match=told):
        paramesh.export(net, x, file_format="ONNX", platforms=wrong(["cpu"]))
    with pytest.raises(ValueError, match=told):
        paramesh.export(net, x, file_format="ONNX", values=wrong(False))
    assert net.weight.has_init


def test_64_bit_types() -> None:
    with pytest.raises(TypeError, match="input 'tokens' is Int64 in 'fn'. Use 32 bits"):
        paramesh.export(fn, tokens(np.int64), file_format="ONNX")
    wide = Parameter(np.ones(7), name="net.wide")
    with pytest.raises(TypeError, match=r"Parameter 'net.wide' is Float64"):
        paramesh.export(lambda x: x * wide, tokens(np.int32), file_format="ONNX")
    with pytest.raises(TypeError, match="an operation gives a 64-bit type"):
        paramesh.export(lambda x: x.sum(), tokens(np.int32), file_format="ONNX")


def fn(tokens: Tensor) -> Tensor:
    return tokens + 1


def test_a_program_that_writes_parameters() -> None:
    net = nn.BatchNorm1d(3)
    net.set_train()
    told = r"^export: .* writes mean, .* no state. Call net.set_train"
    with pytest.raises(ValueError, match=told):
        paramesh.export(net, Tensor(np.ones((2, 3), np.float32)), file_format="ONNX")


def test_the_packages_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name == "jax2onnx":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    level = logging.getLogger("jax2onnx").level
    with pytest.raises(ImportError, match=r"pip install 'paramesh\[onnx\]'"):
        paramesh.export(nn.Dense(2, 3), Tensor([[1.0, 2.0]]), file_format="ONNX")
    assert logging.getLogger("jax2onnx").level == level


class LeNet(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.SequentialCell(
            nn.Conv2d(1, 6, 5, pad_mode="valid"),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(6, 16, 5, pad_mode="valid"),
            nn.ReLU(),
            nn.AvgPool2d(2, 2),
            nn.Flatten(),
        )
        self.classes = nn.SequentialCell(nn.Dense(256, 84), nn.GELU(), nn.Dropout(p=0.5))
        self.out = nn.Dense(84, 10)

    def construct(self, image: Tensor) -> Tensor:
        return ops.softmax(self.out(self.classes(self.features(image))))


class Transformer(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.norm = nn.LayerNorm((16,))
        self.out = nn.Dense(16, 50)

    def construct(self, tokens: Tensor, mask: dict[str, Tensor]) -> dict[str, Any]:
        hidden = self.encoder(self.embedding(tokens)) * mask["a"] + mask["b"]
        return {"logits": self.out(self.norm(hidden)), "hidden": hidden}


def floats(*shape: int) -> Tensor:
    return Tensor(RNG.normal(size=shape).astype(np.float32))


def tokens(kind: Any) -> Tensor:
    return Tensor(RNG.integers(0, 50, (2, 7)).astype(kind))


MASK = {"a": floats(2, 7, 1), "b": floats(2, 7, 1)}
CASES: dict[str, tuple[type[nn.Cell], tuple[Any, ...], tuple[str, ...]]] = {
    "LeNet": (LeNet, (floats(2, 1, 28, 28),), ("image",)),
    "Transformer": (Transformer, (tokens(np.int32), MASK), ("tokens", "mask_0", "mask_1")),
}


@pytest.mark.slow
class TestModels:
    """These import jax2onnx, which takes a while."""

    @pytest.fixture(autouse=True)
    def library(self) -> None:
        for name in ("jax2onnx", "onnxruntime"):
            if importlib.util.find_spec(name) is None:
                pytest.skip(f"no {name} (pip install 'paramesh[onnx]')")

    @pytest.mark.parametrize("case", CASES)
    def test_onnxruntime_computes_the_same(self, case: str, tmp_path: Path) -> None:
        import onnxruntime  # pyright: ignore[reportMissingImports]

        kind, inputs, names = CASES[case]
        net = kind()
        net.set_train(False)
        model = paramesh.export(net, *inputs, file_format="ONNX", file_name=tmp_path / "the.model")
        assert model.inputs == names
        assert model.parameters
        assert set(model.parameters) <= set(net.parameters_dict())
        path = tmp_path / "the.model.onnx"
        assert path.read_bytes() == model.serialize()
        session = onnxruntime.InferenceSession(path)
        flat = [inputs[0], *(inputs[1].values() if len(inputs) == 2 else ())]
        arrays = [each.asnumpy() for each in flat]
        found = session.run(None, dict(zip(names, arrays, strict=True)))
        out = net(*inputs)
        wanted = list(out.values()) if isinstance(out, dict) else [out]
        assert len(found) == len(wanted) == len(model.outputs)
        for ours, theirs in zip(wanted, found, strict=True):
            assert theirs.dtype == ours.asnumpy().dtype
            np.testing.assert_allclose(theirs, ours.asnumpy(), rtol=1e-4, atol=1e-5)

    def test_parameters_are_initializers_with_their_values(self) -> None:
        import onnx  # pyright: ignore[reportMissingImports]

        half = Parameter(Tensor(np.ones((2, 3), np.float32), paramesh.float16), name="net.half")
        model = paramesh.export(
            lambda x: x @ half, Tensor(np.ones((4, 2), np.float16)), file_format="ONNX"
        )
        assert (model.inputs, model.outputs, model.parameters) == (
            ("x",),
            ("output_0",),
            ("net.half",),
        )
        graph = onnx.load_from_string(model.serialize()).graph
        stored = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
        np.testing.assert_array_equal(stored["net.half"], half.asnumpy())
        assert "1 Parameters" in repr(model)

    def test_an_operation_that_is_not_known(self) -> None:
        def fn(x: Tensor) -> Tensor:
            return Tensor(jax.scipy.special.bessel_jn(jnp.asarray(x), v=2))

        with pytest.raises(
            NotImplementedError, match="the program of 'fn' .*Export it as 'STABLEHLO'"
        ):
            paramesh.export(fn, Tensor([1.0]), file_format="ONNX")

    def test_open_sizes(self) -> None:
        import onnxruntime  # pyright: ignore[reportMissingImports]

        net = nn.Dense(3, 2)
        shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, 3"), jnp.float32)
        model = paramesh.export(net, shape, file_format="ONNX")
        session = onnxruntime.InferenceSession(model.serialize())
        for n in (1, 5):
            x = floats(n, 3)
            (found,) = session.run(None, {"x": x.asnumpy()})
            np.testing.assert_allclose(found, net(x).asnumpy(), rtol=1e-5, atol=1e-6)
