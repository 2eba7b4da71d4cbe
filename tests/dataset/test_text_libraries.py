"""Vocabularies from datasets, vectors from files, and transforms over packages."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh.dataset import text
from type_checks import untyped


class Rows:
    """What a vocabulary needs of a dataset."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = rows

    def create_dict_iterator(self, num_epochs: int, output_numpy: bool) -> Iterator[dict[str, Any]]:
        assert (num_epochs, output_numpy) == (1, True)
        return iter(self.rows)


WORDS = Rows(
    {"a": np.array(["x", "y", "x"]), "b": np.array("z")},
    {"a": np.array(["w", "x", "y"]), "b": np.array("z")},
)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({}, ["x", "y", "z", "w"]),
        ({"columns": "a"}, ["x", "y", "w"]),
        ({"columns": ["a"], "top_k": 2}, ["x", "y"]),
        ({"freq_range": (2, None)}, ["x", "y", "z"]),
        ({"freq_range": (None, 2)}, ["y", "z", "w"]),
        ({"top_k": 1, "special_tokens": ["<p>", "<u>"]}, ["<p>", "<u>", "x"]),
        ({"top_k": 1, "special_tokens": ["<p>"], "special_first": False}, ["x", "<p>"]),
    ],
)
def test_vocab_from_dataset(arguments: dict[str, Any], wanted: list[str]) -> None:
    assert list(text.Vocab.from_dataset(untyped(WORDS), **arguments).vocab()) == wanted


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"columns": "c"}, RuntimeError, "no column 'c' among"),
        ({"special_tokens": ["x"]}, RuntimeError, "are words of the dataset"),
        ({"freq_range": [1, 2]}, TypeError, "freq_range"),
        ({"freq_range": (3, 2)}, ValueError, "0 <= min <= max"),
        ({"top_k": 0}, ValueError, "top_k"),
        ({"columns": 3}, TypeError, "columns"),
    ],
)
def test_vocab_from_dataset_refuses(
    arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        text.Vocab.from_dataset(untyped(WORDS), **arguments)


def test_vocab_from_file_and_back(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("x,1\ny,2\nz,3\n", encoding="utf-8")
    assert text.Vocab.from_file(str(path)).vocab() == {"x,1": 0, "y,2": 1, "z,3": 2}
    vocab = text.Vocab.from_file(str(path), ",", 2, ["s"], False)
    assert vocab.vocab() == {"x": 0, "y": 1, "s": 2}
    assert vocab.tokens_to_ids(["y", "?"]) == [1, -1]
    assert vocab.tokens_to_ids("x") == vocab.tokens_to_ids(["x"]) == 0
    assert vocab.ids_to_tokens([1]) == vocab.ids_to_tokens(1) == "y"
    assert vocab.ids_to_tokens(np.array([2, 9])) == ["s", ""]
    path.write_text("x\nx\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="'x' is in .* twice"):
        text.Vocab.from_file(str(path))
    with pytest.raises(RuntimeError, match="there is no file"):
        text.Vocab.from_file(str(tmp_path / "nowhere"))


def test_vectors(tmp_path: Path) -> None:
    path = tmp_path / "glove.6B.2d.txt"
    path.write_text("a 1 2\nb 3 4\n", encoding="utf-8")
    vectors = text.GloVe.from_file(str(path))
    found = text.ToVectors(vectors, [9, 8], True)(np.array(["A", "q", "b"]))
    np.testing.assert_array_equal(found, np.array([[1, 2], [9, 8], [3, 4]], np.float32))
    assert found.dtype == np.float32
    with pytest.raises(RuntimeError, match=r"expected a file '\*\.vec'"):
        text.FastText.from_file(str(path))
    with pytest.raises(ValueError, match="the vectors have 2"):
        text.ToVectors(vectors, [1.0])
    path.write_text("a 1 2\nb 3\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="line 2 of .* has 1 values"):
        text.Vectors.from_file(str(path))


def test_vectors_of_runs_of_characters(tmp_path: Path) -> None:
    path = tmp_path / "chars.txt"
    path.write_text("2gram-#BEGIN#a 1 1\n2gram-ab 3 5\n3gram-ab#END# 2 0\n", encoding="utf-8")
    found = text.ToVectors(text.CharNGram.from_file(str(path)))(np.array(["ab", "zz"]))
    np.testing.assert_allclose(found, [[2, 2], [0, 0]])


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("jieba", lambda path: text.JiebaTokenizer(path, path)),
        (
            "sentencepiece",
            lambda path: text.SentencePieceTokenizer(path, text.SPieceTokenizerOutType.INT),
        ),
        ("regex", lambda path: text.RegexTokenizer(r"\p{Lu}")),
    ],
)
def test_a_missing_package_is_named(
    package: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("word 3 n\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=f"pip install {package}"):
        make(str(path))


def test_jieba(tmp_path: Path) -> None:
    pytest.importorskip("jieba")
    path = tmp_path / "dictionary"
    path.write_text("今天 100 n\n天气 100 n\n", encoding="utf-8")
    cut = text.JiebaTokenizer(str(path), str(path), text.JiebaMode.MP, with_offsets=True)
    words, starts, ends = cut(np.array("今天天气"))
    assert words.tolist() == ["今天", "天气"]
    assert (starts.tolist(), ends.tolist()) == ([0, 6], [6, 12])
    cut.add_word("今天天气", 100000)
    assert cut(np.array("今天天气"))[0].tolist() == ["今天天气"]


def test_sentencepiece(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat sat on the mat\nthe hat of the cat\n" * 20, encoding="utf-8")
    vocab = text.SentencePieceVocab.from_file(
        [str(lines)], 16, 0.9995, text.SentencePieceModel.UNIGRAM, {}
    )
    text.SentencePieceVocab.save_model(vocab, str(tmp_path), "m.model")
    pieces = text.SentencePieceTokenizer(vocab, text.SPieceTokenizerOutType.STRING)
    numbers = text.SentencePieceTokenizer(
        str(tmp_path / "m.model"), text.SPieceTokenizerOutType.INT
    )
    with pytest.raises(RuntimeError, match="could not train"):
        text.SentencePieceVocab.from_file([str(lines)], 500, 0.9995, "unigram", {})
    line = np.array("the cat")
    assert "".join(pieces(line)).replace("▁", " ").strip() == "the cat"
    assert numbers(line).dtype == np.int32
    assert len(numbers(line)) == len(pieces(line))
