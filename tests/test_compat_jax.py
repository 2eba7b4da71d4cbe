"""The private interfaces of JAX that paramesh uses are as they were."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import paramesh
from paramesh._compat.jax import looks_for_nans, native_call, settings_of_calls


def test_settings_tell_calls_apart() -> None:
    before = settings_of_calls()
    assert settings_of_calls() == before
    contexts = [
        jax.enable_x64(True),
        jax.default_matmul_precision("float32"),
        jax.default_device(jax.devices()[1]),
        jax.numpy_rank_promotion("raise"),
    ]
    for context in contexts:
        with context:
            assert settings_of_calls() != before
        assert settings_of_calls() == before


def test_a_warm_call_runs_no_python_code() -> None:
    compiled = jax.jit(lambda x: x + 1, donate_argnums=0).lower(jnp.zeros(3)).compile()
    value = compiled(jnp.zeros(3))
    call = native_call(compiled)
    assert call is not None
    frames: list[str] = []
    sys.setprofile(lambda frame, event, _: event == "call" and frames.append(frame.f_code.co_name))
    try:
        value = call(value)
    finally:
        sys.setprofile(None)
    assert frames == []
    assert value.tolist() == [2, 2, 2]


def test_looking_for_nans() -> None:
    assert not looks_for_nans()
    with jax.debug_nans(True):
        assert looks_for_nans()
    with jax.debug_infs(True):
        assert looks_for_nans()


@pytest.mark.parametrize("pattern", [r"\bjax\._src\b", r"from jax import _src"])
def test_private_modules_are_named_in_one_place(pattern: str) -> None:
    root = Path(paramesh.__file__).parent
    found = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(pattern, path.read_text())
    ]
    assert set(found) <= {"_compat/jax.py"}
