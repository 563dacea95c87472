"""The parts that keep a pcache's books: its layout, the walk, names, inotify, the books themselves."""

from __future__ import annotations

import importlib.util
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from pandawn_pilot.catalog.file_names import Naming
from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.catalog.journal import Journal
from pandawn_pilot.catalog.node_journal import beside
from pandawn_pilot.cli import main as pilot_main
from pandawn_pilot.node.durable import replace_text
from pandawn_pilot.pcache.books import Books
from pandawn_pilot.pcache.cache import SitePcache
from pandawn_pilot.pcache.command import PcacheCommand
from pandawn_pilot.pcache.index import Row
from pandawn_pilot.pcache.inotify import Inotify, WatchError
from pandawn_pilot.pcache.layout import Place, read_options
from pandawn_pilot.pcache.names import Claim, Names, read_names, write_claim
from pandawn_pilot.pcache.tree import Walk
from pandawn_pilot.pcache.watched import WatchedTree
from tests.fixtures.pcache import SHIPPED
from tests.unit.pilot.factories import make_test_log


def put(place: Place, entry: str, content: bytes = b"data") -> Path:
    """A file as pcache puts it."""
    directory = place.cache / entry
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "xfer").write_bytes(content)
    (directory / "xfer").rename(directory / "data")
    return directory


def drop(place: Place, entry: str) -> None:
    """Removes a file as pcache does."""
    directory = place.cache / entry
    for item in directory.iterdir():
        item.unlink()
    directory.rmdir()


def age(place: Place) -> None:
    """Lets all directories look as if they had not changed for a while."""
    then = time.time() - 100
    for directory, _, _ in os.walk(place.cache):
        os.utime(directory, (then, then))


def make_place(root: Path) -> Place:
    place = Place(str(root))
    place.cache.mkdir(parents=True)
    return place


def make_books(place: Place, naming: Naming | None = None) -> Books:
    return Books(place, naming, make_test_log())


def held(books: Books) -> dict[str, int]:
    return {file.lfn: file.size_bytes for file in books.journal.snapshot().files}


@pytest.fixture
def real() -> Any:
    """The real pcache as a module: only its rule for places is asked."""
    spec = importlib.util.spec_from_file_location("real_pcache", SHIPPED)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    mask = os.umask(0o022)
    # It sets the umask of whoever makes one.
    pcache = module.Pcache()
    os.umask(mask)
    return pcache


@pytest.mark.parametrize(
    "source",
    [
        "/pnfs/x/f",
        "root://host:1094//pnfs/x/f",
        "srm://host:8443/srm/managerv2?SFN=/pnfs/x/f",
        "srm://host:8443/srm/managerv2?SFN=/castor/x/f",
        "gsiftp://host/other//x/./f",
        "/a/pnfs/b/pnfs/f",
        "/elsewhere/f",
        "/pnfs/x/../../f",
        "f",
    ],
)
def test_a_source_has_its_place_where_the_real_one_puts_it(
    tmp_path: Path, real: Any, source: str
) -> None:
    place = Place(str(tmp_path))
    real.pcache_dir, real.src = f"{place.scratch_dir}pcache/", source
    real.create_pcache_dst_dir()
    entry = place.entry(source, real.storage_root)
    assert entry is not None
    assert f"{place.cache}/{entry}/" == real.pcache_dst_dir


def test_a_source_that_leaves_the_cache_has_no_place(tmp_path: Path) -> None:
    assert Place(str(tmp_path)).entry("/pnfs/../../../../etc/f", "/pnfs") is None


def test_options_are_taken_apart_as_pcache_does() -> None:
    asked = read_options(["-s", "/s", "--storage-root=/x", "-C", "-g", "G", "cp", "-v", "a", "b"])
    assert asked is not None
    assert (asked.scratch_dir, asked.storage_root, asked.clean) == ("/s", "/x", True)
    assert asked.words == ("cp", "-v", "a", "b")
    assert read_options(["--no-such-option"]) is None


@pytest.mark.parametrize("text", ["", "-s /scratch cp", "pcache.py --odd"])
def test_a_pcache_command_that_cannot_be_taken_apart_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a pcache command"):
        PcacheCommand(text)


def walk(
    place: Place, rows: dict[str, Row], directories: dict[str, int], *, deep: bool = False
) -> tuple[dict[str, Row], set[str], dict[str, int]]:
    again = Walk(str(place.cache))
    found = dict(again.again(rows, directories, deep=deep))
    return found, again.same, again.directories


