# Written by `make stubs`; what it says is in tests/support/type_stubs.py.

from paramesh.optim import *
from paramesh.nn.optim import ada_grad as ada_grad
from paramesh.nn.optim import adadelta as adadelta
from paramesh.nn.optim import adafactor as adafactor
from paramesh.nn.optim import adam as adam
from paramesh.nn.optim import adamax as adamax
from paramesh.nn.optim import asgd as asgd
from paramesh.nn.optim import ftrl as ftrl
from paramesh.nn.optim import lamb as lamb
from paramesh.nn.optim import lars as lars
from paramesh.nn.optim import lazyadam as lazyadam
from paramesh.nn.optim import momentum as momentum
from paramesh.nn.optim import optimizer as optimizer
from paramesh.nn.optim import proximal_ada_grad as proximal_ada_grad
from paramesh.nn.optim import rmsprop as rmsprop
from paramesh.nn.optim import rprop as rprop
from paramesh.nn.optim import sgd as sgd
