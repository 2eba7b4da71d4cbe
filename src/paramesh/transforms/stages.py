"""The stages of a compiled function before it runs: `.lower(…)`, and `.compile()` of that.

They are `jax.stages` over Parameters. Nothing is computed: a network that is only declared can be
lowered and compiled for its cost analysis, and stays weightless. It can also be compiled for
devices that are not there (`.compile(target="h100:8")`), for its text and its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NoReturn, overload

import jax
import numpy as np

from paramesh.array_types import ArrayLike
from paramesh.dtype import x64_if
from paramesh.errors import ContextError, LayoutError, TraceError
from paramesh.parameter import materialise
from paramesh.state import placement
from paramesh.transforms.call_arguments import ParsedCall
from paramesh.transforms.executable import ZERO, Executable
from paramesh.transforms.relocation import placed_arrays


class Lowered:
    """A traced function that is not compiled yet; `CompiledFunction.lower` returns it.

    If the settings or layouts do not fit the devices here, it can still be compiled for those of a
    target; everything else raises the error that says so.
    """

    def __init__(
        self,
        name: str,
        parse: Callable[..., Any],
        trace: Callable[[], tuple[Hashable, Executable, list[ArrayLike]]],
        lower_for: Callable[[str], jax.stages.Lowered],
    ) -> None:
        self._name, self._parse, self._lower_for = name, parse, lower_for
        self._error: Exception | None = None
        try:
            self._key, self._entry, leaves = trace()
        except (ContextError, LayoutError) as error:
            self._error = error
            return
        with x64_if(self._entry.use_64bit):
            program: Any = self._entry.program
            self._stage: Any = program.lower(*_inputs(self._entry, leaves))

    @property
    def stage(self) -> Any:
        """The `jax.stages.Lowered` for the devices here.

        Its inputs are the values of Parameters that are written, those of Parameters that are only
        read, and the arrays among the arguments.

        Raises:
            ContextError, LayoutError: the settings or layouts do not fit these devices.
        """
        if self._error is not None:
            raise self._error
        return self._stage

    def as_text(self, dialect: str | None = None) -> str:
        """The program as text, in StableHLO by default."""
        return self.stage.as_text(dialect)

    def cost_analysis(self) -> Any:
        """What JAX estimates of the program before it is compiled, such as `flops`."""
        return self.stage.cost_analysis()

    @overload
    def compile(self, compiler_options: dict[str, Any] | None = None) -> Compiled: ...

    @overload
    def compile(
        self, compiler_options: dict[str, Any] | None = None, *, target: str
    ) -> CompiledForTarget: ...

    def compile(
        self, compiler_options: dict[str, Any] | None = None, *, target: str | None = None
    ) -> Compiled | CompiledForTarget:
        """The program for the devices here, or for those of a target.

        For a target the call is traced again, as the settings say for so many devices: by the
        parallel mode, the strategies and the layouts that are set. A batch is that of all of them.

        Args:
            compiler_options: of XLA.
            target: devices that need not be there, such as "h100:8", "v5e:2x4" or "cpu:8", as
                `paramesh.plan` names them.

        Raises:
            ValueError: there is no such target.
            MissingCompilerError: the compiler of the target's hardware is not installed.
            ContextError: a target of several devices for a program of one (`stand_alone`), fewer
                devices of the CPU than the target has, a parameter server, or a Parameter with a
                value for each device.
            LayoutError: strategies, layouts or a batch do not fit the devices.
        """
        if target is not None:
            stage = compiled_for_target(self._lower_for(target), compiler_options)
            return CompiledForTarget(self._name, target, stage)
        lowered = self.stage
        with x64_if(self._entry.use_64bit):
            stage = lowered.compile(compiler_options)
        return Compiled(self._name, self._parse, self._key, self._entry, stage)


#: What XLA says of a product whose kernel it cannot generate, and the option to call a library.
_NO_TILES = "Couldn't find output tile sizes"
_WITH_LIBRARY = {"xla_gpu_enable_triton_gemm": False}


def compiled_for_target(
    lowered: jax.stages.Lowered, compiler_options: dict[str, Any] | None = None
) -> jax.stages.Compiled:
    """A program compiled for devices that need not be there.

    With no GPU to try tiles on, XLA takes the first ones for the products that it generates kernels
    for, and gives up where those do not fit (jaxlib 0.10.2: a vision transformer with 197
    positions). Such a program calls the library for its products.

    Args:
        lowered: for those devices.
        compiler_options: of XLA.
    """
    try:
        return lowered.compile(compiler_options)
    except jax.errors.JaxRuntimeError as error:
        if _NO_TILES not in str(error):
            raise
    return lowered.compile(_WITH_LIBRARY | (compiler_options or {}))


class CompiledForTarget:
    """A program compiled for devices that need not be there: to be read, not to be run.

    Attributes:
        name: of the function.
        target: the devices, as they were given.
        stage: the `jax.stages.Compiled`.
    """

    def __init__(self, name: str, target: str, stage: jax.stages.Compiled) -> None:
        self.name, self.target, self.stage = name, target, stage

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        """Refuse to run.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"'{self.name}' was compiled for target={self.target!r}, to be read and not to be run. "
            "lower(…).compile() without a target is the program for the devices here."
        )

    def __repr__(self) -> str:
        return f"CompiledForTarget('{self.name}', target={self.target!r})"

    def as_text(self) -> str:
        """The program as the target's compiler optimised it, as text."""
        return self.stage.as_text() or ""

    def cost_analysis(self) -> Any:
        """What the target's compiler estimates: `flops`, `bytes accessed`, …"""
        return self.stage.cost_analysis()

    def memory_analysis(self) -> Any:
        """Bytes that each device holds: of inputs, outputs, temporary memory and code."""
        return self.stage.memory_analysis()


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
