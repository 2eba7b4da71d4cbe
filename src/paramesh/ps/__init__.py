"""The parameter server: Parameters that live, and are updated, on servers.

`connect` opens a run for reading.
"""

from typing import TYPE_CHECKING

from paramesh import lazy_names

if TYPE_CHECKING:
    from paramesh.ps.reading.export import export
    from paramesh.ps.reading.reader import RunReader, connect

__all__ = ["RunReader", "connect", "export"]

__getattr__ = lazy_names.opened(
    __name__,
    {
        "RunReader": "paramesh.ps.reading.reader",
        "connect": "paramesh.ps.reading.reader",
        "export": "paramesh.ps.reading.export",
    },
    lambda: __all__,
)
