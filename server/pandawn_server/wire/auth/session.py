"""Callers that show a session token of this server."""

from __future__ import annotations

from datetime import datetime

from pandawn_server.domain.access.principals import Method, Principal
from pandawn_server.usecases.access.session_book import Sessions
from pandawn_server.wire.auth.api import SESSION, Evidence


class SessionAuthenticator:
    """Reads session tokens with the keys of this process."""

    name = Method.SESSION.value
    expects = f"a session token in the metadata as {SESSION}"

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def authenticate(self, evidence: Evidence, now: datetime) -> Principal | None:
        """The pilot or tool that the token was issued to."""
        token = evidence.metadata.get(SESSION)
        return None if token is None else self._sessions.open(token, now)
