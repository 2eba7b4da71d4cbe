"""`Cell.state_dict` and `load_state_dict`: Parameters and persistent buffers by attribute path.

Glossary
    strict      of `load_state_dict`: every Parameter gets a value, and every value a Parameter
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from paramesh.nn import loading, tied
from paramesh.nn.buffers import Buffers, persistent
from paramesh.parameter import Parameter
from paramesh.tensor.base import raw


class LoadResult(NamedTuple):
    """What `load_state_dict` did not load; empty lists if everything matched."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __str__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"missing {self.missing_keys}, unexpected {self.unexpected_keys}"


class StateDicts(Buffers):
    """The methods of a Cell."""

    def state_dict(
        self,
        *,
        destination: OrderedDict[str, Parameter] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> OrderedDict[str, Parameter]:
        """{attribute path: Parameter or persistent buffer}, those of a Cell before those inside it.

        Args:
            destination: what is added to, and returned; None: a new one.
            prefix: put before each path, as it is.
            keep_vars: has no effect: what is returned are the Parameters in either case.
        """
        found: OrderedDict[str, Parameter] = OrderedDict() if destination is None else destination
        seen: set[int] = set()
        for path, cell in self.cells_and_names():
            start = f"{prefix}{path}." if path else prefix
            state = [*cell._params.items(), *persistent(cell)]
            for name, param in state:
                if param is not None and id(param) not in seen:
                    seen.add(id(param))
                    found[start + name] = param
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Set Parameters and persistent buffers to the values of {attribute path: Tensor}.

        As `set_data` does.

        Args:
            state_dict: as `state_dict()` gives it.
            strict: refuse missing and unexpected paths, before anything is loaded.

        A shared Parameter may be under any of its paths.

        Raises:
            TypeError: `state_dict` is not a mapping of Tensors and numbers.
            RuntimeError: paths are missing or unexpected; the message lists all of them.
            ParameterShapeError, ParameterDtypeError: values do not fit their Parameters; nothing is
                loaded, and the message lists all of them.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{type(self).__name__}.load_state_dict takes {{path: Tensor}}, "
                f"got {type(state_dict).__name__}."
            )
        mine = self.state_dict()
        state_dict = self._by_first_paths(mine, state_dict)
        result = LoadResult(
            [path for path in mine if path not in state_dict],
            [path for path in state_dict if path not in mine],
        )
        if strict and (result.missing_keys or result.unexpected_keys):
            raise RuntimeError(
                f"{type(self).__name__}.load_state_dict: missing {result.missing_keys}, "
                f"unexpected {result.unexpected_keys}. Pass strict=False to load what matches."
            )
        loading.check_all(f"{type(self).__name__}.load_state_dict", mine, state_dict)
        for path, param in mine.items():
            if path in state_dict:
                param.set_data(state_dict[path])
        return result

    def _by_first_paths(
        self, mine: Mapping[str, Parameter], given: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The values of shared Parameters under the paths that `state_dict` has them under."""
        unexpected = [path for path in given if path not in mine]
        others = tied.other_paths(self) if unexpected else {}
        shared = [path for path in unexpected if path in others]
        if not shared:
            return given
        found = dict(given)
        first = {param: path for path, param in mine.items()}
        for path in shared:
            own, value = first[others[path]], found.pop(path)
            kept = found.setdefault(own, value)
            if not tied.alike(raw(kept), raw(value)):
                warnings.warn(
                    f"{type(self).__name__}.load_state_dict: '{own}' and '{path}' are one "
                    f"Parameter, and their values differ; that of '{own}' is loaded.",
                    stacklevel=3,
                )
        return found
