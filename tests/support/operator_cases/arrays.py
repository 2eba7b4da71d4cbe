"""Shapes, creation, slices, gathering, scattering, order."""

import numpy as np

import paramesh.dtype as dtypes
from operator_cases import Case, b, f, i

x, y, m, t = f(2, 3, 4), f(2, 3, 4, seed=1), i(-5, 6, 2, 3), b(2, 3)
v6 = np.array([3, 1, 2, 3, 1, 0], np.int32)


def at(start, fn):
    """Updates at full positions, one after the other."""

    def reference(v, indices, updates):
        out = v.copy()
        for where in np.ndindex(*indices.shape[:-1]):
            place = tuple(indices[where])
            out[place] = fn(out[place], updates[where])
        return out

    return reference


def segments(start, fn):
    def reference(v, ids, n):
        out = np.full((n, *v.shape[ids.ndim :]), start(v.dtype), v.dtype)
        for where in np.ndindex(*ids.shape):
            if 0 <= ids[where] < n:
                out[ids[where]] = fn(out[ids[where]], v[where])
        return out

    return reference


def top(v, k, dim=-1, largest=True):
    order = np.argsort(-v if largest else v, dim, kind="stable").take(np.arange(k), dim)
    return np.take_along_axis(v, order, dim), order.astype(np.int32)


def ordered(v, axis=-1, descending=False):
    order = np.argsort(-v if descending else v, axis, kind="stable")
    return np.take_along_axis(v, order, axis), order.astype(np.int32)


positions = np.array([[0, 1], [1, 2], [0, 1]], np.int32)
lowest, highest = (lambda d: np.finfo(d).min), (lambda d: np.finfo(d).max)

