"""One step of a recurrent layer: what all of them compute, and RNNCell, LSTMCell and GRUCell.

Glossary
    step    the state of the next moment from an input and the present state
    gates   blocks of rows of an LSTM's or GRU's weights: for LSTM input, forget, cell, output; for
            GRU reset, update, new

Sources: Elman 1990, Hochreiter and Schmidhuber 1997, Cho et al. 2014; the arrangement is that of
MindSpore 2.10.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paramesh.dtype import float32, x64
from paramesh.initializer.factory import Uniform
from paramesh.nn import arguments
from paramesh.nn.cell import Cell
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.promotion import broadcasting

State = tuple[Array, ...]

#: The state as a user gives it: a Tensor, for LSTM (hidden, cell).
RecurrentState = TensorLike | tuple[TensorLike, ...] | list[TensorLike]


# Steps: (input's product, state's product, state) -> state. The first array of the state is the
# output.


def _rnn_step(
    activation: Callable[[Array], Array], of_x: Array, of_h: Array, state: State
) -> State:
    return (activation(of_x + of_h),)


def _lstm_step(of_x: Array, of_h: Array, state: State) -> State:
    i, f, g, o = jnp.split(of_x + of_h, 4, -1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru_step(of_x: Array, of_h: Array, state: State) -> State:
    (xr, xz, xn), (hr, hz, hn) = jnp.split(of_x, 3, -1), jnp.split(of_h, 3, -1)
    z = jax.nn.sigmoid(xz + hz)
    new = jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)
    return (new + z * (state[0] - new),)


class Kind(NamedTuple):
    """A step, how many gates its weights have, and how many arrays its state."""

    step: Callable[[Array, Array, State], State]
    gates: int
    states: int


KINDS = {
    "tanh": Kind(functools.partial(_rnn_step, jnp.tanh), 1, 1),
    "relu": Kind(functools.partial(_rnn_step, jax.nn.relu), 1, 1),
    "lstm": Kind(_lstm_step, 4, 2),
    "gru": Kind(_gru_step, 3, 1),
}


class Weights(NamedTuple):
    """The raw values of the Parameters of one layer in one direction."""

    ih: Array
    hh: Array
    bias_ih: Array | None
    bias_hh: Array | None

    def of_x(self, x: Array) -> Array:
        """The product with inputs."""
        return _plus(x @ self.ih.T, self.bias_ih)

    def of_h(self, h: Array) -> Array:
        """The product with a state."""
        return _plus(h @ self.hh.T, self.bias_hh)


def _plus(value: Array, bias: Array | None) -> Array:
    if bias is None:
        return value
    with broadcasting():
        return value + bias


def uniform_weight(owner: str, shape: tuple[int, ...], hidden: int, dtype: DTypeLike) -> Parameter:
    """A weight or bias, uniform on +-1/sqrt(hidden)."""
    start = Uniform(1 / math.sqrt(hidden))
    return arguments.weight(owner, "weight", None, shape, dtype, default=start)


def checked_dtype(owner: str, x: Tensor, weight: Parameter) -> Tensor:
    """The input, refused if it is not of the weight's element type."""
    dtype = wrap(raw(weight)).dtype
    if x.dtype != dtype:
        raise TypeError(f"{owner}: the input is {x.dtype}, {weight} is {dtype}: cast one.")
    return x


