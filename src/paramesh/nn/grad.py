"""`Jvp` and `Vjp`: a Cell or function with its derivatives, as one Cell.

Source: MindSpore's Cells of these names, which it has deprecated; `paramesh.jvp` and
`paramesh.vjp` are the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paramesh.nn.cell import Cell
from paramesh.tensor.base import Tensor
from paramesh.transforms.derivatives import jvp, vjp

__all__ = ["Jvp", "Vjp"]


class _Derivative(Cell):
    """A function whose derivative is computed in each call; the last argument is a direction."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__()
        if not callable(fn):
            raise TypeError(f"{type(self).__name__}: expected a Cell or a function, got {fn!r}.")
        self.fn = fn

    def _split(self, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
        if len(args) < 2:
            raise TypeError(
                f"{type(self).__name__} takes the function's inputs and then v, got {len(args)} "
                "arguments."
            )
        return args[:-1], args[-1]

    def _directions(self, v: object, count: int, of: str) -> tuple[Any, ...]:
        """`v` as a tuple with a Tensor for each of the inputs or outputs."""
        given = v if isinstance(v, tuple) else (v,)
        alone = count == 1 and isinstance(v, tuple)
        if alone or len(given) != count or not all(isinstance(x, Tensor) for x in given):
            wanted = "a Tensor" if count == 1 else f"a tuple of {count} Tensors"
            raise TypeError(
                f"{type(self).__name__}: v must be {wanted}, one for each {of}, got {v!r}."
            )
        return given


class Jvp(_Derivative):
    """The outputs of a function, and their derivative in a direction: `Jvp(fn)(*inputs, v)`.

    Args:
        fn: a Cell or function of Tensors of float types.

    Raises:
        TypeError: `fn` is not callable; in the call, `v` is not a Tensor like the input, or a
            tuple of one for each of several inputs.
        ValueError: in the call, a Tensor of `v` has another shape than its input.
    """

    def construct(self, *args: object) -> tuple[Any, Any]:
        """(outputs, derivatives), both of the outputs' structure and shapes."""
        inputs, v = self._split(args)
        return jvp(self.fn, inputs, self._directions(v, len(inputs), "input"))


class Vjp(_Derivative):
    """The outputs of a function, and the gradient of their product with v: `Vjp(fn)(*inputs, v)`.

    Args:
        fn: a Cell or function of Tensors of float types.

    Raises:
        TypeError: `fn` is not callable; in the call, `v` is not a Tensor like the output, or a
            tuple of one for each of several outputs.
        ValueError: in the call, a Tensor of `v` has another shape than its output.
    """

    def construct(self, *args: object) -> tuple[Any, Any]:
        """(outputs, gradients): a Tensor for one input, a tuple for several."""
        inputs, v = self._split(args)
        outputs, back = vjp(self.fn, *inputs)
        count = len(outputs) if isinstance(outputs, tuple) else 1
        gradients = back(*self._directions(v, count, "output"))
        return outputs, gradients[0] if len(inputs) == 1 else gradients
