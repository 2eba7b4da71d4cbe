"""Every layer of the golden data: Parameters, outputs, gradients and batch statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import goldens
from layer_cases import make
from paramesh import context
from paramesh.tensor import Tensor
from paramesh.transforms import value_and_grad

RECORDS: dict[str, Any] = goldens.load("layers")["layers"]
ARRAYS = goldens.arrays("layers")
RUN = {name for name, record in RECORDS.items() if "error" not in record}
NOT_RUN = set(RECORDS) - RUN
DIFFERENCES = {
    (entry["area"], entry["case"]): entry["paramesh"]
    for entry in goldens.load("differences_layers")
}

TOLERANCE = 1e-5
# MindSpore computes tanh by a rational approximation; these gradients are 2.1e-5 and 1.0e-5 away
# from what float64 gives, paramesh's below 1e-6.
WIDER = {"mish": 3e-5, "tanhshrink": 2e-5}

IN_BOTH_MODES = ["dense_relu", "conv2d_pad1", "bn2d_train", "lstmcell", "embedding"]


def close(name: str, key: str, found: Any) -> None:
    wanted, found = ARRAYS[f"{name}/{key}"], np.asarray(found)
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    tolerance = WIDER.get(name, TOLERANCE)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance, err_msg=key)


def layer(name: str) -> Any:
    net = make(RECORDS[name]["expr"])
    net.set_train(RECORDS[name]["train"])
    for path, param in net.parameters_and_names():
        param.set_data(Tensor(ARRAYS[f"{name}/param/{path}"]))
    return net


def flat(outputs: Any) -> list[Any]:
    if not isinstance(outputs, tuple):
        return [outputs]
    return [each for part in outputs for each in flat(part)]


def check_outputs_and_gradients(name: str) -> None:
    net = layer(name)
    states = [Tensor(ARRAYS[k]) for k in (f"{name}/extra0", f"{name}/extra1") if k in ARRAYS]
    extra = () if not states else (tuple(states) if len(states) > 1 else states[0],)
    cotangent = Tensor(ARRAYS[f"{name}/cot"])

    def loss(x: Any) -> Any:
        outputs = flat(net(x, *extra))
        return (outputs[0] * cotangent).sum(), *outputs

    weights = net.trainable_params()
    position = 0 if f"{name}/dx" in ARRAYS else None
    function = value_and_grad(loss, position, weights or None, has_aux=True)
    (_, *outputs), gradients = function(Tensor(ARRAYS[f"{name}/x"]))
    by_x, by_weight = gradients if weights and position == 0 else (gradients, gradients)
    close(name, "out", outputs[0])
    for i, output in enumerate(outputs[1:], 1):
        close(name, f"out{i}", output)
    assert [list(o.shape) for o in outputs] == RECORDS[name].get(
        "outputs", [RECORDS[name]["out_shape"]]
    )
    if position == 0 and ("layers.dx", name) not in DIFFERENCES:
        close(name, "dx", by_x)
    paths = {param: path for path, param in net.parameters_and_names()}
    for param, gradient in zip(weights, by_weight if weights else (), strict=True):
        close(name, f"grad/{paths[param]}", gradient)


@pytest.mark.parametrize("name", sorted(RUN))
def test_layer(name: str) -> None:
    net = make(RECORDS[name]["expr"])
    assert [
        {
            "attr": path,
            "name": param.name,
            "shape": list(param.shape),
            "dtype": str(param.dtype),
            "requires_grad": param.requires_grad,
        }
        for path, param in net.parameters_and_names()
    ] == RECORDS[name]["params"]
    assert all(param.has_init for param in net.get_parameters())
    check_outputs_and_gradients(name)


@pytest.mark.parametrize("name", IN_BOTH_MODES)
def test_layer_operator_by_operator(name: str) -> None:
    context.set_context(mode=context.PYNATIVE_MODE)
    check_outputs_and_gradients(name)


def test_selu_has_the_derivative_of_its_output() -> None:
    # The difference in layers.dx: MindSpore's gradient is not that of its own forward.
    x, cotangent = (ARRAYS[f"selu/{k}"].astype(np.float64) for k in ("x", "cot"))
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    wanted = cotangent * np.where(x > 0, scale, scale * alpha * np.exp(x))
    net = make("nn.SeLU()")
    found = value_and_grad(lambda t: (net(t) * Tensor(ARRAYS["selu/cot"])).sum())(
        Tensor(ARRAYS["selu/x"])
    )[1]
    np.testing.assert_allclose(found.asnumpy(), wanted, rtol=1e-5, atol=1e-6)
    assert np.abs(ARRAYS["selu/dx"] - wanted).max() > 0.1


@pytest.mark.parametrize("name", sorted(n for n in RUN if f"{n}/stats/x0" in ARRAYS))
def test_moving_statistics(name: str) -> None:
    net = layer(name)
    moving = [(path, p) for path, p in net.parameters_and_names() if "moving" in path]
    assert len(moving) == 2
    for step in range(3):
        close(name, f"stats/out{step}", net(Tensor(ARRAYS[f"{name}/stats/x{step}"])))
        for path, param in moving:
            close(name, f"stats/{path}{step}", param)
    net.set_train(False)
    before = [param.asnumpy() for _, param in moving]
    close(name, "stats/eval_out", net(Tensor(ARRAYS[f"{name}/x"])))
    for old, (_, param) in zip(before, moving, strict=True):
        np.testing.assert_array_equal(param.asnumpy(), old)


def test_what_did_not_run_there_is_listed_as_running_here() -> None:
    assert {case for area, case in DIFFERENCES if area == "layers"} == NOT_RUN


def test_listed_gradients_differ() -> None:
    listed = {case for area, case in DIFFERENCES if area == "layers.dx"}
    assert listed == {"selu"}
