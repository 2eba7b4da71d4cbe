"""Plans for hardware that is not there: see `making.py`."""

from paramesh.parallel.planning.devices import MissingCompilerError
from paramesh.parallel.planning.making import plan
from paramesh.parallel.planning.report import Memory, Remedy, StepPlan

__all__ = ["Memory", "MissingCompilerError", "Remedy", "StepPlan", "plan"]
