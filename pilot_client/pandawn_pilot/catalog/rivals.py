"""Another cache under our node's name: noticed, and one of the two is not reported.

To the catalog a node has one cache. Two pilots of a machine with a directory each would replace each
other's inventory without end. What we have replaced and is there again is such a cache; a flush, or
an earlier life of ours, is not heard of twice. The cache with the larger epoch gives way, on both
sides by the same rule.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pandawn_pilot.logs import Log
from pandawn_pilot.node.durable import replace_text

FORMAT_VERSION = 1
# Who has given way looks again after this: the other may be gone.
LOOK_AGAIN_SECONDS = 300.0
# Who has not, and meets one that does not give way either, replaces it no more often than this.
PERSIST_SECONDS = 60.0


@dataclass
class _Known:
    """What all pilots of our cache know. Times are by time.time()."""

    # Epochs that were there when ours should have been: how often we replaced them, and when last.
    replaced: dict[str, tuple[int, float]] = field(default_factory=dict)
    # Ours, and the one that it gives way to; empty: to none.
    ours: str = ""
    other: str = ""
    since: float = 0.0


class Rivals:
    """Keeps, in a file, what is known of other caches under the name of `node`. Raises OSError."""

    def __init__(self, path: Path, node: str, log: Log) -> None:
        self._path = path
        self._node = node
        self._log = log
        self._told = ""

    def gives_way(self, epoch: int) -> bool:
        """Whether our cache, in that epoch, is not to be reported, nor spoken of."""
        known = self._read()
        return known.other != "" and known.ours == _text(epoch)

    def is_time_to_look(self) -> bool:
        """Whether it should be found out if the other cache is still there."""
        return not 0 <= time.time() - self._read().since < LOOK_AGAIN_SECONDS

    def meet(self, epoch: int, found: int) -> bool:
        """Whether our cache may take the place of the one found in the catalog, of epoch `found`."""
        known, other, now = self._read(), _text(found), time.time()
        count, last = known.replaced.get(other, (0, 0.0))
        if count:
            self._tell(other, epoch, gives_way=found < epoch)
        if count and found < epoch:
            self._write(_Known(known.replaced, _text(epoch), other, now))
            return False
        # The other has to see ours twice before it gives way.
        if count > 1 and 0 <= now - last < PERSIST_SECONDS:
            return False
        self._write(_Known({**known.replaced, other: (count + 1, now)}))
        return True

    def clear(self) -> None:
        """Notes that the other cache is gone."""
        if self._read().other:
            self._told = ""
            self._log.info("our cache is the one of node %s again", self._node)
            self._write(_Known())

    def still(self, epoch: int, found: int) -> None:
        """Notes that the other cache is still there."""
        self._write(_Known(self._read().replaced, _text(epoch), _text(found), time.time()))

    def _tell(self, other: str, epoch: int, *, gives_way: bool) -> None:
        if self._told == other:
            return
        self._told = other
        self._log.warning(
            "another cache is reported under the name of node %s (its epoch is %s, ours %s): give all"
            " pilots of a node one --cache-dir, or each a --node of its own; %s",
            self._node,
            other,
            _text(epoch),
            "our files are not reported" if gives_way else "ours takes its place",
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
