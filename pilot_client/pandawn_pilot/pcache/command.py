"""Runs a site's pcache for the pilot."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pandawn_client.file_version import VersionKind, parse_version
from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.pcache.fetch import CHECKSUM_VARIABLE, READER_VARIABLE, SIZE_VARIABLE
from pandawn_pilot.pcache.layout import Invocation, Place, read_options
from pandawn_pilot.stop import Stop, StoppedError
from pandawn_transports import local_path
from pandawn_transports.account import Account

TRANSFERRED, HIT, TRANSFERRED_LATE = 0, 1, 2
_OWN_COPIER = (sys.executable, "-m", "pandawn_pilot.pcache.fetch")
# Interval of checks whether the job was stopped.
_POLL_SECONDS = 0.2
# Only the end of its output is shown.
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Outcome:
    """The result of a run: its exit status (negative: a signal), and the end of its output."""

    status: int
    output: str


class PcacheCommand:
    """A site's pcache with its options, as in `pcache.py -s /scratch -m 80%`.

    The words before the first option are the program. A copy program may follow the options; without one,
    pcache copies with the pilot's transports. Raises ValueError for a command that cannot be parsed.
    """

    def __init__(self, text: str) -> None:
        words = shlex.split(text)
        first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
        self._program = words[:first]
        asked = read_options(words[first:])
        if not self._program or asked is None:
            raise ValueError(
                f"{text!r} is not a pcache command; write it like 'pcache.py -s /scratch -m 80%'"
            )
        self._options = words[first : len(words) - len(asked.words)]
        self._copier = asked.words
        self._asked: Invocation = asked
        self.place = Place(asked.scratch_dir)

    def entry(self, url: str) -> str | None:
        """The path of a URL's entry below CACHE/; None if it has none."""
        return self.place.entry(_source(url), self._asked.storage_root)

    def may_bring(self, url: str, wanted: CachedFile, reader: Account | None) -> bool:
        """Whether pcache may transfer a file for `reader`, which may have fewer rights than the pilot.

        A site's own copy program reads with the pilot's rights. Then the content must prove that it is the
        file that the user named.
        """
        is_own_right = reader is None or not self._copier or local_path(url) is None
        return is_own_right or parse_version(wanted.version).kind is VersionKind.SHA256

    def bring(
        self, url: str, wanted: CachedFile, destination: str, reader: Account | None, stop: Stop
    ) -> Outcome:
        """Transfers a file by pcache to a path below the scratch directory. Raises StoppedError, OSError."""
        guid = [f"--guid={wanted.guid}"] if wanted.guid else []
        copier = self._copier or _OWN_COPIER
        environment = {
            **os.environ,
            SIZE_VARIABLE: str(wanted.size_bytes),
            CHECKSUM_VARIABLE: wanted.checksum,
            READER_VARIABLE: "" if reader is None else f"{reader.uid}:{reader.gid}",
        }
        words = [*guid, *copier, _source(url), destination]
        return self._run(words, environment, destination, stop)

    def evict(self, url: str, destination: str, stop: Stop) -> None:
        """Makes pcache remove its copy of a file. Raises StoppedError, OSError.

        pcache removes it before a forced transfer; the copy program given here transfers nothing.
        """
        words = ["--force", "--retry=0", "true", _source(url), destination]
        self._run(words, dict(os.environ), destination, stop)

    def _run(
        self, words: Sequence[str], environment: dict[str, str], destination: str, stop: Stop
    ) -> Outcome:
        path = Path(f"{destination}.output")
        # Not a pipe: pcache's cleaner runs on and may keep it open.
        try:
            with path.open("wb") as output:
                process = subprocess.Popen(
                    [*self._program, *self._options, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
            status = _wait(process, stop)
            text = path.read_text(encoding="utf-8", errors="replace").strip()
            return Outcome(status, text[-_SHOWN_CHARACTERS:])
        finally:
            path.unlink(missing_ok=True)


def _wait(process: subprocess.Popen[bytes], stop: Stop) -> int:
    while True:
        try:
            return process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            try:
                stop.check()
            except StoppedError:
                # Also kills its copy program; the cleaner has its own session.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise


def _source(url: str) -> str:
    """A URL for copy programs; the plain path for a file of a mounted file system."""
    path = local_path(url)
    return url if path is None else str(path)
