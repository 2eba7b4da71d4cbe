"""What `paramesh.nn` offers: its own names, and those that live above it."""

from __future__ import annotations

import importlib.util

import pytest

from paramesh import nn


def test_everything_that_is_offered_is_there() -> None:
    assert len(set(nn.__all__)) == len(nn.__all__)
    for name in nn.__all__:
        assert getattr(nn, name).__doc__
        assert name in dir(nn)


@pytest.mark.parametrize("home", ["paramesh.optim", "paramesh.train"])
def test_names_from_above(home: str) -> None:
    if importlib.util.find_spec(home) is None:
        pytest.skip(f"{home} is not there yet")
    above = importlib.import_module(home)
    names = [
        name for name, where in vars(nn)["_LAZY"].items() if where == home and hasattr(above, name)
    ]
    assert names
    for name in names:
        assert getattr(nn, name) is getattr(above, name)
        assert name in dir(nn)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match=r"'paramesh\.nn' has no attribute 'Nosuch'"):
        _ = getattr(nn, "Nosuch")  # noqa: B009 - checkers know that there is none
    assert not hasattr(nn, "Nosuch")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "parameters",
            r"'Dense' has no attribute 'parameters'\. Use trainable_params\(\) or get_par",
        ),
        ("train", r"Use set_train\(\)$"),
        ("eval", r"Use set_train\(False\)$"),
        ("forward", "Use construct, and call the Cell itself"),
        ("wieght", r"has no attribute 'wieght'\. Did you mean weight\?"),
        ("zzz", "has no attribute 'zzz'$"),
    ],
)
def test_what_a_cell_does_not_have_gets_a_suggestion(name: str, message: str) -> None:
    with pytest.raises(AttributeError, match=message) as caught:
        getattr(nn.Dense(2, 2), name)
    assert caught.value.name == name  # python proposes methods that are near


def test_an_optimizer_is_called() -> None:
    optimizer = nn.SGD(nn.Dense(2, 2).trainable_params())
    with pytest.raises(AttributeError, match=r"'step'\. Use optimizer\(gradients\), with the grad"):
        _ = optimizer.step
