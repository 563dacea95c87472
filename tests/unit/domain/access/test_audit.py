"""Refusals are counted together, and few are written at a time, however many come."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pandawn_server.domain.access.audit import (
    BURST,
    MAX_KEPT,
    About,
    AuditRecord,
    RefusalTally,
    about_error,
    cleaned,
    joined,
)
from tests.fixtures.clock import NOON


def refusal(**overrides: Any) -> AuditRecord:
    values: dict[str, Any] = {
        "time": NOON,
        "rpc": "Broker.GetTask",
        "peer": "192.0.2.1",
        "code": "PERMISSION_DENIED",
        "reason": "NOT_YOUR_TASK",
        "user": "ben",
        **overrides,
    }
    return AuditRecord(**values)


def test_a_refusal_that_comes_alone_is_written_at_once_and_as_it_was() -> None:
    tally = RefusalTally()
    tally.add(refusal(about=About(task_id=7)))
    assert tally.take(NOON) == [refusal(about=About(task_id=7))]
    assert tally.take(NOON) == []


def test_equal_refusals_become_one_line_with_the_last_time_and_the_number() -> None:
    tally = RefusalTally()
    for second in range(1000):
        tally.add(refusal(time=NOON + timedelta(seconds=second), about=About(task_id=second)))
    (line,) = tally.take(NOON)
    assert (line.count, line.time) == (1000, NOON + timedelta(seconds=999))


def test_others_refusals_have_lines_of_their_own() -> None:
    tally = RefusalTally()
    for line in (
        refusal(),
        refusal(user="eva"),
        refusal(peer="192.0.2.2"),
        refusal(rpc="Broker.GetJob"),
        refusal(reason="ROLE_MISSING"),
    ):
        tally.add(line)
    assert len(tally.take(NOON)) == 5


def test_a_flood_is_written_slowly_and_loses_no_count() -> None:
    tally = RefusalTally()
    written: list[AuditRecord] = []
    for second in range(600):
        for number in range(10):
            tally.add(refusal(user="", peer=f"2001:db8::{second:x}:{number:x}"))
        written += tally.take(NOON + timedelta(seconds=second))
        assert len(tally) <= MAX_KEPT + 1
    assert len(written) <= BURST + 600
    written += tally.take_all()
    assert sum(line.count for line in written) == 6000
    assert any(line.peer == "" and line.text == "many callers" for line in written)


def test_an_honest_caller_s_refusal_is_written_soon_after_a_flood_of_one_kind() -> None:
    tally = RefusalTally()
    for _ in range(100_000):
        tally.add(refusal(user="mallory"))
    tally.add(refusal(user="anna"))
    assert [line.user for line in tally.take(NOON)] == ["mallory", "anna"]


def test_what_callers_say_is_cut_and_made_harmless() -> None:
    assert cleaned("a\x00b\n\x1b[2Jc" + "x" * 1000)[:10] == "a?b??[2Jcx"
    assert len(cleaned("x" * 1000)) == 256
    assert cleaned("Zoë") == "Zoë"


def test_errors_and_messages_tell_what_a_call_was_about() -> None:
    found = about_error({"task_id": "7", "queue": "Q", "job_id": "no number", "limit": "5"})
    assert found == About(task_id=7, queue="Q")
    assert joined(About(queue="mine"), found) == About(task_id=7, queue="mine")
    assert about_error({"task_id": "9" * 40}) == About()
