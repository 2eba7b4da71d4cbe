"""Programs over Parameters: compiling, gradients, and JAX transforms."""

from paramesh.transforms.compiled import CompiledFunction, jit, parameters_of
from paramesh.transforms.control_flow import cond, fori_loop, scan, switch, while_loop
from paramesh.transforms.functional import functional_call, remat, vmap
from paramesh.transforms.gradients import GradientFunction, GradOperation, grad, value_and_grad

__all__ = [
    "CompiledFunction",
    "GradOperation",
    "GradientFunction",
    "cond",
    "fori_loop",
    "functional_call",
    "grad",
    "jit",
    "parameters_of",
    "remat",
    "scan",
    "switch",
    "value_and_grad",
    "vmap",
    "while_loop",
]
