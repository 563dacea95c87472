"""Whatever happens to a pcache's tree, in whatever order it is looked at: the books are the disk."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pandawn_pilot.pcache.books import Books
from pandawn_pilot.pcache.layout import Place
from tests.unit.pilot.factories import make_test_log

# Few, so that the same ones come and go; one lies in another's directory.
ENTRIES = st.sampled_from(["f", "a/f", "a/g", "a/b/h", "a/b/h/i", "c/d/e/j", "data/k", "c/data"])
STARTS = st.sets(st.sampled_from(["f", "a", "a/b", "a/b/h", "c/d", "c", "data/k", "gone"]))


class PcacheTree(RuleBasedStateMachine):
    """A tree, two that keep its books, and a clock that lets directories grow old."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="pandawn-pcache-"))
        self.place = Place(str(self.root))
        self.place.cache.mkdir(parents=True)
        self.books = [Books(self.place, None, make_test_log()) for _ in range(2)]

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @rule(entry=ENTRIES, size=st.integers(0, 3))
    def put(self, entry: str, size: int) -> None:
        directory = self.place.cache / entry
        directory.mkdir(parents=True, exist_ok=True)
        if not (directory / "data").is_dir():
            (directory / "xfer").write_bytes(b"x" * size)
            (directory / "xfer").replace(directory / "data")

    @rule(entry=ENTRIES)
    def begin(self, entry: str) -> None:
        directory = self.place.cache / entry
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "xfer").write_bytes(b"half")

    @rule(entry=ENTRIES, parents=st.booleans())
    def remove(self, entry: str, *, parents: bool) -> None:
        directory = self.place.cache / entry
        if parents:
            directory = directory.parent
        if directory != self.place.cache:
            shutil.rmtree(directory, ignore_errors=True)

    @rule()
    def grow_old(self) -> None:
        then = time.time() - 100
        for directory, _, _ in os.walk(self.place.cache):
            os.utime(directory, (then, then))

    @rule()
    def wipe(self) -> None:
        shutil.rmtree(self.place.cache)
        self.place.cache.mkdir()

    @rule(who=st.integers(0, 1), starts=STARTS)
    def look(self, who: int, starts: set[str]) -> None:
        self.books[who].look(starts)

    @rule(who=st.integers(0, 1))
    def start_again(self, who: int) -> None:
        self.books[who] = Books(self.place, None, make_test_log())

    @rule(who=st.integers(0, 1))
    def scan(self, who: int) -> None:
        holding, _ = self.books[who].scan()
        held = {file.lfn: file.size_bytes for file in self.books[who].journal.snapshot().files}
        disk: dict[str, set[int]] = {}
        for directory, _, names in os.walk(self.place.cache):
            if "data" in names:
                size = (Path(directory) / "data").stat().st_size
                disk.setdefault(Path(directory).name, set()).add(size)
        assert held.keys() == disk.keys()
        # Of two of a name the newer counts; within a tick of the clock that may be either.
        assert all(size in disk[lfn] for lfn, size in held.items())
        assert holding.file_count == len(held)

    @invariant()
    def both_read_the_same_journal(self) -> None:
        one, other = (books.journal.position() for books in self.books)
        assert one == other


def test_the_books_are_the_disk() -> None:
    run_state_machine_as_test(
        PcacheTree, settings=settings(max_examples=60, stateful_step_count=25, deadline=None)
    )
