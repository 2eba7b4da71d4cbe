"""The choices that arguments of text transforms take, with MindSpore's names and numbers."""

from __future__ import annotations

import enum

__all__ = [
    "JiebaMode",
    "NormalizeForm",
    "SPieceTokenizerLoadType",
    "SPieceTokenizerOutType",
    "SentencePieceModel",
]


class JiebaMode(enum.IntEnum):
    """How Jieba finds words: by its dictionary and a hidden Markov model, or by one of them."""

    MIX = 0
    MP = 1
    HMM = 2


class NormalizeForm(enum.IntEnum):
    """A normal form of Unicode."""

    NONE = 0
    NFC = 1
    NFKC = 2
    NFD = 3
    NFKD = 4


class SentencePieceModel(enum.IntEnum):
    """The kind of model that SentencePiece trains."""

    UNIGRAM = 0
    BPE = 1
    CHAR = 2
    WORD = 3


class SPieceTokenizerLoadType(enum.IntEnum):
    """Where a SentencePiece model comes from."""

    FILE = 0
    MODEL = 1


class SPieceTokenizerOutType(enum.IntEnum):
    """What a SentencePiece tokenizer gives."""

    STRING = 0
    INT = 1
