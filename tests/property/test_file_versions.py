"""Files that differ are never taken for one another, whatever they are called and whoever names them.

Users write names, sizes, URLs and checksums as they like; sources are written anew in place, with the
same size too. What two files share is then drawn from few values, so that all but one of them agree.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pandawn_server.catalog.contents import file_key
from pandawn_server.domain.catalog.file_version import UNIQUE, file_version, is_unique
from pandawn_server.domain.catalog.inventory import FileId
from pandawn_server.domain.tasks.tasks import File
from pandawn_server.storage.database import Database
from pandawn_server.storage.tasks.files import pack, packed_version, unpack
from tests.fixtures.catalog import catalog_on, memory_store
from tests.fixtures.database import empty
from tests.fixtures.factories import make_cached, node_key
from tests.fixtures.world import World

# Below the first the site's own name space lies; of the others one only begins like it.
OURS = "file:///atlas/data25"
SCOPES = ("data25=" + OURS,)
PLACES = (OURS, OURS + "/a", "file:///atlas/data25-mine", "file:///home/eve", OURS + "/../../eve")
NODES = 3


class Source(NamedTuple):
    """A file as it really is at some time: where it lies, which content it has, and since when."""

    url: str
    content: int
    size_bytes: int
    modify_time_ns: int
    inode: int

    def checksum(self, kind: str) -> str:
        """SHA-256 tells contents apart. The others can be forged: here all contents have the same."""
        return {
            "": "",
            "sha256": f"sha256:{self.content:064x}",
            "md5": f"md5:{7:032x}",
            "adler32": f"adler32:{7:08x}",
        }[kind]


class Named(NamedTuple):
    """A file as a user names it."""

    scope: str
    lfn: str
    source: Source
    checksum_kind: str
    timed: bool

    @property
    def file(self) -> File:
        """The input that the server makes of it."""
        source = self.source
        version = file_version(
            source.url,
            checksum=source.checksum(self.checksum_kind),
            modify_time_ns=source.modify_time_ns if self.timed else None,
            inode=source.inode if self.timed else 0,
            unique=is_unique(self.scope, self.lfn, source.url, SCOPES),
        )
        return File(
            self.lfn,
            source.size_bytes,
            source.url,
            self.scope,
            checksum=source.checksum(self.checksum_kind),
            version=version,
        )

    @property
    def file_id(self) -> FileId:
        """By what the server tells it from others."""
        file = self.file
        return file.scope, file.lfn, file.version, file.size_bytes


LFNS = ("evt.00.txt", "run1/evt.00.txt", "conf.dat")
sources = st.builds(
    Source,
    url=st.builds(
        lambda place, lfn: f"{place}/{lfn}", st.sampled_from(PLACES), st.sampled_from(LFNS)
    ),
    content=st.integers(0, 3),
    size_bytes=st.sampled_from([0, 10]),
    modify_time_ns=st.sampled_from([1_000_000_000, 1_000_000_001, -1]),
    inode=st.sampled_from([0, 4, 42]),
)
named = st.builds(
    Named,
    scope=st.sampled_from(["", "data25", "data25=file", "user.eve"]),
    lfn=st.sampled_from(LFNS),
    source=sources,
    checksum_kind=st.sampled_from(["", "sha256", "md5", "adler32"]),
    timed=st.booleans(),
)


def may_be_the_same(one: Named, other: Named) -> bool:
    """Whether all that was told of two files leaves them the same one, by the promises of a site or by proof."""
    if (one.scope, one.lfn) != (other.scope, other.lfn):
        return False
    if one.source.size_bytes != other.source.size_bytes:
        return False
    if one.file.version == other.file.version == UNIQUE:
        # The site's word, for what lies in its place under its own name.
        return all(
            file.scope == "data25"
            and file.source.url.startswith(f"{OURS}/")
            and file.source.url.endswith(f"/{file.lfn}")
            and ".." not in file.source.url
            for file in (one, other)
        )
    if one.checksum_kind == other.checksum_kind == "sha256":
        return one.source.content == other.source.content
    if one.source.url != other.source.url:
        return False
    # One source: nodes compare it with the facts of the version before they use a copy.
    if one.checksum_kind or other.checksum_kind:
        return one.checksum_kind == other.checksum_kind
    facts = ("modify_time_ns", "inode")
    return (
        one.timed
        and other.timed
        and all(getattr(one.source, fact) == getattr(other.source, fact) for fact in facts)
    )


@settings(max_examples=2000)
@given(named, named)
def test_two_files_share_a_version_only_if_nothing_that_was_told_tells_them_apart(
    one: Named, other: Named
) -> None:
    if not one.file.version:
        return
    if one.file_id == other.file_id:
        assert may_be_the_same(one, other)
        assert file_key(*one.file_id) == file_key(*other.file_id)
    else:
        assert file_key(*one.file_id) != file_key(*other.file_id)


@given(named)
def test_a_file_is_the_same_after_it_lay_in_the_row_of_its_job(one: Named) -> None:
    packed = pack(one.file)
    assert unpack(packed) == one.file
    assert packed_version(packed) == one.file.version


nodes = st.integers(1, NODES)


@settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    # To shrink what takes a database takes minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    held=st.dictionaries(nodes, st.lists(named, min_size=1, max_size=6)),
    jobs=st.lists(
        st.lists(named, min_size=1, max_size=4, unique_by=lambda file: (file.scope, file.lfn)),
        min_size=1,
        max_size=4,
    ),
)
def test_dispatch_counts_as_local_what_is_the_same_file_and_nothing_else(
    sqlite_database: Database, held: dict[int, list[Named]], jobs: list[list[Named]]
) -> None:
    empty(sqlite_database)
    world = World(sqlite_database, catalog_on(memory_store()))
    world.queue()
    for number, inputs in enumerate(jobs):
        files = tuple(one.file for one in inputs)
        world.submit(inputs=files, files_per_job=4, dataset=f"d{number}")
    for node, there in held.items():
        world.keep(node_key(node), *(one.file for one in there))
    # Each once: what a node was given counts as there from then on.
    for node in range(1, NODES + 1):
        here = {make_cached(one.file).file_id for one in held.get(node, ())}
        for grant in world.acquire(world.pilot(node)):
            read = [make_cached(file) for file in grant.inputs]
            same = [file for file in read if file.version and file.file_id in here]
            assert grant.match.local_bytes == sum(file.size_bytes for file in same)
            assert grant.match.input_bytes == sum(file.size_bytes for file in read)
