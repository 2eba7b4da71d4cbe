"""Transforms of strings, by the names of MindSpore's `dataset.text`.

| file | what |
|---|---|
| `chinese` | Chinese words, over `jieba` |
| `modes` | the enums |
| `normalizing` | case, normal forms, replacements |
| `pieces` | SentencePiece |
| `sequences` | transforms of tokens |
| `splitting` | tokenizers without a model |
| `strings` | columns of strings, `to_str`, `to_bytes` |
| `vectors` | vectors of words |
| `vocabulary` | words and their numbers |
"""

from paramesh import lazy_names
from paramesh.dataset.text.chinese import JiebaTokenizer
from paramesh.dataset.text.modes import (
    JiebaMode,
    NormalizeForm,
    SentencePieceModel,
    SPieceTokenizerLoadType,
    SPieceTokenizerOutType,
)
from paramesh.dataset.text.normalizing import (
    CaseFold,
    FilterWikipediaXML,
    NormalizeUTF8,
    RegexReplace,
)
from paramesh.dataset.text.pieces import SentencePieceTokenizer, SentencePieceVocab
from paramesh.dataset.text.sequences import (
    AddToken,
    Ngram,
    PythonTokenizer,
    SlidingWindow,
    ToNumber,
    Truncate,
    TruncateSequencePair,
)
from paramesh.dataset.text.splitting import (
    BasicTokenizer,
    BertTokenizer,
    RegexTokenizer,
    UnicodeCharTokenizer,
    UnicodeScriptTokenizer,
    WhitespaceTokenizer,
    WordpieceTokenizer,
)
from paramesh.dataset.text.strings import to_bytes, to_str
from paramesh.dataset.text.vectors import CharNGram, FastText, GloVe, ToVectors, Vectors
from paramesh.dataset.text.vocabulary import Lookup, Vocab

__all__ = [
    "AddToken",
    "BasicTokenizer",
    "BertTokenizer",
    "CaseFold",
    "CharNGram",
    "FastText",
    "FilterWikipediaXML",
    "GloVe",
    "JiebaMode",
    "JiebaTokenizer",
    "Lookup",
    "Ngram",
    "NormalizeForm",
    "NormalizeUTF8",
    "PythonTokenizer",
    "RegexReplace",
    "RegexTokenizer",
    "SPieceTokenizerLoadType",
    "SPieceTokenizerOutType",
    "SentencePieceModel",
    "SentencePieceTokenizer",
    "SentencePieceVocab",
    "SlidingWindow",
    "ToNumber",
    "ToVectors",
    "Truncate",
    "TruncateSequencePair",
    "UnicodeCharTokenizer",
    "UnicodeScriptTokenizer",
    "Vectors",
    "Vocab",
    "WhitespaceTokenizer",
    "WordpieceTokenizer",
    "to_bytes",
    "to_str",
]

__getattr__ = lazy_names.opened(__name__, {}, lambda: __all__)
