"""The operators inside of layers by MindSpore's names, for scripts that give them strategies.

`net.conv.conv2d.shard(...)` says how the convolution of a layer is cut, `bn.bn_train.shard(...)`
how its normalisation is. A layer computes by functions until one of its operators has a strategy;
then it goes through them, as MindSpore's layer does, with the same numbers. Subclasses of layers,
whose `construct` is a changed copy of MindSpore's, call them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paramesh.nn.cell import Cell
from paramesh.ops.table import Primitive


class Inner:
    """An attribute of a layer, most often an operator, made when it is asked for.

    Args:
        make: gives the attribute of a layer.
    """

    def __init__(self, make: Callable[[Any], object]) -> None:
        self._make = make
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, layer: Cell | None, owner: type | None = None) -> Any:
        """The attribute of a layer; on the class, this object."""
        if layer is None:
            return self
        fields = layer.__dict__
        for registry in ("_cells", "_params"):  # a subclass may use the name for its own
            if self._name in fields.get(registry, ()):
                return fields[registry][self._name]
        made = self._make(layer)
        if isinstance(made, Primitive):
            made._called = True  # programs have gone through the layer without it
        fields[self._name] = made
        return made


def sharded(layer: Cell, *names: str) -> bool:
    """Whether one of these operators of a layer has a strategy."""
    for name in names:
        operator = layer.__dict__.get(name)
        if isinstance(operator, Primitive) and operator.sharded:
            return True
    return False
