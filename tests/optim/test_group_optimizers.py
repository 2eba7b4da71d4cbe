"""Optimizers with groups, and their schedulers: torch's and MindSpore's numbers, and more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import goldens
import group_optimizer_cases as cases
import paramesh
from paramesh import Parameter, Tensor, mint, nn
from paramesh.checkpoint import load_checkpoint, load_param_into_net, save_checkpoint
from paramesh.experimental import optim
from paramesh.experimental.optim import lr_scheduler
from paramesh.mint import optim as mint_optim
from type_checks import wrong

GOLDEN = goldens.load("group_optimizers")


def start(count: int = 2) -> list[Parameter]:
    """The Parameters w and b, or more of them."""
    values = cases.start() * (count // 2)
    return [Parameter(Tensor(v), name=f"p{i}") for i, v in enumerate(values)]


def run(make: Any, count: int = 2) -> tuple[Any, list[np.ndarray]]:
    """An optimizer along the recorded gradients, and what its Parameters became."""
    params = start(count)
    optimizer = make(params)
    at = {id(param): i % 2 for i, param in enumerate(params)}
    for grads in cases.gradients():
        optimizer(tuple(Tensor(grads[at[id(param)]]) for param in optimizer.parameters))
    return optimizer, [param.asnumpy() for param in params]


def of(case: str, module: Any) -> Any:
    """What makes the optimizer of a case."""
    return lambda p: eval(
        case, {**{name: getattr(module, name) for name in module.__all__}, "p": p}
    )


@pytest.mark.parametrize("case", cases.OF_TORCH)
def test_mint_has_torchs_numbers(case: str) -> None:
    _, found = run(of(case, mint_optim))
    for value, recorded in zip(found, GOLDEN["torch"][case], strict=True):
        np.testing.assert_allclose(value, recorded, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", cases.OF_MINDSPORE)
def test_experimental_has_mindspores_numbers(case: str) -> None:
    _, found = run(of(case, optim))
    for value, recorded in zip(found, GOLDEN["mindspore"][case], strict=True):
        np.testing.assert_allclose(value, recorded, rtol=1e-6, atol=2e-6)


def test_schedulers_have_mindspores_numbers() -> None:
    found = cases.scheduled(paramesh, optim)
    for kind in ("stepped", "plateaus", "placed"):
        assert list(found[kind]) == list(GOLDEN[kind])
        for case, rows in found[kind].items():
            np.testing.assert_allclose(rows, GOLDEN[kind][case], rtol=2e-5, err_msg=case)


def grads_of(params: list[Parameter], value: float = 1.0) -> tuple[Tensor, ...]:
    """Gradients that are one number everywhere."""
    return tuple(Tensor(np.full(p.shape, value, np.float32)) for p in params)


def test_many_small_parameters_are_updated_as_each_alone() -> None:
    together, values = run(lambda p: mint_optim.Adam([{"params": p[:9], "lr": 0.1},
                                                      {"params": p[9:]}]), 18)  # fmt: skip
    assert [len(chunk.indices) for chunk in together._chunks] == [9, 9]
    _, (w, b) = run(lambda p: mint_optim.Adam([{"params": p[:1], "lr": 0.1}, {"params": p[1:]}]))
    np.testing.assert_allclose(values[0], w, rtol=1e-6)
    np.testing.assert_allclose(values[17], b, rtol=1e-6)


def test_a_rate_may_change_without_compiling_and_an_option_with_it() -> None:
    params = start()
    optimizer = mint_optim.SGD(params, lr=1.0)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)

    @paramesh.jit
    def step(grads: Any) -> None:
        optimizer(grads)

    def moved() -> float:
        before = params[1].asnumpy()
        step(grads_of(params))
        return float((before - params[1].asnumpy())[0])

    assert moved() == pytest.approx(1.0)
    scheduler.step()
    assert moved() == pytest.approx(0.5)
    optimizer.param_groups[0]["lr"] = 0.25
    assert moved() == pytest.approx(0.25, rel=1e-5)
    scheduler.step()
    assert moved() == pytest.approx(0.125, rel=1e-5)
    assert step.traces == 1
    optimizer.param_groups[0]["maximize"] = True
    assert moved() == pytest.approx(-0.125, rel=1e-5)
    assert step.traces == 2
    assert isinstance(optimizer.param_groups[0]["lr"], Parameter)


def test_a_scheduler_steps_inside_of_a_program() -> None:
    params = start()
    optimizer = mint_optim.Adam(params, lr=1.0)
    scheduler = lr_scheduler.StepLR(optimizer, 2, gamma=0.5)

    @paramesh.jit
    def step(grads: Any) -> None:
        optimizer(grads)
        scheduler.step()

    rates, traces = [], set()
    for _ in range(4):
        step(grads_of(params))
        traces.add(step.traces)
        rates.append(float(scheduler.get_last_lr()[0]))
    assert rates == [1.0, 0.5, 0.5, 0.25]
    assert len(traces) == 1


def test_groups_are_added_with_state_of_their_own() -> None:
    params = start(4)
    optimizer = mint_optim.SGD(params[:2], lr=0.1, momentum=0.9)
    optimizer(grads_of(params[:2]))
    optimizer.add_param_group({"params": params[2], "lr": 1.0})
    optimizer.add_param_group({"params": params[3:]})
    assert optimizer.group_start_id == [0, 2, 3, 4]
    assert [p.name for p in optimizer.momentum_buf] == [f"momentum_buf.p{i}" for i in range(4)]
    before = params[2].asnumpy()
    optimizer(grads_of(params))
    np.testing.assert_allclose(before - params[2].asnumpy(), 1.0, rtol=1e-5)  # a buffer of 0
    with pytest.raises(ValueError, match="'p2' is in another group already"):
        optimizer.add_param_group({"params": params[2:]})
    rate = optimizer.param_groups[2]["lr"]
    assert (rate.name, float(rate)) == ("learning_rate_group_2", pytest.approx(0.1))


def test_a_class_of_ones_own_finds_its_groups() -> None:
    class Climb(optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr, "power": 1})

        def construct(self, gradients: Any) -> None:
            for i, group in enumerate(self.param_groups):
                first = self.group_start_id[i]
                for j, param in enumerate(group["params"]):
                    step = gradients[first + j] * self.lrs[i] * group["power"]
                    paramesh.ops.assign(param, param + step)

    params = start()
    before = [p.asnumpy() for p in params]
    optimizer = Climb([{"params": params[:1]}, {"params": params[1:], "lr": 2, "power": 3}], 0.5)
    optimizer(grads_of(params))
    assert params[0].asnumpy() - before[0] == pytest.approx(0.5, rel=1e-5)
    assert params[1].asnumpy() - before[1] == pytest.approx(6.0, rel=1e-5)


def test_a_checkpoint_continues_with_the_same_bits(tmp_path: Path) -> None:
    def make() -> tuple[list[Parameter], Any]:
        params = start()
        return params, mint_optim.AdamW(params, lr=0.05, amsgrad=True)

    params, optimizer = make()
    optimizer(grads_of(params))
    optimizer.param_groups[0]["lr"] = 0.01
    save_checkpoint(optimizer, str(tmp_path / "a.ckpt"))
    other, again = make()
    assert load_param_into_net(again, load_checkpoint(str(tmp_path / "a.ckpt"))) == ([], [])
    for mine, opt in ((params, optimizer), (other, again)):
        opt(grads_of(mine, -2.0))
    assert float(again.param_groups[0]["lr"]) == np.float32(0.01)
    for one, two in zip(params, other, strict=True):
        np.testing.assert_array_equal(one.asnumpy(), two.asnumpy())


@pytest.mark.parametrize("divided", [False, True], ids=["whole", "divided"])
def test_a_network_learns_with_it_on_many_devices(divided: bool) -> None:
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    y = (x.sum(1) > 0).astype(np.int32)

    def losses() -> list[float]:
        paramesh.set_seed(1)
        net = nn.Dense(4, 2)
        weight, bias = net.trainable_params()
        optimizer = mint.optim.AdamW(
            [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}], lr=0.1, amsgrad=True
        )
        step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.CrossEntropyLoss()), optimizer)
        return [float(step(Tensor(x), Tensor(y)).asnumpy().mean()) for _ in range(3)]

    alone = losses()
    paramesh.context.set_auto_parallel_context(
        parallel_mode="data_parallel",
        gradients_mean=True,
        device_num=8,
        enable_parallel_optimizer=divided,
    )
    np.testing.assert_allclose(losses(), alone, rtol=1e-4)
    assert alone[2] < alone[0]


def test_mistakes_name_the_argument() -> None:
    p = start()
    for match, make in {
        r"AdamW: betas\[1\] must be in \[0, 1\), got 1": lambda: mint_optim.AdamW(
            p, betas=(0.9, 1)),
        "Adam: betas must be two numbers": lambda: mint_optim.Adam(p, betas=wrong(0.9)),
        r"Adam: groups\[0\]\['lr'\] must be at least 0, got -1": lambda: mint_optim.Adam(
            p, lr=-1.0),
        r"SGD: groups\[0\]\['weight_decay'\]": lambda: mint_optim.SGD(p, 0.1, weight_decay=-1),
        "SGD: nesterov=True needs momentum": lambda: mint_optim.SGD(p, 0.1, nesterov=True),
        "Adam: amsgrad must be True or False": lambda: mint_optim.Adam(p, amsgrad=wrong(1)),
        "params is a set": lambda: mint_optim.SGD(wrong(set(p)), 0.1),
        "group 0 has no 'params'": lambda: mint_optim.SGD([{"lr": 1.0}], 0.1),
        "groups 0 and 1 both have": lambda: mint_optim.SGD([{"params": p}, {"params": p}], 0.1),
        "amsgrad must be the same": lambda: mint_optim.FusedAdamW(
            [{"params": p[:1], "amsgrad": True}, {"params": p[1:]}]),
        "StepLR: optimizer must be one with parameter groups": lambda: lr_scheduler.StepLR(
            wrong(nn.SGD(p)), 1),
        "StepLR: step_size must be an int": lambda: lr_scheduler.StepLR(
            mint_optim.SGD(p, 0.1), wrong(1.5)),
        "has no 'initial_lr'": lambda: lr_scheduler.StepLR(mint_optim.SGD(p, 0.1), 1, last_epoch=3),
        "LambdaLR: lr_lambda has 2 values for 1 groups": lambda: lr_scheduler.LambdaLR(
            mint_optim.SGD(p, 0.1), [float, float]),
        "SequentialLR: 1 schedulers need 0 milestones": lambda: lr_scheduler.SequentialLR(
            o := mint_optim.SGD(p, 0.1), [lr_scheduler.StepLR(o, 1)], [1]),
    }.items():  # fmt: skip
        with pytest.raises((TypeError, ValueError, KeyError, RuntimeError), match=match):
            make()


def test_its_repr_has_the_groups() -> None:
    shown = repr(mint_optim.SGD(start(), lr=0.1))
    assert shown.startswith("SGD (\nParameter Group 0\n    dampening: 0\n    lr: 0.1\n")
