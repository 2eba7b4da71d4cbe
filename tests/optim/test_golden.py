"""Every recorded optimizer: the five steps, the state, its names, shapes and element types."""

from __future__ import annotations

import numpy as np
import pytest

import goldens
from optimizer_cases import (
    ARRAYS,
    CASES,
    DIFFERENCES,
    EVERY,
    GOLDEN,
    STEPS,
    close,
    follow,
    golden_run,
    gradients,
    make,
    start,
    states,
)
from paramesh import optim
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.tensor import Tensor
from paramesh.transforms import jit

#: What is left out of the state (see the list of differences).
PLACEHOLDERS = {"fake_lr", "fake_param"}
OTHER_NUMBERS = {"momentum_nesterov", "momentum_nesterov_wd", "adagrad_noslots", "ftrl_l1_l2"}
SAME_NUMBERS = [case for case in CASES if case not in OTHER_NUMBERS]


@pytest.mark.parametrize("case", CASES)
def test_state_has_the_recorded_names(case: str) -> None:
    run = golden_run(case)
    recorded = {
        r["key"]: (r["name"], tuple(r["shape"]), r["dtype"], r["requires_grad"])
        for r in CASES[case]["state"]
        if r["name"] not in PLACEHOLDERS
    }
    assert {k: v[:4] for k, v in run.before.items()} == recorded
    if CASES[case]["param_order"] != ["fake_param"]:
        assert [p.name for p in run.optimizer.parameters] == CASES[case]["param_order"]


@pytest.mark.parametrize("case", CASES)
def test_state_starts_as_recorded(case: str) -> None:
    params = start(tuple(CASES[case].get("names", ("w", "b"))))
    optimizer = make(CASES[case]["expr"], params)
    for key, param in states(optimizer, params).items():
        recorded = next(r["init"] for r in CASES[case]["state"] if r["key"] == key)
        values = param.asnumpy()
        if isinstance(recorded, list):
            assert sorted(set(values.ravel().tolist()))[:4] == pytest.approx(recorded)
        else:
            assert values == pytest.approx(recorded)


@pytest.mark.parametrize("case", SAME_NUMBERS)
def test_steps_are_the_recorded_ones(case: str) -> None:
    run = golden_run(case)
    for step in range(STEPS):
        close(run.values["w"][step], ARRAYS[f"{case}/w"][step])
        close(run.values["b"][step], ARRAYS[f"{case}/b"][step])


@pytest.mark.parametrize("case", SAME_NUMBERS)
def test_state_ends_as_recorded(case: str) -> None:
    for name, value in golden_run(case).state.items():
        close(value, ARRAYS[f"{case}/state/{name}"])


def test_other_numbers_are_listed() -> None:
    listed = {case for area, case in DIFFERENCES if area == "optimizers.cases"}
    assert listed >= OTHER_NUMBERS
    unknown = listed - set(GOLDEN["cases"])
    assert not unknown
    for case in OTHER_NUMBERS:
        apart = np.abs(golden_run(case).values["w"] - ARRAYS[f"{case}/w"]).max()
        assert apart > 1e-3, f"{case} is as recorded: take it off the list"


@pytest.mark.parametrize("case", CASES)
def test_one_trace_for_all_steps(case: str) -> None:
    assert golden_run(case).optimizer._compiled.traces == 1


def test_identical_trajectories() -> None:
    pairs = [p for p in GOLDEN["identical_trajectories"] if not OTHER_NUMBERS.intersection(p)]
    assert len(pairs) > 60
    for one, other in pairs:
        for key in ("w", "b"):
            close(golden_run(one).values[key], golden_run(other).values[key])


