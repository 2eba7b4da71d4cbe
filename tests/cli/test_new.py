"""`paramesh new`, and what the command line proposes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from environments import without_virtual_devices
from paramesh.cli import main
from paramesh.cli.project_files import FILES
from paramesh.cli.suggestions import near


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `paramesh words`."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def test_the_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "my-spirals"
    code, out, err = run(capsys, "new", folder)
    assert (code, err) == (0, "")
    assert f"Next: cd {folder} && python train.py" in out
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert (folder / "README.md").read_text().startswith("# my-spirals\n")
    assert "NAME" not in "".join(path.read_text() for path in folder.iterdir())
    code, _, err = run(capsys, "new", folder)
    assert (code, err) == (2, f"paramesh: {folder} is there already; give another name\n")


@pytest.mark.parametrize("name", ["3d", "a b", "..", "a.b"])
def test_names(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    code, _, err = run(capsys, "new", tmp_path / name)
    assert code == 2
    assert "a project's name has letters, digits, - and _, and begins with a letter" in err


def test_a_folder_that_cannot_be_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "new", tmp_path / "file" / "project")
    assert code == 2
    assert "cannot be written: Not a directory" in err


@pytest.mark.slow
def test_the_project_s_test_passes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "spirals"
    run(capsys, "new", folder)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=folder,
        env=without_virtual_devices(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.slow
def test_the_project_s_script_trains_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["new", str(tmp_path / "spirals")])
    for words, told in ((["--epochs", "2"], "accuracy"), (["--epochs", "3", "--resume"], "3/3")):
        done = subprocess.run(
            [sys.executable, "train.py", *words],
            cwd=tmp_path / "spirals",
            env=without_virtual_devices(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert told in done.stdout + done.stderr
        assert ("1/3" in done.stderr) is False


def test_help_is_short_too(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["-h"], ["convert", "-h"], ["launch", "-h"], ["ps", "status", "-h"]):
        code, out, _ = run(capsys, *words)
        assert code == 0
        assert "Usage: paramesh" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["inpsect", "x"], "Did you mean 'inspect'?"),
        (["shw"], "No such command 'shw'. There are demo, new,"),
        (["inspect", "--stat", "x"], "No such option: --stat. Did you mean --stats?"),
        (["convert", "a", "b", "--dtyp", "x"], "No such option: --dtyp. Did you mean --dtype?"),
        (["merge", "a", "--zzzz"], "No such option: --zzzz. Options are listed by -h."),
        (
            ["plan", "train.py", "--steps", "3"],
            "after its name and --, as in: train.py -- --steps",
        ),
        (["ps", "staus"], "Did you mean 'status'?"),
    ],
)
def test_wrong_words(capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert told in " ".join(err.split())


def test_words_that_are_near() -> None:
    known = ["--stats", "--strategy", "--sort"]
    assert near("--stra", known) == ["--strategy"]
    assert near("--stas", known)[0] == "--stats"
    assert near("--", known) == []


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("paramesh ins", {"inspect"}),
        ("paramesh convert --dtype bf", {"bfloat16"}),
        ("paramesh convert --to ", {"torch", "flax"}),
        ("paramesh inspect --sort s", {"size"}),
    ],
)
def test_completion(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    offered: set[str],
) -> None:
    words = line.split(" ")
    monkeypatch.setenv("_PARAMESH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    code, out, _ = run(capsys)
    assert code == 0
    assert set(out.split()) == offered
