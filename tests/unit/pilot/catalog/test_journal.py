"""The journal of a cache: what it remembers, across processes, torn writes and damage."""

from __future__ import annotations

import subprocess
import sys
from functools import reduce
from hashlib import sha256
from operator import xor
from pathlib import Path

import pytest

from pandawn_pilot.catalog import journal as journal_module
from pandawn_pilot.catalog.inventory import file_digest
from pandawn_pilot.catalog.journal import Journal
from pandawn_pilot.catalog.journal_files import Operation, changes_path
from tests.unit.pilot.factories import make_file


def test_the_digest_is_the_formula_of_the_contract() -> None:
    one = bytes.fromhex("00000001")
    by_hand = sha256(one + b"s" + one + b"f" + one + b"v" + bytes(7) + b"\x01").digest()[:8]
    assert file_digest(make_file("f", 1, scope="s", version="v")) == int.from_bytes(by_hand, "big")


def test_a_new_journal_begins_a_non_zero_epoch_with_nothing_in_it(tmp_path: Path) -> None:
    position = Journal(tmp_path / "j").position()
    assert position.epoch != 0
    assert (position.number, position.digest) == (0, 0)


def test_a_journal_survives_its_process(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.record(added=[make_file("a", 1), make_file("b", 2)], deleted=[])
    first.record(deleted=[("", "a", "")])
    again = Journal(tmp_path)
    assert again.position() == first.position()
    assert [file.lfn for file in again.snapshot().files] == ["b"]
    assert again.total_bytes() == 2


def test_the_digest_is_that_of_the_files_held(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.record(added=[make_file("a", 1), make_file("b", 2), make_file("c", 3)])
    journal.record(added=[make_file("b", 7)], deleted=[("", "a", "")])
    expected = reduce(xor, (file_digest(file) for file in journal.snapshot().files))
    assert journal.position().digest == expected


def test_saying_nothing_new_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.record(added=[make_file("a"), make_file("a")])
    position = journal.position()
    assert position.number == 1
    journal.record(added=[make_file("a")], deleted=[("", "unknown", "")])
    assert journal.position() == position


def test_another_size_under_a_known_name_is_a_deletion_and_an_addition(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.record(added=[make_file("a", 1)])
    journal.record(added=[make_file("a", 2)])
    changes = journal.changes_after(journal.position().epoch, 1)
    assert changes is not None
    assert [change.operation for change in changes] == [Operation.DELETE, Operation.ADD]
    assert [change.file.size_bytes for change in changes] == [1, 2]


def test_two_processes_see_each_others_changes(tmp_path: Path) -> None:
    one, other = Journal(tmp_path), Journal(tmp_path)
    one.record(added=[make_file("a")])
    other.record(added=[make_file("b")])
    one.record(deleted=[("", "b", "")])
    assert one.position() == other.position()
    assert other.find(("", "b", "")) is None
    assert other.find(("", "a", "")) == make_file("a")


def test_many_processes_writing_at_once_lose_no_change(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from pandawn_pilot.catalog.journal import Journal;"
        "from pandawn_pilot.catalog.inventory import CachedFile\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for i in range(50): journal.record(added=[CachedFile(f'{sys.argv[2]}-{i}', i)])\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(n)]) for n in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    journal = Journal(tmp_path)
    assert len(journal.snapshot().files) == 200
    assert journal.position().number == 200


def test_a_line_cut_off_by_a_kill_is_dropped_and_written_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.record(added=[make_file("a")])
    path = changes_path(tmp_path, journal.position().epoch, 0)
    with path.open("ab") as stream:
        stream.write(b'[2,"add","","b')
    again = Journal(tmp_path)
    assert again.position().number == 1
    again.record(added=[make_file("c")])
    assert [file.lfn for file in Journal(tmp_path).snapshot().files] == ["a", "c"]
    assert journal.position() == again.position()


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"version":99}', b"\xff\xff"])
def test_a_damaged_base_begins_a_new_epoch(tmp_path: Path, damage: bytes) -> None:
    journal = Journal(tmp_path)
    journal.record(added=[make_file("a")])
    before = journal.position()
    (tmp_path / "index.json").write_bytes(damage)
    after = journal.position()
    assert after.epoch != before.epoch
    assert journal.snapshot().files == ()


def test_a_damaged_line_begins_a_new_epoch(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.record(added=[make_file("a")])
    before = journal.position()
    changes_path(tmp_path, before.epoch, 0).write_bytes(b"garbage\n")
    again = Journal(tmp_path)
    assert again.position().epoch != before.epoch
    again.record(added=[make_file("b")])
    assert [file.lfn for file in again.snapshot().files] == ["b"]
    assert journal.position() == again.position()


def test_a_wiped_directory_begins_a_new_epoch(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.record(added=[make_file("a")])
    before = journal.position()
    for path in tmp_path.iterdir():
        path.unlink()
    assert journal.position().epoch != before.epoch
    assert journal.total_bytes() == 0


def test_compacting_keeps_epoch_number_digest_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_AFTER_CHANGES", 5)
    journal, other = Journal(tmp_path), Journal(tmp_path)
    for i in range(8):
        journal.record(added=[make_file("a", i)])
    before = journal.position()
    journal.compact()
    assert journal.position() == before
    assert other.position() == before
    assert journal.changes_after(before.epoch, before.number) == ()
    assert journal.changes_after(before.epoch, before.number - 1) is None
    assert len(list(tmp_path.glob("changes-*"))) <= 1
    other.record(added=[make_file("b")])
    assert journal.position().number == before.number + 1


def test_changes_of_another_epoch_are_not_known(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.record(added=[make_file("a")])
    before = journal.position()
    journal.begin_epoch([make_file("b")])
    assert journal.changes_after(before.epoch, 0) is None
    assert journal.position().epoch != before.epoch
    assert journal.position().digest == file_digest(make_file("b"))
