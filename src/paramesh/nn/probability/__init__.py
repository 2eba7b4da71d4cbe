"""Probability distributions and bijectors, by MindSpore's names."""

from paramesh.nn.probability import bijector, distribution

__all__ = ["bijector", "distribution"]
