"""Remembers the last import of a source, so that the next one need not repeat it.

An import may run every few minutes, and CRIC changes every few hours. The file is small: the version
of the list, and the revision of the configuration after the import.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pandawn_tools.cric.source import Validators

_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """A successful import: the list that it read, and the revision after it."""

    digest: str
    revision: int
    etag: str = ""
    last_modified: str = ""

    @property
    def validators(self) -> Validators:
        """The web server's validators of that version of the list."""
        return Validators(self.etag, self.last_modified)


def memory_file(*parts: str) -> Path:
    """Returns the file for imports with these properties (source, server, options)."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    name = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return Path(home).expanduser() / "pandawn" / f"cric-{name}.json"


def recall(path: Path) -> Memory | None:
    """Returns the last import; None if the file is missing or cannot be read."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(_MAX_BYTES))
        made = Memory(**value)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    texts = (made.digest, made.etag, made.last_modified)
    sound = all(isinstance(text, str) for text in texts) and isinstance(made.revision, int)
    return made if sound else None


def remember(path: Path, memory: Memory) -> None:
    """Writes the file; if that fails, the next import only takes longer."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(asdict(memory)))
        temporary.replace(path)
