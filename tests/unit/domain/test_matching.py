from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.jobs import Requirements
from pandawn_server.domain.matching import (
    MOVE_BYTES_PER_S,
    NOTHING_KNOWN,
    Candidate,
    Locality,
    Match,
    MatchRule,
    Rules,
    Share,
    Shares,
    choose,
    hold,
    sentence,
    unmet,
)
from tests.fixtures.factories import (
    ANYTHING,
    make_candidate,
    make_match,
    make_rules,
    make_shares,
    seconds_after_noon,
)

GB = 10**9
NOW = seconds_after_noon(100)
WAIT = make_rules(locality_wait=timedelta(minutes=5))
SECOND_OF_MOVE = int(MOVE_BYTES_PER_S)


def order(
    *candidates: Candidate,
    shares: Shares | None = None,
    rules: Rules | None = None,
    offer: Requirements = ANYTHING,
    count: int = 100,
) -> list[int]:
    matches = choose(candidates, offer, shares or make_shares(), rules or make_rules(), NOW, count)
    return [match.job_id for match in matches]


def only(*candidates: Candidate, shares: Shares | None = None) -> Match:
    return choose(candidates, ANYTHING, shares or make_shares(), make_rules(), NOW, 1)[0]


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
    assert order(job, offer=offer) == []
    assert order(job, offer=needs) == [1]


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


def test_a_higher_priority_band_goes_first_even_if_the_node_holds_another_job() -> None:
    held = make_candidate(1, priority=99, input_bytes=GB)
    urgent = make_candidate(2, priority=100, input_bytes=GB)
    assert order(held, urgent, shares=make_shares({1: GB})) == [2, 1]


def test_inside_a_band_locality_decides_before_priority() -> None:
    held = make_candidate(1, priority=1, input_bytes=GB)
    other = make_candidate(2, priority=99, input_bytes=GB)
    assert order(other, held, shares=make_shares({1: GB})) == [1, 2]


def test_bytes_count_and_not_files_or_shares() -> None:
    half_of_much = make_candidate(1, input_bytes=10 * GB)
    third_of_little = make_candidate(2, input_bytes=3 * GB)
    assert order(half_of_much, third_of_little, shares=make_shares({1: 5 * GB, 2: GB})) == [2, 1]


def test_a_job_whose_files_are_nowhere_goes_before_one_whose_files_are_elsewhere() -> None:
    elsewhere = make_candidate(1, input_bytes=GB)
    nowhere = make_candidate(2, input_bytes=GB)
    shares = make_shares(elsewhere={1: Share("wn02", GB)})
    assert order(elsewhere, nowhere, shares=shares) == [2, 1]


def test_age_breaks_ties_and_small_jobs_do_not_starve_big_ones() -> None:
    big_and_old = make_candidate(1, input_bytes=50 * GB, since=seconds_after_noon(0))
    small_and_new = make_candidate(2, input_bytes=GB, since=seconds_after_noon(50))
    assert order(small_and_new, big_and_old) == [1, 2]


def test_without_the_catalog_age_decides_and_the_explanation_says_so() -> None:
    old, new = make_candidate(2, since=seconds_after_noon(0)), make_candidate(1, since=NOW)
    (match,) = choose([new, old], ANYTHING, NOTHING_KNOWN, make_rules(), NOW, 1)
    assert match.job_id == 2
    assert match.locality is Locality.UNKNOWN
    assert "did not answer" in sentence(match, "wn01")


def test_a_job_is_held_for_the_node_that_has_its_files_while_another_can_be_given() -> None:
    held, other = make_candidate(1, since=NOW, input_bytes=60 * GB), make_candidate(2, since=NOW)
    shares = make_shares(elsewhere={1: Share("wn02", 60 * GB)})
    matches = choose([held, other], ANYTHING, shares, WAIT, NOW, 10)
    assert [(match.job_id, match.held) for match in matches] == [(2, 1)]


def test_a_hold_ends_when_its_time_is_over() -> None:
    job = make_candidate(1, since=seconds_after_noon(0))
    best = Share("wn02", GB)
    kept = hold(job, 0, best, WAIT, seconds_after_noon(299))
    assert kept is not None
    assert (kept.node, kept.until) == ("wn02", seconds_after_noon(300))
    assert hold(job, 0, best, WAIT, seconds_after_noon(300)) is None


def test_a_job_is_not_held_for_a_node_that_holds_no_more_than_the_asking_one() -> None:
    job = make_candidate(1, since=NOW)
    assert hold(job, GB, Share("wn02", GB), WAIT, NOW) is None
    assert hold(job, 0, None, WAIT, NOW) is None


def test_no_wait_is_no_hold() -> None:
    job = make_candidate(1, since=NOW)
    assert hold(job, 0, Share("wn02", GB), make_rules(), NOW) is None


def test_a_free_slot_does_not_idle_longer_than_the_move_would_take() -> None:
    quick = make_candidate(1, since=NOW, input_bytes=SECOND_OF_MOVE)
    slow = make_candidate(2, since=NOW, input_bytes=SECOND_OF_MOVE * 1000)
    shares = make_shares(
        elsewhere={1: Share("wn02", SECOND_OF_MOVE), 2: Share("wn02", SECOND_OF_MOVE * 1000)}
    )
    assert order(quick, slow, shares=shares, rules=WAIT) == [1]


@pytest.mark.parametrize(
    ("match_rule", "candidates", "shares"),
    [
        (MatchRule.ONLY_CANDIDATE, [make_candidate(1)], make_shares({1: GB})),
        (
            MatchRule.PRIORITY,
            [make_candidate(1, priority=500), make_candidate(2)],
            make_shares(),
        ),
        (
            MatchRule.LOCAL_BYTES,
            [make_candidate(1, input_bytes=GB), make_candidate(2, input_bytes=GB)],
            make_shares({1: GB}),
        ),
        (MatchRule.AGE, [make_candidate(1), make_candidate(2)], make_shares()),
    ],
)
def test_the_explanation_names_the_rule_that_decided(
    match_rule: MatchRule, candidates: list[Candidate], shares: Shares
) -> None:
    match = only(*candidates, shares=shares)
    assert (match.job_id, match.rule, match.candidates) == (1, match_rule, len(candidates))


def test_a_match_tells_what_is_left_to_move_and_how_long_the_job_waited() -> None:
    match = only(make_candidate(1, input_bytes=3 * GB), shares=make_shares({1: GB}))
    assert (match.local_bytes, match.moved_bytes) == (GB, 2 * GB)
    assert match.waited == timedelta(seconds=100)


def test_a_job_that_became_runnable_in_the_future_of_this_clock_has_not_waited() -> None:
    match = only(make_candidate(1, since=NOW + timedelta(seconds=5)))
    assert match.waited == timedelta(0)


def test_the_sentence_tells_node_share_and_rule() -> None:
    text = sentence(make_match(input_bytes=4000, local_bytes=1000, held=2), "wn01")
    assert text.startswith("given to wn01 because it had waited longest")
    assert "25% of its 4,000 input bytes" in text
    assert "2 held for other nodes" in text


def test_the_sentence_of_a_job_without_input_does_not_speak_of_bytes() -> None:
    assert "it reads no input files" in sentence(make_match(input_bytes=0, local_bytes=0), "wn01")
