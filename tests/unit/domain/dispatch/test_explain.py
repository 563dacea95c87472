from __future__ import annotations

from datetime import timedelta

import pytest

from pandawn_server.domain.dispatch.explain import (
    Obstacle,
    StatusOverride,
    nearest_change,
    node_obstacles,
    summarize,
)
from pandawn_server.domain.dispatch.matching import Hold
from pandawn_server.domain.queues.queues import QueueStatus
from pandawn_server.domain.tasks.jobs import (
    JobKind,
    JobState,
    Requirements,
    lost_heartbeat,
    upstream_failed,
)
from tests.fixtures.factories import (
    ANYTHING,
    make_candidate,
    make_job,
    make_match,
    make_rules,
    payload_error,
    seconds_after_noon,
)

GIB = 2**30
HUNGRY = make_candidate(requirements=Requirements(memory_bytes=8 * GIB))


def obstacles(
    offers: dict[str, list[Requirements]],
    status: QueueStatus = QueueStatus.ONLINE,
    suspended: dict[str, str] | None = None,
) -> list[Obstacle]:
    return node_obstacles(HUNGRY, offers, make_rules(), status, suspended or {})


def test_a_job_that_any_node_can_take_has_no_obstacles() -> None:
    assert obstacles({"wn01": [ANYTHING]}) == []


def test_no_pilot_is_an_obstacle_with_a_remedy() -> None:
    (found,) = obstacles({})
    assert found.predicate == "NO_LIVE_PILOT"
    assert "start pilots" in found.remedy


def test_an_offline_queue_excludes_every_node() -> None:
    (found,) = obstacles({"wn01": [ANYTHING], "wn02": [ANYTHING]}, QueueStatus.OFFLINE)
    assert (found.predicate, found.excluded_nodes) == ("QUEUE_OFFLINE", 2)


def test_a_pause_for_a_time_says_until_when_whose_it_is_and_why() -> None:
    pause = StatusOverride(seconds_after_noon(3600), "anna", "power cut")
    (found,) = node_obstacles(
        HUNGRY,
        {"wn01": [Requirements(memory_bytes=9 * GIB)]},
        make_rules(),
        QueueStatus.PAUSED,
        {},
        pause,
    )
    assert "set by anna until" in found.detail
    assert "13:00 UTC: power cut" in found.detail
    assert "13:00 UTC" in found.remedy
    assert "administrator" not in found.remedy


def test_a_node_is_excluded_only_if_all_its_pilots_offer_too_little() -> None:
    little, enough = Requirements(memory_bytes=GIB), Requirements(memory_bytes=9 * GIB)
    assert obstacles({"wn01": [little, enough]}) == []
    (found,) = obstacles({"wn01": [little, little], "wn02": [little], "wn03": [enough]})
    assert (found.predicate, found.excluded_nodes) == ("MEMORY", 2)


def test_the_remedy_is_the_nearest_change_that_would_help() -> None:
    offers = {
        "wn01": [Requirements(memory_bytes=GIB)],
        "wn02": [Requirements(memory_bytes=6 * GIB)],
    }
    (found,) = obstacles(offers)
    assert f"at most {6 * GIB:,} bytes" in found.remedy


def nearest(offers: dict[str, list[Requirements]], *suspended: str) -> str:
    job = make_candidate(requirements=Requirements(memory_bytes=8 * GIB, cores=8))
    return nearest_change(job, offers, make_rules(), suspended)


def test_the_nearest_change_is_all_that_one_node_lacks() -> None:
    much_memory = Requirements(memory_bytes=7 * GIB, cores=1)
    little_of_both = Requirements(memory_bytes=4 * GIB, cores=4)
    found = nearest({"wn01": [much_memory], "wn02": [little_of_both]})
    assert found == (
        f"nearest is wn02: ask for at most {4 * GIB:,} bytes (4.0 GiB) of memory, "
        "and ask for at most 4 cores"
    )


def test_a_node_that_lacks_one_thing_is_nearer_than_one_that_lacks_two() -> None:
    lacks_memory = Requirements(memory_bytes=GIB, cores=8)
    lacks_both = Requirements(memory_bytes=7 * GIB, cores=7)
    found = nearest({"wn01": [lacks_both], "wn02": [lacks_both, lacks_memory]})
    assert found.startswith("nearest is wn02: ask for at most 1,073,741,824 bytes")
    assert "cores" not in found


def test_no_change_is_needed_where_a_node_can_take_the_job() -> None:
    assert nearest({"wn01": [Requirements(cores=1)], "wn02": [ANYTHING]}) == ""


def test_a_suspended_node_is_no_nearest_one() -> None:
    offers = {"wn01": [Requirements(cores=1)], "wn02": [ANYTHING]}
    assert nearest(offers, "wn02").startswith("nearest is wn01")
    assert nearest(offers, "wn01", "wn02") == ""


def test_the_nearest_change_takes_the_place_of_single_remedies() -> None:
    found = Obstacle("MEMORY", frozenset({"wn01"}), "the job needs more", "ask for less")
    text = summarize(make_job(), obstacles=[found], node_count=1, nearest="nearest is wn01: ask")
    assert text == "no node can take it: the job needs more; nearest is wn01: ask"


def test_what_is_nearest_does_not_replace_the_remedy_of_what_hinders_all_jobs() -> None:
    found = obstacles({"wn01": [Requirements(memory_bytes=GIB)]}, QueueStatus.OFFLINE)
    text = summarize(make_job(), obstacles=found, node_count=1, nearest="nearest is wn01: ask")
    assert "set it online; the job needs" in text
    assert text.count("ask") == 1