def test_a_walk_over_what_has_not_changed_lists_nothing(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    for entry in ("a/one", "a/two", "three"):
        put(place, entry)
    (place.cache / "empty").mkdir()
    age(place)
    rows, same, directories = walk(place, {}, {})
    assert (set(rows), same) == ({"a/one", "a/two", "three"}, set())
    # Hidden from a listing, and not from a look: nobody lists what has not changed.
    found, same, again = walk(place, rows, directories)
    assert (found, same, again) == ({}, set(rows), directories)


def test_a_walk_sees_what_came_and_went_at_any_depth(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    for entry in ("a/b/one", "a/b/two", "c/three"):
        put(place, entry)
    age(place)
    rows, _, directories = walk(place, {}, {})
    drop(place, "a/b/two")
    put(place, "a/d/four")
    found, same, _ = walk(place, rows, directories)
    assert (set(found), same) == ({"a/d/four"}, {"a/b/one", "c/three"})


def test_a_directory_that_changed_just_now_is_listed_again(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    put(place, "one")
    rows, _, directories = walk(place, {}, {})
    assert rows["one"].entry_ns == directories[""] == 0
    # Within the same tick of the clock, as far as anybody can tell.
    found, same, _ = walk(place, rows, directories)
    assert set(found) == {"one"}
    assert same == set()


def test_only_a_deep_walk_sees_what_was_written_into_a_file(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    directory = put(place, "one")
    age(place)
    rows, _, directories = walk(place, {}, {})
    (directory / "data").write_bytes(b"longer than before")
    assert walk(place, rows, directories)[1] == {"one"}
    found, _, _ = walk(place, rows, directories, deep=True)
    assert found["one"].size_bytes == 18


def test_a_file_and_directories_below_it_are_both_found(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    put(place, "a")
    put(place, "a/b")
    put(place, "c/data/data")
    rows, _, directories = walk(place, {}, {})
    assert set(rows) == {"a", "a/b", "c/data/data"}
    age(place)
    rows, _, directories = walk(place, rows, directories)
    drop(place, "a/b")
    found, same, _ = walk(place, rows, directories)
    assert {*found, *same} == {"a", "c/data/data"}


def test_names_that_a_pilot_gave_come_before_all_others(tmp_path: Path) -> None:
    (tmp_path / "src").write_text("root://host//pnfs/x/f.root?token=1\n")
    (tmp_path / "guid").write_text("AB-CD\n")
    where = str(tmp_path)
    marks = (1, 2, 3)
    assert read_names(where, "x/f.root?token=1", Naming(), marks) == Names("f.root", "", "AB-CD")
    claimed = Names("run7/f", "mc", "EF", "site")
    write_claim(tmp_path, Claim(claimed, marks))
    assert read_names(where, "x/f.root?token=1", Naming(), marks) == claimed
    # Of other data the version is not known.
    other = read_names(where, "x/f.root?token=1", Naming(), (8, 8, 8))
    assert other == Names("run7/f", "mc", "EF")


def test_a_damaged_claim_and_a_damaged_guid_are_as_none(tmp_path: Path) -> None:
    (tmp_path / ".pandawn").write_text('{"version": 1, "lfn": "../x"')
    (tmp_path / "guid").write_bytes(b"\xff\xfe\n")
    (tmp_path / "src").write_text("/x/what?.root\n")
    assert read_names(str(tmp_path), "x/what?.root", Naming(), (1, 2, 3)) == Names("what?.root")


def test_books_that_look_at_one_entry_know_it_and_what_it_was_before(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    put(place, "x/one")
    put(place, "y/one", b"longer")
    books = make_books(place)
    books.scan()
    assert held(books) == {"one": 6}
    drop(place, "y/one")
    put(place, "z/two")
    books.look(["y/one", "z"])
    assert held(books) == {"one": 4, "two": 4}
    drop(place, "x/one")
    books.look(["x"])
    assert held(books) == {"two": 4}


def test_two_that_keep_the_books_do_not_undo_each_other(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    put(place, "one")
    first, second = make_books(place), make_books(place)
    first.scan()
    put(place, "two")
    second.scan()
    drop(place, "one")
    first.look(["one"])
    second.look(["two"])
    assert held(first) == held(second) == {"two": 4}
    epoch = first.journal.position().epoch
    first.scan()
    assert second.journal.position().epoch == epoch


def test_what_a_data_server_of_the_node_holds_is_reported_in_one_inventory_with_it(
    tmp_path: Path,
) -> None:
    place = make_place(tmp_path)
    put(place, "one")
    books = make_books(place)
    books.scan()
    assert books.reported() is books.journal
    Journal(beside(place.books, "xrootd")).record(added=[CachedFile("far", 5)])
    together = make_books(place).reported()
    together.position()
    assert {file.lfn for file in together.snapshot().files} == {"one", "far"}


def test_a_guid_that_comes_later_is_told(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    directory = put(place, "one")
    books = make_books(place)
    books.scan()
    (directory / "guid").write_text("AB\n")
    books.scan()
    assert books.journal.snapshot().files == (CachedFile("one", 4, guid="AB"),)


def test_an_index_that_lies_is_found_out(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    put(place, "one")
    make_books(place).scan()
    index = place.books / "entries.json"
    index.write_text(index.read_text().replace('"one"', '"gone"', 1))
    books = make_books(place)
    books.scan()
    assert held(books) == {"one": 4}


@pytest.mark.parametrize(
    ("directory", "file"),
    [(0o755, 0o644), (0o777, 0o666), (0o775, 0o664), (0o1777, 0o644)],
)
def test_a_file_may_be_written_by_those_who_may_write_its_directory(
    tmp_path: Path, directory: int, file: int
) -> None:
    tmp_path.chmod(directory)
    mask = os.umask(0o022)
    replace_text(tmp_path / "f", "x")
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == file


def test_accounts_that_share_a_pcache_share_its_books(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    place = make_place(tmp_path)
    for directory in (place.root, place.cache):
        directory.chmod(0o777)
    put(place, "one")
    make_books(place).scan()
    wrong = [
        path
        for path in [*place.books.rglob("*"), place.epoch_mark]
        if stat.S_IMODE(path.stat().st_mode) & 0o006 != 0o006
    ]
    assert wrong == []


def test_lost_events_make_everything_due(tmp_path: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    place = make_place(tmp_path)
    with Inotify() as inotify:
        tree = WatchedTree(inotify, str(place.cache))
        tree.opened("")
        for _ in range(limit // 2 + 2):
            (place.cache / "x").mkdir()
            (place.cache / "x").rmdir()
        changes = []
        while inotify.wait(0):
            changes.append(tree.changed())
        assert None in changes
        put(place, "y")
        assert inotify.wait(10)
        assert tree.changed() == {"y"}


def test_a_watch_tells_where_to_look(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    (place.cache / "a").mkdir()
    with Inotify() as inotify:
        tree = WatchedTree(inotify, str(place.cache))
        for path in ("", "a", "gone"):
            tree.opened(path)
        (place.cache / "size").write_text("5")
        (place.cache / "a" / "xfer").write_text("5")
        assert tree.changed() == set()
        (place.cache / "a" / "xfer").rename(place.cache / "a" / "data")
        assert tree.changed() == {"a"}
        tree.closed("a")
        drop(place, "a")
        assert tree.changed() == {"a"}
        assert tree.is_rooted
        place.cache.rename(tmp_path / "elsewhere")
        assert tree.changed() is None
        assert not tree.is_rooted


def test_an_inotify_that_cannot_watch_says_why(tmp_path: Path) -> None:
    with Inotify() as inotify, pytest.raises(WatchError, match="cannot watch"):
        inotify.add(str(tmp_path / ("x" * 300)))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--cache=pcache", "--cache-dir=/c"], "--cache pcache requires --pcache-cmd"),
        (["--cache=own", "--pcache-cmd=pcache.py -s /s"], "--cache own requires --cache-dir"),
        (["--pcache-cmd=pcache.py --odd"], "is not a pcache command"),
    ],
)
def test_options_of_a_pilot_that_contradict_each_other_are_told(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        pilot_main(["run", "--server=h:1", "--queue=q", "--work-dir=/w", *options])
    assert end.value.code == 2
    assert complaint in capsys.readouterr().err


def test_links_that_a_dead_pilot_left_are_removed_and_fresh_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = PcacheCommand(f"pcache.py --scratch-dir={tmp_path}")
    SitePcache(command, make_test_log())
    left = tmp_path / "pandawn-pcache" / "incoming" / "left"
    left.write_text("x")
    os.utime(left, (0, 0))
    SitePcache(command, make_test_log())
    assert left.exists()
    # Nobody can set the time at which a link was made: the clock has to go on instead.
    day_after_tomorrow = time.time() + 2 * 24 * 3600
    monkeypatch.setattr(time, "time", lambda: day_after_tomorrow)
    SitePcache(command, make_test_log())
    assert not left.exists()
