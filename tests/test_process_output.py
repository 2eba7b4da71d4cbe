"""What tests read of processes is all that these print."""

from __future__ import annotations

import subprocess

from process_output import rest_of


def test_lines_that_come_together() -> None:
    words = ["/bin/sh", "-c", "printf '1\\n2\\n3\\n'; echo wrong >&2"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        process.wait(60)  # all is there, and is read at once
        assert process.stdout.readline() == "1\n"
        assert rest_of(process, 60) == ("2\n3\n", "wrong\n")
