"""Sources of files: TFRecord, damaged files, and what is refused."""

from __future__ import annotations

import functools
import gzip
import json
import operator
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dataset_prelude
from paramesh import dataset as ds
from paramesh.dataset.sources.tfrecord import example_class


def record_file(path: Path, rows: list[dict[str, Any]], pack: Any = None) -> str:
    """A TFRecord file; checksums are not looked at."""
    data = b""
    for row in rows:
        example = example_class()()
        for name, values in row.items():
            kinds = {bytes: "bytes_list", float: "float_list", int: "int64_list"}
            feature = example.features.feature[name]
            getattr(feature, kinds[type(values[0])]).value.extend(values)
        body = example.SerializeToString()
        data += struct.pack("<Q", len(body)) + bytes(4) + body + bytes(4)
    path.write_bytes(data if pack is None else pack(data))
    return str(path)


@pytest.fixture
def records(tmp_path: Path) -> list[str]:
    return [
        record_file(
            tmp_path / f"{i}.tfrecord",
            [
                {"z": [i * 10 + j, 2], "img": [bytes([i, j, 0])], "f": [1.5], "s": [b"a", b"bcd"]}
                for j in range(3)
            ],
        )
        for i in range(3)
    ]


def test_tfrecord_without_a_schema(records: list[str]) -> None:
    # Recorded from MindSpore 2.10.0, for the same file.
    expected = {
        "f": ["float32", [1.5]], "img": ["uint8", [0, 0, 0]],
        "s": ["uint8", [97, 32, 32, 98, 99, 100]], "z": ["int64", [0, 2]],
    }  # fmt: skip
    data = ds.TFRecordDataset(records[0], shuffle=False)
    assert dataset_prelude.shown(data)[0] == expected
    assert data.get_col_names() == ["f", "img", "s", "z"]


def test_tfrecord_with_a_schema(records: list[str], tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text(
        '{"datasetType": "TF", "numRows": 2, "columns": {"z": {"type": "int32", "shape": [2]},'
        '"img": {"type": "uint8", "rank": 1}, "f": {"type": "float32", "rank": 0},'
        '"s": {"type": "string", "rank": 1}}}'
    )
    # Recorded from MindSpore 2.10.0.
    expected = {
        "f": ["float32", 1.5], "img": ["uint8", [0, 0, 0]], "s": ["U3", ["a", "bcd"]],
        "z": ["int32", [0, 2]],
    }  # fmt: skip
    rows = dataset_prelude.shown(ds.TFRecordDataset(records, str(file), shuffle=False))
    assert rows[0] == expected
    assert len(rows) == 2
    schema = ds.Schema()
    schema.add_column("z", "int64", [1, 2])
    schema.add_column("img", "uint8", [4])
    data = ds.TFRecordDataset(records[0], schema, shuffle=False)
    with pytest.raises(RuntimeError, match=r"feature 'img' has 3 values, .* of shape \[4\]"):
        next(data.create_dict_iterator())


def test_tfrecord_shards_and_compression(records: list[str], tmp_path: Path) -> None:
    def firsts(files: Any = records, **arguments: Any) -> list[int]:
        data = ds.TFRecordDataset(files, columns_list=["z"], **arguments)
        return [int(r["z"][0]) for r in data.create_dict_iterator(1, output_numpy=True)]

    parts = [firsts(shuffle=False, num_shards=2, shard_id=i) for i in range(2)]
    assert parts == [[0, 1, 2, 20, 21, 22], [10, 11, 12]]
    equal = [firsts(num_shards=2, shard_id=i, shard_equal_rows=True) for i in range(2)]
    assert [len(part) for part in equal] == [5, 5]
    assert len(set(functools.reduce(operator.iadd, equal, []))) == 9
    by_file = firsts(shuffle=ds.Shuffle.FILES)
    assert [by_file[i] % 10 for i in range(9)] == [0, 1, 2] * 3
    inside = firsts(shuffle=ds.Shuffle.INFILE)
    assert [value // 10 for value in inside] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert sorted(firsts()) == sorted(by_file)
    with pytest.raises(RuntimeError, match="3 files cannot be dealt to 5 shards"):
        firsts(num_shards=5, shard_id=0)
    packed = record_file(tmp_path / "packed", [{"z": [7]}], gzip.compress)
    assert firsts(packed, compression_type="GZIP") == [7]
    with pytest.raises(RuntimeError, match="is not compressed by ZLIB"):
        firsts(packed, compression_type="ZLIB")
    with pytest.raises(RuntimeError, match="is no TFRecord file, or cut off: the record at byte 0"):
        firsts(packed)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    dataset_prelude.write_files(tmp_path)
    labels = tmp_path / "mnist" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match="should have 3 bytes of data"):
        ds.MnistDataset(str(tmp_path / "mnist")).get_dataset_size()
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(100))
    with pytest.raises(RuntimeError, match="100 bytes, not records of 3073"):
        ds.Cifar10Dataset(str(tmp_path), usage="train").get_dataset_size()
    picture = tmp_path / "folder" / "a" / "0.png"
    picture.write_bytes(b"no image")
    folder = ds.ImageFolderDataset(str(tmp_path / "folder"), shuffle=False, decode=True)
    with pytest.raises(RuntimeError, match=r"a/0.png' is no image"):
        list(folder.create_dict_iterator(num_epochs=1))
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(RuntimeError, match="a line has 1 cells, 2 are expected: '3'"):
        list(ds.CSVDataset(str(tmp_path / "x.csv"), shuffle=False).create_dict_iterator(1))
    data = ds.CSVDataset(str(tmp_path / "x.csv"), ",", [1, "s"], ["p", "q"], shuffle=False)
    with pytest.raises(RuntimeError, match="the cell 'a' is no int32"):
        next(data.create_dict_iterator())


