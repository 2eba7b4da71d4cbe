"""Whether a message has an update in it: names, fields, plain arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from paramesh.array_types import Tree
from paramesh.errors import ParameterServerError

#: A message has at most so many arrays, and each array so many axes.
_MOST_ARRAYS = 1 << 20
_MOST_AXES = 16


def check_update(updates: Tree) -> None:
    """Raise ParameterServerError unless this is an update: names, fields, plain arrays.

    Nothing has been allocated for it by then; `Store.check` compares it with the Parameters.
    """
    wrong = None
    if not isinstance(updates, Mapping) or len(updates) > _MOST_ARRAYS:
        wrong = f"an update is a mapping of at most {_MOST_ARRAYS} names, got {type(updates)}"
    else:
        for name, update in updates.items():
            if not isinstance(name, str) or not isinstance(update, Mapping):
                wrong = f"an update maps names to gradients, got {name!r}: {type(update)}"
            elif set(update) not in ({"grad"}, {"ids", "grad"}):
                wrong = f"the update of '{name}' has {sorted(map(str, update))}"
            elif not all(
                type(array) is np.ndarray and not array.dtype.hasobject and array.ndim <= _MOST_AXES
                for array in update.values()
            ):
                wrong = f"the update of '{name}' holds something else than plain arrays"
            if wrong is not None:
                break
    if wrong is not None:
        raise ParameterServerError(f"the message is not valid: {wrong}.")
