"""Tokenizers that need no model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import Values
from paramesh.dataset.text.modes import NormalizeForm
from paramesh.dataset.text.normalizing import case_folded, compiled, normalized
from paramesh.dataset.text.strings import (
    TextTensorOperation,
    Token,
    line,
    placed,
    tokens,
    words,
)
from paramesh.dataset.text.vocabulary import Vocab
from paramesh.dataset.transforms import arguments as check

__all__ = [
    "BasicTokenizer",
    "BertTokenizer",
    "RegexTokenizer",
    "UnicodeCharTokenizer",
    "UnicodeScriptTokenizer",
    "WhitespaceTokenizer",
    "WordpieceTokenizer",
]


class UnicodeCharTokenizer(TextTensorOperation):
    """The characters of a string.

    Args:
        with_offsets: True: tokens, starts and ends in bytes of UTF-8; False: tokens.

    Raises:
        TypeError: it is no bool.
    """

    def __init__(self, with_offsets: bool = False) -> None:
        check.flag(with_offsets, "UnicodeCharTokenizer.with_offsets")
        self.with_offsets = with_offsets

    def __call__(self, column: Values) -> Any:
        """Cut a string.

        Raises:
            RuntimeError: it is none.
        """
        text = line(column, "UnicodeCharTokenizer")
        return tokens(placed([(c, True) for c in text]), self.with_offsets)


class WhitespaceTokenizer(TextTensorOperation):
    """The words of a string between white space.

    Args:
        with_offsets: True: tokens, starts and ends in bytes of UTF-8; False: tokens.

    Raises:
        TypeError: it is no bool.
    """

    def __init__(self, with_offsets: bool = False) -> None:
        check.flag(with_offsets, "WhitespaceTokenizer.with_offsets")
        self.with_offsets = with_offsets

    def __call__(self, column: Values) -> Any:
        """Cut a string.

        Raises:
            RuntimeError: it is none.
        """
        text = line(column, "WhitespaceTokenizer")
        if not self.with_offsets:
            return np.array(text.split() or [""])
        parts = [(p, not p.isspace()) for p in re.split(r"(\s+)", text) if p]
        return tokens(placed(parts), True)


def _script(character: str) -> str:
    """The script of a letter, by the first word of its name; of all else, "common"."""
    if unicodedata.category(character)[0] not in "LM":
        return "common"
    first = unicodedata.name(character, "common").split(" ")[0].split("-")[0]
    return {"IDEOGRAPHIC": "CJK", "FULLWIDTH": "LATIN", "MODIFIER": "common"}.get(first, first)


class UnicodeScriptTokenizer(TextTensorOperation):
    """The runs of characters of one script.

    Args:
        keep_whitespace: True: white space is a token, too.
        with_offsets: True: tokens, starts and ends in bytes of UTF-8; False: tokens.

    Raises:
        TypeError: one is no bool.
    """

    def __init__(self, keep_whitespace: bool = False, with_offsets: bool = False) -> None:
        check.flag(keep_whitespace, "UnicodeScriptTokenizer.keep_whitespace")
        check.flag(with_offsets, "UnicodeScriptTokenizer.with_offsets")
        self.keep_whitespace = keep_whitespace
        self.with_offsets = with_offsets

    def __call__(self, column: Values) -> Any:
        """Cut a string.

        Raises:
            RuntimeError: it is none.
        """
        parts: list[tuple[str, bool]] = []
        before: tuple[str, bool] | None = None
        for character in line(column, "UnicodeScriptTokenizer"):
            space = character.isspace()
            kind = ("", True) if space else (_script(character), False)
            marked = unicodedata.category(character) == "Mn" and before is not None
            if parts and (kind == before or (marked and before is not None and not before[1])):
                parts[-1] = parts[-1][0] + character, parts[-1][1]
                continue
            parts.append((character, self.keep_whitespace or not space))
            before = kind
        return tokens(placed(parts), self.with_offsets)


class RegexTokenizer(TextTensorOperation):
    r"""The parts of a string between the matches of a regular expression.

    Args:
        delim_pattern: the expression; classes such as `\p{Lu}` need the package `regex`.
        keep_delim_pattern: a match that this expression matches is a token, too.
        with_offsets: True: tokens, starts and ends in bytes of UTF-8; False: tokens.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is no expression, or `delim_pattern` is None.
    """

    def __init__(
        self, delim_pattern: str | None, keep_delim_pattern: str = "", with_offsets: bool = False
    ) -> None:
        if delim_pattern is None:
            raise ValueError("RegexTokenizer.delim_pattern: expected a pattern, got None.")
        check.of_type(delim_pattern, str, "RegexTokenizer.delim_pattern")
        check.of_type(keep_delim_pattern, str, "RegexTokenizer.keep_delim_pattern")
        check.flag(with_offsets, "RegexTokenizer.with_offsets")
        self.delim_pattern = delim_pattern
        self.keep_delim_pattern = keep_delim_pattern
        self.with_offsets = with_offsets
        compiled(delim_pattern, "RegexTokenizer.delim_pattern")
        compiled(keep_delim_pattern, "RegexTokenizer.keep_delim_pattern")

    def __call__(self, column: Values) -> Any:
        """Cut a string.

        Raises:
            RuntimeError: it is none.
        """
        text = line(column, "RegexTokenizer")
        keep = compiled(self.keep_delim_pattern, "") if self.keep_delim_pattern else None
        expression = compiled(self.delim_pattern, "RegexTokenizer.delim_pattern")
        return tokens(placed(list(_cut(text, expression, keep))), self.with_offsets)


def _cut(
    text: str, expression: re.Pattern[str], keep: re.Pattern[str] | None
) -> Iterator[tuple[str, bool]]:
    """Parts, and whether they are tokens."""
    at = 0
    for match in expression.finditer(text):
        if match.end() == match.start():
            continue
        if match.start() > at:
            yield text[at : match.start()], True
        yield match[0], bool(keep and keep.fullmatch(match[0]))
        at = match.end()
    if at < len(text):
        yield text[at:], True


_UNUSED = r"\[CLS\]|\[SEP\]|\[UNK\]|\[PAD\]|\[MASK\]|\[unused\d+\]"
_RESERVED = re.compile(f"({_UNUSED})")
_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _alone(character: str) -> bool:
    """True for punctuation, symbols of ASCII and Chinese characters: each is a token."""
    point = ord(character)
    if point < 128:
        return not character.isalnum() and not character.isspace() and point > 32
    if unicodedata.category(character)[0] == "P":
        return True
    return any(low <= point <= high for low, high in _CJK)


class BasicTokenizer(TextTensorOperation):
    """The words of a string as BERT cuts them: at white space, punctuation and Chinese characters.

    Args:
        lower_case: True: case is folded, and accents are dropped.
        keep_whitespace: True: white space is a token, too.
        normalization_form: the form of Unicode, if `lower_case` is False.
        preserve_unused_token: True: [CLS], [SEP], [UNK], [PAD], [MASK] and [unused1] and so on
            stay as they are.
        with_offsets: True: tokens, starts and ends in bytes of the normalized string in UTF-8;
            False: tokens.

    Raises:
        TypeError: one is of another kind.
    """

    def __init__(
        self,
        lower_case: bool = False,
        keep_whitespace: bool = False,
        normalization_form: NormalizeForm = NormalizeForm.NONE,
        preserve_unused_token: bool = True,
        with_offsets: bool = False,
    ) -> None:
        name = type(self).__name__
        check.flag(lower_case, f"{name}.lower_case")
        check.flag(keep_whitespace, f"{name}.keep_whitespace")
        check.of_type(normalization_form, NormalizeForm, f"{name}.normalization_form")
        check.flag(preserve_unused_token, f"{name}.preserve_unused_token")
        check.flag(with_offsets, f"{name}.with_offsets")
        self.lower_case = lower_case
        self.keep_whitespace = keep_whitespace
        self.normalization_form = normalization_form
        self.preserve_unused_token = preserve_unused_token
        self.with_offsets = with_offsets

    def _normalized(self, text: str) -> str:
        if not self.lower_case:
            return normalized(text, self.normalization_form)
        text = unicodedata.normalize("NFD", case_folded(text))
        return "".join(c for c in text if unicodedata.category(c) != "Mn")

    def _parts(self, text: str) -> list[tuple[str, bool]]:
        pieces = _RESERVED.split(text) if self.preserve_unused_token else [text]
        parts: list[tuple[str, bool]] = []
        for i, piece in enumerate(pieces):
            if i % 2:
                parts.append((piece, True))
                continue
            joins = False
            for character in self._normalized(piece):
                if unicodedata.category(character) in ("Cc", "Cf"):
                    character = " "
                space = character.isspace()
                alone = not space and _alone(character)
                last = parts[-1][0] if parts and joins else None
                if last is not None and not alone and last[-1].isspace() == space:
                    parts[-1] = last + character, parts[-1][1]
                else:
                    parts.append((character, self.keep_whitespace or not space))
                joins = not alone
        return parts

    def found(self, column: Values) -> list[Token]:
        """The tokens and where they are."""
        return placed(self._parts(line(column, type(self).__name__)))

    def __call__(self, column: Values) -> Any:
        """Cut a string.

        Raises:
            RuntimeError: it is none.
        """
        return tokens(self.found(column), self.with_offsets)


class WordpieceTokenizer(TextTensorOperation):
    """Words cut into the longest pieces that a Vocab has.

    Args:
        vocab: the pieces.
        suffix_indicator: what pieces start with that do not start a word.
        max_bytes_per_token: longer words are unknown.
        unknown_token: what an unknown word becomes; empty: it stays.
        with_offsets: True: tokens, starts and ends in bytes of UTF-8 within each word; False:
            tokens.

    Raises:
        TypeError: one is of another kind.
        ValueError: `vocab` is None, or `max_bytes_per_token` negative.
    """

    def __init__(
        self,
        vocab: Vocab,
        suffix_indicator: str = "##",
        max_bytes_per_token: int = 100,
        unknown_token: str = "[UNK]",
        with_offsets: bool = False,
    ) -> None:
        check_wordpiece(vocab, suffix_indicator, max_bytes_per_token, unknown_token, "Wordpiece")
        check.flag(with_offsets, "WordpieceTokenizer.with_offsets")
        self.vocab = vocab
        self.suffix_indicator = suffix_indicator
        self.max_bytes_per_token = max_bytes_per_token
        self.unknown_token = unknown_token
        self.with_offsets = with_offsets
        self._known = vocab.vocab()

    def __call__(self, column: Values) -> Any:
        """Cut a word, or an array of words.

        Raises:
            RuntimeError: no strings, or more than one axis.
        """
        array = words(column, "WordpieceTokenizer")
        if array.ndim > 1:
            raise RuntimeError(f"WordpieceTokenizer: got more than one axis: {array.shape}.")
        found = [p for w in array.ravel().tolist() for p in self.pieces(w)]
        return tokens(found, self.with_offsets)

    def pieces(self, word: str) -> list[Token]:
        """The pieces of a word."""
        size = len(word.encode())
        unknown: list[Token] = [(self.unknown_token or word, 0, size)]
        if size > self.max_bytes_per_token:
            return unknown
        found: list[Token] = []
        start = at = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = (self.suffix_indicator if start else "") + word[start:end]
                if piece in self._known:
                    break
            else:
                return unknown
            after = at + len(word[start:end].encode())
            found.append((piece, at, after))
            start, at = end, after
        return found or [("", 0, 0)]


def check_wordpiece(
    vocab: Vocab | None,
    suffix_indicator: str,
    max_bytes_per_token: int,
    unknown_token: str,
    kind: str,
) -> None:
    """Check the arguments that two tokenizers share.

    Raises:
        TypeError: one is of another kind.
        ValueError: `vocab` is None, or `max_bytes_per_token` negative.
    """
    name = f"{kind}Tokenizer"
    if vocab is None:
        raise ValueError(f"{name}.vocab: expected a Vocab, got None.")
    check.of_type(vocab, Vocab, f"{name}.vocab")
    check.of_type(suffix_indicator, str, f"{name}.suffix_indicator")
    check.of_type(max_bytes_per_token, int, f"{name}.max_bytes_per_token")
    check.within(max_bytes_per_token, 0, 2**32 - 1, f"{name}.max_bytes_per_token")
    check.of_type(unknown_token, str, f"{name}.unknown_token")


class BertTokenizer(BasicTokenizer):
    """`BasicTokenizer`, and `WordpieceTokenizer` of its words.

    Args:
        vocab: the pieces.
        suffix_indicator: what pieces start with that do not start a word.
        max_bytes_per_token: longer words are unknown.
        unknown_token: what an unknown word becomes; empty: it stays.
        lower_case: as in `BasicTokenizer`.
        keep_whitespace: as in `BasicTokenizer`.
        normalization_form: as in `BasicTokenizer`.
        preserve_unused_token: as in `BasicTokenizer`.
        with_offsets: as in `BasicTokenizer`.

    Raises:
        TypeError: one is of another kind.
        ValueError: `vocab` is None, or `max_bytes_per_token` negative.
    """

    def __init__(
        self,
        vocab: Vocab,
        suffix_indicator: str = "##",
        max_bytes_per_token: int = 100,
        unknown_token: str = "[UNK]",
        lower_case: bool = False,
        keep_whitespace: bool = False,
        normalization_form: NormalizeForm = NormalizeForm.NONE,
        preserve_unused_token: bool = True,
        with_offsets: bool = False,
    ) -> None:
        check_wordpiece(vocab, suffix_indicator, max_bytes_per_token, unknown_token, "Bert")
        super().__init__(
            lower_case, keep_whitespace, normalization_form, preserve_unused_token, with_offsets
        )
        self._wordpiece = WordpieceTokenizer(
            vocab, suffix_indicator, max_bytes_per_token, unknown_token
        )

    def __call__(self, column: Values) -> Any:
        """Cut a string.

        Raises:
            RuntimeError: it is none.
        """
        found = [
            (piece, start + first, start + last)
            for word, start, _ in self.found(column) or [("", 0, 0)]
            for piece, first, last in self._wordpiece.pieces(word)
        ]
        return tokens(found, self.with_offsets)
