"""Vectors of words, from files."""

from __future__ import annotations

import os
import re

import numpy as np

from paramesh.dataset.argument_types import Values
from paramesh.dataset.text.strings import TextTensorOperation, words
from paramesh.dataset.transforms import arguments as check

__all__ = ["CharNGram", "FastText", "GloVe", "ToVectors", "Vectors"]


class Vectors:
    """Words and their vectors; made by `from_file`."""

    _name = re.compile(r"")
    _expected = "a file"

    def __init__(self) -> None:
        self.vectors: dict[str, np.ndarray] = {}
        self.dim = 0

    @classmethod
    def from_file(cls, file_path: str, max_vectors: int | None = None) -> Vectors:
        """The vectors of a text file: on each line a word and its numbers.

        Args:
            file_path: in UTF-8; a first line of two numbers is skipped.
            max_vectors: how many at most; None or 0: all.

        Raises:
            TypeError: one is of another kind.
            ValueError: `max_vectors` is negative.
            RuntimeError: no such file, not named as its kind is, or a line with another number of
                values.
        """
        name = f"{cls.__name__}.from_file"
        check.of_type(file_path, str, f"{name}(file_path)")
        if max_vectors is not None:
            check.natural(max_vectors, f"{name}(max_vectors)")
        if not os.path.isfile(file_path):
            raise RuntimeError(f"{name}: there is no file {file_path}.")
        if not cls._name.search(os.path.basename(file_path)):
            raise RuntimeError(f"{name}: expected {cls._expected}, got {file_path}.")
        made = cls()
        with open(file_path, encoding="utf-8") as file:
            for number, row in enumerate(file):
                parts = row.split()
                if not parts or (number == 0 and len(parts) == 2):
                    continue
                made.dim = made.dim or len(parts) - 1
                if len(parts) != made.dim + 1:
                    raise RuntimeError(
                        f"{name}: line {number + 1} of {file_path} has {len(parts) - 1} values, "
                        f"those before have {made.dim}."
                    )
                made.vectors.setdefault(parts[0], np.array(parts[1:], np.float32))
                if max_vectors and len(made.vectors) == max_vectors:
                    break
        return made

    def vector(self, word: str) -> np.ndarray | None:
        """The vector of a word, or None."""
        return self.vectors.get(word)


class GloVe(Vectors):
    """Vectors of GloVe: a file `glove.6B.*.txt` (or of another corpus)."""

    _name = re.compile(r"^glove\..*\.txt$")
    _expected = "a file 'glove.*.txt'"


class FastText(Vectors):
    """Vectors of fastText: a file `*.vec`."""

    _name = re.compile(r"\.vec$")
    _expected = "a file '*.vec'"


class CharNGram(Vectors):
    """Vectors of runs of characters: a word's is the mean of those of its runs.

    Source: Hashimoto et al., A Joint Many-Task Model (2017).
    """

    def vector(self, word: str) -> np.ndarray | None:
        """The mean of the vectors of the runs of 2 to 4 characters, or None."""
        characters = ["#BEGIN#", *word, "#END#"]
        found = []
        for n in (2, 3, 4):
            size = max(len(characters) - n + 1, 0)
            keys = dict.fromkeys("".join(characters[i : i + n]) for i in range(size))
            found += [self.vectors[f"{n}gram-{k}"] for k in keys if f"{n}gram-{k}" in self.vectors]
        return np.asarray(np.mean(found, 0), np.float32) if found else None


class ToVectors(TextTensorOperation):
    """The vectors of words.

    Args:
        vectors: the words and vectors.
        unk_init: the vector of unknown words; None: zeros.
        lower_case_backup: True: an unknown word is looked up in small letters, too.

    Raises:
        TypeError: one is of another kind.
        ValueError: `unk_init` has another length than the vectors.
    """

    def __init__(
        self,
        vectors: Vectors,
        unk_init: list[float] | tuple[float, ...] | None = None,
        lower_case_backup: bool = False,
    ) -> None:
        check.of_type(vectors, Vectors, "ToVectors.vectors")
        if unk_init is not None:
            check.numbers_of(unk_init, "ToVectors.unk_init")
            if unk_init and len(unk_init) != vectors.dim:
                raise ValueError(
                    f"ToVectors.unk_init: {len(unk_init)} values, the vectors have {vectors.dim}."
                )
        check.flag(lower_case_backup, "ToVectors.lower_case_backup")
        self.vectors = vectors
        self.lower_case_backup = lower_case_backup
        self._unknown = np.array(unk_init or np.zeros(vectors.dim), np.float32)

    def __call__(self, column: Values) -> np.ndarray:
        """The vectors, as float32, along a new last axis.

        Raises:
            RuntimeError: no strings.
        """
        array = words(column, "ToVectors")
        rows = [self._of(str(w)) for w in array.flat]
        return np.array(rows, np.float32).reshape(*array.shape, self.vectors.dim)

    def _of(self, word: str) -> np.ndarray:
        found = self.vectors.vector(word)
        if found is None and self.lower_case_backup:
            found = self.vectors.vector(word.lower())
        return self._unknown if found is None else found
