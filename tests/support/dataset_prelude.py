"""What the records in `golden/dataset/pipelines.json` are run with, and the files they read.

It uses numpy and Pillow alone, so that it runs with MindSpore and with paramesh.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


class Six:
    def __getitem__(self, index):
        return np.full((2,), index, np.float32), index

    def __len__(self):
        return 6


class Growing:
    def __getitem__(self, index):
        return (np.arange(index + 1),)

    def __len__(self):
        return 4


class Failing:
    def __getitem__(self, index):
        raise KeyError("my error")

    def __len__(self):
        return 6


def shown(data: Any, columns: Any = None) -> list[Any]:
    """The rows of one epoch, as {column: [dtype, values]}."""
    iterator = data.create_dict_iterator(output_numpy=True, num_epochs=1)
    return [
        {
            name: [str(value.dtype).replace("<U", "U"), value.tolist()]
            for name, value in row.items()
            if columns is None or name in columns
        }
        for row in iterator
    ]


def column(data: Any, name: str) -> list[Any]:
    """One column of one epoch."""
    iterator = data.create_dict_iterator(output_numpy=True, num_epochs=1)
    return [row[name].tolist() for row in iterator]


def namespace(ds: Any, root: Path) -> dict[str, Any]:
    """The names that the code of a record uses."""

    def six(**arguments: Any) -> Any:
        return ds.GeneratorDataset(Six(), ["x", "y"], shuffle=False, **arguments)

    def growing() -> Any:
        return ds.GeneratorDataset(Growing(), ["x"], shuffle=False)

    return {
        "ds": ds, "np": np, "root": str(root), "Six": Six, "Failing": Failing, "six": six,
        "growing": growing, "shown": shown, "column": column,
    }  # fmt: skip


def write_files(root: Path) -> None:
    """Small files of every kind that a source reads."""
    _folders(root)
    _mnist(root / "mnist")
    _text(root)
    _voc(root / "voc")
    _coco(root / "coco")
    _celeba(root / "celeba")


def _picture(path: Path, value: int, shape: tuple[int, ...] = (6, 8, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def _folders(root: Path) -> None:
    for i, name in enumerate(["b", "a", "10"]):
        for j in range(2):
            _picture(root / "folder" / name / f"{j}.png", i * 20 + j, (2, 3, 3))


def _mnist(folder: Path) -> None:
    folder.mkdir()

    def idx(name: str, array: Any) -> None:
        sizes = b"".join(struct.pack(">I", size) for size in array.shape)
        (folder / name).write_bytes(struct.pack(">HBB", 0, 8, array.ndim) + sizes + array.tobytes())

    for part, count in (("train", 3), ("t10k", 2)):
        pixels = np.arange(count * 784, dtype=np.int64) % 251
        idx(f"{part}-images-idx3-ubyte", pixels.astype(np.uint8).reshape(count, 28, 28))
        idx(f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) + 1)


def _text(root: Path) -> None:
    (root / "lines.txt").write_text("l1\nl2\n\nl3\n", encoding="utf-8")
    (root / "named.csv").write_text("x,y,z\n1,2.5,a\n2,3.5,b b\n", encoding="utf-8")
    (root / "bare.csv").write_text('1,2.5,a\n2,3.5,"b,b"\n', encoding="utf-8")


def _voc(folder: Path) -> None:
    (folder / "Annotations").mkdir(parents=True)
    for part in ("Main", "Segmentation"):
        (folder / "ImageSets" / part).mkdir(parents=True)
        (folder / "ImageSets" / part / "train.txt").write_text("1\n2\n")
    for i in (1, 2):
        _picture(folder / "JPEGImages" / f"{i}.jpg", i)
        _picture(folder / "SegmentationClass" / f"{i}.png", i, (6, 8))
        objects = "".join(
            f"<object><name>{name}</name><difficult>{i - 1}</difficult><truncated>1</truncated>"
            f"<bndbox><xmin>{1 + i}</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox>"
            "</object>"
            for name in ("dog", "cat")[:i]
        )
        (folder / "Annotations" / f"{i}.xml").write_text(
            f"<annotation><filename>{i}.jpg</filename><size><width>8</width><height>6</height>"
            f"</size>{objects}</annotation>"
        )


def _coco(folder: Path) -> None:
    for i in (1, 2, 3):
        _picture(folder / "images" / f"{i}.jpg", i)
    images = [
        {"id": number, "file_name": f"{i}.jpg", "width": 8, "height": 6}
        for i, number in ((1, 7), (2, 9), (3, 11))
    ]
    kinds = [
        {"id": 3, "name": "dog", "supercategory": "animal", "isthing": 1},
        {"id": 5, "name": "cat", "supercategory": "animal", "isthing": 0},
    ]

    def note(image: int, kind: int, box: list[float], crowd: int, parts: Any, points: Any) -> Any:
        return {
            "id": image * 10 + kind, "image_id": image, "category_id": kind, "bbox": box,
            "area": 4, "iscrowd": crowd, "segmentation": parts, "keypoints": points,
            "num_keypoints": len(points) // 3,
        }  # fmt: skip

    notes = [
        note(9, 5, [1, 2, 3, 4], 1, [[1, 2, 3, 4, 5, 6], [1, 1, 2, 2]], [1, 2, 2, 3, 4, 1]),
        note(7, 3, [0, 0, 2.5, 2], 0, [[9, 8, 7, 6]], [1, 2, 2]),
        note(9, 3, [1, 1, 1, 1], 0, [[1, 2]], [0, 0, 0]),
    ]
    whole = {"images": images, "categories": kinds, "annotations": notes}
    (folder / "objects.json").write_text(json.dumps(whole))
    for each in notes:
        each["segmentation"] = [[1, 2, 3, 4, 5, 6], [1, 1, 2, 2, 3, 3]][: 1 + each["iscrowd"]]
        each["iscrowd"] = 0
    (folder / "stuff.json").write_text(json.dumps(whole))
    segment = {"id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 5, "iscrowd": 0}
    panoptic = {
        "images": images[:1], "categories": kinds,
        "annotations": [{"image_id": 7, "file_name": "1.jpg", "segments_info": [segment]}],
    }  # fmt: skip
    (folder / "panoptic.json").write_text(json.dumps(panoptic))
    captions = [{"id": i, "image_id": 7, "caption": text} for i, text in enumerate(["a dog", "b"])]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))


def _celeba(folder: Path) -> None:
    for i in (1, 2):
        _picture(folder / f"00000{i}.jpg", i)
    (folder / "list_attr_celeba.txt").write_text(
        "2\n A B C\n000001.jpg  -1  1 -1\n000002.jpg 1 1 -1\n"
    )
    (folder / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 2\n")
