"""Who is let in: rules that turn what a verified credential says into a principal.

The first rule that matches wins, and a pattern must match the *whole* of what it is held against.
User names are one to one: two subjects never share a name unless the site itself wrote both down as
the same person. So a name that is made here ends in a hash of the subject, in a shape that no site
may write down and no issuer may give.
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
"""What names of users look like: parts of paths and words of command lines."""

TOKEN_ID = "jti"  # noqa: S105 (the name of a claim)
"""The claim that tells a token from all others of its issuer (RFC 7519, 4.1.7)."""

_MADE_NAME = re.compile(r".*\.[a-z2-7]{16}")
_HASH_BYTES = 10
"""80 bits, 16 letters: whoever can choose the readable part cannot search for the hash of another."""

_READABLE_CHARS = 40
_SHOWN_CHARS = 300
"""As much of a subject as an error repeats."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a verified credential says of its holder.

    `issuer` and `subject` together name the holder. `hosts` are the DNS names of a certificate, in lower
    case. `claims` are what else a token says in words. `readable` is what a name is made from.
    `scopes` is None for a credential that knows no scopes. `limited`: see `Principal`. `certificates` are
    those of a chain, by the names of their issuers (DER, in hexadecimal digits) and their serial numbers.
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
        """The holder in words, for the one who holds it."""
        kind = "certificate" if self.method is Method.X509 else "token"
        subject, issuer = self.subject[:_SHOWN_CHARS], self.issuer[:_SHOWN_CHARS]
        return f"the {kind} of {subject!r}, issued by {issuer!r}"


@dataclass(frozen=True, slots=True)
class Patterns:
    """Regular expressions of which one must match the whole of one value; none at all: anything goes."""

    patterns: tuple[re.Pattern[str], ...] = ()

    def match(self, values: Iterable[str]) -> bool:
        """Whether what is shown satisfies them."""
        if not self.patterns:
            return True
        return any(pattern.fullmatch(value) for value in values for pattern in self.patterns)


ANYTHING = Patterns()


@dataclass(frozen=True, slots=True)
class Rule:
    """Admits holders of some credentials, with roles.

    `users` maps subjects to the names that the site gave them. `user_claim` names the claim that *is* the
    name of everybody else; empty: names are made. `grants` are groups given on top of the shown ones.
    With `binds_nodes` pilots are of nodes that the certificate names, or that the claim `node_claim` lists.
    Sessions may be renewed for `outlives` after the credential they were begun with has expired.
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
        """Whether it is for this credential."""
        return (
            self.method is shown.method
            and self.issuers.match([shown.issuer])
            and self.subjects.match([shown.subject])
            and self.groups.match(shown.groups)
            and self.scopes.match(shown.scopes or ())
            and self.hosts.match(shown.hosts)
        )

    def nodes(self, shown: Shown) -> frozenset[str] | None:
        """Names that nodes of the holder's pilots may have; None: any."""
        if self.node_claim:
            return frozenset(re.split(r"[ ,]+", shown.claims.get(self.node_claim, "").lower()))
        if not self.binds_nodes:
            return None
        return frozenset(host for host in shown.hosts if self.hosts.match([host]))

    @property
    def names_somebody(self) -> bool:
        """Whether it says more of whom it admits than which issuer vouches for them."""
        return any(p.patterns for p in (self.subjects, self.groups, self.scopes, self.hosts))


class Admission:
    """The rules of a server, in their order."""

    def __init__(self, rules: Sequence[Rule], revoked_tokens: Iterable[str] = ()) -> None:
        """`revoked_tokens` are identifiers (`jti`) of tokens that are not to count any more."""
        self._rules = tuple(rules)
        self._revoked_tokens = frozenset(revoked_tokens)
        # What a session has to remember of a token: all that any rule asks for.
        self._claims = {TOKEN_ID, *(c for r in rules for c in (r.user_claim, r.node_claim) if c)}
        self._given = frozenset(name for rule in rules for name in rule.users.values())

    def admit(self, shown: Shown) -> Principal:
        """The caller as the first matching rule has it.

        Raises `ForbiddenError` when there is none, or when the name it leads to belongs to another, and
        `UnauthenticatedError` for a revoked token.
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
            f"{shown.described} is good, but no rule of this server admits its holder; "
            "tell both names to whoever runs the server",
            metadata={"subject": shown.subject, "issuer": shown.issuer},
        )

    def outlives(self, shown: Shown) -> timedelta:
        """For how long sessions of a holder may be renewed after its credential has expired."""
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
                f"{shown.described} should say the name of its user in {rule.user_claim!r}, "
                f"and has {name[:_SHOWN_CHARS]!r} there; a name matches {USER_NAME.pattern}",
                metadata={"claim": rule.user_claim},
            )
        if name in self._given:
            # Else whoever registers that name with the issuer would be somebody else here.
            raise ForbiddenError(
                "USER_NAME_TAKEN",
                f"{shown.described} says {name!r} in {rule.user_claim!r}, and this server "
                "gave that name to another subject; whoever runs it can list both as one user",
                metadata={"user": name},
            )
        return name


def is_free_name(name: str) -> bool:
    """Whether a site or an issuer may give this name: path-safe, and not of the shape of made ones."""
    return USER_NAME.fullmatch(name) is not None and _MADE_NAME.fullmatch(name) is None


def made_name(shown: Shown) -> str:
    """A name that no other subject has: something readable, a dot, and a hash of who it is."""
    digest = hashlib.sha256()
    for part in (shown.method.value, shown.issuer, shown.subject):
        encoded = part.encode(errors="surrogatepass")
        # With its length in front no two lists of parts look alike.
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    code = base64.b32encode(digest.digest()[:_HASH_BYTES]).decode().lower()
    return f"{_slug(shown.readable)}.{code}"


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain)[:_READABLE_CHARS].strip("-")
    return words or "user"


def _subject_of(shown: Shown) -> str:
    # A DN says who somebody is; the subject of a token does so together with its issuer only.
    if shown.method is Method.TOKEN:
        return f"{shown.issuer} {shown.subject}"
    return shown.subject
