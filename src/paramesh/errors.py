"""The exceptions that paramesh raises.

Naming rule: `<What is wrong>Error`, one class per thing that a program may want to catch. Each
is a `ParameshError` and also the builtin exception that MindSpore raises for the same mistake, so
`except ValueError` in a script written for MindSpore goes on working.

Mistakes in plain arguments (a wrong type, a number out of range) raise the builtin `TypeError` or
`ValueError` directly; the classes here are for the mistakes that belong to parameters.
"""

from __future__ import annotations

from collections.abc import Sequence


class ParameshError(Exception):
    """Base of every exception that is specific to paramesh."""


class ParameterNameError(ParameshError, ValueError):
    """A parameter's name is not a usable name."""


#: For a Cell that was put into a network after its own Cells had names: it has no path in its own.
HOW_TO_RENAME = (
    "Cells that were put into a network later keep names without their path: "
    "`for name, param in net.parameters_and_names(): param.name = name` gives all of them that of "
    "their place."
)


class DuplicateNameError(ParameshError, ValueError):
    """Two different Parameters have one name, so nothing keyed by names can tell them apart."""


class ParameterShapeError(ParameshError, ValueError):
    """A value's shape is not the Parameter's shape."""


class ParameterDtypeError(ParameshError, TypeError):
    """A value's element type cannot be stored in the Parameter without losing what it says."""


class ParameterStateError(ParameshError, RuntimeError):
    """A Parameter is asked for something that its present life stage cannot give."""


class RecipeError(ParameshError, ValueError):
    """A recipe cannot produce values for the shape or element type that was asked for."""


class TraceError(ParameshError, RuntimeError):
    """A Parameter was used across the boundary of a JAX trace in a way that would leak a tracer."""


class TracedValueError(TraceError):
    """A Tensor was asked for its values while it is traced and has none."""


class ValueNeededError(TracedValueError, TypeError):
    """The shape of an operator's result depends on values that a program has yet to compute."""


class PositionError(ParameshError, IndexError, ValueError, RuntimeError):
    """A position is outside of the axes that it is on.

    MindSpore raises ValueError or RuntimeError, by the operator.
    """


class UncompiledWarning(UserWarning):
    """A function that was to be compiled runs operator by operator, because it cannot be."""


class CompiledWarning(UserWarning):
    """A Cell runs as a compiled program in PyNative mode, because only a program can do it."""


class UntrainedWarning(UserWarning):
    """A training step leaves trainable Parameters as they are, which is hardly intended."""


class NotFiniteError(ParameshError, FloatingPointError):
    """A computation gave NaN or an infinite number where none may be.

    Attributes:
        cell: where, as `Net.layers.0.fc`; None if that is not known.
        parameters: names of the Parameters that hold such numbers.
    """

    cell: str | None = None
    parameters: Sequence[str] = ()


class ContextError(ParameshError, RuntimeError):
    """A call needs a setting in `paramesh.context` that has not been made."""


class ProgramNeededError(ContextError):
    """Devices are to meet where operators run one by one, and only a compiled program can do it.

    Attributes:
        alike: whether a program computes the same numbers from the same inputs. It does not in a
            process of several devices: there each device takes its part of the inputs, which may
            be gradients of the whole batch already.
    """

    def __init__(self, message: str, alike: bool = False) -> None:
        super().__init__(message)
        self.alike = alike


class LayoutError(ParameshError, ValueError, RuntimeError):
    """A layout or a strategy does not fit a shape, an operator or the devices.

    MindSpore raises RuntimeError for what its compiler finds, and ValueError for what `shard` does.
    """


class CheckpointError(ParameshError, RuntimeError):
    """A checkpoint file is damaged, or its contents do not fit the network."""


class StrategyFileError(CheckpointError, ValueError):
    """A strategy file is missing or damaged, or does not fit the checkpoint that it is for."""


class ConstructError(ParameshError, NotImplementedError, AttributeError):
    """A Cell is called whose class does not say what it computes."""


class OptimizerError(ParameshError, ValueError):
    """An optimizer's parameters, groups or schedule contradict each other."""


class GroupOverlapError(OptimizerError, RuntimeError):
    """Two groups of an optimizer claim one Parameter."""


class ParameterServerError(ParameshError, RuntimeError):
    """The parameter server cannot do what it is asked for: it is gone, or its files are damaged."""


class WorkerLeft(SystemExit):
    """The run on parameter servers has no more steps for this worker: it has fewer workers now.

    Not caught, it ends the process with the exit code 0, as the end of the script does.

    Args:
        rank: of the worker.
        why: there are none.

    Attributes:
        rank: of the worker.
        why: there are none.
    """

    def __init__(self, rank: int, why: str) -> None:
        super().__init__(0)
        self.rank, self.why = rank, why

    def __str__(self) -> str:
        return f"worker {self.rank} has no more steps in this run: {self.why}."
