"""Parameter groups: by list, by predicate, their order, their settings and their mistakes."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from optimizer_cases import close
from paramesh import context, optim
from paramesh.errors import DuplicateNameError, GroupOverlapError, OptimizerError
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor
from type_checks import wrong

NAMES = ("conv.weight", "conv.bias", "fc.weight", "fc.bias", "bn.gamma")


@pytest.fixture(autouse=True)
def _pynative() -> None:
    context.set_context(mode=context.PYNATIVE_MODE)


def params(names=NAMES, shape=(2,)) -> list[Parameter]:
    return [Parameter(Tensor(np.ones(shape, np.float32)), name=n) for n in names]


def moved(optimizer, given) -> dict[str, float]:
    """How far one step with gradients of 1 moves each Parameter."""
    before = {p.name: p.asnumpy() for p in given}
    optimizer(tuple(Tensor(np.ones(p.shape, np.float32)) for p in optimizer.parameters))
    return {p.name: round(float((before[p.name] - p.asnumpy()).max()), 6) for p in given}


def test_groups_by_pattern_predicate_and_rest() -> None:
    p = params()
    optimizer = optim.SGD(
        [
            {"params": optim.by_name("*.bias", "bn.*"), "lr": 0.5},
            {"params": lambda q: q.name == "conv.weight", "weight_decay": 1.0},
            {"params": optim.rest},
            {"order_params": p},
        ],
        0.1,
    )
    assert [q.name for q in optimizer.parameters] == list(NAMES)
    assert optimizer.is_group
    assert optimizer.is_group_params_ordered
    assert not optim.SGD([{"params": params()}], 0.1).is_group_params_ordered
    assert not optim.SGD(params(), 0.1).is_group_params_ordered
    assert moved(optimizer, p) == {
        "conv.weight": 0.2,
        "conv.bias": 0.5,
        "fc.weight": 0.1,
        "fc.bias": 0.5,
        "bn.gamma": 0.5,
    }
    assert optimizer.learning_rate[0].name == "learning_rate"
    assert optimizer.learning_rate[1].name == "learning_rate_group_0"
    assert optimizer.get_lr()[4] is optimizer.get_lr_parameter(p[4])


def test_rates_that_move_are_listed_by_parameter() -> None:
    p = params()
    optimizer = optim.SGD([{"params": p[:2], "lr": [0.1, 0.2]}, {"params": p[2:]}], 0.5)
    rates = list(optimizer.learning_rate)
    assert len(rates) == len(p)
    assert rates[0] is rates[1]
    assert rates[2] is rates[4]
    assert [rate.learning_rate.name for rate in rates[1:3]] == [
        "learning_rate_group_0",
        "learning_rate",
    ]
    assert float(optimizer.get_lr()[0]) == pytest.approx(0.1)
    assert float(optimizer.get_lr()[2]) == 0.5
    names = [param.name for param in optimizer.get_parameters()]
    assert len(names) == len(set(names))


def test_the_default_decay_leaves_beta_and_gamma_but_not_in_groups() -> None:
    p = params()
    assert moved(optim.SGD(p, 0.1, weight_decay=1.0), p) == {
        "conv.weight": 0.2,
        "conv.bias": 0.2,
        "fc.weight": 0.2,
        "fc.bias": 0.2,
        "bn.gamma": 0.1,
    }
    p = params()
    assert moved(optim.SGD([{"params": p}], 0.1, weight_decay=1.0), p)["bn.gamma"] == 0.2


def test_rates_of_every_kind_in_groups() -> None:
    p = params()
    optimizer = optim.SGD(
        [
            {"params": [p[0]], "lr": [0.5, 0.25]},
            {"params": [p[1]], "lr": optim.WarmUpLR(0.2, 2)},
            {"params": [p[2]], "lr": Tensor(0.3)},
            {"params": [p[3]], "lr": lambda step: 0.125 * (step + 1)},
            {"params": [p[4]]},
        ],
        0.1,
    )
    rates = [float(rate.asnumpy()) for rate in optimizer.get_lr()]
    assert rates == pytest.approx([0.5, 0.0, 0.3, 0.125, 0.1])
    assert optimizer.get_lr_parameter(p[0]).shape == (2,)
    assert isinstance(optimizer.get_lr_parameter(p[1]), optim.WarmUpLR)
    assert [optimizer.get_lr_parameter(q).name for q in (p[2], p[4])] == [
        "learning_rate_group_2",
        "learning_rate",
    ]
    first = moved(optimizer, p)
    assert list(first.values()) == pytest.approx([0.5, 0.0, 0.3, 0.125, 0.1])
    second = moved(optimizer, p)
    assert list(second.values()) == pytest.approx([0.25, 0.1, 0.3, 0.25, 0.1])
    with pytest.raises(RuntimeError, match="'learning_rate_group_0' has rates for 2 steps"):
        moved(optimizer, p)


def test_decays_of_every_kind_in_groups() -> None:
    p = params()
    optimizer = optim.SGD(
        [
            {"params": [p[0]], "weight_decay": optim.WarmUpLR(1.0, 2)},
            {"params": [p[1]], "weight_decay": 0},
            {"params": p[2:]},
        ],
        0.1,
        weight_decay=0.5,
    )
    assert [float(d.asnumpy()) for d in optimizer.get_weight_decay()] == [0.0, 0.0] + [0.5] * 3
    assert list(moved(optimizer, p).values()) == pytest.approx([0.1, 0.1, 0.15, 0.15, 0.15])
    assert next(iter(moved(optimizer, p).values())) == pytest.approx(0.1 + 0.1 * 0.5 * 0.9)


def test_gradients_are_centralized_for_convolutions() -> None:
    kernel = Parameter(Tensor(np.zeros((2, 1, 2, 2), np.float32)), name="conv.weight")
    dense = Parameter(Tensor(np.zeros((2, 4), np.float32)), name="fc.weight")
    optimizer = optim.SGD(
        [{"params": [kernel], "grad_centralization": True}, {"params": [dense]}], 1.0
    )
    gradient = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    optimizer((Tensor(gradient), Tensor(gradient.reshape(2, 4))))
    close(kernel.asnumpy(), gradient.mean(axis=(1, 2, 3), keepdims=True) - gradient)
    close(dense.asnumpy(), -gradient.reshape(2, 4))


MISTAKES = {
    "an empty match": (
        lambda p: [{"params": optim.by_name("*.wieght")}, {"order_params": p}],
        OptimizerError,
        r"no Parameter belongs to group 0, predicate by_name\('\*.wieght'\). There are: 'conv.w",
    ),
    "an empty rest": (
        lambda p: [{"params": p}, {"params": optim.rest}, {"order_params": p}],
        OptimizerError,
        "no Parameter belongs to group 1, predicate rest",
    ),
    "a double match": (
        lambda p: [
            {"params": optim.by_name("*.bias")},
            {"params": optim.by_name("fc.*", "conv.bias")},
            {"params": optim.rest},
            {"order_params": p},
        ],
        GroupOverlapError,
        "groups 0 and 1 both have 'conv.bias', 'fc.bias'; a Parameter belongs to one group",
    ),
    "no match for some": (
        lambda p: [{"params": optim.by_name("*.weight")}, {"order_params": p}],
        OptimizerError,
        "no group has 'conv.bias', 'fc.bias', 'bn.gamma' of order_params",
    ),
    "order_params lacks some": (
        lambda p: [{"params": p}, {"order_params": p[:3]}],
        OptimizerError,
        "order_params lacks 'fc.bias', 'bn.gamma'",
    ),
    "order_params with other keys": (
        lambda p: [{"params": p, "order_params": p}],
        OptimizerError,
        r"group 0 has 'order_params' and \['params'\]",
    ),
    "order_params twice": (
        lambda p: [{"params": p}, {"order_params": p}, {"order_params": p}],
        OptimizerError,
        "'order_params' is given twice",
    ),
    "order_params with one twice": (
        lambda p: [{"params": p}, {"order_params": [*p, p[0]]}],
        DuplicateNameError,
        "order_params: Parameter 'conv.weight' is given twice",
    ),
    "order_params alone": (
        lambda p: [{"order_params": p}],
        OptimizerError,
        "no group has 'params'",
    ),
    "a predicate with nothing to choose from": (
        lambda p: [{"params": optim.by_name("*.bias")}],
        OptimizerError,
        r"is a predicate \(by_name\('\*.bias'\)\), but there is nothing to choose from",
    ),
    "two rests": (
        lambda p: [{"params": optim.rest}, {"params": optim.rest}, {"order_params": p}],
        OptimizerError,
        r"groups \[0, 1\] are both 'rest'",
    ),
    "one twice in a group": (
        lambda p: [{"params": [p[0], p[0]]}],
        DuplicateNameError,
        "'conv.weight' is given twice",
    ),
    "two of one name in two groups": (
        lambda p: [{"params": p}, {"params": params(["fc.bias"])}],
        DuplicateNameError,
        r"two different Parameters are named 'fc.bias': params\[3\].* and params\[5\]",
    ),
    "a single Parameter": (
        lambda p: [{"params": p[0]}],
        TypeError,
        r"groups\[0\]\['params'\] must be a list of Parameters, got a single one",
    ),
    "a name": (
        lambda p: [{"params": "fc.*"}, {"order_params": p}],
        TypeError,
        "must be a list of Parameters or a predicate, got 'fc",
    ),
    "something else in the list": (
        lambda p: [{"params": ["fc.weight"]}],
        TypeError,
        r"groups\[0\]\['params'\]\[0\] must be a Parameter, got str",
    ),
    "lr None": (lambda p: [{"params": p, "lr": None}], TypeError, r"groups\[0\]\['lr'\] is None"),
    "lr negative": (
        lambda p: [{"params": p, "lr": -1.0}],
        ValueError,
        "learning_rate_group_0 must be at least 0",
    ),
    "lr of strings": (
        lambda p: [{"params": p, "lr": [0.1, "a"]}],
        ValueError,
        r"learning_rate_group_0\[1\] must be a number, got 'a'",
    ),
    "lr with a negative": (
        lambda p: [{"params": p, "lr": [0.1, -0.1]}],
        ValueError,
        r"learning_rate_group_0\[1\] must be at least 0 and finite, got -0.1",
    ),
    "weight_decay negative": (
        lambda p: [{"params": p, "weight_decay": -1.0}],
        ValueError,
        r"groups\[0\]\['weight_decay'\] must be at least 0",
    ),
    "grad_centralization int": (
        lambda p: [{"params": p, "grad_centralization": 1}],
        TypeError,
        r"groups\[0\]\['grad_centralization'\] must be True or False",
    ),
    "a dict": (lambda p: {"params": p}, TypeError, "must be a list of Parameters or of groups"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_name_the_parameters(mistake: str) -> None:
    groups, error, says = MISTAKES[mistake]
    with pytest.raises(error, match=says):
        optim.SGD(wrong(groups(params())), 0.1)
    bases: dict[type[Exception], type[Exception]] = {
        GroupOverlapError: RuntimeError,
        OptimizerError: ValueError,
    }
    base = bases.get(error)
    assert base is None or issubclass(error, base)
    assert error in vars(builtins).values() or error.__module__ == "paramesh.errors"


def test_the_default_rate_is_checked_even_if_no_group_uses_it() -> None:
    with pytest.raises(ValueError, match="learning_rate must be at least 0"):
        optim.SGD([{"params": params(), "lr": 0.1}], -1.0)


def test_by_name_takes_patterns() -> None:
    with pytest.raises(TypeError, match="by_name takes patterns"):
        optim.by_name()
    with pytest.raises(TypeError, match="by_name takes patterns"):
        optim.by_name(3)  # type: ignore[arg-type]
    assert optim.by_name("fc.*")(params(["fc.bias"])[0])
    assert not optim.by_name("FC.*")(params(["fc.bias"])[0])


def test_a_rate_of_a_stranger() -> None:
    p = params()
    optimizer = optim.SGD(p[:2], 0.1)
    with pytest.raises(ValueError, match="SGD does not train Parameter 'fc.weight'"):
        optimizer.get_lr_parameter(p[2])
    with pytest.raises(TypeError, match="takes a Parameter, got str"):
        optimizer.get_lr_parameter(wrong("fc.weight"))
