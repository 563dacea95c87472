import hashlib
import io
import os
import sys
from pathlib import Path

import pytest

from pandawn_tools.cli import checksums
from pandawn_tools.cli.checksums import Wish
from pandawn_tools.cli.errors import CliError, ExitStatus
from pandawn_tools.cli.inputs import InputFile, Named, inspect, name_arguments, read_list


def make_files(root: Path, *names: str) -> list[Path]:
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    return paths


def look(
    *texts: str | Path, lfn_depth: int = 1, checksum: Wish = Wish.AUTOMATIC
) -> list[InputFile]:
    names = name_arguments(str(text) for text in texts)
    return inspect(names, lfn_depth=lfn_depth, checksum=checksum)


def test_a_list_skips_comments_and_blank_lines_and_keeps_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "list.dat"
    path.write_text("# files\n\n  a.root  \r\nb c.root\n")
    assert read_list(str(path)) == [
        Named("a.root", f"{path}:3"),
        Named("b c.root", f"{path}:4"),
    ]


def test_a_list_may_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.root\n")))
    assert read_list("-") == [Named("a.root", "stdin:1")]


@pytest.mark.parametrize("content", ["", "# nothing\n \n"])
def test_a_list_that_names_no_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "list.dat"
    path.write_text(content)
    with pytest.raises(CliError, match=r"list\.dat names no file") as caught:
        read_list(str(path))
    assert caught.value.reason == "EMPTY_FILE_LIST"
    assert caught.value.status is ExitStatus.USAGE


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"nolist") as caught:
        read_list(str(tmp_path / "nolist"))
    assert caught.value.reason == "FILE_MISSING"


def test_name_size_url_and_checksum_are_those_of_the_file(tmp_path: Path) -> None:
    (path,) = make_files(tmp_path, "a b#1.root")
    (file,) = look(path, checksum=Wish.ALWAYS)
    assert file.lfn == "a b#1.root"
    assert file.size_bytes == len(path.name)
    assert file.url == f"file://{tmp_path}/a%20b%231.root"
    assert file.checksum == f"sha256:{hashlib.sha256(path.name.encode()).hexdigest()}"


def test_what_tells_a_file_from_one_written_anew_goes_with_it(tmp_path: Path) -> None:
    (path,) = make_files(tmp_path, "a.root")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    (file,) = look(path, checksum=Wish.NEVER)
    assert (file.modify_time_ns, file.inode) == (1_700_000_000_123_456_789, path.stat().st_ino)
    assert file.checksum == ""


def test_files_of_a_small_task_get_checksums_without_being_asked_for(tmp_path: Path) -> None:
    files = look(*make_files(tmp_path, "a.root", "b.root"))
    assert [file.checksum[:7] for file in files] == ["sha256:", "sha256:"]
    assert files[0].checksum != files[1].checksum


def test_a_large_task_is_not_read_unless_asked_for(tmp_path: Path) -> None:
    (small, large) = make_files(tmp_path, "small.root", "large.root")
    os.truncate(large, checksums.AUTOMATIC_BYTES)
    assert [file.checksum for file in look(small, large)] == ["", ""]
    assert all(file.checksum for file in look(small, large, checksum=Wish.ALWAYS))


def test_reading_many_bytes_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "_FIRST_NOTE_S", -1.0)
    (path,) = make_files(tmp_path, "a.root")
    said: list[str] = []
    checksums.sha256_of_all([path], 6, said.append)
    assert said
    assert "6 bytes of 6 bytes" in said[0] or "6 B of 6 B" in said[0]


def test_a_file_url_names_the_same_file_as_its_path(tmp_path: Path) -> None:
    (path,) = make_files(tmp_path, "a b#1.root")
    assert look(path.as_uri())[0].path == look(path)[0].path


def test_a_relative_path_becomes_absolute_and_keeps_its_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_files(tmp_path, "real/a.root")
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert look("link/../link/a.root")[0].path == tmp_path / "link" / "a.root"


