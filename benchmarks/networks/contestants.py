"""Who takes part in the benchmarks.

A contestant is one library in one way of using it. This file imports none of them, so that a
process which measures one loads no other.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from networks.definitions import Network

BASE = "jax"


class Unavailable(Exception):
    """A contestant cannot take part; the message is what the table says."""


@dataclass(frozen=True)
class Contestant:
    """One library in one way of using it.

    Args:
        key: its name on the command line.
        title: its name in tables.
        package: the distribution that it needs, whose version is shown.
        module: the file beside this one that has its networks.
        options: what `build` of that file takes besides.
    """

    key: str
    title: str
    package: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)

    def version(self) -> str:
        """The version of its package.

        Raises:
            Unavailable: it is not installed.
        """
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            raise Unavailable(f"{self.package} is not installed") from None

    def load(self) -> Any:
        """The file with its networks, imported.

        Raises:
            Unavailable: its package is not installed.
        """
        self.version()
        return importlib.import_module(f"networks.{self.module}")

    def build(self, network: Network, start: Any, batch: Any) -> Callable[[], Any]:
        """One training step per call, in this process.

        Args:
            network: which.
            start: the first weights by name.
            batch: inputs and targets.

        Raises:
            Unavailable: its package is not installed, or it cannot do it here.
        """
        return self.load().build(network, start, batch, **self.options)

    def eager(self, network: Network, start: Any, batch: Any) -> Callable[[], Any]:
        """One forward and backward pass per call, nothing compiled as a whole: (loss, gradients).

        Args:
            network: which.
            start: the weights by name.
            batch: inputs and targets.

        Raises:
            Unavailable: its package is not installed.
        """
        return self.load().eager(network, start, batch)

    def eager_training(self, network: Network, start: Any, batch: Any) -> Callable[[], Any]:
        """One training step per call, nothing compiled as a whole: (loss, None).

        Args:
            network: which.
            start: the weights by name.
            batch: inputs and targets.

        Raises:
            Unavailable: its package is not installed, or it has no such step here.
        """
        module = self.load()
        if not hasattr(module, "eager_training"):
            raise Unavailable("measured without its optimizer only")
        return module.eager_training(network, start, batch)


CONTESTANTS = (
    Contestant("jax", "hand-written JAX", "jax", "by_hand"),
    Contestant("paramesh", "paramesh", "paramesh", "of_paramesh"),
    Contestant("nnx-cached", "flax nnx.cached_partial", "flax", "of_flax", {"cached": True}),
    Contestant("nnx-jit", "flax nnx.jit", "flax", "of_flax", {"cached": False}),
    Contestant("equinox", "equinox", "equinox", "of_equinox"),
    Contestant("torch", "torch eager", "torch", "of_torch", {"compiled": False}),
    Contestant("torch-compile", "torch.compile", "torch", "of_torch", {"compiled": True}),
    Contestant("mindspore", "MindSpore graph mode", "mindspore", "of_mindspore"),
)
BY_KEY = {contestant.key: contestant for contestant in CONTESTANTS}
