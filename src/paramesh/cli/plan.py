"""`paramesh plan`: the training step of a script on hardware that need not be there.

This module loads nothing of what it shows; a command that is not asked for costs nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from paramesh.cli.errors import CommandError

if TYPE_CHECKING:
    from paramesh.parallel.planning import PipelinePlan, StepPlan
    from paramesh.scripts.planning import Step

#: Exit code of a plan that does not fit.
TOO_MUCH = 1
_INTERRUPTED = 130

_ENDED = (
    "paramesh: {program}: ended with exit code {code} before its first training step; there is no "
    "plan.\n"
)

_UPDATE_ALONE = (
    "paramesh: {program}: the first compiled call that trains is that of {name} alone. What "
    "computes the gradients is not part of this plan, and they count as inputs. For the full step, "
    "compile one function that does both (paramesh.jit, mindspore.jit), or use TrainOneStepCell.\n"
)


@dataclass(frozen=True)
class PlanOptions:
    """What is asked for.

    Attributes:
        program: path of a script, or the name of a module.
        arguments: for it.
        module: whether `program` is a module.
        target: such as "h100:8".
        memory: of a device, such as "80GB"; None for what the hardware has.
        as_json: numbers on stdout, and no tables.
        html: where a page goes.
    """

    program: str
    arguments: tuple[str, ...]
    module: bool
    target: str
    memory: str | None
    as_json: bool
    html: Path | None


def run_plan(asked: PlanOptions, console: Console) -> int:
    """Plan the first training step of a script.

    Returns:
        The exit code: 0; 1 if the step does not fit; that of the script if it fails before.

    Raises:
        CommandError: there is no such script or target, a compiler is missing, or the script does
            not train.
    """
    with _numbers_alone() if asked.as_json else contextlib.nullcontext():
        found = _found(asked)
    if isinstance(found, int):
        return found
    if asked.html is not None:
        from paramesh.cli.plan_page import write_plan_page

        nbytes = write_plan_page(asked.html, found, asked.program)
        if not asked.as_json:
            console.print(f"{asked.html}: {nbytes:,} bytes", highlight=False)
    _show(found, asked.as_json, console)
    return TOO_MUCH if found.fits is False else 0


def _found(asked: PlanOptions) -> StepPlan | PipelinePlan | int:
    """The plan; an exit code of a script that ended before."""
    limit = _prepared(asked)
    step = _step(asked)
    if isinstance(step, int):
        if step != _INTERRUPTED:
            sys.stderr.write(_ENDED.format(program=asked.program, code=step))
        return step
    from paramesh.errors import ParameshError
    from paramesh.parallel.planning.devices import target_devices
    from paramesh.parallel.planning.making import planned
    from paramesh.parallel.planning.stages.making import has_stages, planned_stages
    from paramesh.scripts.planning import is_update_alone

    fn, args, kwargs = step
    if is_update_alone(fn):
        sys.stderr.write(_UPDATE_ALONE.format(program=asked.program, name=fn.__name__))
    try:
        on = target_devices(asked.target)
        plan = planned_stages if has_stages() else planned
        return plan(fn, args, kwargs, on, limit)
    except ParameshError as error:
        raise CommandError(str(error)) from error


def run_calibrate(console: Console) -> int:
    """Measure the devices that are here, and keep the figures for later plans.

    Raises:
        CommandError: the figures cannot be kept.
    """
    from paramesh.errors import ContextError
    from paramesh.parallel.planning.calibration import keep, measure

    measured = measure()
    try:
        path = keep(measured)
    except (OSError, ContextError) as error:
        raise CommandError(f"the figures cannot be kept: {error}") from error
    rows = [
        (f"products of {name}", f"{n / 1e12:.4g} Tflop/s") for name, n in measured.peaks.items()
    ]
    rows.append(("memory", f"{measured.memory_bandwidth / 1e9:.4g} GB/s"))
    if measured.link is not None and measured.latency is not None:
        rows.append(("all-reduce", f"{measured.link / 1e9:.4g} GB/s"))
        rows.append(("smallest all-reduce", f"{measured.latency * 1e6:.4g} µs"))
    count = f"{measured.devices} device{'s' if measured.devices != 1 else ''}"
    console.print(f"'{measured.target}', measured on {count} ({measured.device_kind}):")
    for name, text in rows:
        console.print(f"  {name:<22}{text}", highlight=False)
    console.print(f"kept in {path}", highlight=False, soft_wrap=True)
    if measured.link is None:
        console.print("With one device nothing is sent: links keep their published figures.")
    return 0


def _prepared(asked: PlanOptions) -> int | None:
    """Check what is asked for, and have JAX ready for it, before the script runs."""
    from paramesh.context import memory_bytes
    from paramesh.errors import ContextError
    from paramesh.parallel.planning.devices import (
        look_for_none_in_vain,
        parsed,
        target_devices,
    )

    try:
        kind, _ = parsed(asked.target)
        look_for_none_in_vain()
        if kind != "cpu":  # compilers say on stderr that there is no driver
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        limit = None
        if asked.memory is not None:
            text = asked.memory
            limit = memory_bytes("plan", "--memory", int(text) if text.isdigit() else text)
        # The devices of the CPU have to be made before anything is computed, and it is better to
        # miss a compiler now than after the script has run.
        target_devices(asked.target)
        if asked.html is not None:
            from paramesh.cli.plan_page import check_page_path

            check_page_path(asked.html)
    except (ValueError, ContextError) as error:
        raise CommandError(str(error).removeprefix("plan: ")) from error
    return limit


def _step(asked: PlanOptions) -> Step | int:
    """The first training step of the script; an exit code if it ended with one before."""
    from paramesh.cli.run import program
    from paramesh.scripts.planning import first_step

    ready = program(asked.program, asked.arguments, asked.module, strict=False, name="plan")
    if ready.ready is None:
        return ready.run()
    step = first_step(ready.ready)
    if step != 0:
        return step
    raise CommandError(
        f"{asked.program}: ended without a compiled training step. A step is a call of a Cell in "
        "graph mode (mode=GRAPH_MODE), of a function of paramesh.jit, or Model.train, that writes "
        "trained Parameters."
    )


@contextlib.contextmanager
def _numbers_alone() -> Generator[None]:
    """Have nothing but the plan on stdout: what a script, its children and compilers write there
    goes to stderr.
    """
    output, target = sys.stdout, 1
    output.flush()
    try:
        kept = os.dup(target)
    except OSError:  # it is closed
        kept = None
    if kept is not None:
        os.dup2(2, target)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdout = output
        if kept is not None:
            os.dup2(kept, target)
            os.close(kept)


def _show(found: StepPlan | PipelinePlan, as_json: bool, console: Console) -> None:
    if as_json:
        console.file.write(json.dumps(found.to_dict(), indent=2) + "\n")
    else:
        console.print(found)
