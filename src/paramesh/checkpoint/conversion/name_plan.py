"""The plan of a conversion: the arrays of the new checkpoint, and where their elements come from.

Glossary
    planned     an array that will be written, with the moves that fill it
    move        the copy of elements of one array of the source into a planned one
    unknown     an array without a rule; it is copied unchanged
    there       from paramesh's (MindSpore's) names to a library's; back: in the other direction
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from paramesh.checkpoint.conversion.arrangement import SAME, Arrangement
from paramesh.checkpoint.conversion.layer_kinds import Whose, guess
from paramesh.checkpoint.conversion.name_rules import (
    LIBRARIES,
    RECURRENT,
    TORCH_INNER,
    Member,
    Part,
    members,
)
from paramesh.checkpoint.formats.interface import Entry


@dataclass(frozen=True)
class Move:
    """The copy of elements of an array of the source into a planned one.

    Args:
        source: name of the array.
        arrangement: between the two.
        back: whether it is applied backwards.
        rows: of the source's axis 0, (start, stop); None for all.
        into: rows of the planned array's axis 0; None for all.
    """

    source: str
    arrangement: Arrangement = SAME
    back: bool = False
    rows: tuple[int, int] | None = None
    into: tuple[int, int] | None = None


@dataclass(frozen=True)
class Planned:
    """An array that will be written."""

    entry: Entry
    moves: tuple[Move, ...]


@dataclass
class ConversionPlan:
    """The plan of a converted checkpoint.

    Attributes:
        arrays: the planned arrays, in the order of the source.
        unknown: {name: why}, the arrays that are copied unchanged since there is no rule.
        kinds: {prefix: kind} for the layers whose kind does not follow from the new names.
    """

    arrays: list[Planned] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)


def plain_plan(entries: Iterable[Entry]) -> ConversionPlan:
    """The plan that copies every array unchanged."""
    return ConversionPlan([Planned(_bare(entry), (Move(entry.name),)) for entry in entries])


def _bare(entry: Entry) -> Entry:
    return Entry.of(entry.name, entry.dtype, entry.shape)


def name_plan(
    entries: Sequence[Entry],
    library: str,
    back: bool = False,
    given: Mapping[str, str] | None = None,
) -> ConversionPlan:
    """The plan of a change from paramesh's names and layouts to a library's, or back.

    Args:
        entries: the arrays of the source.
        library: "torch" (and HuggingFace) or "flax".
        back: from the library's names to paramesh's.
        given: {prefix of a layer in the source: kind}, where the guess would be wrong. A prefix may
            be a pattern with `*`; the first that matches applies.

    Raises:
        ValueError: an unknown library or kind; a given prefix without a layer of that kind; two
            arrays with the same name.
    """
    if library not in LIBRARIES:
        raise ValueError(f"There are name rules for {' and '.join(LIBRARIES)}, not {library!r}.")
    return _Planner(entries, library, back, given or {}).plan()


class _Planner:
    def __init__(
        self, entries: Sequence[Entry], library: str, back: bool, given: Mapping[str, str]
    ) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._library = library
        self._back = back
        self._found: dict[str, list[Planned]] = {}
        self._taken: set[str] = set()
        self._held: set[str] = set()
        self._why: dict[str, str] = {}
        self._theirs: Whose = "torch" if library == "torch" else "flax"
        self._kinds = guess(entries, self._theirs if back else "paramesh")
        self._give(given)
        inner = TORCH_INNER if library == "torch" else {}
        self._inner = {new: old for old, new in inner.items()} if back else dict(inner)

    def _give(self, given: Mapping[str, str]) -> None:
        prefixes: dict[str, None] = {"": None}
        for name in self._entries:
            parts = name.split(".")
            prefixes |= dict.fromkeys(".".join(parts[:n]) for n in range(1, len(parts)))
        decided: set[str] = set()
        for pattern, kind in given.items():
            here = [
                prefix
                for prefix in prefixes
                if (prefix == pattern or fnmatchcase(prefix, pattern)) and self._has(prefix, kind)
            ]
            if not here:
                raise ValueError(
                    f"No layer {pattern!r} has parameters of a {kind}: "
                    f"{', '.join(self._wanted(pattern, kind))}."
                )
            for prefix in here:
                if prefix not in decided:
                    decided.add(prefix)
                    self._kinds[prefix] = kind
                    # The guesses for layers inside it, such as an attention's out_proj.
                    inside = {
                        _joined(prefix, name).rpartition(".")[0] for name in self._names(kind)
                    }
                    for other in inside - {prefix} - decided:
                        self._kinds.pop(other, None)

    def _wanted(self, prefix: str, kind: str) -> list[str]:
        return [_joined(prefix, name) for name in self._names(kind)] or [f"{prefix}.weight_ih…"]

    def _names(self, kind: str) -> list[str]:
        found: dict[str, None] = {}
        for member in members(kind):
            names = [p.name for p in member.parts(self._library)] if self._back else [member.name]
            found |= dict.fromkeys(names)
        return list(found)

    def _has(self, prefix: str, kind: str) -> bool:
        if kind == "Recurrent":
            return any(
                name.startswith(_joined(prefix, ""))
                and RECURRENT.fullmatch(name.rpartition(".")[2])
                for name in self._entries
            )
        first = (
            [p.name for member in members(kind, prefix)[:1] for p in member.parts(self._library)]
            if self._back
            else [member.name for member in members(kind, prefix)[:1]]
        )
        if kind.startswith("MultiheadAttention"):
            first = ["out.kernel" if self._back and self._library == "flax" else "out_proj.weight"]
        return bool(first) and all(_joined(prefix, name) in self._entries for name in first)

    def plan(self) -> ConversionPlan:
        # Layers that contain others come first.
        nested = ("MultiheadAttention", "BatchNorm3d")
        for prefix, kind in sorted(
            self._kinds.items(), key=lambda pair: not pair[1].startswith(nested)
        ):
            self._layer(prefix, kind)
        found = ConversionPlan()
        for name, entry in self._entries.items():
            if name in self._found:
                found.arrays += self._found[name]
            elif name not in self._taken:
                found.arrays.append(Planned(_bare(entry), (Move(name),)))
                found.unknown[name] = self._why.get(name, "no rule")
        seen: dict[str, str] = {}
        for planned in found.arrays:
            origin = planned.moves[0].source
            if planned.entry.name in seen:
                raise ValueError(
                    f"'{seen[planned.entry.name]}' and '{origin}' would both be named "
                    f"'{planned.entry.name}'."
                )
            seen[planned.entry.name] = origin
        found.kinds = self._undecided(found)
        return found

    def _layer(self, prefix: str, kind: str) -> None:
        if kind == "Recurrent":
            self._recurrent(prefix)
            return
        if kind == "PReLU" and self._library == "flax":
            kind = "PReLU1" if self._one(prefix) else kind
        new = self._renamed(prefix)
        for member in members(kind, prefix):
            parts = member.parts(self._library)
            names = [member.name] if not self._back else [part.name for part in parts]
            sources = [_joined(prefix, name) for name in names]
            if not sources or any(n not in self._entries for n in sources):
                continue
            if not (self._taken | self._held).isdisjoint(sources):
                continue
            if not parts:
                self._held.add(sources[0])  # no array of a layer becomes another layer's
                self._why.setdefault(sources[0], _no_rule(kind, self._library))
                continue
            try:
                planned = (self._parts_back if self._back else self._parts_there)(
                    new, member, parts, sources
                )
            except ValueError as error:
                self._why[sources[0]] = f"no {kind}: {error}"
                continue
            self._taken |= set(sources)
            self._found[sources[0]] = planned

    def _one(self, prefix: str) -> bool:
        if self._back:
            return True
        entry = self._entries.get(_joined(prefix, members("PReLU", prefix)[0].name))
        return entry is not None and entry.size == 1

    def _recurrent(self, prefix: str) -> None:
        for name, entry in self._entries.items():
            parent, _, leaf = name.rpartition(".")
            if parent != prefix or not RECURRENT.fullmatch(leaf) or name in self._taken:
                continue
            if self._library != "torch":
                self._why[name] = _no_rule("Recurrent", self._library)
                continue
            new = Entry.of(_joined(self._renamed(prefix), leaf), entry.dtype, entry.shape)
            self._taken.add(name)
            self._found[name] = [Planned(new, (Move(name),))]

    def _parts_there(
        self, prefix: str, member: Member, parts: Sequence[Part], sources: Sequence[str]
    ) -> list[Planned]:
        (source,) = sources
        entry = self._entries[source]
        shares = _row_ranges(entry.shape, len(parts))
        found: list[Planned] = []
        for part, rows in zip(parts, shares, strict=True):
            taken = entry.shape if rows is None else (rows[1] - rows[0], *entry.shape[1:])
            shape = part.arrangement.shape(taken)
            new = Entry.of(_joined(prefix, part.name), entry.dtype, shape)
            found.append(Planned(new, (Move(source, part.arrangement, False, rows),)))
        return found

    def _parts_back(
        self, prefix: str, member: Member, parts: Sequence[Part], sources: Sequence[str]
    ) -> list[Planned]:
        entries = [self._entries[source] for source in sources]
        shapes = [
            part.arrangement.shape(entry.shape, back=True)
            for part, entry in zip(parts, entries, strict=True)
        ]
        if len(set(shapes)) > 1 or len({entry.dtype for entry in entries}) > 1:
            raise ValueError(f"its parts have different shapes or element types: {shapes}")
        count, first = len(parts), shapes[0]
        shape = first if count == 1 else (first[0] * count, *first[1:])
        new = Entry.of(_joined(prefix, member.name), entries[0].dtype, shape)
        moves = [
            Move(source, part.arrangement, True, None, rows)
            for source, part, rows in zip(sources, parts, _row_ranges(shape, count), strict=True)
        ]
        return [Planned(new, tuple(moves))]

    def _renamed(self, prefix: str) -> str:
        """The new name of a layer; dense layers of a TransformerEncoderLayer have others."""
        parent, _, last = prefix.rpartition(".")
        if last not in self._inner or _joined(parent, "self_attn.in_proj_weight") not in (
            self._entries
        ):
            return prefix
        return _joined(parent, self._inner[last])

    def _undecided(self, found: ConversionPlan) -> dict[str, str]:
        new = [planned.entry for planned in found.arrays]
        guessed = guess(new, "paramesh" if self._back else self._theirs)
        kinds = {self._renamed(prefix): kind for prefix, kind in self._kinds.items()}
        names = {planned.entry.name for planned in found.arrays} - set(found.unknown)
        return {
            prefix: kind
            for prefix, kind in kinds.items()
            if guessed.get(prefix) != kind
            and any(name.startswith(_joined(prefix, "")) for name in names)
        }


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _row_ranges(shape: tuple[int, ...], count: int) -> list[tuple[int, int] | None]:
    """The row ranges of equal parts; None if there is one part."""
    if count == 1:
        return [None]
    if not shape or shape[0] % count:
        raise ValueError(f"{list(shape)} cannot be split into {count} equal parts along axis 0")
    size = shape[0] // count
    return [(at * size, (at + 1) * size) for at in range(count)]


def _no_rule(kind: str, library: str) -> str:
    if kind == "Recurrent":
        return "Flax's recurrent cells have one bias where these layers have two"
    if kind == "MultiheadAttention":
        return "the number of heads is not known: give the layer's kind, MultiheadAttention:HEADS"
    return f"{kind.partition(':')[0]} has no such parameter in {library}"


def renamed(plan: ConversionPlan, rename: Mapping[str, str]) -> ConversionPlan:
    """The plan with other names.

    Args:
        plan: a plan.
        rename: {name in the plan: name instead}.

    Raises:
        ValueError: two arrays would have the same name.
    """
    arrays = [
        replace(p, entry=replace(p.entry, name=rename.get(p.entry.name, p.entry.name)))
        for p in plan.arrays
    ]
    seen: set[str] = set()
    for planned in arrays:
        if planned.entry.name in seen:
            raise ValueError(f"Two arrays would be named '{planned.entry.name}'.")
        seen.add(planned.entry.name)
    unknown = {rename.get(name, name): why for name, why in plan.unknown.items()}
    kinds: dict[str, str] = {}
    for prefix, kind in plan.kinds.items():
        for old in (p.entry.name for p in plan.arrays):
            rest = old.removeprefix(_joined(prefix, ""))
            new = rename.get(old, old)
            if old.startswith(_joined(prefix, "")) and new.endswith(rest):
                kinds[new.removesuffix(rest).removesuffix(".")] = kind
                break
    return ConversionPlan(arrays, unknown, kinds)
