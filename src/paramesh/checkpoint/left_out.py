"""The warning about Parameters that were not loaded or transformed, with all their names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from paramesh.nn.cell import Cell
from paramesh.nn.tied import alike, other_names
from paramesh.parameter import Parameter


class LeftOutWarning(UserWarning):
    """Parameters of a checkpoint were left out, since their names or shapes do not fit."""


def warn_of(source: str, net: Cell, lines: Sequence[str]) -> None:
    """Warn of what `strict_load=False` did not load.

    Args:
        source: the checkpoint, for the message.
        net: what it was loaded into.
        lines: one for each Parameter, as the error of strict loading has them.
    """
    if lines:
        warnings.warn(
            f"{source} does not fit {type(net).__name__}; strict_load=False left out:\n"
            + "\n".join(lines),
            LeftOutWarning,
            stacklevel=4,
        )


def under_own_names(
    net: Cell, mine: Mapping[str, Parameter], given: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """The values to load, with shared Parameters under their own names instead of their aliases.

    Args:
        net: the network.
        mine: its Parameters by name.
        given: the values to load.
        source: the checkpoint, for the warning that both names have values, which differ.
    """
    found = dict(given)
    strange = [name for name, value in given.items() if isinstance(value, Parameter)]
    strange = [name for name in strange if name not in mine]
    others = other_names(net) if strange else {}
    differ: list[str] = []
    for name in strange:
        param = others.get(name)
        if param is None or mine.get(param.name) is not param:
            continue
        value = found.pop(name)
        kept = found.setdefault(param.name, value)
        if kept is not value and not alike(kept._concrete(), value._concrete()):
            differ.append(f"  '{name}' is not loaded, '{param.name}' is")
    if differ:
        warnings.warn(
            f"{source} has both names of Parameters that {type(net).__name__} shares, with "
            "different values:\n" + "\n".join(differ),
            LeftOutWarning,
            stacklevel=4,
        )
    return found
