"""Sets of what exists, which are gone through while threads add to them."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

from paramesh.state.weak_members import members


class One:
    """What is in a set."""


class Crowd(weakref.WeakSet[One]):
    """A set to which one more is added while it is gone through, as by another thread."""

    late: One | None = None

    def __iter__(self) -> Iterator[One]:
        for one in super().__iter__():
            if self.late is not None:
                late, self.late = self.late, None
                self.add(late)
            yield one


def test_those_that_come_meanwhile_are_no_error() -> None:
    crowd, here, new = Crowd(), [One(), One(), One()], One()
    crowd.update(here)
    crowd.late = new
    assert set(members(crowd)) == {*here, new}
