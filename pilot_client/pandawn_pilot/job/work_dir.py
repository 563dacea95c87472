"""The directory that a pilot works in.

lock             held while the pilot runs
pilot.json       the pilot's registration at the server, while it lasts; private
jobs/<job>.<attempt>/
    job.json     what to do, without the values of the user's environment
    inputs.txt   names of the input files in work/, one per line
    pilot.log    the pilot's log of the job
    payload.stdout, payload.stderr
    work/        the payload's directory
    tmp/         its TMPDIR
queue.json       the last known revision of the pilot's queue
reports/         undelivered reports, see server/stored_reports.py; private

Other accounts can only traverse it, and only if payloads have other accounts.
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
    """Another pilot uses the directory."""


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
        """The payload's temporary directory; not part of a library that it builds."""
        return self.root / "tmp"

    @property
    def spec(self) -> Path:
        """What to do, as JSON."""
        return self.root / "job.json"

    @property
    def inputs(self) -> Path:
        """Names of the input files in the payload's directory, one per line."""
        return self.root / "inputs.txt"

    @property
    def log(self) -> Path:
        """The pilot's log of the job."""
        return self.root / "pilot.log"

    @property
    def stdout(self) -> Path:
        """The payload's standard output."""
        return self.root / "payload.stdout"

    @property
    def stderr(self) -> Path:
        """The payload's standard error."""
        return self.root / "payload.stderr"

    def is_there(self) -> bool:
        """Whether it exists, with the payload's directories."""
        return self.work.is_dir() and self.tmp.is_dir()

    def create(self) -> None:
        """Creates the directory, empty even if an earlier run left files in it."""
        remove_tree(self.root)
        self.root.mkdir(mode=0o700, parents=True)
        self.work.mkdir()
        self.tmp.mkdir()

    def remove(self) -> None:
        """Removes everything; the next start removes what could not be removed now."""
        remove_tree(self.root)


class WorkDir:
    """A pilot's directory. Only one pilot can use it at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reports = root / "reports"
        self.queue = root / "queue.json"
        self.jobs = root / "jobs"
        self._pilot = root / "pilot.json"
        self._lock = root / "lock"
        # Held until the pilot ends; device and inode of its lock.
        self._held = ExitStack()
        self._locked: tuple[int, int] | None = None
        self._passable = False

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Creates the directory and holds its lock. Raises WorkDirBusyError and OSError."""
        with self._held:
            self._occupy()
            self._check_programs_run()
            # Payloads of a pilot that was killed together with its wrappers.
            end_processes_in(self.jobs)
            yield

    def restore(self) -> bool:
        """Creates the directory again if it was deleted, as cleaners of /tmp do; returns whether it was.

        Raises OSError, and WorkDirBusyError when another pilot uses it now.
        """
        if self._is_whole():
            return False
        self._occupy()
        if self._passable:
            self.allow_traversal()
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
        # Reports contain lease tokens, which allow to report as this pilot.
        self.reports.chmod(0o700)
        if not self._lock.exists() or _identity(self._lock) != self._locked:
            # The old lock stays open, so that its inode number is not reused.
            if not self._held.enter_context(locks.attempt(self._lock)):
                raise WorkDirBusyError(
                    f"another pilot uses {self.root}; give each pilot its own --work-dir"
                )
            self._locked = _identity(self._lock)
        self._held.enter_context(locks.kept_from_cleaners(self.root))

    def _check_programs_run(self) -> None:
        if os.statvfs(self.root).f_flag & os.ST_NOEXEC:
            raise PermissionError(
                errno.EACCES,
                "its disk is mounted noexec, so jobs could not run their programs; choose another"
                " --work-dir",
                str(self.root),
            )

    def allow_traversal(self) -> None:
        """Lets all accounts traverse to the directories of jobs, each with its own permissions."""
        self._passable = True
        for directory in (self.root, self.jobs):
            directory.chmod(directory.stat().st_mode & 0o7777 | 0o111)

    def job(self, job_id: int, attempt: int) -> JobDir:
        """The directory of one attempt at one job."""
        return JobDir(self.jobs / f"{job_id}.{attempt}")

    def clear_jobs(self) -> None:
        """Removes the job directories of earlier runs."""
        for left in self.jobs.iterdir():
            remove_tree(left)

    def former_pilot(self) -> str:
        """Identifier of a pilot that ran here and did not deregister; empty if none."""
        try:
            document = json.loads(self._pilot.read_text(encoding="utf-8"))
            return str(document["pilot_id"]) if document["version"] == FORMAT_VERSION else ""
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return ""

    def store_pilot(self, pilot_id: str) -> None:
        """Stores the pilot's identifier. Raises OSError; the old identifier is removed then, too."""
        text = json.dumps({"version": FORMAT_VERSION, "pilot_id": pilot_id})
        try:
            replace_text(self._pilot, text, private=True)
        except OSError:
            # On a full disk the file can still be overwritten; no identifier is better than a wrong one.
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
        """Removes the identifier: the pilot has deregistered."""
        self._pilot.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
