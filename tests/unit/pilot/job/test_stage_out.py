"""Stage-out: nobody sees a part of a file, and nothing becomes visible without a lease."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from pathlib import Path

import pytest

import pandawn_transports as transports
from pandawn.dispatcher.v1.dispatcher_pb2 import OutputFile
from pandawn_pilot.errors import JobFailedError
from pandawn_pilot.job import log_tarball
from pandawn_pilot.job import stage_out as stage_out_module
from pandawn_pilot.job.log_tarball import pack_log
from pandawn_pilot.job.stage_out import StageOut
from pandawn_pilot.job.work_dir import JobDir
from pandawn_pilot.stop import Stop, StoppedError, StopReason
from pandawn_transports import Publishing, Stored, TransferError, TransferFault, helpers
from pandawn_transports.mover import main
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
        (part,) = target.parent.glob(".pandawn-parts/*")
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


def test_a_rename_of_another_job_that_comes_late_finds_nothing(tmp_path: Path) -> None:
    """The first pilot was let publish, and stood still; its job failed, a retry is another job."""
    (tmp_path / "loser").write_bytes(b"loser")
    (tmp_path / "winner").write_bytes(b"winner")
    target = tmp_path / "ds" / ("n" * 255)
    output = make_output(target)

    def let_the_retry_finish() -> None:
        if not target.exists():
            other = StageOut(18, 1, lambda: None, Stop(), make_test_log())
            other.store(tmp_path / "winner", output)

    stage_out = StageOut(17, 3, let_the_retry_finish, Stop(), make_test_log(), tries=1)
    with pytest.raises(JobFailedError, match="another attempt") as failure:
        stage_out.store(tmp_path / "loser", output)
    assert failure.value.fault.reason == "STAGE_OUT_FAILED"
    assert target.read_bytes() == b"winner"
    assert names_in(target.parent) == [target.name]


def test_who_has_the_lease_tries_again_after_its_part_was_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_out_module, "PAUSE_SECONDS", 0)
    (tmp_path / "out").write_bytes(b"winner")
    target = tmp_path / "ds" / "out"
    asked: list[bool] = []

    def sweep_once() -> None:
        if not asked:
            (part,) = target.parent.glob(".pandawn-parts/*")
            part.unlink()
        asked.append(True)

    stored = make_stage_out(confirm=sweep_once).store(tmp_path / "out", make_output(target))
    assert stored.file.size_bytes == 6
    assert target.read_bytes() == b"winner"
    assert len(asked) == 2


def test_a_word_to_publish_that_has_grown_old_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a pause of the machine: only one of its clocks has gone on."""
    (tmp_path / "out").write_bytes(b"x")
    asked: list[bool] = []
    now = main.clocks()
    ages = iter([(now[0], now[1] - 3600.0)])
    monkeypatch.setattr(helpers, "clocks", lambda: next(ages, None) or main.clocks())
    make_stage_out(confirm=lambda: asked.append(True)).store(
        tmp_path / "out", make_output(tmp_path / "ds" / "out")
    )
    assert len(asked) == 2


def test_a_library_goes_by_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"library")
    stage_out = StageOut(17, 1, lambda: None, Stop(), make_test_log(), is_library=True)
    stored = stage_out.store(tmp_path / "out", make_output(tmp_path / "ds" / "lib"))
    assert stored.file.checksum == f"sha256:{hashlib.sha256(b'library').hexdigest()}"


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


def test_a_storage_root_that_the_node_does_not_see_is_the_nodes_trouble(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"x")
    top = tmp_path / "mnt"
    stage_out = StageOut(17, 1, lambda: None, Stop(), make_test_log(), storage_root=top.as_uri())
    with pytest.raises(JobFailedError, match=str(top)) as failure:
        stage_out.store(tmp_path / "out", make_output(top / "2026" / "out"))
    assert failure.value.fault.reason == "STORAGE_NOT_MOUNTED"
    assert not top.exists()


class Ailing:
    """A storage that fails so many times in one way."""

    def __init__(self, fault: TransferFault, failures: int) -> None:
        self.fault = fault
        self.failures = failures
        self.calls = 0

    def store(self, source: Path, url: str, how: Publishing) -> Stored:
        del source, url, how
        self.calls += 1
        if self.calls <= self.failures:
            raise TransferError(self.fault, "ailing")
        return Stored(1, "adler32:00000001")


@pytest.mark.parametrize(
    ("fault", "reason", "tries"),
    [
        (TransferFault.UNAVAILABLE, "STORAGE_UNAVAILABLE", 3),
        (TransferFault.READ_ONLY, "STORAGE_READ_ONLY", 3),
        (TransferFault.FULL, "STORAGE_FULL", 1),
        (TransferFault.FORBIDDEN, "STORAGE_FORBIDDEN", 1),
        (TransferFault.NOT_MOUNTED, "STORAGE_NOT_MOUNTED", 1),
        (TransferFault.LOCAL, "LOCAL_DISK_FAILED", 1),
        (TransferFault.CHANGED, "OUTPUT_CHANGED", 3),
        (TransferFault.OTHER, "STAGE_OUT_FAILED", 3),
    ],
)
def test_whose_trouble_it_was_is_told_and_what_passes_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: TransferFault, reason: str, tries: int
) -> None:
    (tmp_path / "out").write_bytes(b"x")
    ailing = Ailing(fault, failures=100)
    monkeypatch.setattr(transports, "TRANSPORTS", {"file": ailing})
    monkeypatch.setattr(stage_out_module, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(stage_out_module, "AWAY_SECONDS", 0)
    with pytest.raises(JobFailedError) as failure:
        make_stage_out().store(tmp_path / "out", make_output(tmp_path / "ds"))
    assert failure.value.fault.reason == reason
    assert ailing.calls == tries


def test_a_storage_that_is_away_is_waited_for_longer_than_the_tries_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").write_bytes(b"x")
    ailing = Ailing(TransferFault.READ_ONLY, failures=7)
    monkeypatch.setattr(transports, "TRANSPORTS", {"file": ailing})
    monkeypatch.setattr(stage_out_module, "PAUSE_SECONDS", 0)
    stored = make_stage_out().store(tmp_path / "out", make_output(tmp_path / "ds"))
    assert stored.file.size_bytes == 1
    assert ailing.calls == 8


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
