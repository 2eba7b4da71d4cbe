"""Images with annotations: COCO, Pascal VOC, CelebA. Columns and dtypes are MindSpore's."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import FilePath
from paramesh.dataset.samplers import SamplerLike, Shuffle
from paramesh.dataset.sources.base import MappableDataset
from paramesh.dataset.sources.files import ImageFile, existing_file, existing_folder, one_of

_META = "_meta-filename"


class _Listed:
    """Reads rows whose annotations are in memory."""

    def __init__(self, files: list[str], rows: list[Any], image: ImageFile, meta: bool) -> None:
        self.files, self.rows, self.image, self.meta = files, rows, image, meta

    def __call__(self, index: int) -> Any:
        path = self.files[index]
        row = tuple(
            self.image(value) if isinstance(value, str) else np.array(value)
            for value in self.rows[index]
        )
        named = (np.array(Path(path).stem),) if self.meta else ()
        return (self.image(path), *row, *named)


class _Annotated(MappableDataset):
    """What these share: a list of image files, and for each the values of the other columns."""

    def __init__(
        self,
        files: list[str],
        rows: list[Any],
        columns: list[str],
        image: ImageFile,
        meta: bool,
        arguments: tuple[Any, ...],
    ) -> None:
        super().__init__(*arguments)
        if not isinstance(meta, bool):
            raise TypeError(f"{self._title()}: extra_metadata must be a bool, got {meta!r}.")
        if not files:
            raise RuntimeError(f"{self._title()}: there is no image with annotations.")
        self._files, self._annotations = files, rows
        self._columns = [*columns, *([_META] if meta else [])]
        self._image, self._meta = image, meta

    def _names(self) -> list[str]:
        return self._columns

    def _source_length(self) -> int:
        return len(self._files)

    def _fetch(self) -> Callable[[int], Any]:
        return _Listed(self._files, self._annotations, self._image, self._meta)

    def _detail(self) -> Any:
        return [self._columns, len(self._files)]


_COCO = {
    "Detection": ["image", "bbox", "category_id", "iscrowd"],
    "Stuff": ["image", "segmentation", "iscrowd"],
    "Keypoint": ["image", "keypoints", "num_keypoints"],
    "Panoptic": ["image", "bbox", "category_id", "iscrowd", "area"],
    "Captioning": ["image", "captions"],
}


class CocoDataset(_Annotated):
    """Images of COCO with their annotations; those without any are left out.

    Args:
        dataset_dir: the folder of the images.
        annotation_file: COCO's JSON.
        task: "Detection" (columns image, bbox, category_id, iscrowd), "Stuff" (image,
            segmentation, iscrowd), "Keypoint" (image, keypoints, num_keypoints), "Panoptic"
            (image, bbox, category_id, iscrowd, area) or "Captioning" (image, captions).
        decode: give pixels, UInt8 (height, width, 3).
        extra_metadata: add a column `_meta-filename`; `rename` makes a name without `_meta-` of it.
        num_samples, num_parallel_workers, shuffle, sampler, num_shards, shard_id, cache, decrypt:
            as in ImageFolderDataset.

    Raises:
        TypeError, ValueError, RuntimeError: an argument of another kind; no such folder or file; a
            file without the entries that the task needs.
    """

    def __init__(
        self,
        dataset_dir: FilePath,
        annotation_file: FilePath,
        task: str = "Detection",
        num_samples: int | None = None,
        num_parallel_workers: int | None = None,
        shuffle: bool | Shuffle | None = None,
        decode: bool = False,
        sampler: SamplerLike | None = None,
        num_shards: int | None = None,
        shard_id: int | None = None,
        cache: object = None,
        extra_metadata: bool = False,
        decrypt: Callable[[str], bytes] | None = None,
    ) -> None:
        who = self._title()
        folder = existing_folder(who, dataset_dir)
        path = existing_file(who, "annotation_file", annotation_file)
        self.task = one_of(who, "task", task, list(_COCO))
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self._indexing = self._categories(found)
            names = {image["id"]: image["file_name"] for image in found["images"]}
            grouped: dict[Any, list[Any]] = {}
            for entry in found["annotations"]:
                entries = entry["segments_info"] if task == "Panoptic" else [entry]
                grouped.setdefault(entry["image_id"], []).extend(entries)
            used = [each for each in names if each in grouped]
            rows = [_coco_row(task, grouped[each]) for each in used]
        except (ValueError, KeyError, TypeError) as error:
            raise RuntimeError(
                f"{who}: '{path}' is no annotation file for task {task!r}: "
                f"{type(error).__name__}: {error}."
            ) from None
        super().__init__(
            [str(folder / names[each]) for each in used],
            rows,
            _COCO[task],
            ImageFile(who, decode, decrypt),
            extra_metadata,
            (num_parallel_workers, sampler, num_samples, shuffle, num_shards, shard_id, cache),
        )

    def _categories(self, found: dict[str, Any]) -> dict[str, Any]:
        if self.task == "Captioning":
            return {}
        panoptic = self.task == "Panoptic"
        return {
            each["name"]: [each["id"], each["isthing"]] if panoptic else [each["id"]]
            for each in found["categories"]
        }

    def get_class_indexing(self) -> dict[str, Any]:
        """{category: [id]}; for "Panoptic" [id, whether it is a thing]."""
        return dict(self._indexing)

    def num_classes(self) -> int | None:
        """How many categories there are."""
        return len(self._indexing)


def _coco_row(task: str, entries: list[Any]) -> tuple[Any, ...]:
    def column(key: str, dtype: type) -> Any:
        return np.array([each[key] for each in entries], dtype).reshape(len(entries), -1)

    if task == "Captioning":
        return (np.array([[each["caption"]] for each in entries]),)
    if task == "Keypoint":
        return _ragged([each["keypoints"] for each in entries]), column("num_keypoints", np.uint32)
    if task == "Stuff":
        # Of a crowd the mask is one list of run lengths.
        parts = [
            part
            for each in entries
            for part in (
                [each["segmentation"]["counts"]] if each["iscrowd"] else each["segmentation"]
            )
        ]
        return _ragged(parts), column("iscrowd", np.uint32)
    row = (
        column("bbox", np.float32),
        column("category_id", np.uint32),
        column("iscrowd", np.uint32),
    )
    return (*row, column("area", np.uint32)) if task == "Panoptic" else row


def _ragged(parts: list[list[float]]) -> np.ndarray[Any, Any]:
    out = np.full((len(parts), max(map(len, parts), default=0)), -1, np.float32)
    for at, part in enumerate(parts):
        out[at, : len(part)] = part
    return out


class VOCDataset(_Annotated):
    """Images of Pascal VOC with segmentations or boxes.

    Args:
        dataset_dir: the folder of `JPEGImages`, `ImageSets`, `Annotations`, `SegmentationClass`.
        task: "Segmentation" (columns image, target) or "Detection" (image, bbox as x, y, width,
            height, label, difficult, truncate).
        usage: the list of images in `ImageSets`, such as "train".
        class_indexing: {name: label}, for "Detection"; objects of other names are left out. None:
            the sorted names that are in the list's annotations.
        num_samples, num_parallel_workers, shuffle, decode, sampler, num_shards, shard_id, cache,
            extra_metadata, decrypt: as in CocoDataset.

    Raises:
        TypeError, ValueError, RuntimeError: an argument of another kind; no such folder or file; a
            damaged annotation.
    """

    def __init__(
        self,
        dataset_dir: FilePath,
        task: str = "Segmentation",
        usage: str = "train",
        class_indexing: dict[str, int] | None = None,
        num_samples: int | None = None,
        num_parallel_workers: int | None = None,
        shuffle: bool | Shuffle | None = None,
        decode: bool = False,
        sampler: SamplerLike | None = None,
        num_shards: int | None = None,
        shard_id: int | None = None,
        cache: object = None,
        extra_metadata: bool = False,
        decrypt: Callable[[str], bytes] | None = None,
    ) -> None:
        who = self._title()
        folder = existing_folder(who, dataset_dir)
        one_of(who, "task", task, ("Segmentation", "Detection"))
        if task == "Segmentation" and class_indexing is not None:
            raise ValueError(f"{who}: class_indexing is for task 'Detection'.")
        if class_indexing is not None and not isinstance(class_indexing, dict):
            raise TypeError(f"{who}: class_indexing must be a dict, got {class_indexing!r}.")
        kind = "Main" if task == "Detection" else "Segmentation"
        listing = existing_file(who, "usage", folder / "ImageSets" / kind / f"{usage}.txt")
        names = [line.split()[0] for line in listing.read_text().splitlines() if line.strip()]
        self._indexing: dict[str, int] = {}
        if task == "Segmentation":
            columns = ["image", "target"]
            rows: list[Any] = [(str(folder / "SegmentationClass" / f"{n}.png"),) for n in names]
        else:
            columns = ["image", "bbox", "label", "difficult", "truncate"]
            objects = [_objects(who, folder / "Annotations" / f"{name}.xml") for name in names]
            found = sorted({each[0] for one in objects for each in one})
            self._indexing = class_indexing or {name: at for at, name in enumerate(found)}
            kept = [[each for each in one if each[0] in self._indexing] for one in objects]
            names = [name for name, one in zip(names, kept, strict=True) if one]
            rows = [_voc_row(one, self._indexing) for one in kept if one]
        super().__init__(
            [str(folder / "JPEGImages" / f"{name}.jpg") for name in names],
            rows,
            columns,
            ImageFile(who, decode, decrypt),
            extra_metadata,
            (num_parallel_workers, sampler, num_samples, shuffle, num_shards, shard_id, cache),
        )

    def get_class_indexing(self) -> dict[str, Any]:
        """{name: label}."""
        return dict(self._indexing)

    def num_classes(self) -> int | None:
        """How many names there are."""
        return len(self._indexing) or None


def _objects(who: str, path: Path) -> list[tuple[str, list[float], int, int]]:
    try:
        root = ElementTree.parse(path).getroot()
        found: list[tuple[str, list[float], int, int]] = []
        for each in root.iter("object"):
            box = each.find("bndbox")
            assert box is not None
            x0, y0, x1, y1 = (
                float(box.findtext(key) or "") for key in ("xmin", "ymin", "xmax", "ymax")
            )
            numbers = [int(each.findtext(key) or 0) for key in ("difficult", "truncated")]
            name = each.findtext("name") or ""
            found.append((name, [x0, y0, x1 - x0, y1 - y0], *numbers))  # type: ignore[arg-type]
        return found
    except (OSError, ElementTree.ParseError, ValueError, AssertionError) as error:
        raise RuntimeError(f"{who}: '{path}' is no annotation of VOC's: {error}.") from None


def _voc_row(objects: list[Any], indexing: dict[str, int]) -> tuple[Any, ...]:
    names, boxes, difficult, truncated = zip(*objects, strict=True)
    labels = [indexing[name] for name in names]
    numbers = [np.array(each, np.uint32)[:, None] for each in (labels, difficult, truncated)]
    return (np.array(boxes, np.float32), *numbers)


class CelebADataset(_Annotated):
    """Images of CelebA, with their attributes as UInt32 of 0 and 1.

    Args:
        dataset_dir: the folder of the images, `list_attr_celeba.txt` and, for a part of them,
            `list_eval_partition.txt`.
        usage: "all", "train", "valid" or "test".
        extensions: endings of files that count; None: all.
        num_parallel_workers, shuffle, sampler, decode, num_samples, num_shards, shard_id, cache,
            decrypt: as in ImageFolderDataset.

    Raises:
        TypeError, ValueError, RuntimeError: an argument of another kind; no such folder or file.
    """

    def __init__(
        self,
        dataset_dir: FilePath,
        num_parallel_workers: int | None = None,
        shuffle: bool | Shuffle | None = None,
        usage: str = "all",
        sampler: SamplerLike | None = None,
        decode: bool = False,
        extensions: Sequence[str] | None = None,
        num_samples: int | None = None,
        num_shards: int | None = None,
        shard_id: int | None = None,
        cache: object = None,
        decrypt: Callable[[str], bytes] | None = None,
    ) -> None:
        who = self._title()
        folder = existing_folder(who, dataset_dir)
        one_of(who, "usage", usage, ("all", "train", "valid", "test"))
        listing = existing_file(who, "dataset_dir", folder / "list_attr_celeba.txt")
        lines = [line.split() for line in listing.read_text().splitlines()[2:] if line.strip()]
        if usage != "all":
            parts = existing_file(who, "dataset_dir", folder / "list_eval_partition.txt")
            number = str(("train", "valid", "test").index(usage))
            wanted = {
                line.split()[0] for line in parts.read_text().splitlines()
                if line.split()[1:] == [number]
            }  # fmt: skip
            lines = [line for line in lines if line[0] in wanted]
        if extensions is not None:
            lines = [line for line in lines if line[0].endswith(tuple(extensions))]
        super().__init__(
            [str(folder / line[0]) for line in lines],
            [(np.array([int(v == "1") for v in line[1:]], np.uint32),) for line in lines],
            ["image", "attr"],
            ImageFile(who, decode, decrypt),
            False,
            (num_parallel_workers, sampler, num_samples, shuffle, num_shards, shard_id, cache),
        )
