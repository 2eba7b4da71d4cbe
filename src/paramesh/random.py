"""Random numbers inside programs: generators whose state is a Parameter.

Glossary
    state   (seed, counter) as four 32-bit words, in a Parameter: it is an input and an output
            of compiled programs, so that every step gets other numbers
    key     the key of `jax.random`: a pure function of the state

The key is Threefry (Salmon et al. 2011) of the counter under the seed: no two counters share one,
and the same seed gives the same keys, in eager and in compiled programs alike.
"""

from __future__ import annotations

import operator
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh._compat.jax import check_not_forked, eval_context, threefry_2x32
from paramesh.parameter import Parameter
from paramesh.sampling.seed import follow_seed, get_seed
from paramesh.state import storage, tracing
from paramesh.tensor.base import Tensor, TensorInput, raw
from paramesh.tensor.kept_calls import as_one

_LARGEST_SEED = 2**64 - 1


class Generator:
    """A stream of keys.

    Args:
        seed: from 0 to 2**64 - 1.

    Attributes:
        state: the Parameter (4,) UInt32 that holds the position in the stream.

    Raises:
        TypeError: `seed` is not an int.
        ValueError: `seed` is out of range.
    """

    def __init__(self, seed: int = 0) -> None:
        with eval_context():  # a generator may be made while a program is traced
            self.state = Parameter(_words(seed), name="rng_state", requires_grad=False)
        # Programs of many networks use one stream, and must not wait for each other.
        storage.keep_apart(self.state)
        self._seed = seed

    def next_key(self) -> jax.Array:
        """The next key, for the functions of `jax.random`; moves the stream by one."""
        if tracing.current() is None:  # two threads must not get the same key
            words = storage.inside(self.state, self._advance)
        else:
            words = self._advance()
        return jax.random.wrap_key_data(words, impl="threefry2x32")

    def _advance(self) -> jax.Array:
        check_not_forked()
        words, after = as_one(_advanced, raw(self.state))
        self.state.assign(after)
        return words

    def manual_seed(self, seed: int) -> Generator:
        """Restart the stream from `seed`; returns self.

        Raises:
            TypeError: `seed` is not an int.
            ValueError: `seed` is out of range.
        """
        self.state.assign(_words(seed))
        self._seed = seed
        return self

    def initial_seed(self) -> int:
        """The seed of the stream."""
        return self._seed

    def get_state(self) -> Tensor:
        """The position in the stream, a UInt32 Tensor (4,), for `set_state`."""
        return self.state.value()

    def set_state(self, state: TensorInput) -> None:
        """Continue from a state that `get_state` returned.

        Raises:
            ParameterShapeError: it is not of shape (4,).
        """
        self.state.assign(state)


def _advanced(state: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The words of the key at a position, and the next position."""
    words = threefry_2x32(state[:2], state[2:])
    low = state[3] + jnp.uint32(1)
    high = state[2] + (low == 0).astype(jnp.uint32)
    return words, jnp.stack([state[0], state[1], high, low])


def _words(seed: int) -> np.ndarray[Any, Any]:
    if isinstance(seed, bool):
        raise TypeError(f"seed must be an int, got {seed!r}.")
    number = operator.index(seed)
    if not 0 <= number <= _LARGEST_SEED:
        raise ValueError(f"seed must be an int from 0 to 2**64 - 1, got {number}.")
    return np.array([number >> 32, number & 0xFFFFFFFF, 0, 0], np.uint32)


class _Default:
    """The generator that is used where none is given; created at first use."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.generator: Generator | None = None


_default = _Default()


def default_generator() -> Generator:
    """The generator of the random operators and Dropout."""
    with _default.lock:
        if _default.generator is None:
            _default.generator = Generator(get_seed() or 0)
        return _default.generator


def next_key() -> jax.Array:
    """The next key of the default generator, for the functions of `jax.random`.

    In a compiled program the generator's state is an input and an output of the program, so each
    run gets another key.
    """
    return default_generator().next_key()


def seed(seed: int) -> None:
    """Restart the default generator's stream from `seed`, from 0 to 2**64 - 1.

    `paramesh.set_seed` does so too, and seeds the recipes besides.

    Raises:
        TypeError: `seed` is not an int.
        ValueError: `seed` is out of range.
    """
    default_generator().manual_seed(seed)


def get_rng_state() -> Tensor:
    """The default generator's position in its stream, a UInt32 Tensor (4,)."""
    return default_generator().get_state()


def set_rng_state(state: TensorInput) -> None:
    """Continue the default generator from a state that `get_rng_state` returned."""
    default_generator().set_state(state)


def _follow(seed: int) -> None:
    if _default.generator is not None:
        _default.generator.manual_seed(seed)


follow_seed(_follow)
