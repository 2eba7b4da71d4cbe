"""SentencePiece's models, over the package `sentencepiece`."""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from paramesh.dataset.argument_types import Values
from paramesh.dataset.text.modes import SentencePieceModel, SPieceTokenizerOutType
from paramesh.dataset.text.strings import TextTensorOperation, line, words
from paramesh.dataset.transforms import arguments as check

if TYPE_CHECKING:
    from paramesh.dataset.dataset import Dataset


__all__ = ["SentencePieceTokenizer", "SentencePieceVocab"]


def _library(name: str) -> Any:
    try:
        return importlib.import_module("sentencepiece")
    except ImportError:
        raise ImportError(
            f"{name} needs the package `sentencepiece`. Install it: pip install sentencepiece."
        ) from None


class SentencePieceVocab:
    """A trained model; made by `from_dataset` or `from_file`."""

    def __init__(self) -> None:
        self.model: bytes | None = None

    @classmethod
    def _trained(
        cls,
        name: str,
        size: int,
        coverage: float,
        kind: str | SentencePieceModel,
        params: dict[str, Any],
        **source: object,
    ) -> SentencePieceVocab:
        check.of_type(size, int, f"{name}(vocab_size)")
        check.within(size, 0, 2**32 - 1, f"{name}(vocab_size)")
        check.of_type(coverage, float, f"{name}(character_coverage)")
        check.of_type(kind, (str, SentencePieceModel), f"{name}(model_type)")
        check.of_type(params, dict, f"{name}(params)")
        kind = kind.name.lower() if isinstance(kind, SentencePieceModel) else kind.lower()
        model = io.BytesIO()
        try:
            _library(name).SentencePieceTrainer.train(
                model_writer=model,
                vocab_size=size,
                character_coverage=coverage,
                model_type=kind,
                minloglevel=2,
                **{**source, **params},
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise RuntimeError(f"{name}: SentencePiece could not train: {error}") from None
        made = cls()
        made.model = model.getvalue()
        return made

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset,
        col_names: list[str],
        vocab_size: int,
        character_coverage: float,
        model_type: SentencePieceModel | str,
        params: dict[str, Any],
    ) -> SentencePieceVocab:
        """Train on a dataset.

        Args:
            dataset: it is gone through once.
            col_names: the columns of strings; empty: all columns.
            vocab_size: the number of pieces.
            character_coverage: the share of characters that the model knows, 0.98 to 1.
            model_type: the kind of model.
            params: further arguments of SentencePiece.

        Raises:
            TypeError: an argument is of another kind.
            ValueError: an argument is outside.
            RuntimeError: SentencePiece could not train.
            ImportError: the package is not there.
        """
        name = "SentencePieceVocab.from_dataset"
        check.of_type(col_names, list, f"{name}(col_names)")

        def sentences() -> Iterator[str]:
            for row in dataset.create_dict_iterator(num_epochs=1, output_numpy=True):
                for column in col_names or row:
                    yield from words(row[column], name).ravel().tolist()

        return cls._trained(
            name, vocab_size, character_coverage, model_type, params, sentence_iterator=sentences()
        )

    @classmethod
    def from_file(
        cls,
        file_path: list[str],
        vocab_size: int,
        character_coverage: float,
        model_type: SentencePieceModel | str,
        params: dict[str, Any],
    ) -> SentencePieceVocab:
        """Train on files.

        Args:
            file_path: texts, one sentence on each line.
            vocab_size: the number of pieces.
            character_coverage: the share of characters that the model knows, 0.98 to 1.
            model_type: the kind of model.
            params: further arguments of SentencePiece.

        Raises:
            TypeError: an argument is of another kind.
            ValueError: an argument is outside.
            RuntimeError: a file is missing, or SentencePiece could not train.
            ImportError: the package is not there.
        """
        name = "SentencePieceVocab.from_file"
        check.of_type(file_path, list, f"{name}(file_path)")
        for path in file_path:
            if not os.path.isfile(path):
                raise RuntimeError(f"{name}: there is no file {path}.")
        return cls._trained(
            name, vocab_size, character_coverage, model_type, params, input=file_path
        )

    @classmethod
    def save_model(cls, vocab: SentencePieceVocab, path: str, filename: str) -> None:
        """Write a model into a file of SentencePiece.

        Args:
            vocab: the model.
            path: the folder.
            filename: of the file in it.

        Raises:
            TypeError: an argument is of another kind.
            RuntimeError: there is no model, or no such folder.
        """
        name = "SentencePieceVocab.save_model"
        check.of_type(vocab, SentencePieceVocab, f"{name}(vocab)")
        check.of_type(path, str, f"{name}(path)")
        check.of_type(filename, str, f"{name}(filename)")
        if vocab.model is None or not os.path.isdir(path):
            what = "the model was not trained" if vocab.model is None else f"no folder {path}"
            raise RuntimeError(f"{name}: {what}.")
        with open(os.path.join(path, filename), "wb") as file:
            file.write(vocab.model)


class SentencePieceTokenizer(TextTensorOperation):
    """The pieces of a string.

    Args:
        mode: a model, or the path of a file with one.
        out_type: pieces, or their numbers (int32).

    Raises:
        TypeError: one is of another kind.
        RuntimeError: the model cannot be loaded.
        ImportError: the package `sentencepiece` is not there.
    """

    def __init__(self, mode: str | SentencePieceVocab, out_type: SPieceTokenizerOutType) -> None:
        name = "SentencePieceTokenizer"
        check.of_type(mode, (str, SentencePieceVocab), f"{name}.mode")
        check.of_type(out_type, SPieceTokenizerOutType, f"{name}.out_type")
        self.out_type = out_type
        if isinstance(mode, SentencePieceVocab):
            content = mode.model
        elif os.path.isfile(mode):
            with open(mode, "rb") as file:
                content = file.read()
        else:
            raise RuntimeError(f"{name}.mode: there is no file {mode}.")
        if content is None:
            raise RuntimeError(f"{name}.mode: the model was not trained.")
        try:
            self._processor = _library(name).SentencePieceProcessor(model_proto=content)
        except RuntimeError as error:
            raise RuntimeError(f"{name}.mode: no model of SentencePiece: {error}") from None

    def __call__(self, column: Values) -> np.ndarray:
        """Cut a string.

        Raises:
            RuntimeError: it is none.
        """
        text = line(column, "SentencePieceTokenizer")
        if self.out_type == SPieceTokenizerOutType.INT:
            return np.array(self._processor.encode(text, out_type=int), np.int32)
        return np.array(self._processor.encode(text, out_type=str) or [""])
