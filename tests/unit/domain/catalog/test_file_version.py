"""Where a site's word that names are unique holds, and where somebody only writes such names."""

from __future__ import annotations

import pytest

from pandawn_server.domain.catalog.file_version import immutable_scope_problem, is_unique

SCOPES = (
    "data25=root://se.example.org//atlas/rucio/data25",
    "mc25=root://se.example.org//atlas/rucio/mc25",
    "mc25=file:///pfs/atlas%20data/mc25/",
)
LFN = "DAOD.1.root"


@pytest.mark.parametrize(
    ("scope", "url"),
    [
        ("data25", f"root://se.example.org//atlas/rucio/data25/ab/cd/{LFN}"),
        ("data25", f"root://SE.Example.org:1094//atlas//rucio/data25/{LFN}"),
        ("mc25", f"root://se.example.org//atlas/rucio/mc25/ab/cd/{LFN}"),
        ("mc25", f"file:///pfs/atlas%20data/mc25/ab/{LFN}"),
        ("mc25", f"file:///pfs/atlas data/mc25/{LFN}"),
    ],
)
def test_a_file_below_the_url_of_its_scope_is_known_by_its_name(scope: str, url: str) -> None:
    assert is_unique(scope, LFN, url, SCOPES)


@pytest.mark.parametrize(
    ("scope", "url"),
    [
        ("", f"root://se.example.org//atlas/rucio/data25/{LFN}"),
        ("data", f"root://se.example.org//atlas/rucio/data25/{LFN}"),
        ("data25=root:", f"root://se.example.org//atlas/rucio/data25/{LFN}"),
        # Another user's place, and names that only begin like the right one.
        ("data25", f"file:///home/eve/{LFN}"),
        ("data25", f"root://se.example.org.evil.org//atlas/rucio/data25/{LFN}"),
        ("data25", f"root://se.example.org:1095//atlas/rucio/data25/{LFN}"),
        ("data25", f"root://se.example.org//atlas/rucio/data25-mine/{LFN}"),
        ("data25", f"root://se.example.org//home/atlas/rucio/data25/{LFN}"),
        # Out of it again, as it stands and encoded.
        ("data25", f"root://se.example.org//atlas/rucio/data25/../../eve/{LFN}"),
        ("mc25", f"file:///pfs/atlas%20data/mc25/%2e%2e/eve/{LFN}"),
        ("mc25", f"file:///pfs/atlas%20data/mc25/..%2Feve/{LFN}"),
        # What a server makes of these is not known here.
        ("data25", f"root://se.example.org//atlas/rucio/data2%35/{LFN}"),
        ("mc25", f"file:///pfs/atlas%20data/mc25/other?/{LFN}"),
        ("mc25", f"file:///pfs/atlas%20data/mc25/other#/{LFN}"),
        # Another file of the same name space, brought under this one's name.
        ("data25", "root://se.example.org//atlas/rucio/data25/ab/cd/DAOD.2.root"),
        ("data25", f"root://se.example.org//atlas/rucio/mc25/ab/cd/{LFN}"),
        ("data25", f"root://se.example.org:port//atlas/rucio/data25/{LFN}"),
    ],
)
def test_a_file_elsewhere_is_not_known_by_the_name_that_somebody_gives_it(
    scope: str, url: str
) -> None:
    assert not is_unique(scope, LFN, url, SCOPES)


def test_an_lfn_with_directories_must_be_the_end_of_the_path() -> None:
    scopes = ["s=file:///data"]
    assert is_unique("s", "run1/evt.txt", "file:///data/s/run1/evt.txt", scopes)
    assert not is_unique("s", "run1/evt.txt", "file:///data/s/run2/evt.txt", scopes)
    # The name may not reach above the prefix.
    assert not is_unique("s", "data/evt.txt", "file:///data/evt.txt", scopes)


@pytest.mark.parametrize("url", ["file:///data", "root://h:1094//a", "root://[::1]:1094//atlas/x"])
def test_a_prefix_is_a_place_that_pilots_fetch_from(url: str) -> None:
    assert immutable_scope_problem(f"data25={url}") is None


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "data25",
        "=file:///data",
        "data 25=file:///data",
        "s=",
        "s=/data",
        "s=//h/data",
        "s=davs://h/a%20b",
        # All that there is is nobody's name space.
        "s=file:///",
        "s=root://h:1094//",
        "s=file:///a/../b",
        "s=root://h//a?b",
        "s=root://h//a%20b",
    ],
)
def test_an_entry_of_which_it_cannot_be_told_what_it_means_is_refused(entry: str) -> None:
    assert immutable_scope_problem(entry) is not None
