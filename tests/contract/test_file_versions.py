"""The server and the pilot tell files apart in the same way, and it is the way that the contract writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pandawn_client import file_version as pilot
from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.catalog.inventory import file_digest as pilot_digest
from pandawn_server.domain.catalog import file_version as server
from pandawn_server.domain.catalog.inventory import file_digest
from tests.fixtures.versions import DIGESTS, NO_VERSIONS, VERSIONS, DigestExample, VersionExample

CONTRACTS = Path(__file__).parents[2] / "proto" / "pandawn"


class Side(NamedTuple):
    """What both have."""

    file_version: Callable[..., str]
    is_version: Callable[[str], bool]
    parse_version: Callable[[str], object]


SIDES = pytest.mark.parametrize(
    "side",
    [
        Side(server.file_version, server.is_version, server.parse_version),
        Side(pilot.file_version, pilot.is_version, pilot.parse_version),
    ],
    ids=["server", "pilot"],
)


@SIDES
@pytest.mark.parametrize("example", VERSIONS)
def test_a_version_is_made_of_the_facts_of_a_file(side: Side, example: VersionExample) -> None:
    made = side.file_version(
        example.url,
        checksum=example.checksum,
        modify_time_ns=example.modify_time_ns,
        inode=example.inode,
        unique=example.unique,
    )
    assert made == example.version


@pytest.mark.parametrize("example", VERSIONS)
def test_a_version_is_taken_apart_into_the_facts_that_it_is_made_of(
    example: VersionExample,
) -> None:
    theirs, ours = pilot.parse_version(example.version), server.parse_version(example.version)
    assert (theirs.checksum, theirs.modify_time_ns, theirs.inode, theirs.source) == (
        ours.checksum,
        ours.modify_time_ns,
        ours.inode,
        ours.source,
    )
    assert theirs.kind.value == ours.kind.value == example.version.partition(":")[0]
    if ours.kind is server.VersionKind.MODIFY_TIME:
        assert (ours.modify_time_ns, ours.inode) == (example.modify_time_ns, example.inode)
    elif ours.kind not in {server.VersionKind.UNKNOWN, server.VersionKind.UNIQUE}:
        assert ours.checksum == example.checksum
    if ours.source:
        assert ours.source == server.source_mark(example.url)


@SIDES
@pytest.mark.parametrize("text", NO_VERSIONS)
def test_what_is_spelt_otherwise_is_no_version(side: Side, text: str) -> None:
    assert not side.is_version(text)
    with pytest.raises(ValueError, match="is not a version"):
        side.parse_version(text)


@pytest.mark.parametrize("example", DIGESTS, ids=lambda example: example.lfn)
def test_both_sides_compute_the_digest_of_the_contract(example: DigestExample) -> None:
    ours = file_digest(example.scope, example.lfn, example.version, example.size_bytes)
    theirs = pilot_digest(
        CachedFile(example.lfn, example.size_bytes, scope=example.scope, version=example.version)
    )
    assert ours == theirs == example.digest


def test_the_contract_shows_the_examples() -> None:
    catalog = (CONTRACTS / "filecatalog/v1/filecatalog.proto").read_text()
    for example in DIGESTS:
        (line,) = [line for line in catalog.splitlines() if f"{example.digest:016x}" in line]
        words = [example.scope or "(none)", example.lfn, example.version or "(none)"]
        assert line.removeprefix("//").split()[:-2] == words
    types = (CONTRACTS / "common/v1/common.proto").read_text()
    shown = {line.removeprefix("//").strip() for line in types.splitlines()}
    assert len(shown & {example.version for example in VERSIONS if example.version}) >= 2
