"""Stage-in: limits before the first byte, errors that name file and cause, names in the work directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pandawn_transports as transports
from pandawn.common.v1.common_pb2 import File
from pandawn.dispatcher.v1.dispatcher_pb2 import InputFile, Limits
from pandawn_pilot.cache.node_cache import NodeCache
from pandawn_pilot.cache.room import CacheLimits
from pandawn_pilot.errors import JobFailedError
from pandawn_pilot.job import stage_in as stage_in_module
from pandawn_pilot.job.stage_in import StageIn, local_names
from pandawn_pilot.stop import Stop, StoppedError, StopReason
from pandawn_transports import SourceStat, TransferError, TransferFault
from tests.unit.pilot.factories import make_test_log


def make_input(
    path: Path, content: bytes = b"content", *, lfn: str = "", **fields: str
) -> InputFile:
    if not path.exists():
        path.write_bytes(content)
    file = File(lfn=lfn or path.name, size_bytes=len(content), **fields)
    return InputFile(file=file, url=path.as_uri())


def make_cache(root: Path) -> NodeCache:
    return NodeCache(root, CacheLimits(10**9, 10**9), make_test_log())


def make_stage_in(cache: NodeCache | None = None, stop: Stop | None = None) -> StageIn:
    return StageIn(cache, stop or Stop(), make_test_log())


def sized(size: int) -> InputFile:
    return InputFile(file=File(lfn=f"f{size}", size_bytes=size), url="file:///nowhere")


@pytest.mark.parametrize(
    "limits", [Limits(max_input_bytes=299), Limits(max_work_dir_bytes=299)], ids=["input", "disk"]
)
def test_inputs_above_a_limit_are_refused_with_all_the_numbers(
    tmp_path: Path, limits: Limits
) -> None:
    with pytest.raises(JobFailedError) as failure:
        make_stage_in().check_limits([sized(100), sized(200)], limits, tmp_path)
    assert failure.value.fault.reason == "INPUT_TOO_LARGE"
    assert failure.value.fault.code == 1168
    assert "300 B" in failure.value.text
    assert "299" in failure.value.text


def test_inputs_at_the_limit_and_without_limits_are_taken(tmp_path: Path) -> None:
    stage_in = make_stage_in()
    stage_in.check_limits([sized(100), sized(200)], Limits(max_input_bytes=300), tmp_path)
    stage_in.check_limits([sized(100), sized(200)], Limits(), tmp_path)


def test_inputs_that_the_disk_cannot_take_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError) as failure:
        make_stage_in(make_cache(tmp_path / "c")).check_limits([sized(10**18)], Limits(), tmp_path)
    assert failure.value.fault.reason == "NO_LOCAL_SPACE"


def test_bytes_are_counted_by_where_they_came_from(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "c")
    item = make_input(tmp_path / "in")
    for number, hits in enumerate([0, 7]):
        stage_in = make_stage_in(cache)
        stage_in.bring(item, tmp_path / f"job{number}")
        assert (stage_in.sums.input_bytes, stage_in.sums.bytes_from_cache) == (7, hits)


def test_without_a_cache_the_file_is_copied_checked_and_read_only(tmp_path: Path) -> None:
    stage_in = make_stage_in()
    stage_in.bring(make_input(tmp_path / "in"), tmp_path / "job")
    assert (tmp_path / "job").read_bytes() == b"content"
    assert (tmp_path / "job").stat().st_mode & 0o777 == 0o444
    assert (tmp_path / "job").stat().st_ino != (tmp_path / "in").stat().st_ino
    with pytest.raises(JobFailedError) as failure:
        stage_in.bring(make_input(tmp_path / "in", checksum="adler32:1"), tmp_path / "job2")
    assert failure.value.fault.reason == "INPUT_CHANGED"
    assert not (tmp_path / "job2").exists()


def reason_for(tmp_path: Path, item: InputFile) -> str:
    with pytest.raises(JobFailedError) as failure:
        make_stage_in(make_cache(tmp_path / "c")).bring(item, tmp_path / "job")
    assert not (tmp_path / "job").exists()
    return failure.value.fault.reason


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    item = make_input(tmp_path / "in")
    (tmp_path / "in").unlink()
    with pytest.raises(JobFailedError, match=str(tmp_path / "in")):
        make_stage_in().bring(item, tmp_path / "job")
    assert reason_for(tmp_path, item) == "INPUT_MISSING"


def test_an_unreadable_file_is_told_apart_from_a_missing_one(tmp_path: Path) -> None:
    item = make_input(tmp_path / "in")
    (tmp_path / "in").unlink()
    os.mkfifo(tmp_path / "in")
    assert reason_for(tmp_path, item) == "INPUT_UNREADABLE"


def test_a_file_of_another_size_is_refused_before_it_is_copied(tmp_path: Path) -> None:
    item = make_input(tmp_path / "in")
    (tmp_path / "in").write_bytes(b"another content")
    assert reason_for(tmp_path, item) == "INPUT_CHANGED"


@pytest.mark.parametrize("url", ["gopher://host/f", "file://elsewhere/f", "file:f", "f"])
def test_an_url_that_no_transport_can_fetch_is_refused(tmp_path: Path, url: str) -> None:
    item = make_input(tmp_path / "in")
    item.url = url
    assert reason_for(tmp_path, item) == "NO_TRANSPORT"


def test_a_name_with_blanks_and_percent_signs_is_found_by_its_url(tmp_path: Path) -> None:
    stage_in = make_stage_in()
    stage_in.bring(make_input(tmp_path / "a b%20c#d?é"), tmp_path / "job")
    assert stage_in.sums.input_bytes == 7


class Flaky:
    """Storage that fails so many times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def local_path(self, url: str) -> None:
        del url

    def look(self, url: str, stop: Stop | None = None) -> SourceStat:
        del url, stop
        return SourceStat(7)

    def fetch(self, url: str, destination: Path, stop: Stop, checksum: str = "") -> SourceStat:
        del url, stop, checksum
        self.calls += 1
        if self.calls <= self.failures:
            raise TransferError(TransferFault.OTHER, "input/output error")
        destination.write_bytes(b"content")
        return SourceStat(7)


