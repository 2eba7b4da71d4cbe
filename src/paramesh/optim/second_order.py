"""THOR: a second-order optimizer, whose layers keep factors of their curvature.

Source: Chen et al., "THOR, Trace-based Hardware-driven Layer-oriented Natural Gradient Descent
Computation" (2021), in the form that MindSpore computes on an Ascend, in Float32 and without that
form's scaling by the largest elements.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paramesh import context
from paramesh.nn.cell import Cell
from paramesh.nn.normalization import LayerNorm
from paramesh.nn.second_order import (
    Conv2dThor,
    EmbeddingThor,
    SecondOrder,
    keep_factors_of,
)
from paramesh.optim import checks
from paramesh.optim.optimizer import Gradients, Optimizer, store, work
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.tensor.base import Tensor, raw

#: The norm that `enable_clip_grad` leaves to a gradient.
_LONGEST = 1.0


def _inverse(factor: Array, damping: Array) -> Array:
    """The inverse of each block with the damping on its diagonal."""
    damped = factor + damping * jnp.eye(factor.shape[-1], dtype=factor.dtype)
    lower = jnp.linalg.cholesky(damped)
    eye = jnp.broadcast_to(jnp.eye(factor.shape[-1], dtype=factor.dtype), factor.shape)
    half = jax.lax.linalg.triangular_solve(lower, eye, left_side=True, lower=True)
    return jnp.einsum("bki,bkj->bij", half, half, precision="highest")


def _times(values: Array, factor: Array) -> Array:
    """(n, size) times the matrix that has these blocks on its diagonal, and nothing else."""
    count, side, _ = factor.shape
    size = values.shape[1]
    parts = jnp.pad(values, ((0, 0), (0, count * side - size))).reshape(-1, count, side)
    done = jnp.einsum("nbi,bij->nbj", parts, factor, precision="highest")
    return done.reshape(-1, count * side)[:, :size]


class Thor(Optimizer):
    """What `thor` returns.

    With A and G the factors of a layer (see `nn/second_order.py`), B the batch size and L the loss
    scale, the gradient g of its weight becomes

        (G B^2 / L^2 + sqrt(damping) I)^-1 g (A + sqrt(damping) I)^-1

    where the inverses are those of the blocks of 128. Of a convolution both dampings are
    `sqrt(damping B / rows)`, and the result is multiplied by `B / rows`, with rows = B times the
    places of its output. Of an embedding A is diagonal, and divided by B. The scale and offset of a
    LayerNorm have `g / (g^2 / B + sqrt(damping))`; other Parameters their gradient. Weight decay is
    added to that, and Momentum makes the step.

    Args: see `thor`.
    """

    #: Every so many updates the inverses are made anew.
    every = 1

    def __init__(
        self,
        net: Cell,
        learning_rate: Tensor,
        damping: Tensor,
        momentum: float,
        weight_decay: float,
        loss_scale: float,
        batch_size: int | float,
        use_nesterov: bool,
        decay_filter: Callable[[Parameter], bool],
        enable_clip_grad: bool,
        frequency: int,
    ) -> None:
        name = "thor"
        for what, value in (("learning_rate", learning_rate), ("damping", damping)):
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"{name}: {what} must be a Tensor, got {type(value).__name__}: of shape "
                    "(steps,), with a value for each step, or ()."
                )
        mode = context.get_auto_parallel_context("parallel_mode")
        if mode != "stand_alone":
            raise NotImplementedError(
                f"{name}: parallel_mode={mode!r}: the factors of layers are of one device's rows. "
                "Use 'stand_alone', or another optimizer."
            )
        # All of it is checked before the layers of the network are changed.
        frequency = checks.integer(name, "frequency", frequency, low=2)
        use_nesterov = checks.boolean(name, "use_nesterov", use_nesterov)
        enable_clip_grad = checks.boolean(name, "enable_clip_grad", enable_clip_grad)
        batch_size = checks.positive(name, "batch_size", batch_size, allow_int=True)
        decay = checks.not_negative(name, "weight_decay", weight_decay, allow_int=True)
        momentum = checks.not_negative(name, "momentum", momentum, allow_int=False)
        flags = {id(p): bool(decay_filter(p)) for p in net.trainable_params()}
        super().__init__(learning_rate, net.trainable_params(), 0.0, loss_scale)
        layers = keep_factors_of(net)
        self.frequency = frequency
        self.use_nesterov = use_nesterov
        self.enable_clip_grad = enable_clip_grad
        self.batch_size = batch_size
        self.decay = decay
        self.decay_flags = tuple(flags[id(param)] for param in self._parameters)
        self.damping = damping
        by_weight = {id(layer.trained()): layer for layer in layers}
        #: The layer of each Parameter; None: none that keeps factors.
        self.__dict__["_layers"] = [by_weight.get(id(param)) for param in self._parameters]
        norms = [cell for _, cell in net.cells_and_names() if isinstance(cell, LayerNorm)]
        of_norms = {id(param) for cell in norms for param in cell.get_parameters()}
        self.__dict__["_of_norms"] = [id(param) in of_norms for param in self._parameters]
        self.add_state("momentum", Parameter(momentum, name="momentum"))
        self.add_state("moments", self._parameters.clone("moments", "zeros"))
        inverses: dict[str, list[Parameter]] = {"matrix_a_inv": [], "matrix_g_inv": []}
        for nth, layer in enumerate(each for each in self._layers if each is not None):
            for what, kept in (("matrix_a_inv", layer.matrix_a), ("matrix_g_inv", layer.matrix_g)):
                zeros = Tensor(np.zeros(kept.shape, np.float32))
                param = Parameter(zeros, name=f"{what}_{nth}", requires_grad=False)
                inverses[what].append(param)
        for what, params in inverses.items():
            if params:
                self.add_state(what, ParameterTuple(params))

    def get_frequency(self) -> int:
        """The argument `frequency`."""
        return self.frequency

    def use_frequency(self) -> None:
        """Make the inverses anew every `frequency` updates from now on, the next one first."""
        self.every = self.frequency

    def _cache_key(self) -> tuple[Hashable, ...]:
        return (*super()._cache_key(), self.every)

    def construct(self, gradients: Gradients) -> tuple[bool, ...]:
        """One update.

        Args:
            gradients: a tuple of float Tensors in the order of `parameters`, right after the
                backward pass that gave them.

        Returns:
            True for each Parameter, as in MindSpore.
        """
        grads = [raw(gradient) for gradient in self.scale_grad(gradients)]
        step = raw(self.global_step).reshape(())
        dampings = raw(self.damping).astype(jnp.float32).reshape(-1)
        damping = dampings[jnp.minimum(step, dampings.size - 1)]
        inverses = self._inverses(damping, step)
        nth = 0
        for i, layer in enumerate(self._layers):
            if layer is not None:
                grads[i] = self._preconditioned(layer, grads[i], *inverses[nth])
                nth += 1
            elif self._of_norms[i]:
                grads[i] = grads[i] / (grads[i] ** 2 / self.batch_size + jnp.sqrt(damping))
        self._step(grads)
        self.global_step.assign(self.global_step + 1)
        return (True,) * len(grads)

    def _inverses(self, damping: Array, step: Array) -> list[tuple[Array, Array]]:
        layers = [layer for layer in self._layers if layer is not None]
        if not layers:
            return []
        old = [(raw(a), raw(g)) for a, g in zip(self.matrix_a_inv, self.matrix_g_inv, strict=True)]
        factors = [(raw(layer.matrix_a), raw(layer.matrix_g)) for layer in layers]

        def anew() -> list[tuple[Array, Array]]:
            return [
                self._inverted(layer, a, g, damping)
                for layer, (a, g) in zip(layers, factors, strict=True)
            ]

        new = anew() if self.every == 1 else jax.lax.cond(step % self.every == 0, anew, lambda: old)
        for i, (a, g) in enumerate(new):
            store(self.matrix_a_inv[i], a)
            store(self.matrix_g_inv[i], g)
        return new

    def _share(self, layer: SecondOrder) -> Any:
        """B / rows: 1 but for a convolution."""
        return 1.0 / raw(layer.places)[0] if isinstance(layer, Conv2dThor) else 1.0

    def _inverted(
        self, layer: SecondOrder, a: Array, g: Array, damping: Array
    ) -> tuple[Array, Array]:
        added = jnp.sqrt(damping * self._share(layer))
        g = g * (self.batch_size / self.loss_scale) ** 2
        if isinstance(layer, EmbeddingThor):
            return 1.0 / (a / self.batch_size + added), _inverse(g, added)
        return _inverse(a, added), _inverse(g, added)

    def _preconditioned(self, layer: SecondOrder, grad: Array, a: Array, g: Array) -> Array:
        if isinstance(layer, EmbeddingThor):
            return _times(a[:, None] * grad, g)
        flat = grad.reshape(grad.shape[0], -1)
        done = _times(_times(flat, a).T, g).T  # the blocks of g are symmetric
        return (done * self._share(layer)).reshape(grad.shape)

    def _step(self, grads: Sequence[Array]) -> None:
        momentum, rates = raw(self.momentum), self._rates()
        for param, moment, grad, rate, decays in zip(
            self._parameters, self.moments, grads, rates, self.decay_flags, strict=True
        ):
            if self.decay > 0 and decays:
                grad = grad + self.decay * work(param)
            if self.enable_clip_grad:
                grad = grad * jnp.minimum(1.0, _LONGEST / jnp.linalg.norm(grad.reshape(-1)))
            new = momentum * work(moment) + grad
            store(moment, new)
            store(param, work(param) - rate * (grad + momentum * new if self.use_nesterov else new))


def thor(
    net: Cell,
    learning_rate: Tensor,
    damping: Tensor,
    momentum: float,
    weight_decay: float = 0.0,
    loss_scale: float = 1.0,
    batch_size: int | float = 32,
    use_nesterov: bool = False,
    decay_filter: Callable[[Parameter], bool] = lambda param: True,
    split_indices: object = None,
    enable_clip_grad: bool = False,
    frequency: int = 100,
) -> Thor:
    """THOR over a network, whose layers keep factors of their curvature from then on.

    Args:
        net: the network; its `Dense`, `Conv2d` of one group and `Embedding` become `DenseThor`,
            `Conv2dThor` and `EmbeddingThor`.
        learning_rate: a Float32 Tensor of shape (steps,) or ().
        damping: what is added to the factors' diagonals: a Float32 Tensor of shape (steps,) or ();
            after its end the last one stays.
        momentum: a float of at least 0.
        weight_decay: at least 0; added to the gradient after the factors.
        loss_scale: of the loss; gradients are divided by it.
        batch_size: samples in a batch.
        use_nesterov: look ahead by one step of the momentum.
        decay_filter: whether a Parameter has weight decay; by default all have.
        split_indices: MindSpore's grouping of messages; of no effect.
        enable_clip_grad: scale each gradient to a norm of at most 1.
        frequency: with `ConvertModelUtils.convert_to_thor_model`, inverses are made anew every so
            many steps; without it, in each.

    Raises:
        TypeError, ValueError: an argument of another type, or out of range.
        NotImplementedError: a parallel mode.
    """
    return Thor(
        net, learning_rate, damping, momentum, weight_decay, loss_scale, batch_size, use_nesterov,
        decay_filter, enable_clip_grad, frequency,
    )  # fmt: skip