def first_state(
    owner: str, hx: RecurrentState | None, count: int, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> State:
    """The raw arrays of a state, zeros for None."""
    if hx is None:
        return tuple(jnp.zeros(shape, dtype) for _ in range(count))
    given = tuple(hx) if isinstance(hx, tuple | list) else (hx,)
    values = tuple(raw(arguments.tensor(owner, array)) for array in given)
    if len(values) != count or any(tuple(value.shape) != shape for value in values):
        wanted = " and ".join([str(shape)] * count)
        raise ValueError(
            f"{owner}: expected a state {wanted}, got {[tuple(v.shape) for v in values]}."
        )
    return tuple(value.astype(dtype) for value in values)


class _Step(Cell):
    """What the cells for single steps share."""

    def __init__(
        self, kind: str, input_size: int, hidden_size: int, has_bias: bool, dtype: DTypeLike
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.kind = kind
        self.input_size = arguments.integer(owner, "input_size", input_size)
        self.hidden_size = arguments.integer(owner, "hidden_size", hidden_size)
        self.has_bias = arguments.flag(owner, "has_bias", has_bias)
        gates = KINDS[self.kind].gates * hidden_size
        self.weight_ih = uniform_weight(owner, (gates, input_size), hidden_size, dtype)
        self.weight_hh = uniform_weight(owner, (gates, hidden_size), hidden_size, dtype)
        self.bias_ih = self.bias_hh = None
        if has_bias:
            self.bias_ih = uniform_weight(owner, (gates,), hidden_size, dtype)
            self.bias_hh = uniform_weight(owner, (gates,), hidden_size, dtype)

    def construct(self, x: TensorLike, hx: RecurrentState | None = None) -> Any:
        """The next state.

        Args:
            x: (n, input_size).
            hx: the present state (n, hidden_size); for LSTM a tuple of two (hidden, cell). None
                for zeros.

        Returns:
            the next state, in the form of `hx`.

        Raises:
            ValueError: shapes that do not fit.
        """
        owner = type(self).__name__
        x = checked_dtype(owner, arguments.tensor(owner, x), self.weight_ih)
        if x.ndim != 2 or x.shape[1] != self.input_size:
            raise ValueError(f"{owner}: expected an input (n, {self.input_size}), got {x.shape}.")
        value = raw(x)
        kind = KINDS[self.kind]
        with x64(value):
            state = first_state(owner, hx, kind.states, (x.shape[0], self.hidden_size), value.dtype)
            biases = [None if b is None else raw(b) for b in (self.bias_ih, self.bias_hh)]
            weights = Weights(raw(self.weight_ih), raw(self.weight_hh), *biases)
            new = kind.step(weights.of_x(value), weights.of_h(state[0]), state)
        return wrap(new[0]) if len(new) == 1 else tuple(map(wrap, new))

    def extend_repr(self) -> str:
        """The settings."""
        return (
            f"input_size={self.input_size}, hidden_size={self.hidden_size}, "
            f"has_bias={self.has_bias}"
        )


class RNNCell(_Step):
    """One step of an `RNN`: (n, input), (n, hidden) -> (n, hidden).

    Args:
        input_size: size of an input.
        hidden_size: size of the state.
        has_bias: whether there are biases.
        nonlinearity: `tanh` or `relu`.
        dtype: element type of the Parameters.

    Weights:
        weight_ih (hidden, input), weight_hh (hidden, hidden), bias_ih, bias_hh (hidden,); uniform
        on +-1/sqrt(hidden_size).

    Raises:
        TypeError: an argument of the wrong type; ValueError: a number or name out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        has_bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: DTypeLike = float32,
    ) -> None:
        kind = arguments.choice("RNNCell", "nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(kind, input_size, hidden_size, has_bias, dtype)


class _GatedCell(_Step):
    """What LSTMCell and GRUCell share: everything but the step, which is named by `kind`."""

    kind: ClassVar[str]

    def __init__(
        self, input_size: int, hidden_size: int, has_bias: bool = True, dtype: DTypeLike = float32
    ) -> None:
        super().__init__(type(self).kind, input_size, hidden_size, has_bias, dtype)


class LSTMCell(_GatedCell):
    """One step of an `LSTM`: (n, input), ((n, hidden), (n, hidden)) -> a pair like the second.

    Args:
        input_size: size of an input.
        hidden_size: size of each part of the state.
        has_bias: whether there are biases.
        dtype: element type of the Parameters.

    Weights:
        weight_ih (4 hidden, input), weight_hh (4 hidden, hidden), bias_ih, bias_hh (4 hidden,);
        uniform on +-1/sqrt(hidden_size).

    Raises:
        TypeError: an argument of the wrong type; ValueError: a number out of range.
    """

    kind: ClassVar[str] = "lstm"


class GRUCell(_GatedCell):
    """One step of a `GRU`: (n, input), (n, hidden) -> (n, hidden).

    Args:
        input_size: size of an input.
        hidden_size: size of the state.
        has_bias: whether there are biases.
        dtype: element type of the Parameters.

    Weights:
        weight_ih (3 hidden, input), weight_hh (3 hidden, hidden), bias_ih, bias_hh (3 hidden,);
        uniform on +-1/sqrt(hidden_size).

    Raises:
        TypeError: an argument of the wrong type; ValueError: a number out of range.
    """

    kind: ClassVar[str] = "gru"
