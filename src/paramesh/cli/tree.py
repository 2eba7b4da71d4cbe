"""The totals of a checkpoint by prefix, as a tree.

Glossary
    branch  all parameters whose names begin with one prefix: `encoder.layers.0`
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from paramesh.checkpoint.formats.interface import Entry


@dataclass
class Branch:
    """The parameters under one prefix.

    Attributes:
        name: the whole prefix.
        parameters: how many there are.
        elements: how many elements they have together.
        nbytes: and bytes.
        branches: those below, by the next part of the name.
    """

    name: str = ""
    parameters: int = 0
    elements: int = 0
    nbytes: int = 0
    branches: dict[str, Branch] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Count one parameter, here and in the branches that it belongs to."""
        *prefixes, _ = entry.name.split(".")
        branch = self
        branch._count(entry)
        for part in prefixes:
            name = f"{branch.name}.{part}" if branch.name else part
            branch = branch.branches.setdefault(part, Branch(name))
            branch._count(entry)

    def _count(self, entry: Entry) -> None:
        self.parameters += 1
        self.elements += entry.size
        self.nbytes += entry.nbytes

    def walk(self, depth: int, level: int = 0) -> Iterator[tuple[int, Branch]]:
        """The branches below, in order, as (level, branch); down to `depth` levels.

        A branch that holds nothing but another one is passed over for it, at the same level.
        """
        if level == depth:
            return
        for branch in self.branches.values():
            while len(branch.branches) == 1:
                (only,) = branch.branches.values()
                if only.parameters < branch.parameters:
                    break
                branch = only
            yield level, branch
            yield from branch.walk(depth, level + 1)


def tree_of(entries: Iterable[Entry]) -> Branch:
    """The tree of some parameters; its root stands for all of them."""
    root = Branch()
    for entry in entries:
        root.add(entry)
    return root
