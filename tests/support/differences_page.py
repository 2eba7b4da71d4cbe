"""The page docs/reference/differences.md, made from the lists beside the golden data.

    python tests/support/differences_page.py --write

The tests hold each list against paramesh, and the page against the lists. A list is either flat
(`[{area, case, paramesh, reason}]`) or has its reasons in a table (`{rules: {id: {title, reason}},
differences: [{area, case, paramesh, rule}], left: [{area, case, rule}]}`), and may have notes on
what paramesh says where it does as MindSpore does (`notes: [{title, reason}]`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import goldens

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "differences.md"

#: Title of a section, and the list it is made from.
SECTIONS = {
    "Parameters, Tensors and Cells": "differences",
    "Initializers": "differences_initializer",
    "Gradients": "differences_gradients",
    "Layers and losses": "differences_layers",
    "Optimizers and schedules": "differences_optimizers",
    "Parallel modes": "differences_parallel",
    "Checkpoints": "differences_checkpoint",
    "Datasets": "differences_dataset",
}

_INTRO = """\
# Differences from MindSpore

Where paramesh behaves differently from MindSpore, and why. The page is generated from lists that
the tests check against paramesh (`python tests/support/differences_page.py --write`), so it is
never out of date.

paramesh follows, in this order: the Parameter guide; the rules of MindSpore 1.x; and the behaviour
of MindSpore 2.10 on a CPU, recorded case by case. Where 2.10 silently does harm, paramesh raises an
error or does what is documented.
"""

_LONGEST = 70


def page() -> str:
    """The text of the page."""
    parts = [_INTRO]
    for title, name in SECTIONS.items():
        if not (goldens.DIRECTORY / f"{name}.json").exists():
            continue
        parts.append(f"## {title}\n")
        listed = goldens.load(name)
        if isinstance(listed, list):
            parts += _flat(listed)
        else:
            parts += _by_rule(listed)
    return "\n".join(parts)


def _by_rule(listed: dict[str, Any]) -> list[str]:
    recorded = {(r["area"], r["case"]): r for r in goldens.load("behaviour")}
    parts = []
    for rule, about in listed["rules"].items():
        parts.append(f"### {about['title']}\n\n{about['reason']}\n")
        rows: dict[tuple[str, str], list[str]] = {}
        for entry in listed["differences"]:
            if entry["rule"] == rule:
                theirs = recorded[entry["area"], entry["case"]]
                row = (_outcome(theirs), _outcome(entry["paramesh"]))
                rows.setdefault(row, []).append(f"{entry['area']}: {entry['case']}")
        if rows:
            parts.append("| MindSpore | paramesh | recorded case |\n|---|---|---|")
            parts += [f"| {a} | {b} | {_cases(cases)} |" for (a, b), cases in rows.items()]
            parts.append("")
        left = [f"{d['area']}: {d['case']}" for d in listed["left"] if d["rule"] == rule]
        if left:
            parts.append(f"Left out: {_cases(left)}.\n")
    for about in listed.get("notes", ()):
        parts.append(f"### {about['title']}\n\n{about['reason']}\n")
    return parts


def _flat(listed: list[dict[str, Any]]) -> list[str]:
    groups: dict[str, dict[str, list[str]]] = {}
    for entry in listed:
        rows = groups.setdefault(entry["reason"], {})
        rows.setdefault(_outcome(entry["paramesh"]), []).append(f"{entry['area']}: {entry['case']}")
    parts = []
    for reason, rows in groups.items():
        parts.append(f"**{_escaped(reason)}**\n\n| paramesh | recorded case |\n|---|---|")
        parts += [f"| {outcome} | {_cases(cases)} |" for outcome, cases in rows.items()]
        parts.append("")
    return parts


def _cases(cases: list[str]) -> str:
    """Cases with the area named where it changes."""
    shown, last = [], None
    for area, case in (text.split(": ", 1) for text in cases):
        name = f"`{_escaped(case)}`"
        shown.append(name if area == last else f"{_escaped(area)} {name}")
        last = area
    return ", ".join(shown)


def _outcome(what: Any) -> str:
    if isinstance(what, str):
        return _escaped(what)
    if isinstance(what, dict) and "error" in what:
        return f"`{what['error']}`"
    value = what["result"] if isinstance(what, dict) and "result" in what else what
    if isinstance(value, str) and " " in value.strip() and "<" not in value and "=" not in value:
        return _escaped(value)
    text = _short(value)
    return f"`{_escaped(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + '…')}`"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    if not isinstance(value, dict):
        return str(value) if not isinstance(value, str) else value
    if "items" in value:
        return "(" + ", ".join(map(_short, value["items"])) + ")"
    if "dtype" in value:
        contents = "a recipe" if value.get("has_init") else value.get("value", "…")
        return f"{value['type']}({contents}, {value['dtype']})"
    return json.dumps(value)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("`", "'").strip()


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/support/differences_page.py --write")
    PAGE.write_text(page(), encoding="utf-8")
