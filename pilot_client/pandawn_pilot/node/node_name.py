"""The default name of a worker node: its full host name, the same at each start."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

from pandawn_pilot.node.durable import replace_text

_REMEMBERED = "node-name"
"""File in the cache's directory with the node's last full name."""
# Names that identify no machine: of containers, and of hosts with such an alias first in /etc/hosts.
_ANYBODYS = frozenset(
    {"", "(none)", "localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}
)
_ANYBODYS_ENDS = (".localdomain", ".localdomain4", ".localdomain6", ".localhost")


class NoNodeNameError(Exception):
    """The machine has no unique name."""


def node_name(
    given: str | None,
    cache_dir: Path | None = None,
    *,
    full_name: Callable[[], str] = socket.getfqdn,
    short_name: Callable[[], str] = socket.gethostname,
) -> str:
    """The name under which a node's pilots register and its hooks report, in lower case.

    A given name is used unchanged. Else, if the name service does not know the full name now, the name
    stored in `cache_dir` is used. Raises NoNodeNameError if the machine is called localhost.
    """
    if given:
        return _canonical(given)
    names = [_canonical(full_name()), _canonical(short_name())]
    own = [name for name in names if not _is_anybodys(name)]
    if not own:
        raise NoNodeNameError(
            f"this machine's name, {names[1] or 'empty'}, is not unique; give the node a unique name"
            " with --node"
        )
    name = own[0]
    return name if cache_dir is None else _same_as_before(name, cache_dir / _REMEMBERED)


def _same_as_before(name: str, remembered: Path) -> str:
    # An unusable cache is reported elsewhere, and must not prevent the start.
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