@pytest.mark.parametrize("case", [c for c, r in GOLDEN["cases"].items() if "error" in r])
def test_what_has_no_kernel_there_runs_here(case: str) -> None:
    record = GOLDEN["cases"][case]
    if case in ("dyn_list_short", "dyn_ftrl_list"):
        error = {"RuntimeError": RuntimeError, "ValueError": ValueError}[record["error"]]
        with pytest.raises(error, match="rates for 2 steps|one number"):
            follow(record["expr"])
        return
    assert ("optimizers.cases", case) in DIFFERENCES
    if case.startswith("lars") or case == "lamb":
        assert np.isfinite(follow(record["expr"], steps=1).values["w"]).all()


CHECKS = {r["case"]: r for r in GOLDEN["argument_checks"]}


@pytest.mark.parametrize("case", CHECKS)
def test_argument_checks(case: str) -> None:
    record = CHECKS[case]
    expr = record["expr"]
    listed = ("optimizers.argument_checks", case) in DIFFERENCES
    error = {
        "int parameter": TypeError,
        "lr empty list": ValueError,
        "LARS without optimizer": TypeError,
    }.get(case)
    assert listed == (error is not None)
    if error is None and "error" in record:
        import builtins

        error = getattr(builtins, record["error"])
    if error is not None:
        with pytest.raises(error, match=_SAYS[case]):
            make(expr, start())
    elif record["result"] == "ok":
        assert isinstance(make(expr, start()), optim.Optimizer)
    else:
        assert str(make(expr, start())) == record["result"]


#: What each error has to say, besides being one.
_SAYS = {
    "lr negative": r"SGD: learning_rate must be at least 0 and finite, got -0.1",
    "lr str": r"learning_rate must be a number, .* got the str 'a'",
    "lr None": r"learning_rate must be a number, .*got NoneType",
    "lr empty list": r"learning_rate is an empty list",
    "lr 2d tensor": r"learning_rate is a Tensor of shape \(2, 2\)",
    "params empty": r"params is empty",
    "params None": r"params is None",
    "params single": r"params must be a list of Parameters or of groups, got Parameter",
    "params ints": r"params\[0\] must be a Parameter, got int",
    "params Tensor": r"params\[0\] must be a Parameter, got Tensor",
    "params duplicate object": r"Parameter 'w' is given twice",
    "params duplicate names": r"two different Parameters are named 'w'",
    "params mixed group/param": r"both groups \(dicts\) and Parameters",
    "group overlapping": r"groups 0 and 1 both have 'w'",
    "group empty": r"group 0 has no Parameters",
    "group unknown key": r"group 0 has the key 'foo'",
    "group no params": r"group 0 has no 'params'",
    "weight_decay negative": r"weight_decay must be at least 0, got -1.0",
    "weight_decay str": r"weight_decay must be a float or an int, got str",
    "loss_scale zero": r"loss_scale must be above 0, got 0.0",
    "loss_scale negative": r"loss_scale must be above 0, got -1.0",
    "momentum negative": r"SGD: momentum must be at least 0",
    "Momentum int": r"Momentum: momentum must be a float, got int",
    "Momentum negative": r"Momentum: momentum must be at least 0, got -0.9",
    "nesterov no momentum": r"nesterov=True needs momentum above 0 and dampening 0",
    "nesterov with dampening": r"nesterov=True needs momentum above 0 and dampening 0",
    "nesterov int": r"nesterov must be True or False, got int",
    "dampening negative": r"dampening must be at least 0",
    "Adam beta1 1.0": r"Adam: beta1 must be in \(0, 1\), got 1.0",
    "Adam beta1 int": r"Adam: beta1 must be a float, got int",
    "Adam eps 0": r"Adam: eps must be above 0, got 0.0",
    "Adam unknown kw": r"Adam has no argument 'foo'",
    "Adam use_nesterov int": r"use_nesterov must be True or False",
    "RMSProp decay negative": r"RMSProp: decay must be at least 0",
    "RMSProp centered int": r"centered must be True or False",
    "FTRL lr_power positive": r"lr_power must be at most 0, got 0.5",
    "FTRL list lr": r"must be one number for all steps",
    "FTRL l1 negative": r"FTRL: l1 must be at least 0",
    "Adagrad accum negative": r"Adagrad: accum must be at least 0",
    "AdaGrad alias exists": r"has no attribute 'AdaGrad'",
    "Lamb no lr": r"missing 1 required positional argument: 'learning_rate'",
    "LARS without optimizer": r"LARS goes around an optimizer",
    "int parameter": r"only Parameters of a float type can be trained, got 'i' \(Int32\)",
}


