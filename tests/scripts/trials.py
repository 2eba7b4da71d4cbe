"""Running an attempt in a process of its own, with its data, settings and environment."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environments import without_virtual_devices
from scripts.official_models import Attempt

#: The folder of public repositories, by name; their scripts are run from copies.
REPOSITORIES = "PARAMESH_SCRIPTS"
#: A python that has MindSpore 2.10, to compare with.
MINDSPORE = "PARAMESH_MINDSPORE"


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Args:
        code: its exit code.
        losses: of the steps.
        updates: of a run `by_step`, the part of MindSpore's steps by which these went elsewhere.
        output: the last of what it wrote.
    """

    code: int
    losses: list[float]
    output: str
    updates: list[float] = field(default_factory=list)

    @property
    def trained(self) -> bool:
        """Whether it ended well, with losses that are numbers."""
        return self.code == 0 and bool(self.losses) and all(map(math.isfinite, self.losses))


def repositories() -> Path | None:
    """The folder that the environment names, if it does."""
    named = os.environ.get(REPOSITORIES)
    return Path(named) if named else None


def mindspore() -> str | None:
    """The python with MindSpore that the environment names, if it does."""
    return os.environ.get(MINDSPORE) or None


def _config(attempt: Attempt, source: Path, place: Path, exact: bool) -> Path:
    import yaml

    documents: list[Any] = list(yaml.safe_load_all((source / attempt.config).read_text()))
    for key, value in (attempt.changes | (attempt.exact if exact else {})).items():
        *levels, last = key.split(".")
        level = documents[0]
        for name in levels:
            level = level[name]
        assert last in level, f"{attempt.config} has no {key}"
        level[last] = value
    path = place / "config.yaml"
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    return path


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both of the form {module: {class: {argument: value}}}."""
    return {
        module: {
            name: first.get(module, {}).get(name, {}) | second.get(module, {}).get(name, {})
            for name in first.get(module, {}) | second.get(module, {})
        }
        for module in first | second
    }


def run(
    attempt: Attempt,
    repositories: Path,
    place: Path,
    exact: bool = False,
    mindspore: str = "",
    by_step: bool = False,
) -> Outcome:
    """Run the script of an attempt.

    Args:
        attempt: which.
        repositories: the folder of repositories, which has its script.
        place: the folder of the data, which is made once, and of copies and outputs.
        exact: with the arguments and settings for a comparison, whose weights and batches are kept
            in `place`.
        mindspore: a python that has MindSpore, to run it with that.
        by_step: each step begins with the state of MindSpore's run, which comes first.
    """
    source = attempt.folder(repositories)
    assert source is not None, f"{attempt.name} is not there"
    who = "mindspore" if mindspore else "paramesh"
    work, out, data = place / f"{who}-script", place / f"{who}-out", place / "data"
    for folder in (work, out):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, work)
    out.mkdir(parents=True)
    if not data.exists():
        attempt.data(data)
    for cache in data.rglob("*.pickle"):  # of one NumPy, which the other cannot read
        cache.unlink()
    words = {"data": data, "out": out, "config": ""}
    if attempt.config:
        words["config"] = _config(attempt, source, place, exact)
    arguments = attempt.arguments.format(**words).split()
    settings: dict[str, Any] = {
        "losses": str(out / "losses.json"),
        "steps": 20 if exact else attempt.steps,
        "mindspore": bool(mindspore),
        "smaller": _joined(attempt.smaller, attempt.exact_smaller if exact else {}),
    }
    if exact:
        arguments += (attempt.compared or "").split()
        settings |= {name: str(place / f"{name}.npz") for name in ("weights", "batches")}
    if by_step:
        settings |= {"states": str(place / "states"), "updates": str(out / "updates.json")}
    (out / "settings.json").write_text(json.dumps(settings))
    observed = Path(__file__).with_name("observed.py")
    command = [str(observed), str(out / "settings.json"), attempt.script, *arguments]
    done = subprocess.run(
        [mindspore or sys.executable, *command],
        cwd=work,
        env=without_virtual_devices() | {"DEVICE_ID": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    losses, updates = (
        json.loads(file.read_text()) if file.exists() else []
        for file in (out / "losses.json", out / "updates.json")
    )
    return Outcome(done.returncode, losses, "\n".join(done.stdout.splitlines()[-25:]), updates)
