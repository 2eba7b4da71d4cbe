"""Old names give what replaces them, with a warning, until the version that removes them."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

import paramesh
from environments import without_virtual_devices
from paramesh import deprecations
from paramesh.deprecations import Deprecated


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize("old", sorted(deprecations.MODULES))
def test_a_module_at_its_old_path_is_the_module_at_the_new_one(old: str) -> None:
    sys.modules.pop(old, None)
    entry = deprecations.MODULES[old]
    with pytest.warns(DeprecationWarning, match=rf"{old} is deprecated since .* Use {entry.use}"):
        module = importlib.import_module(old)
    assert module is importlib.import_module(entry.new)


@pytest.mark.parametrize("old", sorted(deprecations.MODULES))
def test_no_version_keeps_what_it_was_to_remove(old: str) -> None:
    entry = deprecations.MODULES[old]
    assert version(paramesh.__version__) < version(entry.removed)
    assert version(entry.since) < version(entry.removed)


def test_the_warning_is_about_the_users_line(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import paramesh\nfrom paramesh.nest import values\n")
    done = subprocess.run(
        [sys.executable, "-W", "default::DeprecationWarning", program],
        env=without_virtual_devices(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{program}:2: DeprecationWarning: paramesh.nest is deprecated" in done.stderr


def test_a_renamed_name_is_the_new_one() -> None:
    module = types.ModuleType("paramesh_of_a_test")
    module.New = 1  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    try:
        entry = Deprecated("paramesh_of_a_test.New", "New", "0.2.0", "0.3.0")
        get = deprecations.renamed(module.__name__, {"Old": entry})
        with pytest.warns(DeprecationWarning, match=r"paramesh_of_a_test\.Old is deprecated"):
            assert get("Old") == 1
        with pytest.raises(AttributeError, match="has no attribute 'Older'"):
            get("Older")
    finally:
        del sys.modules[module.__name__]
