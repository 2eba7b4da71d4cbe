"""Boxes in images: overlaps, codes of boxes against anchors, the best of many, parts of features.

A box is (left, top, right, bottom). Those of `BoundingBoxEncode`, `BoundingBoxDecode` and `IOU`
hold the elements on their edges, as MindSpore has them: a box from 2 to 4 is 3 wide.

Source: MindSpore's operators of these names; ROIAlign as in He et al. (2017).
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh import random
from paramesh.array_types import Tree
from paramesh.ops.table import Array, Floating, function, primitive, tuple_function
from paramesh.tensor.argument_types import RawNumber

# fmt: off
__all__ = [
    "iou", "IOU", "nms_with_mask", "NMSWithMask", "roi_align", "ROIAlign", "bounding_box_encode",
    "bounding_box_decode", "BoundingBoxEncode", "BoundingBoxDecode", "check_valid", "CheckValid",
    "choice_with_mask", "RandomChoiceWithMask", "ps_roi_pooling", "PSROIPooling",
]
# fmt: on


def _check_boxes(name: str, boxes: jax.Array, columns: int = 4) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != columns:
        raise ValueError(f"{name} must be (n, {columns}), got {tuple(boxes.shape)}.")


def _overlaps(a: jax.Array, b: jax.Array, edge: float) -> tuple[Any, Any, Any]:
    """(what boxes share, areas of a, areas of b): (n, m), (n, 1), (1, m)."""
    low = jnp.maximum(a[:, None, :2], b[None, :, :2])
    high = jnp.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = jnp.maximum(high - low + edge, 0)
    areas = [(x[:, 2] - x[:, 0] + edge) * (x[:, 3] - x[:, 1] + edge) for x in (a, b)]
    return sides[..., 0] * sides[..., 1], areas[0][:, None], areas[1][None]


@function
def iou(anchor_boxes: Floating, gt_boxes: Floating, mode: str = "iou") -> Any:
    """What each two boxes share, as a part of what both cover: (n, 4) and (m, 4) -> (m, n).

    Args:
        anchor_boxes: (n, 4).
        gt_boxes: (m, 4).
        mode: `iou`, or `iof`: as a part of the box of `gt_boxes`.

    Raises:
        ValueError: another mode, or no boxes.
    """
    if mode not in ("iou", "iof"):
        raise ValueError(f"mode must be 'iou' or 'iof', got {mode!r}.")
    _check_boxes("anchor_boxes", anchor_boxes)
    _check_boxes("gt_boxes", gt_boxes)
    shared, of_gt, of_anchors = _overlaps(gt_boxes, anchor_boxes, 1.0)
    total = of_gt + of_anchors - shared if mode == "iou" else of_gt + 0 * of_anchors
    return shared / (total + 1e-10)


IOU = primitive("IOU", iou, lambda mode="iou": {"mode": mode})


@tuple_function
def nms_with_mask(bboxes: Floating, iou_threshold: float = 0.5) -> Any:
    """Boxes by their scores, and which of them no better one overlaps too much.

    Args:
        bboxes: (n, 5): boxes, and their scores.
        iou_threshold: how much two of them may share.

    Returns:
        (the boxes, the best first (n, 5); the places in them, 0 to n - 1: Int32 (n,); Bool (n,):
        those to keep).
    """
    _check_boxes("bboxes", bboxes, 5)
    order = jnp.argsort(-bboxes[:, 4], stable=True)
    boxes = bboxes[order]
    shared, mine, others = _overlaps(boxes[:, :4], boxes[:, :4], 0.0)
    worse = jnp.tril(shared / (mine + others - shared) > iou_threshold, -1)
    n = boxes.shape[0]

    def settle(i: RawNumber, kept: jax.Array) -> Any:
        return kept & ~(worse[:, i] & kept[i])

    kept = jax.lax.fori_loop(0, n, settle, jnp.ones(n, bool))
    return boxes, jnp.arange(n, dtype=jnp.int32), kept


NMSWithMask = primitive(
    "NMSWithMask", nms_with_mask, lambda iou_threshold=0.5: {"iou_threshold": iou_threshold}
)


@function
def roi_align(
    features: Floating,
    rois: Floating,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sample_num: int = 2,
    roi_end_mode: int = 1,
) -> Any:
    """Parts of features, each as so many means of points between the elements.

    Args:
        features: (n, c, h, w).
        rois: (m, 5): the number of the image, and a box in the coordinates of the images.
        pooled_height: h' of the result.
        pooled_width: w' of the result.
        spatial_scale: size of the features against that of the images.
        sample_num: points along each side of a part that is averaged, at least 1.
        roi_end_mode: 1: boxes hold the elements on their right and lower edge.

    Returns:
        (m, c, h', w').

    Raises:
        ValueError: `sample_num` below 1 (a number by the box's size is not offered), or no boxes.
    """
    _check_boxes("rois", rois, 5)
    if sample_num < 1:
        raise ValueError(
            f"sample_num must be at least 1, got {sample_num}: the number of points must be known "
            "while the program is traced."
        )
    h, w = features.shape[2:]

    def places(start: jax.Array, length: jax.Array, out: int) -> Any:
        part = (jnp.arange(sample_num) + 0.5) / sample_num
        return start + (jnp.arange(out)[:, None] + part).reshape(-1) * (length / out)

    def shares(at: jax.Array, size: int) -> Any:
        """(places, size): of which elements each place is made."""
        inside = (at >= -1.0) & (at <= size)
        at = jnp.clip(at, 0, size - 1)[:, None]
        return jnp.maximum(1 - jnp.abs(at - jnp.arange(size)), 0) * inside[:, None]

    def one(roi: jax.Array) -> Any:
        box = (roi[1:] + jnp.array([0, 0, roi_end_mode, roi_end_mode], roi.dtype)) * spatial_scale
        width, height = jnp.maximum(box[2] - box[0], 1.0), jnp.maximum(box[3] - box[1], 1.0)
        rows = shares(places(box[1], height, pooled_height), h)
        columns = shares(places(box[0], width, pooled_width), w)
        picked = features[roi[0].astype(jnp.int32)]
        points = jnp.einsum("ph,chw,qw->cpq", rows, picked, columns)
        cut = points.reshape(-1, pooled_height, sample_num, pooled_width, sample_num)
        return cut.mean((2, 4)).astype(features.dtype)

    return jax.vmap(one)(rois)


ROIAlign = primitive(
    "ROIAlign",
    roi_align,
    lambda pooled_height, pooled_width, spatial_scale, sample_num=2, roi_end_mode=1: dict(
        pooled_height=pooled_height,
        pooled_width=pooled_width,
        spatial_scale=spatial_scale,
        sample_num=sample_num,
        roi_end_mode=roi_end_mode,
    ),
)


def _bins(start: jax.Array, length: jax.Array, group: int, size: int, last: int) -> Any:
    """Bool (regions, group, size): which elements of an axis are in each bin of each region."""
    step = (length / group)[:, None]
    at = jnp.arange(group, dtype=start.dtype)
    low = jnp.floor(at * step).astype(jnp.int32) + start.astype(jnp.int32)[:, None]
    high = jnp.ceil((at + 1) * step).astype(jnp.int32) + start.astype(jnp.int32)[:, None]
    low, high = (jnp.clip(edge, 0, last)[..., None] for edge in (low, high))
    places = jnp.arange(size)
    return (places >= low) & (places < high)


def _region_means(
    features: jax.Array, regions: jax.Array, scale: float, group: int, channels: int, edge: int
) -> Any:
    count, (h, w) = regions.shape[0], features.shape[2:]
    scaled = regions[:, 1:] * jnp.asarray(scale, regions.dtype)
    # Halves go away from 0, as in C's round.
    box = jnp.sign(scaled) * jnp.floor(jnp.abs(scaled) + 0.5)
    sizes = jnp.maximum(box[:, 2:] - box[:, :2], jnp.asarray(0.1, box.dtype))
    columns = _bins(box[:, 0], sizes[:, 0], group, w, w - edge)
    rows = _bins(box[:, 1], sizes[:, 1], group, h, h - edge)
    of_image = features[regions[:, 0].astype(jnp.int32)]
    parts = of_image.reshape(count, channels, group, group, h, w)
    down, across = (side.astype(features.dtype) for side in (rows, columns))
    total = jnp.einsum("nih,noijhw,njw->noij", down, parts, across)
    area = rows.sum(-1)[:, :, None] * columns.sum(-1)[:, None]
    return total / jnp.maximum(area, 1).astype(total.dtype)[:, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _pooled_regions(
    features: jax.Array, regions: jax.Array, scale: float, group: int, channels: int
) -> Any:
    return _region_means(features, regions, scale, group, channels, 1)


def _pooled_forward(features: jax.Array, regions: jax.Array, *settings: Tree) -> Any:
    return _pooled_regions(features, regions, *settings), (features.shape, regions)


def region_gradient(
    dy: jax.Array, regions: jax.Array, shape: tuple[int, ...], scale: float, group: int
) -> Any:
    """The gradient of the means of regions by the features, of this shape."""
    features = jax.ShapeDtypeStruct(shape, dy.dtype)

    def means(x: jax.Array) -> Any:
        return _region_means(x, regions, scale, group, dy.shape[1], 0)

    return jax.linear_transpose(means, features)(dy)[0]


def _pooled_back(scale: float, group: int, channels: int, kept: Tree, dy: jax.Array) -> Any:
    shape, regions = kept
    return region_gradient(dy, regions, shape, scale, group), jnp.zeros_like(regions)


_pooled_regions.defvjp(_pooled_forward, _pooled_back)


def regions_of(rois: jax.Array) -> Any:
    """(n, 5, m) as (n * m, 5)."""
    if rois.ndim != 3 or rois.shape[1] != 5:
        raise ValueError(f"rois must be (n, 5, m), got {tuple(rois.shape)}.")
    return rois.swapaxes(1, 2).reshape(-1, 5)


@function
def ps_roi_pooling(
    features: Floating, rois: Floating, spatial_scale: float, group_size: int, output_dim: int
) -> Any:
    """Means of the bins of regions, where each bin has channels of its own (Dai et al. 2016).

    As in MindSpore, the last row and the last column of the features are no part of a bin, but have
    gradients.

    Args:
        features: (k, output_dim * group_size ** 2, h, w).
        rois: (n, 5, m): the number of the image, and a box in the coordinates of the images.
        spatial_scale: size of the features against that of the images.
        group_size: bins along each side.
        output_dim: channels of the result.

    Returns:
        (n * m, output_dim, group_size, group_size).

    Raises:
        ValueError: features or regions of other shapes.
    """
    if features.ndim != 4 or features.shape[1] != output_dim * group_size**2:
        raise ValueError(
            f"features must be (k, {output_dim * group_size**2}, h, w), that is output_dim * "
            f"group_size ** 2 channels, got {tuple(features.shape)}."
        )
    return _pooled_regions(features, regions_of(rois), spatial_scale, group_size, output_dim)


def region_settings(spatial_scale: float, group_size: int, output_dim: int) -> dict[str, Any]:
    """The settings of PSROIPooling, all above 0.

    Raises:
        TypeError: another type. ValueError: a number that is not above 0.
    """
    kinds = {"spatial_scale": float, "group_size": int, "output_dim": int}
    settings = dict(spatial_scale=spatial_scale, group_size=group_size, output_dim=output_dim)
    for name, value in settings.items():
        if type(value) is not kinds[name]:
            raise TypeError(f"{name} must be of type {kinds[name].__name__}, got {value!r}.")
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}.")
    return settings


PSROIPooling = primitive("PSROIPooling", ps_roi_pooling, region_settings)

_MEANS, _STDS = (0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 1.0)


def _centred(boxes: jax.Array) -> tuple[Any, Any]:
    """(centres, sizes), (n, 2) each."""
    sizes = boxes[:, 2:] - boxes[:, :2] + 1
    return (boxes[:, :2] + boxes[:, 2:]) * 0.5, sizes


@function
def bounding_box_encode(
    anchor_box: Floating,
    groundtruth_box: Floating,
    means: Sequence[float] = _MEANS,
    stds: Sequence[float] = _STDS,
) -> Any:
    """Boxes as shifts and logarithms of sizes against anchors: (n, 4) and (n, 4) -> (n, 4).

    Args:
        anchor_box: the anchors.
        groundtruth_box: the boxes.
        means: taken from the four numbers.
        stds: that these are divided by.
    """
    _check_boxes("anchor_box", anchor_box)
    (centre, size), (to, wanted) = _centred(anchor_box), _centred(groundtruth_box)
    codes = jnp.concatenate([(to - centre) / size, jnp.log(wanted / size)], 1)
    return (codes - jnp.asarray(means, codes.dtype)) / jnp.asarray(stds, codes.dtype)


@function
def bounding_box_decode(
    anchor_box: Floating,
    deltas: Floating,
    max_shape: Sequence[int],
    means: Sequence[float] = _MEANS,
    stds: Sequence[float] = _STDS,
    wh_ratio_clip: float = 0.016,
) -> Any:
    """The boxes of codes against anchors, cut at the edges of the image: (n, 4) -> (n, 4).

    Args:
        anchor_box: the anchors.
        deltas: what `bounding_box_encode` gives.
        max_shape: (h, w) of the image.
        means: as they were taken.
        stds: as they were divided by.
        wh_ratio_clip: how far sizes may be from those of the anchors.
    """
    _check_boxes("anchor_box", anchor_box)
    deltas = deltas * jnp.asarray(stds, deltas.dtype) + jnp.asarray(means, deltas.dtype)
    limit = abs(float(np.log(wh_ratio_clip)))
    centre, size = _centred(anchor_box)
    size = size * jnp.exp(jnp.clip(deltas[:, 2:], -limit, limit))
    centre = centre + _centred(anchor_box)[1] * deltas[:, :2]
    found = jnp.concatenate([centre - (size - 1) * 0.5, centre + (size - 1) * 0.5], 1)
    edge = jnp.asarray([max_shape[1], max_shape[0]] * 2, found.dtype)
    return jnp.clip(found, 0, edge)


BoundingBoxEncode = primitive(
    "BoundingBoxEncode",
    bounding_box_encode,
    lambda means=_MEANS, stds=_STDS: {"means": means, "stds": stds},
)
BoundingBoxDecode = primitive(
    "BoundingBoxDecode",
    bounding_box_decode,
    lambda max_shape, means=_MEANS, stds=_STDS, wh_ratio_clip=0.016: dict(
        max_shape=max_shape, means=means, stds=stds, wh_ratio_clip=wh_ratio_clip
    ),
)


@function
def check_valid(bboxes: Array, img_metas: Array) -> Any:
    """Bool (n,): whether each box lies inside of the image.

    Args:
        bboxes: (n, 4).
        img_metas: (3,): height and width of the image, and a factor for both.
    """
    _check_boxes("bboxes", bboxes)
    height, width = img_metas[0] * img_metas[2] - 1, img_metas[1] * img_metas[2] - 1
    left, top, right, bottom = bboxes.T
    return (left >= 0) & (top >= 0) & (right <= width) & (bottom <= height)


CheckValid = primitive("CheckValid", check_valid)


@tuple_function
def choice_with_mask(input_x: Array, count: int = 256, seed: int = 0, seed2: int = 0) -> Any:
    """So many of the places at which a Tensor is true, by chance.

    Args:
        input_x: Bool, of one to five axes.
        count: how many.
        seed: as that of other operators: a stream of its own.
        seed2: likewise.

    Returns:
        (places, Int32 (count, axes); Bool (count,): where there were enough). Places that were not
        found are zeros.
    """
    flat = input_x.reshape(-1)
    key = random.next_key()
    if seed or seed2:
        key = jax.random.fold_in(jax.random.fold_in(key, seed), seed2)
    chance = jax.random.uniform(key, flat.shape)
    order = jnp.argsort(jnp.where(flat, chance, 2.0))[:count]
    found = flat[order]
    order = jnp.where(found, order, 0)
    places = jnp.stack(jnp.unravel_index(order, input_x.shape), 1).astype(jnp.int32)
    short = max(count - order.shape[0], 0)
    return jnp.pad(places, ((0, short), (0, 0))), jnp.pad(found, (0, short))


RandomChoiceWithMask = primitive(
    "RandomChoiceWithMask",
    choice_with_mask,
    lambda count=256, seed=0, seed2=0: dict(count=count, seed=seed, seed2=seed2),
)
