"""Layers that keep what THOR needs to know of them: `DenseThor`, `Conv2dThor`, `EmbeddingThor`.

THOR (Chen et al. 2020) is a second-order optimizer after K-FAC (Martens & Grosse 2015): it takes
the curvature of a layer for the Kronecker product of two small matrices, its factors.

Glossary
    rows        of a layer: what its weight multiplies, one for each sample (and place of an image)
    matrix_a    the mean of a^T a over the rows a
    matrix_g    the mean of d^T d over the gradients d of the outputs before bias and activation
    block       a square of at most 128 on the diagonal of a factor; the rest of it is not used, as
                in MindSpore, and not kept
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paramesh.dtype import float32
from paramesh.nn.arguments import Init
from paramesh.nn.basic import Dense
from paramesh.nn.cell import Cell
from paramesh.nn.conv import Conv2d
from paramesh.nn.embedding import Embedding
from paramesh.ops.table import Primitive
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.transforms import kept_gradients

#: The largest block.
BLOCK = 128

kept_gradients.expect()


def blocks(size: int) -> tuple[int, int]:
    """(how many, how large) the blocks of a factor of a size are."""
    return -(-size // BLOCK), min(size, BLOCK)


def _factor(rows: Array) -> Array:
    """(n, size) -> (blocks, block, block): the blocks of the mean of row^T row."""
    rows = rows.astype(jnp.float32)
    count, side = blocks(rows.shape[1])
    rows = jnp.pad(rows, ((0, 0), (0, count * side - rows.shape[1])))
    parts = rows.reshape(-1, count, side)
    return jnp.einsum("nbi,nbj->bij", parts, parts, precision="highest") / rows.shape[0]


def _channels_last(value: Array, axis: int) -> Array:
    return jnp.moveaxis(value, axis, -1).reshape(-1, value.shape[axis])


@jax.custom_vjp
def _noting(value: Array, kept: Array) -> Array:
    """The value; the gradient of `kept` is the factor of the gradient of the last axis."""
    return value


def _noting_forward(value: Array, kept: Array) -> tuple[Array, None]:
    return value, None


def _noting_backward(_: None, gradient: Array) -> tuple[Array, Array]:
    return gradient, _factor(_channels_last(gradient, -1))


_noting.defvjp(_noting_forward, _noting_backward)


class SecondOrder(Cell):
    """What these layers share: the two factors, beside the weight."""

    matrix_a: Parameter
    matrix_g: Parameter

    def _sizes_of_factors(self) -> tuple[int, int]:
        """Of `matrix_a` and `matrix_g`."""
        raise NotImplementedError

    def trained(self) -> Parameter:
        """The weight that the factors are of."""
        raise NotImplementedError

    def keep_factors(self) -> None:
        """Make the Parameters of the factors: of zeros, named beside the weight."""
        weight = self.trained()
        prefix = weight.name.rpartition(".")[0]
        for name, size in zip(("matrix_a", "matrix_g"), self._sizes_of_factors(), strict=True):
            count, side = blocks(size)
            full = f"{prefix}.{name}" if prefix else name
            zeros = np.zeros((count, side, side), np.float32)
            param = Parameter(Tensor(zeros), name=full, requires_grad=False)
            setattr(self, name, param)
        kept_gradients.keep_gradient(self.matrix_g)

    def _note_rows(self, rows: Array) -> None:
        self.matrix_a.assign(wrap(jax.lax.stop_gradient(_factor(rows))))

    def _note_gradient(self, out: Tensor, axis: int = -1) -> Tensor:
        """The outputs, whose gradients `matrix_g` is of."""
        last = jnp.moveaxis(raw(out), axis, -1)
        return wrap(jnp.moveaxis(_noting(last, raw(self.matrix_g)), -1, axis))


class DenseThor(SecondOrder, Dense):
    """`Dense`, with the factors of its curvature.

    Args: as `Dense`.

    Weights:
        weight, bias: as `Dense`.
        matrix_a, matrix_g: blocks of the factors, (n, size, size); not trained.

    Raises:
        TypeError, ValueError, KeyError: as `Dense`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        weight_init: Init = None,
        bias_init: Init = None,
        has_bias: bool = True,
        activation: str | Cell | Primitive | None = None,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__(
            in_channels, out_channels, weight_init, bias_init, has_bias, activation, dtype
        )
        self.keep_factors()

    def trained(self) -> Parameter:
        """The weight."""
        return self.weight

    def _sizes_of_factors(self) -> tuple[int, int]:
        return self.in_channels, self.out_channels

    def _product(self, x: Tensor) -> Tensor:
        self._note_rows(_channels_last(raw(x), -1))
        return self._note_gradient(super()._product(x))


