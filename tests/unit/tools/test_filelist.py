import io
import sys
from pathlib import Path

import pytest

from pandawn.common.v1.common_pb2 import File
from pandawn_client.errors import Violation
from pandawn_tools.cli.errors import CliError, ExitStatus
from pandawn_tools.cli.filelist import ListedFile, read_file_list, with_lines
from tests.fixtures.versions import SHA256


def read(root: Path, text: str, scope: str = "", *, with_sizes: bool = True) -> list[ListedFile]:
    path = root / "list.dat"
    path.write_text(text)
    return read_file_list(str(path), scope, with_sizes=with_sizes)


def problems(root: Path, text: str, *, with_sizes: bool = True) -> list[str]:
    with pytest.raises(CliError) as caught:
        read(root, text, with_sizes=with_sizes)
    assert caught.value.status is ExitStatus.USAGE
    assert caught.value.reason == "BAD_FILE_LIST"
    return [detail.removeprefix(f"{root}/") for detail in caught.value.details]


def test_size_scope_and_guid_are_read_and_line_numbers_kept(tmp_path: Path) -> None:
    listed = read(tmp_path, "# LFN SIZE\n\na.root 10\nb.root  2KiB data17 ab-cd \r\nc 1GB - ef\n")
    assert [one.file for one in listed] == [
        File(lfn="a.root", size_bytes=10),
        File(lfn="b.root", size_bytes=2048, scope="data17", guid="ab-cd"),
        File(lfn="c", size_bytes=10**9, guid="ef"),
    ]
    assert [one.place for one in listed] == [f"{tmp_path}/list.dat:{n}" for n in (3, 4, 5)]


def test_tabs_allow_blanks_in_names(tmp_path: Path) -> None:
    listed = read(tmp_path, "a b.root\t10\t\tab-cd\n")
    assert [one.file for one in listed] == [File(lfn="a b.root", size_bytes=10, guid="ab-cd")]


def test_a_scope_is_that_of_lines_without_one(tmp_path: Path) -> None:
    listed = read(tmp_path, "a 1\nb 1 own\nc 1 -\n", scope="all")
    assert [one.file.scope for one in listed] == ["all", "own", ""]


def test_sizes_may_be_left_out_where_they_are_not_needed(tmp_path: Path) -> None:
    listed = read(tmp_path, "a\nb 7\n", with_sizes=False)
    assert [one.file.size_bytes for one in listed] == [0, 7]


def test_all_bad_lines_are_named_with_what_is_wrong(tmp_path: Path) -> None:
    text = "good 1\nnosize\nbad -5\na 1 s g site more\nb 1 s g ABC\ngood 2\n\t5\n"
    assert problems(tmp_path, text) == [
        "list.dat:2: has 1 column, not 2 to 5: nosize",
        "list.dat:3: '-5' is not a size; write it like 500MB, 2GiB or 2048 (bytes)",
        "list.dat:4: has 6 columns, not 2 to 5: a 1 s g site more",
        "list.dat:5: ABC is not a version: write sha256: and 64 lower-case hex digits",
        "list.dat:7: has no LFN before the first tab",
        f"list.dat:6: good is also in {tmp_path}/list.dat:1",
    ]


def test_two_versions_of_a_name_are_two_files(tmp_path: Path) -> None:
    listed = read(tmp_path, f"a 1 - - {SHA256}\na 1 - - site\na 1\n")
    assert [one.file.version for one in listed] == [SHA256, "site", ""]


def test_names_in_two_scopes_are_two_files(tmp_path: Path) -> None:
    assert len(read(tmp_path, "a 1 s\na 1 t\na 1\n")) == 3


def test_a_name_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "list.dat"
    path.write_bytes(b"a 1\n\xff 1\n")
    with pytest.raises(CliError) as caught:
        read_file_list(str(path))
    assert caught.value.details == (f"{path}:2: is not UTF-8",)


@pytest.mark.parametrize("content", ["", "# nothing\n \n"])
def test_a_list_without_files_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(CliError, match=r"list\.dat has no file") as caught:
        read(tmp_path, content)
    assert caught.value.reason == "EMPTY_FILE_LIST"


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="nolist") as caught:
        read_file_list(str(tmp_path / "nolist"))
    assert caught.value.reason == "FILE_MISSING"


def test_a_list_may_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.root 5\n")))
    (listed,) = read_file_list("-")
    assert (listed.file, listed.place) == (File(lfn="a.root", size_bytes=5), "stdin:1")


def test_a_refusal_of_the_server_names_the_line_and_what_was_done_before() -> None:
    batch = [ListedFile(File(lfn=str(n)), f"list:{n + 1}") for n in range(3)]
    refused = CliError(
        ExitStatus.REFUSED,
        "INVALID_REQUEST",
        "refused",
        details=["files[2].lfn: is bad", "site: is bad"],
        violations=[Violation("files[2].lfn", "is bad"), Violation("site", "is bad")],
    )
    told = with_lines(refused, batch, 10, lambda count: f"{count} were added")
    assert told.details == ("list:3: is bad", "site: is bad")
    assert told.remedies == (
        "10 were added; run the command again with the whole list, which is safe",
    )
    assert with_lines(refused, batch, 0, str).remedies == ()
