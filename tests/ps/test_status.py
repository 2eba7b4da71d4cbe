"""Looking for servers from outside, where there are none."""

from __future__ import annotations

import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps import status


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(status, "PATIENCE", 0.1)
    with pytest.raises(ParameterServerError, match=r"no Ray cluster answers at 127\.0\.0\.2:1 "):
        status.find_servers("127.0.0.2:1")
    assert capfd.readouterr() == ("", "")  # nothing of Ray's own tries


def test_what_is_no_address() -> None:
    with pytest.raises(ParameterServerError, match="is HOST:PORT or ray://HOST:PORT"):
        status.find_servers("localhost")
