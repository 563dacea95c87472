"""The node cache: one transfer a file, trusted content, bounded size, a truthful journal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pandawn_pilot.cache.entry import Arrival, Entry
from pandawn_pilot.cache.input_cache import Origin
from pandawn_pilot.cache.input_proof import check_content
from pandawn_pilot.cache.node_cache import NodeCache
from pandawn_pilot.cache.room import CacheLimits
from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.errors import JobFailedError
from pandawn_pilot.node import locks
from pandawn_pilot.stop import Stop, StoppedError, StopReason
from pandawn_transports.base import SourceStat, TransferError, TransferFault
from tests.unit.pilot.factories import make_test_log

MEGABYTE = 1_000_000


def make_cache(root: Path, high: int = 100 * MEGABYTE, low: int = 75 * MEGABYTE) -> NodeCache:
    return NodeCache(root, CacheLimits(high, low), make_test_log())


def make_content(name: str, size: int) -> bytes:
    return (name.encode() * (size // len(name) + 1))[:size]


def wanted_file(
    name: str = "f1",
    size: int = 1000,
    *,
    scope: str = "",
    guid: str = "",
    checksum: str = "",
    version: str = "site",
) -> CachedFile:
    return CachedFile(name, size, scope, guid, checksum, version)


def make_origin(
    file: CachedFile,
    write: Callable[[Path], object],
    source: SourceStat | None = None,
) -> Origin:
    """An origin whose files `write` brings, checked as stage-in does."""

    def fetch(path: Path) -> Arrival:
        write(path)
        return Arrival(check_content(path, file, Stop()), source)

    return Origin("file:///f", source, fetch, lambda: source or SourceStat(0))


class Source:
    """Storage that counts how often each file was fetched."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    def fetch(
        self, file: CachedFile, content: bytes | None = None, stat: SourceStat | None = None
    ) -> Origin:
        def write(path: Path) -> None:
            self.fetched.append(file.lfn)
            path.write_bytes(
                make_content(file.lfn, file.size_bytes) if content is None else content
            )

        return make_origin(file, write, stat)


def deliver(
    cache: NodeCache,
    source: Source,
    file: CachedFile,
    destination: Path,
    stat: SourceStat | None = None,
) -> bool:
    return cache.deliver(file, destination, source.fetch(file, stat=stat), Stop())


def test_a_second_job_gets_the_file_from_the_cache(tmp_path: Path) -> None:
    cache, source, file = make_cache(tmp_path / "c"), Source(), wanted_file()
    assert deliver(cache, source, file, tmp_path / "one") is False
    assert deliver(cache, source, file, tmp_path / "two") is True
    assert source.fetched == ["f1"]
    assert (tmp_path / "one").read_bytes() == make_content("f1", 1000)
    assert (tmp_path / "two").read_bytes() == make_content("f1", 1000)


def test_a_job_gets_its_inputs_read_only(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c"), Source()
    deliver(cache, source, wanted_file(), tmp_path / "one")
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o444


def test_an_addition_is_noted_with_the_confirmed_size_and_checksum(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c"), Source()
    file = wanted_file(scope="s", guid="g")
    deliver(cache, source, file, tmp_path / "one")
    adler = f"adler32:{zlib.adler32(make_content('f1', 1000)):08x}"
    assert cache.journal.snapshot().files == (CachedFile("f1", 1000, "s", "g", adler, "site"),)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (wanted_file(size=999), "INPUT_SIZE_MISMATCH"),
        (wanted_file(checksum="adler32:00000001"), "INPUT_CHECKSUM_MISMATCH"),
        (wanted_file(checksum="md5:" + "0" * 32), "INPUT_CHECKSUM_MISMATCH"),
    ],
)
def test_content_other_than_announced_is_refused_and_never_enters_the_cache(
    tmp_path: Path, wanted: CachedFile, reason: str
) -> None:
    cache, source = make_cache(tmp_path / "c"), Source()
    with pytest.raises(JobFailedError) as failure:
        cache.deliver(
            wanted, tmp_path / "one", source.fetch(wanted, make_content("f1", 1000)), Stop()
        )
    assert failure.value.fault.reason == reason
    assert cache.journal.snapshot().files == ()
    assert not (tmp_path / "one").exists()
    assert list((tmp_path / "c" / "incoming").iterdir()) == []


@pytest.mark.parametrize("checksum", ["md5", "adler32"])
def test_content_as_announced_is_taken(tmp_path: Path, checksum: str) -> None:
    from hashlib import md5

    cache, source, content = make_cache(tmp_path / "c"), Source(), make_content("f1", 1000)
    value = md5(content).hexdigest() if checksum == "md5" else f"{zlib.adler32(content):x}"  # noqa: S324
    file = wanted_file(checksum=f"{checksum}:{value}")
    assert deliver(cache, source, file, tmp_path / "one") is False
    assert deliver(cache, source, file, tmp_path / "two") is True


