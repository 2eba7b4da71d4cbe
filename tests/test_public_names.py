"""What users import stays where it is, from version to version."""

from __future__ import annotations

import importlib
import json
import types
import warnings
from pathlib import Path

import pytest

import paramesh

#: {module: names}, as version 0.1.0 has them: `paramesh.__all__` and every path of the reference.
RECORDED: dict[str, list[str]] = json.loads(
    (Path(__file__).parent / "golden" / "public_names.json").read_text()
)


def lost(module: types.ModuleType, names: list[str]) -> list[str]:
    """The names that a module does not give, however it is asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return [name for name in names if not hasattr(module, name)]


@pytest.mark.parametrize("path", sorted(RECORDED))
def test_no_public_name_is_lost(path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = importlib.import_module(path)
    assert lost(module, RECORDED[path]) == []


def test_the_top_has_the_same_names() -> None:
    assert set(RECORDED["paramesh"]) <= set(paramesh.__all__)


def test_a_lost_name_would_be_seen() -> None:
    assert lost(paramesh, ["Tensor", "Tensr"]) == ["Tensr"]