def test_all_unusable_files_are_listed_with_their_places(tmp_path: Path) -> None:
    make_files(tmp_path, "good.root", "dir/x")
    os.mkfifo(tmp_path / "fifo")
    texts = ["good.root", "missing.root", "dir", "fifo"]
    with pytest.raises(CliError, match=r"^5 of 6 input files cannot be used") as caught:
        look(*(tmp_path / text for text in texts), "http://far/away", "bad\x07name")
    details = "\n".join(caught.value.details)
    for number, word in enumerate(
        ["no such file", "directory", "regular", "http://", "control"], 2
    ):
        line = next(one for one in caught.value.details if one.startswith(f"argument {number}:"))
        assert word in line, details
    assert caught.value.reason == "FILE_UNREADABLE"


def test_a_command_in_the_place_of_files_is_told_where_it_belongs() -> None:
    with pytest.raises(CliError) as caught:
        look("python3", "ana.py")
    assert caught.value.reason == "FILE_MISSING"
    assert any("--" in remedy for remedy in caught.value.remedies)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.root"
    with open(path, "wb"):  # noqa: PTH123  # pathlib would refuse the name as well
        pass
    with pytest.raises(CliError) as caught:
        look(os.fsdecode(path))
    assert "UTF-8" in caught.value.details[0]


def test_two_files_of_one_name_are_both_named_with_what_to_do(tmp_path: Path) -> None:
    first, second = make_files(tmp_path, "a/f.root", "b/f.root")
    with pytest.raises(CliError) as caught:
        look(first, second)
    assert caught.value.reason == "DUPLICATE_LFN"
    (detail,) = caught.value.details
    assert detail.startswith("argument 1 and argument 2:")
    assert str(first) in detail
    assert str(second) in detail
    assert any("--lfn-depth 2" in remedy for remedy in caught.value.remedies)


def test_more_of_the_path_tells_files_of_one_name_apart(tmp_path: Path) -> None:
    files = look(*make_files(tmp_path, "a/f.root", "b/f.root"), lfn_depth=2)
    assert [file.lfn for file in files] == ["a/f.root", "b/f.root"]


def test_a_file_named_twice_is_a_duplicate_that_no_longer_name_mends(tmp_path: Path) -> None:
    (path,) = make_files(tmp_path, "f.root")
    with pytest.raises(CliError) as caught:
        look(path, path)
    assert caught.value.reason == "DUPLICATE_LFN"
    assert "named twice" in caught.value.details[0]
    assert not any("--lfn-depth" in remedy for remedy in caught.value.remedies)


SIZED = "root://se:1094//data/mc/f.root 12345 adler32:0a1b2c3d"


def test_a_remote_file_with_its_size_is_taken_without_asking_anybody() -> None:
    (file,) = look(SIZED)
    assert (file.url, file.lfn) == ("root://se:1094//data/mc/f.root", "f.root")
    assert (file.size_bytes, file.checksum) == (12345, "adler32:0a1b2c3d")
    assert look(SIZED, lfn_depth=2)[0].lfn == "mc/f.root"


@pytest.mark.parametrize(
    ("line", "path", "size"),
    [
        ("root://se//a b.root\t0", "/a b.root", 0),
        ("root://se//a 5 7", "/a 5", 7),
        ("root://se//a%20b 1   md5:" + "0f" * 16, "/a%20b", 1),
        ("root://se//a 1 ADLER32:0A", "/a", 1),
    ],
)
def test_what_stands_behind_a_remote_file_ends_its_name(line: str, path: str, size: int) -> None:
    (file,) = look(line)
    assert file.url == f"root://se:1094/{path}"
    assert file.size_bytes == size


@pytest.mark.parametrize(
    "text",
    [
        "root://se/a 5",
        "root:////a 5",
        "root://se//a?b 5",
        "root://",
        "root://se//a 5 crc32c:0a1b2c3d",
        "root://se//a 5 md5:0a",
        "root://se//a 5 12345678",
    ],
)
def test_a_remote_file_that_is_none_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(CliError) as caught:
        look(text)
    assert caught.value.details[0].startswith("argument 1: root://")


def test_a_remote_file_named_twice_is_a_duplicate() -> None:
    with pytest.raises(CliError, match="logical name") as caught:
        look(SIZED, SIZED)
    assert "named twice" in caught.value.details[0]
