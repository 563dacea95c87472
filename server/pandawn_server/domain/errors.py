"""Errors that callers may see: a canonical code, a stable reason, and a message.

`wire/edge/errors.py` turns them into gRPC statuses; nothing below it knows gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum


class Code(Enum):
    """Canonical status codes, by their gRPC names."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"


@dataclass(frozen=True, slots=True)
class Violation:
    """One error in a request: the path of the field, and what is wrong with it."""

    field: str
    description: str


class PandawnError(Exception):
    """Base of all errors that a caller may see.

    `reason` is UPPER_SNAKE and stable; `message` names the object, the cause and what to do; `metadata` has
    the names in the message for programs; `violations` lists the errors of an invalid request; `retry_after`
    is set if a later retry may succeed. `detail` goes to the log and to operators' terminals, not to callers.
    """

    code: Code
    detail: str = ""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after


class InvalidRequestError(PandawnError):
    """The request can never succeed as it is."""

    code = Code.INVALID_ARGUMENT

    @classmethod
    def of(
        cls, violations: Sequence[Violation], reason: str = "INVALID_REQUEST"
    ) -> InvalidRequestError:
        """Makes the error from all violations of a request, of which there must be at least one."""
        shown = "; ".join(f"{v.field}: {v.description}" for v in violations[:5])
        more = f" (and {len(violations) - 5} more)" if len(violations) > 5 else ""
        return cls(reason, shown + more, violations=violations)


class NotFoundError(PandawnError):
    """The thing named does not exist."""

    code = Code.NOT_FOUND


class ConflictError(PandawnError):
    """An object of that name exists already."""

    code = Code.ALREADY_EXISTS


class PreconditionError(PandawnError):
    """The state of the system does not allow the call; an immediate retry does not help."""

    code = Code.FAILED_PRECONDITION


class AbortedError(PandawnError):
    """Another caller changed the object first; read it again and retry."""

    code = Code.ABORTED


class ExhaustedError(PandawnError):
    """A limit was reached."""

    code = Code.RESOURCE_EXHAUSTED


class UnavailableError(PandawnError):
    """A part of the system does not respond now; retry after `retry_after`."""

    code = Code.UNAVAILABLE


class OutcomeUnknownError(UnavailableError):
    """The outcome is unknown, because the answer was lost. The caller must look it up."""


class UnauthenticatedError(PandawnError):
    """The caller has no credential, or it is invalid or expired."""

    code = Code.UNAUTHENTICATED


class ForbiddenError(PandawnError):
    """The caller is authenticated but not allowed to do this; a retry does not help."""

    code = Code.PERMISSION_DENIED
