"""The worked example and the table of constants in docs/dispatch.md: the page says what the code does."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.dispatch.engine import Matchmaker
from pandawn_server.domain.dispatch.explain import summarize
from pandawn_server.domain.dispatch.matching import (
    MOVE_BYTES_PER_S,
    WAIT_PER_MOVE,
    Hold,
    Rules,
    held_s,
    overtaken_s,
    put_off_s,
    sentence,
)
from pandawn_server.domain.dispatch.values import Assignment, Request, RunnableJob, Standing
from pandawn_server.domain.leases.attempts import MatchRule
from pandawn_server.domain.tasks.jobs import Requirements
from tests.fixtures.clock import NOON
from tests.fixtures.factories import make_job

PAGE: Final = (Path(__file__).parents[4] / "docs" / "dispatch.md").read_text(encoding="utf-8")
EXAMPLE: Final = " ".join(PAGE.split("## 3. ")[1].split("## 4. ")[0].split())
"""The section without its line breaks, which may stand inside sentences."""

MB = 10**6
SIZES: Final = {"A": 4000, "B": 2000, "C": 900, "D": 3000, "E": 3000, "F": 4000, "G": 3000}
"""Files by letter, in MB; those not named have 1000."""

HELD_BY: Final = {"wn01": "AB", "wn02": "C", "wn03": ""}


def at(clock: str) -> datetime:
    return datetime.combine(NOON, time.fromisoformat(clock), NOON.tzinfo)


def job(job_id: int, task_id: int, files: str, since: str, priority: int = 0) -> RunnableJob:
    inputs = [(ord(file), SIZES.get(file, 1000) * MB) for file in files]
    return RunnableJob(job_id, priority, at(since), inputs, Requirements(), task_id)


FIRST: Final = [
    job(1, 1, "D", "12:00:00"),
    job(2, 1, "E", "12:00:00"),
    job(3, 2, "AB", "12:00:00"),
    job(4, 2, "AF", "12:00:00"),
    job(5, 3, "C", "12:00:00"),
    job(6, 4, "G", "12:00:00", priority=150),
    job(7, 2, "BH", "12:00:00"),
]
LATER: Final = [job(8, 5, "D", "12:06:00"), job(9, 5, "BK", "12:06:00")]


class Step(NamedTuple):
    """A node polls and gets a job, or None, by a rule."""

    clock: str
    node: str
    job_id: int | None
    rule: MatchRule | None = None


STEPS: Final = [
    Step("12:00:10", "wn03", 6, MatchRule.PRIORITY),
    Step("12:00:20", "wn03", 1, MatchRule.AGE),
    Step("12:00:30", "wn01", 3, MatchRule.HELD),
    Step("12:00:40", "wn01", 7, MatchRule.LOCAL_BYTES),
    Step("12:00:50", "wn03", 2, MatchRule.NEIGHBOUR),
    Step("12:01:00", "wn03", 4, MatchRule.SPREAD),
    Step("12:01:10", "wn03", None),
    Step("12:05:00", "wn03", 5, MatchRule.ONLY_CANDIDATE),
]


class Site:
    """The matchmaker of the example, with its three nodes and the first seven jobs."""

    def __init__(self) -> None:
        self.matchmaker = Matchmaker(Rules(100, timedelta(minutes=10), 0))
        for node, files in HELD_BY.items():
            self.matchmaker.set_live(NodeKey("T3", node), live=True)
            self.matchmaker.inventory(NodeKey("T3", node), 1, 1, list(map(ord, files)))
        assert self.matchmaker.add(FIRST, at("12:00:00")) == []

    def ask(self, step: Step, name: str = "", *, waits: bool = False) -> list[Assignment]:
        name = name or step.clock
        self.matchmaker.ask([Request(name, NodeKey("T3", step.node), Requirements())])
        given = self.matchmaker.match(at(step.clock))
        if not waits:
            self.matchmaker.cancel([name])
        return given

    def run(self, until: str) -> list[Assignment]:
        """Takes the steps before a time, and returns what was given."""
        return [given for step in STEPS if step.clock < until for given in self.ask(step)]

    def standing(self, job_id: int, clock: str) -> Standing:
        standing = self.matchmaker.standing(job_id, at(clock))
        assert standing is not None
        return standing


def test_each_step_gives_the_job_that_the_page_says_for_the_reason_it_quotes() -> None:
    site, place = Site(), 0
    for number, step in enumerate(STEPS, start=1):
        given = site.ask(step)
        found = [(a.match.job_id, a.match.rule) for a in given]
        assert found == ([] if step.job_id is None else [(step.job_id, step.rule)]), step
        place = find(f"{number}. {step.clock}, {step.node} polls", place)
        for assignment in given:
            place = find(f'"{sentence(assignment.match, assignment.node.node)}"', place)


def find(text: str, after: int) -> int:
    """The place of a text on the page behind another place."""
    assert text in EXAMPLE[after:], "docs/dispatch.md, section 3, does not say this here"
    return EXAMPLE.index(text, after)


def test_jobs_are_held_for_the_nodes_and_times_that_the_page_says() -> None:
    site = Site()
    held = {job.job_id: site.standing(job.job_id, "12:00:00") for job in FIRST}
    kept = {
        job_id: (standing.held_for.node, f"{standing.held_until:%H:%M:%S}")
        for job_id, standing in held.items()
        if standing.held_for is not None
    }
    assert kept == {3: ("wn01", "12:10:00"), 5: ("wn02", "12:05:00")}
    for job_id, (node, until) in kept.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {job_id} |"))
        assert node in row
        assert f"held for it until {until}" in row


def test_the_sentence_of_a_held_job_is_the_one_quoted() -> None:
    site = Site()
    site.run("12:01:10")
    standing = site.standing(5, "12:01:10")
    assert standing.held_for is not None
    assert standing.held_until is not None
    text = summarize(make_job(), hold=Hold(standing.held_for.node, standing.held_until))
    assert f'"{text.removeprefix("runnable; ")}"' in EXAMPLE


def test_the_job_that_was_overtaken_is_overdue_when_the_page_says() -> None:
    site = Site()
    site.run("12:00:40")
    overdue_at = site.standing(2, "12:00:35").overdue_at
    assert overdue_at is not None
    assert f"it is overdue at {overdue_at:%H:%M:%S}." in EXAMPLE
    text = summarize(make_job(), overtaken_until=overdue_at)
    assert f'"{text.removeprefix("runnable; ")}"' in " ".join(PAGE.split())


def test_calls_that_wait_get_the_new_jobs_as_one_assignment() -> None:
    site = Site()
    site.run("12:06:00")
    callers = [("a", "12:05:10", "wn03"), ("b", "12:05:15", "wn03"), ("c", "12:05:20", "wn01")]
    for name, clock, node in callers:
        assert site.ask(Step(clock, node, None), name, waits=True) == []
    assert site.matchmaker.add(LATER, at("12:06:00")) == []
    given = site.matchmaker.match(at("12:06:00"))
    assert [(a.match.job_id, a.node.node) for a in given] == [(8, "wn03"), (9, "wn01")]
    for assignment in given:
        assert f'"{sentence(assignment.match, assignment.node.node)}"' in EXAMPLE


def test_the_hold_of_section_2_is_that_of_the_rules() -> None:
    assert held_s(900 * MB, 600) == 300
    assert f"{WAIT_PER_MOVE:.0f} s for each second of moving that is spared" in PAGE
    assert f"at {MOVE_BYTES_PER_S / MB:.0f} MB/s" in PAGE


@pytest.mark.parametrize(("by_age_s", "at_worst_s"), [(600, 30 * 60), (4 * 3600, 9.75 * 3600)])
def test_the_longest_waits_of_section_2_are_those_of_the_rules(
    by_age_s: float, at_worst_s: float
) -> None:
    overdue_s = by_age_s + overtaken_s(by_age_s, 600)
    assert overdue_s + put_off_s(overdue_s, 600) == at_worst_s


def constants() -> list[tuple[str, float]]:
    rows = [line.split("|") for line in PAGE.split("## 7. ")[1].splitlines() if "| `" in line]
    return [(row[1].strip(" `"), float(row[2].replace(",", ""))) for row in rows]


@pytest.mark.parametrize(("name", "value"), constants())
def test_a_constant_of_section_7_is_that_of_the_code(name: str, value: float) -> None:
    module, constant = name.rsplit(".", 1)
    assert getattr(import_module(f"pandawn_server.domain.{module}"), constant) == value
