"""Errors that callers of the system may see: a canonical code, a stable reason, and a sentence.

`wire/edge/errors.py` turns them into gRPC statuses; nothing below it knows gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum


class Code(Enum):
    """Canonical status codes, by the names gRPC gives them."""

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
    """One thing wrong with a request: the path of the field and what is wrong with it."""

    field: str
    description: str


class PandawnError(Exception):
    """Base of all errors that a caller may see.

    `reason` is UPPER_SNAKE and stable; `message` names the thing, the cause and what to do;
    `metadata` repeats the names in the message for programs; `violations` is filled for
    malformed requests; `retry_after` is set when trying again later makes sense. `detail` is for operators,
    in the log and on their terminals: callers do not get it.
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
        """Builds the error from all violations of a request; there must be at least one."""
        shown = "; ".join(f"{v.field}: {v.description}" for v in violations[:5])
        more = f" (and {len(violations) - 5} more)" if len(violations) > 5 else ""
        return cls(reason, shown + more, violations=violations)


class NotFoundError(PandawnError):
    """The thing named does not exist."""

    code = Code.NOT_FOUND


class ConflictError(PandawnError):
    """Something of that name exists already."""

    code = Code.ALREADY_EXISTS


class PreconditionError(PandawnError):
    """The system is in a state that does not allow it; repeating does not help."""

    code = Code.FAILED_PRECONDITION


class AbortedError(PandawnError):
    """Somebody else was faster; read again and repeat."""

    code = Code.ABORTED


class ExhaustedError(PandawnError):
    """A limit was reached."""

    code = Code.RESOURCE_EXHAUSTED


class UnavailableError(PandawnError):
    """A part of the system does not answer now; retry after `retry_after`."""

    code = Code.UNAVAILABLE


class OutcomeUnknownError(UnavailableError):
    """It may have been done or not: the answer was lost. Whoever acts on that looks it up."""


class UnauthenticatedError(PandawnError):
    """The caller did not show who it is, or what it showed is not good (any more)."""

    code = Code.UNAUTHENTICATED


class ForbiddenError(PandawnError):
    """The caller is known and may not do this; repeating does not help."""

    code = Code.PERMISSION_DENIED
