"""Says in one sentence why TLS does not come about, which gRPC hides behind its own words.

The handshake is tried once more, by Python's own TLS, with the same authorities and the same certificate.
"""

from __future__ import annotations

import os
import socket
import ssl

from pandawn_client.credentials import Credentials

_TIMEOUT_SECONDS = 3.0
# The beginning of HTTP/2: whoever speaks it answers, and what TLS 1.3 finds wrong with a client comes then.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})


def tls_trouble(server: str, credentials: Credentials | None) -> str:
    """What is wrong with TLS at HOST:PORT; empty for nothing, or where nobody listens."""
    if credentials is None or not credentials.tls or server.startswith("unix:"):
        return ""
    host, _, port = server.rpartition("/")[2].rpartition(":")
    host = host.strip("[]")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    try:
        if credentials.root is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cadata=credentials.root.decode("ascii", "replace"))
        if credentials.chain and credentials.key:
            _show(context, credentials.chain + credentials.key)
    except (ssl.SSLError, OSError, ValueError) as error:
        return f"certificate and key do not go together: {_words(error)}"
    try:
        with (
            socket.create_connection((host, int(port)), _TIMEOUT_SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=host) as tls,
        ):
            tls.sendall(_PREFACE)
            if tls.recv(1) or not credentials.chain:
                return ""
            return (
                "the server does not take our certificate: see whether it is still valid, and of an"
                " authority that is known there"
            )
    except ssl.SSLCertVerificationError as error:
        return f"the server's certificate is not good: {error.verify_message}"
    except ssl.SSLError as error:
        if error.reason in _NO_TLS:
            return "nobody speaks TLS there"
        return f"TLS was broken off: {_words(error)}"
    except (OSError, ValueError):
        return ""


def _show(context: ssl.SSLContext, pem: bytes) -> None:
    # It takes files only, and secrets are not written to disks.
    descriptor = os.memfd_create("certificate")
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(pem)
        stream.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: b"")


def _words(error: Exception) -> str:
    """`SSLV3_ALERT_CERTIFICATE_EXPIRED` as people read it."""
    reason = getattr(error, "reason", None) or str(error)
    return str(reason).replace("_", " ").lower().rpartition("alert ")[2]
