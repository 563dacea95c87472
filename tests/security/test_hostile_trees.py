"""Trees that others may write to: pcache's, and what XRootD servers list. One bad entry harms itself only."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pandawn_pilot.catalog.file_names import Naming, is_good_name
from pandawn_pilot.xrootd.inventory import take_inventory
from pandawn_server.wire.edge import rules
from pandawn_transports.xrootd.files import parse_listing
from tests.fixtures.nasty import TEXTS
from tests.fixtures.pcache import Pcache
from tests.fixtures.server import PandawnServer

GOOD = {"good.root": 1000}
SECRET = "s3cr3t-first-line-of-a-file-of-root"

Plant = Callable[[Pcache, Path], None]


def entry(pcache: Pcache, name: str) -> Path:
    """A directory as pcache makes it for a file, with the file."""
    directory = pcache.cache / "data" / name
    directory.mkdir(parents=True)
    (directory / "data").write_bytes(b"x")
    return directory


def link_out(pcache: Pcache, outside: Path) -> None:
    (pcache.cache / "data").mkdir()
    (pcache.cache / "data" / "out").symlink_to(outside)


def linked_data(pcache: Pcache, outside: Path) -> None:
    directory = entry(pcache, "linked.root")
    (directory / "data").unlink()
    (directory / "data").symlink_to(outside / "secret.root" / "data")


def linked_guid(pcache: Pcache, outside: Path) -> None:
    directory = entry(pcache, "guid.root")
    (directory / "guid").symlink_to(outside / "secret")
    (directory / "data").unlink()


def linked_claim(pcache: Pcache, outside: Path) -> None:
    claim = outside / "claim"
    claim.write_text(json.dumps({"version": 1, "lfn": SECRET, "scope": "", "guid": ""}))
    (entry(pcache, "bad\nname") / ".pandawn").symlink_to(claim)


def deep_claim(pcache: Pcache, outside: Path) -> None:
    del outside
    (entry(pcache, "bad\nname") / ".pandawn").write_text("[" * 8000)


def claims_of_all_kinds(pcache: Pcache, outside: Path) -> None:
    del outside
    for number, text in enumerate(TEXTS):
        for field in ("lfn", "scope", "guid"):
            names = {"lfn": "x/../bad", "scope": "", "guid": "", field: text}
            if rules.lfn_problem(names["lfn"]) is None and names["scope"] == "":
                continue
            directory = entry(pcache, f"{number}-{field}/bad\nname")
            (directory / ".pandawn").write_text(json.dumps({"version": 1, **names}))


def endless_claim(pcache: Pcache, outside: Path) -> None:
    del outside
    (entry(pcache, "bad\nname") / ".pandawn").symlink_to("/dev/zero")
    os.mkfifo(entry(pcache, "bad\rname") / ".pandawn")


def names_of_all_kinds(pcache: Pcache, outside: Path) -> None:
    del outside
    for name in TEXTS:
        if "\x00" in name or name.strip(".") == "" or len(name.encode()) > 255 or "/" in name:
            continue
        if rules.lfn_problem(name) is not None:
            entry(pcache, name)
    entry(pcache, "\udcff\udcfe")


def deep_directories(pcache: Pcache, outside: Path) -> None:
    del outside
    before = Path.cwd()
    (pcache.cache / "data").mkdir(parents=True, exist_ok=True)
    os.chdir(pcache.cache / "data")
    try:
        for _ in range(100):
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
    finally:
        os.chdir(before)


PLANTS: list[Plant] = [
    link_out,
    linked_data,
    linked_guid,
    linked_claim,
    deep_claim,
    claims_of_all_kinds,
    endless_claim,
    names_of_all_kinds,
    deep_directories,
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_what_is_planted_in_a_pcache_is_not_reported_and_hides_nothing_else(
    shared_server: PandawnServer, pcache: Pcache, tmp_path: Path, plant: Plant
) -> None:
    outside = tmp_path / "outside"
    (outside / "secret.root").mkdir(parents=True)
    (outside / "secret.root" / "data").write_bytes(b"secret")
    (outside / "secret").write_text(SECRET + "\n")
    (good,) = pcache.make("good.root")
    pcache.get(good)
    plant(pcache, outside)
    done = pcache.sync(shared_server)
    assert done.returncode == 0, done
    assert "Traceback" not in done.stderr
    listed = pcache.listed(shared_server)
    assert {file.lfn: file.size_bytes for file in listed} == GOOD
    assert SECRET not in str(listed)


@given(
    st.binary() | st.lists(st.sampled_from(TEXTS)).map("\n".join).map(str.encode),
    st.sampled_from([Naming(), Naming(0), Naming(rucio=True)]),
    st.text(max_size=5),
)
def test_whatever_a_data_server_lists_becomes_names_that_the_catalog_takes(
    words: bytes, naming: Naming, scope: str
) -> None:
    line = b"-rw-r--r-- a b 5 2026-01-01 00:00:00 /data/"
    listed = parse_listing(words + b"\n" + line + words + b"\n" + line + b"x\n")
    for file in take_inventory(listed, "/data", naming, scope).files:
        assert rules.lfn_problem(file.lfn) is None
        assert file.scope == "" or rules.name_problem(file.scope, 64) is None


@given(st.text() | st.sampled_from(TEXTS), st.text(max_size=3) | st.sampled_from(TEXTS))
def test_a_node_and_the_server_agree_on_what_a_name_is(lfn: str, scope: str) -> None:
    server_takes = rules.lfn_problem(lfn) is None and (
        scope == "" or rules.name_problem(scope, 64) is None
    )
    assert is_good_name(scope, lfn) == server_takes
