"""Where the server listens, and what each address requires of its callers: entries of the setting `listen`.

An entry is `HOST:PORT` or `unix:PATH`, with options after a question mark:

    auth=x509+token+host         what callers may show, tried in this order; host last
    auth=token+local             local: a caller without a credential is the operator, on this machine only
    tls=on|off|proxy             proxy: a declared proxy before the server terminates TLS
    proxies=refuse|accept        whether certificates may be RFC 3820 proxies
    forwarded=on|off             believe trusted proxies when they name their clients
    mode=0660                    mode of the socket file of unix:PATH
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address

from pandawn_server.domain.access.principals import Method

AUTH_METHODS = (Method.X509, Method.TOKEN, Method.HOST, Method.LOCAL)
"""What `auth=` may name."""

DEFAULT_SOCKET_MODE = 0o600
"""Only the user who runs the server may open its socket file."""

_MAX_SOCKET_PATH_BYTES = 107
_WORLD = 0o007
_OPTIONS = ("auth", "tls", "proxies", "forwarded", "mode")


class Tls(Enum):
    """Where TLS ends."""

    OFF = "off"
    ON = "on"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class Listener:
    """One address; `address` is what gRPC listens on, `methods` what callers may show, in order.

    Without methods every caller is the operator; that is allowed only where nothing but this machine can connect.
    """

    address: str
    methods: tuple[Method, ...] = ()
    tls: Tls = Tls.OFF
    is_forwarded: bool = False
    socket_mode: int = DEFAULT_SOCKET_MODE
    accepts_proxies: bool = False

    @property
    def socket_path(self) -> str | None:
        """Path of the socket file; None for a network address."""
        scheme, _, path = self.address.partition(":")
        return path if scheme == "unix" else None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect, as far as the address shows."""
        if self.socket_path is not None:
            return True
        try:
            return ip_address(self.address.rpartition(":")[0].strip("[]")).is_loopback
        except ValueError:
            # A host name may resolve to another address tomorrow.
            return False

    @property
    def admits_this_machine(self) -> bool:
        """Whether a caller without a credential is the operator."""
        return not self.methods or Method.LOCAL in self.methods

    def described(self) -> str:
        """What the address takes, for people."""
        shown = [method.value for method in self.methods if method is not Method.LOCAL]
        parts = [f"takes {', '.join(shown)}"] if shown else []
        if self.admits_this_machine:
            others = "other callers" if shown else "callers on this machine"
            parts.append(f"{others} are operators")
        in_the_clear = "" if self.is_local else ": session tokens travel in the clear"
        tls = {"off": f"no TLS{in_the_clear}", "on": "TLS", "proxy": "TLS ends at a proxy"}
        parts.append(tls[self.tls.value])
        if self.accepts_proxies:
            parts.append("certificates may be proxies")
        if self.is_forwarded:
            parts.append("trusted proxies name their clients")
        if self.socket_path is not None:
            parts.append(f"mode {self.socket_mode:04o}")
        return "; ".join(parts)


def parse_listener(entry: str) -> Listener:
    """Parses one entry. Raises `ValueError` with what is wrong and what to do."""
    address, mark, text = entry.partition("?")
    if address.startswith("unix:"):
        _check_socket_path(entry, address.removeprefix("unix:"))
    else:
        _check_address(entry, address)
    options = _options(entry, text) if mark else {}
    listener = Listener(
        address,
        _methods(entry, options.get("auth", "")),
        _tls(entry, options.get("tls", "off")),
        _switch(entry, "forwarded", options.get("forwarded", "off")),
        _mode(entry, options.get("mode", f"{DEFAULT_SOCKET_MODE:o}")),
        _accepts_proxies(entry, options.get("proxies", "refuse")),
    )
    if "mode" in options and listener.socket_path is None:
        raise ValueError(f"{entry!r}: mode is for unix:PATH only")
    _check_safe(entry, listener)
    return listener


def _check_socket_path(entry: str, path: str) -> None:
    if not path.startswith("/"):
        raise ValueError(f"{entry!r}: write the full path of the socket, unix:/PATH")
    if len(path.encode()) > _MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"{entry!r}: the path has more than {_MAX_SOCKET_PATH_BYTES} bytes")


