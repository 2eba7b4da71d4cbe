"""`paramesh inspect`: tables, JSON, comparisons, exit codes and errors."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import Tensor, nn, save_checkpoint
from paramesh.cli import main
from paramesh.cli.figures import chooser, counted, number

Run = tuple[int, str, str]


def run(capsys: pytest.CaptureFixture[str], *words: object) -> Run:
    """Exit code, stdout and stderr of `paramesh words`."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def rows(printed: str) -> list[list[str]]:
    return [line.split() for line in printed.splitlines()]


VALUES: dict[str, Any] = {
    "net.encoder.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "net.encoder.0.bias": np.array([1, np.nan, np.inf], np.float32),
    "net.encoder.1.weight": np.zeros((4, 4, 4), np.float16),
    "net.encoder2.weight": np.ones((), np.int64),
    "step": np.array([7], np.int32),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    note = {"epoch": 3, "note": "[red]x"}
    return save_checkpoint(VALUES, tmp_path / "net.safetensors", append_dict=note)


def test_names_that_the_terminal_cannot_show(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = save_checkpoint([{"name": "größe", "data": Tensor([1.0])}], tmp_path / "net.safetensors")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    with pytest.raises(SystemExit, match="0"):
        main(["inspect", str(path)])
    out.flush()
    assert b"gr\\xf6\\xdfe" in out.buffer.getvalue()
    assert out.errors == "strict"


def test_table_and_totals(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    code, out, err = run(capsys, "inspect", path)
    assert (code, err) == (0, "")
    lines = rows(out)
    assert out.startswith(f"{path}: safetensors, ")
    assert ["net.encoder.0.weight", "(2,", "3)", "Float32", "24", "B"] in lines
    assert ["net.encoder2.weight", "()", "Int64", "8", "B"] in lines
    assert ["5", "parameters", "75", "elements", "176", "B"] in lines
    assert ["net", "4", "74", "172", "B", "97.7%"] in lines
    assert ["net.encoder", "3", "73", "164", "B", "93.2%"] in lines
    assert ["net.encoder.0", "2", "9", "36", "B", "20.5%"] not in lines
    assert ["note", "'[red]x'"] in lines
    _, deeper, _ = run(capsys, "inspect", path, "--depth", 3)
    assert ["net.encoder.0", "2", "9", "36", "B", "20.5%"] in rows(deeper)
    _, none, _ = run(capsys, "inspect", path, "--depth", 0)
    assert "totals by prefix" not in none


def test_statistics_and_what_is_not_finite(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    _, out, _ = run(capsys, "inspect", path, "--stats")
    line = next(row for row in rows(out) if row[:1] == ["net.encoder.0.weight"])
    assert line[6:] == ["0", "5", "2.5", "1.708", "0", "0"]
    line = next(row for row in rows(out) if row[:1] == ["net.encoder.0.bias"])
    assert line[5:] == ["1", "1", "1", "0", "1", "1"]
    assert "NaN or infinite elements in 1 parameter: net.encoder.0.bias" in out
    _, out, _ = run(capsys, "inspect", path, "--stats", "--only", "step")
    assert "All elements are finite." in out


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], list(VALUES)),
        (["--sort", "name"], sorted(VALUES)),
        (
            ["--sort", "size"],
            [
                "net.encoder.1.weight",
                "net.encoder.0.weight",
                "net.encoder.0.bias",
                "net.encoder2.weight",
                "step",
            ],
        ),
        (["--largest", "2"], ["net.encoder.0.weight", "net.encoder.1.weight"]),
        (
            ["--only", "net.encoder2", "--only", "*.bias"],
            ["net.encoder.0.bias", "net.encoder2.weight"],
        ),
    ],
)
def test_order_and_choice(
    capsys: pytest.CaptureFixture[str], path: Path, words: list[str], names: list[str]
) -> None:
    _, out, _ = run(capsys, "inspect", path, "--json", *words)
    assert [about["name"] for about in json.loads(out)["parameters"]] == names