def test_attributes() -> None:
    recorded = GOLDEN["attributes"]
    p = start()
    optimizer = optim.Momentum(p, 0.1, 0.9)
    assert isinstance(optimizer.learning_rate, Parameter)
    assert optimizer.learning_rate.name == recorded["learning_rate name"]
    assert str(optimizer.learning_rate.dtype) == recorded["learning_rate dtype"]
    assert optimizer.get_lr() is optimizer.learning_rate
    assert optimizer.get_lr_parameter(p[0]) is optimizer.learning_rate
    assert optimizer.get_lr_parameter(p) == [optimizer.learning_rate] * 2
    assert optimizer.unique is recorded["unique"]
    assert optimizer.target == recorded["target"]
    assert isinstance(optimizer.parameters, ParameterTuple)
    assert isinstance(optimizer.moments, ParameterTuple)
    assert [m.name for m in optimizer.moments] == recorded["moments names"]
    assert [q.name for q in optimizer.trainable_params()] == recorded[
        "trainable_params of optimizer"
    ]
    assert list(optimizer.parameters_dict()) == recorded["parameters_dict"]
    assert optimizer.global_step.asnumpy().tolist() == recorded["global_step"]["value"]
    returned = optimizer(gradients(0, optimizer, p))
    assert list(returned) == recorded["construct return"]
    assert optimizer.global_step.asnumpy().tolist() == [1]
    optimizer.learning_rate.set_data(Tensor(0.5))
    assert optimizer.get_lr().asnumpy() == np.float32(0.5)


def test_attributes_of_a_list_of_rates() -> None:
    recorded = GOLDEN["attributes"]
    p = start()
    optimizer = optim.Momentum(p, [0.1, 0.05], 0.9)
    assert optimizer.get_lr().asnumpy() == np.float32(recorded["dynamic get_lr before"]["value"])
    optimizer(gradients(0, optimizer, p))
    assert optimizer.get_lr().asnumpy() == np.float32(recorded["dynamic get_lr after 1"]["value"])
    assert optimizer.get_lr().shape == ()
    found = [[q.name, list(q.shape)] for q in optimizer.get_parameters()]
    # There, the first entry shows the value of global_step.
    assert found == [["global_step", [1]], *recorded["dynamic state"][1:]]


def test_a_list_in_a_program_stays_at_its_last_rate() -> None:
    p = start()
    optimizer = optim.SGD(p, [0.5, 0.25])

    @jit
    def step(g):
        optimizer(g)

    ones = tuple(Tensor(np.ones(q.shape, np.float32)) for q in p)
    for _ in range(4):
        step(ones)
    close(p[1].asnumpy(), ARRAYS["b0"] - 0.5 - 3 * 0.25)


def test_differences_name_what_there_is() -> None:
    areas = {area for area, _ in DIFFERENCES}
    assert areas == {"optimizers.cases", "optimizers.argument_checks", "optimizers.groups"}
    checks = {case for area, case in DIFFERENCES if area == "optimizers.argument_checks"}
    assert checks <= set(CHECKS)
    assert all(d["reason"] and d["paramesh"] for d in goldens.load("differences_optimizers"))


def test_every_optimizer_is_in_the_table() -> None:
    made = {type(make(expr, start())).__name__ for expr in EVERY.values()}
    classes = {
        name
        for name in optim.__all__
        if isinstance(getattr(optim, name), type)
        and issubclass(getattr(optim, name), optim.Optimizer)
    }
    # Bases, and Adam by other names.
    assert classes - made == {"Optimizer", "RuleOptimizer", "LazyAdam", "AdamOffload"}
