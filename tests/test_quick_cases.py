"""Which cases of the tests `make test` leaves to `make test-slow`."""

from __future__ import annotations

import re

import pytest

from quick_cases import EVERY_NTH, TESTS


@pytest.mark.parametrize("file", EVERY_NTH)
def test_the_tests_are_there(file: str) -> None:
    text = (TESTS / file).read_text()
    for name, nth in EVERY_NTH[file].items():
        *groups, test = name.split("::")
        assert all(re.search(rf"^class {group}\b", text, re.MULTILINE) for group in groups)
        assert re.search(rf"^ *def {test}\(", text, re.MULTILINE), name
        assert nth > 1
