"""What a compiled program sends: the collectives in its text, as bytes that one device sends."""

from __future__ import annotations

import collections
import math
import re

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f64": 8, "s64": 8, "u64": 8, "c64": 8}
_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
_LINE = re.compile(rf"%?([\w.\-]+) = (.+?) ({_KINDS})(?:-start)?\((.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


def collectives(text: str) -> dict[str, float]:
    """Bytes that a device sends in one run, by kind; what a loop sends counts for each turn.

    XLA's CPU compiler writes a reduce-scatter as an all-reduce of which each device takes its
    part, so an all-reduce counts as the part of it that every plan needs: `all-reduce` and
    `reduce-scatter` are told apart by whether all users take slices.
    """
    found: dict[str, float] = collections.defaultdict(float)
    bodies, entry = _computations(text)
    for name, turns in _turns(bodies, entry).items():
        for line in bodies[name]:
            match = _LINE.search(line)
            if match is None:
                continue
            own, shape, kind, _ = match.groups()
            count = 2 if kind == "collective-permute" else _group(line)
            for number, nbytes in enumerate(map(_nbytes, _ARRAY.findall(shape))):
                if count < 2:
                    continue
                part = nbytes * (count - 1) / count
                if kind == "all-reduce":
                    several = shape.startswith("(")
                    names = _elements(own, number, bodies[name]) if several else [own]
                    sliced = bool(names) and all(
                        _is_sliced(one, bodies[name], bodies, nbytes // count) for one in names
                    )
                    part = part if sliced else 2 * part
                    found["reduce-scatter" if sliced else kind] += turns * part
                    continue
                if kind == "reduce-scatter":
                    part = nbytes * (count - 1)
                elif kind == "collective-permute":
                    part = nbytes
                found[kind] += turns * part
    return dict(found)


def _elements(name: str, number: int, body: list[str]) -> list[str]:
    """The names of an element of a result that is several arrays."""
    pattern = rf"%?([\w.\-]+) = .*get-tuple-element\(%?{re.escape(name)}\), index={number}\b"
    return [match[1] for line in body if (match := re.search(pattern, line))]


def _nbytes(array: tuple[str, str]) -> int:
    dtype, dims = array
    return _BYTES.get(dtype, 4) * math.prod(int(n) for n in dims.split(",") if n)


def _group(line: str) -> int:
    """How many devices take part."""
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
        if start := re.match(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line):
            name = start[2]
            bodies[name] = []
            entry = name if start[1] else entry
        elif line.startswith("}"):
            name = ""
        elif name:
            bodies[name].append(line.strip())
    return bodies, entry


def _turns(bodies: dict[str, list[str]], entry: str) -> dict[str, int]:
    turns = {entry: 1}
    todo = [entry]
    while todo:
        name = todo.pop()
        for line in bodies[name]:
            loop = re.search(r"\bwhile\(.*body=%?([\w.\-]+)", line)
            call = re.search(r" call\(.*to_apply=%?([\w.\-]+)", line)
            inner = loop or call
            if inner and inner[1] in bodies:
                known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line) if loop else None
                turns[inner[1]] = turns[name] * (int(known[1]) if known else 1)
                todo.append(inner[1])
    return turns


def _is_sliced(name: str, body: list[str], bodies: dict[str, list[str]], part: int) -> bool:
    """Whether all users of a value take a slice of so many bytes."""
    users = [line for line in body if re.search(rf"[(, ]%?{re.escape(name)}[,)]", line)]
    if not users:
        return False
    for line in users:
        made = re.match(r"(?:ROOT )?%?([\w.\-]+) = (.+?) ([\w\-]+)\(", line)
        if made is None:
            return False
        own, shape, operator = made.groups()
        if operator in ("bitcast", "copy", "reshape", "convert", "get-tuple-element", "transpose"):
            if not _is_sliced(own, body, bodies, part):
                return False
        elif operator == "dynamic-slice":
            if _nbytes(_ARRAY.findall(shape)[0]) != part:
                return False
        elif operator == "fusion":
            called = re.search(r"calls=%?([\w.\-]+)", line)
            given = line.split("fusion(", 1)[1].split(")", 1)[0].split(", ")
            at = next(i for i, g in enumerate(given) if g.split("%")[-1].split(" ")[-1] == name)
            inner = bodies[called[1]] if called else []
            parameter = next((b for b in inner if f" parameter({at})" in b), "")
            inside = parameter.removeprefix("ROOT ").split(" = ")[0].removeprefix("%")
            if not inside or not _is_sliced(inside, inner, bodies, part):
                return False
        else:
            return False
    return True
