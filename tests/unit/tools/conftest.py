"""Makes the command line try again at once."""

import pytest

from pandawn_tools.cli import client


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets retries follow each other at once, and makes commands give up soon."""
    monkeypatch.setattr(client, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(client, "_LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(client, "PATIENCE_S", 0.5)
