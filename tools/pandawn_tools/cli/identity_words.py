"""Advice for users whom the server does not recognize or accept."""

from collections.abc import Mapping

_NEW_TOKEN = "get a new token and store it: pandawn login"  # noqa: S105 (a sentence)
_NEW_CERTIFICATE = (
    "get a new one: a proxy with voms-proxy-init -rfc, a certificate from your authority"
)
_ASK = "send the output of `pandawn whoami`, or the lines above, to the operator of the server"

IDENTITY_REMEDIES: Mapping[str, str] = {
    "CREDENTIALS_REQUIRED": "log in: pandawn login stores a token; --cert and --key (or X509_USER_PROXY) name a "
    "certificate; and use the server's address for users",
    "TOKEN_EXPIRED": _NEW_TOKEN,
    "TOKEN_NOT_YET_VALID": "compare the clocks of this machine, the issuer and the server",
    "TOKEN_MALFORMED": _NEW_TOKEN,
    "TOKEN_PROFILE_UNKNOWN": _ASK,
    "BAD_SIGNATURE": _NEW_TOKEN,
    "UNKNOWN_KEY": "try again in a minute; then get a new token and store it: pandawn login",
    "UNKNOWN_ISSUER": "get a token from an issuer that this server trusts; its operator knows which",
    "ALGORITHM_NOT_ALLOWED": _ASK,
    "WRONG_AUDIENCE": "ask your issuer for a token with that audience and store it: pandawn login",
    "SCOPE_MISSING": "ask your issuer for a token with that scope and store it: pandawn login",
    "ROLE_MISSING": _ASK,
    "NOT_ADMITTED": _ASK,
    "NO_USER_NAME": _ASK,
    "USER_NAME_TAKEN": _ASK,
    "CERTIFICATE_EXPIRED": _NEW_CERTIFICATE,
    "CERTIFICATE_REVOKED": _NEW_CERTIFICATE,
    "CERTIFICATE_INVALID": _NEW_CERTIFICATE,
    "PROXY_INVALID": _NEW_CERTIFICATE,
    "LIMITED_PROXY": "make a full proxy: voms-proxy-init -rfc, without -limited",
    "REVOCATION_LIST_EXPIRED": "tell the operator of the server",
}
"""By the reason that the server gives."""