CASES = [
    Case("shape", [x], lambda v: v.shape),
    Case("dyn_shape", [x], lambda v: np.array(v.shape, np.int64)),
    Case("size", [x], lambda v: v.size),
    Case("rank", [x], lambda v: v.ndim),
    Case("dtype", [m], lambda v: dtypes.int32),
    Case("reshape", [x, (4, -1)], np.reshape),
    Case("reshape", [x, -1], np.reshape),
    Case("reshape", [m, np.array([3, 2])], lambda v, s: v.reshape(3, 2), eager_only=True),
    Case("flatten", [x], lambda v: v.reshape(2, 12)),
    Case("flatten", [x], lambda v, **k: v.reshape(6, 4), {"start_dim": 0, "end_dim": 1}),
    Case("flatten", [x, "F"], lambda v, order: np.array([a.ravel("F") for a in v])),
    Case("flatten", [f(3)], lambda v: v),
    Case("squeeze", [f(1, 3, 1)], lambda v: v[0, :, 0], settings={"Squeeze": None}),
    Case("squeeze", [f(1, 3, 1), ()], lambda v, a: v[0, :, 0]),
    Case("squeeze", [f(1, 3, 1), 0], np.squeeze, settings={"Squeeze": {"axis": 0}}),
    Case("expand_dims", [x, 1], np.expand_dims),
    Case("unsqueeze", [x, 1], np.expand_dims),
    Case(
        "broadcast_to",
        [f(1, 3), (2, -1)],
        lambda v, s: np.broadcast_to(v, (2, 3)),
        settings={"BroadcastTo": {"shape": (2, -1)}},
        grad=True,
    ),
    Case(
        "broadcast_to",
        [f(3), (4, 2, 3)],
        np.broadcast_to,
        settings={"BroadcastTo": {"shape": (4, 2, 3)}},
    ),
    Case("transpose", [x, (2, 0, 1)], np.transpose),
    Case("swapaxes", [x, 0, 2], np.swapaxes),
    Case("movedim", [x, 0, 2], np.moveaxis),
    Case("movedim", [x, (0, 1), (1, 2)], np.moveaxis),
    Case("flip", [x, (0, 2)], np.flip, settings={"ReverseV2": {"axis": (0, 2)}}),
    Case("roll", [x, 2, 1], np.roll),
    Case("roll", [x, (1, 2), (0, 2)], np.roll),
    Case("roll", [x, 3], np.roll),
    Case("concat", [(x, y)], np.concatenate),
    Case("concat", [(x, y), -1], np.concatenate, settings={"Concat": {"axis": -1}}),
    Case("stack", [(x, y)], np.stack),
    Case("stack", [(x, y), 2], np.stack, settings={"Stack": {"axis": 2}, "Pack": {"axis": 2}}),
    Case(
        "unstack",
        [x, 1],
        lambda v, a: tuple(v[:, j] for j in range(3)),
        settings={"Unstack": {"axis": 1}, "Unpack": {"axis": 1}},
    ),
    Case("unstack", [x], tuple),
    Case("unbind", [x], tuple),
    Case("split", [x, 2, 1], lambda v, s, a: (v[:, :2], v[:, 2:])),
    Case("split", [x, (1, 3), 2], lambda v, s, a: (v[:, :, :1], v[:, :, 1:])),
    Case(
        "split_by_sizes",
        [x, (1, -1), 2, 2],
        lambda v, s, a, n: (v[:, :, :1], v[:, :, 1:]),
        settings={"SplitV": {"size_splits": (1, -1), "split_dim": 2, "num_split": 2}},
    ),
    Case(
        "split_equally",
        [x, 2, 2],
        lambda v, a, n: tuple(np.split(v, n, a)),
        settings={"Split": {"axis": 2, "output_num": 2}},
        grad=True,
    ),
    Case("chunk", [x, 2, 1], lambda v, n, a: (v[:, :2], v[:, 2:])),
    Case("tile", [m, (2, 3)], np.tile),
    Case("tile", [x, (2, 1, 1, 1)], np.tile),
    Case("repeat_interleave", [x, 2, 1], np.repeat),
    Case("repeat_interleave", [m, 2], np.repeat),
    Case("repeat_interleave", [m, (1, 0, 2), 1], np.repeat),
    Case("repeat_elements", [x, 3, 2], np.repeat),
    Case("pad", [x, (1, 2)], lambda v, q: np.pad(v, [(0, 0), (0, 0), (1, 2)]), grad=True),
    Case(
        "pad",
        [x, (1, 0, 0, 2), "constant", 7],
        lambda v, *_: np.pad(v, [(0, 0), (0, 2), (1, 0)], constant_values=7),
    ),
    Case("pad", [x, (-1, 1)], lambda v, q: np.pad(v[:, :, 1:], [(0, 0), (0, 0), (0, 1)])),
    Case(
        "pad", [x, (1, 2), "reflect"], lambda v, *_: np.pad(v, [(0, 0)] * 2 + [(1, 2)], "reflect")
    ),
    Case("pad", [x, (1, 2), "replicate"], lambda v, *_: np.pad(v, [(0, 0)] * 2 + [(1, 2)], "edge")),
    Case("pad", [x, (1, 2), "circular"], lambda v, *_: np.pad(v, [(0, 0)] * 2 + [(1, 2)], "wrap")),
    Case(
        "pad_axes",
        [m, ((1, 0), (2, 1))],
        np.pad,
        settings={"Pad": {"paddings": ((1, 0), (2, 1))}, "MirrorPad": None},
    ),
    Case(
        "pad_axes",
        [m, ((1, 0), (2, 1)), "REFLECT"],
        lambda v, q, mode: np.pad(v, q, "reflect"),
        settings={"Pad": None},
    ),
    Case(
        "pad_axes",
        [m, ((1, 0), (2, 1)), "SYMMETRIC"],
        lambda v, q, mode: np.pad(v, q, "symmetric"),
        settings={"Pad": None, "MirrorPad": {"mode": "SYMMETRIC"}},
    ),
    # Creation.
    Case("zeros", [(2, 3)], lambda s: np.zeros(s, np.float32)),
    Case("zeros", [3, "int64"], np.zeros),
    Case("ones", [(2, 3), "float64"], np.ones),
    Case("full", [(2, 3), 5], lambda s, v: np.full(s, v, np.int64)),
    Case(
        "full",
        [
            (2, 3),
            5,
        ],
        lambda s, v, dtype: np.full(s, v, dtype),
        {"dtype": "float16"},
    ),
    Case("fill", ["int32", (2, 3), 5], lambda d, s, v: np.full(s, v, d)),
    Case("zeros_like", [x], np.zeros_like),
    Case("ones_like", [m], np.ones_like),
    Case("full_like", [m, 3], np.full_like),
    Case("eye", [3], lambda n: np.eye(n, dtype=np.float32)),
    Case("eye", [2, 3, "int64"], lambda n, k, d: np.eye(n, k, dtype=d)),
    Case("arange", [5], lambda n: np.arange(n, dtype=np.int64)),
    Case("arange", [1, 7, 2], lambda *a: np.arange(*a, dtype=np.int64)),
    Case("arange", [0.0, 1.0, 0.25], lambda *a: np.arange(*a, dtype=np.float32)),
    Case("range", [5, 0, -2], lambda *a: np.arange(*a, dtype=np.int64)),
    Case("linspace", [0.0, 1.0, 5], lambda a, c, n: np.linspace(a, c, n, dtype=np.float32)),
    Case("tril", [x], np.tril),
    Case("tril", [m, 1], np.tril, settings={"Tril": {"diagonal": 1}}),
    Case("triu", [m], np.triu),
    Case("diag", [f(3)], np.diag),
    Case("diag", [f(3, 2)], lambda v: np.diag(v.ravel()).reshape(3, 2, 3, 2)),
    Case("diag_part", [f(3, 3)], np.diag, grad=True),
    Case("diag_part", [f(2, 3, 2, 3)], lambda v: np.einsum("abab->ab", v)),
    Case("cast", [x, "int32"], lambda v, d: v.astype(d)),
    Case("cast", [m, "float64"], lambda v, d: v.astype(d)),
    Case("cast", [x, "float16"], lambda v, d: v.astype(d), wide=False),
    Case("scalar_to_tensor", [3], lambda v: np.float32(v)),
    Case("scalar_to_tensor", [3, "int64"], lambda v, d: np.int64(v)),
    Case("scalar_cast", [3.7, "int32"], lambda v, d: 3),
    Case("tuple_to_array", [(1, 2, 3)], lambda v: np.array(v, np.int64)),
    Case("tuple_to_array", [(1.0, 2)], lambda v: np.array(v, np.float32)),
    Case(
        "meshgrid",
        [f(2), f(3)],
        lambda a, c: tuple(np.meshgrid(a, c)),
        settings={"Meshgrid": None},
    ),
    Case("meshgrid", [(f(2), f(3))], lambda a: tuple(np.meshgrid(*a)), eager_only=True),
    Case("identity", [x], lambda v: v),
    # Slices.
    Case("slice", [x, (0, 1, 1), (2, 1, -1)], lambda v, *_: v[0:2, 1:2, 1:]),
    Case("strided_slice", [x, (0, 2), (2, 0), (1, -1)], lambda v, *_: v[0:2, 2:0:-1], grad=True),
    *(
        Case("strided_slice", [x, *bounds], reference, masks, {"StridedSlice": masks})
        for bounds, masks, reference in (
            (((1, 1), (2, 2), (1, 1)), {"begin_mask": 2}, lambda v, *_, **k: v[1:2, :2]),
            (((0, 1), (1, 1), (1, 1)), {"end_mask": 3}, lambda v, *_, **k: v[0:, 1:]),
            (((0, 1), (1, 2), (1, 1)), {"ellipsis_mask": 1}, lambda v, *_, **k: v[..., 1:2]),
            (((0, 1), (1, 2), (1, 1)), {"new_axis_mask": 1}, lambda v, *_, **k: v[None, 1:2]),
            (((0, 1), (2, 2), (1, 1)), {"shrink_axis_mask": 2}, lambda v, *_, **k: v[0:2, 1]),
        )
    ),
    # Gathering and scattering.
    Case("gather", [x, i(0, 3, 2, 5), 1], np.take, grad=True),
    Case("gather", [m, np.array([-1, 0], np.int64), 0], np.take),
    Case(
        "gather",
        [x, i(0, 3, 2, 5), 1, 1],
        lambda v, j, a, n: np.stack([np.take(r, k, 0) for r, k in zip(v, j, strict=True)]),
        settings={name: {"batch_dims": 1} for name in ("Gather", "GatherV2", "SparseGatherV2")},
    ),
    Case(
        "gather",
        [f(2), np.array([0, 2], np.int32), 0],
        lambda v, j, a: np.array([v[0], np.nan], v.dtype),
    ),
    Case("gather_d", [f(2, 3), 1, i(0, 3, 2, 4)], lambda v, d, j: np.take_along_axis(v, j, d)),
    Case(
        "gather_d", [f(2, 3), 0, i(0, 2, 4, 2)], lambda v, d, j: np.take_along_axis(v[:, :2], j, d)
    ),
    Case("gather_nd", [x, positions], lambda v, j: v[j[:, 0], j[:, 1]], grad=True),
    Case("gather_nd", [m, positions], lambda v, j: v[j[:, 0], j[:, 1]]),
    Case("index_select", [x, 2, np.array([3, 0], np.int32)], lambda v, a, j: np.take(v, j, a)),
    Case(
        "scatter_nd",
        [positions, f(3, 4), (2, 3, 4)],
        lambda j, u, s: at(0, np.add)(np.zeros(s, u.dtype), j, u),
        grad=True,
    ),
    Case("tensor_scatter_update", [x, positions[:2], f(2, 4)], at(0, lambda a, c: c), grad=True),
    Case("tensor_scatter_add", [x, positions, f(3, 4)], at(0, np.add)),
    Case("tensor_scatter_sub", [x, positions, f(3, 4)], at(0, np.subtract)),
    Case("tensor_scatter_max", [x, positions, f(3, 4)], at(0, np.maximum)),
    Case("tensor_scatter_min", [x, positions, f(3, 4)], at(0, np.minimum)),
    Case("unsorted_segment_sum", [f(6, 2), v6 - 1, 4], segments(lambda d: 0, np.add), grad=True),
    Case("unsorted_segment_sum", [m, i(0, 2, 2, 3), 2], segments(lambda d: 0, np.add)),
    Case(
        "unsorted_segment_prod", [f(6, 2), v6 - 1, 4], segments(lambda d: 1, np.multiply), grad=True
    ),
    Case("unsorted_segment_max", [f(6, 2), v6, 5], segments(lowest, np.maximum)),
    Case("unsorted_segment_min", [f(6, 2), v6, 5], segments(highest, np.minimum)),
    Case("one_hot", [v6, 4], lambda j, n: np.eye(n, dtype=np.int64)[j]),
    Case(
        "one_hot",
        [np.array([-1, 1, 3], np.int64), 3, 2.0, -1.0, 0],
        lambda *_: np.array([[-1, -1, -1], [-1, 2, -1], [-1, -1, -1]], np.float32),
        settings={"OneHot": {"axis": 0}},
    ),
    Case("where", [t, f(2, 3), f(2, 3, seed=1)], np.where),
    Case("where", [t, f(2, 3), 0.0], np.where),
    Case("select", [t, m, m[::-1]], np.where),
    Case(
        "masked_fill", [f(2, 3), t, 5.0], lambda v, k, c: np.where(k, np.float32(c), v), grad=True
    ),
    Case("masked_fill", [m, t, 5], lambda v, k, c: np.where(k, np.int32(c), v)),
    Case("sequence_mask", [v6, 4], lambda n, k: np.arange(k) < n[:, None]),
    Case("sequence_mask", [v6], lambda n: np.arange(3) < n[:, None], eager_only=True),
    Case("masked_select", [f(2, 3), t], lambda v, k: v[k], eager_only=True),
    Case("nonzero", [m], lambda v: np.argwhere(v), eager_only=True),
    Case(
        "unique",
        [v6],
        lambda v: (np.array([3, 1, 2, 0], np.int32), np.array([0, 1, 2, 0, 1, 3], np.int32)),
        eager_only=True,
    ),
    Case("sort", [x], ordered, grad=True),
    Case("sort", [m, 0, True], ordered, settings={"Sort": {"axis": 0, "descending": True}}),
    Case("argsort", [x, 1], lambda v, a: ordered(v, a)[1]),
    Case("topk", [x, 2], top, grad=True),
    Case("topk", [x, 2, 1], top),
    Case("topk", [x, 2, 0, False], top),
    Case(
        "intopk",
        [f(6, 4), v6, 2],
        lambda v, j, k: (v > np.take_along_axis(v, j[:, None], 1)).sum(1) < k,
        settings={"InTopK": {"k": 2}},
    ),
    Case("invert_permutation", [(2, 0, 1)], lambda v: (1, 2, 0)),
]
