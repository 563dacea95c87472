"""What the API reference says before the methods: rules for every client, with the server's own numbers and tables."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from string import Template

from pandawn_pilot import errors
from pandawn_server.config import Settings
from pandawn_server.domain.leases.faults import FAULTS
from pandawn_server.domain.monitor import events
from pandawn_server.domain.retention import ANSWERS_KEPT
from pandawn_server.wire.auth.api import SESSION
from pandawn_server.wire.dispatch.dispatcher import MAX_WAIT
from pandawn_server.wire.edge.deadline import REPLY_MARGIN
from pandawn_server.wire.edge.errors import (
    DETAILS_TRAILER,
    ERROR_DOMAIN,
    PUSHBACK_TRAILER,
    REASON_TRAILER,
    RETRY_AFTER_TRAILER,
)
from pandawn_server.wire.edge.handlers import (
    LONG_LISTS,
    MAX_MESSAGE_BYTES,
    READ_TIMEOUT,
    STREAM_TIMEOUT,
    USUAL_MESSAGE_BYTES,
)
from pandawn_server.wire.edge.policies import OPEN_METHODS, POLICIES, Policy
from pandawn_server.wire.edge.server import (
    CLIENT_PING_INTERVAL,
    CONNECTION_AGE_GRACE,
    MAX_METADATA_BYTES,
)

TEXT = Path(__file__).with_name("api_rules.md.in")
"""The template of the chapter."""

ANY_METHOD: Sequence[tuple[str, Sequence[str], str]] = (
    (
        "UNAUTHENTICATED",
        ("CREDENTIALS_REQUIRED",),
        "the call has no credential that this address accepts; the message says which it accepts",
    ),
    (
        "UNAUTHENTICATED",
        ("ADDRESS_UNKNOWN",),
        "the proxy before the server did not forward the caller's address",
    ),
    (
        "UNAUTHENTICATED",
        ("PROXY_NOT_DECLARED",),
        "a proxy forwarded the call to an address that is for callers on the server's machine",
    ),
    (
        "UNAUTHENTICATED",
        ("SESSION_REQUIRED",),
        f"the method needs a session token, in the metadata as `{SESSION}`",
    ),
    (
        "UNAUTHENTICATED",
        ("SESSION_EXPIRED",),
        "register again with the same `request_id`, or open another session",
    ),
    (
        "UNAUTHENTICATED",
        ("SESSION_ENDED", "SESSION_INVALID"),
        "the pilot has ended or the token is bad; register a new pilot",
    ),
    (
        "UNAUTHENTICATED",
        ("TOKEN_EXPIRED", "TOKEN_REVOKED", "TOKEN_NOT_YET_VALID", "CERTIFICATE_EXPIRED"),
        "use a credential that is valid now",
    ),
    (
        "UNAUTHENTICATED",
        (
            *("TOKEN_MALFORMED", "TOKEN_PROFILE_UNKNOWN", "BAD_SIGNATURE", "ALGORITHM_NOT_ALLOWED"),
            *("UNKNOWN_ISSUER", "UNKNOWN_KEY", "WRONG_AUDIENCE"),
        ),
        "this server does not accept the token",
    ),
    (
        "UNAUTHENTICATED",
        ("CERTIFICATE_INVALID", "CERTIFICATE_REVOKED", "PROXY_INVALID", "REVOCATION_LIST_EXPIRED"),
        "this server does not accept the certificate",
    ),
    (
        "PERMISSION_DENIED",
        ("NOT_ADMITTED", "NO_USER_NAME", "USER_NAME_TAKEN"),
        "no admission rule matches the caller, or its user name is malformed or taken",
    ),
    (
        "PERMISSION_DENIED",
        ("LIMITED_PROXY",),
        "a limited proxy cannot start work; use a full one",
    ),
    (
        "PERMISSION_DENIED",
        ("ROLE_MISSING", "SCOPE_MISSING"),
        "the caller is authenticated, but lacks a role or scope that the method needs",
    ),
    (
        "RESOURCE_EXHAUSTED",
        ("TOO_MANY_CALLS", "TOO_MANY_STREAMS", "TOO_MANY_REGISTRATIONS"),
        "the caller has reached the maximum at one time; retry after RetryInfo",
    ),
    (
        "INVALID_ARGUMENT",
        ("INVALID_REQUEST",),
        "all violations are listed; a field may be one that the server does not know",
    ),
    ("UNAVAILABLE", ("REQUEST_TOO_SLOW",), "the request did not arrive in time; retry"),
    (
        "UNAVAILABLE",
        ("SHUTTING_DOWN",),
        "the server is stopping; retry, with another server if there is one",
    ),
    (
        "UNAVAILABLE",
        ("DATABASE_UNAVAILABLE", "DATABASE_BUSY", "DATABASE_CONFLICT"),
        "the database does not answer, is busy or full, or two changes collided; retry after RetryInfo",
    ),
    (
        "INTERNAL",
        ("INTERNAL_ERROR",),
        "a bug in the server; the message and the server's log have the same incident number",
    ),
)
"""Status, reasons and advice of errors that any method may return; a method lists them only to add to them."""

OF_ANY_METHOD = frozenset(reason for _, reasons, _ in ANY_METHOD for reason in reasons)
"""Those reasons."""


_UNIQUE = {
    "Dispatcher.RegisterPilot": "over all pilots of the server, and all users",
    "Dispatcher.AcquireJobs": "over the requests of the pilot",
}
_UNIQUE_ELSE = f"over the requests of the user, of all these methods, for {ANSWERS_KEPT.days} days"


def rules(with_request_id: Iterable[str], reasons: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """The chapter, given the methods that take a `request_id`, and the methods that give each reason."""
    defaults = Settings.model_fields
    age = timedelta(seconds=defaults["max_connection_age_seconds"].default)
    values = {
        "session_key": SESSION,
        "reason": REASON_TRAILER,
        "retry_after": RETRY_AFTER_TRAILER,
        "pushback": PUSHBACK_TRAILER,
        "details": DETAILS_TRAILER,
        "domain": ERROR_DOMAIN,
        "max_wait": _span(MAX_WAIT),
        "margin": _span(REPLY_MARGIN),
        "ping": _span(CLIENT_PING_INTERVAL),
        "age": _span(age),
        "grace": _span(CONNECTION_AGE_GRACE),
        "usual": _mib(USUAL_MESSAGE_BYTES),
        "most": _mib(MAX_MESSAGE_BYTES),
        "long_lists": _names(LONG_LISTS),
        "read_timeout": _span(READ_TIMEOUT),
        "stream_timeout": _span(STREAM_TIMEOUT),
        "streams": str(defaults["max_streams_per_connection"].default),
        "metadata": str(MAX_METADATA_BYTES // 2048),
        "request_ids": _rows(
            f"`{method}` | {_UNIQUE.get(method, _UNIQUE_ELSE)}" for method in with_request_id
        ),
        "any_method": _rows(
            f"{status} | {', '.join(names)} | {advice}" for status, names, advice in ANY_METHOD
        ),
        "other_reasons": _rows(
            f"{reason} | {', '.join(methods)}" for reason, methods in sorted(reasons.items())
        ),
        "open": "` and `".join(sorted(OPEN_METHODS)),
        "policies": _rows(
            f"`{_short(name)}` | {_roles(policy)} | {policy.scope or 'none'} | {_notes(policy)}"
            for name, policy in POLICIES.items()
        ),
        "event_kinds": _rows(f"{kind} | {meaning}" for kind, meaning in _event_kinds()),
        "failures": _rows(_failures()),
    }
    yield from Template(TEXT.read_text(encoding="utf-8")).substitute(values).split("\n")


def _rows(cells: Iterable[str]) -> str:
    return "\n".join(f"| {row} |" for row in cells)


def _event_kinds() -> Iterator[tuple[str, str]]:
    """Each kind with the docstring below it."""
    module = ast.parse(Path(events.__file__).read_text(encoding="utf-8"))
    (kinds,) = (n for n in module.body if isinstance(n, ast.ClassDef) and n.name == "EventKind")
    for assigned, said in zip(kinds.body, kinds.body[1:], strict=False):
        if isinstance(assigned, ast.Assign) and isinstance(said, ast.Expr):
            yield ast.unparse(assigned.targets[0]), str(ast.literal_eval(said.value))


def _failures() -> Iterator[str]:
    for fault in vars(errors).values():
        if isinstance(fault, errors.Fault):
            of = fault.component.name
            yield f"{fault.reason} | {fault.code} | {of} | {FAULTS[fault.reason].means}"
    for known in FAULTS.values():
        if known.server_only:
            yield f"{known.reason} | | SERVER | {known.means}"


def _roles(policy: Policy) -> str:
    return ", ".join(sorted(role.name for role in policy.roles))


def _notes(policy: Policy) -> str:
    notes = {
        "with a credential, not a session token": policy.begins_session,
        f"with `{SESSION}`": policy.needs_session,
        "not with a limited proxy": policy.starts_work,
        "in the audit": policy.changes or policy.people_change,
    }
    return "; ".join(note for note, holds in notes.items() if holds)


def _names(methods: Iterable[str]) -> str:
    return ", ".join(f"`{_short(method)}`" for method in sorted(methods))


def _short(method: str) -> str:
    return method.rpartition(".")[2].replace("/", ".")


def _mib(size: int) -> str:
    return f"{size // 1024**2} MiB"


def _span(span: timedelta) -> str:
    seconds = span / timedelta(seconds=1)
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
