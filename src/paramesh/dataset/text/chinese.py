"""Chinese words, over the package `jieba`."""

from __future__ import annotations

import importlib
import os
import re
from typing import Any

from paramesh.dataset.argument_types import Values
from paramesh.dataset.text.modes import JiebaMode
from paramesh.dataset.text.strings import TextTensorOperation, line, placed, tokens
from paramesh.dataset.transforms import arguments as check

__all__ = ["JiebaTokenizer"]

_ENTRY = re.compile(r"^\s*([^\s*]+?)\s*([0-9]+)?\s*$")


class JiebaTokenizer(TextTensorOperation):
    """The words of a Chinese string.

    Args:
        hmm_path: cppjieba's file of the hidden Markov model; the package `jieba` has its own, so
            the file only has to be there.
        mp_path: the dictionary: a word, its frequency and its kind on each line.
        mode: MIX: dictionary and model; MP: the dictionary; HMM: the model.
        with_offsets: True: tokens, starts and ends in bytes of UTF-8; False: tokens.

    Raises:
        TypeError: one is of another kind.
        ValueError: a path is None, or there is no such file.
        ImportError: the package `jieba` is not there.
    """

    def __init__(
        self,
        hmm_path: str | None,
        mp_path: str | None,
        mode: JiebaMode = JiebaMode.MIX,
        with_offsets: bool = False,
    ) -> None:
        for path, argument in ((hmm_path, "hmm_path"), (mp_path, "mp_path")):
            name = f"JiebaTokenizer.{argument}"
            if path is None:
                raise ValueError(f"{name}: expected the path of a file, got None.")
            check.of_type(path, str, name)
            if not os.path.exists(path):
                raise ValueError(f"{name}: there is no file {path}.")
        check.of_type(mode, JiebaMode, "JiebaTokenizer.mode")
        check.flag(with_offsets, "JiebaTokenizer.with_offsets")
        try:
            library = importlib.import_module("jieba")
        except ImportError:
            raise ImportError(
                "JiebaTokenizer needs the package `jieba`. Install it: pip install jieba."
            ) from None
        self.mode = mode
        self.with_offsets = with_offsets
        self._words = library.Tokenizer(mp_path)
        self._model = importlib.import_module("jieba.finalseg")

    def add_word(self, word: str | None, freq: int | None = None) -> None:
        """Add a word to the dictionary.

        Args:
            word: the word.
            freq: its frequency; None: large enough to be found.

        Raises:
            TypeError: `freq` is no int.
            ValueError: `word` is None, or `freq` negative.
        """
        if word is None:
            raise ValueError("JiebaTokenizer.add_word(word): expected a word, got None.")
        if freq is not None:
            check.of_type(freq, int, "JiebaTokenizer.add_word(freq)")
            check.within(freq, 0, 2**32 - 1, "JiebaTokenizer.add_word(freq)")
        self._words.add_word(word, freq or None)

    def add_dict(self, user_dict: str | dict[str, int]) -> None:
        """Add words to the dictionary.

        Args:
            user_dict: {word: frequency}, or the path of a file with a word and, if known, its
                frequency on each line.

        Raises:
            TypeError: neither.
            ValueError: there is no such file.
        """
        if isinstance(user_dict, dict):
            entries = list(user_dict.items())
        elif isinstance(user_dict, str):
            if not os.path.isfile(user_dict):
                raise ValueError(f"JiebaTokenizer.add_dict: there is no file {user_dict}.")
            with open(user_dict, encoding="utf-8-sig") as file:
                found = [m for m in map(_ENTRY.match, file) if m]
            entries = [(m[1], int(m[2] or 0)) for m in found]
        else:
            raise TypeError(
                f"JiebaTokenizer.add_dict(user_dict): expected a path or a dict, got {user_dict!r}."
            )
        for word, freq in entries:
            self.add_word(word, freq)

    def __call__(self, column: Values) -> Any:
        """Cut a string.

        Raises:
            RuntimeError: it is none.
        """
        text = line(column, "JiebaTokenizer")
        if self.mode == JiebaMode.HMM:
            found = self._model.cut(text)
        else:
            found = self._words.cut(text, HMM=self.mode == JiebaMode.MIX)
        return tokens(placed([(w, True) for w in found]), self.with_offsets)
