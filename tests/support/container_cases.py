"""Networks with lists of Cells, whose names MindSpore 2.10 was asked for (`container_names.json`).

python tests/support/container_cases.py     # records; with mindspore==2.10.0, numpy<2
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

#: What is done with an empty Cell `net`; `D()` is a Dense, `B()` a Cell with a Dense as `fc`.
CASES: dict[str, str] = {
    "given": "net.b = nn.CellList([D(), D()])",
    "assigned full": "l = nn.CellList(); l.append(D()); l.append(D()); net.b = l",
    "filled later": "net.b = nn.CellList(); net.b.append(D()); net.b.append(D())",
    "extended later": "net.b = nn.CellList(); net.b.extend([D(), D()]); net.b.append(D())",
    "inserted later": "net.b = nn.CellList(); net.b.insert(0, D()); net.b.insert(0, D())",
    "no Parameters first": "net.b = nn.CellList([nn.ReLU()]); net.b.append(D()); net.b.append(D())",
    "grown": "net.b = nn.CellList([B()]); net.b.append(B()); net.b.extend([B()])",
    "inserted": "net.b = nn.CellList([D(), D()]); net.b.insert(0, D())",
    "replaced": "net.b = nn.CellList([D(), D()]); net.b[0] = D(); net.b[1] = D()",
    "deleted": "net.b = nn.SequentialCell(D(), D(), D()); del net.b[1]; net.b.append(D())",
    "added in place": "net.b = nn.CellList([D()]); net.b += [D()]",
    "sequential": "net.b = nn.SequentialCell(); net.b.append(D()); net.b.append(D())",
    "nested": "net.b = nn.CellList([nn.CellList([D()]), nn.SequentialCell(D(), D())])",
    "one nested": "net.b = nn.CellList([nn.SequentialCell(B(), D())])\n"
    "net.b.append(nn.SequentialCell(B(), D()))",
    "lists in a list": "net.b = nn.CellList()\n"
    "for _ in range(3): net.b.append(nn.CellList([D(), D()]))",
    "deeper": "net.b = nn.CellList()\n"
    "for _ in range(3): net.b.append(nn.SequentialCell(B(), nn.CellList([D(), D()])))",
    "inside another": "m = nn.Cell(); m.b = nn.CellList(); m.b.append(B()); m.b.append(B())\n"
    "net.m = m; net.m.b.append(B())",
    "slices": "net.b = nn.SequentialCell(D(), D(), D())[:2]",
    "no prefix": "net.b = nn.CellList([D()], auto_prefix=False)",
    "shared": "d = D(); net.a = d; net.b = nn.CellList([d])",
}


def names(code: str, ms: Any) -> list[str]:
    """The names of the Parameters of a case."""

    class Block(ms.nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.fc = dense()

    def dense() -> Any:
        return ms.nn.Dense(2, 2, has_bias=False)

    net = ms.nn.Cell()
    exec(code, {"nn": ms.nn, "D": dense, "B": Block, "net": net})
    return [param.name for param in net.get_parameters()]


def main() -> None:
    ms = importlib.import_module("mindspore")
    rows = [f" {json.dumps(c)}: {json.dumps(names(code, ms))}" for c, code in CASES.items()]
    path = Path(__file__).parents[1] / "golden" / "container_names.json"
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
