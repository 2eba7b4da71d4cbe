"""Plans for hardware that is not there: see `making.py`."""

from paramesh.parallel.planning.devices import MissingCompilerError
from paramesh.parallel.planning.making import plan
from paramesh.parallel.planning.report import Memory, Remedy, StepPlan
from paramesh.parallel.planning.stages.balance import balanced_stages
from paramesh.parallel.planning.stages.making import plan_stages
from paramesh.parallel.planning.stages.report import PipelinePlan, StagePlan

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
