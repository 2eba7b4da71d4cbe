"""The stages of a compiled function before it runs: `.lower(…)`, and `.compile()` of that.

They are `jax.stages` over Parameters. Nothing is computed: a network that is only declared can be
lowered and compiled for its cost analysis, and stays weightless.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np

from paramesh.array_types import ArrayLike
from paramesh.dtype import x64_if
from paramesh.errors import TraceError
from paramesh.parameter import materialise
from paramesh.state import placement
from paramesh.transforms.call_arguments import ParsedCall
from paramesh.transforms.executable import ZERO, Executable
from paramesh.transforms.relocation import placed_arrays


class Lowered:
    """A traced function that is not compiled yet; `CompiledFunction.lower` returns it.

    Attributes:
        stage: the `jax.stages.Lowered`. Its inputs are the values of Parameters that are written,
            those of Parameters that are only read, and the arrays among the arguments.
    """

    def __init__(
        self,
        name: str,
        parse: Callable[..., Any],
        key: object,
        executable: Executable,
        leaves: list[ArrayLike],
    ) -> None:
        self._name, self._parse, self._key, self._entry = name, parse, key, executable
        with x64_if(executable.use_64bit):
            program: Any = executable.program
            self.stage: Any = program.lower(*_inputs(executable, leaves))

    def as_text(self, dialect: str | None = None) -> str:
        """The program as text, in StableHLO by default."""
        return self.stage.as_text(dialect)

    def cost_analysis(self) -> Any:
        """What JAX estimates of the program before it is compiled, such as `flops`."""
        return self.stage.cost_analysis()

    def compile(self, compiler_options: dict[str, Any] | None = None) -> Compiled:
        """The program for the device.

        Args:
            compiler_options: of XLA.
        """
        with x64_if(self._entry.use_64bit):
            stage = self.stage.compile(compiler_options)
        return Compiled(self._name, self._parse, self._key, self._entry, stage)


class Compiled:
    """A compiled program; called like the function, it runs for inputs of the same shapes.

    Attributes:
        stage: the `jax.stages.Compiled`.
    """

    def __init__(
        self,
        name: str,
        parse: Callable[..., ParsedCall | None],
        key: Hashable,
        executable: Executable,
        stage: jax.stages.Compiled,
    ) -> None:
        self._name, self._parse, self._key, self.stage = name, parse, key, stage
        self._entry = executable.compiled_as(stage)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it; Parameters that it writes get their new values.

        Raises:
            TypeError: inputs of other shapes or element types, or other constants.
            TraceError: the network has changed (`set_train`, its structure, …).
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
                "structure, requires_grad or settings). Lower and compile it again."
            )
        return self._entry.run(call[1])

    def as_text(self) -> str:
        """The program as XLA optimised it, as text."""
        return self.stage.as_text() or ""

    def cost_analysis(self) -> Any:
        """What XLA estimates: `flops`, `bytes accessed`, … (depends on the backend)."""
        return self.stage.cost_analysis()

    def memory_analysis(self) -> Any:
        """Bytes of inputs, outputs, temporary memory and code (depends on the backend)."""
        return self.stage.memory_analysis()


def _inputs(executable: Executable, leaves: list[ArrayLike]) -> tuple[Any, Any, Any]:
    """The program's inputs: shapes where they suffice, arrays where their sharding matters."""
    place = placement.current()
    states = (executable.donated, executable.kept)
    zero = [ZERO] if executable.pooled else []
    if place.count == 1:
        donated, kept = (
            [jax.ShapeDtypeStruct(place.shape(s), s.dtype.np_dtype) for s in group]
            for group in states
        )
        shapes = [
            leaf
            if isinstance(leaf, bool | int | float | complex)
            else jax.ShapeDtypeStruct(
                np.shape(leaf), leaf.dtype, weak_type=getattr(leaf, "weak_type", False)
            )
            for leaf in leaves
        ]
        return donated, kept, [*shapes, *zero]
    materialise([*executable.donated, *executable.kept])
    arrays = [placed_arrays(place, group) for group in states]
    leaves = place.place_inputs(leaves)
    return arrays[0], arrays[1], [*leaves, *(place.constant(np.int32(z)) for z in zero)]
