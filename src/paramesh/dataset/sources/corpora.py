"""Text of published collections: files of known names in a folder, read by lines or as CSV.

What is the same in all of them is in `_Corpus`: a class says the names of its files and columns.

With several files, the rows of one come after those of the other, in the order of their names (as
of TextFileDataset); MindSpore takes one of each in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from paramesh.dataset.argument_types import FilePath
from paramesh.dataset.samplers import SamplerLike, Shuffle
from paramesh.dataset.sources.base import MappableDataset
from paramesh.dataset.sources.files import RecordFiles, existing_file, existing_folder, one_of
from paramesh.dataset.sources.text import CsvRow, Lines, TextRow


class _Corpus(RecordFiles):
    """Rows of files of known names.

    Args:
        dataset_dir: the folder of the files.
        usage: which of them; None: all.
        num_samples, num_parallel_workers, shuffle, num_shards, shard_id, cache: as in
            TextFileDataset.

    Raises:
        TypeError, ValueError: an argument of another kind; no such folder or file.
    """

    #: {usage: the name of the file}.
    files: ClassVar[Mapping[str, str]] = {"train": "train.csv", "test": "test.csv"}
    #: Of CSV files; a single `text` stands for the lines.
    columns: ClassVar[tuple[str, ...]] = ("text",)
    keeps_empty: ClassVar[bool] = False

    def __init__(
        self,
        dataset_dir: FilePath,
        usage: str | None = None,
        num_samples: int | None = None,
        num_parallel_workers: int | None = None,
        shuffle: bool | Shuffle | None = Shuffle.GLOBAL,
        num_shards: int | None = None,
        shard_id: int | None = None,
        cache: object = None,
    ) -> None:
        who = self._title()
        folder = existing_folder(who, dataset_dir)
        chosen = "all" if usage is None else one_of(who, "usage", usage, (*self.files, "all"))
        names = self.files.values() if chosen == "all" else [self.files[chosen]]
        paths = [str(existing_file(who, "dataset_dir", folder / name)) for name in sorted(names)]
        self.usage = chosen
        self._lines = Lines(paths, keep_empty=self.keeps_empty)
        super().__init__(
            self._lines.counts, shuffle, num_samples, num_parallel_workers, num_shards, shard_id,
            cache,
        )  # fmt: skip

    def _names(self) -> list[str]:
        return list(self.columns)

    def _fetch(self) -> Callable[[int], Any]:
        if self.columns == ("text",):
            return TextRow(self._lines)
        return CsvRow(self._lines, ",", [], len(self.columns), self._title())

    def _detail(self) -> Any:
        return [self.usage, self._counts]


class _LateWorkers(_Corpus):
    """A collection whose `num_parallel_workers` comes after the shards, as in MindSpore."""

    def __init__(
        self,
        dataset_dir: FilePath,
        usage: str | None = None,
        num_samples: int | None = None,
        shuffle: bool | Shuffle | None = Shuffle.GLOBAL,
        num_shards: int | None = None,
        shard_id: int | None = None,
        num_parallel_workers: int | None = None,
        cache: object = None,
    ) -> None:
        super().__init__(
            dataset_dir, usage, num_samples, num_parallel_workers, shuffle, num_shards, shard_id,
            cache,
        )  # fmt: skip


class AGNewsDataset(_Corpus):
    """News in four classes: `index`, `title` and `description`.

    `dataset_dir` has `train.csv` and `test.csv`; usage: "train", "test" or "all". Other arguments
    and errors as of TextFileDataset. All columns are strings.
    """

    columns = ("index", "title", "description")


class AmazonReviewDataset(_Corpus):
    """Reviews of goods: `label`, `title` and `content`.

    `dataset_dir` has `train.csv` and `test.csv`; usage: "train", "test" or "all". Other arguments
    and errors as of TextFileDataset. All columns are strings.
    """

    columns = ("label", "title", "content")


class DBpediaDataset(_Corpus):
    """Articles in fourteen classes: `class`, `title` and `content`.

    `dataset_dir` has `train.csv` and `test.csv`; usage: "train", "test" or "all". Other arguments
    and errors as of TextFileDataset. All columns are strings.
    """

    columns = ("class", "title", "content")


class SogouNewsDataset(_LateWorkers):
    """Chinese news in five classes: `index`, `title` and `content`.

    `dataset_dir` has `train.csv` and `test.csv`; usage: "train", "test" or "all". Other arguments
    and errors as of TextFileDataset. All columns are strings.
    """

    columns = ("index", "title", "content")


class YahooAnswersDataset(_Corpus):
    """Questions in ten classes: `class`, `title`, `content` and `answer`.

    `dataset_dir` has `train.csv` and `test.csv`; usage: "train", "test" or "all". Other arguments
    and errors as of TextFileDataset. All columns are strings.
    """

    columns = ("class", "title", "content", "answer")


class YelpReviewDataset(_LateWorkers):
    """Reviews of shops: `label` and `text`.

    `dataset_dir` has `train.csv` and `test.csv`; usage: "train", "test" or "all". Other arguments
    and errors as of TextFileDataset. All columns are strings.
    """

    columns = ("label", "text")


class PennTreebankDataset(_Corpus):
    """Lines of the Penn Treebank: `text`.

    `dataset_dir` has `ptb.train.txt`, `ptb.test.txt` and `ptb.valid.txt`; usage: "train", "test",
    "valid" or "all". Other arguments and errors as of TextFileDataset.
    """

    files: ClassVar[Mapping[str, str]] = {
        "train": "ptb.train.txt",
        "valid": "ptb.valid.txt",
        "test": "ptb.test.txt",
    }


class WikiTextDataset(_Corpus):
    """Lines of WikiText-2 or WikiText-103: `text`. Empty lines are left out.

    `dataset_dir` has `wiki.train.tokens`, `wiki.test.tokens` and `wiki.valid.tokens`; usage:
    "train", "test", "valid" or "all". Other arguments and errors as of TextFileDataset.
    """

    files: ClassVar[Mapping[str, str]] = {
        "train": "wiki.train.tokens",
        "valid": "wiki.valid.tokens",
        "test": "wiki.test.tokens",
    }


class EnWik9Dataset(_Corpus):
    """Lines of a dump of Wikipedia, the file `enwik9`: `text`. Empty lines are rows, too.

    Args:
        dataset_dir: the folder of the file.
        num_samples, num_parallel_workers, shuffle, num_shards, shard_id, cache: as in
            TextFileDataset.

    Raises:
        TypeError, ValueError: an argument of another kind; no such folder or file.
    """

    files: ClassVar[Mapping[str, str]] = {"all": "enwik9"}
    keeps_empty = True

    def __init__(
        self,
        dataset_dir: FilePath,
        num_samples: int | None = None,
        num_parallel_workers: int | None = None,
        shuffle: bool | Shuffle | None = True,
        num_shards: int | None = None,
        shard_id: int | None = None,
        cache: object = None,
    ) -> None:
        super().__init__(
            dataset_dir, None, num_samples, num_parallel_workers, shuffle, num_shards, shard_id,
            cache,
        )  # fmt: skip


class _Review:
    def __init__(self, who: str, files: list[str], labels: list[int]) -> None:
        self.who, self.files, self.labels = who, files, labels

    def __call__(self, index: int) -> Any:
        path = self.files[index]
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RuntimeError(f"{self.who}: '{path}' cannot be read: {error}") from None
        return np.array(text), np.array(self.labels[index], np.int32)


class IMDBDataset(MappableDataset):
    """Reviews of films: `text`, and `label`, Int32: 1 where they are positive, 0 where not.

    Args:
        dataset_dir: the folder of `train` and `test`, each with a folder `pos` and `neg` of files.
        usage: "train", "test", or "all" (None: the same).
        num_samples, num_parallel_workers, shuffle, sampler, num_shards, shard_id, cache: as in
            MnistDataset.

    Raises:
        TypeError, ValueError: an argument of another kind; no such folder. RuntimeError: there are
            no files; when rows are asked for: one is no UTF-8.
    """

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
        folder = existing_folder(who, dataset_dir)
        self.usage = "all" if usage is None else one_of(who, "usage", usage, _IMDB)
        self._files: list[str] = []
        self._classes: list[int] = []
        for part in ("train", "test") if self.usage == "all" else (self.usage,):
            for name, label in (("pos", 1), ("neg", 0)):
                found = sorted(map(str, (folder / part / name).glob("*.txt")))
                if not found:
                    raise RuntimeError(
                        f"{who}: there are no files *.txt in '{folder / part / name}'."
                    )
                self._files += found
                self._classes += [label] * len(found)

    def _names(self) -> list[str]:
        return ["text", "label"]

    def _source_length(self) -> int:
        return len(self._files)

    def _fetch(self) -> Callable[[int], Any]:
        return _Review(self._title(), self._files, self._classes)

    def _labels(self) -> np.ndarray[Any, Any] | None:
        return np.array(self._classes, np.int32)

    def num_classes(self) -> int:
        """2."""
        return 2

    def _detail(self) -> Any:
        return [self.usage, len(self._files)]


_IMDB = ("train", "test", "all")
