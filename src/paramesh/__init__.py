"""paramesh: named, lazy, sharded parameters for JAX, with MindSpore's interface.

Everything a user imports; what needs an optional package is loaded when it is used.
"""

__version__ = "0.1.0"
