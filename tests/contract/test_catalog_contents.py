"""What a catalog tells whoever keeps a picture of the nodes: all files once, then only changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pandawn_server.catalog.catalog import Catalog
from pandawn_server.catalog.contents import Version
from pandawn_server.domain.catalog.inventory import CachedFile, NodeKey
from tests.fixtures.catalog import (
    EPOCH,
    NODE,
    NOW,
    Catalogs,
    adding,
    deleting,
    inventory,
    make_file,
    make_files,
    ref,
    sizes_by_key,
    state,
    told_sizes,
)

STRANGER = NodeKey(NODE.site, "wn99.example.org")
# Too many for the head alone.
MANY = make_files(*range(300))


def told(catalog: Catalog, known: Version | None = None) -> tuple[Version, dict[int, int] | None]:
    """The version of the node, and its files if they are told."""
    contents = catalog.contents([(NODE, known)])[0]
    assert contents is not None
    files = contents.files
    return contents.version, None if files is None else told_sizes(files)


def test_all_files_are_told_to_whom_no_version_is_known(catalog: Catalog) -> None:
    catalog.replace(inventory(7, MANY), NOW)

    contents = catalog.contents([(NODE, None)])[0]
    assert contents is not None
    assert (contents.epoch, contents.sequence) == (EPOCH, 7)
    assert contents.files is not None
    assert told_sizes(contents.files) == sizes_by_key(MANY)
    assert len(contents.files) == 300
    rows = list(contents.files)
    assert rows == sorted(rows)


def test_no_files_are_told_again_at_the_same_version(catalog: Catalog) -> None:
    catalog.replace(inventory(7, MANY), NOW)
    version, _ = told(catalog)

    assert catalog.contents([(NODE, version)]) == [(version, EPOCH, 7, None)]
    assert len({version, told(catalog)[0]}) == 1


def test_an_unknown_node_has_no_contents(catalog: Catalog) -> None:
    catalog.replace(inventory(1, MANY), NOW)
    version, _ = told(catalog)

    assert catalog.contents([(STRANGER, None), (STRANGER, version)]) == [None, None]
    assert catalog.contents([]) == []


def test_answers_about_several_nodes_come_in_their_order(catalog: Catalog) -> None:
    neighbour = NodeKey(NODE.site, "wn02.example.org")
    catalog.apply([adding(1, make_file(1)), adding(1, make_file(2), key=neighbour)], NOW)
    version, _ = told(catalog)

    first, second, third = catalog.contents([(neighbour, None), (STRANGER, None), (NODE, version)])
    assert first is not None
    assert first.files is not None
    assert told_sizes(first.files) == sizes_by_key([make_file(2)])
    assert second is None
    assert third == (version, EPOCH, 1, None)


def test_every_change_makes_another_version(catalogs: Catalogs) -> None:
    one, other = catalogs.one, catalogs.other
    changes: list[tuple[Callable[[], object], Sequence[CachedFile] | None]] = [
        (lambda: one.replace(inventory(1, MANY), NOW), MANY),
        (lambda: other.apply([adding(2, make_file(999))], NOW), [*MANY, make_file(999)]),
        (lambda: one.apply([deleting(3, ref(make_file(999)))], NOW), MANY),
        # Nothing but the standing changes.
        (lambda: one.apply([adding(4, MANY[0])], NOW), MANY),
        (lambda: other.apply([adding(0, make_file(5, 1), epoch=0)], NOW), None),
        (lambda: one.flush(NODE, EPOCH + 1, NOW), []),
        (lambda: other.replace(inventory(0, MANY[:2], epoch=EPOCH + 1), NOW), MANY[:2]),
    ]
    versions: list[Version] = []
    for change, expected in changes:
        change()
        version, files = told(one, versions[-1] if versions else None)
        assert version not in versions
        if expected is not None:
            assert files == sizes_by_key(expected)
        versions.append(version)
        assert told(one, version) == (version, None)


def test_a_version_from_before_a_loss_does_not_stand_for_what_came_after_it(
    catalogs: Catalogs,
) -> None:
    catalogs.one.replace(inventory(3, MANY), NOW)
    version, _ = told(catalogs.one)
    catalogs.other.replace(inventory(3, MANY[1:]), NOW)

    assert told(catalogs.one, version)[1] == sizes_by_key(MANY[1:])


def test_meeting_callers_tells_contents_and_who_must_send_an_inventory(catalog: Catalog) -> None:
    neighbour = NodeKey(NODE.site, "wn02.example.org")
    catalog.replace(inventory(1, MANY), NOW)
    catalog.replace(inventory(1, MANY, key=neighbour), NOW)
    version, _ = told(catalog)

    met = catalog.meet(
        [
            (NODE, version, state(1, MANY)),
            (neighbour, None, state(1, MANY[1:])),
            (STRANGER, None, state(1, MANY)),
        ],
        NOW,
    )
    assert [needed for _, needed in met] == [False, True, True]
    assert met[0][0] == (version, EPOCH, 1, None)
    assert met[1][0] is not None
    assert met[1][0].files is not None
    assert met[2][0] is None
