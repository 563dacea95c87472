"""Archives of users: what is refused, and that packing depends on the content alone."""

from __future__ import annotations

import gzip
import io
import os
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pandawn_pilot.errors import JobFailedError
from pandawn_pilot.job.archives import pack, unpack
from pandawn_pilot.node.trees import remove_tree
from pandawn_pilot.stop import Stop, StoppedError, StopReason
from pandawn_transports.account import Account

Member = tuple[str, bytes, str, str]


def file_member(name: str, content: bytes = b"x") -> Member:
    return (name, tarfile.REGTYPE, "", content.decode())


def make_archive(path: Path, members: list[Member]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, link, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            info.mode = 0o6777
            tar.addfile(info, io.BytesIO(content.encode()))
    return path


def unpack_members(tmp_path: Path, members: list[Member], max_bytes: int = 0) -> Path:
    archive = make_archive(tmp_path / "a.tar.gz", members)
    target = tmp_path / "top" / "work"
    target.mkdir(parents=True)
    (tmp_path / "top" / "secret").write_text("untouched", encoding="utf-8")
    unpack(archive, target, max_bytes=max_bytes, stop=Stop())
    return target


@pytest.mark.parametrize(
    "members",
    [
        [file_member("/absolute")],
        [file_member("../secret")],
        [file_member("a/../../secret")],
        [("link", tarfile.SYMTYPE, "..", ""), file_member("link/secret")],
        [("link", tarfile.SYMTYPE, "/var", ""), ("link/d", tarfile.DIRTYPE, "", "")],
        [("link", tarfile.SYMTYPE, "..", ""), ("link/l", tarfile.SYMTYPE, "x", "")],
        # What lies behind a link is not the archive's to give a second name to.
        [("link", tarfile.SYMTYPE, "..", ""), ("b", tarfile.LNKTYPE, "link/secret", "")],
        [("link", tarfile.LNKTYPE, "../secret", "")],
        [("link", tarfile.LNKTYPE, "/etc/passwd", "")],
        [("dir", tarfile.SYMTYPE, ".", ""), file_member("dir/inside")],
        [("fifo", tarfile.FIFOTYPE, "", "")],
        [("device", tarfile.CHRTYPE, "", "")],
        [("a", tarfile.SYMTYPE, "secret", ""), ("b", tarfile.LNKTYPE, "a", "")],
        [("d", tarfile.DIRTYPE, "", ""), file_member("d")],
    ],
)
def test_an_archive_that_reaches_out_is_refused_and_touches_nothing(
    tmp_path: Path, members: list[Member]
) -> None:
    with pytest.raises(JobFailedError) as failure:
        unpack_members(tmp_path, members)
    assert failure.value.fault.reason == "BAD_ARCHIVE"
    assert (tmp_path / "top" / "secret").read_text(encoding="utf-8") == "untouched"
    assert sorted(path.name for path in (tmp_path / "top").iterdir()) == ["secret", "work"]


def test_a_proper_archive_is_unpacked_with_its_links_and_without_special_bits(
    tmp_path: Path,
) -> None:
    target = unpack_members(
        tmp_path,
        [
            ("./", tarfile.DIRTYPE, "", ""),
            file_member("./src/run.sh", b"echo"),
            ("latest", tarfile.SYMTYPE, "src/run.sh", ""),
            ("src/up", tarfile.SYMTYPE, "../latest", ""),
            ("again", tarfile.LNKTYPE, "src/run.sh", ""),
            ("dangling", tarfile.SYMTYPE, "later/made", ""),
        ],
    )
    assert (target / "latest").read_text() == "echo"
    assert (target / "src/up").read_text() == "echo"
    assert (target / "again").read_text() == "echo"
    assert (target / "dangling").is_symlink()
    assert (target / "src/run.sh").stat().st_mode & 0o7777 == 0o755


def test_links_of_an_archive_lead_where_they_say_and_are_replaced_not_followed(
    tmp_path: Path,
) -> None:
    target = unpack_members(
        tmp_path,
        [
            ("env/bin/python3", tarfile.SYMTYPE, "/usr/bin/python3", ""),
            ("up", tarfile.SYMTYPE, "../secret", ""),
            ("f", tarfile.SYMTYPE, "../secret", ""),
            file_member("f", b"mine"),
        ],
    )
    assert (target / "env/bin/python3").readlink() == Path("/usr/bin/python3")
    assert (target / "up").readlink() == Path("../secret")
    assert (target / "f").read_text() == "mine"
    assert (tmp_path / "top/secret").read_text() == "untouched"


def test_a_header_that_wants_all_memory_is_refused_and_costs_the_pilot_none(tmp_path: Path) -> None:
    # By hand: a PAX header of 2 GB that compresses to 2 MB.
    size = 2 * 10**9
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, size
    begin = f"{size} comment="
    zeros = gzip.compress(bytes(10**7))
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(header.tobuf() + begin.encode()) + zeros * (size // 10**7))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(JobFailedError, match="more memory") as failure:
        unpack(archive, tmp_path, max_bytes=0, stop=Stop())
    assert failure.value.fault.reason == "BAD_ARCHIVE"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_unpacking_ends_when_the_job_is_cancelled(tmp_path: Path) -> None:
    stop = Stop()
    stop.request(StopReason.CANCELLED)
    archive = make_archive(tmp_path / "a.tar.gz", [file_member("f")])
    with pytest.raises(StoppedError):
        unpack(archive, tmp_path, max_bytes=0, stop=stop)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change accounts")
def test_what_is_unpacked_for_an_account_is_unpacked_by_it(tmp_path: Path) -> None:
    archive = make_archive(
        tmp_path / "a.tar.gz", [file_member("d/f"), ("l", tarfile.SYMTYPE, "d", "")]
    )
    archive.chmod(0o600)
    target = tmp_path / "closed/work"
    target.mkdir(parents=True)
    target.parent.chmod(0o700)
    unpack(archive, target, max_bytes=0, stop=Stop(), account=Account(70500, 70500, "70500"))
    assert {path.lstat().st_uid for path in [target, *target.rglob("*")]} == {70500}


def test_a_later_member_replaces_an_earlier_one(tmp_path: Path) -> None:
    target = unpack_members(tmp_path, [file_member("f", b"one"), file_member("f", b"two")])
    assert (target / "f").read_text() == "two"


def test_an_archive_that_unpacks_to_more_than_allowed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError) as failure:
        unpack_members(tmp_path, [file_member(f"f{n}", b"x" * 100) for n in range(3)], 250)
    assert failure.value.fault.reason == "WORK_DIR_TOO_LARGE"


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_an_archive_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    archive = make_archive(
        tmp_path / "a.tar.gz", [file_member("f", os.urandom(2000).hex().encode())]
    )
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(JobFailedError) as failure:
        unpack(archive, tmp_path, max_bytes=0, stop=Stop())
    assert failure.value.fault.reason == "BAD_ARCHIVE"


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(JobFailedError, match="not a complete tar archive"):
        unpack(tmp_path / "a.tar.gz", tmp_path, max_bytes=0, stop=Stop())


def make_tree(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("run.sh")
    return root


def test_equal_trees_give_equal_bytes(tmp_path: Path) -> None:
    one = make_tree(tmp_path / "one", ["a", "sub/b", "sub/c"])
    two = make_tree(tmp_path / "two", ["sub/c", "sub/b", "a"])
    os.utime(two / "a", (1, 1))
    os.mkfifo(two / "pipe")
    pack(one, tmp_path / "one.tgz", Stop())
    pack(two, tmp_path / "two.tgz", Stop())
    assert (tmp_path / "one.tgz").read_bytes() == (tmp_path / "two.tgz").read_bytes()


def test_what_was_packed_is_unpacked_again(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "one", ["sub/b"])
    os.link(tree / "sub/b", tree / "second-name")
    pack(tree, tmp_path / "one.tgz", Stop())
    target = tmp_path / "two"
    target.mkdir()
    unpack(tmp_path / "one.tgz", target, max_bytes=0, stop=Stop())
    names = sorted(str(path.relative_to(target)) for path in target.rglob("*"))
    assert names == ["link", "run.sh", "second-name", "sub", "sub/b"]
    assert (target / "second-name").read_text() == "sub/b"
    assert os.access(target / "run.sh", os.X_OK)


def test_links_out_of_a_library_are_kept_and_those_into_it_move_with_it(tmp_path: Path) -> None:
    tree = tmp_path / "one"
    (tree / "env/bin").mkdir(parents=True)
    (tree / "env/bin/python3").symlink_to("/usr/bin/python3")
    (tree / "tool").symlink_to(tree / "env/bin/python3")
    (tree / "env/top").symlink_to(tree)
    pack(tree, tmp_path / "one.tgz", Stop())
    target = tmp_path / "two"
    target.mkdir()
    unpack(tmp_path / "one.tgz", target, max_bytes=0, stop=Stop())
    assert (target / "env/bin/python3").readlink() == Path("/usr/bin/python3")
    assert (target / "tool").readlink() == Path("env/bin/python3")
    assert (target / "env/top").resolve() == target


def test_a_library_that_cannot_be_packed_whole_is_not_packed_and_the_cause_is_named(
    tmp_path: Path,
) -> None:
    tree = tmp_path / "one"
    tree.mkdir()
    script = "import os\nfor _ in range(30): os.mkdir('d' * 200); os.chdir('d' * 200)"
    subprocess.run([sys.executable, "-c", script], cwd=tree, check=True)
    try:
        with pytest.raises(JobFailedError, match=r"'ddd.*File name too long") as failure:
            pack(tree, tmp_path / "one.tgz", Stop())
    finally:
        remove_tree(tree)
    assert failure.value.fault.reason == "LIBRARY_NOT_PACKED"