def test_all_obstacles_that_exclude_each_node_are_told() -> None:
    found = [Obstacle(name, frozenset({"wn01"}), name, f"less {name}") for name in ("A", "B")]
    text = summarize(make_job(), obstacles=found, node_count=1)
    assert text == "no node can take it: A; less A; B; less B"


def test_the_limit_of_the_queue_is_not_told_as_an_offer_of_nodes() -> None:
    rules = make_rules(max_input_bytes=GIB)
    job = make_candidate(input_bytes=5 * GIB)
    (found,) = node_obstacles(job, {"wn01": [ANYTHING]}, rules, QueueStatus.ONLINE, {})
    assert "the queue takes 1,073,741,824 bytes (1.0 GiB)" in found.detail


def test_a_suspended_node_is_named_with_its_reason() -> None:
    (found,) = obstacles(
        {"wn01": [ANYTHING], "wn02": [ANYTHING]}, suspended={"wn02": "five failures", "wn99": "old"}
    )
    assert (found.predicate, found.excluded_nodes) == ("NODE_SUSPENDED", 1)
    assert found.detail == "wn02: five failures"


def test_a_waiting_job_waits_for_its_build_job() -> None:
    assert "build job" in summarize(make_job(state=JobState.WAITING))


def test_a_job_that_nothing_hinders_is_next() -> None:
    assert "is next" in summarize(make_job(), node_count=2)


def test_a_runnable_job_tells_what_goes_before_it() -> None:
    assert "12 jobs of its user go before it" in summarize(make_job(), node_count=1, jobs_ahead=12)


def test_a_held_job_tells_for_whom_and_until_when() -> None:
    text = summarize(make_job(), node_count=2, hold=Hold("wn02", seconds_after_noon(30)))
    assert "wn02" in text
    assert "12:00:30" in text


def test_a_job_whose_turn_has_come_tells_until_when_others_may_go_before_it() -> None:
    text = summarize(make_job(), node_count=2, overtaken_until=seconds_after_noon(600))
    assert "is next of its user's jobs by priority and age" in text
    assert "may overtake it until 12:10:00 UTC" in text


def test_an_obstacle_of_all_nodes_is_the_answer() -> None:
    found = Obstacle("MEMORY", frozenset({"wn01", "wn02"}), "the job needs more", "ask for less")
    assert (
        summarize(make_job(), obstacles=[found], node_count=2)
        == "no node can take it: the job needs more; ask for less"
    )


def test_an_obstacle_of_some_nodes_is_only_mentioned() -> None:
    found = Obstacle("MEMORY", frozenset({"wn01"}), "the job needs more", "ask for less")
    text = summarize(make_job(), obstacles=[found], node_count=2)
    assert "is next" in text
    assert "only some of the 2 nodes can take it: MEMORY excludes 1" in text


def test_obstacles_that_exclude_all_nodes_together_are_the_answer_too() -> None:
    little = {"wn01": [Requirements(memory_bytes=GIB)], "wn02": [ANYTHING]}
    found = obstacles(little, suspended={"wn02": "five failures"})
    text = summarize(make_job(), obstacles=found, node_count=2)
    assert text.startswith("no node can take it: ")
    assert "five failures" in text
    assert "memory" in text


@pytest.mark.parametrize(("kind", "verb"), [(JobKind.BUILD, "builds"), (JobKind.RUN, "runs")])
def test_a_job_with_a_pilot_tells_why_it_went_there(kind: JobKind, verb: str) -> None:
    text = summarize(make_job(state=JobState.RUNNING, kind=kind), match=make_match(), node="wn01")
    assert text.startswith(f"{verb} now; it was given to wn01 because")


def test_a_job_that_was_asked_to_stop_says_so() -> None:
    job = make_job(state=JobState.RUNNING, cancel_requested=True)
    assert "asked to stop" in summarize(job, match=make_match(), node="wn01")


def test_a_failed_job_tells_its_error_and_the_number_of_attempts() -> None:
    job = make_job(state=JobState.FAILED, failures=3, error=payload_error(text="exit status 9"))
    text = summarize(job, match=make_match(), node="wn01")
    assert text.startswith("failed after 3 attempts: PAYLOAD_FAILED: exit status 9; ")
    assert "given to wn01" in text


def test_a_job_that_failed_with_its_build_job_had_no_attempt() -> None:
    text = summarize(make_job(state=JobState.FAILED, error=upstream_failed(7)))
    assert text.startswith("failed without an attempt: UPSTREAM_FAILED: the build job 7")
    assert "was was" not in text
    assert "last attempt" not in text


def test_a_job_that_failed_once_after_others_gave_it_back_tells_no_wrong_number() -> None:
    job = make_job(state=JobState.FAILED, attempt=4, failures=1, error=lost_heartbeat(None))
    assert "first attempt" not in summarize(job, match=make_match(), node="wn01")


def test_a_cancelled_job_tells_whether_a_pilot_ever_had_it() -> None:
    job = make_job(state=JobState.CANCELLED)
    assert summarize(job) == "was cancelled; it was never given to a pilot"
    assert "given to wn01" in summarize(job, match=make_match(), node="wn01")


def test_a_finished_job_tells_where_it_ran() -> None:
    text = summarize(make_job(state=JobState.FINISHED), match=make_match(), node="wn01")
    assert text.startswith("finished; it was given to wn01")


def test_remaining_wall_time_is_told_in_seconds() -> None:
    job = make_candidate(requirements=Requirements(wall_time=timedelta(hours=2)))
    offers = {"wn01": [Requirements(wall_time=timedelta(hours=1))]}
    (found,) = node_obstacles(job, offers, make_rules(), QueueStatus.ONLINE, {})
    assert "needs 7,200 s, the best of these nodes offers 3,600" in found.detail
