"""MindSpore's class forms of loops: `ops.WhileLoop`, `ops.ForiLoop`, `ops.Scan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paramesh.array_types import Tree
from paramesh.tensor.base import TensorInput, raw, wrap
from paramesh.tensor.trees import is_tensor
from paramesh.transforms.control_flow import fori_loop, scan, while_loop
from paramesh.transforms.loop_values import stacked


class WhileLoop:
    """Class form of `while_loop`."""

    def __call__(
        self, cond_func: Callable[..., Any], loop_func: Callable[..., Any], init_val: Tree
    ) -> Any:
        """`init_val = loop_func(init_val)` as long as `cond_func(init_val)` is true."""
        return while_loop(cond_func, loop_func, init_val)


class ForiLoop:
    """Class form of `fori_loop`."""

    def __call__(
        self,
        lower: TensorInput,
        upper: TensorInput,
        loop_func: Callable[..., Any],
        init_val: Tree,
        unroll: bool = True,
    ) -> Any:
        """`init_val = loop_func(i, init_val)` for i from `lower` to `upper - 1`.

        Args:
            lower: an int or a Tensor.
            upper: an int or a Tensor.
            loop_func: (i, val) -> val.
            init_val: the first val.
            unroll: accepted as in MindSpore: the compiler decides.
        """
        return fori_loop(lower, upper, loop_func, init_val)


class Scan:
    """Class form of `scan`."""

    def __call__(
        self,
        loop_func: Callable[..., Any],
        init: Tree,
        xs: Tree,
        length: int | None = None,
        unroll: bool = True,
    ) -> Any:
        """(the last carry, the ys) of `carry, y = loop_func(carry, x)` for each x of `xs`.

        Args:
            loop_func: (carry, x) -> (carry, y).
            init: the first carry.
            xs: a Tensor, iterated over along its first axis, or a tuple or list of Tensors of one
                shape, iterated over one by one; None with `length`.
            length: number of iterations, if there are no `xs`.
            unroll: accepted as in MindSpore: the compiler decides.
        """
        if isinstance(xs, tuple | list) and xs and all(map(is_tensor, xs)):
            xs = wrap(stacked([raw(x) for x in xs]))
        return scan(loop_func, init, xs, length)
