"""No environment or context of the machine takes part; tests that want a client get both."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.client.both import CLIENTS, Connect


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAFTSCHED_ADDR", "RAFTSCHED_TOKEN", "RAFTSCHED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=list(CLIENTS))
def connect(request: pytest.FixtureRequest) -> Connect:
    """Opens a client: the synchronous one, and the asynchronous one made to block."""
    return CLIENTS[request.param]
