"""The page of differences says what the lists say."""

from __future__ import annotations

import pytest

import differences_page
import goldens

LISTS = {path.stem for path in goldens.DIRECTORY.glob("differences*.json")}


def test_page_is_what_the_lists_say() -> None:
    text = differences_page.PAGE.read_text(encoding="utf-8")
    assert text == differences_page.page(), (
        "run: .venv/bin/python tests/support/differences_page.py --write"
    )


def test_every_list_is_on_the_page() -> None:
    assert set(differences_page.SECTIONS.values()) >= LISTS


@pytest.mark.parametrize("name", sorted(LISTS))
def test_every_difference_has_a_reason(name: str) -> None:
    listed = goldens.load(name)
    if isinstance(listed, dict):
        assert all(len(rule["reason"]) > 10 for rule in listed["rules"].values())
        listed = [*listed["differences"], *listed["left"]]
        assert all(entry["rule"] in goldens.load(name)["rules"] for entry in listed)
    else:
        assert all(len(entry["reason"]) > 10 for entry in listed)


def test_markdown_is_escaped() -> None:
    assert differences_page._outcome({"result": "a|b"}) == "`a\\|b`"
    assert differences_page._outcome({"error": "TypeError"}) == "`TypeError`"
    assert differences_page._outcome({"result": {"type": "T", "dtype": "Bool", "value": 1}}) == (
        "`T(1, Bool)`"
    )
    assert differences_page._cases(["a: x", "a: y|z", "b: x"]) == "a `x`, `y\\|z`, b `x`"
