"""Plans for hardware that is not there: see `making.py`."""

from paramesh.parallel.planning.balance import balanced_stages
from paramesh.parallel.planning.devices import MissingCompilerError
from paramesh.parallel.planning.making import plan
from paramesh.parallel.planning.report import Memory, Remedy, StepPlan
from paramesh.parallel.planning.stage_report import PipelinePlan, StagePlan
from paramesh.parallel.planning.staged import plan_stages

__all__ = [
    "Memory",
    "MissingCompilerError",
    "PipelinePlan",
    "Remedy",
    "StagePlan",
    "StepPlan",
    "balanced_stages",
    "plan",
    "plan_stages",
]
