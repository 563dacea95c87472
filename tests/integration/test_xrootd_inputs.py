"""Input files that the command line looks up on a real XRootD server."""

from __future__ import annotations

import zlib

import pytest

from pandawn_tools.cli.checksums import Wish
from pandawn_tools.cli.errors import CliError
from pandawn_tools.cli.inputs import InputFile, inspect, name_arguments
from tests.fixtures.xrootd import XrootdFactory, XrootdServer


def look(*texts: str, checksum: Wish = Wish.AUTOMATIC) -> list[InputFile]:
    return inspect(name_arguments(texts), lfn_depth=1, checksum=checksum)


def test_sizes_and_checksums_come_from_the_server(xrootd: XrootdServer) -> None:
    urls = [xrootd.put("mc/a b.root", b"123"), xrootd.put("b.root", b"")]
    found = look(*urls, checksum=Wish.ALWAYS)
    assert [(file.url, file.lfn, file.size_bytes) for file in found] == [
        (urls[0], "a b.root", 3),
        (urls[1], "b.root", 0),
    ]
    assert found[0].checksum == f"adler32:{zlib.adler32(b'123'):08x}"
    (plain, _) = look(*urls)
    assert plain.checksum == ""
    written = (xrootd.files / "mc" / "a b.root").stat().st_mtime
    assert plain.modify_time_ns == int(written) * 10**9


def test_what_the_server_does_not_have_is_listed_with_its_place(xrootd: XrootdServer) -> None:
    there = xrootd.put("dir/a")
    with pytest.raises(CliError, match="2 of 3 input files") as caught:
        look(there, f"{xrootd.top}/none", f"{xrootd.top}/dir")
    assert caught.value.details[0].endswith("/none: there is no such file")
    assert "directory" in caught.value.details[1]


def test_checksums_that_a_server_does_not_keep_are_not_made_up(
    xrootd_factory: XrootdFactory,
) -> None:
    url = xrootd_factory.start().put("a")
    with pytest.raises(CliError) as caught:
        look(url, checksum=Wish.ALWAYS)
    assert "keeps no checksums" in caught.value.details[0]
