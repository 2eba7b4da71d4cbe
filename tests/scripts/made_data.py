"""Small made-up data in the formats that public training scripts read.

Each function writes what one kind of script expects into a folder. All numbers come from the seed
0. What is written has something to learn in it, and does not have to be learned.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from paramesh.mindrecord import FileWriter

_WORDS = [f"w{number}" for number in range(120)]


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def _pixels(*values: Any) -> Any:
    return sum(values).clip(0, 255).astype(np.uint8)  # type: ignore[union-attr]


def mnist(folder: Path, count: int = 640, tests: int = 0) -> None:
    """MNIST's files in `train`, and in `test` if asked for: brighter images for higher digits."""
    random = _random()
    for part, first, number in (("train", "train", count), ("test", "t10k", tests)):
        if not number:
            continue
        labels = random.integers(0, 10, number)
        images = _pixels(random.integers(0, 100, (number, 28, 28)), labels[:, None, None] * 15)
        place = folder / part
        place.mkdir(parents=True)
        head = struct.pack(">IIII", 2051, number, 28, 28)
        (place / f"{first}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = struct.pack(">II", 2049, number)
        (place / f"{first}-labels-idx1-ubyte").write_bytes(head + labels.astype(np.uint8).tobytes())


def cifar10(folder: Path, count: int = 160) -> None:
    """CIFAR-10's binary batches for training."""
    random = _random()
    labels = random.integers(0, 10, (count, 1))
    rows = np.hstack([labels, _pixels(random.integers(0, 100, (count, 3072)), labels * 15)])
    folder.mkdir(parents=True)
    for part in range(5):
        rows[part::5].astype(np.uint8).tofile(folder / f"data_batch_{part + 1}.bin")


def image_folders(folder: Path, classes: int = 4, each: int = 10, size: int = 64) -> None:
    """A folder of JPEG files for each class, below `train`."""
    random = _random()
    for kind in range(classes):
        place = folder / "train" / f"class{kind}"
        place.mkdir(parents=True)
        for number in range(each):
            image = _pixels(random.integers(0, 100, (size, size, 3)), np.array(kind * 35))
            Image.fromarray(image).save(place / f"{number}.jpg")


def clicks(folder: Path, lines: int = 20, each: int = 1000, vocabulary: int = 2000) -> None:
    """Criteo's 39 fields in MindRecord, `each` samples in a line, as its converters write them."""
    random = _random()
    folder.mkdir(parents=True)
    floats = {"type": "float32", "shape": [-1]}
    schema = {
        "label": floats,
        "feat_vals": floats,
        "feat_ids": {"type": "int32", "shape": [-1]},
    }
    for part, shards, count in (("train", 21, lines), ("test", 3, 4)):
        writer = FileWriter(str(folder / f"{part}_input_part.mindrecord"), shards)
        writer.add_schema(schema, "clicks")
        for _ in range(count):
            ids = random.integers(0, vocabulary, (each, 39)).astype(np.int32)
            values = random.random((each, 39)).astype(np.float32)
            label = (values.mean(axis=1) + ids[:, 0] % 2 * 0.3 > 0.6).astype(np.float32)
            row = {"feat_ids": ids.ravel(), "feat_vals": values.ravel(), "label": label}
            writer.write_raw_data([row])
        writer.commit()


def ratings(folder: Path, users: int = 6040, films: int = 3706, each: int = 20) -> None:
    """MovieLens-1M's tables, with its numbers of users and films, which scripts check."""
    place = folder / "ml-1m"
    place.mkdir(parents=True)
    random = _random()
    lines = ["user_id,item_id,rating,timestamp"]
    for user in range(1, users + 1):
        seen = (user * each + np.arange(each) * 7) % films + 1
        stars = random.integers(1, 6, each)
        lines += [f"{user},{seen[i]},{stars[i]},{1000 + i}" for i in range(each)]
    (place / "ratings.csv").write_text("\n".join(lines) + "\n")
    titles = [f"{film},T{film},Drama" for film in range(1, films + 1)]
    (place / "movies.csv").write_text("\n".join(["item_id,titles,genres", *titles]) + "\n")


def reviews(folder: Path, width: int = 16, each: int = 40) -> None:
    """IMDB's folders of texts, and GloVe's file of vectors."""
    random = _random()
    folder.mkdir(parents=True)
    vectors = [f"{len(_WORDS)} {width}"]
    for word in _WORDS:
        vectors.append(" ".join([word, *(f"{v:.5f}" for v in random.normal(size=width))]))
    (folder / f"glove.6B.{width}d.txt").write_text("\n".join(vectors) + "\n")
    for part, count in (("train", each), ("test", 8)):
        for label, first in (("pos", 0), ("neg", 60)):
            place = folder / "aclImdb" / part / label
            place.mkdir(parents=True)
            for number in range(count):
                words = (_WORDS[i % 120] for i in random.integers(first, first + 80, 60))
                (place / f"{number}.txt").write_text(" ".join(words))


def masked_sentences(folder: Path, count: int = 80, length: int = 32, masked: int = 5) -> None:
    """What BERT is trained on: pairs of sentences with masked words, in MindRecord."""
    random = _random()
    folder.mkdir(parents=True)
    whole = (
        "input_ids input_mask segment_ids next_sentence_labels masked_lm_positions masked_lm_ids"
    )
    schema: dict[str, Any] = {k: {"type": "int32", "shape": [-1]} for k in whole.split()}
    schema["masked_lm_weights"] = {"type": "float32", "shape": [-1]}
    writer = FileWriter(str(folder / "train.mindrecord"), 1)
    writer.add_schema(schema, "sentences")
    rows = []
    for _ in range(count):
        used = int(random.integers(20, length + 1))
        mask = (np.arange(length) < used).astype(np.int32)
        words = random.integers(5, 200, length).astype(np.int32) * mask
        places = np.sort(random.permutation(used)[:masked]).astype(np.int32)
        rows.append(
            {
                "input_ids": words,
                "input_mask": mask,
                "segment_ids": ((np.arange(length) > used // 2) * mask).astype(np.int32),
                "next_sentence_labels": random.integers(0, 2, 1).astype(np.int32),
                "masked_lm_positions": places,
                "masked_lm_ids": words[places],
                "masked_lm_weights": np.ones(masked, np.float32),
            }
        )
    writer.write_raw_data(rows)
    writer.commit()


def translations(folder: Path, buckets: tuple[int, ...] = (16, 32), each: int = 40) -> None:
    """Pairs of sentences by length, in the 16 files for each length that Transformer reads."""
    random = _random()
    folder.mkdir(parents=True)
    for bucket in buckets:
        writer = FileWriter(str(folder / f"ende_{bucket}_"), 16)
        names = [
            f"{side}_{end}_{kind}"
            for side in ("source", "target")
            for end in ("sos", "eos")
            for kind in ("ids", "mask")
        ]
        writer.add_schema({n: {"type": "int64", "shape": [-1]} for n in names}, "sentences")
        rows = []
        for _ in range(each):
            row = {}
            for side in ("source", "target"):
                used = int(random.integers(bucket // 2, bucket))
                words = np.zeros(bucket, np.int64)
                words[:used] = random.integers(3, 200, used)
                begun, ended = np.roll(words, 1), words.copy()
                begun[0], ended[used] = 1, 2
                mask = (np.arange(bucket) <= used).astype(np.int64)
                row |= {f"{side}_sos_ids": begun, f"{side}_sos_mask": mask}
                row |= {f"{side}_eos_ids": ended, f"{side}_eos_mask": mask}
            rows.append(row)
        writer.write_raw_data(rows)
        writer.commit()


def token_rows(folder: Path, count: int = 40, length: int = 33, vocabulary: int = 200) -> None:
    """Rows of tokens in MindRecord, as GPT reads them."""
    folder.mkdir(parents=True)
    writer = FileWriter(str(folder / "tokens.mindrecord"), 1)
    writer.add_schema({"input_ids": {"type": "int32", "shape": [-1]}}, "tokens")
    starts = _random().integers(1, vocabulary, (count, 1))
    tokens = ((starts + np.arange(length)) % (vocabulary - 1) + 1).astype(np.int32)
    writer.write_raw_data([{"input_ids": row} for row in tokens])
    writer.commit()


def boxes(folder: Path, count: int = 16) -> None:
    """COCO's images and annotations: rectangles of three colours, which are three classes."""
    random = _random()
    names = ("person", "bicycle", "car")
    (folder / "annotations").mkdir(parents=True)
    for part, images in (("train2017", count), ("val2017", 4)):
        (folder / part).mkdir()
        listed: list[Any] = []
        found: list[Any] = []
        for number in range(1, images + 1):
            height, width = 120 + 8 * (number % 3), 160
            image = random.integers(0, 80, (height, width, 3))
            for _ in range(1 + number % 3):
                kind = int(random.integers(0, 3))
                w, h = (int(each) for each in random.integers(30, 80, 2))
                x, y = int(random.integers(0, width - w)), int(random.integers(0, height - h))
                image[y : y + h, x : x + w, kind] += 60
                found.append(
                    {
                        "id": len(found) + 1,
                        "image_id": number,
                        "category_id": kind + 1,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                    }
                )
            name = f"{number:012d}.jpg"
            Image.fromarray(_pixels(image, np.array(0))).save(folder / part / name)
            listed.append({"id": number, "file_name": name, "height": height, "width": width})
        kinds = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
        all_of_it = {"images": listed, "annotations": found, "categories": kinds}
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(all_of_it))


def cells(folder: Path, count: int = 12, size: int = 96) -> None:
    """ISBI's two TIFF files: images of stripes, and masks of where the stripes are."""
    random = _random()
    folder.mkdir(parents=True)
    masks = [
        (np.indices((size, size)).sum(0) // (3 + i % 4) % 2 * 255).astype(np.uint8)
        for i in range(count)
    ]
    images = [_pixels(random.integers(0, 100, mask.shape), mask // 2) for mask in masks]
    for name, listed in (("train-volume", images), ("train-labels", masks)):
        pages = [Image.fromarray(page) for page in listed]
        pages[0].save(folder / f"{name}.tif", save_all=True, append_images=pages[1:])
