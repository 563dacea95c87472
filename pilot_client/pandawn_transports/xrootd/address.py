"""URLs of XRootD: `root://HOST[:PORT]//path`, taken literally as XRootD's own tools do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

SCHEME = "root"
# What the protocol uses when no port is named.
DEFAULT_PORT = 1094

# A name, an IPv4 address, or an IPv6 address in brackets. No user name: credentials are not in URLs.
_SERVER = re.compile(
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?"
)


@dataclass(frozen=True)
class Server:
    """An XRootD server or redirector."""

    host: str
    port: int = DEFAULT_PORT

    @property
    def url(self) -> str:
        """The server's URL for `xrdfs`."""
        return f"{SCHEME}://{self.host}:{self.port}"

    def url_of(self, path: str) -> str:
        """URL of an absolute path on the server."""
        return f"{self.url}/{path}"


@dataclass(frozen=True)
class Location:
    """An absolute path on a server. There is no percent-encoding: `%20` is three characters of a name."""

    server: Server
    path: str

    @property
    def url(self) -> str:
        """The location's URL for `xrdcp`."""
        return self.server.url_of(self.path)

    def __str__(self) -> str:
        return self.url


def parse_server(text: str) -> Server:
    """Parses `root://HOST[:PORT]`, with or without trailing slashes. Raises ValueError."""
    scheme, _, rest = text.partition("://")
    if scheme != SCHEME:
        raise ValueError(f"{text!r} does not begin with root://")
    match = _SERVER.fullmatch(rest.rstrip("/"))
    if match is None or not 0 < int(match["port"] or DEFAULT_PORT) < 2**16:
        raise ValueError(f"{text!r} is not a server; write it like root://node.example.org:1094")
    return Server(match["host"].lower(), int(match["port"] or DEFAULT_PORT))


def parse_location(text: str) -> Location:
    """Parses `root://HOST[:PORT]//path`. Raises ValueError."""
    server, slashes, path = text.removeprefix(f"{SCHEME}://").partition("//")
    if not text.startswith(f"{SCHEME}://") or not slashes or not path:
        raise ValueError(
            f"{text!r} names no file on an XRootD server; it should look like"
            " root://node.example.org:1094//data/name, with two slashes before the path"
        )
    clean = clean_path(f"/{path}")
    return Location(parse_server(f"{SCHEME}://{server}"), clean)


def clean_path(path: str) -> str:
    """An absolute path without double and trailing slashes. Raises ValueError."""
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not absolute")
    if "?" in path:
        raise ValueError(
            f"{path!r}: XRootD treats the text after a question mark as options, not as a name"
        )
    if ".." in path.split("/"):
        raise ValueError(f"{path!r} must not have '..' path parts")
    return str(PurePosixPath("/" + path.lstrip("/")))
