"""Telling the catalog what a cache holds: in order, in batches, and right in the end whatever is lost."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from pandawn_client.refusals import CallError
from pandawn_pilot.catalog import journal as journal_module
from pandawn_pilot.catalog import rivals
from pandawn_pilot.catalog.journal import Journal
from pandawn_pilot.catalog.reporter import LIFE_SIGN_SECONDS, CatalogReporter
from pandawn_pilot.logs import make_log
from pandawn_pilot.node import locks
from tests.unit.pilot.factories import make_file, make_test_log
from tests.unit.pilot.fake_catalog import FakeCatalog


def sequence_of(reporter: CatalogReporter) -> int:
    state = reporter.state()
    assert state is not None
    return state.sequence


def make_reporter(
    directory: Path, catalog: FakeCatalog | None = None
) -> tuple[Journal, FakeCatalog, CatalogReporter]:
    journal, catalog = Journal(directory), catalog or FakeCatalog()
    return journal, catalog, CatalogReporter(journal, catalog, make_test_log())


def held(journal: Journal) -> set[tuple[str, int]]:
    return {(file.lfn, file.size_bytes) for file in journal.snapshot().files}


def known(catalog: FakeCatalog) -> set[tuple[str, int]]:
    return {(file.lfn, file.size_bytes) for file in catalog.files.values()}


def test_a_new_epoch_begins_with_an_inventory(tmp_path: Path) -> None:
    journal, catalog, reporter = make_reporter(tmp_path)
    journal.record(added=[make_file("a")])
    assert sequence_of(reporter) == 0
    assert reporter.report()
    assert catalog.calls == ["inventory"]
    assert known(catalog) == held(journal)
    assert not reporter.pending()


def test_a_cache_that_never_changes_gives_a_sign_of_life_now_and_then(tmp_path: Path) -> None:
    journal, catalog, reporter = make_reporter(tmp_path)
    journal.record(added=[make_file("a")])
    reporter.report()
    reporter.ask_inventory()
    reporter.report()
    assert catalog.calls.count("inventory") == 1
    (state,) = tmp_path.glob("reported-*.json")
    os.utime(state, (0, time.time() - LIFE_SIGN_SECONDS - 1))
    for _ in range(2):
        reporter.ask_inventory()
        reporter.report()
    assert catalog.calls.count("inventory") == 2


def test_neighbouring_changes_of_a_kind_travel_together(tmp_path: Path) -> None:
    journal, catalog, reporter = make_reporter(tmp_path)
    reporter.report()
    journal.record(added=[make_file("a"), make_file("b")])
    journal.record(added=[make_file("c")])
    journal.record(deleted=[("", "a", ""), ("", "b", "")])
    journal.record(added=[make_file("d")])
    reporter.report()
    assert catalog.calls == ["inventory", "add", "delete", "add"]
    assert known(catalog) == held(journal)


def test_the_state_told_is_what_the_catalog_has_acknowledged(tmp_path: Path) -> None:
    journal, catalog, reporter = make_reporter(tmp_path)
    reporter.report()
    before = sequence_of(reporter)
    journal.record(added=[make_file("a")])
    assert sequence_of(reporter) == before
    reporter.report()
    assert reporter.state() == catalog.cache_state()
    assert sequence_of(reporter) == before + 1


def test_a_lost_reply_is_found_out_by_the_repeat(tmp_path: Path) -> None:
    journal, catalog, reporter = make_reporter(tmp_path)
    reporter.report()
    journal.record(added=[make_file("a")])
    catalog.faults = ["reply lost"]
    with pytest.raises(CallError):
        reporter.report()
    reporter.report()
    assert catalog.calls == ["inventory", "add", "add", "state"]
    assert known(catalog) == held(journal)
    assert reporter.state() == catalog.cache_state()


def test_a_repeat_that_meant_fewer_files_is_not_believed(tmp_path: Path) -> None:
    journal, catalog, reporter = make_reporter(tmp_path)
    reporter.report()
    journal.record(added=[make_file("a")])
    catalog.faults = ["reply lost"]
    with pytest.raises(CallError):
        reporter.report()
    journal.record(added=[make_file("b")])
    reporter.report()
    assert known(catalog) == held(journal) == {("a", 10), ("b", 10)}


def test_a_catalog_that_lost_everything_gets_the_inventory(tmp_path: Path) -> None:
    journal, catalog, reporter = make_reporter(tmp_path)
    journal.record(added=[make_file("a")])
    reporter.report()
    catalog.forget()
    reporter.ask_inventory()
    reporter.report()
    assert known(catalog) == held(journal)
    catalog.forget()
    journal.record(added=[make_file("b")])
    reporter.report()
    assert known(catalog) == held(journal)


def test_a_request_that_was_met_meanwhile_sends_no_second_inventory(tmp_path: Path) -> None:
    _journal, catalog, reporter = make_reporter(tmp_path)
    reporter.report()
    reporter.ask_inventory()
    reporter.report()
    assert catalog.calls == ["inventory", "state"]


def test_while_another_process_reports_nothing_is_sent(tmp_path: Path) -> None:
    _journal, catalog, reporter = make_reporter(tmp_path)
    reporter.report()
    (lock,) = tmp_path.glob("reported-*.lock")
    reporter.ask_inventory()
    with locks.exclusive(lock):
        assert reporter.report() is False
    assert catalog.calls == ["inventory"]


def test_a_cache_that_works_for_two_sites_is_reported_to_each(tmp_path: Path) -> None:
    journal, one, first = make_reporter(tmp_path)
    other = FakeCatalog()
    other.site = "T"
    second = CatalogReporter(journal, other, make_test_log())
    for name in ("a", "b"):
        journal.record(added=[make_file(name)])
        first.report()
        second.report()
    assert known(one) == known(other) == held(journal)
    assert one.calls == other.calls == ["inventory", "add"]


def test_changes_that_were_forgotten_are_replaced_by_an_inventory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "FORGET_AFTER_CHANGES", 3)
    journal, catalog, reporter = make_reporter(tmp_path)
    reporter.report()
    for number in range(6):
        journal.record(added=[make_file(f"f{number}")])
    reporter.report()
    assert catalog.calls.count("inventory") == 2
    assert known(catalog) == held(journal)


REPORT = """
import sys
from pathlib import Path
from tests.unit.pilot.catalog.test_catalog_reporter import make_reporter
from tests.unit.pilot.factories import make_file
journal, catalog, reporter = make_reporter(Path(sys.argv[1]))
journal.record(added=[make_file("a")])
reporter.report()
print(catalog.calls, reporter.state().sequence)
"""


def test_the_count_of_deltas_survives_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", REPORT, str(tmp_path)]
    cwd = Path(__file__).parents[4]
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    assert run.stdout == "['inventory'] 0\n"
    journal, _catalog, reporter = make_reporter(tmp_path)
    assert held(journal) == {("a", 10)}
    assert not reporter.pending()


class LossyCatalog(RuleBasedStateMachine):
    """A cache, its reporters on several pilots, and a catalog that loses calls, replies and itself."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.root = Path(self._directory.name)
        self.journal, self.catalog, self.reporter = make_reporter(self.root)

    def teardown(self) -> None:
        self._directory.cleanup()

    @rule(name=st.sampled_from("abcd"), size=st.integers(0, 2))
    def add(self, name: str, size: int) -> None:
        self.journal.record(added=[make_file(name, size)])

    @rule(names=st.lists(st.sampled_from("abcd"), max_size=3))
    def delete(self, names: list[str]) -> None:
        self.journal.record(deleted=[("", name, "") for name in names])

    @rule(faults=st.lists(st.sampled_from(["none", "call lost", "reply lost"]), max_size=4))
    def report(self, faults: list[str]) -> None:
        self.catalog.faults = faults
        try:
            self.reporter.report()
        except CallError:
            return
        assert known(self.catalog) == held(self.journal)

    @rule()
    def another_pilot_takes_over(self) -> None:
        self.journal, self.catalog, self.reporter = make_reporter(self.root, self.catalog)
        # With its first request for jobs; what the server told the other has ended with it.
        self.notice()

    @rule()
    def catalog_forgets(self) -> None:
        self.catalog.forget()
        self.notice()

    @rule()
    def cache_is_wiped(self) -> None:
        self.journal.begin_epoch()

    @rule()
    def notice(self) -> None:
        """As the server does when a pilot asks for jobs or renews its leases."""
        told, believed = self.reporter.state(), self.catalog.known
        assert told is not None
        if believed is None or (told.epoch, told.sequence, told.digest) != (
            believed.epoch,
            believed.sequence,
            believed.digest,
        ):
            self.reporter.ask_inventory()