def test_cifar(tmp_path: Path) -> None:
    ten = np.arange(2 * 3073, dtype=np.int64).reshape(2, 3073) % 256
    for part in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        ten.astype(np.uint8).tofile(tmp_path / f"{part}.bin")
    data = ds.Cifar10Dataset(str(tmp_path), shuffle=False)
    sizes = [ds.Cifar10Dataset(str(tmp_path), u).get_dataset_size() for u in ("train", "test")]
    assert [data.get_dataset_size(), *sizes] == [12, 10, 2]
    row = list(data.create_dict_iterator(1, output_numpy=True))[1]
    assert int(row["label"]) == 1
    assert row["image"].shape == (32, 32, 3)
    assert row["image"][0, 1].tolist() == [3, 3, 3]  # 3073 + 1 + 1, and 1024 and 2048 later
    for part in ("train", "test"):
        (np.arange(3074) % 256).astype(np.uint8).tofile(tmp_path / f"{part}.bin")
    hundred = ds.Cifar100Dataset(str(tmp_path), "test", shuffle=False)
    row = next(hundred.create_dict_iterator(output_numpy=True))
    assert (int(row["coarse_label"]), int(row["fine_label"])) == (0, 1)
    assert hundred.get_col_names() == ["image", "coarse_label", "fine_label"]


