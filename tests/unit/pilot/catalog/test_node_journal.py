"""One inventory of a node from several journals, whoever brings it up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pandawn_pilot.catalog.journal import Journal
from pandawn_pilot.catalog.node_journal import NodeJournal, beside
from pandawn_pilot.catalog.reporter import CatalogReporter
from tests.unit.pilot.factories import make_file, make_test_log
from tests.unit.pilot.fake_catalog import FakeCatalog


def held(journal: Journal) -> set[str]:
    journal.position()
    return {file.lfn for file in journal.snapshot().files}


def test_a_node_holds_what_any_of_its_parts_holds(tmp_path: Path) -> None:
    cache, server = Journal(tmp_path / "journal"), Journal(beside(tmp_path, "x"))
    node = NodeJournal(tmp_path)
    cache.record(added=[make_file("a"), make_file("both")])
    server.record(added=[make_file("b"), make_file("both")])
    assert held(node) == {"a", "b", "both"}
    cache.record(deleted=[("", "a", ""), ("", "both", "")])
    assert held(node) == {"b", "both"}
    server.record(deleted=[("", "both", "")])
    assert held(node) == {"b"}


def test_a_part_that_comes_later_is_found_and_one_that_goes_is_missed(tmp_path: Path) -> None:
    node = NodeJournal(tmp_path)
    assert held(node) == set()
    server = Journal(beside(tmp_path, "x"))
    server.record(added=[make_file("b")])
    assert held(node) == {"b"}
    server.begin_epoch()
    assert held(node) == set()


def test_a_life_of_a_part_is_no_new_life_of_the_node(tmp_path: Path) -> None:
    cache, server = Journal(tmp_path / "journal"), Journal(beside(tmp_path, "x"))
    node = NodeJournal(tmp_path)
    cache.record(added=[make_file("a")])
    server.record(added=[make_file("b")])
    before = node.position()
    server.begin_epoch([make_file("c")])
    assert held(node) == {"a", "c"}
    assert node.position().epoch == before.epoch


def test_processes_that_report_in_turn_send_deltas_and_agree(tmp_path: Path) -> None:
    catalog = FakeCatalog()
    cache, server = Journal(tmp_path / "journal"), Journal(beside(tmp_path, "x"))
    pilot, hook = (
        CatalogReporter(NodeJournal(tmp_path), catalog, make_test_log()) for _ in range(2)
    )
    for number in range(3):
        cache.record(added=[make_file(f"a{number}")])
        pilot.report()
        server.record(added=[make_file(f"b{number}")])
        hook.report()
    assert {file.lfn for file in catalog.files.values()} == {
        f"{letter}{number}" for letter in "ab" for number in range(3)
    }
    assert catalog.calls == ["inventory"] + ["add"] * 5


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["cache", "server", "new life", "look", "look elsewhere"]),
            st.sampled_from("abc"),
            st.integers(0, 2),
        ),
        max_size=20,
    )
)
def test_whatever_happens_in_whatever_order_the_sum_is_right(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    root = tmp_path_factory.mktemp("node")
    parts = {"cache": Journal(root / "journal"), "server": Journal(beside(root, "x"))}
    nodes = [NodeJournal(root), NodeJournal(root)]
    for what, name, size in steps:
        if what in parts:
            file = make_file(name, size)
            part = parts[what]
            part.record(added=[file] if size else (), deleted=() if size else [file.key])
        elif what == "new life":
            parts["server"].begin_epoch([make_file(name, size)])
        else:
            nodes[what == "look"].position()
    wanted = {file.key: file for file in parts["server"].snapshot().files}
    wanted.update({file.key: file for file in parts["cache"].snapshot().files})
    for node in nodes:
        node.position()
        assert {file.key: file for file in node.snapshot().files} == wanted
