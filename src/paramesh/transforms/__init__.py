"""Programs over Parameters: compiling, gradients, and JAX transforms."""

from paramesh.transforms.compiled import CompiledFunction, jit, parameters_of
from paramesh.transforms.functional import functional_call, remat, scan, vmap
from paramesh.transforms.gradients import GradientFunction, GradOperation, grad, value_and_grad

__all__ = [
    "CompiledFunction",
    "GradOperation",
    "GradientFunction",
    "functional_call",
    "grad",
    "jit",
    "parameters_of",
    "remat",
    "scan",
    "value_and_grad",
    "vmap",
]