def test_a_folder_with_some_of_the_files(tmp_path: Path) -> None:
    dataset_prelude.write_files(tmp_path)
    full = tmp_path / "mnist"
    parts = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        parts[part] = ds.MnistDataset(str(full), part).get_dataset_size()
        (tmp_path / part).mkdir()
        for file in full.glob(f"{prefix}-*"):
            file.rename(tmp_path / part / file.name)
        assert ds.MnistDataset(str(tmp_path / part)).get_dataset_size() == parts[part]
    with pytest.raises(RuntimeError, match=r"no file \*t10k-images-idx3-ubyte in '.*/train'"):
        ds.MnistDataset(str(tmp_path / "train"), "test").get_dataset_size()
    (tmp_path / "train" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(RuntimeError, match="there is no file '.*/train-labels-idx1-ubyte'"):
        ds.MnistDataset(str(tmp_path / "train")).get_dataset_size()
    for number in (2, 4):
        np.full(3073, number, np.uint8).tofile(tmp_path / f"data_batch_{number}.bin")
    rows = ds.Cifar10Dataset(str(tmp_path), shuffle=False).create_dict_iterator(1)
    assert [int(row["label"]) for row in rows] == [2, 4]


def test_samplers_of_chance() -> None:
    ds.config.set_seed(4)

    def drawn(sampler: Any) -> list[int]:
        data = ds.NumpySlicesDataset(np.arange(10), ["x"], sampler=sampler)
        return [int(r["x"]) for r in data.create_dict_iterator(1, output_numpy=True)]

    assert set(drawn(ds.WeightedRandomSampler([0, 1, 0, 1], 10))) == {1, 3}
    assert sorted(drawn(ds.WeightedRandomSampler([1] * 4, 4, replacement=False))) == [0, 1, 2, 3]
    assert sorted(drawn(ds.SubsetRandomSampler([7, 2, 5]))) == [2, 5, 7]
    assert len(set(drawn(ds.RandomSampler(replacement=True)))) < 10
    assert len(drawn(ds.RandomSampler(num_samples=4))) == 4
    with pytest.raises(RuntimeError, match="12 weights, but the source has 10 rows"):
        drawn(ds.WeightedRandomSampler([1] * 12))
    with pytest.raises(RuntimeError, match="index 10 is out of range: the source has 10 rows"):
        drawn([10])
    with pytest.raises(RuntimeError, match="without replacement 4 rows cannot be drawn of the 2"):
        drawn(ds.WeightedRandomSampler([1, 1, 0, 0], 4, replacement=False))

    class Mine(ds.Sampler):
        def __iter__(self):
            yield from (self.dataset_size - 1, 0)

    assert drawn(Mine()) == [9, 0]
    outer = ds.SubsetSampler([1, 0])
    outer.add_child(ds.SequentialSampler(5, 3))
    assert drawn(outer) == [6, 5]
    ds.config.reset()


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="seed must be an int, got 'a'"):
        ds.config.set_seed("a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"seed must be in \[0, 4294967295\], got -1"):
        ds.config.set_seed(-1)
    with pytest.raises(ValueError, match="size must be in"):
        ds.config.set_prefetch_size(0)
    with pytest.raises(ValueError, match="must be 'fork' or 'spawn', got 'x'"):
        ds.config.set_multiprocessing_start_method("x")
    with pytest.raises(TypeError, match="numa_enable must be a bool"):
        ds.config.set_numa_enable(1)  # type: ignore[arg-type]
    file = tmp_path / "config.json"
    file.write_text('{"seed": 8, "numParallelWorkers": 3, "prefetchSize": 5}')
    ds.config.load(str(file))
    assert ds.config.get_seed() == 8
    assert ds.config.get_num_parallel_workers() == 3
    assert ds.config.get_prefetch_size() == 5
    ds.config.reset()
    assert ds.config.get_seed() == 5489
    with pytest.raises(RuntimeError, match=r"dataset.config.load: '.*nope'"):
        ds.config.load(str(tmp_path / "nope"))


def test_rows_of_a_list_may_have_different_shapes() -> None:
    # Recorded from MindSpore 2.10.0.
    data = ds.NumpySlicesDataset({"a": [[1], [2, 3]], "b": [1.5, 2.0]}, shuffle=False)
    assert dataset_prelude.shown(data) == [
        {"a": ["int64", [1]], "b": ["float64", 1.5]},
        {"a": ["int64", [2, 3]], "b": ["float64", 2.0]},
    ]
    with pytest.raises(TypeError, match=r"column 'a', row 1 must be numbers"):
        ds.NumpySlicesDataset({"a": [[1], [[2], [3, 4]]]})
    with pytest.raises(ValueError, match="column 'column_0' is an empty list"):
        ds.NumpySlicesDataset([])


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_a_shard_needs_both_numbers(kind: type[Exception], tmp_path: Path) -> None:
    """MindSpore raises either, by source."""
    with pytest.raises(kind, match="num_shards is given, so shard_id must be given too"):
        ds.ImageFolderDataset(str(tmp_path), num_shards=2)


def test_a_schema_says_what_it_was_given() -> None:
    schema = ds.Schema()
    schema.add_column("x", "int32", [2])
    columns = [{"name": "x", "type": "int32", "rank": 1, "shape": [2]}]
    assert json.loads(schema.to_json()) == {"columns": columns}
    schema.from_json({"datasetType": "TF", "numRows": 3, "columns": columns})
    assert json.loads(schema.to_json()) == {"datasetType": "TF", "numRows": 3, "columns": columns}
