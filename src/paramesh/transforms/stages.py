"""What a compiled function is on its way to the device: `.lower(…)`, and `.compile()` of that.

They are `jax.stages` over Parameters. Nothing is computed for them: a network that is only declared
can be lowered and compiled for its costs, and stays weightless.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from paramesh.dtype import x64_enabled, x64_set
from paramesh.errors import TraceError
from paramesh.parameter import materialise
from paramesh.state import placement, tracing
from paramesh.transforms.executable import ZERO, Executable
from paramesh.transforms.relocation import settled_arrays


class Lowered:
    """A function as a program that is not compiled yet; `CompiledFunction.lower` gives it.

    Attributes:
        stage: the `jax.stages.Lowered`. Its inputs are the values of Parameters that are written,
            those of Parameters that are only read, and the arrays among the arguments.
    """

    def __init__(
        self, name: str, parse: Callable[..., Any], key: Any, entry: Executable, leaves: list[Any]
    ) -> None:
        self._name, self._parse, self._key, self._entry = name, parse, key, entry
        with _width(entry):
            program: Any = entry.program
            self.stage: Any = program.lower(*_inputs(entry, leaves))

    def as_text(self, dialect: str | None = None) -> str:
        """The program as text, in StableHLO if nothing else is asked for."""
        return self.stage.as_text(dialect)

    def cost_analysis(self) -> Any:
        """What JAX estimates of the program before it is compiled, such as `flops`."""
        return self.stage.cost_analysis()

    def compile(self, compiler_options: dict[str, Any] | None = None) -> Compiled:
        """The program for the device.

        Args:
            compiler_options: of XLA.
        """
        with _width(self._entry):
            stage = self.stage.compile(compiler_options)
        return Compiled(self._name, self._parse, self._key, self._entry, stage)


class Compiled:
    """A compiled program; called like the function, it runs for inputs of the same shapes.

    Attributes:
        stage: the `jax.stages.Compiled`.
    """

    def __init__(
        self, name: str, parse: Callable[..., Any], key: Any, entry: Executable, stage: Any
    ) -> None:
        self._name, self._parse, self._key, self.stage = name, parse, key, stage
        self._entry = entry.compiled_as(stage)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it; Parameters that it writes get their new values.

        Raises:
            TypeError: inputs of other shapes or element types, or other constants.
            TraceError: the network is no longer as it was (`set_train`, its members, …).
        """
        call = self._parse(args, kwargs)
        if call is None or call[0] != self._key:
            raise TypeError(
                f"'{self._name}' was compiled for arguments of other shapes, element types or "
                "constants than these. Lower and compile it again for them."
            )
        if not self._entry.current():
            raise TraceError(
                f"'{self._name}': the network has changed since it was compiled (set_train, "
                "members, requires_grad or settings). Lower and compile it again."
            )
        return self._entry.run(call[1])

    def as_text(self) -> str:
        """The program as XLA optimised it, as text."""
        return self.stage.as_text()

    def cost_analysis(self) -> Any:
        """What XLA estimates: `flops`, `bytes accessed`, … (depends on the backend)."""
        return self.stage.cost_analysis()

    def memory_analysis(self) -> Any:
        """Bytes of inputs, outputs, temporary memory and code (depends on the backend)."""
        return self.stage.memory_analysis()


def _width(entry: Executable) -> Any:
    return x64_set(True) if entry.wide and not x64_enabled() else tracing.nothing


def _inputs(entry: Executable, leaves: list[Any]) -> tuple[Any, Any, Any]:
    """What the program takes: shapes where they are enough, arrays where their places matter."""
    place = placement.current()
    states = (entry.donated, entry.kept)
    zero = [ZERO] if entry.pooled else []
    if place.count == 1:
        donated, kept = (
            [jax.ShapeDtypeStruct(place.shape(s), s.dtype.np_dtype) for s in group]
            for group in states
        )
        shapes = [
            leaf
            if isinstance(leaf, float | complex)
            else jax.ShapeDtypeStruct(
                np.shape(leaf), leaf.dtype, weak_type=getattr(leaf, "weak_type", False)
            )
            for leaf in leaves
        ]
        return donated, kept, [*shapes, *zero]
    materialise([*entry.donated, *entry.kept])
    arrays = [settled_arrays(place, group) for group in states]
    leaves = place.place_inputs(leaves)
    return arrays[0], arrays[1], [*leaves, *(place.constant(np.int32(z)) for z in zero)]
