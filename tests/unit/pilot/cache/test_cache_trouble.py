"""Trouble of the node cache's disk: files go past it, its size is kept, the catalog learns what is gone."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pandawn_pilot.cache import node_cache
from pandawn_pilot.cache.entry import Entry
from pandawn_pilot.cache.node_cache import NodeCache
from pandawn_pilot.cache.room import CacheLimits
from pandawn_pilot.catalog import journal as journal_module
from pandawn_pilot.catalog.journal import Journal
from pandawn_pilot.catalog.loop import CatalogLoop
from pandawn_pilot.catalog.reporter import CatalogReporter
from pandawn_pilot.logs import Log, make_log
from pandawn_pilot.node import locks
from pandawn_pilot.node.locks import LockTimeoutError
from pandawn_pilot.stop import Stop
from pandawn_transports.base import TransferError, TransferFault
from tests.fixtures.pilots import wait_until
from tests.fixtures.processes import skip_or_fail
from tests.unit.pilot.cache.test_node_cache import (
    Source,
    deliver,
    make_cache,
    make_content,
    make_origin,
    wanted_file,
)
from tests.unit.pilot.fake_catalog import FakeCatalog


@pytest.mark.parametrize("part", ["files", "incoming", "locks", "journal"])
def test_files_go_past_a_cache_that_cannot_be_used_and_the_log_says_so_once(
    tmp_path: Path, part: str
) -> None:
    stream = io.StringIO()
    log = make_log(as_json=False, node="wn01", stream=stream, level=logging.INFO)
    cache, source = NodeCache(tmp_path / "c", CacheLimits(10**6, 10**6), log), Source()
    deliver(cache, source, wanted_file(), tmp_path / "before")
    shutil.move(tmp_path / "c" / part, tmp_path / "away")
    (tmp_path / "c" / part).write_text("not a directory")
    for name in ("f2", "f3", "f4"):
        assert deliver(cache, source, wanted_file(name), tmp_path / name) is False
        assert (tmp_path / name).read_bytes() == make_content(name, 1000)
        assert not cache.holds(wanted_file("f9"))
    cache.evictable_bytes()
    assert stream.getvalue().count("cannot be used") == 1
    (tmp_path / "c" / part).unlink()
    shutil.move(tmp_path / "away", tmp_path / "c" / part)
    assert deliver(cache, source, wanted_file(), tmp_path / "after") is True
    assert "works again" in stream.getvalue()


def test_a_cache_that_is_removed_during_a_transfer_costs_nothing(tmp_path: Path) -> None:
    cache, file = make_cache(tmp_path / "c"), wanted_file()

    def fetch(path: Path) -> None:
        path.write_bytes(make_content("f1", 1000))
        shutil.rmtree(tmp_path / "c", ignore_errors=True)

    assert cache.deliver(file, tmp_path / "one", make_origin(file, fetch), Stop()) is False
    assert (tmp_path / "one").read_bytes() == make_content("f1", 1000)
    assert deliver(cache, Source(), file, tmp_path / "two") is False
    assert deliver(cache, Source(), file, tmp_path / "three") is True


def test_a_transfer_that_fails_by_the_caches_disk_is_done_past_it(tmp_path: Path) -> None:
    cache, file = make_cache(tmp_path / "c"), wanted_file()

    def fetch(path: Path) -> None:
        if "incoming" in path.parts:
            raise TransferError(TransferFault.LOCAL, "input/output error")
        path.write_bytes(make_content("f1", 1000))

    assert cache.deliver(file, tmp_path / "one", make_origin(file, fetch), Stop()) is False
    assert (tmp_path / "one").read_bytes() == make_content("f1", 1000)


def test_a_transfer_that_fails_by_its_storage_fails(tmp_path: Path) -> None:
    cache, file = make_cache(tmp_path / "c"), wanted_file()
    calls = []

    def fetch(path: Path) -> None:
        calls.append(path)
        raise TransferError(TransferFault.OTHER, "connection reset")

    with pytest.raises(TransferError, match="connection reset"):
        cache.deliver(file, tmp_path / "one", make_origin(file, fetch), Stop())
    assert len(calls) == 1


READER = """
import sys
from pathlib import Path
from tests.unit.pilot.cache.test_node_cache import Source, deliver, make_cache, wanted_file
cache = make_cache(Path(sys.argv[1]))
print(deliver(cache, Source(), wanted_file(), Path(sys.argv[2])))
print([file.lfn for file in cache.journal.snapshot().files])
"""


def test_an_entry_on_a_bad_sector_is_removed_and_fetched_anew(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        skip_or_fail("strace")
    cache = make_cache(tmp_path / "c")
    deliver(cache, Source(), wanted_file(), tmp_path / "one")
    entry = Entry.of(tmp_path / "c", wanted_file().key)
    # As after a reboot, it has to be read.
    os.utime(entry.data, (1, 1))
    marks = entry.data.stat().st_ino
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", str(entry.data)]
    inject = ["-e", "trace=read,pread64", "-e", "inject=read,pread64:error=EIO"]
    done = subprocess.run(
        [
            *strace,
            *inject,
            sys.executable,
            "-c",
            READER,
            str(tmp_path / "c"),
            str(tmp_path / "two"),
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[4],
        check=True,
    )
    assert done.stdout.splitlines() == ["False", "['f1']"]
    assert (tmp_path / "two").read_bytes() == make_content("f1", 1000)
    assert entry.data.stat().st_ino != marks


def test_a_journal_that_was_damaged_does_not_let_the_cache_grow(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c", high=5_000, low=4_000), Source()
    for number in range(5):
        deliver(cache, source, wanted_file(f"a{number}"), tmp_path / "job")
        (tmp_path / "job").unlink()
    (changes,) = (tmp_path / "c/journal").glob("changes-*.jsonl")
    with changes.open("ab") as stream:
        stream.write(b'{"half a line\n')
    for number in range(3):
        deliver(cache, source, wanted_file(f"b{number}"), tmp_path / "job")
        (tmp_path / "job").unlink()
        held = list((tmp_path / "c/files").rglob("data"))
        assert sum(data.stat().st_size for data in held) <= 5_000
        # And the catalog is told of all of them, not only of what came since.
        assert len(cache.journal.snapshot().files) == len(held)


def test_files_that_a_cleaner_took_are_told_while_the_pilot_lives(tmp_path: Path) -> None:
    cache, source = make_cache(tmp_path / "c"), Source()
    for name in ("data-gone", "all-gone", "kept"):
        deliver(cache, source, wanted_file(name), tmp_path / name)
    Entry.of(tmp_path / "c", wanted_file("data-gone").key).data.unlink()
    shutil.rmtree(Entry.of(tmp_path / "c", wanted_file("all-gone").key).directory)
    cache.look()
    assert [file.lfn for file in cache.journal.snapshot().files] == ["kept"]


def test_a_lock_that_a_stopped_process_holds_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j")
    monkeypatch.setattr(journal_module, "LOCK_SECONDS", 0.05)
    with (tmp_path / "j/lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LockTimeoutError):
            journal.position()
    assert journal.position().number == 0


def test_a_file_that_a_stopped_process_transfers_goes_past_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, file = make_cache(tmp_path / "c"), wanted_file()
    monkeypatch.setattr(node_cache, "TURN_SECONDS", 0.05)
    with locks.exclusive(Entry.of(tmp_path / "c", file.key).lock_path):
        assert deliver(cache, Source(), file, tmp_path / "one") is False
    assert (tmp_path / "one").read_bytes() == make_content("f1", 1000)


class FailingReporter(CatalogReporter):
    """Cannot be asked about its cache, so many times."""

    def __init__(self, directory: Path, failures: int, error: Exception, log: Log) -> None:
        super().__init__(Journal(directory), FakeCatalog(), log)
        self.left = failures
        self.error = error

    def pending(self) -> bool:
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return super().pending()


@pytest.mark.parametrize("error", [OSError("no space left on device"), ZeroDivisionError()])
def test_trouble_of_the_cache_is_logged_when_it_begins_and_ends_and_not_at_each_try(
    tmp_path: Path, error: Exception
) -> None:
    stream = io.StringIO()
    log = make_log(as_json=False, node="wn01", stream=stream, level=logging.INFO)
    loop = CatalogLoop(FailingReporter(tmp_path, 4, error, log), log)
    loop.start()
    wait_until(lambda: "works again" in stream.getvalue())
    loop.stop()
    text = stream.getvalue()
    assert text.count("WARNING") == 1
    assert text.count("Traceback") == (0 if isinstance(error, OSError) else 1)
