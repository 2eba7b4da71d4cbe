"""MindSpore's `experimental`: optimizers whose groups and rates change during training."""

from paramesh import lazy_names

#: Imported when somebody asks for it.
_PACKAGES = ("optim",)

__getattr__ = lazy_names.opened(__name__, {}, lambda: _PACKAGES)


def __dir__() -> list[str]:
    return list(_PACKAGES)
