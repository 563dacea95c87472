"""Real file systems in trouble: frozen so that not even SIGKILL helps, read-only, full, unmounted."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pandawn_pilot.stop import Stop, StoppedError, StopReason
from pandawn_transports import Publishing, TransferError, TransferFault, helpers
from pandawn_transports.file import FileTransport
from pandawn_transports.helpers import Helpers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount file systems")
IMAGE_BYTES = 8 * 2**20


class Disk:
    """A small ext4 of its own."""

    def __init__(self, root: Path) -> None:
        self.top = root / "disk"
        self._image = root / "image"

    def mount(self) -> None:
        self.top.mkdir()
        with self._image.open("wb") as stream:
            stream.truncate(IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self._image)], check=True)
        self._mount("loop", str(self._image))

    def remount(self, options: str) -> None:
        self._mount(f"remount,{options}")

    def freeze(self) -> None:
        subprocess.run(["fsfreeze", "--freeze", str(self.top)], check=True)

    def thaw(self) -> None:
        subprocess.run(["fsfreeze", "--unfreeze", str(self.top)], check=False, capture_output=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.top)], check=False, capture_output=True)

    def _mount(self, options: str, *what: str) -> None:
        command = ["mount", "-o", options, *what, str(self.top)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount a file system here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A mounted file system."""
    made = Disk(tmp_path)
    made.mount()
    yield made
    made.thaw()
    made.unmount()


@pytest.fixture
def own() -> Iterator[Helpers]:
    """Helpers of the test's own."""
    made = Helpers()
    yield made
    made.close()


def store(own: Helpers, source: Path, disk: Disk, stop: Stop | None = None) -> None:
    how = Publishing("17-1", lambda: None, stop or Stop(), storage_root=disk.top.as_uri())
    url = (disk.top / "2026" / "out").as_uri()
    FileTransport(helpers=own).store(source, url, how)


def fault_of(own: Helpers, source: Path, disk: Disk) -> TransferFault:
    with pytest.raises(TransferError) as failure:
        store(own, source, disk)
    return failure.value.fault


def until_none_hangs(own: Helpers, where: str) -> None:
    deadline = time.monotonic() + 30
    while own.hanging_at(where):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_whoever_hangs_at_a_frozen_storage_is_left_behind_and_publishes_nothing_later(
    tmp_path: Path, disk: Disk, own: Helpers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers, "STILL_HANGING_SECONDS", 0.5)
    (tmp_path / "out").write_bytes(b"output")
    where = str(Path(*disk.top.parts[:3]))
    disk.freeze()
    stop = Stop()
    threading.Timer(0.5, stop.request, [StopReason.CANCELLED]).start()
    with pytest.raises(StoppedError):
        store(own, tmp_path / "out", disk, stop)
    assert own.hanging_at(where) == 1
    # Others see soon that it still hangs.
    assert fault_of(own, tmp_path / "out", disk) is TransferFault.UNAVAILABLE
    assert own.hanging_at(where) == 2
    disk.thaw()
    until_none_hangs(own, where)
    assert not (disk.top / "2026" / "out").exists()
    store(own, tmp_path / "out", disk)
    assert [path.name for path in (disk.top / "2026").iterdir()] == ["out"]


def test_a_storage_that_takes_nothing_and_a_full_one_are_told_apart(
    tmp_path: Path, disk: Disk, own: Helpers
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(IMAGE_BYTES))
    (tmp_path / "out").write_bytes(b"output")
    assert fault_of(own, tmp_path / "large", disk) is TransferFault.FULL
    # It has left no part of itself.
    store(own, tmp_path / "out", disk)
    disk.remount("ro")
    assert fault_of(own, tmp_path / "out", disk) is TransferFault.READ_ONLY
    disk.remount("rw")
    store(own, tmp_path / "out", disk)
    assert [path.name for path in (disk.top / "2026").iterdir()] == ["out"]


@pytest.mark.parametrize("leaves", ["nothing", "an empty directory"])
def test_a_mount_that_has_gone_is_not_taken_for_an_empty_storage(
    tmp_path: Path, disk: Disk, own: Helpers, leaves: str
) -> None:
    (tmp_path / "out").write_bytes(b"output")
    store(own, tmp_path / "out", disk)
    disk.unmount()
    if leaves == "nothing":
        disk.top.rmdir()
    assert fault_of(own, tmp_path / "out", disk) is TransferFault.NOT_MOUNTED
    assert not disk.top.exists() or list(disk.top.iterdir()) == []
