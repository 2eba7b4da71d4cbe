"""Inputs of a Cell as its user describes them beforehand, for MindSpore's shapes of any length."""

from __future__ import annotations

from paramesh.array_types import Tree
from paramesh.tensor.base import Tensor


class DescribedInputs:
    """What Cells have for it.

    MindSpore compiles one program for all lengths of an axis that is described as None. Here each
    shape has a program of its own, which is compiled when it first comes, so that a description
    changes nothing.
    """

    def set_inputs(self, *inputs: Tree, **kwargs: Tree) -> None:
        """Remember descriptions of the inputs of `construct`; of no effect on a program.

        Args:
            *inputs: for each a Tensor, of which shape and element type count, with None for an
                axis of any length: `Tensor(shape=(None, 3), dtype=paramesh.float32)`; or anything
                else that `construct` takes.
            **kwargs: likewise, by name.

        Raises:
            ValueError: none, or both kinds.
        """
        if bool(inputs) == bool(kwargs):
            raise ValueError(
                "set_inputs: describe the inputs by position or by name, got "
                f"{len(inputs)} and {len(kwargs)}."
            )
        self.__dict__["_described"] = inputs or tuple(kwargs.values())

    def get_inputs(self) -> tuple[Tensor, ...] | None:
        """What `set_inputs` was given; None before."""
        return self.__dict__.get("_described")
