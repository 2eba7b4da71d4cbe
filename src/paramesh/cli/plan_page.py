"""`paramesh plan --html`: one page about a plan, which needs nothing from elsewhere.

Which device holds which part of each Parameter, what they send each other along the step, and where
bytes and time go; of a step with pipeline stages, also which stage works on what when. Made as the
page about a checkpoint is (`report.py`), and in its style.
"""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paramesh.cli.errors import CommandError
from paramesh.files.atomic import write_atomically

if TYPE_CHECKING:
    from paramesh.parallel.modes.layout_table import LayoutRow
    from paramesh.parallel.planning import PipelinePlan, StepPlan

#: Devices that the picture has a column for; further ones hold what these hold, in the same way.
MOST_DEVICES = 64
#: Tasks of a step with stages that are drawn.
MOST_SPANS = 6000


def plan_data(plan: StepPlan, program: str) -> dict[str, Any]:
    """What the page shows, as JSON has it.

    Args:
        plan: the plan.
        program: whose step it is.
    """
    rows = [
        *(_row(row, False) for row in plan.parameters.rows),
        *(_row(row, True) for row in plan.states.rows),
    ]
    found = plan.to_dict()
    del found["parameters"], found["states"]
    shown = {"held_by": plan.devices, "shown": min(plan.devices, MOST_DEVICES)}
    return found | shown | {"program": program, "rows": rows}


def stages_data(plan: PipelinePlan, program: str) -> dict[str, Any]:
    """What the page of a step with pipeline stages shows, as JSON has it.

    Args:
        plan: the plan.
        program: whose step it is.
    """
    each = plan.devices // len(plan.stages)
    rows = [
        _row(row, False) | {"stage": row.stage or 0, "first": (row.stage or 0) * each}
        for row in plan.parameters.rows
    ]
    found = plan.to_dict()
    del found["parameters"]
    shown = {"held_by": each, "shown": min(each, MOST_DEVICES)}
    spans = {"spans": plan.spans[:MOST_SPANS], "spans_in_all": len(plan.spans)}
    return found | shown | spans | {"program": program, "rows": rows}


def _row(row: LayoutRow, state: bool) -> dict[str, Any]:
    """A Parameter, with the number of the part that each device holds; without stages, of all."""
    from paramesh.parallel.planning.report import sharding_text

    parts: dict[Any, int] = {}
    held: list[int] = []
    if row.layout is not None:
        for index in row.layout.shards(row.shape, row.name).values():
            key = tuple((part.start, part.stop) for part in index)
            held.append(parts.setdefault(key, len(parts)))
    return {
        "name": row.name,
        "shape": list(row.shape),
        "dtype": row.dtype,
        "cut": sharding_text(row),
        "slice": list(row.slice_shape),
        "copies": row.replicas,
        "bytes": row.bytes_per_device,
        "state": state,
        "parts": max(len(parts), 1),
        "held": held[:MOST_DEVICES],
        "bounds": [[list(map(int, bound)) for bound in key] for key in parts][:MOST_DEVICES],
    }


def plan_page(data: dict[str, Any], name: str = "plan") -> str:
    """The page, with everything in it.

    Args:
        data: that it shows.
        name: of its parts: "plan", or "stages" for a step with stages.
    """
    folder = resources.files("paramesh.cli") / "page"

    def part(file: str) -> str:
        return (folder / file).read_text(encoding="utf-8")

    # Within a script a "<" could end it, wherever it stands.
    said = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    text = part(f"{name}.html")
    style = part("report.css") + part("plan.css")
    script = part("plan_parts.js") + part(f"{name}.js")
    for mark, content in {"STYLE": style, "SCRIPT": script, "DATA": said}.items():
        text = text.replace(f"/*{mark}*/", content)
    return text


def check_page_path(path: Path) -> None:
    """See that a page can be written, before minutes are spent on what it shows.

    Raises:
        CommandError: it cannot.
    """
    if path.is_dir():
        raise CommandError(f"--html {path}: is a folder; give the path of a file")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise CommandError(f"--html {path}: there is no folder {folder}; make it, or name another")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"--html {path}: the folder {folder} cannot be written to")


def write_plan_page(path: Path, plan: StepPlan | PipelinePlan, program: str) -> int:
    """Write the page atomically; returns its bytes.

    Raises:
        CommandError: the file cannot be written.
    """
    from paramesh.parallel.planning.report import StepPlan

    if isinstance(plan, StepPlan):
        content = plan_page(plan_data(plan, program)).encode()
    else:
        content = plan_page(stages_data(plan, program), "stages").encode()
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CommandError(
            f"--html {path}: cannot be written: {error.strerror or error}"
        ) from error
    return len(content)
