"""Files of records: which ones, in which order, and images in files."""

from __future__ import annotations

import glob
import io
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.dataset import opencv
from paramesh.dataset.samplers import BuiltinSampler, DistributedSampler, Indices, Shuffle
from paramesh.dataset.sources.base import MappableDataset


def existing_folder(who: str, folder: object) -> Path:
    """A folder that is there.

    Raises:
        TypeError: no path. ValueError: there is no such folder.
    """
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"{who}: dataset_dir must be a path, got {folder!r}.")
    path = Path(folder)
    if not path.is_dir():
        raise ValueError(f"{who}: there is no folder '{path}'.")
    return path.absolute()


def existing_file(who: str, argument: str, file: object) -> Path:
    """A file that is there.

    Raises:
        TypeError: no path. ValueError: there is no such file.
    """
    if not isinstance(file, str | os.PathLike):
        raise TypeError(f"{who}: {argument} must be a path, got {file!r}.")
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"{who}: there is no file '{path}'.")
    return path.absolute()


def matching_files(who: str, patterns: object) -> list[str]:
    """The files of paths and patterns, sorted.

    Raises:
        TypeError: no path. ValueError: a pattern without a file.
    """
    listed = patterns if isinstance(patterns, list | tuple) else [patterns]
    if not listed:
        raise ValueError(f"{who}: dataset_files is empty.")
    found: set[str] = set()
    missing: list[str] = []
    for pattern in listed:
        if not isinstance(pattern, str | os.PathLike):
            raise TypeError(f"{who}: dataset_files must be paths, got {pattern!r}.")
        name = os.fspath(pattern)
        if os.path.isfile(name):
            found.add(name)
            continue
        matches = [each for each in glob.glob(name) if os.path.isfile(each)]
        found.update(matches)
        if not matches:
            missing.append(name)
    if missing:
        raise ValueError(f"{who}: these paths match no files: {missing}.")
    return [str(Path(each).absolute()) for each in sorted(found)]


def one_of(who: str, argument: str, value: object, choices: Sequence[str]) -> Any:
    """A word of a list.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{who}: {argument} must be a str, got {value!r}.")
    if value not in choices:
        raise ValueError(f"{who}: {argument} must be one of {list(choices)}, got {value!r}.")
    return value


def pillow(who: str) -> Any:
    """Pillow's Image module.

    Raises:
        RuntimeError: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise RuntimeError(f"{who}: images need Pillow: pip install 'paramesh[dataset]'.") from None
    return Image


class ImageFile:
    """Reads an image: its bytes, or its pixels in RGB, uint8 of shape (height, width, 3).

    Args:
        who: the dataset, for errors.
        decode: give pixels.
        decrypt: takes the path, returns bytes; None: they are read as they are.
    """

    def __init__(
        self, who: str, decode: bool, decrypt: Callable[[str], bytes] | None = None
    ) -> None:
        if not isinstance(decode, bool):
            raise TypeError(f"{who}: decode must be a bool, got {decode!r}.")
        if decrypt is not None and not callable(decrypt):
            raise TypeError(f"{who}: decrypt must be a function, got {decrypt!r}.")
        self.who, self.decode, self.decrypt = who, decode, decrypt

    def __call__(self, path: str) -> np.ndarray[Any, Any]:
        """The image of a file.

        Raises:
            RuntimeError: it cannot be read, or is no image.
        """
        try:
            if self.decrypt is not None:
                data = np.frombuffer(bytearray(self.decrypt(path)), np.uint8)
            else:
                data = np.fromfile(path, np.uint8)
        except OSError as error:
            raise RuntimeError(f"{self.who}: '{path}': {error}") from None
        if not self.decode:
            return data
        image = pillow(self.who)
        try:
            with image.open(io.BytesIO(data.data)) as opened:
                found = opencv.jpeg(data, opened)
                return np.array(opened.convert("RGB")) if found is None else found
        except OSError as error:
            raise RuntimeError(f"{self.who}: '{path}' is no image: {error}") from None


class FileOrder(BuiltinSampler):
    """Rows of files: files in random order, or the rows in each, or both, or neither.

    Args:
        counts: rows of each file.
        how: which of that.
        num_samples: at most so many rows; None: all.
    """

    def __init__(self, counts: Sequence[int], how: Shuffle, num_samples: int | None) -> None:
        super().__init__(num_samples)
        self.counts, self.how = list(counts), how

    def _shuffles(self) -> bool:
        return self.how is not Shuffle.FALSE

    def _choose(self, size: int, rng: np.random.Generator) -> Indices:
        if self.how in (Shuffle.GLOBAL, Shuffle.ADAPTIVE, Shuffle.PARTIAL):
            return rng.permutation(size)
        starts = np.concatenate([[0], np.cumsum(self.counts)])
        parts = [np.arange(a, b) for a, b in itertools.pairwise(starts)]
        if self.how is Shuffle.FILES:
            parts = [parts[i] for i in rng.permutation(len(parts))]
        elif self.how is Shuffle.INFILE:
            parts = [rng.permutation(part) for part in parts]
        return np.concatenate(parts) if parts else np.arange(0)


def as_shuffle(who: str, shuffle: bool | Shuffle | None) -> Shuffle:
    """What `shuffle` of a dataset of files asks for.

    Raises:
        TypeError: neither a bool nor a Shuffle.
    """
    if shuffle is None or shuffle is True:
        return Shuffle.GLOBAL
    if shuffle is False:
        return Shuffle.FALSE
    if not isinstance(shuffle, Shuffle):
        raise TypeError(f"{who}: shuffle must be a bool or Shuffle, got {shuffle!r}.")
    return shuffle


class RecordFiles(MappableDataset):
    """A source of the rows of several files.

    Args:
        counts: rows of each file.
        shuffle: a bool or a Shuffle.
        num_samples, num_parallel_workers, num_shards, shard_id, cache: as in MappableDataset.
    """

    def __init__(
        self,
        counts: Sequence[int],
        shuffle: bool | Shuffle | None,
        num_samples: int | None,
        num_parallel_workers: int | None,
        num_shards: int | None,
        shard_id: int | None,
        cache: object,
    ) -> None:
        how = as_shuffle(self._title(), shuffle)
        # Checks the arguments; its sampler is replaced by one that knows files.
        super().__init__(
            num_parallel_workers, None, num_samples, False, num_shards, shard_id, cache
        )
        self._counts = list(counts)
        order = FileOrder(counts, how, None if num_shards else num_samples)
        if isinstance(self.sampler, DistributedSampler):
            order._seed = self.sampler._shared_seed  # type: ignore[method-assign]
            self.sampler.add_child(order)
        else:
            self.sampler = order

    def _source_length(self) -> int:
        return sum(self._counts)
