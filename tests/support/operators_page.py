"""The tables of operators of docs/reference/api/ops.md, from the table itself.

`python tests/support/operators_page.py` writes them into the page; a test checks that they are
there.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import paramesh
import paramesh.ops as ops
from paramesh.ops import composite, sparse
from paramesh.ops.lazy import UPPER
from paramesh.ops.table import TABLE

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api" / "ops.md"
BEGIN, END = "<!-- tables: from here -->", "<!-- tables: to here -->"

KINDS = {
    "math": "Arithmetic, comparisons, products",
    "reduce": "Reductions",
    "array": "Shapes",
    "creation": "Creation and casts",
    "indexing": "Positions",
    "selecting": "Order, masks, selection",
    "unsorted_segments": "Slices in segments",
    "activations": "Activations",
    "conv": "Convolutions",
    "pooling": "Pooling",
    "nn_ops": "Normalisation, bias, embeddings",
    "losses": "Losses",
    "margin_losses": "Losses of margins",
    "random_ops": "Random numbers",
    "more_random": "Other distributions, channels, candidates",
    "state": "Writing Parameters",
    "scattering": "More ways to scatter",
    "collectives": "Between devices",
    "halo_exchange": "Borders of tiles",
    "special": "Special functions and windows",
    "bessel": "Bessel functions",
    "fourier": "Fourier and cosine transforms",
    "linalg": "Matrices",
    "factorizations": "Factors of matrices, eigenvalues, determinants",
    "diagonals": "Diagonals of matrices",
    "sparse": "Sparse matrices",
    "sparse_indices": "Indices of sparse matrices",
    "segments": "Rows in segments",
    "rearranging": "Parts: picked, joined, written",
    "changed_copies": "Rows, margins and diagonals changed; tests of two",
    "blocks": "Blocks of images",
    "counting": "Counts and bins",
    "along_axis": "Along an axis",
    "statistics": "Covariances and order",
    "like_others": "Fitted to other Tensors",
    "resizing": "Images in another size",
    "grids": "Images read at places",
    "colours": "Colours",
    "volumes": "Volumes",
    "adaptive_pooling": "Adaptive pooling",
    "unpooling": "Pooling, undone",
    "fractional_pooling": "Pooling by windows that are drawn",
    "boxes": "Boxes in images",
    "ctc": "Labels of sequences",
    "recurrent": "Recurrent networks",
    "attention": "Of language models",
    "graph_marks": "Random numbers like a Tensor",
    "updates": "Steps of optimizers",
    "more_updates": "More steps of optimizers",
    "overflow": "Overflows",
}

#: Public, and no operators.
PLAIN = """
    HistogramSummary ImageSummary ScalarSummary TensorSummary add_flags flash_attention_score
    is_tensor list_len make_range make_tuple mixed_precision_cast reshard tuple_getitem tuple_len
"""


def tables() -> str:
    """All tables, in Markdown."""
    lines: list[str] = []
    for kind, title in KINDS.items():
        lines += [f"## {title}", "", "| function | classes | |", "|---|---|---|"]
        for operator in TABLE.values():
            if operator.compute.__module__ == f"paramesh.ops.{kind}":
                functions = ", ".join(f"`{n}`" for n in (operator.name, *operator.aliases))
                classes = ", ".join(f"`{n}`" for n in operator.classes)
                lines.append(f"| {functions} | {classes} | {_cell(operator.summary)} |")
        lines.append("")
    lines += ["## Of COOTensor and CSRTensor", "", "| name | |", "|---|---|"]
    for name in sparse.__all__:
        if not hasattr(getattr(ops, name), "operator"):
            lines.append(f"| `{name}` | {_cell(_summary(getattr(ops, name)))} |")
    lines += ["", "## Made of others", "", "| name | |", "|---|---|"]
    for name in composite.__all__:
        lines.append(f"| `{name}` | {_cell(_summary(getattr(ops, name)))} |")
    for name in PLAIN.split():
        lines.append(f"| `{name}` | {_cell(_summary(getattr(ops, name)))} |")
    for name, module in sorted(UPPER.items()):
        found = getattr(importlib.import_module(module), name)
        same = f" The same as `paramesh.{name}`." if name in paramesh.__all__ else ""
        lines.append(f"| `{name}` | {_cell(_summary(found))}{same} |")
    lines.append("| `ReduceOp` | " + _cell(_summary(ops.ReduceOp)) + " |")
    lines.append("| `Primitive` | " + _cell(_summary(ops.Primitive)) + " |")
    return "\n".join(lines)


def _summary(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(
        f"{before}{BEGIN}\n\n{tables()}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8"
    )
