"""Images with one label: MNIST's and CIFAR's files, and folders of images.

Rows, shapes and dtypes are MindSpore's: labels of MNIST and CIFAR are UInt32, those of folders
Int32.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import FilePath
from paramesh.dataset.samplers import SamplerLike, Shuffle
from paramesh.dataset.sources.base import MappableDataset
from paramesh.dataset.sources.files import ImageFile, existing_folder, one_of
from paramesh.dataset.wholes import Whole, gathered

_USAGES = ("train", "test", "all")
_IMAGES, _LABELS = "-images-idx3-ubyte", "-labels-idx1-ubyte"


class _InMemory:
    """Rows of arrays; each is copied, so that a transform may write to it."""

    def __init__(self, arrays: list[np.ndarray[Any, Any]]) -> None:
        self.arrays = arrays

    def __call__(self, index: int) -> Any:
        return tuple(np.array(array[index]) for array in self.arrays)

    def whole(self, indices: Sequence[int]) -> list[Whole] | None:
        """The columns of the rows at some indices."""
        return gathered(self.arrays, indices)


class _Labelled(MappableDataset):
    """A source whose arrays fit into memory; they are read when they are first needed."""

    columns = ("image", "label")
    classes: int | None = 10

    def __init__(
        self,
        dataset_dir: FilePath,
        usage: str | None = None,
        num_samples: int | None = None,
        num_parallel_workers: int | None = None,
        shuffle: bool | Shuffle | None = None,
        sampler: SamplerLike | None = None,
        num_shards: int | None = None,
        shard_id: int | None = None,
        cache: object = None,
    ) -> None:
        who = self._title()
        super().__init__(
            num_parallel_workers, sampler, num_samples, shuffle, num_shards, shard_id, cache
        )
        self.dataset_dir = existing_folder(who, dataset_dir)
        self.usage = "all" if usage is None else one_of(who, "usage", usage, _USAGES)
        self._arrays: list[np.ndarray[Any, Any]] | None = None

    def _read(self) -> list[np.ndarray[Any, Any]]:
        raise NotImplementedError

    def _loaded(self) -> list[np.ndarray[Any, Any]]:
        if self._arrays is None:
            self._arrays = self._read()
        return self._arrays

    def _names(self) -> list[str]:
        return list(self.columns)

    def _source_length(self) -> int:
        return len(self._loaded()[0])

    def _fetch(self) -> Callable[[int], Any]:
        return _InMemory(self._loaded())

    def _labels(self) -> np.ndarray[Any, Any] | None:
        return self._loaded()[-1]

    def num_classes(self) -> int | None:
        """Classes of the labels."""
        return self.classes

    def _detail(self) -> Any:
        return [self.usage, self._source_length()]

    def _parts(self, train: str, test: str) -> list[Path]:
        """The files of this usage, in order of names.

        A folder may have some of a data set's files only: scripts keep MNIST's training files and
        test files in folders of their own, and give no usage.

        Args:
            train: pattern of names of files for training.
            test: pattern of names of files for tests.

        Raises:
            RuntimeError: there is no such file.
        """
        patterns = {"train": [train], "test": [test], "all": [train, test]}[self.usage]
        found = sorted({path for each in patterns for path in self.dataset_dir.glob(each)})
        if not found:
            raise RuntimeError(
                f"{self._title()}: there is no file {' or '.join(patterns)} in "
                f"'{self.dataset_dir}'."
            )
        return found


class MnistDataset(_Labelled):
    """MNIST's files: images UInt8 (28, 28, 1), labels UInt32.

    Args:
        dataset_dir: the folder of `train-images-idx3-ubyte` and the like.
        usage: "train", "test", or "all" (None: the same): those of the files that are there, in
            order of names, so that test comes first, as in MindSpore.
        num_samples, num_parallel_workers, shuffle, sampler, num_shards, shard_id: as in
            GeneratorDataset, with threads as workers.
        cache: MindSpore's `DatasetCache`; of no effect.

    Raises:
        TypeError, ValueError, RuntimeError: an argument of another kind; no such folder. When rows
            are asked for: a file is missing or damaged.
    """

    def _read(self) -> list[np.ndarray[Any, Any]]:
        images: list[Any] = []
        labels: list[Any] = []
        for path in self._parts(*self._patterns()):
            images.append(self._idx(path, 3))
            labels.append(self._idx(path.with_name(path.name.removesuffix(_IMAGES) + _LABELS), 1))
            if len(images[-1]) != len(labels[-1]):
                raise RuntimeError(
                    f"{self._title()}: '{path}' has {len(images[-1])} images, and its file of "
                    f"labels has {len(labels[-1])} labels."
                )
        return [np.concatenate(images)[..., None], np.concatenate(labels).astype(np.uint32)]

    def _patterns(self) -> tuple[str, str]:
        """Of the names of the files of images for training, and for tests."""
        return f"*train{_IMAGES}", f"*t10k{_IMAGES}"

    def _idx(self, path: Path, axes: int) -> np.ndarray[Any, Any]:
        if not path.is_file():
            raise RuntimeError(f"{self._title()}: there is no file '{path}'.")
        data = path.read_bytes()
        head = 4 + 4 * axes
        if len(data) < head or struct.unpack(">HBB", data[:4]) != (0, 8, axes):
            raise RuntimeError(f"{self._title()}: '{path}' is no IDX file of {axes} axes of bytes.")
        shape = struct.unpack(f">{axes}I", data[4:head])
        if len(data) - head != int(np.prod(shape)):
            raise RuntimeError(
                f"{self._title()}: '{path}' should have {int(np.prod(shape))} bytes of data for "
                f"shape {shape}, it has {len(data) - head}."
            )
        return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


class FashionMnistDataset(MnistDataset):
    """Fashion-MNIST, whose files have MNIST's names and form. See MnistDataset."""


