"""Admits the callers of one address, or says what they lack.

What was read of a credential is cached, so a call pays for that once a minute.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeVar

import structlog

from pandawn_server.domain.access.principals import Method, Principal
from pandawn_server.domain.errors import ForbiddenError, PandawnError, UnauthenticatedError
from pandawn_server.logs import Log
from pandawn_server.telemetry.api import OFF, Telemetry
from pandawn_server.telemetry.names import ADMISSIONS, AUTH_METHOD
from pandawn_server.wire.auth.api import AUTHORIZATION, SESSION, Authenticator, Evidence
from pandawn_server.wire.auth.front import FrontCaller
from pandawn_server.wire.auth.shown import Metadata, metadata_of
from pandawn_server.wire.edge.caller import enter_caller
from pandawn_server.wire.edge.handlers import ServicerContext
from pandawn_server.wire.edge.policies import OPEN_METHODS, OPERATORS_ONLY, POLICIES, Policy

RECHECK_AFTER = timedelta(minutes=1)
"""How long a credential is cached: after that, rules and keys may have changed."""

MAX_REMEMBERED = 50_000
"""Maximum credentials cached, of each kind; beyond it all are dropped."""

MAX_ENTRIES = 256
"""Maximum entries of metadata: a token, a trace, and what proxies add make about twenty."""

_OF_PROXIES = frozenset({"x-forwarded-for", "x-real-ip", "forwarded", "via"})
"""Headers that proxies add to what they forward."""

_CACHED_METHODS = frozenset({Method.X509, Method.TOKEN})
"""Methods for which only the credential counts, not the caller's address."""

_log: Log = structlog.get_logger(__name__)

_Seen = tuple[Principal, datetime]
_Certificates = tuple[bytes, ...]
Key = TypeVar("Key", bound=Hashable)

# People call these services. A caller that does so at an address for pilots is at the wrong address: a hint at
# session tokens would not help.
_USERS_SERVICES = ("/pandawn.broker.", "/pandawn.monitor.")


def _nothing(peer: str) -> None:
    del peer


def _nobody_has_ended(principal: Principal) -> bool:
    del principal
    return False


