from __future__ import annotations

from pandawn.broker.v1 import job_pb2
from pandawn_server.domain.dispatch.reply_size import LIST_BYTES
from pandawn_server.wire.edge.pages import page_of


def to_job(size: int) -> job_pb2.Job:
    return job_pb2.Job(user="x" * size)


def test_a_page_holds_what_was_asked_for_and_names_its_last_row_where_others_follow() -> None:
    messages, ends = page_of([1, 2, 3], 2, to_job)
    assert [len(message.user) for message in messages] == [1, 2]
    assert ends == [2]


def test_the_last_page_names_none() -> None:
    assert page_of([1, 2], 2, to_job)[1] == ()
    assert page_of([], 2, to_job) == ([], ())


def test_a_page_ends_before_it_is_more_than_a_message_should_hold() -> None:
    rows = [1_000_000] * 9
    messages, ends = page_of(rows, 9, to_job)
    assert len(messages) == 3
    assert ends
    assert sum(message.ByteSize() for message in messages) < LIST_BYTES


def test_a_row_that_is_longer_than_a_page_is_one() -> None:
    messages, ends = page_of([LIST_BYTES * 2, 1], 2, to_job)
    assert len(messages) == 1
    assert ends == [LIST_BYTES * 2]
