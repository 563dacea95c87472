"""Reads the authorities that a server's certificate is checked against.

A directory of them, as /etc/grid-security/certificates is, is kept by programs that replace its files
every few hours: one that is missing, unreadable or damaged keeps nobody from a server that another one
vouches for.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_SUFFIXES = (".pem", ".0", ".1", ".crt")


def read_authorities(path: Path) -> tuple[list[bytes], list[str]]:
    """The certificates in a file or directory, in PEM, each once; and what was skipped, and why.

    Raises OSError for a file, and for a directory, that cannot be read at all.
    """
    # By their content: the hashed names of OpenSSL lead to the same files once more.
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
        skipped.append(f"{file}: holds no certificate")
    certificates = [pem for pem in all_there if pem not in found]
    if _is_good(b"\n".join(certificates)):
        found.update(dict.fromkeys(certificates))
        return
    # gRPC gives up on all that follow a damaged one.
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
