"""Texts with annotations, of published collections: tags of words, questions and answers, moods.

Their files are read when the dataset is made. With several files, the rows of one come after those
of the other, in the order of their names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from paramesh.dataset.argument_types import FilePath
from paramesh.dataset.samplers import Shuffle
from paramesh.dataset.sources.files import (
    RecordFiles,
    existing_file,
    existing_folder,
    one_of,
)

Row = tuple[np.ndarray[Any, Any], ...]


class _Rows:
    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __call__(self, index: int) -> Row:
        return tuple(np.array(cell) for cell in self.rows[index])


class _Annotated(RecordFiles):
    """Rows that a class reads from files of known names."""

    files: ClassVar[Mapping[str, str]]
    columns: tuple[str, ...]
    #: What `usage=None` means.
    default: ClassVar[str] = "all"

    def _make(
        self,
        dataset_dir: FilePath,
        usage: str | None,
        num_samples: int | None,
        num_parallel_workers: int | None,
        shuffle: bool | Shuffle | None,
        num_shards: int | None,
        shard_id: int | None,
        cache: object,
    ) -> None:
        who = self._title()
        folder = existing_folder(who, dataset_dir)
        every = ("all",) if self.default == "all" else ()
        known = (*self.files, *every)
        chosen = self.default if usage is None else one_of(who, "usage", usage, known)
        there = self._names_of_files(folder)
        names = there.values() if chosen == "all" else [there[chosen]]
        self.usage = chosen
        self._texts: list[Row] = []
        counts: list[int] = []
        for name in sorted(names):
            path = existing_file(who, "dataset_dir", folder / name)
            try:
                found = self._read(path)
            except (UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
                raise RuntimeError(f"{who}: '{path}' cannot be read: {error!r}.") from None
            self._texts += found
            counts.append(len(found))
        super().__init__(
            counts, shuffle, num_samples, num_parallel_workers, num_shards, shard_id, cache
        )

    def _names_of_files(self, folder: Path) -> Mapping[str, str]:
        return self.files

    def _read(self, path: Path) -> list[Row]:
        raise NotImplementedError

    def _names(self) -> list[str]:
        return list(self.columns)

    def _fetch(self) -> Callable[[int], Any]:
        return _Rows(self._texts)

    def _detail(self) -> Any:
        return [self.usage, self._counts]


class _LateWorkers(_Annotated):
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
        self._make(
            dataset_dir, usage, num_samples, num_parallel_workers, shuffle, num_shards, shard_id,
            cache,
        )  # fmt: skip


class _EarlyWorkers(_Annotated):
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
        self._make(
            dataset_dir, usage, num_samples, num_parallel_workers, shuffle, num_shards, shard_id,
            cache,
        )  # fmt: skip


class _Tagged(_LateWorkers):
    """A row for each sentence: arrays of strings, one for each column. An empty line ends it."""

    separator: ClassVar[str | None] = None

    def _read(self, path: Path) -> list[Row]:
        rows: list[Row] = []
        words: list[list[str]] = []
        for line in [*path.read_text(encoding="utf-8").split("\n"), ""]:
            if line.strip():
                cells = line.rstrip("\r").split(self.separator)
                if len(cells) != len(self.columns):
                    raise ValueError(f"a line has {len(cells)} cells, not {len(self.columns)}")
                words.append(cells)
            elif words:
                rows.append(tuple(np.array(column) for column in zip(*words, strict=True)))
                words = []
        return rows


class CoNLL2000Dataset(_Tagged):
    """Sentences of CoNLL-2000, arrays of strings: `word`, `pos_tag` and `chunk_tag`.

    `dataset_dir` has `train.txt` and `test.txt`; usage: "train", "test" or "all". Other arguments
    as of TextFileDataset.

    Raises:
        TypeError, ValueError, RuntimeError: an argument of another kind; no such folder or file; a
            file is of another form.
    """

    files: ClassVar[Mapping[str, str]] = {"train": "train.txt", "test": "test.txt"}
    columns = ("word", "pos_tag", "chunk_tag")


class UDPOSDataset(_Tagged):
    """Sentences of the Universal Dependencies, arrays of strings: `word`, `universal`, `stanford`.

    `dataset_dir` has `en-ud-tag.v2.train.txt`, `….test.txt` and `….dev.txt`; usage: "train",
    "test", "valid" or "all". Other arguments as of TextFileDataset, errors as of CoNLL2000Dataset.
    """

    files: ClassVar[Mapping[str, str]] = {
        "train": "en-ud-tag.v2.train.txt",
        "test": "en-ud-tag.v2.test.txt",
        "valid": "en-ud-tag.v2.dev.txt",
    }
    columns = ("word", "universal", "stanford")
    separator = "\t"


class SST2Dataset(_EarlyWorkers):
    """Sentences of film reviews: `sentence`, and, but for tests, `label` ("0" or "1").

    `dataset_dir` has `train.tsv`, `test.tsv` and `dev.tsv`; usage: "train" (None: the same), "test"
    or "dev". Other arguments as of TextFileDataset, errors as of CoNLL2000Dataset.
    """

    files: ClassVar[Mapping[str, str]] = {
        "train": "train.tsv",
        "test": "test.tsv",
        "dev": "dev.tsv",
    }
    default = "train"

    columns = ("sentence", "label")

    def _read(self, path: Path) -> list[Row]:
        self.columns = ("sentence",) if self.usage == "test" else ("sentence", "label")
        head, *lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        places = [head.rstrip("\r").split("\t").index(name) for name in self.columns]
        rows: list[Row] = []
        for line in lines:
            cells = line.rstrip("\r").split("\t")
            if len(cells) != 2:
                raise ValueError(f"a line has {len(cells)} cells, not 2")
            rows.append(tuple(np.array(cells[place]) for place in places))
        return rows


class SQuADDataset(_EarlyWorkers):
    """Questions of SQuAD 1.1 or 2.0: `context`, `question`, and arrays `text`, `answer_start`.

    `dataset_dir` has `train-v1.1.json` and `dev-v1.1.json` (or those of `v2.0`); usage: "train",
    "dev" or "all". A question without an answer has one empty text, at the place 2**32 - 1, as in
    MindSpore. Other arguments as of TextFileDataset, errors as of CoNLL2000Dataset.
    """

    files: ClassVar[Mapping[str, str]] = {"train": "train-v{}.json", "dev": "dev-v{}.json"}
    columns = ("context", "question", "text", "answer_start")

    def _names_of_files(self, folder: Path) -> Mapping[str, str]:
        version = "2.0" if list(folder.glob("*-v2.0.json")) else "1.1"
        return {usage: name.format(version) for usage, name in self.files.items()}

    def _read(self, path: Path) -> list[Row]:
        rows: list[Row] = []
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    answers = question["answers"] or [{"text": "", "answer_start": 2**32 - 1}]
                    rows.append(
                        (
                            np.array(paragraph["context"]),
                            np.array(question["question"]),
                            np.array([answer["text"] for answer in answers]),
                            np.array([answer["answer_start"] for answer in answers], np.uint32),
                        )
                    )
        return rows
