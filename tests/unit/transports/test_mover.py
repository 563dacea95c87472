"""Copies of files: every byte once, holes kept, changes noticed, links of others not followed."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import zlib
from pathlib import Path

import pytest

from pandawn_transports.mover import places
from pandawn_transports.mover.copying import CHUNK_BYTES, Sums, copy_bytes, sum_bytes
from pandawn_transports.mover.main import FailedError, Pilot, fetch, store
from pandawn_transports.mover.places import Place, RootGoneError, mark_of, unmounted_above

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led by others' links")
MEBIBYTE = 2**20


def copied(source: Path, destination: Path, sums: Sums | None = None) -> int:
    with source.open("rb") as reader, destination.open("r+b") as writer:
        return copy_bytes(reader.fileno(), writer.fileno(), lambda _: None, sums)


def make_sparse(path: Path, size: int, pieces: dict[int, bytes]) -> None:
    with path.open("wb") as stream:
        for offset, piece in pieces.items():
            os.pwrite(stream.fileno(), piece, offset)
        os.ftruncate(stream.fileno(), size)


@pytest.mark.parametrize("with_sums", [False, True])
@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        (0, {}),
        (5, {0: b"12345"}),
        (CHUNK_BYTES + 3, {0: bytes(random.Random(1).randbytes(CHUNK_BYTES + 3))}),
        (9 * MEBIBYTE + 1, {}),
        (9 * MEBIBYTE + 1, {4 * MEBIBYTE: b"x"}),
        (9 * MEBIBYTE + 1, {0: b"first", 9 * MEBIBYTE: b"l"}),
        (9 * MEBIBYTE, {MEBIBYTE: b"y" * MEBIBYTE, 5 * MEBIBYTE: b"z" * 5000}),
    ],
    ids=["empty", "small", "full", "hole", "island", "ends", "two"],
)
def test_a_copy_has_the_bytes_and_the_holes_of_its_source_over_whatever_was_there(
    tmp_path: Path, size: int, pieces: dict[int, bytes], *, with_sums: bool
) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    make_sparse(source, size, pieces)
    destination.write_bytes(b"older" * 3 * MEBIBYTE)
    sums = Sums(with_sha256=True) if with_sums else None
    assert copied(source, destination, sums) == size
    content = source.read_bytes()
    assert destination.read_bytes() == content
    if source.stat().st_blocks * 512 < size:
        assert destination.stat().st_blocks * 512 < size
    if sums is not None:
        assert sums.adler32 == f"adler32:{zlib.adler32(content):08x}"
        assert sums.sha256 == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_the_sums_of_a_file_that_is_only_read_are_those_of_its_copy(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content" * MEBIBYTE)
    sums = Sums()
    with (tmp_path / "f").open("rb") as reader:
        assert sum_bytes(reader.fileno(), lambda _: None, sums) == 7 * MEBIBYTE
    assert sums.adler32 == f"adler32:{zlib.adler32(b'content' * MEBIBYTE):08x}"
    assert sums.sha256 == ""


class Obeying(Pilot):
    """A pilot that lets everything be published, and does something in the midst of a copy."""

    def __init__(self, meanwhile: object = None) -> None:
        super().__init__(-1, -1)
        self._meanwhile = meanwhile

    def send(self, message: dict[str, object]) -> None:
        del message

    def report_progress(self, position: int) -> None:
        del position
        if callable(self._meanwhile):
            self._meanwhile()

    def confirm(self) -> None:
        if callable(self._meanwhile):
            self._meanwhile()


def fetch_order(source: Path, destination: Path) -> dict[str, object]:
    return {"path": str(source), "to": str(destination), "uid": -1, "gid": -1}


def store_order(source: Path, target: Path, top: Path | None = None) -> dict[str, object]:
    return {
        "from": str(source),
        "path": str(target),
        "top": "" if top is None else str(top),
        "owner": "17-1",
        "sha256": False,
        "device": 0,
    }


def grow(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"more")


def rewrite(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(b"C")


@pytest.mark.parametrize("change", [grow, rewrite])
def test_a_source_that_changes_while_it_is_copied_is_not_taken(
    tmp_path: Path, change: object
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    os.utime(source, (1e9, 1e9))
    assert callable(change)
    pilot = Obeying(lambda: change(source))
    with pytest.raises(FailedError, match="changed") as failure:
        fetch(fetch_order(source, tmp_path / "copy"), pilot)
    assert failure.value.side == "changed"
    with pytest.raises(FailedError) as failure:
        store(store_order(source, tmp_path / "store" / "out"), pilot)
    assert failure.value.side == "changed"
    assert list((tmp_path / "store").iterdir()) == []


def test_a_storage_root_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x")
    top = tmp_path / "mount" / "atlas"
    with pytest.raises(FailedError, match="atlas is missing") as failure:
        store(store_order(tmp_path / "source", top / "2026" / "out", top), Obeying())
    assert failure.value.side == "root"
    assert not top.parent.exists()


def test_a_mount_point_of_the_nodes_table_that_nothing_is_mounted_on_is_told(
    tmp_path: Path,
) -> None:
    table = tmp_path / "fstab"
    table.write_text(
        f"server:/a {tmp_path}/nfs\\040one nfs defaults 0 0\n"
        f"server:/b {tmp_path}/later nfs noauto 0 0\n"
        "/dev/sda1 none swap sw 0 0\n"
        "/dev/sda2 / ext4 defaults 0 1\n"
        "# nothing\n"
    )
    point = str(tmp_path / "nfs one").encode()
    assert unmounted_above(point + b"/dir/file", str(table)) == point
    assert unmounted_above(point, str(table)) == point
    assert unmounted_above(point + b"2/file", str(table)) == b""
    assert unmounted_above(str(tmp_path / "later/file").encode(), str(table)) == b""
    assert unmounted_above(b"/proc/self", str(tmp_path / "none")) == b""


@needs_root
def test_root_follows_no_link_of_another_account_below_the_storage_root(tmp_path: Path) -> None:
    top, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    top.mkdir()
    elsewhere.mkdir()
    (top / "2026").symlink_to(elsewhere)
    Place(os.fsencode(top), os.fsencode(top / "2026" / "ann")).close()
    assert (elsewhere / "ann").is_dir()
    os.chown(top / "2026", 61_200, 61_200, follow_symlinks=False)
    with pytest.raises(OSError, match="link of another account") as failure:
        Place(os.fsencode(top), os.fsencode(top / "2026" / "eve"))
    assert failure.value.errno == errno.ELOOP
    assert not (elsewhere / "eve").exists()


@needs_root
def test_links_in_the_place_of_the_parts_and_of_the_file_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"output")
    (tmp_path / "secret").write_bytes(b"secret")
    top = tmp_path / "store"
    top.mkdir()
    (top / "out").symlink_to(tmp_path / "secret")
    store(store_order(tmp_path / "source", top / "out", top), Obeying())
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert not (top / "out").is_symlink()
    (top / ".pandawn-parts").symlink_to(tmp_path)
    with pytest.raises(FailedError):
        store(store_order(tmp_path / "source", top / "out", top), Obeying())


def test_a_link_that_leads_in_circles_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="link") as failure:
        Place(os.fsencode(tmp_path), os.fsencode(tmp_path / "a" / "x"))
    assert failure.value.errno == errno.ELOOP


def test_what_everybody_may_write_is_told(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    place = Place(os.fsencode(tmp_path), os.fsencode(tmp_path / "open" / "ann"))
    place.close()
    assert place.open_to_all == os.fsencode(tmp_path / "open")
    place = Place(os.fsencode(tmp_path), os.fsencode(tmp_path / "ann"))
    place.close()
    assert place.open_to_all == b""


@pytest.mark.parametrize(
    ("top_mode", "file_mode", "directory_mode"),
    [(0o755, 0o644, 0o755), (0o777, 0o644, 0o755), (0o2775, 0o664, 0o2775)],
)
def test_modes_do_not_depend_on_the_umask_and_respect_a_groups_directory(
    tmp_path: Path, top_mode: int, file_mode: int, directory_mode: int
) -> None:
    (tmp_path / "source").write_bytes(b"x")
    top = tmp_path / "store"
    top.mkdir()
    top.chmod(top_mode)
    # As the process that copies does at its start.
    before = os.umask(0)
    try:
        store(store_order(tmp_path / "source", top / "2026/ann/out", top), Obeying())
    finally:
        os.umask(before)
    for path in (top / "2026", top / "2026/ann"):
        assert path.stat().st_mode & 0o7777 == directory_mode
    assert (top / "2026/ann/out").stat().st_mode & 0o7777 == file_mode


def test_old_parts_of_other_files_go_by_the_storages_clock_and_only_a_few_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MAX_LOOKS", 2)
    parts = tmp_path / ".pandawn-parts"
    parts.mkdir()
    for number in range(4):
        (parts / f"0123456789ab.{number}-1.aa").write_bytes(b"left")
        os.utime(parts / f"0123456789ab.{number}-1.aa", (1e9, 1e9))
    (tmp_path / "source").write_bytes(b"x")
    store(store_order(tmp_path / "source", tmp_path / "out", tmp_path), Obeying())
    assert len(list(parts.iterdir())) == 2
    young = parts / f"{mark_of(b'other')}.9-9.aa"
    for left in parts.iterdir():
        left.unlink()
    young.write_bytes(b"under way")
    store(store_order(tmp_path / "source", tmp_path / "out", tmp_path), Obeying())
    assert list(parts.iterdir()) == [young]


def test_a_root_that_is_gone_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(RootGoneError):
        Place(os.fsencode(tmp_path / "gone"), os.fsencode(tmp_path / "gone/ann"))
