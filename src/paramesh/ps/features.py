"""Features of a recommender: a list of specifications that builds tables, lookups and groups.

Glossary
    feature     an input by name: ids of each example, one or many, and how they become numbers
    table       the rows of one or several features, a Parameter of its own
    output      what a feature gives: (batch, width), or (batch, ids, width) without a combiner
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from paramesh import nn
from paramesh.dtype import float32
from paramesh.nn import arguments
from paramesh.nn.arguments import Init
from paramesh.nn.bags import COMBINERS
from paramesh.ops import concat
from paramesh.optim.groups import WeightDecay
from paramesh.optim.rates import LearningRate
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import DTypeLike
from paramesh.tensor.base import Tensor, raw

#: How the parts of an input are called.
_PARTS = ("ids", "offsets", "row_lengths", "weights")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that features look up.

    Attributes:
        name: part of the Parameter's name, `tables.NAME.embedding_table`.
        vocab_size: rows; None: any integer of 64 bits has one (on servers only).
        width: numbers of a row.
        init: initial values: an Initializer, its name, or a number.
        lr: its learning rate or schedule, in place of the optimizer's.
        weight_decay: in place of the optimizer's.
        cache: rows that the device caches, see `nn.EmbeddingLookup(vocab_cache_size=…)`.
        dtype: element type.
        admit_after, admit_probability, expire_after, max_rows: see `Parameter.set_param_ps`.
    """

    name: str
    vocab_size: int | None
    width: int
    init: Init = "normal"
    lr: LearningRate | None = None
    weight_decay: WeightDecay | None = None
    cache: int = 0
    dtype: DTypeLike = float32
    admit_after: int = 1
    admit_probability: float = 1.0
    expire_after: int = 0
    max_rows: int = 0


@dataclasses.dataclass(frozen=True)
class Feature:
    """An input of ids.

    Attributes:
        name: of the input.
        table: that it looks up; several features may have the same. A Table, or the name of one
            that another feature of the list has.
        combiner: how the rows of an example become one: `sum`, `mean`, `sqrtn` or `max`; None: they
            do not.
        padding: the id that stands for none.
        max_norm: rows that are longer are scaled to this length.
    """

    name: str
    table: Table | str
    combiner: str | None = "sum"
    padding: int | None = None
    max_norm: float | None = None


def feature_group(
    names: Sequence[str],
    vocab_sizes: int | Sequence[int | None] | None,
    width: int,
    *,
    combiner: str | None = "sum",
    padding: int | None = None,
    max_norm: float | None = None,
    **table: Any,
) -> list[Feature]:
    """Features with a table each, which differ in name and size alone.

    Args:
        names: of the features, and of their tables.
        vocab_sizes: of all tables, or of each.
        width: of all tables.
        combiner: as for `Feature`.
        padding: likewise.
        max_norm: likewise.
        table: the other attributes of `Table`.

    Raises:
        TypeError: an attribute that `Table` does not have, or a str in place of a list.
        ValueError: more or fewer sizes than names.
    """
    for argument, given in (("names", names), ("vocab_sizes", vocab_sizes)):
        if isinstance(given, str):
            raise TypeError(f"feature_group({argument}): expected a list, got the str {given!r}.")
    known = [field.name for field in dataclasses.fields(Table)]
    wrong = [name for name in table if name not in known]
    if wrong:
        raise TypeError(f"feature_group: a Table has no {', '.join(wrong)}; it has {known}.")
    sizes = list(vocab_sizes) if isinstance(vocab_sizes, Sequence) else [vocab_sizes] * len(names)
    if len(sizes) != len(names):
        raise ValueError(
            f"feature_group: {len(names)} names need as many vocab_sizes, or one for all; got "
            f"{len(sizes)}."
        )
    return [
        Feature(name, Table(name, size, width, **table), combiner, padding, max_norm)
        for name, size in zip(names, sizes, strict=True)
    ]


