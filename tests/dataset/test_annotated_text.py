"""Texts with annotations: rows are those that MindSpore 2.10 gives for the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import dataset as ds


def rows(data: Any) -> list[dict[str, Any]]:
    """The rows of one epoch."""
    iterator = data.create_dict_iterator(output_numpy=True, num_epochs=1)
    return [{name: value.tolist() for name, value in row.items()} for row in iterator]


def test_sentences_are_arrays_of_words(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("Confidence NN B-NP\nin IN B-PP\n\nChancellor NNP O\n\n")
    (tmp_path / "test.txt").write_text("Rockwell NNP B-NP\n. . O\n")
    data = ds.CoNLL2000Dataset(tmp_path, "train", shuffle=False)
    assert rows(data) == [
        {"word": ["Confidence", "in"], "pos_tag": ["NN", "IN"], "chunk_tag": ["B-NP", "B-PP"]},
        {"word": ["Chancellor"], "pos_tag": ["NNP"], "chunk_tag": ["O"]},
    ]
    assert data.get_dataset_size() == 2
    assert [row["word"][0] for row in rows(ds.CoNLL2000Dataset(tmp_path, shuffle=False))] == [
        "Rockwell", "Confidence", "Chancellor"]  # fmt: skip
    (tmp_path / "test.txt").write_text("Rockwell NNP\n")
    with pytest.raises(RuntimeError, match=r"test.txt' cannot be read: .*a line has 2 cells"):
        ds.CoNLL2000Dataset(tmp_path, "test")
    with pytest.raises(ValueError, match=r"usage must be one of \['train', 'test', 'all'\]"):
        ds.CoNLL2000Dataset(tmp_path, "valid")


def test_universal_dependencies(tmp_path: Path) -> None:
    for part in ("train", "test", "dev"):
        (tmp_path / f"en-ud-tag.v2.{part}.txt").write_text(f"{part}\tADP\tIN\nit is\tPRON\tPRP\n\n")
    assert rows(ds.UDPOSDataset(tmp_path, "valid")) == [
        {"word": ["dev", "it is"], "universal": ["ADP", "PRON"], "stanford": ["IN", "PRP"]}
    ]
    assert ds.UDPOSDataset(tmp_path).get_dataset_size() == 3


def test_sst2_has_no_labels_for_tests(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text('sentence\tlabel\nhide new \t0\ngood, "very"\t1\n')
    (tmp_path / "test.tsv").write_text("index\tsentence\n0\tno movement\n1\tgorgeous\n")
    assert rows(ds.SST2Dataset(tmp_path, shuffle=False)) == [
        {"sentence": "hide new ", "label": "0"},
        {"sentence": 'good, "very"', "label": "1"},
    ]
    found = ds.SST2Dataset(tmp_path, "test", 1, shuffle=False)
    assert (found.get_col_names(), rows(found)) == (["sentence"], [{"sentence": "no movement"}])
    with pytest.raises(ValueError, match=r"one of \['train', 'test', 'dev'\], got 'all'"):
        ds.SST2Dataset(tmp_path, "all")
    with pytest.raises(ValueError, match="there is no file"):
        ds.SST2Dataset(tmp_path, "dev")


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_questions_have_the_answers_there_are(version: str, tmp_path: Path) -> None:
    answers = [{"text": "one", "answer_start": 4}, {"text": "Ctx", "answer_start": 0}]
    asked = [{"question": "Q1?", "answers": answers}, {"question": "Q2?", "answers": []}]
    content = {"data": [{"paragraphs": [{"context": "Ctx one", "qas": asked}]}]}
    for part in ("train", "dev"):
        (tmp_path / f"{part}-v{version}.json").write_text(json.dumps(content))
    data = ds.SQuADDataset(tmp_path, "dev", shuffle=False)
    assert rows(data) == [
        {"context": "Ctx one", "question": "Q1?", "text": ["one", "Ctx"], "answer_start": [4, 0]},
        {"context": "Ctx one", "question": "Q2?", "text": [""], "answer_start": [2**32 - 1]},
    ]
    assert data.output_types()[3] == np.uint32
    assert ds.SQuADDataset(tmp_path).get_dataset_size() == 4
    (tmp_path / f"dev-v{version}.json").write_text('{"data": [{}]}')
    with pytest.raises(RuntimeError, match=r"json' cannot be read: KeyError\('paragraphs'\)"):
        ds.SQuADDataset(tmp_path, "dev")
