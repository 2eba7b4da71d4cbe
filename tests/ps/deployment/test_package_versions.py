"""Servers and workers of different environments are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment import serving
from paramesh.ps.deployment.package_versions import check_versions, package_versions, versions
from server_loops import LoopClient, LoopServer


def test_the_same_and_what_an_older_server_does_not_say() -> None:
    check_versions({0: package_versions(), 1: {}, 2: {"a package of later": "1.0"}})
    assert versions().keys() == {"Python", *package_versions()}


def test_another_version_names_both() -> None:
    mine = package_versions()
    other = mine | {"jax": "0.1.0", "numpy": "none"}
    with pytest.raises(
        ParameterServerError,
        match=rf"^server 1 has jax 0.1.0, numpy none, and this worker jax {mine['jax']}, numpy",
    ):
        check_versions({0: mine, 1: other})


def test_a_worker_compares_them_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = package_versions() | {"paramesh": "0.0.1"}
    monkeypatch.setattr(serving, "package_versions", lambda: other)
    server = LoopServer(tmp_path / "server-0")
    try:
        with pytest.raises(ParameterServerError, match=r"server 0 has paramesh 0\.0\.1, and this"):
            LoopClient([server], "ray")
    finally:
        server.close()