class Features(nn.Cell):
    """The tables and lookups of a list of features.

    Called with a dict of inputs. All tables of a step are pulled with one request to each server.
    The input of a feature is one of

    - an array (batch,) of one id for each example, or (batch, ids), in which `padding` stands for
      none;
    - a pair (ids, row_lengths): the ids of all examples one after another, and how many each has;
    - a dict of `ids`, and of `row_lengths`, `offsets` or neither, and of `weights`, one for each id
      (see `nn.EmbeddingBag`).

    Args:
        features: what to build.
        joined: give one Tensor (batch, sum of the widths), in the order of the list; otherwise a
            dict of Tensors by feature. A feature without a combiner has ids * width numbers in it.

    Raises:
        TypeError: something that is not a Feature.
        ValueError: no features, a name twice, a table that is described in two ways or not at all,
            or a number out of range. The message names the feature.
    """

    def __init__(self, features: Iterable[Feature], *, joined: bool = False) -> None:
        super().__init__()
        if not isinstance(features, Iterable):
            raise TypeError(f"Features: expected a list of ps.Feature, got {features!r}.")
        self.features = list(features)
        self.joined = arguments.flag("Features", "joined", joined)
        tables = self._tables_of(self.features)
        self.specs = tables
        made = {
            name: _layer(f"table '{name}'", _lookup_of, table) for name, table in tables.items()
        }
        lookups: dict[str, nn.Cell] = {}
        for feature in self.features:
            table = tables[_table_name(feature)]
            lookup = _layer(f"feature '{feature.name}'", _lookup_of, table, feature)
            lookup.embedding_table = made[table.name].embedding_table
            lookups[feature.name] = lookup
        self.tables = nn.CellDict(made)
        # A plain dict: their Parameters are those of the tables, and have their names.
        self._lookups = lookups

    @staticmethod
    def _tables_of(features: list[Feature]) -> dict[str, Table]:
        if not features:
            raise ValueError("Features: expected at least one Feature, got none.")
        found: dict[str, Table] = {}
        names: set[str] = set()
        for feature in features:
            if not isinstance(feature, Feature):
                raise TypeError(f"Features: expected a list of ps.Feature, got {feature!r}.")
            for kind, name in (("feature", feature.name), ("table", _table_name(feature))):
                if not isinstance(name, str) or not name or "." in name:
                    raise ValueError(
                        f"Features: the name of a {kind} is a str without dots, got {name!r} "
                        f"(feature '{feature.name}')."
                    )
            if feature.name in names:
                raise ValueError(f"Features: feature '{feature.name}' is listed twice.")
            names.add(feature.name)
            if isinstance(feature.table, Table):
                known = found.setdefault(feature.table.name, feature.table)
                if known != feature.table:
                    raise ValueError(
                        f"Features: feature '{feature.name}' describes table "
                        f"'{feature.table.name}' as {feature.table}, another feature as {known}. "
                        f"Give both the same Table."
                    )
        for feature in features:
            if _table_name(feature) not in found:
                raise ValueError(
                    f"Features: feature '{feature.name}' looks up table '{feature.table}', which "
                    f"no feature describes. Give one of them a ps.Table; there are "
                    f"{', '.join(found) or 'none'}."
                )
        return found

    def construct(self, inputs: Mapping[str, Any]) -> Any:
        """A dict of inputs -> a dict of outputs by feature, or one Tensor if `joined`.

        Raises:
            KeyError: an input is missing, or there is no feature of its name.
            TypeError, ValueError: the input of a feature does not fit; the message names it. Or the
                inputs are not a dict.
        """
        if not isinstance(inputs, Mapping):
            raise TypeError(
                f"Features: expected a dict of inputs by feature, got {type(inputs).__name__}. "
                f"There are {[feature.name for feature in self.features]}."
            )
        names = [feature.name for feature in self.features]
        missing = [name for name in names if name not in inputs]
        unknown = [name for name in inputs if name not in names]
        if missing or unknown:
            raise KeyError(
                f"Features: inputs {missing} are missing, and {unknown} belong to no feature. "
                f"Expected {names}."
            )
        found: dict[str, Tensor] = {}
        for feature in self.features:
            owner = f"feature '{feature.name}'"
            found[feature.name] = _named(owner, self._output, feature, inputs[feature.name])
        if not self.joined:
            return found
        batch = found[names[0]].shape[0]
        for name, output in found.items():
            if output.shape[0] != batch:
                raise ValueError(
                    f"Features: feature '{name}' has {output.shape[0]} examples, and feature "
                    f"'{names[0]}' has {batch}."
                )
        return concat(tuple(one.reshape(batch, -1) for one in found.values()), 1)

    def _output(self, feature: Feature, given: object) -> Tensor:
        lookup = self._lookups[feature.name]
        parts = _parts_of(given)
        ids = parts.pop("ids")
        axes = np.ndim(raw(ids))
        ragged = "offsets" in parts or "row_lengths" in parts
        if not ragged and axes not in (1, 2):
            raise ValueError(
                f"ids must be (batch,) or (batch, ids), got shape {tuple(np.shape(raw(ids)))}."
            )
        if feature.combiner is None:
            if parts:
                raise ValueError(
                    f"without a combiner it takes ids alone, got {sorted(parts)} with them."
                )
            return lookup(ids)
        if not ragged and axes == 1:
            parts = {key: value.reshape(-1, 1) for key, value in parts.items()}
            ids = ids.reshape(-1, 1)
        return lookup(ids, **parts)

    def put_on_servers(self) -> None:
        """Put all tables on the parameter server, with what their specifications say of rows.

        Raises:
            ContextError: no parameter-server context: call `set_ps_context(enable_ps=True)` first.
            TypeError, ValueError: as `Parameter.set_param_ps`, for a number of a Table.
        """
        for name, table in self.specs.items():
            self.table(name).set_param_ps(
                init_in_server=True,
                admit_after=table.admit_after,
                expire_after=table.expire_after,
                admit_probability=table.admit_probability,
                max_rows=table.max_rows,
            )

    def table(self, name: str) -> Parameter:
        """The Parameter of a table.

        Raises:
            KeyError: no such table.
        """
        if name not in self.specs:
            raise KeyError(f"Features: no table '{name}'; there are {', '.join(self.specs)}.")
        return self.tables[name].embedding_table

    def row_reports(self) -> dict[str, dict[str, Any]]:
        """Of each table, `nn.EmbeddingLookup.row_report`; without those that have none."""
        found = {name: self.tables[name].row_report() for name in self.specs}
        return {name: report for name, report in found.items() if report}

    def optimizer_groups(self, params: Iterable[Parameter]) -> list[dict[str, Any]]:
        """Groups for an optimizer: of each table with `lr` or `weight_decay`, and of the rest.

        Args:
            params: what the optimizer trains, those of these tables among them:
                `net.trainable_params()`.

        Raises:
            ValueError: a table is not among them.
        """
        everything = list(params)
        there = set(everything)
        groups: list[dict[str, Any]] = []
        taken: set[Parameter] = set()
        for name, table in self.specs.items():
            param = self.table(name)
            if param not in there:
                raise ValueError(
                    f"Features: table '{name}' (Parameter '{param.name}') is not among the "
                    f"Parameters. Pass net.trainable_params() of the network with these features."
                )
            settings = {"lr": table.lr, "weight_decay": table.weight_decay}
            given = {key: value for key, value in settings.items() if value is not None}
            if given:
                taken.add(param)
                groups.append({"params": [param], **given})
        rest = [param for param in everything if param not in taken]
        return [*groups, *([{"params": rest}] if rest else []), {"order_params": everything}]


