"""A command imports what it needs, and no other command's modules."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from environments import without_virtual_devices
from paramesh import nn, save_checkpoint

#: Runs a command in a process of its own; the last line has the packages of paramesh, and the
#: modules of others, that it imports besides those of `import paramesh`.
RUN = """
import json, sys
import paramesh
before = set(sys.modules)
from paramesh.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
new = set(sys.modules) - before
ours = {name.partition(".")[2] for name in new if name.startswith("paramesh.")}
print()
print(json.dumps(sorted(ours | {name for name in new if "." not in name})))
"""
#: What computes and trains; none of it is needed to look at a file or to read help.
HEAVY = {"nn", "optim", "ops", "transforms", "train", "dataset", "optax", "ray", "sklearn"}


def imported(*words: object) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, words)],
        capture_output=True,
        text=True,
        env=without_virtual_devices(),
    )
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout.splitlines()[-1]))


def test_help_imports_no_command() -> None:
    found = imported("--help")
    ours = {name for name in found if name.startswith(("cli", "ps", "checkpoint", "parallel"))}
    shared = {"cli", "cli.errors", "cli.run", "cli.suggestions", "ps", "ps.specification"}
    constants = {"ps.specification.partition", "ps.specification.worker_sets"}
    commands = {name for name in ours if name.startswith("cli.commands")}
    assert ours - commands == shared | constants
    assert not found & HEAVY


def test_looking_at_a_file_imports_nothing_that_computes(tmp_path: Path) -> None:
    path = save_checkpoint(nn.Dense(2, 2), tmp_path / "net.safetensors")
    found = imported("inspect", path)
    assert "cli.inspect" in found
    assert not found & (HEAVY | {"cli.convert", "cli.launch", "cli.demo", "cli.servers"})
