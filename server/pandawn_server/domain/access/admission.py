"""Admission: rules that map the content of a verified credential to a principal.

The first matching rule wins, and a pattern must match the *whole* value. User names are unique: two subjects
share a name only if the site itself lists both as the same person. So a generated name ends in a hash of the
subject, in a format that neither sites nor issuers may assign.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pandawn_server.domain.access.principals import Method, Principal, Role
from pandawn_server.domain.errors import ForbiddenError, UnauthenticatedError

USER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""The format of user names, which become parts of paths and words of command lines."""

TOKEN_ID = "jti"  # noqa: S105 (the name of a claim)
"""The claim that identifies a token among all of its issuer (RFC 7519, 4.1.7)."""

_MADE_NAME = re.compile(r".*\.[a-z2-7]{16}")
_HASH_BYTES = 10
"""80 bits, 16 letters: too many to find another subject with the same hash by search."""

_READABLE_CHARS = 40
_SHOWN_CHARS = 300
"""The number of characters of a subject that an error message shows."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The content of a verified credential.

    `issuer` and `subject` together identify the holder. `hosts` are the DNS names of a certificate, in lower
    case. `claims` are the other text claims of a token. Generated user names start with `readable`.
    `scopes` is None if this kind of credential has no scopes. `limited`: see `Principal`. `certificates` are
    those of the chain, as pairs of issuer (DER, in hexadecimal digits) and serial number.
    """

    method: Method
    issuer: str
    subject: str
    readable: str
    expire_time: datetime
    groups: tuple[str, ...] = ()
    scopes: frozenset[str] | None = None
    hosts: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    limited: bool = False
    certificates: tuple[tuple[str, str], ...] = ()

    @property
    def described(self) -> str:
        """A description of the credential, for its holder."""
        kind = "certificate" if self.method is Method.X509 else "token"
        subject, issuer = self.subject[:_SHOWN_CHARS], self.issuer[:_SHOWN_CHARS]
        return f"the {kind} of {subject!r}, issued by {issuer!r}"


@dataclass(frozen=True, slots=True)
class Patterns:
    """Regular expressions, one of which must match a whole value; without any, everything matches."""

    patterns: tuple[re.Pattern[str], ...] = ()

    def match(self, values: Iterable[str]) -> bool:
        """Whether one of the values matches."""
        if not self.patterns:
            return True
        return any(pattern.fullmatch(value) for value in values for pattern in self.patterns)


ANYTHING = Patterns()


@dataclass(frozen=True, slots=True)
class Rule:
    """Admits holders of some credentials, with roles.

    `users` maps subjects to the names that the site assigned. `user_claim` is the claim that contains the user
    name of all others; if it is empty, names are generated. `grants` are groups added to those of the credential.
    With `binds_nodes` pilots may use only the node names in the certificate, or in the claim `node_claim`.
    Sessions can be renewed for `outlives` after the credential that started them has expired.
    """

    name: str
    method: Method
    roles: frozenset[Role]
    issuers: Patterns = ANYTHING
    subjects: Patterns = ANYTHING
    groups: Patterns = ANYTHING
    scopes: Patterns = ANYTHING
    hosts: Patterns = ANYTHING
    sites: frozenset[str] = frozenset()
    grants: tuple[str, ...] = ()
    users: Mapping[str, str] = field(default_factory=dict)
    user_claim: str = ""
    binds_nodes: bool = False
    node_claim: str = ""
    outlives: timedelta = timedelta(0)

    def matches(self, shown: Shown) -> bool:
        """Whether the rule matches this credential."""
        return (
            self.method is shown.method
            and self.issuers.match([shown.issuer])
            and self.subjects.match([shown.subject])
            and self.groups.match(shown.groups)
            and self.scopes.match(shown.scopes or ())
            and self.hosts.match(shown.hosts)
        )

    def nodes(self, shown: Shown) -> frozenset[str] | None:
        """The node names that the holder's pilots may use; None means any."""
        if self.node_claim:
            return frozenset(re.split(r"[ ,]+", shown.claims.get(self.node_claim, "").lower()))
        if not self.binds_nodes:
            return None
        return frozenset(host for host in shown.hosts if self.hosts.match([host]))

    @property
    def names_somebody(self) -> bool:
        """Whether it restricts whom it admits by more than the issuer."""
        return any(p.patterns for p in (self.subjects, self.groups, self.scopes, self.hosts))


