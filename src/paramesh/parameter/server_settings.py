"""The settings of a Parameter on the parameter server, checked."""

from __future__ import annotations

from typing import TypedDict


class ServerSettings(TypedDict):
    """What `Parameter.set_param_ps` was given."""

    init_in_server: bool
    admit_after: int
    expire_after: int


def server_settings(
    name: str, init_in_server: bool, admit_after: int, expire_after: int
) -> ServerSettings:
    """The arguments of `set_param_ps` for the Parameter `name`.

    Raises:
        TypeError: `init_in_server` is not a bool, or a number not an int.
        ValueError: a number out of range, or given without `init_in_server`.
    """
    for argument, value, least in (
        ("admit_after", admit_after, 1),
        ("expire_after", expire_after, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"Parameter '{name}': {argument} must be an int, got {value!r}.")
        if not least <= value < 2**31:
            raise ValueError(
                f"Parameter '{name}': {argument} must be from {least} to {2**31 - 1}, got {value}."
            )
    if (admit_after, expire_after) != (1, 0) and init_in_server is False:
        raise ValueError(
            f"Parameter '{name}': admit_after and expire_after apply to tables only: pass "
            "init_in_server=True with them."
        )
    if not isinstance(init_in_server, bool):
        raise TypeError(
            f"Parameter '{name}': init_in_server must be True or False, got {init_in_server!r}."
        )
    return {
        "init_in_server": init_in_server,
        "admit_after": admit_after,
        "expire_after": expire_after,
    }
