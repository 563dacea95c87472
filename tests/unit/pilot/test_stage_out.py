"""Stage-out: nobody sees a part of a file, and nothing becomes visible without a lease."""

from __future__ import annotations

import os
import tarfile
import zlib
from pathlib import Path

import pytest

from pandawn.dispatcher.v1.dispatcher_pb2 import OutputFile
from pandawn_pilot import log_tarball
from pandawn_pilot.errors import JobFailedError
from pandawn_pilot.log_tarball import pack_log
from pandawn_pilot.stage_out import StageOut
from pandawn_pilot.stop import Stop, StoppedError, StopReason
from pandawn_pilot.work_dir import JobDir
from tests.unit.pilot.factories import make_test_log


def make_stage_out(attempt: int = 1, confirm: object = None) -> StageOut:
    return StageOut(
        17, attempt, confirm if callable(confirm) else lambda: None, Stop(), make_test_log()
    )


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def make_output(path: Path) -> OutputFile:
    return OutputFile(name="out", lfn="ds.out", url=path.as_uri())


def test_a_file_is_stored_with_size_and_checksum(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"histogram")
    target = tmp_path / "2026/ann/ds/ds.out"
    stored = make_stage_out().store(tmp_path / "out", make_output(target))
    assert target.read_bytes() == b"histogram"
    assert stored.url == target.as_uri()
    assert (stored.file.lfn, stored.file.size_bytes) == ("ds.out", 9)
    assert stored.file.checksum == f"adler32:{zlib.adler32(b'histogram'):08x}"
    assert names_in(target.parent) == ["ds.out"]


def test_all_bytes_are_there_before_the_lease_is_asked_for_and_the_name_only_after(
    tmp_path: Path,
) -> None:
    (tmp_path / "out").write_bytes(b"histogram")
    target = tmp_path / "ds/ds.out"
    seen: list[tuple[bool, int]] = []

    def confirm() -> None:
        (part,) = target.parent.iterdir()
        seen.append((target.exists(), part.stat().st_size))

    make_stage_out(confirm=confirm).store(tmp_path / "out", make_output(target))
    assert seen == [(False, 9)]


def test_a_lease_that_is_over_leaves_what_another_has_stored(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    target = tmp_path / "ds.out"
    target.write_bytes(b"theirs")

    def confirm() -> None:
        raise StoppedError(StopReason.STALE)

    with pytest.raises(StoppedError):
        make_stage_out(confirm=confirm).store(tmp_path / "out", make_output(target))
    assert target.read_bytes() == b"theirs"
    assert names_in(tmp_path) == ["ds.out", "out"]


def test_what_dead_attempts_have_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"x")
    target = tmp_path / "ds" / ("n" * 255)
    lease_over = StoppedError(StopReason.STALE)

    def die() -> None:
        (part,) = target.parent.iterdir()
        os.link(part, part.with_name("saved"))
        raise lease_over

    with pytest.raises(StoppedError):
        make_stage_out(1, die).store(tmp_path / "out", make_output(target))
    # As if the pilot had been killed instead.
    names: list[str] = []

    def look() -> None:
        names.extend(names_in(target.parent))

    saved = target.with_name("saved")
    make_stage_out(1, look).store(tmp_path / "out", make_output(target))
    part = next(name for name in names if name.startswith("."))
    saved.rename(target.with_name(part))
    make_stage_out(3).store(tmp_path / "out", make_output(target))
    assert names_in(target.parent) == ["n" * 255]


@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_an_output_that_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    if kind == "directory":
        (tmp_path / "out").mkdir()
    with pytest.raises(JobFailedError, match="'out'") as failure:
        make_stage_out().store(tmp_path / "out", make_output(tmp_path / "ds.out"))
    assert failure.value.fault.reason == "OUTPUT_MISSING"


def test_storage_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(JobFailedError, match=str(tmp_path / "file/ds.out")) as failure:
        make_stage_out().store(tmp_path / "out", make_output(tmp_path / "file/ds.out"))
    assert failure.value.fault.reason == "STAGE_OUT_FAILED"


def test_a_log_tarball_is_bounded_and_keeps_beginning_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tarball, "HEAD_BYTES", 10)
    monkeypatch.setattr(log_tarball, "TAIL_BYTES", 20)
    directory = JobDir(tmp_path / "job")
    directory.create()
    directory.stdout.write_bytes(b"beginning " + b"x" * 1000 + b"the very last twenty")
    directory.log.write_text("short")
    pack_log(directory, tmp_path / "log.tgz")
    with tarfile.open(tmp_path / "log.tgz") as tar:
        assert tar.getnames() == ["payload.stdout", "pilot.log"]
        stdout = tar.extractfile("payload.stdout")
        assert stdout is not None
        content = stdout.read()
    assert content == (
        b"beginning \n[... 1000 bytes left out by the pilot ...]\nthe very last twenty"
    )
