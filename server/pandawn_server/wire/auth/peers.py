"""Addresses of callers, as gRPC reports them and as trusted proxies forward them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAX_FORWARDED_CHARACTERS = 1024


def address_of(peer: str) -> Address | None:
    """The address in gRPC's name of a peer; None for a socket file or anything else.

    An IPv4 address in IPv6 form (`::ffff:1.2.3.4`) is returned as IPv4.
    """
    kind, _, rest = peer.partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return None
    return parse_address(unquote(rest).rpartition(":")[0].strip("[]"))


def parse_address(text: str) -> Address | None:
    """Parses an address; None for anything else, and for an address with a zone (`%eth0`)."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            return None
        return found.ipv4_mapped or found
    return found


def peer_text(address: Address) -> str:
    """An address without a port, in gRPC's form."""
    return f"ipv4:{address}:0" if address.version == 4 else f"ipv6:[{address}]:0"


def forwarded_peer(
    trusted: Sequence[Network], header: str, *, trust_socket: bool
) -> Callable[[str, Mapping[str, str]], str]:
    """Makes the function that returns whom a peer speaks for: itself, or a client of a trusted proxy.

    The header is read from its end: each proxy appends whom it saw, and only the last entries come from trusted
    proxies. If a trusted proxy names nobody, or nonsense, the result is empty: the proxy itself must not pass as
    the client. `trust_socket` also trusts all that comes through a socket file.
    """

    def is_trusted(address: Address) -> bool:
        return any(address.version == n.version and address in n for n in trusted)

    def peer_of(peer: str, metadata: Mapping[str, str]) -> str:
        nearest = address_of(peer)
        if nearest is None:
            if not (trust_socket and peer.startswith("unix:")):
                return peer
        elif not is_trusted(nearest):
            return peer
        forwarded = metadata.get(header, "")
        if not forwarded or len(forwarded) > _MAX_FORWARDED_CHARACTERS:
            return ""
        for word in reversed(forwarded.split(",")):
            address = parse_address(word.strip().strip("[]"))
            if address is None:
                return ""
            if not is_trusted(address):
                return peer_text(address)
        return ""

    return peer_of
