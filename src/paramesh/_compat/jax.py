"""What paramesh uses of JAX that is not public.

settings_of_calls   what JAX keys compiled calls by, besides their arguments
native_call         the compiled call that runs no Python code
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax._src import config as _config


def settings_of_calls() -> Any:
    """The settings by which JAX tells compiled calls apart, of this thread and of the process.

    Where they differ from an earlier call's, a compiled program is looked up by Python code of
    JAX's. Equal values compare as equal.
    """
    return _config.trace_context(), jax.config.jax_default_device  # pyright: ignore


def native_call(compiled: Any) -> Callable[..., Any] | None:
    """The call of a `jax.stages.Compiled` that runs no Python code once it is warm.

    `Compiled.__call__` is a Python function, and its frame alone holds the results between the
    program's end and its own. None where there is no such call: before the first one, and for
    programs that call back into Python.
    """
    return getattr(compiled, "_call", None)


def looks_for_nans() -> bool:
    """Whether JAX looks for NaNs or infinities in what programs give."""
    return bool(jax.config.jax_debug_nans or jax.config.jax_debug_infs)  # pyright: ignore
