"""What ends a command: a message of one line, and exit code 2."""

from __future__ import annotations


class CommandError(Exception):
    """A command cannot go on; the message is one line that says why, and what to do."""
