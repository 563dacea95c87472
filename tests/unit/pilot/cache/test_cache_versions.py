"""The node cache and versions: what was not proved to be the same file is no hit."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from pandawn.common.v1.common_pb2 import File
from pandawn.dispatcher.v1.dispatcher_pb2 import InputFile
from pandawn_client.file_version import file_version
from pandawn_pilot.cache.entry import CODE, Entry
from pandawn_pilot.cache.input_proof import check_source
from pandawn_pilot.cache.input_proof import wanted_file as wanted_of
from pandawn_pilot.errors import JobFailedError
from pandawn_pilot.job.stage_in import StageIn
from pandawn_pilot.stop import Stop
from pandawn_transports import SourceStat
from tests.unit.pilot.cache.test_node_cache import (
    Source,
    deliver,
    make_cache,
    make_content,
    wanted_file,
)
from tests.unit.pilot.factories import make_test_log

URL = "file:///data/f1"
STAT = SourceStat(1000, 5_000_000_007, 6_000_000_000, 42, 1)
MTIME = file_version(URL, modify_time_ns=STAT.mtime_ns, inode=42)
SHA256 = f"sha256:{sha256(make_content('f1', 1000)).hexdigest()}"


def test_versions_of_one_name_are_files_side_by_side(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c"), Source()
    other = file_version("file:///home/f1", modify_time_ns=STAT.mtime_ns, inode=42)
    for number, version in enumerate((MTIME, other, SHA256)):
        file = wanted_file(version=version)
        assert deliver(cache, source, file, tmp_path / f"miss{number}", STAT) is False
        assert deliver(cache, source, file, tmp_path / f"hit{number}", STAT) is True
    assert {file.version for file in cache.journal.snapshot().files} == {MTIME, other, SHA256}
    assert cache.journal.total_bytes() == 3000


@pytest.mark.parametrize("fact", ["size_bytes", "mtime_ns", "ctime_ns", "inode", "device"])
def test_a_source_that_is_not_as_it_was_is_fetched_anew(tmp_path: Path, fact: str) -> None:
    from dataclasses import replace

    cache, source, file = make_cache(tmp_path / "c"), Source(), wanted_file(version=MTIME)
    deliver(cache, source, file, tmp_path / "one", STAT)
    changed = replace(STAT, **{fact: getattr(STAT, fact) + 1})
    assert deliver(cache, source, file, tmp_path / "two", changed) is False
    assert deliver(cache, source, file, tmp_path / "three", None) is False
    assert source.fetched == ["f1"] * 3


def test_proved_content_needs_no_source(tmp_path: Path) -> None:
    cache, source, file = make_cache(tmp_path / "c"), Source(), wanted_file(version=SHA256)
    deliver(cache, source, file, tmp_path / "one", STAT)
    assert deliver(cache, source, file, tmp_path / "two", None) is True


def test_content_that_a_version_does_not_name_is_refused(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c"), Source()
    file = wanted_file(version=f"sha256:{'0' * 64}")
    with pytest.raises(JobFailedError, match="INPUT_CHECKSUM_MISMATCH"):
        deliver(cache, source, file, tmp_path / "one", STAT)
    assert cache.journal.snapshot().files == ()


def test_a_file_without_a_version_goes_past_the_cache(tmp_path: Path) -> None:
    cache, source, file = make_cache(tmp_path / "c"), Source(), wanted_file(version="")
    for name in ("one", "two"):
        assert deliver(cache, source, file, tmp_path / name) is False
    assert cache.journal.snapshot().files == ()
    assert not cache.holds(file)


def test_an_earlier_version_from_the_same_source_is_the_first_to_go(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c", high=3_000, low=2_000), Source()
    deliver(cache, source, wanted_file("other"), tmp_path / "job")
    (tmp_path / "job").unlink()
    later = file_version(URL, modify_time_ns=STAT.mtime_ns + 1, inode=42)
    for version in (MTIME, later):
        deliver(cache, source, wanted_file(version=version), tmp_path / "job", STAT)
        (tmp_path / "job").unlink()
    deliver(cache, source, wanted_file("new"), tmp_path / "job")
    held = {(file.lfn, file.version) for file in cache.journal.snapshot().files}
    assert ("f1", MTIME) not in held
    assert ("f1", later) in held


def test_entries_and_journals_of_the_former_format_are_unknown_and_removed(tmp_path: Path) -> None:
    cache, source, file = make_cache(tmp_path / "c"), Source(), wanted_file()
    deliver(cache, source, file, tmp_path / "one")
    entry = Entry.of(tmp_path / "c", file.key)
    meta = json.loads(entry.meta_path.read_text())
    for field in ("format", "sha256", "source"):
        del meta[field]
    entry.meta_path.write_text(json.dumps({**meta, "version": 1}))
    (tmp_path / "c/journal/index.json").write_text('{"version": 1, "epoch": "1", "number": 0}')
    again = make_cache(tmp_path / "c")
    again.heal()
    assert again.journal.snapshot().files == ()
    assert not entry.directory.exists()
    assert deliver(again, source, file, tmp_path / "two") is False


def test_code_is_brought_once_by_its_digest_and_listed_nowhere(tmp_path: Path) -> None:
    cache, brought = make_cache(tmp_path / "c"), []
    digest = sha256(b"code").hexdigest()

    def bring(path: Path) -> None:
        brought.append(path.name)
        path.write_bytes(b"code")

    for name, hit in (("one", False), ("two", True)):
        assert cache.deliver_code(digest, tmp_path / name, bring, Stop()) is hit
        assert (tmp_path / name).read_bytes() == b"code"
    assert brought == ["one"]
    assert cache.journal.snapshot().files == ()
    # Nor after a new life of the journal.
    make_cache(tmp_path / "c").heal()
    assert cache.journal.snapshot().files == ()
    data = Entry.of(tmp_path / "c", ("", digest, f"sha256:{digest}"), CODE).data
    data.chmod(0o644)
    data.write_bytes(b"evil")
    assert cache.deliver_code(digest, tmp_path / "three", bring, Stop()) is False
    assert (tmp_path / "three").read_bytes() == b"code"


def test_code_counts_for_the_size_of_the_cache(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c", high=3_000, low=2_000), Source()
    content = bytes(2_500)

    def bring(path: Path) -> None:
        path.write_bytes(content)

    cache.deliver_code(sha256(content).hexdigest(), tmp_path / "code", bring, Stop())
    (tmp_path / "code").unlink()
    deliver(cache, source, wanted_file(), tmp_path / "one")
    assert not list((tmp_path / "c/code").rglob("data"))


def test_other_accounts_cannot_look_into_the_cache(tmp_path: Path) -> None:
    make_cache(tmp_path / "c")
    for name in ("files", "code", "incoming"):
        assert (tmp_path / "c" / name).stat().st_mode & 0o777 == 0o700


def make_item(path: Path, **facts: object) -> InputFile:
    status = path.stat()
    version = file_version(path.as_uri(), modify_time_ns=status.st_mtime_ns, inode=status.st_ino)
    file = File(lfn=path.name, size_bytes=status.st_size, version=version)
    return InputFile(file=file, url=path.as_uri(), **facts)  # type: ignore[arg-type]


def replace_by_copy(path: Path) -> None:
    times = path.stat()
    fresh = path.with_name("fresh")
    fresh.write_bytes(path.read_bytes())
    os.utime(fresh, ns=(times.st_atime_ns, times.st_mtime_ns))
    fresh.replace(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"other content"),
        lambda path: os.utime(path, (1, 1)),
        replace_by_copy,
    ],
    ids=["size", "time", "inode"],
)
@pytest.mark.parametrize("cached", [False, True])
def test_a_source_that_is_not_what_the_submitter_named_fails_the_job(
    tmp_path: Path, change: object, *, cached: bool
) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"content")
    item = make_item(path)
    cache = make_cache(tmp_path / "c") if cached else None
    StageIn(cache, Stop(), make_test_log()).bring(item, tmp_path / "before")
    change(path)  # type: ignore[operator]
    with pytest.raises(JobFailedError, match="submit the task again") as failure:
        StageIn(cache, Stop(), make_test_log()).bring(item, tmp_path / "after")
    assert failure.value.fault.reason == "INPUT_CHANGED"
    assert not (tmp_path / "after").exists()


def test_times_told_in_seconds_are_compared_in_seconds() -> None:
    item = InputFile(file=File(lfn="f", size_bytes=1), url="root://se//f")
    version = file_version(item.url, modify_time_ns=5_000_000_007)
    check_source(item, version, SourceStat(1, 5_000_000_000))
    with pytest.raises(JobFailedError, match="was modified after"):
        check_source(item, version, SourceStat(1, 6_000_000_000))


def test_an_inode_seen_under_another_url_says_nothing() -> None:
    item = InputFile(file=File(lfn="f", size_bytes=1), url="file:///here/f")
    version = file_version("file:///there/f", modify_time_ns=5, inode=1)
    check_source(item, version, SourceStat(1, 5, 5, 2, 0))


def test_an_input_that_a_client_named_by_nothing_gets_its_version_from_its_source(
    tmp_path: Path,
) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"content")
    cache = make_cache(tmp_path / "c")
    item = InputFile(file=File(lfn="in", size_bytes=7), url=path.as_uri())
    for name, hits in (("one", 0), ("two", 7)):
        stage_in = StageIn(cache, Stop(), make_test_log())
        stage_in.bring(item, tmp_path / name)
        assert stage_in.sums.bytes_from_cache == hits
    status = path.stat()
    named = file_version(path.as_uri(), modify_time_ns=status.st_mtime_ns, inode=status.st_ino)
    assert [file.version for file in cache.journal.snapshot().files] == [named]


def test_a_library_is_known_by_its_digest_and_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "lib.tgz"
    path.write_bytes(b"library")
    version = f"sha256:{sha256(b'library').hexdigest()}"
    item = InputFile(
        file=File(lfn="lib.tgz", size_bytes=7, version=version), url=path.as_uri(), library=True
    )
    cache = make_cache(tmp_path / "c")
    for name, hits in (("one", 0), ("two", 7)):
        stage_in = StageIn(cache, Stop(), make_test_log())
        stage_in.bring(item, tmp_path / name)
        assert stage_in.sums.bytes_from_cache == hits
    assert cache.journal.snapshot().files == ()
    assert not wanted_of(item).listed
