"""What XRootD's tools print and what their URLs mean, without a server."""

from __future__ import annotations

import pytest

from pandawn_pilot.catalog.file_names import Naming, name_of, rucio_path
from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.xrootd.inventory import take_inventory
from pandawn_transports.xrootd.address import Server, clean_path, parse_location, parse_server
from pandawn_transports.xrootd.command import XrootdError, XrootdFault, run
from pandawn_transports.xrootd.files import ListedFile, parse_listing


@pytest.mark.parametrize(
    ("text", "server", "path"),
    [
        ("root://wn1:2094//data/a.root", Server("wn1", 2094), "/data/a.root"),
        ("root://SE.Example.org//d//a b%20ż.root", Server("se.example.org"), "/d/a b%20ż.root"),
        ("root://[::1]:1094//a", Server("[::1]"), "/a"),
    ],
)
def test_a_location_is_a_server_and_a_literal_path(text: str, server: Server, path: str) -> None:
    location = parse_location(text)
    assert (location.server, location.path) == (server, path)
    assert parse_location(location.url) == location


@pytest.mark.parametrize(
    "text",
    [
        "root://wn1/data/a.root",
        "root:////a",
        "root://wn1//",
        "root://wn1:0//a",
        "root://wn1:99999//a",
        "root://me@wn1//a",
        "root://wn1//a?x=1",
        "root://wn1//a/../b",
        "xroot://wn1//a",
        "file:///a",
    ],
)
def test_other_locations_are_refused_with_what_they_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"root://|options|parts|server"):
        parse_location(text)


def test_a_server_may_be_given_with_slashes_and_needs_no_port() -> None:
    assert parse_server("root://wn1//") == parse_server("root://wn1:1094")
    with pytest.raises(ValueError, match="is not absolute"):
        clean_path("data")


LISTING = """\
drwxr-xr-x nobody nogroup      4096 2026-11-22 14:12:47 /d
-rw-r--r-- nobody nogroup 123456789 2026-11-22 14:12:47 /d/a b  c.root
-r-- 2017-01-01 00:00:00         11 /d/old.root
dr-x 2017-01-01 00:00:00          0 /d/old
-rw-r--r-- nobody nogroup         0 2026-11-22 14:12:47 /d/-rw 5 2026-01-01 00:00:00 x\x85y
"""


def test_files_are_read_whatever_their_names_look_like() -> None:
    assert parse_listing(LISTING.encode()) == [
        ListedFile("/d/a b  c.root", 123456789, 1_795_356_767),
        ListedFile("/d/old.root", 11, 1_483_228_800),
        ListedFile("/d/-rw 5 2026-01-01 00:00:00 x\x85y", 0, 1_795_356_767),
    ]


def test_an_empty_listing_has_no_files() -> None:
    assert parse_listing(b"") == []


def test_a_name_with_a_line_break_is_no_file_and_spoils_no_other() -> None:
    lines = b"-r-- 2017-01-01 00:00:00 1 /d/good\n-r-- 2017-01-01 00:00:00 2 /d/half\nof it\n"
    assert parse_listing(lines) == [ListedFile("/d/good", 1, 1_483_228_800)]


@pytest.mark.parametrize(
    ("naming", "name"),
    [
        (Naming(), ("", "f.root")),
        (Naming(lfn_depth=2), ("", "sub/f.root")),
        (Naming(lfn_depth=0), ("", "mc/sub/f.root")),
        (Naming(lfn_depth=9), ("", "mc/sub/f.root")),
        (Naming(rucio=True), ("", "f.root")),
    ],
)
def test_a_name_is_the_end_of_the_path(naming: Naming, name: tuple[str, str]) -> None:
    assert name_of("mc/sub/f.root", naming) == name


@pytest.mark.parametrize("scope", ["mc20", "user.anna", "group.phys-higgs"])
def test_rucios_paths_tell_scope_and_name(scope: str) -> None:
    path = rucio_path(scope, "f.root")
    assert name_of(f"rucio/{path}", Naming(rucio=True)) == (scope, "f.root")


def listed(*paths: str, size: int = 5) -> list[ListedFile]:
    return [ListedFile(path, size) for path in paths]


def test_an_inventory_names_what_lies_below_the_prefix() -> None:
    found = take_inventory(listed("/d/x/a", "/d/b", "/dx/c"), "/d/", Naming(), "s")
    assert found.files == (CachedFile("a", 5, "s"), CachedFile("b", 5, "s"))


def test_names_that_the_catalog_refuses_are_left_out() -> None:
    bad = ["/d/\udcff", "/d/" + "x" * 256, "/d/a\x07", "/d/a?b", "/d/a\u202eb"]
    found = take_inventory(listed(*bad, "/d/good"), "/d", Naming())
    assert [file.lfn for file in found.files] == ["good"]
    assert list(found.unusable) == bad


def test_one_name_for_files_of_two_sizes_says_nothing() -> None:
    twins = [*listed("/d/x/twin", "/d/y/twin"), *listed("/d/x/a", size=1), *listed("/d/y/a")]
    found = take_inventory(twins, "/d", Naming())
    assert [file.lfn for file in found.files] == ["twin"]
    assert found.ambiguous == ("/d/x/a", "/d/y/a")
    deeper = take_inventory(twins, "/d", Naming(lfn_depth=2))
    assert len(deeper.files) == 4


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("[3011] no such file or directory", XrootdFault.MISSING),
        ("[3007] input/output error", XrootdFault.UNREACHABLE),
        ("[3024] too many clients", XrootdFault.UNREACHABLE),
        ("[3025] read-only file system", XrootdFault.READ_ONLY),
        ("[3005] Unable to create /a; Read-only file system", XrootdFault.READ_ONLY),
        ("[3005] Unable to open /a; stale file handle", XrootdFault.UNREACHABLE),
        ("[3005] something else", XrootdFault.OTHER),
        ("[3010] permission denied", XrootdFault.FORBIDDEN),
    ],
)
def test_a_servers_own_trouble_is_told_from_that_of_a_file(said: str, fault: XrootdFault) -> None:
    script = 'echo "[ERROR] Server responded with an error: $1" >&2; exit 54'
    with pytest.raises(XrootdError) as failure:
        run(["sh", "-c", script, "sh", said], "cannot read", seconds=30)
    assert failure.value.fault is fault
    assert str(failure.value) == f"cannot read: {said}"
