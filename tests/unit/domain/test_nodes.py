from __future__ import annotations

from pandawn_server.domain.jobs import ErrorComponent, JobState
from pandawn_server.domain.nodes import STREAK, EndedAttempt, black_hole_reason


def ended(
    job_id: int,
    outcome: JobState = JobState.FAILED,
    component: ErrorComponent = ErrorComponent.PILOT,
    task_id: int = 1,
    reason: str = "STAGE_IN_FAILED",
) -> EndedAttempt:
    return EndedAttempt(job_id, task_id, outcome, component, reason)


def test_a_streak_of_node_failures_makes_a_black_hole() -> None:
    reason = black_hole_reason([ended(job_id) for job_id in range(STREAK)])
    assert reason is not None
    assert "STAGE_IN_FAILED" in reason
    assert f"last {STREAK} jobs" in reason


def test_one_failure_less_does_not() -> None:
    assert black_hole_reason([ended(job_id) for job_id in range(STREAK - 1)]) is None


def test_a_node_that_never_had_a_job_is_innocent() -> None:
    assert black_hole_reason([]) is None


def test_a_success_ends_the_streak() -> None:
    recent = [ended(job_id) for job_id in range(STREAK)]
    recent.insert(2, ended(99, JobState.FINISHED))
    assert black_hole_reason(recent) is None


def test_a_success_before_the_streak_does_not_help() -> None:
    recent = [ended(job_id) for job_id in range(STREAK)]
    assert black_hole_reason([*recent, ended(99, JobState.FINISHED)]) is not None


def test_one_job_that_fails_again_and_again_counts_once() -> None:
    assert black_hole_reason([ended(1) for _ in range(STREAK * 4)]) is None


def test_what_users_cancelled_or_pilots_gave_back_says_nothing_of_the_node() -> None:
    recent = [
        *[ended(job_id, JobState.CANCELLED) for job_id in range(STREAK)],
        *[ended(job_id, JobState.ACTIVATED) for job_id in range(STREAK)],
    ]
    assert black_hole_reason(recent) is None
    assert black_hole_reason([*recent, *[ended(10 + n) for n in range(STREAK)]]) is not None


def test_one_broken_task_does_not_close_a_node() -> None:
    recent = [ended(job_id, component=ErrorComponent.PAYLOAD) for job_id in range(STREAK * 4)]
    assert black_hole_reason(recent) is None


def test_payloads_of_two_tasks_that_fail_point_at_the_node() -> None:
    recent = [
        ended(job_id, component=ErrorComponent.PAYLOAD, task_id=job_id % 2)
        for job_id in range(STREAK)
    ]
    reason = black_hole_reason(recent)
    assert reason is not None
    assert "of 2 tasks" in reason