@pytest.mark.parametrize(("failures", "succeeds"), [(2, True), (3, False)])
def test_a_passing_trouble_of_the_storage_is_tried_again_and_a_lasting_one_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, *, succeeds: bool
) -> None:
    flaky = Flaky(failures)
    monkeypatch.setattr(stage_in_module, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(transports, "TRANSPORTS", {"flaky": flaky})
    item = InputFile(file=File(lfn="f", size_bytes=7), url="flaky:///f")
    stage_in = make_stage_in()
    if succeeds:
        stage_in.bring(item, tmp_path / "job")
    else:
        with pytest.raises(JobFailedError, match="input/output error") as failure:
            stage_in.bring(item, tmp_path / "job")
        assert failure.value.fault.reason == "STAGE_IN_FAILED"
    assert flaky.calls == 3


def test_a_stop_is_heeded_before_each_file(tmp_path: Path) -> None:
    stop = Stop()
    stop.request(StopReason.CANCELLED)
    with pytest.raises(StoppedError):
        make_stage_in(stop=stop).bring(make_input(tmp_path / "in"), tmp_path / "job")


def test_a_directory_in_the_place_of_an_input_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    with pytest.raises(JobFailedError, match="'job'"):
        make_stage_in().bring(make_input(tmp_path / "in"), tmp_path / "job")


@pytest.mark.parametrize(
    ("lfns", "names"),
    [
        (["a.root", "b.root"], ["a.root", "b.root"]),
        (["/grid/x/a.root", "/grid/y/a.root"], ["a.root", "2_a.root"]),
        (["2_a", "x/a", "y/a", "z/2_a"], ["2_a", "a", "3_a", "4_2_a"]),
        (["..", "x/..", "/"], ["1_", "2_", "3_"]),
        (["a", "b/a", "2_a"], ["a", "2_a", "3_2_a"]),
    ],
)
def test_names_in_the_work_directory_are_the_last_parts_and_distinct(
    lfns: list[str], names: list[str]
) -> None:
    assert local_names([InputFile(file=File(lfn=lfn)) for lfn in lfns]) == names
