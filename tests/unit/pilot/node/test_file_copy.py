"""File systems without links of one sort or the other: the cache works on them all the same, by copies."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pandawn_pilot.node import file_copy
from pandawn_pilot.node.file_copy import place
from pandawn_pilot.stop import Stop

CONTENT = b"content"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    return source, tmp_path / "job"


def lack_links(monkeypatch: pytest.MonkeyPatch, link: int, clone: int) -> None:
    """Makes the file system answer with these numbers."""

    def refuse(number: int) -> object:
        def answer(*_arguments: object) -> None:
            raise OSError(number, os.strerror(number))

        return answer

    monkeypatch.setattr(os, "link", refuse(link))
    monkeypatch.setattr(file_copy, "fcntl", SimpleNamespace(ioctl=refuse(clone)))


@pytest.mark.parametrize(
    "number",
    [
        errno.EPERM,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.EACCES,
        errno.EINVAL,
        errno.EXDEV,
        errno.EMLINK,
    ],
    ids=errno.errorcode.__getitem__,
)
def test_where_nothing_can_be_linked_files_are_copied(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    source, destination = files
    lack_links(monkeypatch, number, number)
    place(source, destination, Stop())
    assert destination.read_bytes() == CONTENT
    assert destination.stat().st_mode & 0o777 == 0o444
    assert not destination.samefile(source)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_what_is_wrong_with_the_disk_is_not_taken_for_a_lack_of_links(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    lack_links(monkeypatch, number, errno.EOPNOTSUPP)
    with pytest.raises(OSError, match=os.strerror(number)) as error:
        place(*files, Stop())
    assert error.value.errno == number
