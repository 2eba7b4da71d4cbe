"""Whether the import of a missing name waits for its use."""

from __future__ import annotations

import sys

from paramesh.scripts import deferred

KNOWN = "mindspore.nn.GraphCell"


def test_what_runs_a_script_is_no_part_of_it() -> None:
    # pytest calls this function in a `try`, as it does where it imports a file of tests.
    assert deferred.may_be(KNOWN, sys._getframe())
    assert not deferred.may_be("mindspore.train.NotThere", sys._getframe())
    try:
        assert not deferred.may_be(KNOWN, sys._getframe())
    except ImportError:
        raise AssertionError from None