def test_json(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    _, out, _ = run(capsys, "inspect", path, "--json", "--stats")
    found = json.loads(out)
    assert found["format"] == "safetensors"
    assert found["append_dict"] == {"epoch": 3, "note": "[red]x"}
    assert found["totals"] == {"parameters": 5, "elements": 75, "bytes": 176}
    assert found["parameters"][1] == {
        "name": "net.encoder.0.bias",
        "shape": [3],
        "dtype": "float32",
        "bytes": 12,
        "statistics": {
            "count": 3,
            "nans": 1,
            "infinities": 1,
            "zeros": 0,
            "low": 1.0,
            "high": 1.0,
            "mean": 1.0,
            "std": 0.0,
        },
    }


def test_comparison(capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path) -> None:
    assert run(capsys, "inspect", path, path)[:2] == (0, "No difference: 5 parameters the same.\n")
    changed = VALUES | {
        "net.encoder.0.weight": VALUES["net.encoder.0.weight"] + np.float32(0.5),
        "net.encoder.1.weight": np.zeros((4, 4), np.float16),
        "step": np.array([7], np.int64),
        "new": np.zeros(2),
    }
    del changed["net.encoder.0.bias"]
    other = save_checkpoint(changed, tmp_path / "other.safetensors", append_dict={"epoch": 4})
    code, out, err = run(capsys, "inspect", path, other)
    assert (code, err) == (1, "")
    lines = rows(out)
    assert ["only", "in", str(other)] in lines
    assert ["net.encoder.0.bias", "(3,)", "Float32"] in lines
    assert ["net.encoder.1.weight", "(4,", "4,", "4)", "(4,", "4)"] in lines
    assert ["step", "Int32", "Int64"] in lines
    assert ["net.encoder.0.weight", "0.5", "1", "6", "6", "[0,", "0]", "0.0", "0.5"] in lines
    assert ["epoch", "3", "4"] in lines
    assert out.endswith(
        "1 only in the first, 1 only in the second, 1 of another shape, 1 of another element type, "
        "1 with other values, 2 other in append_dict; 1 parameter the same.\n"
    )
    only = ["--only", "net.encoder.0.weight"]
    assert run(capsys, "inspect", path, other, *only)[0] == 1
    assert run(capsys, "inspect", path, other, *only, "--atol", 0.5)[0] == 0
    code, out, _ = run(capsys, "inspect", path, other, "--json")
    found = json.loads(out)
    assert (code, found["equal"], found["same"]) == (1, False, 1)
    assert found["append_dict"]["note"] == {"first": "[red]x", "second": None}
    assert found["values"][0]["largest"] == 0.5


def test_a_network_of_the_guide(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = save_checkpoint(nn.SequentialCell(nn.Dense(4, 8), nn.Dense(8, 2)), tmp_path / "n")
    _, out, _ = run(capsys, "inspect", path)
    assert ["4", "parameters", "58", "elements", "232", "B"] in rows(out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{dir}/none"], "There is no checkpoint '{dir}/none'."),
        (["{path}", "{dir}/none"], "There is no checkpoint '{dir}/none'."),
        (["{dir}/text"], "'{dir}/text' is a text file without arrays"),
        (["{path}", "--only", "decoder"], "{path}: none of its 5 parameters matches 'decoder'"),
        (["{path}", "{path}", "--only", "x*"], "neither {path} nor {path} has a parameter"),
        (["{path}", "--sort", "age"], "--sort age: expected one of file, name, size"),
        (["{path}", "--rtol", "1"], "--rtol and --atol are for two checkpoints"),
        (["{path}", "{path}", "--stats"], "--stats is for one checkpoint; two are compared"),
    ],
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "text").write_text("this is no checkpoint at all")
    given = [word.format(path=path, dir=tmp_path) for word in words]
    code, out, err = run(capsys, "inspect", *given)
    assert (code, out) == (2, "")
    assert err.startswith("paramesh: " + message.format(path=path, dir=tmp_path))
    assert err.count("\n") == 1


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "inspect", "--help")
    assert code == 0
    assert "paramesh inspect net.safetensors --json" in out
    for option in ("--stats", "--only", "--sort", "--depth", "--json", "--rtol"):
        assert option in out


def test_figures() -> None:
    assert [number(x) for x in (None, 3, 1200, 0.1, 1e-9)] == ["-", "3", "1,200", "0.1", "1e-09"]
    assert counted(1, "parameter") == "1 parameter"
    wanted = chooser(["a.b", "c*", "d."])
    assert [name for name in ("a.b", "a.b.c", "a.bc", "cx", "d", "d.e") if wanted(name)] == [
        "a.b",
        "a.b.c",
        "cx",
        "d.e",
    ]
