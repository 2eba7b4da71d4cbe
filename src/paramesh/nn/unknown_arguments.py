"""Arguments that a layer does not have: errors that say what they are called here.

Layers of torch, flax and equinox have other names for the same arguments. Python's error for one
of them names neither the layer's own arguments nor the one that is meant. For one that is missing
it names the class that wrote `__init__`, which may be a private one that several layers share.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType

_SEED = "random numbers follow from paramesh.set_seed(n)"
_BACKEND = "JAX_PLATFORMS chooses the backend, and to_device() a place"
#: What other libraries call an argument: what it is called here, if the layer has it.
_CALLED: dict[str, tuple[str, ...]] = {
    "bias": ("has_bias",),
    "use_bias": ("has_bias",),
    "in_features": ("in_channels",),
    "out_features": ("out_channels",),
    "features": ("out_channels", "num_features"),
    "num_channels": ("num_features",),
    "kernel_init": ("weight_init",),
    "scale_init": ("gamma_init",),
    "embedding_init": ("embedding_table",),
    "num_embeddings": ("vocab_size",),
    "embedding_dim": ("embedding_size",),
    "strides": ("stride",),
    "groups": ("group",),
    "feature_group_count": ("group",),
    "kernel_dilation": ("dilation",),
    "rate": ("p",),
    "dropout_rate": ("dropout",),
    "eps": ("epsilon",),
    "epsilon": ("eps",),
    "param_dtype": ("dtype",),
    "lr": ("learning_rate",),
    "betas": ("beta1", "beta2"),
    "b1": ("beta1",),
    "b2": ("beta2",),
    "amsgrad": ("use_amsgrad",),
    "nesterov": ("use_nesterov", "nesterov"),
}
#: What needs no argument here.
_NEEDLESS = {"rngs": _SEED, "key": _SEED, "device": _BACKEND}


def refuse(owner: type, init: Callable[..., None], given: Mapping[str, object]) -> None:
    """Raise if a class is to be made with an argument that its `__init__` does not have.

    Args:
        owner: the class.
        init: its `__init__`.
        given: the arguments that were given by name.

    Raises:
        TypeError: one is not there. Python would raise it as well, with less to go on.
    """
    code = getattr(init, "__code__", None)
    if code is None or code.co_flags & inspect.CO_VARKEYWORDS:
        return
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    for name in given:
        if name not in names:
            raise TypeError(message(owner.__name__, name, names))


def message(owner: str, name: str, known: Iterable[str]) -> str:
    """The message of an error about an argument that does not exist.

    Args:
        owner: whose argument it would be.
        name: the argument.
        known: the arguments that exist.
    """
    text = f"{owner} has no argument '{name}'"
    names = list(known)
    called = [other for other in _CALLED.get(name, ()) if other in names]
    if called:
        return f"{text}: it is called {' and '.join(called)}."
    if name in _NEEDLESS:
        return f"{text}: {_NEEDLESS[name]}."
    near = difflib.get_close_matches(name, names, 2, 0.7)
    if near:
        return f"{text}. Did you mean {' or '.join(near)}?"
    return f"{text}. It takes {', '.join(names)}." if names else f"{text}; it takes none."


def name_init(cls: type) -> None:
    """Have Python name a class in errors of its arguments, where it shares a private `__init__`.

    Python names the function: `_GatedCell.__init__() missing 1 required positional argument`.
    """
    init = cls.__init__
    owner = init.__qualname__.rpartition(".")[0]
    if "__init__" in vars(cls) or not owner.startswith("_") or not isinstance(init, FunctionType):
        return
    if not init.__module__.startswith("paramesh."):  # a script may give its class another one
        return
    made = FunctionType(
        init.__code__, init.__globals__, init.__name__, init.__defaults__, init.__closure__
    )
    made.__kwdefaults__ = init.__kwdefaults__
    made.__doc__, made.__module__ = init.__doc__, init.__module__
    made.__annotations__ = init.__annotations__
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    setattr(cls, "__init__", made)  # noqa: B010


class SignatureOfInit:
    """The signature of a class whose `__new__` takes what its `__init__` takes.

    `inspect.signature`, and with it the help of notebooks, would show that of `__new__`.
    """

    def __get__(self, instance: object | None, owner: type) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        found = inspect.signature(owner.__init__)
        return found.replace(parameters=list(found.parameters.values())[1:])
