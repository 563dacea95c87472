"""The directory that a pilot works in.

lock             held as long as the pilot lives
pilot.json       the pilot's registration at the server, while it lasts; for the pilot's eyes
jobs/<job>.<attempt>/
    job.json     what to do, without the values of the user's environment
    inputs.txt   names of the input files in work/, a line each
    pilot.log    what the pilot did
    payload.stdout, payload.stderr
    work/        the payload's directory
    tmp/         its TMPDIR
queue.json       the queue that the pilot works for, as it was last seen
reports/         see recovery; for the pilot's eyes

What other accounts may see of it is what its payloads, if they have other accounts, have to pass
through.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pandawn_pilot.node import locks
from pandawn_pilot.node.durable import replace_text
from pandawn_pilot.node.trees import remove_tree
from pandawn_pilot.payload.leftovers import end_processes_in

FORMAT_VERSION = 1


class WorkDirBusyError(Exception):
    """Another pilot works in the directory."""


@dataclass(frozen=True)
class JobDir:
    """The directory of one attempt at one job."""

    root: Path

    @property
    def work(self) -> Path:
        """The payload's directory."""
        return self.root / "work"

    @property
    def tmp(self) -> Path:
        """Where the payload puts what nobody needs later; not part of a library that it builds."""
        return self.root / "tmp"

    @property
    def spec(self) -> Path:
        """What to do, as JSON."""
        return self.root / "job.json"

    @property
    def inputs(self) -> Path:
        """Names of the input files in the payload's directory, one a line."""
        return self.root / "inputs.txt"

    @property
    def log(self) -> Path:
        """What the pilot did."""
        return self.root / "pilot.log"

    @property
    def stdout(self) -> Path:
        """What the payload printed."""
        return self.root / "payload.stdout"

    @property
    def stderr(self) -> Path:
        """What the payload complained of."""
        return self.root / "payload.stderr"

    def is_there(self) -> bool:
        """Whether it is, with what a payload has in it."""
        return self.work.is_dir() and self.tmp.is_dir()

    def create(self) -> None:
        """Makes the directory, empty even if an earlier life of the pilot has left something in it."""
        remove_tree(self.root)
        self.root.mkdir(mode=0o700, parents=True)
        self.work.mkdir()
        self.tmp.mkdir()

    def remove(self) -> None:
        """Removes everything; what cannot be removed stays for the next start."""
        remove_tree(self.root)


class WorkDir:
    """A pilot's directory. Only one pilot may be inside at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reports = root / "reports"
        self.queue = root / "queue.json"
        self.jobs = root / "jobs"
        self._pilot = root / "pilot.json"
        self._lock = root / "lock"
        # What ends with the pilot's life here, and which file its lock is.
        self._held = ExitStack()
        self._locked: tuple[int, int] | None = None
        self._passable = False

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Makes the directory and holds its lock. Raises WorkDirBusyError and OSError."""
        with self._held:
            self._occupy()
            self._check_programs_run()
            # Those of a pilot that was killed together with their wrappers.
            end_processes_in(self.jobs)
            yield

    def restore(self) -> bool:
        """Makes the directory anew where somebody has taken it away, as cleaners of /tmp do; whether that was so.

        Raises OSError, and WorkDirBusyError when another pilot has moved in.
        """
        if self._is_whole():
            return False
        self._occupy()
        if self._passable:
            self.let_pass()
        return True

    def _is_whole(self) -> bool:
        try:
            return (
                _identity(self._lock) == self._locked
                and self.jobs.is_dir()
                and self.reports.is_dir()
            )
        except FileNotFoundError:
            return False

    def _occupy(self) -> None:
        self.jobs.mkdir(parents=True, exist_ok=True)
        self.reports.mkdir(exist_ok=True)
        # Leases are in there: who has them can report in the pilot's name.
        self.reports.chmod(0o700)
        if not self._lock.exists() or _identity(self._lock) != self._locked:
            # The lock of before is kept, too: only so the number of its file is nobody else's.
            if not self._held.enter_context(locks.attempt(self._lock)):
                raise WorkDirBusyError(
                    f"another pilot works in {self.root}; give each pilot a --work-dir of its own"
                )
            self._locked = _identity(self._lock)
        self._held.enter_context(locks.kept_from_cleaners(self.root))

    def _check_programs_run(self) -> None:
        if os.statvfs(self.root).f_flag & os.ST_NOEXEC:
            raise PermissionError(
                errno.EACCES,
                "it lies on a disk that is mounted noexec, so no job could start a program of its own;"
                " choose another --work-dir",
                str(self.root),
            )

    def let_pass(self) -> None:
        """Lets all accounts through to the directories of jobs, each of which has its own guard."""
        self._passable = True
        for directory in (self.root, self.jobs):
            directory.chmod(directory.stat().st_mode & 0o7777 | 0o111)

    def job(self, job_id: int, attempt: int) -> JobDir:
        """Place of one attempt at one job."""
        return JobDir(self.jobs / f"{job_id}.{attempt}")

    def clear_jobs(self) -> None:
        """Removes what earlier lives of the pilot have left behind."""
        for left in self.jobs.iterdir():
            remove_tree(left)

    def former_pilot(self) -> str:
        """Identifier of a pilot that worked here and did not take leave; empty when there is none."""
        try:
            document = json.loads(self._pilot.read_text(encoding="utf-8"))
            return str(document["pilot_id"]) if document["version"] == FORMAT_VERSION else ""
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return ""

    def note_pilot(self, pilot_id: str) -> None:
        """Notes who works here now. Raises OSError; then the note of before is gone, too."""
        text = json.dumps({"version": FORMAT_VERSION, "pilot_id": pilot_id})
        try:
            replace_text(self._pilot, text, private=True)
        except OSError:
            # On a full disk there is still room for a name in the place of another, and none at all
            # is better than a wrong one.
            if not self._overwrite_pilot(text):
                self.forget_pilot()
                raise

    def _overwrite_pilot(self, text: str) -> bool:
        try:
            with self._pilot.open("r+", encoding="utf-8") as stream:
                stream.write(text)
                stream.truncate()
        except OSError:
            return False
        return True

    def forget_pilot(self) -> None:
        """Notes that the pilot has taken leave."""
        self._pilot.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
