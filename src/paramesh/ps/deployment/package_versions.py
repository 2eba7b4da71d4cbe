"""Which versions a process of a run has of what has to be the same in all of them.

`paramesh launch` compares them before it starts a worker on another host. Whoever starts workers in
another way may give them another environment than that of the Ray node, in which the servers run:
so a server says its versions when a worker says hello, and the worker compares.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Mapping

from paramesh.errors import ParameterServerError

#: Packages that compute, or speak to each other: another version gives other bits, or none.
PACKAGES = ("paramesh", "jax", "numpy", "ray")


def versions() -> dict[str, str]:
    """Of Python and of the packages that have to be the same on all hosts; "none": not there."""
    return {"Python": ".".join(map(str, sys.version_info[:3])), **package_versions()}


@functools.cache
def package_versions() -> dict[str, str]:
    """Of the packages alone."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def check_versions(theirs: Mapping[int, Mapping[str, str]]) -> None:
    """Raise ParameterServerError unless servers have the packages of this process.

    Args:
        theirs: by server, what it says of its own; empty: it says nothing.
    """
    mine = package_versions()
    for server, said in theirs.items():
        other = [name for name in said if name in mine and said[name] != mine[name]]
        if other:
            there = ", ".join(f"{name} {said[name]}" for name in other)
            here = ", ".join(f"{name} {mine[name]}" for name in other)
            raise ParameterServerError(
                f"server {server} has {there}, and this worker {here}: they would compute other "
                "bits, or not understand each other. Install the same versions in the environment "
                "of the Ray node, in which servers run, and in that of the workers."
            )
