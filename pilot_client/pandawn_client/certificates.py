"""Certificates: the client's own with its key, and the authorities that verify a server's.

Programs replace the files of a directory of authorities, such as /etc/grid-security/certificates, every few
hours. So missing, unreadable and damaged files are skipped: another authority may verify the server.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path

from pandawn_client.errors import CredentialError
from pandawn_client.secret_files import read_secret

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL
)
_SUFFIXES = (".pem", ".0", ".1", ".crt")


def read_pair(cert: Path, key: Path, *, for_group: bool = False) -> tuple[bytes, bytes]:
    """Reads the chain and the key, in PEM. Raises CredentialError.

    Splits the file of a proxy, which has both: gRPC accepts no other content in either part.
    """
    content = read_secret(key, "the key", for_group=for_group)
    chain = content if cert == key else _read(cert)
    certificates, keys = _CERTIFICATE.findall(chain), _KEY.findall(content)
    if not certificates:
        raise CredentialError("NO_CERTIFICATE", f"{cert} contains no certificate in PEM")
    if not keys:
        raise CredentialError(
            "NO_KEY", f"{key} contains no private key in PEM", remedies=["give its file with --key"]
        )
    if b"ENCRYPTED" in keys[0]:
        raise CredentialError(
            "KEY_ENCRYPTED",
            f"the key in {key} has a pass phrase, which cannot be entered here",
            remedies=["create a proxy (voms-proxy-init -rfc), and give it with --cert"],
        )
    return b"\n".join(certificates) + b"\n", keys[0] + b"\n"


def find_authorities(
    named: tuple[str, str] | None, environ: Mapping[str, str]
) -> tuple[bytes | None, tuple[str, ...]]:
    """The trusted authorities in PEM (None: those of gRPC), and what was skipped, with reasons.

    `named` is a file or directory, and the option or variable that names it. Raises CredentialError.
    """
    if named is None and environ.get("X509_CERT_DIR"):
        named = (environ["X509_CERT_DIR"], "the variable X509_CERT_DIR")
    if named is None:
        # The system's authorities; an institute may have added its own.
        system: str | None = ssl.get_default_verify_paths().cafile
        if system is None:
            return None, ()
        named = (system, "the system")
    path = Path(named[0])
    try:
        found, skipped = read_authorities(path)
    except OSError as error:
        raise CredentialError(
            "CREDENTIAL_UNREADABLE",
            f"cannot read the authorities in {path}",
            details=[error.strerror or ""],
        ) from error
    if not found:
        raise CredentialError(
            "NO_AUTHORITIES",
            f"{path}, from {named[1]}, contains no certificate of an authority",
            details=skipped,
        )
    return b"\n".join(found) + b"\n", tuple(skipped)


def read_authorities(path: Path) -> tuple[list[bytes], list[str]]:
    """The certificates in a file or directory, in PEM, without duplicates; and what was skipped, with reasons.

    Raises OSError for a file or directory that cannot be read at all.
    """
    # Keyed by content, as OpenSSL's hashed names are links to the same files.
    found: dict[bytes, None] = {}
    skipped: list[str] = []
    if not path.is_dir():
        _take(path, path.read_bytes(), found, skipped)
        return list(found), skipped
    for file in sorted(item for item in path.iterdir() if item.suffix in _SUFFIXES):
        try:
            content = file.read_bytes()
        except OSError as error:
            skipped.append(f"{file}: {error.strerror}")
            continue
        _take(file, content, found, skipped)
    return list(found), skipped


def _take(file: Path, content: bytes, found: dict[bytes, None], skipped: list[str]) -> None:
    all_there = _CERTIFICATE.findall(content)
    if not all_there:
        skipped.append(f"{file}: contains no certificate")
    certificates = [pem for pem in all_there if pem not in found]
    if _is_good(b"\n".join(certificates)):
        found.update(dict.fromkeys(certificates))
        return
    # gRPC ignores all that follow a damaged one, so drop those that are damaged.
    good = [pem for pem in certificates if _is_good(pem)]
    found.update(dict.fromkeys(good))
    skipped.append(f"{file}: {len(certificates) - len(good)} certificates in it are damaged")


def _is_good(certificates: bytes) -> bool:
    if not certificates:
        return True
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=certificates.decode("ascii"))
    except (ssl.SSLError, ValueError):
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialError(
            "CREDENTIAL_UNREADABLE",
            f"cannot read the certificate {path}",
            details=[error.strerror or ""],
        ) from error
