"""MindRecord files: those of MindSpore are read, and ours are laid out the same."""

from __future__ import annotations

import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import goldens
from paramesh import dataset as ds
from paramesh import mindrecord
from paramesh.mindrecord import FileReader, FileWriter
from paramesh.mindrecord.layout import pack_ints, unpack_ints

SCHEMAS: dict[str, Any] = {
    "mixed": {
        "name": {"type": "string"}, "label": {"type": "int32"}, "data": {"type": "bytes"},
        "f": {"type": "float32"},
    },
    "arrays": {
        "a": {"type": "int32", "shape": [-1]}, "b": {"type": "float32", "shape": [2, 2]},
        "c": {"type": "int64"}, "d": {"type": "int64", "shape": [-1, 2]},
        "e": {"type": "float64", "shape": [-1]},
    },
    "plain": {"label": {"type": "int64"}, "s": {"type": "string"}, "x": {"type": "float64"}},
    "shards": {"label": {"type": "int64"}, "data": {"type": "bytes"}},
    "pages": {"a": {"type": "bytes"}, "s": {"type": "string"}, "n": {"type": "int32"}},
}  # fmt: skip
_INTS = [1, 300, -2, 70000, -5, 127, -128, 128, 32767]
ROWS: dict[str, list[dict[str, Any]]] = {
    "mixed": [
        {"name": f"n{i}é", "label": i - 2, "data": bytes([i] * (i + 1)), "f": i + 0.3}
        for i in range(5)
    ],
    "arrays": [
        {
            "a": np.array(_INTS[:n], np.int32), "b": np.full((2, 2), n / 3, np.float32),
            "c": n * 10**12, "d": np.array([[2**40, -1]] * n, np.int64).reshape(-1, 2),
            "e": np.arange(n) / 7,
        }
        for n in (1, 4, 5, 9)
    ],
    "plain": [{"label": -i * 10**10, "s": "x" * i, "x": i / 3} for i in range(3)],
    "shards": [{"label": i, "data": b"q" * 10} for i in range(10)],
    "pages": [{"a": bytes([i]) * 9000, "s": "s" * 4000, "n": i} for i in range(12)],
}  # fmt: skip
INDEXES = {"mixed": ["label", "name"], "shards": ["label"], "pages": ["n"]}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    with zipfile.ZipFile(goldens.DIRECTORY / "dataset" / "mindrecord.zip") as archive:
        archive.extractall(folder)
    return folder


def write(path: Path, name: str, **arguments: Any) -> None:
    writer = FileWriter(str(path / name), 3 if name == "shards" else 1, **arguments)
    writer.add_schema(SCHEMAS[name], "recorded")
    if name in INDEXES:
        writer.add_index(INDEXES[name])
    writer.set_header_size(1 << 14)
    writer.set_page_size(1 << 15)
    writer.write_raw_data(ROWS[name])
    writer.commit()


def first(name: str) -> str:
    return "shards0" if name == "shards" else name


def check(found: list[dict[str, Any]], name: str) -> None:
    assert len(found) == len(ROWS[name])
    for row, expected in zip(found, ROWS[name], strict=True):
        assert row.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(row[key], value, strict=isinstance(value, np.ndarray))


@pytest.mark.parametrize("name", SCHEMAS)
def test_reads_what_mindspore_wrote(name: str, recorded: Path) -> None:
    reader = FileReader(str(recorded / first(name)))
    check(list(reader.get_next()), name)
    assert reader.len() == len(ROWS[name])
    assert reader.schema() == SCHEMAS[name]
    reader.close()


# Where there are several pages, MindSpore numbers them otherwise.
@pytest.mark.parametrize("name", sorted(SCHEMAS.keys() - {"pages"}))
def test_writes_the_bytes_that_mindspore_writes(name: str, recorded: Path, tmp_path: Path) -> None:
    write(tmp_path, name)
    for theirs in sorted(recorded.glob(f"{name}*")):
        ours = tmp_path / theirs.name
        if theirs.suffix == ".db":
            dumps = []
            for path in (theirs, ours):
                link = sqlite3.connect(path)
                names = [c[1] for c in link.execute("PRAGMA table_info(INDEXES)")]
                dumps.append(
                    [
                        names,
                        link.execute("SELECT * FROM INDEXES").fetchall(),
                        link.execute("SELECT * FROM SHARD_NAME").fetchall(),
                    ]
                )
                link.close()
            assert dumps[1] == dumps[0]
        else:
            assert ours.read_bytes() == theirs.read_bytes()


def test_rows_can_be_added_later(tmp_path: Path) -> None:
    path = str(tmp_path / "more")
    writer = FileWriter(path)
    writer.add_schema(SCHEMAS["pages"])
    writer.set_page_size(1 << 15)
    writer.write_raw_data(ROWS["pages"][:5])
    writer.commit()
    for rows in (ROWS["pages"][5:6], ROWS["pages"][6:]):
        writer = FileWriter.open_for_append(path)
        writer.write_raw_data(rows)
        writer.commit()
    check(list(FileReader(path).get_next()), "pages")


def test_packed_ints_come_back() -> None:
    rng = np.random.default_rng(0)
    for count in range(20):
        wide = rng.integers(-(2**62), 2**62, count) >> rng.integers(0, 62, count)
        np.testing.assert_array_equal(unpack_ints(pack_ints(wide), np.int64), wide)
    with pytest.raises(ValueError, match="bytes of packed ints, 3 are expected"):
        unpack_ints(pack_ints(np.arange(3))[:-1], np.int64)


