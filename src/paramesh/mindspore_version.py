"""MindSpore's module `version`: the version whose names and values paramesh follows."""

__all__ = ["__version__"]

__version__ = "2.10.0"
