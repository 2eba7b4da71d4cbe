"""Programs over Parameters: compiling, gradients, and JAX transforms."""

from paramesh.transforms.batching import vmap
from paramesh.transforms.compiled_function import CompiledFunction, jit, parameters_of
from paramesh.transforms.control_flow import cond, fori_loop, scan, switch, while_loop
from paramesh.transforms.custom_derivatives import custom_vjp
from paramesh.transforms.derivatives import hessian, jacfwd, jacrev, jvp, vjp
from paramesh.transforms.functional import functional_call, remat
from paramesh.transforms.gradients import GradientFunction, GradOperation, grad, value_and_grad

__all__ = [
    "CompiledFunction",
    "GradOperation",
    "GradientFunction",
    "cond",
    "custom_vjp",
    "fori_loop",
    "functional_call",
    "grad",
    "hessian",
    "jacfwd",
    "jacrev",
    "jit",
    "jvp",
    "parameters_of",
    "remat",
    "scan",
    "switch",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]