def _check_address(entry: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"{entry!r} is not HOST:PORT or unix:PATH")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{entry!r}: write an IPv6 address in brackets, [::1]:25443")


def _options(entry: str, text: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part in text.split("&"):
        name, _, value = part.partition("=")
        if name not in _OPTIONS:
            raise ValueError(f"{entry!r}: there is no option {name!r}; use {', '.join(_OPTIONS)}")
        if name in found:
            raise ValueError(f"{entry!r}: {name} is given twice")
        found[name] = value
    return found


def _methods(entry: str, value: str) -> tuple[Method, ...]:
    if not value:
        return ()
    known = {method.value: method for method in AUTH_METHODS}
    names = value.split("+")
    for name in names:
        if name not in known:
            raise ValueError(f"{entry!r}: auth takes {'+'.join(known)}, not {name!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{entry!r}: auth names a method twice")
    if Method.HOST.value in names[:-1]:
        raise ValueError(
            f"{entry!r}: every caller has an address, so methods after host in auth are never tried; "
            "put host last"
        )
    if {Method.HOST.value, Method.LOCAL.value} <= set(names):
        raise ValueError(
            f"{entry!r}: every caller has an address, so local would never apply; remove host or local"
        )
    return tuple(known[name] for name in names)


def _tls(entry: str, value: str) -> Tls:
    try:
        return Tls(value)
    except ValueError:
        raise ValueError(f"{entry!r}: tls is on, off or proxy, not {value!r}") from None


def _switch(entry: str, name: str, value: str) -> bool:
    if value not in {"on", "off"}:
        raise ValueError(f"{entry!r}: {name} is on or off, not {value!r}")
    return value == "on"


def _accepts_proxies(entry: str, value: str) -> bool:
    if value not in {"refuse", "accept"}:
        raise ValueError(f"{entry!r}: proxies is refuse or accept, not {value!r}")
    return value == "accept"


def _mode(entry: str, value: str) -> int:
    try:
        mode = int(value, 8)
    except ValueError:
        mode = -1
    # The server's user must be able to open it, and a socket is not executed.
    if mode & ~0o666 or mode & 0o600 != 0o600:
        raise ValueError(f"{entry!r}: mode is octal, from 0600 to 0666, not {value!r}")
    return mode


def _check_safe(entry: str, listener: Listener) -> None:
    """Raises `ValueError` if an entry would admit strangers, or let them read tokens."""
    if listener.admits_this_machine:
        if not listener.is_local:
            raise ValueError(
                f"{entry!r}: everybody who can connect would be the operator; say what callers must "
                "show, as in '?auth=token&tls=on', or listen on 127.0.0.1, [::1] or unix:PATH"
            )
        if listener.is_forwarded or listener.tls is Tls.PROXY:
            raise ValueError(
                f"{entry!r}: everybody behind the proxy would be the operator; say what callers "
                "must show, as in '?auth=token'"
            )
        if listener.socket_path is not None and listener.socket_mode & _WORLD:
            raise ValueError(
                f"{entry!r}: every user of this machine would be the operator; use mode=0660 and a "
                "group, or say what callers must show"
            )
    if Method.X509 in listener.methods and listener.tls is not Tls.ON:
        raise ValueError(f"{entry!r}: TLS carries certificates; auth=x509 needs tls=on")
    if listener.accepts_proxies and Method.X509 not in listener.methods:
        raise ValueError(
            f"{entry!r}: only certificates can be proxies; proxies=accept needs auth=x509"
        )
    if Method.TOKEN in listener.methods and listener.tls is Tls.OFF and not listener.is_local:
        raise ValueError(
            f"{entry!r}: tokens would travel in the clear, and anybody could steal them; add tls=on, or tls=proxy "
            "if a proxy before the server terminates TLS"
        )
    if listener.socket_path is not None:
        if listener.tls is Tls.ON:
            raise ValueError(f"{entry!r}: a socket file cannot have TLS; remove tls=on")
        if Method.HOST in listener.methods and not listener.is_forwarded:
            raise ValueError(
                f"{entry!r}: callers of a socket file have no address; auth=host needs forwarded=on there"
            )
