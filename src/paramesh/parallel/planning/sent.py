"""What a compiled program sends: the collectives in its text, whatever hardware it is for.

Bytes are those that one device sends in one run, with rings, as the cost model counts them
(`search/resharding.py`). What a loop sends counts for each turn, where the compiler knows how many
there are.
"""

from __future__ import annotations

import collections
import math
import re
from typing import Any, NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_OPERATION = re.compile(
    r"^(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>.+?) "
    rf"(?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\("
)
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{\s*$")
_CALLED = re.compile(
    r"\b(body|calls|to_apply|called_computations|branch_computations|true_computation"
    r"|false_computation)=\{?(%?[\w.\-]+(?:, *%?[\w.\-]+)*)"
)
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_BODY = re.compile(r"\bbody=%?([\w.\-]+)")
_ROOT = re.compile(r"^ROOT .* tuple\((.*?)\)")
_CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
_LESS = re.compile(r"^ROOT .* compare\(%?([\w.\-]+), %?([\w.\-]+)\), direction=LT")
_SLICE = re.compile(r" dynamic-slice\(%?([\w.\-]+),")
_ELEMENT = re.compile(r"^%?([\w.\-]+) = .* get-tuple-element\(.*index=(\d+)")
_NUMBER = re.compile(r"^%?([\w.\-]+) = [su]32\[\]\S* constant\((\d+)\)")


class SentByCompiler(NamedTuple):
    """The collectives of one kind in a compiled program.

    Attributes:
        kind: as in XLA's programs.
        operations: how many there are in the program.
        nbytes: that a device sends in a run.
    """

    kind: str
    operations: int
    nbytes: float


def sent_by(text: str) -> list[SentByCompiler]:
    """The collectives in the text of a compiled program, by kind, the most bytes first."""
    bodies, entry = _computations(text)
    # By channel: TPUs spread one collective over several fused computations, each with its text.
    # Some may be in a loop that turns while it goes on, so that the fewest turns count.
    channels: dict[tuple[str, Any], float] = {}
    for name, turns in _turns(bodies, entry).items():
        for line in bodies[name]:
            match = _OPERATION.match(line)
            if match is None:
                continue
            kind = match["kind"]
            size = turns * _sent(kind, match["shape"], line, bool(match["start"]))
            if kind == "all-reduce" and _is_scattered(match["name"], bodies[name]):
                kind, size = "reduce-scatter", size / 2
            channel = re.search(r"channel_id=(\d+)", line)
            key = kind, channel[1] if channel else line
            if kind == "reduce-scatter" and match["shape"].startswith("(") and not match["start"]:
                key = kind, name  # sums that TPUs have joined are all on one channel
            if size:
                channels[key] = min(size, channels.get(key, size))
    counts: collections.Counter[str] = collections.Counter()
    nbytes: dict[str, float] = collections.defaultdict(float)
    for (kind, _), size in channels.items():
        counts[kind] += 1
        nbytes[kind] += size
    found = [SentByCompiler(kind, counts[kind], nbytes[kind]) for kind in counts]
    return sorted(found, key=lambda one: -one.nbytes)


def _sent(kind: str, shape: str, line: str, start: bool) -> float:
    arrays = [_nbytes(*array) for array in _ARRAY.findall(shape)]
    count = 2 if kind == "collective-permute" else _group(line)
    if count < 2 or not arrays:
        return 0.0
    if start and shape.startswith("(("):  # (operands, results)
        half = len(arrays) // 2
        arrays = arrays[half : 2 * half]
    elif start and kind != "all-reduce" and shape.startswith("("):  # (operand, result, …)
        arrays = arrays[1:2]
    size = float(sum(arrays))
    if kind == "all-reduce":
        return 2 * size * (count - 1) / count
    if kind == "reduce-scatter":
        return size * (count - 1)
    if kind == "collective-permute":
        return size
    return size * (count - 1) / count


def _is_scattered(name: str, body: list[str]) -> bool:
    """Whether a fusion of TPUs gives each device its part of a sum: they send no more than that.

    One fusion may do so for several sums, and gives all parts.
    """
    root = next((line for line in body if line.startswith("ROOT ")), "")
    if " tuple(" not in root:
        return bool(re.search(rf" dynamic-slice\(%?{re.escape(name)},", root))
    sums = re.compile(rf"^%?([\w.\-]+) = .* get-tuple-element\(%?{re.escape(name)}\)")
    elements = {match[1] for line in body if (match := sums.match(line))}
    slices = [match[1] for line in body if (match := _SLICE.search(line))]
    return bool(elements) and sorted(elements) == sorted(slices)


def _nbytes(dtype: str, dims: str) -> float:
    if dtype == "pred":
        bits = 8
    else:
        bits = int(re.findall(r"\d+", dtype)[0])
    return math.prod(int(n) for n in dims.split(",") if n) * bits / 8


def _group(line: str) -> int:
    """How many devices take part; 1 where the line does not say."""
    if mesh := re.search(r"replica_groups=mesh\[(.*?)\].*?\{(.*?)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))
    if shape := re.search(r"replica_groups=\[(\d+),(\d+)\]", line):
        return int(shape[2])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", line)
    return len(listed[1].split(",")) if listed else 1


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    bodies: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        start = None if line.startswith(" ") else _COMPUTATION.match(line)
        if start:
            name = start[2]
            bodies[name] = []
            entry = name if start[1] else entry
        elif line.startswith("}"):
            name = ""
        elif name:
            bodies[name].append(line.strip())
    return bodies, entry


def _turns(bodies: dict[str, list[str]], entry: str) -> dict[str, int]:
    """How often each computation runs; those that are nowhere called do not."""
    turns: dict[str, int] = {}
    todo = [(entry, 1)]
    while todo:
        name, times = todo.pop()
        if name not in bodies or turns.get(name, 0) >= times:
            continue
        turns[name] = times
        for line in bodies[name]:
            for how, names in _CALLED.findall(line):
                inner = times * (_turns_of_loop(line, bodies) if how == "body" else 1)
                todo += [(one.strip().removeprefix("%"), inner) for one in names.split(",")]
    return turns


def _turns_of_loop(line: str, bodies: dict[str, list[str]]) -> int:
    """How often a loop turns: as the compiler says, or as its condition compares.

    The compiler of TPUs does not say it. JAX's loops and XLA's own begin at 0.
    """
    if known := _TURNS.search(line):
        return int(known[1])
    condition, body = _CONDITION.search(line), _BODY.search(line)
    if condition is None or body is None:
        return 1
    tested = bodies.get(condition[1], [])
    less = next((match for own in tested if (match := _LESS.match(own))), None)
    end = _numbers(tested).get(less[2]) if less else None
    if less is None or end is None:
        return 1
    elements = {match[1]: int(match[2]) for own in tested if (match := _ELEMENT.match(own))}
    return -(-end // _stride(bodies.get(body[1], []), elements.get(less[1])))


def _numbers(body: list[str]) -> dict[str, int]:
    return {match[1]: int(match[2]) for line in body if (match := _NUMBER.match(line))}


def _stride(body: list[str], place: int | None) -> int:
    """By how much a turn raises this element of what the loop carries; 1 where that is not told."""
    root = next((match for line in body if (match := _ROOT.match(line))), None)
    if root is None or place is None:
        return 1
    names = [one.split()[-1].removeprefix("%") for one in root[1].split(", ")]
    if place >= len(names):
        return 1
    added = re.compile(rf"^%?{re.escape(names[place])} = .* add\(%?[\w.\-]+, %?([\w.\-]+)\)")
    by = next((match[1] for line in body if (match := added.match(line))), "")
    return max(_numbers(body).get(by, 1), 1)
