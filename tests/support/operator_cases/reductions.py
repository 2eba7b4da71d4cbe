"""Products of matrices, running sums, reductions."""

import numpy as np

from operator_cases import Case, b, f, i

x, m, t = f(2, 3, 4), i(-5, 6, 2, 3), b(2, 3)


def running(fn, start, exclusive=False, reverse=False):
    def reference(v, axis, **options):
        v = np.flip(v, axis) if reverse else v
        out = fn(v, axis, dtype=v.dtype)
        if exclusive:
            edge = np.full_like(np.take(out, [0], axis), start)
            out = np.concatenate([edge, np.delete(out, -1, axis)], axis)
        return np.flip(out, axis) if reverse else out

    return reference


def extreme(arg, best):
    def reference(v, axis=None, keepdims=False):
        return best(v, axis, keepdims=keepdims), arg(v, axis, keepdims=keepdims)

    return reference


CASES = [
    Case("matmul", [f(2, 3), f(3, 4)], np.matmul, grad=True),
    Case("matmul", [f(5, 2, 3), f(3, 4)], np.matmul),
    Case(
        "matmul",
        [f(5, 2, 3), f(5, 4, 3)],
        lambda a, c, transpose_b: a @ c.swapaxes(-1, -2),
        {"transpose_b": True},
        {"MatMul": {"transpose_b": True}, "BatchMatMul": {"transpose_b": True}},
    ),
    Case(
        "matmul",
        [f(3, 2), f(3, 4)],
        lambda a, c, transpose_a: a.T @ c,
        {"transpose_a": True},
        {"MatMul": {"transpose_a": True}, "BatchMatMul": {"transpose_a": True}},
    ),
    Case("dense", [f(2, 3), f(4, 3), f(4)], lambda a, w, c: a @ w.T + c, grad=True),
    Case("dense", [f(2, 3), f(4, 3)], lambda a, w: a @ w.T),
    Case("outer", [f(2), f(3)], np.outer),
    Case("tensor_dot", [x, f(4, 3, 2), ((1, 2), (1, 0))], np.tensordot),
    Case("tensor_dot", [x, f(4, 2), 1], np.tensordot),
    Case("einsum", ["bij,kj->bik", x, f(5, 4)], np.einsum, grad=True),
    Case("cumsum", [x, 1], running(np.cumsum, 0), grad=True),
    Case("cumsum", [m, -1], running(np.cumsum, 0)),
    *(
        Case(op, [x, 1], running(fn, start, e, r), o, {cls: o})
        for op, cls, fn, start in (
            ("cumsum", "CumSum", np.cumsum, 0),
            ("cumprod", "CumProd", np.cumprod, 1),
        )
        for e in (False, True)
        for r in (False, True)
        for o in ({"exclusive": e, "reverse": r},)
    ),
    Case("sum", [x], lambda v: v.sum()),
    Case("sum", [x, (0, 2), True], lambda v, a, k: v.sum(a, keepdims=k), grad=True),
    Case("sum", [m, 1], lambda v, a: v.sum(a, dtype=np.int64)),
    Case("prod", [x, 1], np.prod),
    Case("prod", [m], lambda v: v.prod(dtype=np.int64)),
    Case("reduce_sum", [x, (0, 1)], np.sum, grad=True),
    Case(
        "reduce_sum",
        [x],
        lambda v, keep_dims: v.sum(keepdims=True),
        {"keep_dims": True},
        {"ReduceSum": {"keep_dims": True}},
    ),
    Case("reduce_sum", [m, 1], lambda v, a: v.sum(a, dtype=np.int32)),
    Case("reduce_prod", [m, 1], lambda v, a: v.prod(a, dtype=np.int32)),
    Case(
        "mean",
        [x, 1],
        lambda v, a, keep_dims: v.mean(a, keepdims=True),
        {"keep_dims": True},
        {"ReduceMean": {"keep_dims": True}},
        grad=True,
    ),
    Case("mean", [m], lambda v: v.mean(dtype=np.float32)),
    Case("amax", [x, (1, 2)], np.max, grad=True),
    Case("amin", [m], np.min),
    Case("all", [t, 0], np.all),
    Case("any", [t], np.any),
    Case("std", [x, 1], np.std),
    Case("std", [x, (0, 1), 1, True], lambda v, a, d, k: v.std(a, ddof=d, keepdims=k)),
    Case("var", [x, 1, 1], lambda v, a, d: v.var(a, ddof=d), grad=True),
    Case("logsumexp", [x, 1], lambda v, a: np.log(np.exp(v).sum(a))),
    Case("norm", [x], lambda v: np.sqrt((v**2).sum())),
    Case("norm", [f(2, 3), 1, 1], np.linalg.norm),
    Case("count_nonzero", [m, 1], lambda v, a: np.count_nonzero(v, a).astype(np.int32)),
    Case("argmax", [x, 1], np.argmax, settings=dict.fromkeys(("Argmax", "ArgMax"))),
    Case("argmax", [m], np.argmax, settings=dict.fromkeys(("Argmax", "ArgMax"))),
    Case(
        "argmin",
        [x, -1],
        lambda v, axis: np.argmin(v, axis).astype(np.int32),
        settings=dict.fromkeys(("Argmin", "ArgMin")),
    ),
    Case(
        "argmax",
        [x],
        lambda v, dim, output_type: np.argmax(v, dim).astype(np.int32),
        {"dim": -1, "output_type": "int32"},
    ),
    Case(
        "argmin",
        [x],
        lambda v, axis, output_type: np.argmin(v, axis).astype(np.int32),
        {"axis": 1, "output_type": "int32"},
        {"Argmin": {"axis": 1}, "ArgMin": {"axis": 1}},
    ),
    Case("max", [x], extreme(np.argmax, np.max)),
    Case("max", [x, 1, True], extreme(np.argmax, np.max)),
    Case("min", [m, 0], extreme(np.argmin, np.min)),
    Case(
        "arg_max_with_value",
        [x],
        lambda v, axis: extreme(np.argmax, np.max)(v, axis)[::-1],
        {"axis": 0},
    ),
    Case(
        "arg_min_with_value",
        [x],
        lambda v, axis: extreme(np.argmin, np.min)(v, axis)[::-1],
        {"axis": 1},
        {"ArgMinWithValue": {"axis": 1}},
    ),
    Case("square_sum_all", [x, f(2)], lambda a, c: ((a**2).sum(), (c**2).sum())),
    Case("float_status", [x], lambda v: np.zeros(1, np.float32), wide=False),
    Case(
        "float_status",
        [np.array([1, np.inf], np.float32)],
        lambda v: np.ones(1, np.float32),
        wide=False,
    ),
]