class Conv2dThor(SecondOrder, Conv2d):
    """`Conv2d` of one group, with the factors of its curvature.

    Args: as `Conv2d`.

    Weights:
        weight, bias: as `Conv2d`.
        matrix_a, matrix_g: blocks of the factors, (n, size, size); not trained.
        places: (1,): height times width of the last output; not trained.

    Raises:
        TypeError, ValueError: as `Conv2d`.
        NotImplementedError: several groups, or channels last.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        pad_mode: str = "same",
        padding: int | tuple[int, int, int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        group: int = 1,
        has_bias: bool = False,
        weight_init: Init = None,
        bias_init: Init = None,
        data_format: str = "NCHW",
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, pad_mode, padding, dilation, group,
            has_bias, weight_init, bias_init, data_format, dtype,
        )  # fmt: skip
        if not _is_plain(self):
            raise NotImplementedError(
                f"Conv2dThor: group={self.group}, data_format={self.data_format!r}: only one group "
                "with NCHW is supported."
            )
        self.keep_factors()

    def trained(self) -> Parameter:
        """The weight."""
        return self.weight

    def keep_factors(self) -> None:
        """As of the other layers; and how many places an output has."""
        super().keep_factors()
        name = self.matrix_a.name.replace("matrix_a", "places")
        one = Tensor(np.ones(1, np.float32))
        self.places = Parameter(one, name=name, requires_grad=False)

    def _sizes_of_factors(self) -> tuple[int, int]:
        height, width = self.kernel_size
        return self.in_channels * height * width, self.out_channels

    def construct(self, x: TensorLike) -> Tensor:
        """As `Conv2d`.

        Raises:
            ValueError, TypeError: as `Conv2d`.
        """
        out = super().construct(x)
        self.places.assign(Tensor(np.array([np.prod(out.shape[2:])], np.float32)))
        given = self.padding
        top, bottom, left, right = given if isinstance(given, tuple) else (given,) * 4
        patches = jax.lax.conv_general_dilated_patches(
            raw(x),
            self.kernel_size,
            self.stride,
            [(top, bottom), (left, right)] if self.pad_mode == "pad" else self.pad_mode.upper(),
            rhs_dilation=self.dilation,
        )
        self._note_rows(_channels_last(patches, 1))
        return self._note_gradient(out, 1)


class EmbeddingThor(SecondOrder, Embedding):
    """`Embedding`, with the factors of its curvature.

    Args: as `Embedding`.

    Weights:
        embedding_table: as `Embedding`.
        matrix_a: (vocab_size,): how often each row was read; not trained.
        matrix_g: blocks of the factor, (n, size, size); not trained.

    Raises:
        TypeError, ValueError: as `Embedding`.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        use_one_hot: bool = False,
        embedding_table: Init = "normal",
        dtype: DTypeLike = float32,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(
            vocab_size, embedding_size, use_one_hot, embedding_table, dtype, padding_idx
        )
        self.keep_factors()

    def trained(self) -> Parameter:
        """The table."""
        return self.embedding_table

    def keep_factors(self) -> None:
        """As of the other layers; `matrix_a` is diagonal."""
        super().keep_factors()
        name = self.matrix_a.name
        zeros = Tensor(np.zeros(self.vocab_size, np.float32))
        self.matrix_a = Parameter(zeros, name=name, requires_grad=False)

    def _sizes_of_factors(self) -> tuple[int, int]:
        return 1, self.embedding_size

    def construct(self, ids: TensorLike) -> Tensor:
        """As `Embedding`.

        Raises:
            TypeError: as `Embedding`.
        """
        counts = jnp.zeros(self.vocab_size, jnp.float32).at[raw(ids).reshape(-1)].add(1.0)
        self.matrix_a.assign(wrap(counts))
        return self._note_gradient(super().construct(ids))


def _is_plain(cell: Conv2d) -> bool:
    return cell.group == 1 and cell.data_format == "NCHW"


_KINDS: dict[type[Cell], type[SecondOrder]] = {
    Dense: DenseThor,
    Conv2d: Conv2dThor,
    Embedding: EmbeddingThor,
}


def keep_factors_of(network: Cell) -> list[SecondOrder]:
    """Let the layers of a network keep their factors; those that do.

    `Dense`, `Conv2d` of one group and `Embedding` become `DenseThor`, `Conv2dThor` and
    `EmbeddingThor`, each the same object with the same Parameters and names; subclasses stay as
    they are, and layers whose weight is frozen.

    Args:
        network: the network.
    """
    found: list[SecondOrder] = []
    for _, cell in network.cells_and_names():
        kind = _KINDS.get(type(cell))
        if kind is not None and not (isinstance(cell, Conv2d) and not _is_plain(cell)):
            weight = cell.embedding_table if isinstance(cell, Embedding) else cell.weight  # type: ignore[attr-defined]
            if not weight.requires_grad:
                continue
            object.__setattr__(cell, "__class__", kind)
            cell.keep_factors()  # type: ignore[attr-defined]
        if isinstance(cell, SecondOrder):
            found.append(cell)
    return found
