"""Lets the callers of one address in, or says what they lack.

A call pays for what it shows once a minute: what was read of a credential is remembered.
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
"""Time after which a credential is read anew: by then rules and keys may have changed."""

MAX_REMEMBERED = 50_000
"""Credentials remembered, of a kind; with more, all are forgotten and read anew."""

MAX_ENTRIES = 256
"""Most entries of metadata: a token, a trace, and what proxies add are some twenty."""

_OF_PROXIES = frozenset({"x-forwarded-for", "x-real-ip", "forwarded", "via"})
"""What proxies add to what they pass on."""

_CACHED_METHODS = frozenset({Method.X509, Method.TOKEN})
"""What a caller showed is all that counts there; where it calls from does not."""

_log: Log = structlog.get_logger(__name__)

_Seen = tuple[Principal, datetime]
_Certificates = tuple[bytes, ...]
Key = TypeVar("Key", bound=Hashable)

# Methods of these are called by people. A caller at an address for pilots who calls one is at the wrong address,
# and has no use for a word on session tokens.
_USERS_SERVICES = ("/pandawn.broker.", "/pandawn.monitor.")


def _nothing(peer: str) -> None:
    del peer


def _nobody_has_ended(principal: Principal) -> bool:
    del principal
    return False


class Gate:
    """One for each address that the server listens on. To be used from the event loop only."""

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
        """`authenticators` are asked in order, `sessions` before them.

        `has_ended` says whether the pilot of a session has ended, which takes its session with it.
        `otherwise` is who calls without showing anything. `peer_of` says for whom a peer speaks,
        given what gRPC calls it and the metadata. Anybody may call the `open_methods`. `front` tells by
        the peer who is behind a connection that came through a TLS front. `changes` counts how often
        what credentials are judged by has changed. `on_shown` is told of connections, by what gRPC calls
        their peers, on which somebody showed who it is.
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
        """Who makes a call of this method; None where the method is open to anybody.

        Raises `UnauthenticatedError` and `ForbiddenError`.
        """
        if method in self._open_methods:
            return None
        policy = POLICIES.get(method, OPERATORS_ONLY)
        principal = self._identify(policy, context)
        self._on_shown(self.address(context))
        # Already here: whoever is refused by the policy is known by name, and told so in the audit.
        enter_caller(principal)
        _check(method, policy, principal)
        return principal

    def peer(self, context: ServicerContext) -> str:
        """The address that a call comes from, as far as a front or a proxy has told; else what gRPC says."""
        try:
            return self._peer(context, _joined(metadata_of(context)))
        except PandawnError:
            # A proxy that did not say for whom it speaks.
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
            f"the call shows not who makes it; this address takes {expected}",
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
        """The other end of the connection as gRPC writes it, beyond a front of ours."""
        peer = context.peer()
        if self._front is None:
            return peer
        behind = self._front(peer)
        return peer if behind is None else behind.peer

    def _certificates(self, context: ServicerContext) -> _Certificates:
        """Those of a verified client, in DER, the leaf first."""
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
    # A proxy on this machine would make operators of all the world. What tells of one is not always sent,
    # and never by callers of this machine.
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
            f"{_short(method)} starts work, which a limited proxy may not; make a full one "
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
        f"{_short(method)} takes the session token that Dispatcher.RegisterPilot or "
        f"FileCatalog.OpenSession gave, in the metadata as {SESSION}",
    )


def _for_pilots_only(method: str) -> UnauthenticatedError:
    return UnauthenticatedError(
        "CREDENTIALS_REQUIRED",
        f"{_short(method)} is not for pilots, and this address knows only them, by the names of their nodes: "
        "users take the address or the socket file that the site names to them",
    )


def _short(method: str) -> str:
    return method.rpartition(".")[2].replace("/", ".")


def _joined(metadata: Metadata) -> dict[str, str]:
    """The text of the metadata; what is there twice is joined, as HTTP wants it.

    Raises `UnauthenticatedError` for more of it than anybody needs: gRPC's limit holds for the end of a block of
    headers, and a block without an end brings megabytes before it.
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
