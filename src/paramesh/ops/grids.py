"""Images read at other places than their elements: grids, parts, deformable convolution.

Glossary
    place   a position along an axis of the input, in elements, with a fraction

Source: MindSpore's operators of these names; deformable convolution as in Zhu et al. (2018).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.ops.array import Ints, ints
from paramesh.ops.conv import _plus_bias, convolved
from paramesh.ops.table import Array, Floating, function, primitive

# fmt: off
__all__ = [
    "affine_grid", "grid_sample", "crop_and_resize", "CropAndResize", "deformable_offsets",
    "DeformableOffsets", "deformable_conv2d",
]
# fmt: on


@function
def affine_grid(theta: Floating, size: Ints, align_corners: bool = False) -> Any:
    """The places at which an affine map reads an image, for `grid_sample`.

    Args:
        theta: (n, 2, 3) for images, (n, 3, 4) for volumes: the maps.
        size: (n, c, h, w) or (n, c, d, h, w) of the output.
        align_corners: whether -1 and 1 are the centres of the corner elements, or their edges.

    Returns:
        (n, h, w, 2) or (n, d, h, w, 3), from -1 to 1, x first.
    """
    sizes = ints(size)[2:]
    axes = []
    for n in sizes:
        line = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
        axes.append(line if align_corners else line * ((n - 1) / n))
    mesh = np.meshgrid(*axes, indexing="ij")[::-1]
    points = jnp.asarray(np.stack([*mesh, np.ones(sizes)], -1), theta.dtype)
    return jnp.einsum("...k,njk->n...j", points, theta)


@function
def grid_sample(
    input: Floating,
    grid: Floating,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
) -> Any:
    """An image (n, c, h, w) or volume (n, c, d, h, w), read at the places of a grid.

    Args:
        input: the images.
        grid: (n, h', w', 2) or (n, d', h', w', 3): places from -1 to 1, x first.
        mode: `bilinear` (linear along each axis) or `nearest`.
        padding_mode: what lies outside: `zeros`, `border` or `reflection`.
        align_corners: whether -1 and 1 are the centres of the corner elements, or their edges.

    Returns:
        (n, c, h', w') or (n, c, d', h', w').

    Raises:
        ValueError: another mode, or a grid that does not fit.
    """
    if mode not in ("bilinear", "nearest") or padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            f"expected a mode of bilinear and nearest, a padding_mode of zeros, border and "
            f"reflection, got {mode!r} and {padding_mode!r}."
        )
    sizes = input.shape[2:]
    if grid.ndim != input.ndim or grid.shape[-1] != len(sizes) or grid.shape[0] != input.shape[0]:
        raise ValueError(
            f"a grid for an input {tuple(input.shape)} is ({input.shape[0]}, ..., {len(sizes)}) "
            f"with {input.ndim} axes, got {tuple(grid.shape)}."
        )
    places = []
    for axis, n in enumerate(sizes):
        at = grid[..., len(sizes) - 1 - axis]
        at = (at + 1) / 2 * (n - 1) if align_corners else ((at + 1) * n - 1) / 2
        places.append(_inside(at, n, padding_mode, align_corners))
    if mode == "nearest":
        return _read(input, [jnp.round(at) for at in places])
    return _between_corners(input, places)


def _between_corners(x: jax.Array, places: list[Any]) -> Any:
    """(n, c, ...) at places, linear along each axis, zeros outside: (n, c, *places)."""
    low = [jnp.floor(at) for at in places]
    part = [at - below for at, below in zip(places, low, strict=True)]
    total: Any = 0
    for corner in np.ndindex(*(2,) * len(places)):
        share: Any = 1
        for step, above in zip(corner, part, strict=True):
            share = share * (above if step else 1 - above)
        at = [below + step for below, step in zip(low, corner, strict=True)]
        total = total + _read(x, at) * share[:, None]
    return total


def _inside(at: jax.Array, n: int, padding_mode: str, align_corners: bool) -> Any:
    if padding_mode == "zeros":
        return at
    if padding_mode == "reflection":
        low, span = (0.0, n - 1.0) if align_corners else (-0.5, float(n))
        if span == 0:
            return jnp.zeros_like(at)
        turned = jnp.mod(at - low, 2 * span)
        at = low + jnp.minimum(turned, 2 * span - turned)
    return jnp.clip(at, 0, n - 1)


def _read(x: jax.Array, at: list[Any]) -> Any:
    """(n, c, ...) at whole places, zeros outside: (n, c, *places)."""
    inside: Any = True
    found = []
    for place, n in zip(at, x.shape[2:], strict=True):
        inside = inside & (place >= 0) & (place <= n - 1)
        found.append(jnp.clip(place, 0, n - 1).astype(jnp.int32))
    picked = jax.vmap(lambda image, *places: image[(slice(None), *places)])(x, *found)
    return jnp.where(inside[:, None], picked, jnp.zeros((), x.dtype))


@function
def crop_and_resize(
    image: Floating,
    boxes: Floating,
    box_indices: Array,
    crop_size: Ints,
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
) -> Any:
    """Parts of images, each in the same size.

    Args:
        image: (n, h, w, c).
        boxes: (m, 4): (top, left, bottom, right), where 0 and 1 are the first and last element.
        box_indices: (m,): integers, of which image each part is.
        crop_size: (h', w').
        method: `bilinear`, `nearest`, or `bilinear_v2` (between the corners of the part alone).
        extrapolation_value: what lies outside of the image.

    Returns:
        (m, h', w', c) in Float32.

    Raises:
        ValueError: another method.
    """
    if method not in ("bilinear", "nearest"):
        raise ValueError(f"method must be 'bilinear' or 'nearest', got {method!r}.")
    rows, columns = ints(crop_size)
    x = image.astype(jnp.float32)

    def places(low: jax.Array, high: jax.Array, size: int, out: int) -> Any:
        steps = jnp.arange(out, dtype=jnp.float32)
        if out == 1:
            return 0.5 * (low + high) * (size - 1) + 0 * steps
        return low * (size - 1) + steps * ((high - low) * (size - 1) / (out - 1))

    def one(box: jax.Array, at: jax.Array) -> Any:
        h, w = x.shape[1:3]
        ys, xs = places(box[0], box[2], h, rows), places(box[1], box[3], w, columns)
        inside = ((ys >= 0) & (ys <= h - 1))[:, None] & ((xs >= 0) & (xs <= w - 1))[None]
        picked = x[at]
        if method == "nearest":
            # Halves go up, as in C's round.
            far = [jnp.floor(jnp.clip(p, 0, n - 1) + 0.5).astype(jnp.int32) for p, n in
                   ((ys, h), (xs, w))]  # fmt: skip
            found = picked[far[0]][:, far[1]]
        else:
            found = _between(_between(picked, ys, 0), xs, 1)
        return jnp.where(inside[..., None], found, jnp.float32(extrapolation_value))

    return jax.vmap(one)(boxes.astype(jnp.float32), box_indices)


def _between(x: jax.Array, places: jax.Array, axis: int) -> Any:
    size = x.shape[axis]
    places = jnp.clip(places, 0, size - 1)
    low = jnp.floor(places).astype(jnp.int32)
    part = (places - low).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    here, after = jnp.take(x, low, axis), jnp.take(x, jnp.minimum(low + 1, size - 1), axis)
    return here + part * (after - here)


CropAndResize = primitive(
    "CropAndResize",
    crop_and_resize,
    lambda method="bilinear", extrapolation_value=0.0: dict(
        method=method, extrapolation_value=extrapolation_value
    ),
)


# Deformable convolution.


@function
def deformable_offsets(
    x: Floating,
    offsets: Floating,
    strides: Ints,
    pads: Ints,
    ksize: Ints,
    dilations: Ints = (1, 1, 1, 1),
    deformable_groups: int = 1,
) -> Any:
    """The points under a kernel that is moved by offsets, side by side, each times its mask.

    A convolution with kernels of `ksize` and steps of `ksize` makes a deformable one of them.

    Args:
        x: (n, c, h, w).
        offsets: (n, 3 * deformable_groups * kh * kw, h', w'): for each point of the kernel how far
            it is moved to the right, how far down, and its mask; all of the first, then all of
            the second, then all masks.
        strides: (1, 1, down, right).
        pads: (top, bottom, left, right).
        ksize: (kh, kw).
        dilations: (1, 1, down, right).
        deformable_groups: groups of channels, each with offsets of its own.

    Returns:
        (n, c, h' * kh, w' * kw).

    Raises:
        ValueError: settings of another length, or offsets of another shape.
    """
    moves, edges, kernel, apart = ints(strides), ints(pads), ints(ksize), ints(dilations)
    if (len(moves), len(edges), len(kernel), len(apart)) != (4, 4, 2, 4):
        raise ValueError(
            "strides, pads and dilations are four numbers, ksize two, got "
            f"{moves}, {edges}, {apart} and {kernel}."
        )
    if moves[:2] != (1, 1) or apart[:2] != (1, 1):
        raise ValueError(f"strides and dilations begin with 1, 1, got {moves} and {apart}.")
    n, c, *sizes = x.shape
    out = []
    for axis, size in enumerate(sizes):
        reach = (kernel[axis] - 1) * apart[2 + axis] + 1
        padded = size + edges[2 * axis] + edges[2 * axis + 1]
        out.append((padded - reach) // moves[2 + axis] + 1)
    wanted = (n, 3 * deformable_groups * kernel[0] * kernel[1], *out)
    if tuple(offsets.shape) != wanted or c % deformable_groups:
        raise ValueError(
            f"an input {tuple(x.shape)} with deformable_groups={deformable_groups} takes offsets "
            f"{wanted}, got {tuple(offsets.shape)}."
        )
    return points_under_kernel(x, offsets, moves, edges, kernel, apart, deformable_groups)


def points_under_kernel(
    x: jax.Array,
    offsets: jax.Array,
    moves: tuple[int, ...],
    edges: tuple[int, ...],
    kernel: tuple[int, ...],
    apart: tuple[int, ...],
    groups: int,
) -> Any:
    """`deformable_offsets` for as many places of the kernel as there are offsets."""
    n, c, *sizes = x.shape
    out = offsets.shape[2:]
    parts = offsets.reshape(n, 3, groups, *kernel, *out).swapaxes(1, 2)
    parts = parts.reshape(n * groups, 3, *kernel, *out)
    places = []
    for axis, before in enumerate((edges[0], edges[2])):
        under = np.arange(kernel[axis])[:, None] * apart[2 + axis] - before
        at = under + np.arange(out[axis]) * moves[2 + axis]
        at = at[:, None, :, None] if axis == 0 else at[:, None, :]
        places.append(parts[:, 1 - axis] + jnp.asarray(at, parts.dtype))
    channels = x.reshape(n * groups, c // groups, *sizes)
    found = _between_corners(channels, places) * parts[:, 2][:, None]
    found = jnp.moveaxis(found.reshape(n, c, *kernel, *out), (2, 3), (3, 5))
    return found.reshape(n, c, out[0] * kernel[0], out[1] * kernel[1]).astype(x.dtype)


def deformable_settings(*formats: str) -> Callable[..., dict[str, Any]]:
    """What checks the settings of a deformable convolution: the same for it and its gradient.

    Args:
        formats: the values of data_format that it takes, the default first. With several the
            settings tell which it is; strides and dilations of NHWC, (1, down, right, 1), become
            those of NCHW.
    """

    def init(
        strides: Ints,
        pads: Ints,
        ksize: Ints,
        dilations: Ints = (1, 1, 1, 1),
        data_format: str = formats[0],
        deformable_groups: int = 1,
        modulated: bool = True,
    ) -> dict[str, Any]:
        if data_format not in formats or not modulated:
            raise ValueError(
                f"data_format is {' or '.join(map(repr, formats))}, and modulated=True, got "
                f"{data_format!r} and {modulated!r}."
            )
        if data_format == "NHWC":
            strides, dilations = ((1, 1, *ints(each)[1:3]) for each in (strides, dilations))
        settings = dict(
            strides=strides,
            pads=pads,
            ksize=ksize,
            dilations=dilations,
            deformable_groups=deformable_groups,
        )
        return settings | {"data_format": data_format} if len(formats) > 1 else settings

    return init


_settings = deformable_settings("NCHW")
DeformableOffsets = primitive("DeformableOffsets", deformable_offsets, _settings)


@function
def deformable_conv2d(
    x: Floating,
    weight: Floating,
    offsets: Floating,
    kernel_size: Ints,
    strides: Ints,
    padding: Ints,
    bias: Floating = None,
    dilations: Ints = (1, 1, 1, 1),
    groups: int = 1,
    deformable_groups: int = 1,
    modulated: bool = True,
) -> Any:
    """A convolution whose points are moved by offsets: (n, c, h, w) -> (n, out, h', w').

    Args:
        x: the images.
        weight: (out, c / groups, kh, kw).
        offsets: as in `deformable_offsets`.
        kernel_size: (kh, kw).
        strides: (1, 1, down, right).
        padding: (top, bottom, left, right).
        bias: (out,), or None.
        dilations: (1, 1, down, right).
        groups: groups of channels that are convolved apart.
        deformable_groups: groups of channels with offsets of their own.
        modulated: only True: the points have masks.

    Raises:
        ValueError: `modulated=False`, or shapes that do not fit.
    """
    options = _settings(
        strides, padding, kernel_size, dilations, "NCHW", deformable_groups, modulated
    )
    points = deformable_offsets.__wrapped__(x, offsets, **options)  # type: ignore[attr-defined]
    steps = ints(kernel_size)
    out = convolved(points, weight, steps, "VALID", (1, 1), groups, ("NCHW", "OIHW", "NCHW"))
    return _plus_bias(out, bias, "NCHW")
