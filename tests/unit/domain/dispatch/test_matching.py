from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.dispatch.matching import (
    fits,
    needs_of,
    offered,
    sentence,
    unmet,
)
from pandawn_server.domain.tasks.jobs import Requirements
from tests.fixtures.factories import (
    ANYTHING,
    make_candidate,
    make_match,
    make_rules,
)

GB = 10**9


@pytest.mark.parametrize(
    ("needs", "offer", "predicate"),
    [
        (Requirements(memory_bytes=2), Requirements(memory_bytes=1), "MEMORY"),
        (Requirements(cores=2), Requirements(cores=1), "CORES"),
        (Requirements(disk_bytes=2 * GB), Requirements(disk_bytes=GB), "DISK"),
        (
            Requirements(wall_time=timedelta(hours=2)),
            Requirements(wall_time=timedelta(hours=1)),
            "WALL_TIME",
        ),
    ],
)
def test_a_node_that_offers_less_than_a_job_needs_does_not_get_it(
    needs: Requirements, offer: Requirements, predicate: str
) -> None:
    job = make_candidate(requirements=needs)
    assert [failed.predicate for failed in unmet(job, offer, make_rules())] == [predicate]
    assert not fits(needs_of(needs, 0), offered(offer))
    assert fits(needs_of(needs, 0), offered(needs))


def test_what_an_offer_leaves_out_is_not_compared() -> None:
    needs = Requirements(2**40, 128, 2**40, timedelta(days=30))
    assert not unmet(make_candidate(requirements=needs), ANYTHING, make_rules())


def test_inputs_need_room_on_the_disk_too() -> None:
    (failed,) = unmet(make_candidate(input_bytes=2 * GB), Requirements(disk_bytes=GB), make_rules())
    assert (failed.predicate, failed.asked, failed.offered) == ("DISK", 2 * GB, GB)


def test_the_input_limit_of_the_queue_is_obeyed_and_zero_is_none() -> None:
    job = make_candidate(input_bytes=2 * GB)
    (failed,) = unmet(job, ANYTHING, make_rules(max_input_bytes=GB))
    assert failed.predicate == "QUEUE_INPUT_LIMIT"
    assert not unmet(job, ANYTHING, make_rules(max_input_bytes=0))


def test_a_match_tells_what_is_left_to_move() -> None:
    assert make_match(input_bytes=3 * GB, local_bytes=GB).moved_bytes == 2 * GB


def test_the_sentence_tells_node_share_and_rule() -> None:
    text = sentence(make_match(input_bytes=4000, local_bytes=1000, held=2), "wn01")
    assert text.startswith("given to wn01 because it had waited longest")
    assert "25% of its 4,000 input bytes" in text
    assert "2 held for other nodes" in text


def test_the_sentence_of_a_job_without_input_does_not_speak_of_bytes() -> None:
    assert "it reads no input files" in sentence(make_match(input_bytes=0, local_bytes=0), "wn01")
