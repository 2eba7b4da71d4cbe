"""The parameter server: Parameters that live, and are updated, on servers.

`connect` opens a run for reading; `Features` builds the tables of a recommender; `compact` makes a
complete checkpoint of increments.
"""

from typing import TYPE_CHECKING

from paramesh import lazy_names

if TYPE_CHECKING:
    from paramesh.checkpoint.sharded.compaction import compact
    from paramesh.ps.features import Feature, Features, Table, feature_group
    from paramesh.ps.reading.export import export
    from paramesh.ps.reading.reader import RunReader, connect

__all__ = [
    "Feature",
    "Features",
    "RunReader",
    "Table",
    "compact",
    "connect",
    "export",
    "feature_group",
]

__getattr__ = lazy_names.opened(
    __name__,
    {
        "Feature": "paramesh.ps.features",
        "Features": "paramesh.ps.features",
        "Table": "paramesh.ps.features",
        "feature_group": "paramesh.ps.features",
        "compact": "paramesh.checkpoint.sharded.compaction",
        "RunReader": "paramesh.ps.reading.reader",
        "connect": "paramesh.ps.reading.reader",
        "export": "paramesh.ps.reading.export",
    },
    lambda: __all__,
)
