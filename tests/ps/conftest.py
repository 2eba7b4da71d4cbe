"""Several servers without processes of their own."""

from __future__ import annotations

import pytest

from paramesh.ps.integration import session as sessions


@pytest.fixture(autouse=True)
def _servers_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`server_num` servers are in this process, unless another setting needs processes."""

    def connect(settings: dict) -> sessions.Client:
        if sessions.alone(settings | {"server_num": 0}):
            return sessions.LocalClient(settings["server_num"] or 1)
        return sessions.client_for(settings)

    monkeypatch.setattr(sessions, "connect", connect)