class Admission:
    """The rules of a server, in order."""

    def __init__(self, rules: Sequence[Rule], revoked_tokens: Iterable[str] = ()) -> None:
        """`revoked_tokens` are identifiers (`jti`) of tokens to reject."""
        self._rules = tuple(rules)
        self._revoked_tokens = frozenset(revoked_tokens)
        # A session must remember all claims that any rule uses.
        self._claims = {TOKEN_ID, *(c for r in rules for c in (r.user_claim, r.node_claim) if c)}
        self._given = frozenset(name for rule in rules for name in rule.users.values())

    def admit(self, shown: Shown) -> Principal:
        """The principal by the first matching rule.

        Raises `ForbiddenError` (NOT_ADMITTED: no rule matches; NO_USER_NAME; USER_NAME_TAKEN), and
        `UnauthenticatedError` (TOKEN_REVOKED).
        """
        if shown.claims.get(TOKEN_ID) in self._revoked_tokens:
            raise UnauthenticatedError(
                "TOKEN_REVOKED", f"{shown.described} was revoked by this site; get a new one"
            )
        for rule in self._rules:
            if rule.matches(shown):
                return Principal(
                    name=self._name(rule, shown),
                    method=shown.method,
                    roles=rule.roles,
                    rule=rule.name,
                    subject=_subject_of(shown),
                    groups=(*shown.groups, *(g for g in rule.grants if g not in shown.groups)),
                    sites=rule.sites,
                    scopes=shown.scopes,
                    expire_time=shown.expire_time,
                    limited=shown.limited,
                    nodes=rule.nodes(shown),
                    shown=self._remembered(shown),
                )
        raise ForbiddenError(
            "NOT_ADMITTED",
            f"{shown.described} is valid, but no rule of this server admits its holder; "
            "send both names to the administrator of the server",
            metadata={"subject": shown.subject, "issuer": shown.issuer},
        )

    def outlives(self, shown: Shown) -> timedelta:
        """For how long sessions can be renewed after this credential has expired."""
        return next((rule.outlives for rule in self._rules if rule.matches(shown)), timedelta(0))

    def _remembered(self, shown: Shown) -> Shown:
        claims = {name: value for name, value in shown.claims.items() if name in self._claims}
        return replace(shown, claims=claims)

    def _name(self, rule: Rule, shown: Shown) -> str:
        given = rule.users.get(shown.subject)
        if given is not None:
            return given
        if not rule.user_claim:
            return made_name(shown)
        name = shown.claims.get(rule.user_claim, "")
        if not is_free_name(name):
            raise ForbiddenError(
                "NO_USER_NAME",
                f"{shown.described} has {name[:_SHOWN_CHARS]!r} in the claim {rule.user_claim!r}, which must be "
                f"the user name; names match {USER_NAME.pattern}",
                metadata={"claim": rule.user_claim},
            )
        if name in self._given:
            # Otherwise anyone could register that name with the issuer, and act as another user here.
            raise ForbiddenError(
                "USER_NAME_TAKEN",
                f"{shown.described} has {name!r} in the claim {rule.user_claim!r}, but this server assigns that "
                "name to another subject; its administrator can list both as one user",
                metadata={"user": name},
            )
        return name


def is_free_name(name: str) -> bool:
    """Whether a site or an issuer may assign this name: safe in paths, and not in the format of generated names."""
    return USER_NAME.fullmatch(name) is not None and _MADE_NAME.fullmatch(name) is None


def made_name(shown: Shown) -> str:
    """A name that no other subject has: a readable part, a dot, and a hash of the subject."""
    digest = hashlib.sha256()
    for part in (shown.method.value, shown.issuer, shown.subject):
        encoded = part.encode(errors="surrogatepass")
        # The length prefix keeps different lists of parts different.
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    code = base64.b32encode(digest.digest()[:_HASH_BYTES]).decode().lower()
    return f"{_slug(shown.readable)}.{code}"


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain)[:_READABLE_CHARS].strip("-")
    return words or "user"


def _subject_of(shown: Shown) -> str:
    # A DN is globally unique; the subject of a token is unique only within its issuer.
    if shown.method is Method.TOKEN:
        return f"{shown.issuer} {shown.subject}"
    return shown.subject
