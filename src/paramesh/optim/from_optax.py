"""`from_optax`: any optax transformation as an optimizer, its state as named Parameters.

Glossary
    leaf    one array of the transformation's state
    word    the name of a nested state in the names of leaves: `ScaleByAdamState` is `adam`

A leaf is named by the words and fields that lead to it: `adam.mu.fc1.weight`, `adam.count`. Two
nested states of one word are distinguished by numbers: `trace`, `trace_1`.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
import optax

from paramesh._compat.jax import Atom, Jaxpr
from paramesh.array_types import Tree
from paramesh.dtype import DType, to_dtype, x64
from paramesh.errors import OptimizerError
from paramesh.initializer.factory import initializer
from paramesh.optim.groups import Parameters, WeightDecay
from paramesh.optim.optax_extras import extras, plain, without_typed_keys
from paramesh.optim.optimizer import Gradients, Optimizer, store, work
from paramesh.optim.rates import LearningRate
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.state import tracing
from paramesh.tensor.base import Tensor, raw

#: What `from_optax` takes; the second kind gets more arguments in `update`.
Transformation = optax.GradientTransformation | optax.GradientTransformationExtraArgs

_MISSING = re.compile(r"missing \d+ required keyword-only arguments?: (.+)")
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class OptaxOptimizer(Optimizer):
    """An optax transformation over Parameters; made by `from_optax`."""

    keeps_frozen = True

    def __init__(
        self,
        transform: Transformation,
        params: Parameters,
        learning_rate: LearningRate | None = None,
        weight_decay: WeightDecay = 0.0,
        loss_scale: float = 1.0,
    ) -> None:
        if not is_transformation(transform):
            raise TypeError(
                "from_optax takes an optax transformation such as optax.adam(1e-3), "
                f"got {type(transform).__name__}."
            )
        self_rate = 0.0 if learning_rate is None else learning_rate
        super().__init__(self_rate, params, weight_decay, loss_scale)
        self.scaled = learning_rate is not None
        if not self.scaled:  # the rate is inside the transformation
            if self.is_group_lr:
                raise OptimizerError(
                    "from_optax: groups have learning rates, but the optax transformation has its "
                    "own. Give one without a rate, and learning_rate=."
                )
            for names in (self._params, self._by_name, self.__dict__):
                names.pop("learning_rate", None)
        found = plain(transform)
        self.takes_loss = isinstance(found, optax.GradientTransformationExtraArgs)
        self.transform: Any = without_typed_keys(optax.with_extra_args_support(found))
        self._names = tuple(p.name for p in self._parameters)
        structs = {
            p.name: jax.ShapeDtypeStruct(p.shape, _working(p.dtype)) for p in self._parameters
        }
        with x64(*(p.dtype for p in self._parameters)):
            leaves, self._tree, self._state_of = self._leaves(structs)
        self.add_state("state", ParameterTuple(leaves))

    def _leaves(
        self, structs: dict[str, Any]
    ) -> tuple[list[Parameter], Any, tuple[str | None, ...]]:
        """The state, how it is arranged, and the names of the Parameters that its leaves are of."""
        closed, shapes = jax.make_jaxpr(self.transform.init, return_shape=True)(structs)
        flat, tree = jax.tree_util.tree_flatten_with_path(shapes)
        names = leaf_names(shapes, [path for path, _ in flat])
        constants = [_constant(closed.jaxpr, out) for out in closed.jaxpr.outvars]
        if None in constants:  # some leaves depend on the Parameters, or are not constant
            values = jax.tree.leaves(self.transform.init(self._values()))
        else:
            values = constants
        by_name = {p.name: p for p in self._parameters}
        leaves: list[Parameter] = []
        state_of: list[str | None] = []
        for name, (path, leaf), constant, value in zip(names, flat, constants, values, strict=True):
            start = Tensor(jnp.array(value, leaf.dtype)) if constant is None else constant
            trained = by_name.get(getattr(path[-1], "key", None)) if path else None
            state_of.append(None if trained is None else trained.name)
            if trained is not None and (trained.shape, trained.dtype) == _kind(leaf):
                leaf_state = trained.clone(start)
                leaf_state.name = name
                leaf_state._original = weakref.ref(trained)  # whose layout it follows
            else:
                leaf_state = Parameter(
                    initializer(start, leaf.shape, to_dtype(leaf.dtype)), name=name
                )
            leaves.append(leaf_state)
        return leaves, tree, tuple(state_of)

    def _values(self) -> dict[str, Any]:
        return {name: work(p) for name, p in zip(self._names, self._parameters, strict=True)}

    def construct(self, gradients: Gradients, **extra: Tree) -> tuple[bool, ...]:
        """One update.

        Args:
            gradients: a tuple of float Tensors in the order of `parameters`.
            extra: for transformations that take more: `value`, and of line searches `value_fn`, a
                function that gives the loss: of a dict by names, or of nothing, which reads the
                Parameters. What it writes is dropped. `grad` is `gradients` if it is not given.

        Returns:
            True for each Parameter.
        """
        with x64(*(p.dtype for p in self._parameters)):
            grads = self.gradients_centralization(self.decay_weight(gradients))
            grads = self.scale_grad(grads)
            values = self._values()
            state = jax.tree.unflatten(self._tree, [raw(p) for p in self.state])
            given = dict(zip(self._names, map(raw, grads), strict=True))
            frozen = {self._names[i] for i in self.frozen()}
            given |= {name: jnp.zeros_like(given[name]) for name in frozen}
            extra = extras(extra, given, dict(zip(self._names, self._parameters, strict=True)))
            updates: dict[str, jax.Array]
            try:
                updates, state = self.transform.update(given, state, values, **extra)  # type: ignore[assignment]
            except TypeError as error:
                missing = _MISSING.search(str(error))
                if missing is None:
                    raise
                raise TypeError(
                    f"from_optax: this transformation needs {missing[1]} besides the gradients: "
                    "optimizer(gradients, value=loss, value_fn=function_of_no_arguments). "
                    "TrainOneStepCell and Model give them, but not in data or hybrid parallel."
                ) from None
            rates = self._rates() if self.scaled else [None] * len(self._names)
            for name, param, rate in zip(self._names, self._parameters, rates, strict=True):
                update = updates[name] if rate is None else -rate * updates[name]
                if name not in frozen:
                    store(param, values[name] + update)
            new = jax.tree.leaves(state)
            if len(new) != len(self.state):
                raise OptimizerError(
                    f"from_optax: the state had {len(self.state)} arrays and came back with "
                    f"{len(new)}; a transformation must keep the structure of its state."
                )
            for param, of, value in zip(self.state, self._state_of, new, strict=True):
                if of not in frozen:
                    store(param, jnp.asarray(value))
            tracing.write(self.global_step, raw(self.global_step) + np.int32(1))
        return (True,) * len(self._names)

    def get_lr(self) -> Any:
        """As `Optimizer.get_lr`.

        Raises:
            OptimizerError: the rate is inside the transformation.
        """
        self._need_rate()
        return super().get_lr()

    def get_lr_parameter(self, param: Parameter | Sequence[Parameter]) -> Any:
        """As `Optimizer.get_lr_parameter`.

        Raises:
            OptimizerError: the rate is inside the transformation.
        """
        self._need_rate()
        return super().get_lr_parameter(param)

    def _need_rate(self) -> None:
        if not self.scaled:
            raise OptimizerError(
                "from_optax: the learning rate is inside the optax transformation. To see and "
                "change it, give one without, e.g. from_optax(optax.scale_by_adam(), params, "
                "learning_rate=1e-3)."
            )


def is_transformation(value: object) -> TypeGuard[Transformation]:
    """Whether something has the functions of an optax transformation, and is no optimizer."""
    parts = (getattr(value, name, None) for name in ("init", "update"))
    return not isinstance(value, Optimizer) and all(map(callable, parts))


def from_optax(
    transform: Transformation,
    params: Parameters,
    learning_rate: LearningRate | None = None,
    weight_decay: WeightDecay = 0.0,
    loss_scale: float = 1.0,
) -> OptaxOptimizer:
    """An optax transformation as an optimizer.

    Its state are Parameters named after where they stand in it, such as `adam.mu.fc1.weight`. They
    are weightless until the first update, unless they start from the Parameters' values.

    Args:
        transform: e.g. `optax.adamw(1e-3)`, or a chain. It sees the Parameters as a dict by name.
            Of `optax.lookahead` the Parameters are the fast ones.
        params: Parameters or groups, see `Optimizer`.
        learning_rate: None if `transform` has it; otherwise see `Optimizer`: what `transform`
            returns is then a direction, of which the rate's multiple is subtracted.
        weight_decay: see `Optimizer`; the decay is added to the gradient.
        loss_scale: see `Optimizer`.

    Raises:
        TypeError: `transform` is not a transformation; otherwise as `Optimizer`.
    """
    return OptaxOptimizer(transform, params, learning_rate, weight_decay, loss_scale)


def _working(dtype: DType) -> np.dtype[Any]:
    return np.dtype(np.float32) if dtype.itemsize < 4 else dtype.np_dtype


def _kind(leaf: jax.ShapeDtypeStruct) -> tuple[tuple[int, ...], DType]:
    return tuple(leaf.shape), to_dtype(leaf.dtype)


def _constant(jaxpr: Jaxpr, out: Atom) -> Any:
    """The number that an output of `init` is filled with, or None if that cannot be seen."""
    if hasattr(out, "val"):
        return _number(out)
    for eqn in jaxpr.eqns:
        if out not in eqn.outvars:
            continue
        if eqn.primitive.name == "broadcast_in_dim":
            return _number(eqn.invars[0])
        inner = eqn.params.get("jaxpr")
        if inner is not None and not eqn.invars:
            inner = getattr(inner, "jaxpr", inner)
            return _constant(inner, inner.outvars[list(eqn.outvars).index(out)])
    return None


def _number(var: Atom) -> Any:
    value = getattr(var, "val", None)
    return None if value is None or np.ndim(value) else np.asarray(value).item()


def leaf_names(state: Tree, paths: list[Any]) -> list[str]:
    """Names for the leaves of an optax state, from the types and fields on their paths."""
    words: dict[tuple[Any, ...], str] = {}
    used: dict[tuple[str, str], int] = {}
    names: list[str] = []
    for path in paths:
        node, parts = state, list[str]()
        for depth, key in enumerate(path):
            here = path[:depth]
            if hasattr(node, "_fields"):
                if here not in words:
                    word, above = _word(type(node).__name__), ".".join(parts)
                    count = used.get((above, word), 0)
                    used[above, word] = count + 1
                    words[here] = f"{word}_{count}" if count else word
                parts.append(words[here])
            node, part = _step(node, key)
            if part is not None:
                parts.append(part)
        names.append(".".join(parts) or "state")
    return _distinguished(names)


def _distinguished(names: list[str]) -> list[str]:
    """Numbers after names that several leaves have, such as the arrays of a list."""
    several = {name for name in names if names.count(name) > 1}
    counts: dict[str, int] = dict.fromkeys(several, 0)
    found: list[str] = []
    for name in names:
        if name in several:
            counts[name] += 1
            name = f"{name}.{counts[name] - 1}"
        found.append(name)
    return found


def _step(node: Any, key: Any) -> tuple[Any, str | None]:
    if isinstance(key, jax.tree_util.GetAttrKey):
        return getattr(node, key.name), key.name
    if isinstance(key, jax.tree_util.DictKey):
        return node[key.key], str(key.key)
    if isinstance(key, jax.tree_util.SequenceKey):
        return node[key.idx], None
    return None, str(key).strip(".[]'\"")


def _word(name: str) -> str:
    words = _CAPITAL.sub("_", name.removesuffix("State").removeprefix("ScaleBy"))
    return (words or name).lower()
