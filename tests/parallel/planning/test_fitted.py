"""Tables of plans in terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from paramesh.parallel.planning.fitted import Column, FittedTable

LONG = "the_backbone_network.layers.0.self_attn.in_proj_weight"
COLUMNS = (
    Column("Parameter", least=24),
    Column("shape", dropped=3),
    Column("dtype", dropped=1),
    Column("sharding"),
    Column("copies", right=True, dropped=2),
    Column("per device", right=True),
)
ROWS = [
    (LONG, "(384, 128)", "Float32", "mp, -", "4", "192.0 KiB"),
    ("head.bias", "(64,)", "Float32", "-", "8", "256 B"),
]


def shown(width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(FittedTable(COLUMNS, ROWS))
    return capture.get()


@pytest.mark.parametrize("width", range(50, 130, 3))
def test_what_is_shown_is_whole_at_every_width(width: int) -> None:
    text = shown(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    first = text.split("─ \n")[1].split("head.bias")[0]
    name = "".join(line.split("  ")[0].strip() for line in first.splitlines())
    assert name == LONG
    for cell in ("mp, -", "192.0 KiB", "256 B"):
        assert cell in text
    assert ("Float32" in text) == ("dtype" in text)
    assert ("(384, 128)" in text) == ("shape" in text)


def test_columns_are_left_out_in_their_order() -> None:
    there = [
        [c.title for c in COLUMNS if c.title in shown(width)] for width in (130, 86, 76, 66, 56)
    ]
    assert there[0] == there[1] == [c.title for c in COLUMNS]
    left_out = [sorted({c.title for c in COLUMNS} - set(titles)) for titles in there]
    assert left_out[2:] == [["dtype"], ["copies", "dtype"], ["copies", "dtype", "shape"]]


def test_names_are_broken_after_dots_only_where_they_must_be() -> None:
    assert LONG in shown(130)
    assert "the_backbone_network.layers.0. " in shown(60)
    assert "the_backbone_network. " in shown(80)  # more columns fit then


def test_another_table_is_shown_where_one_would_have_to_be_narrower() -> None:
    narrow = FittedTable(COLUMNS[:1], [row[:1] for row in ROWS])
    for width, is_whole in ((130, True), (90, False)):
        console = Console(file=io.StringIO(), width=width, color_system=None)
        with console.capture() as capture:
            console.print(FittedTable(COLUMNS, ROWS, narrow))
        text = capture.get()
        assert LONG in text
        assert ("dtype" in text) == is_whole


def test_calls_are_broken_after_their_bracket() -> None:
    console = Console(file=io.StringIO(), width=33, color_system=None)
    with console.capture() as capture:
        console.print(
            FittedTable(
                [Column("how", least=27)], [("set_settings_of_everything(steps=16, more=2)",)]
            )
        )
    lines = [line.strip() for line in capture.get().splitlines()]
    assert "set_settings_of_everything(" in lines
    assert "steps=16, more=2)" in lines
