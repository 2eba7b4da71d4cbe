"""Text of published collections and MNIST's relatives: rows are those that MindSpore 2.10 gives."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import dataset as ds
from type_checks import wrong

#: Columns of those that are CSV files.
TABLES = {
    "AGNews": ["index", "title", "description"],
    "AmazonReview": ["label", "title", "content"],
    "DBpedia": ["class", "title", "content"],
    "SogouNews": ["index", "title", "content"],
    "YahooAnswers": ["class", "title", "content", "answer"],
    "YelpReview": ["label", "text"],
}
LINES = {"PennTreebank": "ptb.{}.txt", "WikiText": "wiki.{}.tokens"}


def rows(data: Any) -> list[dict[str, Any]]:
    """The rows of one epoch."""
    iterator = data.create_dict_iterator(output_numpy=True, num_epochs=1)
    return [{name: value.tolist() for name, value in row.items()} for row in iterator]


def reader(name: str) -> Any:
    return getattr(ds, f"{name}Dataset")


@pytest.mark.parametrize("name", TABLES)
def test_cells_of_the_lines_are_columns(name: str, tmp_path: Path) -> None:
    columns = TABLES[name]
    for part in ("train", "test"):
        lines = [
            ",".join([f'"{i}"', *(f'"{part} {c}, it\'s ""so"""' for c in columns[1:])])
            for i in (1, 2)
        ]
        (tmp_path / f"{part}.csv").write_text("\n".join(lines) + "\n")
    data = reader(name)(tmp_path, "train", shuffle=False)
    assert data.get_col_names() == columns
    assert data.get_dataset_size() == 2
    assert rows(data)[1] == {
        columns[0]: "2",
        **{c: f'train {c}, it\'s "so"' for c in columns[1:]},
    }
    both = rows(reader(name)(tmp_path, shuffle=False))
    assert [row[columns[1]][:5].strip() for row in both] == ["test", "test", "train", "train"]
    assert sorted(map(str, rows(reader(name)(str(tmp_path), "all")))) == sorted(map(str, both))
    assert rows(reader(name)(tmp_path, "test", num_shards=2, shard_id=1, shuffle=False)) == [
        both[1]
    ]
    (tmp_path / "train.csv").write_text('"1"\n')
    with pytest.raises(RuntimeError, match=f"{name}Dataset: a line has 1 cells"):
        rows(reader(name)(tmp_path, "train"))


@pytest.mark.parametrize("name", LINES)
def test_lines_are_rows(name: str, tmp_path: Path) -> None:
    for part in ("train", "test", "valid"):
        file = tmp_path / LINES[name].format(part)
        file.write_text(f" {part} one \n\n = two = \nthree <unk>\n")
    found = rows(reader(name)(tmp_path, "valid", shuffle=False))
    assert [row["text"] for row in found] == [" valid one ", " = two = ", "three <unk>"]
    assert reader(name)(tmp_path).get_dataset_size() == 9
    with pytest.raises(ValueError, match=r"usage must be one of \['train', 'valid', 'test', 'all'"):
        reader(name)(tmp_path, "unsup")
    (tmp_path / LINES[name].format("valid")).unlink()
    with pytest.raises(ValueError, match="Dataset: there is no file"):
        reader(name)(tmp_path)


def test_enwik9_keeps_empty_lines(tmp_path: Path) -> None:
    (tmp_path / "enwik9").write_text("one\n\ntwo\n")
    found = rows(ds.EnWik9Dataset(tmp_path, shuffle=False))
    assert [row["text"] for row in found] == ["one", "", "two"]
    assert ds.EnWik9Dataset(tmp_path, 2).get_dataset_size() == 2


def test_imdbs_folders_are_labels(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for kind in ("pos", "neg"):
            (tmp_path / part / kind).mkdir(parents=True)
            for name in ("0_9", "1_7", "10_8"):
                (tmp_path / part / kind / f"{name}.txt").write_text(f"{part} {kind} {name}")
    data = ds.IMDBDataset(tmp_path, "train", shuffle=False)
    assert [(row["text"], row["label"]) for row in rows(data)] == [
        *((f"train pos {name}", 1) for name in ("0_9", "10_8", "1_7")),
        *((f"train neg {name}", 0) for name in ("0_9", "10_8", "1_7")),
    ]
    assert (data.num_classes(), data.output_types()[1]) == (2, np.int32)
    parts = [row["text"].split()[0] for row in rows(ds.IMDBDataset(tmp_path, shuffle=False))]
    assert parts == ["train"] * 6 + ["test"] * 6
    (tmp_path / "train" / "pos" / "0_9.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(RuntimeError, match=r"0_9.txt' cannot be read"):
        rows(data)
    (tmp_path / "none" / "test" / "pos").mkdir(parents=True)
    with pytest.raises(RuntimeError, match=r"there are no files \*.txt"):
        ds.IMDBDataset(tmp_path / "none", "test")


def digits(folder: Path, prefix: str, test: str) -> None:
    """Two images for training, one for tests, in MNIST's form."""
    for part, count in (("train", 2), (test, 1)):
        pixels = np.full((count, 28, 28), count, np.uint8)
        head = struct.pack(">IIII", 2051, count, 28, 28)
        (folder / f"{prefix}{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        labels = struct.pack(">II", 2049, count) + bytes(range(count))
        (folder / f"{prefix}{part}-labels-idx1-ubyte").write_bytes(labels)


def test_relatives_of_mnist(tmp_path: Path) -> None:
    digits(tmp_path, "", "t10k")
    digits(tmp_path, "emnist-letters-", "test")
    digits(tmp_path, "emnist-digits-", "test")
    kana = tmp_path / "kana"
    kana.mkdir()
    digits(kana, "", "t10k")
    assert [row["label"] for row in rows(ds.KMnistDataset(kana, shuffle=False))] == [0, 0, 1]
    data = ds.EMnistDataset(tmp_path, "letters", "train", shuffle=False)
    assert data.output_shapes() == [[28, 28, 1], []]
    assert [row["label"] for row in rows(data)] == [0, 1]
    both = rows(ds.EMnistDataset(tmp_path, "digits", shuffle=False))
    assert [row["image"][0][0][0] for row in both] == [1, 2, 2]  # test comes first
    with pytest.raises(ValueError, match=r"EMnistDataset: name must be one of \['byclass', "):
        ds.EMnistDataset(tmp_path, "kana")
    with pytest.raises(TypeError, match="name must be a str"):
        ds.EMnistDataset(tmp_path, wrong(1))
    with pytest.raises(RuntimeError, match="there is no file emnist-byclass-train-images"):
        rows(ds.EMnistDataset(tmp_path, "byclass"))


def test_a_folder_has_to_be_there(tmp_path: Path) -> None:
    for name in (*TABLES, *LINES, "EnWik9", "IMDB", "KMnist"):
        with pytest.raises(ValueError, match=f"{name}Dataset: there is no folder"):
            reader(name)(tmp_path / "none")
