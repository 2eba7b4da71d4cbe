"""What `import paramesh` may and may not do to the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from environments import without_virtual_devices

OPTIONAL = ("matplotlib", "sklearn", "ray", "tensorboardX", "flax", "torch")


def run(program: str) -> str:
    """What a fresh interpreter prints for `program`."""
    environment = without_virtual_devices()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("face", ["paramesh", "paramesh.nn, paramesh.ops, paramesh.train"])
def test_optional_packages_are_not_imported(face: str) -> None:
    loaded = run(f"import sys, {face}; print([m for m in {OPTIONAL!r} if m in sys.modules])")
    assert loaded == "[]"


def test_what_runs_scripts_is_not_imported() -> None:
    ours = "[m for m in sys.modules if m.startswith(('paramesh.scripts', 'paramesh.cli'))]"
    assert run(f"import sys, paramesh; print({ours})") == "[]"


def test_no_device_is_touched() -> None:
    # JAX refuses this setting once it has opened its devices.
    program = (
        "import jax, paramesh; jax.config.update('jax_num_cpu_devices', 3);"
        " print(jax.device_count())"
    )
    assert run(program) == "3"


def test_jax_defaults_are_unchanged() -> None:
    program = "import jax; before = dict(jax.config.values); {}print(before == jax.config.values)"
    assert run(program.format("import paramesh; ")) == "True"
