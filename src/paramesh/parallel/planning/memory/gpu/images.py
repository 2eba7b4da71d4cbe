"""What the library of GPUs wants of the images and the kernels of convolutions."""

from __future__ import annotations

import math

from paramesh.parallel.search.graph import Factored, Graph, Operator


def has_kernel(graph: Graph, operator: Operator) -> bool:
    """Whether the second operand of a convolution is a kernel, not an image as for gradients."""
    if operator.name != "conv_general_dilated" or len(operator.inputs) < 2:
        return False
    return places_of(graph, *operator.inputs[1]) < places_of(graph, *operator.outputs[0])


def places_of(graph: Graph, tensor: int, factors: Factored) -> int:
    """How many places an image or a kernel has."""
    sizes = zip(graph.tensors[tensor].shape, factors, strict=True)
    return math.prod(size for size, factor in sizes if factor is None)


def filling(graph: Graph, operator: Operator) -> float:
    """How much larger an image is that is filled up before a convolution; 1 where it is not.

    It is where a convolution in strides fills up by an odd number of places.
    """

    def places(tensor: int, factors: Factored) -> list[int]:
        sizes = zip(graph.tensors[tensor].shape, factors, strict=True)
        return [size for size, factor in sizes if factor is None]

    (image, kernel), made = operator.inputs[:2], operator.outputs[0]
    more = 1.0
    for size, own, result in zip(places(*image), places(*kernel), places(*made), strict=False):
        stride = round(size / result) if result else 0
        missing = (result - 1) * stride + own - size
        if stride > 1 and missing > 0 and missing % 2:
            more *= (size + missing) / size
    return more