class KMnistDataset(MnistDataset):
    """Kuzushiji-MNIST, whose files have MNIST's names and form. See MnistDataset."""


_EMNIST = ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")


class EMnistDataset(MnistDataset):
    """EMNIST's files: `emnist-letters-train-images-idx3-ubyte` and the like.

    Args:
        dataset_dir: their folder.
        name: which split: "byclass", "bymerge", "balanced", "letters", "digits" or "mnist".
        usage: "train", "test", or "all" (None: the same), in which test comes first, as in
            MindSpore.
        num_samples, num_parallel_workers, shuffle, sampler, num_shards, shard_id, cache: as in
            MnistDataset.

    Raises:
        TypeError, ValueError, RuntimeError: as MnistDataset; another `name`.
    """

    classes = None

    def __init__(
        self,
        dataset_dir: FilePath,
        name: str,
        usage: str | None = None,
        num_samples: int | None = None,
        num_parallel_workers: int | None = None,
        shuffle: bool | Shuffle | None = None,
        sampler: SamplerLike | None = None,
        num_shards: int | None = None,
        shard_id: int | None = None,
        cache: object = None,
    ) -> None:
        self.name = one_of("EMnistDataset", "name", name, _EMNIST)
        super().__init__(
            dataset_dir, usage, num_samples, num_parallel_workers, shuffle, sampler, num_shards,
            shard_id, cache,
        )  # fmt: skip

    def _patterns(self) -> tuple[str, str]:
        return f"emnist-{self.name}-train{_IMAGES}", f"emnist-{self.name}-test{_IMAGES}"


class Cifar10Dataset(_Labelled):
    """CIFAR-10's binary files: images UInt8 (32, 32, 3), labels UInt32. Arguments: MnistDataset.

    `dataset_dir` has some or all of `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`.
    """

    def _read(self) -> list[np.ndarray[Any, Any]]:
        files = self._parts("data_batch*.bin", "test_batch*.bin")
        records = [_records(self._title(), path, 1) for path in files]
        return _pixels(np.concatenate(records), 1)


class Cifar100Dataset(_Labelled):
    """CIFAR-100's binary files: images UInt8 (32, 32, 3), two labels UInt32.

    Arguments as of MnistDataset. `dataset_dir` has `train.bin`, `test.bin` or both; the columns are
    `image`, `coarse_label` and `fine_label`.
    """

    columns = ("image", "coarse_label", "fine_label")
    classes = 100

    def _read(self) -> list[np.ndarray[Any, Any]]:
        files = self._parts("*train.bin", "*test.bin")
        records = [_records(self._title(), path, 2) for path in files]
        return _pixels(np.concatenate(records), 2)


def _records(who: str, path: Path, labels: int) -> np.ndarray[Any, Any]:
    data = np.fromfile(path, np.uint8)
    size = 3072 + labels
    if not len(data) or len(data) % size:
        raise RuntimeError(f"{who}: '{path}' has {len(data)} bytes, not records of {size}.")
    return data.reshape(-1, size)


