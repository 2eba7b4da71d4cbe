"""The settings of a Parameter on the parameter server, checked."""

from __future__ import annotations

from typing import TypedDict


class ServerSettings(TypedDict):
    """What `Parameter.set_param_ps` was given."""

    init_in_server: bool
    admit_after: int
    admit_probability: float
    expire_after: int
    max_rows: int


def server_settings(
    name: str,
    init_in_server: bool,
    admit_after: int,
    admit_probability: float,
    expire_after: int,
    max_rows: int,
) -> ServerSettings:
    """The arguments of `set_param_ps` for the Parameter `name`.

    Raises:
        TypeError: `init_in_server` is not a bool, or a number not one.
        ValueError: a number out of range, or given without `init_in_server`.
    """
    most = 2**31 - 1
    for argument, value, least, largest in (
        ("admit_after", admit_after, 1, most),
        ("expire_after", expire_after, 0, most),
        ("max_rows", max_rows, 0, 2**62),
    ):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"Parameter '{name}': {argument} must be an int, got {value!r}.")
        if not least <= value <= largest:
            raise ValueError(
                f"Parameter '{name}': {argument} must be from {least} to {largest}, got {value}."
            )
    chance: object = admit_probability
    if isinstance(chance, bool) or not isinstance(chance, int | float):
        raise TypeError(
            f"Parameter '{name}': admit_probability must be a number, got {admit_probability!r}."
        )
    if not 0 < admit_probability <= 1:
        raise ValueError(
            f"Parameter '{name}': admit_probability must be above 0 and at most 1, got "
            f"{admit_probability}."
        )
    given = (admit_after, admit_probability, expire_after, max_rows)
    if given != (1, 1, 0, 0) and init_in_server is False:
        raise ValueError(
            f"Parameter '{name}': admit_after, admit_probability, expire_after and max_rows apply "
            "to tables only: pass init_in_server=True with them."
        )
    if not isinstance(init_in_server, bool):
        raise TypeError(
            f"Parameter '{name}': init_in_server must be True or False, got {init_in_server!r}."
        )
    return {
        "init_in_server": init_in_server,
        "admit_after": admit_after,
        "admit_probability": float(admit_probability),
        "expire_after": expire_after,
        "max_rows": max_rows,
    }
