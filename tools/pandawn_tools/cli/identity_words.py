"""What a user can do when the server does not know or not take them."""

from collections.abc import Mapping

_NEW_TOKEN = "get a new token, and hand it to: pandawn login"  # noqa: S105 (a sentence)
_NEW_CERTIFICATE = (
    "get a new one: a proxy by voms-proxy-init -rfc, a certificate from your authority"
)
_ASK = "send what `pandawn whoami` says, or said above, to whoever runs the server"

IDENTITY_REMEDIES: Mapping[str, str] = {
    "CREDENTIALS_REQUIRED": "show who you are, at an address for users: pandawn login keeps a token; --cert and --key "
    "(or X509_USER_PROXY) name a certificate",
    "TOKEN_EXPIRED": _NEW_TOKEN,
    "TOKEN_NOT_YET_VALID": "compare the clocks of this machine, the issuer and the server",
    "TOKEN_MALFORMED": _NEW_TOKEN,
    "TOKEN_PROFILE_UNKNOWN": _ASK,
    "BAD_SIGNATURE": _NEW_TOKEN,
    "UNKNOWN_KEY": "try again in a minute; then get a new token, and hand it to: pandawn login",
    "UNKNOWN_ISSUER": "get a token of an issuer that this server trusts; whoever runs it knows which",
    "ALGORITHM_NOT_ALLOWED": _ASK,
    "WRONG_AUDIENCE": "ask your issuer for a token with that audience, and hand it to: pandawn login",
    "SCOPE_MISSING": "ask your issuer for a token with that scope, and hand it to: pandawn login",
    "ROLE_MISSING": _ASK,
    "NOT_ADMITTED": _ASK,
    "NO_USER_NAME": _ASK,
    "USER_NAME_TAKEN": _ASK,
    "CERTIFICATE_EXPIRED": _NEW_CERTIFICATE,
    "CERTIFICATE_REVOKED": _NEW_CERTIFICATE,
    "CERTIFICATE_INVALID": _NEW_CERTIFICATE,
    "PROXY_INVALID": _NEW_CERTIFICATE,
    "LIMITED_PROXY": "make a full proxy: voms-proxy-init -rfc, without -limited",
    "REVOCATION_LIST_EXPIRED": "tell whoever runs the server",
}
"""By the reason that the server gives."""