def test_whatever_is_lost_a_report_that_succeeds_leaves_the_catalog_right() -> None:
    run_state_machine_as_test(
        LossyCatalog, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
    )


def test_of_two_caches_under_one_name_one_gives_way_and_both_say_so(tmp_path: Path) -> None:
    catalog, stream = FakeCatalog(), io.StringIO()
    log = make_log(as_json=False, node="wn01", stream=stream, level=logging.INFO)
    journals = [Journal(tmp_path / name) for name in ("a", "b")]
    # Two pilots work on the first cache.
    reporters = [CatalogReporter(journals[n], catalog, log) for n in (0, 0, 1)]
    for journal, name in zip(journals, "ab", strict=True):
        journal.record(added=[make_file(name)])
    for _ in range(8):
        for reporter in reporters:
            state = reporter.state()
            known_epoch = 0 if catalog.known is None else catalog.known.epoch
            if state is not None and state.epoch != known_epoch:
                reporter.ask_inventory()
            if reporter.pending():
                reporter.report()
    # Each tells its own, and once more when it finds the other's; the one that stays does so twice.
    assert 3 <= catalog.calls.count("inventory") <= 5
    kept = min(journals, key=lambda journal: journal.position().epoch)
    assert {file.key for file in catalog.files.values()} == {
        file.key for file in kept.snapshot().files
    }
    told = [reporter.state() is not None for reporter in reporters]
    assert told == ([True, True, False] if kept is journals[0] else [False, False, True])
    assert "under the name of node wn01" in stream.getvalue()
    assert "our files are not reported" in stream.getvalue()
    assert not any(reporter.pending() for reporter in reporters)


def test_a_cache_that_gave_way_is_reported_again_when_the_other_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, journal = FakeCatalog(), Journal(tmp_path)
    reporter = CatalogReporter(journal, catalog, make_test_log())
    journal.record(added=[make_file("a")])
    reporter.report()
    for _ in range(2):
        # An epoch below all others, so that ours gives way.
        catalog.report_inventory(1, 0, 0, [])
        reporter.ask_inventory()
        reporter.report()
    assert reporter.state() is None
    assert not reporter.pending()
    monkeypatch.setattr(rivals, "LOOK_AGAIN_SECONDS", 0.0)
    reporter.report()
    assert reporter.state() is None
    catalog.forget()
    reporter.report()
    assert reporter.state() is not None
    assert [file.lfn for file in catalog.files.values()] == ["a"]
