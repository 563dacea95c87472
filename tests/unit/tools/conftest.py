"""Makes the command line try again at once."""

import pytest

from pandawn_client import client, policy
from pandawn_client.policy import Patience


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets retries follow each other at once, and makes commands give up soon."""
    monkeypatch.setattr(policy, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(client, "COMMAND", Patience(0.5, 0.01))
