"""A pilot's directory that something cleans up while the pilot lives, as happens below /tmp."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from pandawn_pilot.job.work_dir import WorkDir, WorkDirBusyError


def test_a_directory_that_was_taken_away_is_made_anew_and_still_belongs_to_its_pilot(
    tmp_path: Path,
) -> None:
    ours, theirs = WorkDir(tmp_path / "w"), WorkDir(tmp_path / "w")
    with ours.occupied():
        ours.allow_traversal()
        assert not ours.restore()
        shutil.rmtree(ours.root)
        assert ours.restore()
        assert (ours.jobs.is_dir(), ours.reports.stat().st_mode & 0o777) == (True, 0o700)
        assert ours.jobs.stat().st_mode & 0o111 == 0o111
        assert not ours.restore()
        with pytest.raises(WorkDirBusyError), theirs.occupied():
            pass
    with theirs.occupied():
        pass


@pytest.mark.parametrize("gone", ["lock", "jobs", "reports"])
def test_whatever_is_missing_of_it_is_made_anew(tmp_path: Path, gone: str) -> None:
    work_dir = WorkDir(tmp_path / "w")
    with work_dir.occupied():
        lost = work_dir.root / gone
        lost.rmdir() if lost.is_dir() else lost.unlink()
        assert work_dir.restore()
        assert lost.exists()


def test_who_moved_in_meanwhile_is_left_alone(tmp_path: Path) -> None:
    ours, theirs = WorkDir(tmp_path / "w"), WorkDir(tmp_path / "w")
    with ours.occupied():
        shutil.rmtree(ours.root)
        with theirs.occupied():
            with pytest.raises(WorkDirBusyError):
                ours.restore()
            assert not theirs.restore()


def test_while_a_pilot_works_there_cleaners_that_ask_find_the_directory_in_use(
    tmp_path: Path,
) -> None:
    work_dir = WorkDir(tmp_path / "w")
    with work_dir.occupied():
        # As systemd-tmpfiles does before it looks into a directory.
        with pytest.raises(BlockingIOError):
            lock(work_dir.root)
        shutil.rmtree(work_dir.root)
        work_dir.restore()
        with pytest.raises(BlockingIOError):
            lock(work_dir.root)
    lock(work_dir.root)


def lock(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)