class Gate:
    """The gate of one address that the server listens on. Use from the event loop only."""

    def __init__(
        self,
        authenticators: Sequence[Authenticator] = (),
        *,
        sessions: Authenticator | None = None,
        has_ended: Callable[[Principal], bool] = _nobody_has_ended,
        otherwise: Principal | None = None,
        peer_of: Callable[[str, Mapping[str, str]], str] | None = None,
        open_methods: frozenset[str] = OPEN_METHODS,
        front: Callable[[str], FrontCaller | None] | None = None,
        changes: Callable[[], int] = lambda: 0,
        on_shown: Callable[[str], None] = _nothing,
        telemetry: Telemetry = OFF,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`sessions` is tried first, then `authenticators` in order.

        `has_ended` tells whether the pilot of a session has ended: then its session is invalid too. `otherwise`
        is the caller if no credential is shown. `peer_of` returns whom a peer speaks for, given gRPC's name of
        the peer and the metadata. Anybody may call the `open_methods`. `front` returns the caller behind a
        connection through a TLS front. `changes` counts changes of rules, keys and revocations. `on_shown` is
        called with gRPC's name of a peer that showed a good credential.
        """
        self._authenticators = tuple(authenticators)
        self._sessions = sessions
        self._has_ended = has_ended
        self._otherwise = otherwise
        self._peer_of = peer_of
        self._front = front
        self._changes = changes
        self._on_shown = on_shown
        self._judged_at = changes()
        self._open_methods = open_methods
        self._wants_certificates = any(a.name == Method.X509.value for a in authenticators)
        self._telemetry = telemetry
        self._clock = clock
        self._seen_sessions: dict[str, _Seen] = {}
        self._seen: dict[tuple[str, _Certificates], _Seen] = {}

    def admit(self, method: str, context: ServicerContext) -> Principal | None:
        """Identifies the caller of a method and checks that it may call it; None if the method is open to anybody.

        Raises `UnauthenticatedError` and `ForbiddenError`.
        """
        if method in self._open_methods:
            return None
        policy = POLICIES.get(method, OPERATORS_ONLY)
        principal = self._identify(policy, context)
        self._on_shown(self.address(context))
        # Set before the check, so that a refusal by the policy is audited with the caller's name.
        enter_caller(principal)
        _check(method, policy, principal)
        return principal

    def peer(self, context: ServicerContext) -> str:
        """The address of a call, behind a front or a proxy as far as they named it; else gRPC's peer."""
        try:
            return self._peer(context, _joined(metadata_of(context)))
        except PandawnError:
            # A proxy that did not name its client.
            return context.peer()

    def _identify(self, policy: Policy, context: ServicerContext) -> Principal:
        metadata = metadata_of(context)
        if self._sessions is not None and not policy.begins_session:
            for key, value in metadata:
                if key == SESSION and isinstance(value, str):
                    return self._of_session(self._sessions, value, policy)
        if self._authenticators:
            principal = self._of_credential(metadata, context)
            if principal is not None:
                return principal
        if self._otherwise is not None:
            _check_no_proxy(metadata)
            return self._otherwise
        expected = "; ".join(a.expects for a in self._authenticators)
        raise UnauthenticatedError(
            "CREDENTIALS_REQUIRED",
            f"the call shows no credential; this address takes {expected}",
        )

    def _of_session(self, sessions: Authenticator, token: str, policy: Policy) -> Principal:
        now = self._clock()
        seen = self._seen_sessions.get(token)
        if seen is not None and seen[1] > now:
            principal = seen[0]
        else:
            found = sessions.authenticate(Evidence("", {SESSION: token}), now)
            assert found is not None, "a session was shown"
            principal = found
            self._remember(self._seen_sessions, token, principal, now)
        if self._has_ended(principal) and not policy.after_end:
            raise UnauthenticatedError(
                "SESSION_ENDED", "the pilot of this session has ended; register a new pilot"
            )
        return principal

    def _of_credential(self, metadata: Metadata, context: ServicerContext) -> Principal | None:
        now = self._clock()
        shown = _joined(metadata)
        self._forget_if_changed()
        certificates = self._certificates(context) if self._wants_certificates else ()
        key = (shown.get(AUTHORIZATION, ""), certificates)
        seen = self._seen.get(key)
        if seen is not None and seen[1] > now:
            return seen[0]
        evidence = Evidence(self._peer(context, shown), shown, certificates)
        for authenticator in self._authenticators:
            principal = authenticator.authenticate(evidence, now)
            if principal is not None:
                if principal.method in _CACHED_METHODS:
                    self._remember(self._seen, key, principal, now)
                return principal
        return None

    def _peer(self, context: ServicerContext, shown: Mapping[str, str]) -> str:
        peer = self.address(context)
        return peer if self._peer_of is None else self._peer_of(peer, shown)

    def address(self, context: ServicerContext) -> str:
        """The other end of the connection in gRPC's form, behind our front if there is one."""
        peer = context.peer()
        if self._front is None:
            return peer
        behind = self._front(peer)
        return peer if behind is None else behind.peer

    def _certificates(self, context: ServicerContext) -> _Certificates:
        """The chain of a verified client, in DER, leaf first."""
        if self._front is not None:
            behind = self._front(context.peer())
            return () if behind is None else behind.certificates
        return tuple(map(_as_der, context.auth_context().get("x509_pem_cert", ())))

    def _forget_if_changed(self) -> None:
        changes = self._changes()
        if changes != self._judged_at:
            self._judged_at = changes
            self._seen.clear()

    def _remember(
        self, seen: dict[Key, _Seen], key: Key, principal: Principal, now: datetime
    ) -> None:
        if len(seen) >= MAX_REMEMBERED:
            seen.clear()
        until = now + RECHECK_AFTER
        if principal.expire_time is not None:
            until = min(until, principal.expire_time)
        seen[key] = (principal, until)
        self._telemetry.count(ADMISSIONS, attributes={AUTH_METHOD: principal.method.value})
        _log.debug("admitted", rule=principal.rule, subject=principal.subject, user=principal.name)


def _check_no_proxy(metadata: Metadata) -> None:
    # A proxy on this machine would make every client an operator. Not all proxies send these headers, but
    # callers on this machine never do.
    for key, _ in metadata:
        if key in _OF_PROXIES:
            raise UnauthenticatedError(
                "PROXY_NOT_DECLARED",
                f"the call came through a proxy ({key}), and this address is for callers of this machine; "
                "give the proxy an address with auth= and forwarded=on",
            )


def _check(method: str, policy: Policy, principal: Principal) -> None:
    if principal.method is Method.HOST and not policy.begins_session:
        if method.startswith(_USERS_SERVICES):
            raise _for_pilots_only(method)
        raise _session_required(method)
    if policy.scope and principal.scopes is not None and policy.scope not in principal.scopes:
        raise ForbiddenError(
            "SCOPE_MISSING",
            f"{_short(method)} takes a token with the scope {policy.scope}; "
            f"this one has {' '.join(sorted(principal.scopes)) or 'none'}",
            metadata={"scope": policy.scope},
        )
    if policy.starts_work and principal.limited:
        raise ForbiddenError(
            "LIMITED_PROXY",
            f"{_short(method)} starts work, which a limited proxy may not do; make a full one "
            "(voms-proxy-init -rfc, without -limited)",
        )
    if principal.is_operator:
        return
    if not principal.roles & policy.roles:
        wanted = ", ".join(sorted(role.value for role in policy.roles)) or "operator"
        mine = ", ".join(sorted(role.value for role in principal.roles)) or "nothing"
        raise ForbiddenError(
            "ROLE_MISSING",
            f"{_short(method)} is for {wanted}; {principal.subject or principal.name} is {mine} "
            f"by the rule {principal.rule!r}",
            metadata={"roles": wanted},
        )
    if policy.needs_session and principal.session is None:
        raise _session_required(method)


def _session_required(method: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        "SESSION_REQUIRED",
        f"{_short(method)} needs the session token from Dispatcher.RegisterPilot or "
        f"FileCatalog.OpenSession, in the metadata as {SESSION}",
    )


def _for_pilots_only(method: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        "CREDENTIALS_REQUIRED",
        f"{_short(method)} is not for pilots, and this address serves only them, by their host names: "
        "users call the address or the socket file that the site announces",
    )


def _short(method: str) -> str:
    return method.rpartition(".")[2].replace("/", ".")


def _joined(metadata: Metadata) -> dict[str, str]:
    """The text entries of the metadata; repeated keys are joined, as HTTP prescribes.

    Raises `UnauthenticatedError` for too many entries: gRPC checks its own limit only at the end of a header
    block, and a block without end can bring megabytes before that.
    """
    shown: dict[str, str] = {}
    again: dict[str, list[str]] = {}
    for entries, (key, value) in enumerate(metadata):
        if entries >= MAX_ENTRIES:
            raise UnauthenticatedError(
                "CREDENTIALS_REQUIRED", f"the call has more than {MAX_ENTRIES} entries of metadata"
            )
        if isinstance(value, str):
            if key in shown:
                again.setdefault(key, [shown[key]]).append(value)
            else:
                shown[key] = value
    for key, values in again.items():
        shown[key] = ", ".join(values)
    return shown


@lru_cache(maxsize=MAX_REMEMBERED)
def _as_der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))