def _table_name(feature: Feature) -> str:
    return feature.table.name if isinstance(feature.table, Table) else feature.table


def _lookup_of(table: Table, feature: Feature | None = None) -> nn.EmbeddingLookup:
    if feature is None or feature.combiner is None:
        return nn.EmbeddingLookup(
            table.vocab_size,
            table.width,
            table.init,
            vocab_cache_size=table.cache,
            dtype=table.dtype,
            padding_idx=None if feature is None else feature.padding,
            max_norm=None if feature is None else feature.max_norm,
        )
    return nn.EmbeddingBag(
        table.vocab_size,
        table.width,
        arguments.choice("Feature", "combiner", feature.combiner, COMBINERS),
        table.init,
        padding_idx=feature.padding,
        max_norm=feature.max_norm,
        vocab_cache_size=table.cache,
        dtype=table.dtype,
    )


def _layer(owner: str, make: Callable[..., Any], *given: object) -> nn.EmbeddingLookup:
    return _named(owner, make, *given)


def _named(owner: str, function: Callable[..., Any], *given: object) -> Any:
    """The result of a function; its TypeErrors and ValueErrors begin with a name."""
    try:
        return function(*given)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"Features: {owner}: {error}") from error


def _parts_of(given: object) -> dict[str, Any]:
    if isinstance(given, Mapping):
        parts = dict(given)
        if "ids" not in parts or not set(parts) <= set(_PARTS):
            raise ValueError(f"a dict has ids and some of {_PARTS[1:]}, got {sorted(parts)}.")
    elif isinstance(given, tuple | list):
        plain = any(isinstance(part, int | float | list | tuple) for part in given)
        if len(given) != 2 or plain:
            raise ValueError(
                f"a pair is (ids, row_lengths), two arrays; got a {type(given).__name__} of "
                f"{[type(part).__name__ for part in given[:4]]}. Pass ids alone as one array."
            )
        parts = {"ids": given[0], "row_lengths": given[1]}
    else:
        parts = {"ids": given}
    return {key: arguments.tensor(key, value) for key, value in parts.items()}
