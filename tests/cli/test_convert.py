"""`paramesh convert`: what it prints, and its errors; the conversion has its own tests."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from paramesh import load_checkpoint, save_checkpoint
from paramesh.cli import checkpoint_writing, main


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `paramesh words`."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


@pytest.fixture
def path(tmp_path: Path) -> Path:
    values = {
        "net.fc.weight": np.full((2, 3), 7e4, np.float32),
        "net.fc.bias": np.zeros(2, np.float32),
        "net.conv.weight": np.ones((2, 3, 1, 5), np.float32),
        "step": np.array(3, np.int32),
    }
    return save_checkpoint(values, tmp_path / "net.safetensors")


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in load_checkpoint(path).items()}


def test_names_and_layouts(capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path) -> None:
    new = tmp_path / "flax.safetensors"
    words = ["--to", "flax", "--layer", "*.conv=Conv1d", "--rename", "net="]
    code, out, err = run(capsys, "convert", path, new, *words)
    assert (code, err) == (0, "")
    assert out == (
        f"{path} -> {new} (safetensors): 4 parameters, 156 B, 3 renamed.\n"
        "Kept unchanged, since there is no rule for flax:\n  step\n"
    )
    assert shapes(new) == {
        "fc.kernel": (3, 2),
        "fc.bias": (2,),
        "conv.kernel": (5, 3, 2),
        "step": (),
    }
    back = tmp_path / "back.safetensors"
    assert run(capsys, "convert", new, back, "--from", "flax", "--rename", "*=net.*")[0] == 0
    assert shapes(back) == {
        "net.fc.weight": (2, 3),
        "net.fc.bias": (2,),
        "net.conv.weight": (2, 3, 1, 5),
        "net.step": (),
    }


def test_element_type_and_choice(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path
) -> None:
    new, rules = tmp_path / "half.safetensors", tmp_path / "rules"
    rules.write_text("# two rules\n\nnet.fc=head\nnet=body\n")
    words = ["--dtype", "float16", "--only", "net", "--rename", f"@{rules}"]
    code, out, _ = run(capsys, "convert", path, new, *words)
    assert code == 0
    assert "head.weight: 6 elements too large for float16, now infinite." in out
    found = load_checkpoint(new)
    assert {name: str(value.dtype) for name, value in found.items()} == {
        "head.weight": "Float16",
        "head.bias": "Float16",
        "body.conv.weight": "Float16",
    }


def test_an_existing_file_is_replaced_with_force(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old.safetensors"
    old.write_text("old")
    code, _, err = run(capsys, "convert", path, old)
    assert (code, old.read_text()) == (2, "old")
    assert err == (
        f"paramesh: '{old}' already exists, and was left unchanged; --force replaces it\n"
    )
    assert run(capsys, "convert", path, old, "--force")[0] == 0
    assert set(shapes(old)) == set(shapes(path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{dir}/none", "{dir}/x.safetensors"], "There is no checkpoint '{dir}/none'."),
        (["{dir}/text", "{dir}/x.safetensors"], "Checkpoint '{dir}/text' is not a valid"),
        (["{path}", "{path}"], "'{path}' is the source itself"),
        (["{path}", "{dir}/no/x.safetensors"], "There is no folder '{dir}/no'"),
        (["{path}", "{dir}/x.bin"], "'{dir}/x.bin' has no suffix of a known format"),
        (["{path}", "{dir}/x", "--format", "zip"], "Unknown checkpoint format 'zip'"),
        (["{path}", "{dir}/x.safetensors", "--dtype", "int8"], "--dtype int8: expected one of"),
        (
            ["{path}", "{dir}/x.safetensors", "--to", "keras"],
            "--to keras: expected one of torch, flax",
        ),
        (
            ["{path}", "{dir}/x.safetensors", "--to", "flax", "--from", "flax"],
            "give --to or --from, not both",
        ),
        (["{path}", "{dir}/x.safetensors", "--layer", "a=Dense"], "--layer goes with --to or"),
        (
            ["{path}", "{dir}/x.safetensors", "--to", "flax", "--layer", "conv"],
            "--layer conv: expected PREFIX=KIND",
        ),
        (
            ["{path}", "{dir}/x.safetensors", "--to", "flax", "--layer", "conv=Conv1d"],
            "No layer 'conv' has parameters of a Conv1d: conv.weight, conv.bias.",
        ),
        (["{path}", "{dir}/x.safetensors", "--rename", "a"], "--rename: The rule 'a' is not of"),
        (
            ["{path}", "{dir}/x.safetensors", "--rename", "@{dir}/no"],
            "--rename @{dir}/no: cannot be read",
        ),
        (["{path}", "{dir}/x.safetensors", "--rename", "*=x"], "Two arrays would be named 'x'."),
        (["{path}", "{dir}/x.safetensors", "--only", "no"], "{path}: no parameter matches 'no'"),
    ],
)
def test_errors_are_one_line_and_leave_no_file(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "text").write_text("this is no checkpoint at all")
    given = [word.format(path=path, dir=tmp_path) for word in words]
    code, out, err = run(capsys, "convert", *given)
    assert (code, out) == (2, "")
    assert err.startswith("paramesh: " + message.format(path=path, dir=tmp_path))
    assert err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.safetensors", "text"]


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "convert", "--help")
    assert code == 0
    assert "paramesh convert net.safetensors torch.safetensors --to torch" in out
    for option in ("--format", "--dtype", "--to", "--from", "--layer", "--rename", "--only"):
        assert option in out


def test_progress_counts_the_bytes_of_a_folder(
    capsys: pytest.CaptureFixture[str], path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar is over the bytes of the selected arrays, whatever files they are in."""
    folder = save_checkpoint(load_checkpoint(path), tmp_path / "net.sharded")
    bars: list[tuple[str, int, list[int]]] = []

    @contextmanager
    def progress(what: str, nbytes: int) -> Generator[Callable[[int], None]]:
        bars.append((what, nbytes, []))
        yield bars[-1][2].append

    monkeypatch.setattr(checkpoint_writing, "progress", progress)
    new = tmp_path / "half.safetensors"
    assert run(capsys, "convert", folder, new, "--dtype", "float16", "--only", "net")[0] == 0
    ((what, nbytes, steps),) = bars
    assert (what, nbytes) == ("converting", (6 + 2 + 30) * 4)
    assert len(steps) == 3
    assert all(step > 0 for step in steps)
    assert sum(steps) == nbytes
