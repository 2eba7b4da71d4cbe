"""Programs at rest: exported, loaded in a process without the network, trained there, refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, nn
from paramesh.errors import (
    CheckpointError,
    ContextError,
    DuplicateNameError,
    ParameterDtypeError,
    ParameterShapeError,
    ParameterStateError,
)
from programs.networks import Affine, Deep, X, trainer
from type_checks import wrong


def test_in_a_process_without_the_network(tmp_path: Path) -> None:
    net = nn.SequentialCell(nn.Dense(3, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Dropout(p=0.5))
    path = tmp_path / "net.stablehlo"
    made = paramesh.export(net, Tensor(X), file_name=path, platforms=["cpu", "tpu"])
    assert made.platforms == ("cpu", "tpu")
    script = (
        "import sys, numpy as np, paramesh\n"
        "net = paramesh.load_exported(sys.argv[1])\n"
        "x = np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3)\n"
        "np.save(sys.argv[2], net(paramesh.Tensor(x)).asnumpy())\n"
        "print(net)"
    )
    out = tmp_path / "out.npy"
    told = subprocess.run(
        [sys.executable, "-c", script, str(path), str(out)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "ExportedProgram('SequentialCell', (float32[5, 3]), 6 Parameters, for cpu, tpu)" in told
    np.testing.assert_allclose(np.load(out), net(Tensor(X)).asnumpy(), rtol=1e-5, atol=1e-6)


def test_a_training_step_goes_on(tmp_path: Path) -> None:
    net = Deep(6)
    optimizer = nn.Adam(net.trainable_params(), 0.05)
    step = trainer(net, optimizer)
    program = paramesh.load_exported(paramesh.export(step, Tensor(X)).serialize())
    assert "moment1.layers.0.weight" in program.written
    ours = [float(program(Tensor(X))) for _ in range(3)]
    theirs = [float(step(Tensor(X))) for _ in range(3)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    values = {**net.parameters_dict(), **optimizer.parameters_dict()}
    assert set(program.parameters) <= {*values, "generator", *program.parameters}
    for name, value in program.parameters.items():
        if name in values:
            np.testing.assert_allclose(
                value.asnumpy(), values[name].asnumpy(), rtol=1e-3, atol=1e-5, err_msg=name
            )
    again = paramesh.load_exported(program.serialize())
    np.testing.assert_array_equal(
        again.parameters["layers.0.weight"].asnumpy(),
        program.parameters["layers.0.weight"].asnumpy(),
    )


def test_structures_constants_and_types() -> None:
    big = Parameter(Tensor(np.arange(3)), name="big")
    half = Parameter(Tensor(np.ones(3), paramesh.bfloat16), name="half")

    def fn(pair: Any, options: Any, scale: Any) -> Any:
        out = pair[0] * scale + pair[1]
        return {"sum": out, "rest": [options["n"], None, (big + 2**40, half * 2.0)], "1": "text"}

    args = ((Tensor([1.0]), Tensor([2.0])), {"n": 3}, 0.5)
    program = paramesh.load_exported(paramesh.export(fn, *args).serialize())
    out = program(*args[:2], 2.0)
    assert out["sum"].asnumpy().tolist() == [4]
    n, none, (wide, doubled) = out["rest"]
    assert (n, none, out["1"]) == (3, None, "text")
    assert wide.asnumpy().tolist() == [2**40, 2**40 + 1, 2**40 + 2]
    assert doubled.dtype is paramesh.bfloat16
    assert "stablehlo" in program.as_text()
    with pytest.raises(TypeError, match=r"'n': 3\}, float32\[\]\), got .*'n': 4"):
        program(args[0], {"n": 4}, 2.0)
    with pytest.raises(ValueError, match=r"one of the inputs is float32\[2\]"):
        program((Tensor([1.0, 1.0]), Tensor([2.0])), *args[1:])
    with pytest.raises(TypeError, match=r"one of the inputs is int64\[1\]"):
        program((Tensor([1]), Tensor([2.0])), *args[1:])


def test_open_sizes() -> None:
    net = nn.Dense(3, 2)
    shape = jax.export.symbolic_shape("b, 3")
    program = paramesh.export(net, jax.ShapeDtypeStruct(shape, jnp.float32))
    for n in (1, 5):
        x = Tensor(X[:n])
        np.testing.assert_allclose(program(x).asnumpy(), net(x).asnumpy(), rtol=1e-6)


def test_without_values() -> None:
    net, other = Affine(), Affine()
    program = paramesh.export(net, Tensor(X), values=False)
    assert net.w.has_init
    with pytest.raises(ParameterStateError, match="without values.*w, b"):
        program(Tensor(X))
    program.load(other.parameters_dict())
    np.testing.assert_allclose(program(Tensor(X)).asnumpy(), other(Tensor(X)).asnumpy(), rtol=1e-6)
    with pytest.raises(ParameterShapeError, match=r"'w' of the program has shape \(3, 4\)"):
        program.load({"b": Tensor(np.ones(4, np.float32)), "w": Tensor([1.0])})
    with pytest.raises(ParameterDtypeError, match="'b' of the program is Float32, got Int64"):
        program.load({"b": Tensor(np.arange(4))})
    np.testing.assert_array_equal(program.parameters["b"].asnumpy(), other.b.asnumpy())


class TestRefused:
    def test_what_is_exported(self) -> None:
        one, two = Parameter(1.0, name="same"), Parameter(2.0, name="same")
        with pytest.raises(DuplicateNameError, match="two different Parameters named 'same'"):
            paramesh.export(lambda: one + two)
        with pytest.raises(TypeError, match="an output is of class object"):
            paramesh.export(lambda: object())
        with pytest.raises(ValueError, match="must be 'STABLEHLO' or 'ONNX', got 'MINDIR'"):
            paramesh.export(Affine(), Tensor(X), file_format=wrong("MINDIR"))
        with pytest.raises(TypeError, match="a Cell or a function, got int"):
            paramesh.export(3)  # type: ignore[arg-type]
        paramesh.set_auto_parallel_context(parallel_mode="data_parallel")
        with pytest.raises(ContextError, match="reset_auto_parallel_context"):
            paramesh.export(Affine(), Tensor(X))

    def test_damaged_bytes(self) -> None:
        data = paramesh.export(Affine(), Tensor(X)).serialize()
        for damaged in (
            data[:-1],
            data + b"x",
            b"",
            data[:50],
            data.replace(b"Affine", b"Aff\xff\xff\xff"),
        ):
            with pytest.raises(
                CheckpointError, match=r"the given data is not a valid program of paramesh.export"
            ):
                paramesh.load_exported(damaged)
        later = data.replace(b'\\"version\\": 1', b'\\"version\\": 9')
        with pytest.raises(CheckpointError, match="a later version"):
            paramesh.load_exported(later)