def test_a_payload_that_writes_to_its_input_does_not_spoil_the_next_job(tmp_path: Path) -> None:
    cache, source, file = make_cache(tmp_path / "c"), Source(), wanted_file()
    deliver(cache, source, file, tmp_path / "one")
    spoiled = Entry.of(tmp_path / "c", file.key).data
    spoiled.chmod(0o644)
    spoiled.write_bytes(b"x" * 1000)
    assert deliver(cache, source, file, tmp_path / "two") is False
    assert (tmp_path / "two").read_bytes() == make_content("f1", 1000)
    changes = cache.journal.changes_after(cache.journal.position().epoch, 0)
    assert changes is not None
    assert [change.operation.value for change in changes] == ["add", "del", "add"]


def test_touching_a_file_without_changing_it_costs_a_reading_not_a_transfer(tmp_path: Path) -> None:
    cache, source, file = make_cache(tmp_path / "c"), Source(), wanted_file()
    deliver(cache, source, file, tmp_path / "one")
    os.utime(Entry.of(tmp_path / "c", file.key).data, (1, 1))
    assert deliver(cache, source, file, tmp_path / "two") is True


def test_another_version_under_the_same_name_is_transferred(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c"), Source()
    deliver(cache, source, wanted_file(size=1000), tmp_path / "one")
    assert deliver(cache, source, wanted_file(size=2000), tmp_path / "two") is False
    assert [file.size_bytes for file in cache.journal.snapshot().files] == [2000]
    assert cache.journal.total_bytes() == 2000


def test_the_same_name_in_two_scopes_is_two_files(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c"), Source()
    deliver(cache, source, wanted_file(scope="a"), tmp_path / "one")
    assert deliver(cache, source, wanted_file(scope="b"), tmp_path / "two") is False
    assert len(cache.journal.snapshot().files) == 2


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    cache, source, file = make_cache(tmp_path / "c"), Source(), wanted_file(size=0)
    assert deliver(cache, source, file, tmp_path / "one") is False
    assert deliver(cache, source, file, tmp_path / "two") is True


def test_files_unused_for_longest_are_removed_down_to_the_low_mark(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c", high=10_000, low=5_000), Source()
    for number in range(10):
        deliver(cache, source, wanted_file(f"f{number}"), tmp_path / "job")
        (tmp_path / "job").unlink()
        meta = Entry.of(tmp_path / "c", ("", f"f{number}", "site")).meta_path
        os.utime(meta, (number, number))
    # The oldest is used again, so the next ones have to go.
    deliver(cache, source, wanted_file("f0"), tmp_path / "job")
    (tmp_path / "job").unlink()
    deliver(cache, source, wanted_file("new"), tmp_path / "job")
    assert {file.lfn for file in cache.journal.snapshot().files} == {"f0", "f7", "f8", "f9", "new"}
    on_disk = {path.name for path in (tmp_path / "c" / "files").glob("*/*")}
    assert len(on_disk) == 5


def test_a_file_that_a_running_job_has_linked_is_not_removed(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c", high=3_000, low=0), Source()
    deliver(cache, source, wanted_file("used"), tmp_path / "running")
    if (tmp_path / "running").stat().st_nlink == 1:
        pytest.skip("this file system shares blocks: nothing is linked")
    os.utime(Entry.of(tmp_path / "c", ("", "used", "site")).meta_path, (1, 1))
    for name in ("f2", "f3", "f4"):
        deliver(cache, source, wanted_file(name), tmp_path / name)
        (tmp_path / name).unlink()
    assert "used" in {file.lfn for file in cache.journal.snapshot().files}


def test_a_file_larger_than_the_cache_goes_past_it_and_evicts_nothing(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c", high=3_000, low=2_000), Source()
    deliver(cache, source, wanted_file("small"), tmp_path / "one")
    (tmp_path / "one").unlink()
    large = wanted_file("large", size=5_000)
    assert deliver(cache, source, large, tmp_path / "two") is False
    assert (tmp_path / "two").read_bytes() == make_content("large", 5_000)
    assert [file.lfn for file in cache.journal.snapshot().files] == ["small"]


def test_a_disk_that_fills_up_during_a_transfer_sends_the_file_past_the_cache(
    tmp_path: Path,
) -> None:
    cache, file = make_cache(tmp_path / "c"), wanted_file()

    def fetch(path: Path) -> None:
        if "incoming" in path.parts:
            raise TransferError(TransferFault.FULL, "no space left on device")
        path.write_bytes(make_content("f1", 1000))

    assert cache.deliver(file, tmp_path / "one", make_origin(file, fetch), Stop()) is False
    assert (tmp_path / "one").read_bytes() == make_content("f1", 1000)
    assert cache.journal.snapshot().files == ()


def test_waiting_for_another_transfer_ends_with_a_cancel(tmp_path: Path) -> None:
    cache, source, file, stop = make_cache(tmp_path / "c"), Source(), wanted_file(), Stop()
    stop.request(StopReason.CANCELLED)
    with (
        locks.exclusive(Entry.of(tmp_path / "c", file.key).lock_path),
        pytest.raises(StoppedError),
    ):
        cache.deliver(file, tmp_path / "one", source.fetch(file), stop)


def test_a_vanished_file_is_noted_as_deleted_and_transferred_again(tmp_path: Path) -> None:
    cache, source, file = make_cache(tmp_path / "c"), Source(), wanted_file()
    deliver(cache, source, file, tmp_path / "one")
    entry = Entry.of(tmp_path / "c", file.key)
    entry.data.unlink()
    entry.meta_path.unlink()
    entry.directory.rmdir()
    assert deliver(cache, source, file, tmp_path / "two") is False
    changes = cache.journal.changes_after(cache.journal.position().epoch, 0)
    assert changes is not None
    assert [change.operation.value for change in changes] == ["add", "del", "add"]


def test_healing_makes_the_journal_say_what_the_tree_holds(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c"), Source()
    for name in ("kept", "gone", "broken"):
        deliver(cache, source, wanted_file(name), tmp_path / name)
        (tmp_path / name).unlink()
    # As after a kill between the rename and the journal, and a clean-up by hand.
    cache.journal.record(deleted=[("", "kept", "site")])
    gone = Entry.of(tmp_path / "c", ("", "gone", "site")).directory
    gone.rename(tmp_path / "elsewhere")
    Entry.of(tmp_path / "c", ("", "broken", "site")).meta_path.write_text("{", encoding="utf-8")
    stray = tmp_path / "c" / "incoming" / "0123456789.abcd"
    stray.mkdir()
    (stray / "data").write_bytes(b"half")
    make_cache(tmp_path / "c").heal()
    assert [file.lfn for file in cache.journal.snapshot().files] == ["kept"]
    assert list((tmp_path / "c" / "incoming").iterdir()) == []


def test_a_lost_journal_is_written_anew_from_the_tree_in_a_new_epoch(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c"), Source()
    deliver(cache, source, wanted_file(), tmp_path / "one")
    before = cache.journal.position()
    for path in (tmp_path / "c" / "journal").iterdir():
        path.unlink()
    again = make_cache(tmp_path / "c")
    again.heal()
    after = again.journal.position()
    assert after.epoch != before.epoch
    assert after.digest == before.digest


WORKER = """
import sys, time
from pathlib import Path
from tests.unit.pilot.cache.test_node_cache import make_cache, make_content, make_origin, wanted_file
from pandawn_pilot.stop import Stop
root, job, log, pause = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])
cache, file = make_cache(root), wanted_file(size=200_000)
def fetch(path):
    with log.open("a") as stream:
        stream.write("fetched\\n")
    path.write_bytes(make_content("f1", 100_000))
    print("half", flush=True)
    time.sleep(pause)
    path.write_bytes(make_content("f1", 200_000))
print(cache.deliver(file, job, make_origin(file, fetch), Stop()), flush=True)
"""


def start_worker(tmp_path: Path, job: str, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            WORKER,
            str(tmp_path / "c"),
            str(tmp_path / job),
            str(tmp_path / "log"),
            str(pause),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[4],
    )


def test_pilots_that_want_one_file_at_once_transfer_it_once(tmp_path: Path) -> None:
    workers = [start_worker(tmp_path, f"job{number}", 0.3) for number in range(4)]
    answers = [worker.communicate()[0].splitlines()[-1] for worker in workers]
    assert sorted(answers) == ["False", "True", "True", "True"]
    assert (tmp_path / "log").read_text().splitlines() == ["fetched"]
    assert {(tmp_path / f"job{n}").read_bytes() for n in range(4)} == {make_content("f1", 200_000)}


def test_a_pilot_killed_in_a_transfer_leaves_no_half_file_and_no_lock(tmp_path: Path) -> None:
    victim = start_worker(tmp_path, "job0", 60)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "half\n"
    waiting = start_worker(tmp_path, "job1", 0)
    time.sleep(0.3)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    assert waiting.communicate()[0].splitlines()[-1] == "False"
    assert (tmp_path / "job1").read_bytes() == make_content("f1", 200_000)
    make_cache(tmp_path / "c").heal()
    assert list((tmp_path / "c" / "incoming").iterdir()) == []
    assert len(make_cache(tmp_path / "c").journal.snapshot().files) == 1
