"""Errors of credentials and requests, for users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class CredentialError(Exception):
    """A credential that cannot be used.

    `reason` is UPPER_SNAKE and stable, `message` says what is wrong, `details` why, `remedies` what to do.
    The text of the exception joins them in one line.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        details: Sequence[str] = (),
        remedies: Sequence[str] = (),
    ) -> None:
        super().__init__("; ".join([": ".join([message, *details]), *remedies]))
        self.reason = reason
        self.message = message
        self.details = tuple(details)
        self.remedies = tuple(remedies)


@dataclass(frozen=True)
class Violation:
    """One wrong field of a request, as reported by the server."""

    field: str
    description: str
