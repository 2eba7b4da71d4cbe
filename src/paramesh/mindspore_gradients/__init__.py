"""MindSpore's operators of gradients (`ops.operations._grad_ops`), which scripts import.

They are the inside of MindSpore: its compiler puts them into the backward graph, and scripts call
them in a `bprop` of their own. Each is the product of a gradient `dy` with the derivative of an
operator, at the operator's input or output, whichever MindSpore keeps. JAX derives what it can.

Each class is made with its settings and called with Tensors, like those of `paramesh.ops`; its
docstring says in which order it takes them. Source: MindSpore's classes of these names.
"""

import difflib
from typing import Any

from paramesh.mindspore_gradients import (
    elementwise,
    images,
    losses,
    normalization,
    regions,
    shapes,
)
from paramesh.mindspore_gradients.elementwise import *  # noqa: F403
from paramesh.mindspore_gradients.images import *  # noqa: F403
from paramesh.mindspore_gradients.losses import *  # noqa: F403
from paramesh.mindspore_gradients.normalization import *  # noqa: F403
from paramesh.mindspore_gradients.regions import *  # noqa: F403
from paramesh.mindspore_gradients.shapes import *  # noqa: F403

__all__: list[str] = []
__all__ += elementwise.__all__
__all__ += images.__all__
__all__ += losses.__all__
__all__ += normalization.__all__
__all__ += regions.__all__
__all__ += shapes.__all__


def __getattr__(name: str) -> Any:
    near = ", ".join(difflib.get_close_matches(name, __all__, 3))
    hint = f" Did you mean {near}?" if near else ""
    raise AttributeError(f"module '{__name__}' has no gradient {name!r}.{hint}")
