"""KVCache: the keys and values of the tokens so far, for decoding one token after the other.

Glossary
    position    how many tokens a row of the batch has had
    slot        a place for one token's key and value; a cache has `length` of them
    overflow    more tokens than slots in a cache that keeps all of them
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from paramesh.array_types import Array
from paramesh.dtype import float32
from paramesh.errors import ParameterStateError
from paramesh.initializer import initializer
from paramesh.nn import arguments
from paramesh.nn.cell import Cell
from paramesh.nn.stack import Stack
from paramesh.parameter import Parameter
from paramesh.state import tracing
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.promotion import cast

KINDS = ("fixed", "ring", "growing")


class KVCache(Cell):
    """The keys and values that attention has seen, kept between calls.

    A call takes those of new tokens, and gives all that the new queries may look at. It works where
    any Cell does: in `jit`, `while_loop`, `scan`, and as a part of a layer in a `stack`, which
    keeps one for each layer.

    `fixed` and `growing` caches keep every token. Tokens beyond the last slot are not kept, and
    what a program computes from then on is NaN: a program cannot raise an error in the middle.
    Reserve slots before; a growing cache does so by itself in PyNative mode. A `ring` keeps the
    last `length` tokens, for attention in a sliding window.

    Args:
        batch: rows of the batch.
        heads: heads of keys and values.
        length: number of slots.
        size: of the key of one head.
        value_size: of the value of one head; None for `size`.
        dtype: element type of what is kept.
        kind: "fixed", "ring" or "growing".
        persistent: whether the contents are among the Cell's Parameters, and so in checkpoints.
            They are state of a run, so by default they are not.

    Attributes:
        keys: Parameter (batch, heads, length, size).
        values: Parameter (batch, heads, length, value_size).
        position: Parameter (batch,) Int32.

    Raises:
        TypeError, ValueError: an argument of another type, or out of range.
    """

    def __init__(
        self,
        batch: int,
        heads: int,
        length: int,
        size: int,
        value_size: int | None = None,
        dtype: DTypeLike = float32,
        kind: str = "fixed",
        persistent: bool = False,
    ) -> None:
        super().__init__()
        given = {"batch": batch, "heads": heads, "length": length, "size": size}
        for name, number in given.items():
            arguments.integer("KVCache", name, number)
        if kind not in KINDS:
            raise ValueError(f"KVCache(kind): expected one of {', '.join(KINDS)}, got {kind!r}.")
        self.kind = kind
        wide = (
            size if value_size is None else arguments.integer("KVCache", "value_size", value_size)
        )
        kept = arguments.element_type("KVCache", dtype)
        state = {
            "keys": initializer("zeros", (batch, heads, length, size), kept),
            "values": initializer("zeros", (batch, heads, length, wide), kept),
            "position": initializer("zeros", (batch,), np.int32),
        }
        self.__dict__["_transient"] = {}
        for name, start in state.items():
            param = Parameter(start, name=name, requires_grad=False)
            if arguments.flag("KVCache", "persistent", persistent):
                self.insert_param_to_cell(name, param)
            else:
                self._transient[name] = self.__dict__[name] = param

    def _reachable_parameters(self) -> list[Parameter]:
        return [self.keys, self.values, self.position]

    @property
    def length(self) -> int:
        """Number of slots."""
        return self.keys.shape[2]

    def construct(
        self, key: TensorLike, value: TensorLike, lengths: TensorLike | None = None
    ) -> tuple[Any, Any, Any]:
        """Keep the keys and values of n new tokens.

        Args:
            key: (batch, heads, n, size).
            value: (batch, heads, n, value_size).
            lengths: (batch,) integers: how many of the tokens each row really has, if the others
                are padding at its end. None: all.

        Returns:
            keys (batch, heads, m, size), values (batch, heads, m, value_size), and a mask
            (batch, 1, n, m) Bool that is True where the new tokens may look: at themselves and what
            came before. m is `length`; of a ring that gets several tokens, `length` + n.

        Raises:
            TypeError: no Tensors. ValueError: shapes that do not fit.
        """
        given = [raw(arguments.tensor("KVCache", part)) for part in (key, value)]
        self._check(*given)
        n = given[0].shape[2]
        start = raw(self.position)
        counts = jnp.full_like(start, n) if lengths is None else raw(Tensor(lengths))
        counts = jnp.clip(cast(counts, self.position.dtype), 0, n)
        if self.kind == "growing":
            self._grow_by_hand(start, n)
        new = [cast(part, p.dtype) for part, p in zip(given, (self.keys, self.values), strict=True)]
        before = [raw(self.keys), raw(self.values)]
        length = before[0].shape[2]
        slots = self._slots(start, counts, n, length)
        rows = jnp.arange(start.shape[0], dtype=jnp.int32)[:, None]
        after = [
            old.at[rows, :, slots].set(jnp.swapaxes(part, 1, 2), mode="drop")
            for old, part in zip(before, new, strict=True)
        ]
        end = start + counts
        self.keys.assign_value(wrap(after[0]))  # it may just have grown, which is not yet in place
        self.values.assign_value(wrap(after[1]))
        self.position.assign(end)
        asking = start[:, None] + jnp.arange(
            n, dtype=jnp.int32
        )  # absolute positions of the queries
        if self.kind == "ring" and n > 1:
            found = [jnp.concatenate(pair, axis=2) for pair in zip(before, new, strict=True)]
            fresh = jnp.where(jnp.arange(n) < counts[:, None], asking, -1)
            held = jnp.concatenate([self._held(start, length), fresh], axis=1)
        else:
            found, held = after, self._held(end, length)
        mask = (held[:, None, :] >= 0) & (held[:, None, :] <= asking[:, :, None])
        if self.kind == "ring":
            mask &= held[:, None, :] > asking[:, :, None] - length
        else:
            over = (end > length)[:, None, None, None]
            found = [_poisoned(over, part) for part in found]
        return wrap(found[0]), wrap(found[1]), wrap(mask[:, None])

    def _check(self, key: TensorLike, value: TensorLike) -> None:
        for name, part, kept in (("key", key, self.keys), ("value", value, self.values)):
            batch, heads, _, size = kept.shape
            shape = tuple(part.shape)
            if len(shape) != 4 or (shape[0], shape[1], shape[3]) != (batch, heads, size):
                raise ValueError(
                    f"KVCache: expected {name} (batch={batch}, heads={heads}, tokens, "
                    f"size={size}), got {shape}."
                )
        if key.shape[2] != value.shape[2]:
            raise ValueError(f"KVCache: key has {key.shape[2]} tokens and value {value.shape[2]}.")

    def _slots(self, start: Array, counts: Array, n: int, length: int) -> Any:
        """Where each new token goes, (batch, n); `length` for one that is not kept."""
        at = jnp.arange(n, dtype=jnp.int32)
        kept = at < counts[:, None]
        slots = start[:, None] + at
        if self.kind == "ring":
            kept &= at >= counts[:, None] - length
            slots = slots % length
        return jnp.where(kept, slots, length)

    def _held(self, end: Array, length: int) -> Any:
        """The position of the token in each slot, (batch, length); below 0 for none."""
        slots = jnp.arange(length, dtype=jnp.int32)
        last = end[:, None] - 1
        if self.kind == "ring":
            return last - (last - slots) % length
        return jnp.where(slots <= last, slots, -1)

    def _grow_by_hand(self, start: TensorLike, n: int) -> None:
        if tracing.current() is not None or not hasattr(start, "addressable_shards"):
            return  # in a program, or a loop
        needed = int(np.max(np.asarray(start))) + n
        length = raw(self.keys).shape[2]
        if needed > length:
            _resize([self.keys, self.values], max(needed, 2 * length))

    def reset(self) -> None:
        """Forget all tokens."""
        self.position.assign(jnp.zeros(self.position.shape, jnp.int32))

    def extend_repr(self) -> str:
        """The sizes."""
        batch, heads, length, size = self.keys.shape
        return f"batch={batch}, heads={heads}, length={length}, size={size}, kind={self.kind!r}"


def _poisoned(over: Array, part: Array) -> Any:
    if not jnp.issubdtype(part.dtype, jnp.floating):
        return part
    return jnp.where(over, jnp.asarray(jnp.nan, part.dtype), part)


def caches_of(net: Cell) -> dict[str, KVCache]:
    """{attribute path: KVCache} of a network; of layers in a stack, the one of the template."""
    return {path: cell for path, cell in net.cells_and_names() if isinstance(cell, KVCache)}


def reset_caches(net: Cell) -> None:
    """Forget the tokens of all caches in a network, in stacks too; before another text begins.

    Raises:
        ValueError: there are none.
    """
    for params in _states(net):
        position = params["position"]
        position.assign(jnp.zeros(position.shape, jnp.int32))


def reserve_caches(net: Cell, tokens: int) -> None:
    """Give all growing caches in a network slots for so many tokens more.

    Programs that use them are compiled again if they grow, to the next power of two.

    Args:
        net: the network.
        tokens: how many are to come, in the row of the batch that has had the most.

    Raises:
        TypeError: no int. ValueError: below 1, or there are no caches.
        ParameterStateError: in a program, or a cache that cannot grow has too few slots.
    """
    if isinstance(tokens, bool) or not isinstance(tokens, int):
        raise TypeError(f"reserve_caches: tokens must be an int, got {tokens!r}.")
    if tokens < 1:
        raise ValueError(f"reserve_caches: tokens must be at least 1, got {tokens}.")
    if tracing.current() is not None:
        raise ParameterStateError(
            "reserve_caches: a program cannot change the size of a cache. Call it before."
        )
    for params in _states(net):
        cache: KVCache = params["cache"]
        if cache.kind == "ring":
            continue
        needed = int(np.max(params["position"].asnumpy())) + tokens
        if needed <= cache.length:
            continue
        if cache.kind == "fixed":
            raise ParameterStateError(
                f"reserve_caches: a cache has {cache.length} slots and needs {needed}. Make it "
                "longer, or kind='growing'."
            )
        wanted = 1 << (needed - 1).bit_length()
        _resize([params["keys"], params["values"]], wanted)
        if params["keys"] is not cache.keys:  # those of a layer in a stack
            _resize([cache.keys, cache.values], wanted)


def _states(net: Cell) -> list[dict[str, Any]]:
    """For each cache the Parameters that hold its state: those of the stack, in a stack."""
    places: dict[Parameter, Parameter] = {}
    for _, cell in net.cells_and_names():
        if isinstance(cell, Stack):
            places |= cell._places
    found = []
    for cache in caches_of(net).values():
        states: dict[str, Any] = {"cache": cache}
        for name in ("keys", "values", "position"):
            param = getattr(cache, name)
            while param in places:
                param = places[param]
            states[name] = param
        found.append(states)
    if not found:
        raise ValueError(f"{type(net).__name__} has no KVCache.")
    return found


def _resize(params: list[Parameter], length: int) -> None:
    for param in params:
        value = raw(param)
        more = [(0, 0)] * value.ndim
        more[-2] = (0, length - value.shape[-2])
        param.assign_value(Tensor(wrap(jnp.pad(value, more))))
