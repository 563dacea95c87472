"""What a worker node is called where nobody says so: its full host name, the same at each start."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

from pandawn_pilot.node.durable import replace_text

_REMEMBERED = "node-name"
"""In the cache's directory: the full name that its node had last."""
# What every machine may call itself: containers, and hosts whose own name stands behind it in /etc/hosts.
_ANYBODYS = frozenset(
    {"", "(none)", "localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}
)
_ANYBODYS_ENDS = (".localdomain", ".localdomain4", ".localdomain6", ".localhost")


class NoNodeNameError(Exception):
    """The machine has no name that tells it from others."""


def node_name(
    given: str | None,
    cache_dir: Path | None = None,
    *,
    full_name: Callable[[], str] = socket.getfqdn,
    short_name: Callable[[], str] = socket.gethostname,
) -> str:
    """The name under which a node's pilots register and its hooks speak, in lower case.

    A name that was given is taken as it is. Else, while the name service does not tell the full name, it is
    the one that `cache_dir` remembers. Raises NoNodeNameError where the machine is called localhost, as
    others are.
    """
    if given:
        return _canonical(given)
    names = [_canonical(full_name()), _canonical(short_name())]
    own = [name for name in names if not _is_anybodys(name)]
    if not own:
        raise NoNodeNameError(
            f"this machine is called {names[1] or 'nothing'}, as others may be: say with --node"
            " what this node is called, a name that no other has"
        )
    name = own[0]
    return name if cache_dir is None else _same_as_before(name, cache_dir / _REMEMBERED)


def _same_as_before(name: str, remembered: Path) -> str:
    # A cache that is no good for this is no reason not to start; others will speak of it.
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if "." in name:
            remembered.parent.mkdir(parents=True, exist_ok=True)
            replace_text(remembered, name + "\n")
        else:
            before = _canonical(remembered.read_text(encoding="utf-8"))
            if before.startswith(f"{name}."):
                return before
    return name


def _canonical(name: str) -> str:
    return name.strip().lower().rstrip(".")


def _is_anybodys(name: str) -> bool:
    return name in _ANYBODYS or name.endswith(_ANYBODYS_ENDS)
