"""MindSpore's `log`: the messages of scripts, on stderr, over python's logging.

The level is that of the variable `GLOG_v`, as in MindSpore: 0 debug, 1 info, 2 warning (without the
variable, too), 3 error, 4 critical.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

__all__ = [
    "critical",
    "debug",
    "error",
    "get_level",
    "get_log_config",
    "info",
    "set_level",
    "warning",
]

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_DEFAULT = 2
_VARIABLE = "GLOG_v"


class _Stderr(logging.StreamHandler[Any]):
    """Writes to what `sys.stderr` is at the time of the message."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:  # type: ignore[override]
        return sys.stderr


def _made() -> logging.Logger:
    logger = logging.getLogger("paramesh.log")
    if not logger.handlers:
        handler = _Stderr()
        handler.setFormatter(
            logging.Formatter(
                "[%(levelname)s] %(process)d %(asctime)s [%(filename)s:%(lineno)d] %(message)s"
            )
        )
        logger.addHandler(handler)
        logger.propagate = False
    return logger


_logger = _made()


def set_level(level: int) -> None:
    """Set from which level on messages are shown.

    Args:
        level: 0 (debug) to 4 (critical).

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(level, bool) or level not in range(len(_LEVELS)):
        raise ValueError(f"log.set_level: level must be 0, 1, 2, 3 or 4, got {level!r}.")
    _logger.setLevel(_LEVELS[level])


def get_level() -> str:
    """From which level on messages are shown: "0" (debug) to "4" (critical)."""
    return str(_LEVELS.index(_logger.level))


def get_log_config() -> dict[str, str]:
    """The level, and that messages go to stderr; settings of files have no meaning here."""
    return {_VARIABLE: get_level(), "GLOG_logtostderr": "1"}


def debug(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Say what helps to find a mistake; as `logging.debug`."""
    _logger.debug(msg, *args, stacklevel=2, **kwargs)


def info(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Say what goes on; as `logging.info`."""
    _logger.info(msg, *args, stacklevel=2, **kwargs)


def warning(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Say what may be wrong; as `logging.warning`."""
    _logger.warning(msg, *args, stacklevel=2, **kwargs)


def error(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Say what is wrong; as `logging.error`."""
    _logger.error(msg, *args, stacklevel=2, **kwargs)


def critical(msg: Any, *args: Any, **kwargs: Any) -> None:
    """Say why nothing goes on; as `logging.critical`."""
    _logger.critical(msg, *args, stacklevel=2, **kwargs)


def _from_environment() -> int:
    asked = os.environ.get(_VARIABLE, "")
    return int(asked) if asked in map(str, range(len(_LEVELS))) else _DEFAULT


set_level(_from_environment())
