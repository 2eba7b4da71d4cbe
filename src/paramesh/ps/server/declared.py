"""What workers declare on a server, and the values that they give before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from paramesh.errors import ParameterServerError
from paramesh.ps.durability.record import Array
from paramesh.ps.server.checkpointed import Checkpointed
from paramesh.ps.server.store import Store


class Declared(Checkpointed):
    """The part of a server that is about what there is before the first step."""

    def declare(self, specs: list[dict[str, Any]], values: Mapping[str, Array]) -> None:
        """Declare Parameters (see `Store.declare`); the first values that are given count.

        Raises:
            ValueError: another spec of the same name.
            ParameterShapeError: values that do not fit.
        """
        known = self.store.specs()
        trial = Store()  # all of it or nothing: what is wrong is seen before it is logged
        fresh = [spec for spec in specs if spec.get("name") not in known]
        for spec in specs:
            (trial if spec in fresh else self.store).declare(spec)
        new = {n: np.asarray(a) for n, a in values.items() if n not in self._valued}
        for name, array in new.items():
            if name in known:
                trial.declare(known[name])
            trial.put(name, array)
        if fresh or new:
            self._append({"kind": "declare", "specs": fresh}, new)
            self._declare(fresh, new)

    def _declare(self, specs: list[dict[str, Any]], values: Mapping[str, Array]) -> None:
        for spec in specs:
            self.store.declare(spec)
        for name, array in values.items():
            self.store.put(name, array)
        self._valued |= values.keys()

    def put(self, name: str, fields: Mapping[str, Array], ids: Array | None) -> None:
        """Give a Parameter, or rows of a table, other values and state (see `Store.put`).

        After the first step nothing is changed: a worker that is started again gives once more
        what was given.

        Raises:
            ParameterServerError: there was a step already, and nothing was given before it: earlier
                versions would be mixed with it.
            ParameterStateError, ParameterShapeError: as `Store.put`.
        """
        if self.version and name in self._given:
            return
        if self.version:
            raise ParameterServerError(
                f"Parameter '{name}' was given values at version {self.version} of the server. "
                f"Set (or load) them before the first step."
            )
        arrays = dict(fields) if ids is None else {**fields, "ids": ids}
        trial = Store()  # what is wrong is seen before it is logged
        if name in self.store.specs():
            trial.declare(self.store.specs()[name])
        _put(trial, name, arrays)
        self._append({"kind": "put", "name": name}, arrays)
        self._put(name, arrays)

    def _put(self, name: str, arrays: Mapping[str, Array]) -> None:
        _put(self.store, name, arrays)
        self._complete.pop(name, None)
        self._given.add(name)
        ids = arrays.get("ids")
        if ids is None and "value" in arrays:
            self._valued.add(name)


def _put(store: Store, name: str, arrays: Mapping[str, Array]) -> None:
    for field, values in arrays.items():
        if field != "ids":
            store.put(name, values, ids=arrays.get("ids"), field=field)
