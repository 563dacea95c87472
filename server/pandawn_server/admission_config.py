"""The admission file: who is admitted, and which issuers' tokens count; TOML, read again when it changes.

It is separate from the settings because it changes while the server runs, and because tables fit into neither
flags nor variables. `docs/identity.md` has an example.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pandawn_server.domain.access.admission import Admission, Patterns, Rule, is_free_name
from pandawn_server.domain.access.principals import Method, Role

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Maximum size of the admission file: enough for tens of thousands of users."""

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Signature algorithms with public keys. Those with a shared secret, and `none`, are excluded."""

_DEFAULT_ALGORITHMS: tuple[Algorithm, ...] = ("RS256", "ES256", "RS384", "RS512", "ES384", "ES512")

_POWERFUL = frozenset({Role.OPERATOR, Role.SITE_ADMIN, Role.PILOT})


def _pattern(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _compiled(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None


_Texts = Annotated[tuple[str, ...], BeforeValidator(_pattern)]
_Patterns = Annotated[
    tuple[Annotated[re.Pattern[str], BeforeValidator(_compiled)], ...], BeforeValidator(_pattern)
]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IssuerTable(_Table):
    """`[[issuer]]`: an issuer whose tokens count."""

    url: str = Field(min_length=1, max_length=1000)
    audience: _Texts = Field(min_length=1)
    jwks: str = Field(min_length=1)
    jwks_ca: Path | None = None
    algorithms: tuple[Algorithm, ...] = Field(default=_DEFAULT_ALGORITHMS, min_length=1)
    group_prefix: str = ""

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        loopback = re.match(r"http://(127\.0\.0\.1|localhost|\[::1\])[:/]", self.jwks)
        if self.jwks.startswith("http://") and not loopback:
            raise ValueError(
                f"jwks {self.jwks!r}: anybody on the way may change keys sent over http; use https://"
            )
        return self

    @property
    def is_remote(self) -> bool:
        """Whether its keys are fetched over the network, not read from a file."""
        return self.jwks.startswith(("https://", "http://"))


class RuleTable(_Table):
    """`[[admit]]`: one rule; the first that matches wins."""

    name: str = Field(min_length=1, max_length=100)
    method: Literal["x509", "token"]
    roles: tuple[Role, ...] = Field(min_length=1)
    issuer: _Patterns = ()
    subject: _Patterns = ()
    group: _Patterns = ()
    scope: _Patterns = ()
    host: _Patterns = ()
    sites: _Texts = ()
    grant_groups: _Texts = ()
    users: dict[str, str] = Field(default_factory=dict)
    user_claim: str = ""
    nodes: Literal["certificate", "any", ""] = ""
    node_claim: str = ""
    outlives_hours: float = Field(default=0, ge=0, le=24 * 366)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.method == "x509" and (self.scope or self.user_claim or self.group):
            raise ValueError("a certificate has no groups, scopes or claims: remove them")
        if self.method == "x509" and self.node_claim:
            raise ValueError("a certificate has no claims: remove node_claim")
        if self.nodes == "certificate" and not self.host:
            raise ValueError("nodes = 'certificate' needs `host`: which host names count")
        if self.method == "token" and self.host:
            raise ValueError("a token has no host names: remove `host`")
        if Role.SITE_ADMIN in self.roles and not self.sites:
            raise ValueError("a site-admin rule needs `sites`: those it administers")
        if self.sites and not _POWERFUL & set(self.roles):
            raise ValueError("`sites` are for the roles site-admin and pilot")
        for subject, name in self.users.items():
            if not is_free_name(name):
                raise ValueError(
                    f"users: {name!r} for {subject!r}: a name is 1 to 64 of a-z 0-9 . _ -, begins with "
                    "a letter or digit, and does not end like a generated one (a dot and 16 letters)"
                )
        if _POWERFUL & set(self.roles) and not self.rule().names_somebody:
            raise ValueError(
                "it would give its roles to everybody known to an issuer: name subjects, groups, "
                "scopes or hosts"
            )
        return self

    def rule(self) -> Rule:
        """The rule as a domain value."""
        return Rule(
            name=self.name,
            method=Method(self.method),
            roles=frozenset(self.roles),
            issuers=Patterns(self.issuer),
            subjects=Patterns(self.subject),
            groups=Patterns(self.group),
            scopes=Patterns(self.scope),
            hosts=Patterns(self.host),
            sites=frozenset(self.sites),
            grants=self.grant_groups,
            users=self.users,
            user_claim=self.user_claim,
            # A rule that admits hosts by name lets none of them act for another.
            binds_nodes=bool(self.host) and self.nodes != "any",
            node_claim=self.node_claim,
            outlives=timedelta(hours=self.outlives_hours),
        )


class _File(_Table):
    issuer: tuple[IssuerTable, ...] = ()
    admit: tuple[RuleTable, ...] = ()
    revoked_tokens: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _unique("two issuers have the url", [issuer.url for issuer in self.issuer])
        _unique("two rules are called", [rule.name for rule in self.admit])
        _unique(
            "each issuer needs its own group_prefix, or their groups would mix; two have",
            [issuer.group_prefix for issuer in self.issuer],
        )
        for rule in self.admit:
            if rule.method == "token":
                self._check_issuers(rule)
        return self

    def _check_issuers(self, rule: RuleTable) -> None:
        patterns = Patterns(rule.issuer)
        matching = [issuer.url for issuer in self.issuer if patterns.match([issuer.url])]
        if not matching:
            raise ValueError(f"rule {rule.name!r}: its `issuer` matches no [[issuer]]")
        if rule.user_claim and len(matching) > 1:
            # Two issuers may each have a Jane.
            raise ValueError(
                f"rule {rule.name!r}: names from {rule.user_claim!r} are unique within one issuer only; "
                "set `issuer` so that it matches one"
            )


@dataclass(frozen=True, slots=True)
class AdmissionFile:
    """The content of the file: the rules, and the issuers by URL."""

    admission: Admission
    issuers: Mapping[str, IssuerTable]


class AdmissionFileError(Exception):
    """The file cannot be used; the text says what is wrong, and where."""


NOBODY = AdmissionFile(Admission(()), {})
"""Admits no certificate and no token: used when there is no admission file."""


def read_admission_file(path: Path) -> AdmissionFile:
    """Reads and checks the file. Paths in it are relative to its directory. Raises `AdmissionFileError`."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise AdmissionFileError(
                f"the admission file {path} has more than {MAX_FILE_BYTES:,} bytes"
            )
        parsed = _File.model_validate(tomllib.loads(content.decode()))
    except OSError as error:
        raise AdmissionFileError(
            f"cannot read the admission file {path}: {error.strerror}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AdmissionFileError(f"the admission file {path} is not TOML: {error}") from None
    except ValidationError as error:
        raise AdmissionFileError(_described(path, error)) from None
    _check_claims(parsed.admit, parsed.issuer)
    issuers = {issuer.url: _located(issuer, path.parent) for issuer in parsed.issuer}
    rules = [rule.rule() for rule in parsed.admit]
    return AdmissionFile(Admission(rules, parsed.revoked_tokens), issuers)


def _check_claims(rules: Sequence[RuleTable], issuers: Sequence[IssuerTable]) -> None:
    """Names from claims must come from one issuer and one claim for all rules, or they could collide."""
    sources = {
        (issuer.url, rule.user_claim)
        for rule in rules
        if rule.user_claim
        for issuer in issuers
        if Patterns(rule.issuer).match([issuer.url])
    }
    if len(sources) > 1:
        listed = "; ".join(f"{claim!r} of {url}" for url, claim in sorted(sources))
        raise AdmissionFileError(
            f"user names come from more than one claim ({listed}), so two people could get the same one; "
            "keep one user_claim, and let the server generate the other names"
        )


def _located(issuer: IssuerTable, directory: Path) -> IssuerTable:
    changes: dict[str, object] = {}
    if not issuer.is_remote:
        changes["jwks"] = str(directory / issuer.jwks.removeprefix("file://"))
    if issuer.jwks_ca is not None:
        changes["jwks_ca"] = directory / issuer.jwks_ca
    return issuer.model_copy(update=changes)


def _unique(what: str, values: Sequence[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{what} {value!r}")


def _described(path: Path, error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        # ("admit", 2, "subject", 0): people count from one.
        place = " ".join(
            str(part + 1 if isinstance(part, int) else part) for part in problem["loc"]
        )
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "there is no such key"
        lines.append(f"{path}: {place}: {message}" if place else f"{path}: {message}")
    return "\n".join(lines)
