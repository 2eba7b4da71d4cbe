"""Files of what a run has trained, as other programs read them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import paramesh
from paramesh import ps
from paramesh.cli import main
from paramesh.errors import ParameterServerError, ParameterStateError
from paramesh.ps.reading import export as exports
from server_folders import RunOfServers


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunOfServers:
    monkeypatch.setattr(exports, "_BLOCK", 7)
    made = RunOfServers(tmp_path / "run")
    for _ in range(3):
        made.push()
    made.close()
    return made


def test_safetensors(run: RunOfServers, tmp_path: Path) -> None:
    with ps.connect(run.folder) as read:
        made = ps.export(read, tmp_path / "out.safetensors")
    store = run.versions[3]
    ids = store.rows("emb/t")
    assert (made.version, made.rows, made.values) == (3, {"emb/t": len(ids)}, ["w"])
    found = load_file(made.path)
    assert found.keys() == {"emb/t.ids", "emb/t.rows", "w"}
    np.testing.assert_array_equal(found["emb/t.ids"], ids)
    np.testing.assert_array_equal(found["emb/t.rows"], store.read("emb/t", ids))
    np.testing.assert_array_equal(found["w"], store.read("w"))


def test_narrow_rows_and_a_choice_of_names(tmp_path: Path) -> None:
    run = RunOfServers(tmp_path / "run", dtype="bfloat16")
    run.push()
    run.close()
    with ps.connect(run.folder) as read:
        ps.export(read, tmp_path / "out.safetensors", names=["emb/t"])
    found = paramesh.load_checkpoint(str(tmp_path / "out.safetensors"))
    assert found.keys() == {"emb/t.ids", "emb/t.rows"}
    store = run.versions[1]
    rows: Any = found["emb/t.rows"].asnumpy()
    assert rows.dtype.name == "bfloat16"
    np.testing.assert_array_equal(rows, store.read("emb/t", store.rows("emb/t")))


def test_parquet(run: RunOfServers, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with ps.connect(run.folder) as read:
        made = ps.export(read, tmp_path / "out", format="parquet")
        with pytest.raises(FileExistsError, match="exists already"):
            ps.export(read, tmp_path / "out", format="parquet")
    store = run.versions[3]
    ids = store.rows("emb/t")
    assert [path.name for path in made.path.iterdir()] == ["emb%2Ft.parquet"]
    found = parquet.read_table(made.path / "emb%2Ft.parquet")
    assert found.column("id").to_pylist() == ids.tolist()
    vectors = np.array(found.column("vector").to_pylist(), np.float32)
    np.testing.assert_array_equal(vectors, store.read("emb/t", ids).reshape(len(ids), -1))


def test_what_cannot_be_exported(
    run: RunOfServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ps.connect(run.folder) as read:
        with pytest.raises(ValueError, match="format must be one of .*, got 'csv'"):
            ps.export(read, tmp_path / "out", format="csv")
        with pytest.raises(ParameterStateError, match="'x' does not exist in this run"):
            ps.export(read, tmp_path / "out", names=["x"])
        with pytest.raises(ParameterStateError, match="'w' is not a table of rows, and Parquet"):
            ps.export(read, tmp_path / "out", format="parquet", names=["w"])
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ParameterServerError, match=r"pip install 'paramesh\[parquet\]'"):
            ps.export(read, tmp_path / "out", format="parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["ps", "export", *words])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_the_command(run: RunOfServers, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.safetensors"
    assert command(str(run.folder), str(out)) == 0
    count = len(run.versions[3].rows("emb/t"))
    said = capsys.readouterr().out
    assert said.startswith("version 3 of")
    assert f"  emb/t: {count} rows\n  and 1 other Parameters\n" in said
    assert load_file(out)["w"].shape == run.versions[3].read("w").shape
    assert command(str(run.folder), str(out), "--name", "emb/t") == 0
    assert load_file(out).keys() == {"emb/t.ids", "emb/t.rows"}
    for words, message in [
        ([str(tmp_path), str(out)], "is not the wal_dir of a run on servers"),
        ([str(run.folder), str(out), "--name", "x"], "'x' does not exist in this run"),
        ([str(run.folder), str(out), "--format", "csv"], "--format is safetensors or parquet"),
        ([str(run.folder), str(tmp_path / "no" / "x.safetensors")], "No such file"),
    ]:
        capsys.readouterr()
        assert command(*words) == 2
        assert message in capsys.readouterr().err.replace("\n", " ")