def _pixels(records: np.ndarray[Any, Any], labels: int) -> list[np.ndarray[Any, Any]]:
    images = records[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    columns = [records[:, i].astype(np.uint32) for i in range(labels)]
    return [np.ascontiguousarray(images), *columns]


class _FolderRows:
    def __init__(self, files: list[str], labels: np.ndarray[Any, Any], image: ImageFile) -> None:
        self.files, self.labels, self.image = files, labels, image

    def __call__(self, index: int) -> Any:
        return self.image(self.files[index]), np.array(self.labels[index])


class ImageFolderDataset(MappableDataset):
    """A folder for each class, with its images: `image` (bytes, or pixels in RGB), `label` Int32.

    Args:
        dataset_dir: the folder of the folders.
        num_samples, num_parallel_workers, shuffle, sampler: as in MnistDataset.
        extensions: endings of files that count, such as [".jpg"]; None: all files.
        class_indexing: {folder: label}; other folders are left out. None: sorted names, from 0.
        decode: give pixels, UInt8 (height, width, 3).
        num_shards, shard_id, cache: as in MnistDataset.
        decrypt: takes the path of an image, returns its bytes.

    Raises:
        TypeError, ValueError, RuntimeError: an argument of another kind; no such folder, or no file
            in it.
    """

    def __init__(
        self,
        dataset_dir: FilePath,
        num_samples: int | None = None,
        num_parallel_workers: int | None = None,
        shuffle: bool | Shuffle | None = None,
        sampler: SamplerLike | None = None,
        extensions: Sequence[str] | None = None,
        class_indexing: dict[str, int] | None = None,
        decode: bool = False,
        num_shards: int | None = None,
        shard_id: int | None = None,
        cache: object = None,
        decrypt: Callable[[str], bytes] | None = None,
    ) -> None:
        who = self._title()
        super().__init__(
            num_parallel_workers, sampler, num_samples, shuffle, num_shards, shard_id, cache
        )
        self.dataset_dir = existing_folder(who, dataset_dir)
        endings = [extensions] if isinstance(extensions, str) else extensions
        if endings is not None and not all(isinstance(each, str) for each in endings):
            raise TypeError(f"{who}: extensions must be a list of str, got {extensions!r}.")
        if class_indexing is not None and not isinstance(class_indexing, dict):
            raise TypeError(f"{who}: class_indexing must be a dict, got {class_indexing!r}.")
        self._image = ImageFile(who, decode, decrypt)
        self._endings = None if endings is None else tuple(each.lower() for each in endings)
        folders = sorted(entry.name for entry in os.scandir(self.dataset_dir) if entry.is_dir())
        if class_indexing is None:
            self._indexing = {name: label for label, name in enumerate(folders)}
        else:
            for name, label in class_indexing.items():
                if not isinstance(label, int) or isinstance(label, bool):
                    raise TypeError(f"{who}: class_indexing[{name!r}] must be an int.")
                if name not in folders:
                    raise ValueError(
                        f"{who}: class_indexing has {name!r}, which is no folder of "
                        f"'{self.dataset_dir}'."
                    )
            self._indexing = dict(class_indexing)
        self._files: list[str] = []
        labels: list[int] = []
        for name in folders:
            if name in self._indexing:
                found = self._found(self.dataset_dir / name)
                self._files += found
                labels += [self._indexing[name]] * len(found)
        if not self._files:
            raise RuntimeError(
                f"{who}: '{self.dataset_dir}' has no images in folders of its own"
                + (f" with the endings {list(self._endings)}." if self._endings else ".")
            )
        self._all_labels = np.array(labels, np.int32)

    def _found(self, folder: Path) -> list[str]:
        found = [
            os.path.join(where, name)
            for where, _, names in os.walk(folder)
            for name in names
            if self._endings is None or name.lower().endswith(self._endings)
        ]
        return sorted(found)

    def _names(self) -> list[str]:
        return ["image", "label"]

    def _source_length(self) -> int:
        return len(self._files)

    def _fetch(self) -> Callable[[int], Any]:
        return _FolderRows(self._files, self._all_labels, self._image)

    def _labels(self) -> np.ndarray[Any, Any] | None:
        return self._all_labels

    def num_classes(self) -> int | None:
        """How many folders count."""
        return len(self._indexing)

    def get_class_indexing(self) -> dict[str, Any]:
        """{folder: label}."""
        return dict(self._indexing)

    def _detail(self) -> Any:
        return len(self._files)