def labels(**arguments: Any) -> list[int]:
    data = ds.MindDataset(**arguments)
    return [int(row["label"]) for row in data.create_dict_iterator(1, output_numpy=True)]


def test_mind_dataset(recorded: Path) -> None:
    file = str(recorded / "shards0")
    # Recorded from MindSpore.
    parts = [labels(dataset_files=file, num_shards=3, shard_id=i, shuffle=False) for i in range(3)]
    assert parts == [[0, 3, 6, 9], [1, 4, 7, 0], [2, 5, 8, 1]]
    padded: Any = {"padded_sample": {"label": -1, "data": b"0"}, "num_padded": 2}
    parts = [
        labels(dataset_files=file, num_shards=3, shard_id=i, shuffle=False, **padded)
        for i in range(3)
    ]
    assert parts == [[0, 3, 6, 9], [1, 4, 7, -1], [2, 5, 8, -1]]
    assert sorted(labels(dataset_files=file)) == list(range(10))
    assert labels(dataset_files=[file], shuffle=False) == [0, 1, 2]
    assert labels(dataset_file=[file], shuffle=False) == [0, 1, 2]  # MindSpore 1.x's name
    with pytest.raises(TypeError, match="give dataset_files"):
        ds.MindDataset()
    with pytest.raises(TypeError, match="give dataset_files"):
        ds.MindDataset(dataset_files=file, dataset_file=file)
    assert sorted(labels(dataset_files=file, sampler=ds.PKSampler(1))) == list(range(10))

    data = ds.MindDataset(str(recorded / "arrays"), shuffle=False)
    assert data.get_col_names() == ["a", "b", "c", "d", "e"]
    row = list(data.create_dict_iterator(1, output_numpy=True))[-1]
    assert {k: (v.dtype.name, v.shape) for k, v in row.items()} == {
        "a": ("int32", (9,)), "b": ("float32", (2, 2)), "c": ("int64", ()), "d": ("int64", (9, 2)),
        "e": ("float64", (9,)),
    }  # fmt: skip
    mixed = ds.MindDataset(str(recorded / "mixed"), ["data", "name"], shuffle=False)
    row = list(mixed.create_dict_iterator(1, output_numpy=True))[2]
    assert row["data"].tolist() == [2, 2, 2]
    assert row["name"].item() == "n2é"


def test_wrong_arguments_and_files(tmp_path: Path, recorded: Path) -> None:
    writer = FileWriter(str(tmp_path / "x"))
    with pytest.raises(mindrecord.MRMGetMetaError, match="call add_schema before"):
        writer.write_raw_data([{"a": 1}])
    with pytest.raises(mindrecord.MRMInvalidSchemaError, match="field 'a' has type 'foo'"):
        writer.add_schema({"a": {"type": "foo"}})
    writer.add_schema({"a": {"type": "int32"}, "v": {"type": "int32", "shape": [-1]}})
    rows: list[tuple[Any, str]] = [
        ({"a": 1}, "row 0 has no field 'v'"),
        ({"a": 1.5, "v": np.zeros(1, np.int32)}, r"field 'a' is float \(1.5\), .* says int32"),
        ({"a": 2**31, "v": np.zeros(1, np.int32)}, "field 'a' is 2147483648, which is no int32"),
        ({"a": 1, "v": np.zeros(1)}, "field 'v' is float64, the schema says an array of int32"),
    ]
    for row, message in rows:
        with pytest.raises(mindrecord.MRMValidateDataError, match=message):
            writer.write_raw_data([row])
    with pytest.raises(mindrecord.MRMDefineIndexError, match="'v' is none of the fields"):
        writer.add_index(["v"])
    (tmp_path / "none").write_bytes(b"not a record file at all")
    with pytest.raises(RuntimeError, match="is no MindRecord file"):
        ds.MindDataset(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="there is no file"):
        ds.MindDataset(str(tmp_path / "nowhere"))
    with pytest.raises(RuntimeError, match="there is no column 'zz'; there are"):
        ds.MindDataset(str(recorded / "mixed"), ["zz"])
    write(tmp_path, "plain")
    with pytest.raises(mindrecord.MRMOpenError, match="is there already"):
        write(tmp_path, "plain")
    write(tmp_path, "plain", overwrite=True)
    data = (tmp_path / "plain").read_bytes()
    (tmp_path / "plain").write_bytes(data[: (1 << 14) + (1 << 15) + 10])
    with pytest.raises(mindrecord.MRMOpenError, match="is cut off"):
        list(FileReader(str(tmp_path / "plain")).get_next())


def test_save_writes_a_dataset(tmp_path: Path) -> None:
    columns = {"a": np.arange(6, dtype=np.float32).reshape(3, 2), "b": [1, 2, 3], "c": list("xyz")}
    ds.NumpySlicesDataset(columns, shuffle=False).save(str(tmp_path / "saved"))
    rows = list(FileReader(str(tmp_path / "saved")).get_next())
    assert [row["b"] for row in rows] == [1, 2, 3]
    assert [row["c"] for row in rows] == ["x", "y", "z"]
    np.testing.assert_array_equal(np.stack([row["a"] for row in rows]), columns["a"])
