"""Detects another cache under the same node name; one of the two is then not reported.

In the catalog a node has one cache. Two pilots with separate directories would replace each other's
inventory for ever. An epoch that we replaced and that returns belongs to such a cache; a flush, or an
earlier epoch of ours, does not return. The cache with the larger epoch yields, by the same rule on both
sides.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pandawn_pilot.logs import Log
from pandawn_pilot.node.durable import replace_text

FORMAT_VERSION = 1
# The cache that yields checks again after this time whether the other is gone.
LOOK_AGAIN_SECONDS = 300.0
# The other one replaces a cache that does not yield at most this often.
PERSIST_SECONDS = 60.0


@dataclass
class _Known:
    """The state shared by all pilots of our cache. Times are by time.time()."""

    # Epochs found in place of ours: how often we replaced each, and when last.
    replaced: dict[str, tuple[int, float]] = field(default_factory=dict)
    # Our epoch, and the one that it yields to; empty if none.
    ours: str = ""
    other: str = ""
    since: float = 0.0


class Rivals:
    """Stores in a file which other caches use the name of `node`. Raises OSError."""

    def __init__(self, path: Path, node: str, log: Log) -> None:
        self._path = path
        self._node = node
        self._log = log
        self._warned = ""

    def gives_way(self, epoch: int) -> bool:
        """Whether our cache, in this epoch, yields and must not be reported."""
        known = self._read()
        return known.other != "" and known.ours == _text(epoch)

    def is_time_to_look(self) -> bool:
        """Whether it is time to check if the other cache is gone."""
        return not 0 <= time.time() - self._read().since < LOOK_AGAIN_SECONDS

    def meet(self, epoch: int, found: int) -> bool:
        """Whether our cache may replace the one in the catalog, of epoch `found`."""
        known, other, now = self._read(), _text(found), time.time()
        count, last = known.replaced.get(other, (0, 0.0))
        if count:
            self._warn(other, epoch, gives_way=found < epoch)
        if count and found < epoch:
            self._write(_Known(known.replaced, _text(epoch), other, now))
            return False
        # The other must see ours twice before it yields.
        if count > 1 and 0 <= now - last < PERSIST_SECONDS:
            return False
        self._write(_Known({**known.replaced, other: (count + 1, now)}))
        return True

    def clear(self) -> None:
        """Records that the other cache is gone."""
        if self._read().other:
            self._warned = ""
            self._log.info("the other cache of node %s is gone, reporting ours again", self._node)
            self._write(_Known())

    def still(self, epoch: int, found: int) -> None:
        """Records that the other cache is still there."""
        self._write(_Known(self._read().replaced, _text(epoch), _text(found), time.time()))

    def _warn(self, other: str, epoch: int, *, gives_way: bool) -> None:
        if self._warned == other:
            return
        self._warned = other
        self._log.warning(
            "another cache is reported under the name of node %s (its epoch is %s, ours %s): use one"
            " --cache-dir for all pilots of a node, or a different --node for each; %s",
            self._node,
            other,
            _text(epoch),
            "our files are not reported" if gives_way else "ours replaces it",
        )

    def _read(self) -> _Known:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if document.pop("version") != FORMAT_VERSION:
                return _Known()
            return _Known(**document)
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return _Known()

    def _write(self, known: _Known) -> None:
        replace_text(self._path, json.dumps({"version": FORMAT_VERSION, **asdict(known)}))


def _text(epoch: int) -> str:
    return f"{epoch:016x}"
