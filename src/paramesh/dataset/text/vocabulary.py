"""Words and their numbers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from paramesh.dataset.argument_types import Values
from paramesh.dataset.text.strings import TextTensorOperation, words
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.columns import numpy_type
from paramesh.dtype import DTypeLike, int32

if TYPE_CHECKING:
    from paramesh.dataset.dataset import Dataset


__all__ = ["Lookup", "Vocab"]


def _unique(value: list[str], name: str) -> list[str]:
    check.of_type(value, list, name)
    seen: set[str] = set()
    for i, word in enumerate(value):
        check.of_type(word, str, f"{name}[{i}]")
        if word in seen:
            raise ValueError(f"{name}: the word {word!r} is there twice.")
        seen.add(word)
    return value


class Vocab:
    """A mapping of words to numbers; made by one of its `from_` methods."""

    def __init__(self) -> None:
        self._ids: dict[str, int] | None = None
        self._words: dict[int, str] = {}

    @classmethod
    def _made(cls, ids: dict[str, int]) -> Vocab:
        vocab = cls()
        vocab._ids = ids
        vocab._words = {i: w for w, i in ids.items()}
        return vocab

    @classmethod
    def _numbered(cls, plain: Iterable[str], special: list[str], special_first: bool) -> Vocab:
        plain = list(plain)
        both = [*special, *plain] if special_first else [*plain, *special]
        return cls._made({word: i for i, word in enumerate(both)})

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset,
        columns: str | list[str] | None = None,
        freq_range: tuple[int | None, int | None] | None = None,
        top_k: int | None = None,
        special_tokens: list[str] | None = None,
        special_first: bool = True,
    ) -> Vocab:
        """The words of a dataset, the most frequent first; those equally frequent by code point.

        Args:
            dataset: it is gone through once.
            columns: the columns of strings; None: all columns.
            freq_range: the smallest and the largest frequency of a word, both included; None: any.
            top_k: how many words at most; None: all.
            special_tokens: words that get numbers in any case.
            special_first: True: they come first; False: last.

        Raises:
            TypeError: an argument is of another kind.
            ValueError: an argument is outside, or a special token is there twice.
            RuntimeError: a column holds no strings, or a special token is in the dataset.
        """
        name = "Vocab.from_dataset"
        chosen = [columns] if isinstance(columns, str) else columns
        if chosen is not None:
            check.of_type(chosen, list, f"{name}(columns)")
            for i, column in enumerate(chosen):
                check.of_type(column, str, f"{name}(columns)[{i}]")
        low, high = _frequencies(freq_range, f"{name}(freq_range)")
        if top_k is not None:
            check.of_type(top_k, int, f"{name}(top_k)")
            check.positive(top_k, f"{name}(top_k)")
        check.flag(special_first, f"{name}(special_first)")
        special = _unique(special_tokens or [], f"{name}(special_tokens)")
        counts: Counter[str] = Counter()
        for row in dataset.create_dict_iterator(num_epochs=1, output_numpy=True):
            for column in chosen or row:
                if column not in row:
                    raise RuntimeError(f"{name}: no column '{column}' among {list(row)}.")
                counts.update(str(w) for w in words(row[column], name).flat)
        both = [w for w in special if w in counts]
        if both:
            raise RuntimeError(f"{name}: the special tokens {both} are words of the dataset.")
        ranked = sorted(
            (w for w, n in counts.items() if low <= n and (high is None or n <= high)),
            key=lambda w: (-counts[w], w),
        )
        return cls._numbered(ranked[:top_k], special, special_first)

    @classmethod
    def from_list(
        cls,
        word_list: list[str],
        special_tokens: list[str] | None = None,
        special_first: bool = True,
    ) -> Vocab:
        """The words of a list, in its order.

        Args:
            word_list: different words.
            special_tokens: further words.
            special_first: True: these come first; False: last.

        Raises:
            TypeError: an argument is of another kind.
            ValueError: a word is there twice.
        """
        name = "Vocab.from_list"
        plain = _unique(word_list, f"{name}(word_list)")
        special = _unique(special_tokens or [], f"{name}(special_tokens)")
        both = set(plain) & set(special)
        if both:
            raise ValueError(f"{name}: {sorted(both)} are in word_list and in special_tokens.")
        check.flag(special_first, f"{name}(special_first)")
        return cls._numbered(plain, special, special_first)

    @classmethod
    def from_file(
        cls,
        file_path: str,
        delimiter: str = "",
        vocab_size: int | None = None,
        special_tokens: list[str] | None = None,
        special_first: bool = True,
    ) -> Vocab:
        """The words of a file, one on each line.

        Args:
            file_path: a text in UTF-8.
            delimiter: the word ends before it; empty: the line is the word.
            vocab_size: how many lines at most; None: all.
            special_tokens: further words.
            special_first: True: these come first; False: last.

        Raises:
            TypeError: an argument is of another kind.
            ValueError: `vocab_size` is not above 0, or a special token is there twice.
            RuntimeError: there is no such file, or a word is there twice.
        """
        name = "Vocab.from_file"
        check.of_type(file_path, str, f"{name}(file_path)")
        check.of_type(delimiter, str, f"{name}(delimiter)")
        if vocab_size is not None:
            check.positive(vocab_size, f"{name}(vocab_size)")
        check.flag(special_first, f"{name}(special_first)")
        special = _unique(special_tokens or [], f"{name}(special_tokens)")
        if not os.path.isfile(file_path):
            raise RuntimeError(f"{name}: there is no file {file_path}.")
        plain: dict[str, None] = {}
        with open(file_path, encoding="utf-8") as file:
            for row in file:
                if vocab_size is not None and len(plain) == vocab_size:
                    break
                word = row.rstrip("\r\n")
                word = word.partition(delimiter)[0] if delimiter else word
                if word in plain or word in special:
                    raise RuntimeError(f"{name}: the word {word!r} is in {file_path} twice.")
                plain[word] = None
        return cls._numbered(plain, special, special_first)

    @classmethod
    def from_dict(cls, word_dict: dict[str, int]) -> Vocab:
        """The words and numbers of a dictionary.

        Raises:
            TypeError: no dictionary of strings and ints.
            ValueError: a number is negative.
        """
        name = "Vocab.from_dict(word_dict)"
        check.of_type(word_dict, dict, name)
        for word, number in word_dict.items():
            check.of_type(word, str, f"{name} key")
            check.natural(number, f"{name}[{word!r}]")
        return cls._made(dict(word_dict))

    def vocab(self) -> dict[str, int]:
        """{word: number}.

        Raises:
            RuntimeError: the Vocab was not made by a `from_` method.
        """
        if self._ids is None:
            raise RuntimeError(
                "Vocab: it is empty. Make one with Vocab.from_dataset, from_list, from_file or "
                "from_dict."
            )
        return dict(self._ids)

    def number(self, word: str) -> int | None:
        """The number of a word, or None."""
        return self._ids.get(word) if self._ids is not None else None

    def tokens_to_ids(self, tokens: str | list[str] | np.ndarray) -> int | list[int]:
        """The numbers of words; -1 for one that is not there.

        Args:
            tokens: one word, also as the only one of a list, gives one number, several a list.

        Raises:
            TypeError: no strings.
            RuntimeError: the Vocab was not made by a `from_` method.
        """
        ids = self.vocab()
        many = tokens.tolist() if isinstance(tokens, np.ndarray) else tokens
        check.of_type(many, (str, list), "Vocab.tokens_to_ids(tokens)")
        if isinstance(many, str):
            return ids.get(many, -1)
        for i, token in enumerate(many):
            check.of_type(token, str, f"Vocab.tokens_to_ids(tokens)[{i}]")
        found = [ids.get(t, -1) for t in many]
        return found[0] if len(found) == 1 else found

    def ids_to_tokens(self, ids: int | list[int] | np.ndarray) -> str | list[str]:
        """The words of numbers; an empty one for a number that is not there.

        Args:
            ids: one number, also as the only one of a list, gives one word, several a list.

        Raises:
            TypeError: no ints.
            ValueError: one is negative.
            RuntimeError: the Vocab was not made by a `from_` method.
        """
        self.vocab()
        many = ids.tolist() if isinstance(ids, np.ndarray) else ids
        check.of_type(many, (int, list), "Vocab.ids_to_tokens(ids)")
        if isinstance(many, int):
            check.natural(many, "Vocab.ids_to_tokens(ids)")
            return self._words.get(many, "")
        for i, number in enumerate(many):
            check.of_type(number, (int, np.integer), f"Vocab.ids_to_tokens(ids)[{i}]")
            check.within(number, 0, check.INT32_MAX, f"Vocab.ids_to_tokens(ids)[{i}]")
        words = [self._words.get(int(i), "") for i in many]
        return words[0] if len(words) == 1 else words


def _frequencies(value: tuple[int | None, int | None] | None, name: str) -> tuple[int, int | None]:
    if value is None:
        return 0, None
    check.of_type(value, tuple, name)
    if len(value) != 2 or not all(v is None or type(v) is int for v in value):
        raise ValueError(f"{name}: expected (min, max) of ints or None, got {value!r}.")
    low, high = value[0] or 0, value[1]
    if low < 0 or (high is not None and low > high):
        raise ValueError(f"{name}: expected 0 <= min <= max, got {value!r}.")
    return low, high


class Lookup(TextTensorOperation):
    """The numbers of words.

    Args:
        vocab: the words and numbers.
        unknown_token: whose number a word gets that is not there; None: it is an error.
        data_type: the element type of the numbers.

    Raises:
        TypeError: one is of another kind.
        RuntimeError: `vocab` is empty, or does not have `unknown_token`.
    """

    def __init__(
        self, vocab: Vocab, unknown_token: str | None = None, data_type: DTypeLike = int32
    ) -> None:
        if unknown_token is not None:
            check.of_type(unknown_token, str, "Lookup.unknown_token")
        check.of_type(vocab, Vocab, "Lookup.vocab")
        self.data_type = numpy_type(data_type, "Lookup.data_type")
        self.vocab = vocab
        self.unknown_token = unknown_token
        self._ids = vocab.vocab()
        if unknown_token is not None and unknown_token not in self._ids:
            raise RuntimeError(f"Lookup.unknown_token: {unknown_token!r} is not in the Vocab.")
        self._unknown = None if unknown_token is None else self._ids[unknown_token]

    def __call__(self, column: Values) -> np.ndarray:
        """The numbers, in the shape of the words.

        Raises:
            RuntimeError: no strings, or an unknown one without `unknown_token`.
        """
        array = words(column, "Lookup")
        numbers = [self._ids.get(w, self._unknown) for w in array.ravel().tolist()]
        if None in numbers:
            missing = array.flat[numbers.index(None)]
            raise RuntimeError(
                f"Lookup: the word {str(missing)!r} is not in the Vocab. Pass unknown_token."
            )
        return np.array(numbers, self.data_type).reshape(array.shape)
